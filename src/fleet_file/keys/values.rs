//! Values with a form of their own.

use serde_json::{Value, json};

use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Cursor;
use crate::fleet_file::keys;
use crate::fleet_file::read::computed;
use crate::model::debounce::{self, Debounce};
use crate::model::duration::{format_duration, parse_duration};
use crate::model::expression::Expression;
use crate::model::guardrails::ExitCodes;
use crate::model::network::Networks;
use crate::model::rate::Rate;
use crate::model::retention::{KEEP_COUNT_MAX, Retention};
use crate::model::schedule::CronExpression;
use crate::model::time_zone;
use crate::model::webhook::{DEDUPLICATE_WINDOW, DEDUPLICATE_WINDOW_MAX, Deduplicate};

pub use crate::fleet_file::write::scalar;

/// Bytes of a user's name: useradd(8) takes 32, directories of users may have more.
const USER_NAME_BYTES_MAX: usize = 255;

/// Networks in an `allow` list: every request is compared with each of them.
const ALLOW_NETWORKS_MAX: usize = 64;

/// The name of a user. Whether the machine has such a user, and whether the operator allows it, is not
/// checked here.
pub fn user(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let name = cursor.text()?;
    let plain = |character: char| !character.is_control() && !":/, ".contains(character);
    if name.is_empty() || name.len() > USER_NAME_BYTES_MAX || !name.chars().all(plain) {
        return Err(cursor.invalid("expected the name of a user of this machine"));
    }
    Ok(name.to_owned())
}

/// A niceness, with or without quotes.
pub fn nice(cursor: &Cursor<'_>) -> Result<i32, FleetFileError> {
    let number = cursor.text()?.parse().ok().filter(|number| (-20..=19).contains(number));
    number.ok_or_else(|| cursor.invalid("expected a whole number from -20 to 19"))
}

/// An octal number, with or without quotes.
pub fn umask(cursor: &Cursor<'_>) -> Result<u32, FleetFileError> {
    let text = cursor.text()?;
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|it| (b'0'..b'8').contains(&it));
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| digits && *mask <= 0o777);
    mask.ok_or_else(|| cursor.invalid("expected three octal digits, such as 027"))
}

/// Exit codes and ranges of them: a list, or one of them by itself.
pub fn exit_codes(cursor: &Cursor<'_>) -> Result<Vec<ExitCodes>, FleetFileError> {
    match cursor.is_null() {
        true => Ok(Vec::new()),
        false => cursor.one_or_more(exit_code_range),
    }
}

fn exit_code_range(cursor: &Cursor<'_>) -> Result<ExitCodes, FleetFileError> {
    let text = cursor.text()?;
    let code = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u8>().ok().filter(|_| digits)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok(ExitCodes { first, last }),
        (Some(first), Some(last)) => {
            Err(cursor.invalid(format!("the range runs backwards; write \"{last}-{first}\"")))
        }
        _ => Err(cursor.invalid("expected an exit code from 0 to 255 or a range such as \"3-5\"")),
    }
}

/// The list in YAML: codes bare, ranges in quotes.
pub fn exit_codes_yaml(ranges: &[ExitCodes]) -> String {
    let shown = |codes: &ExitCodes| match codes.first == codes.last {
        true => codes.to_string(),
        false => format!("\"{codes}\""),
    };
    format!("[{}]", ranges.iter().map(shown).collect::<Vec<_>>().join(", "))
}

/// The list as the API shows it.
pub fn exit_codes_json(ranges: &[ExitCodes]) -> Value {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().into()
}

/// `keep_runs`, as text or with the keys `age` and `count`; `None` when it is empty.
pub fn keep_runs(cursor: &Cursor<'_>) -> Result<Option<Retention>, FleetFileError> {
    if cursor.is_null() {
        return Ok(None);
    }
    if !cursor.is_mapping() {
        let parsed = cursor.text()?.parse();
        return parsed.map(Some).map_err(|message: String| cursor.invalid(message));
    }
    let fields = cursor.fields(&["age", "count"])?;
    let age = match fields.get("age") {
        Some(age) => Some(parse_duration(age.text()?).map_err(|message| age.invalid(message))?),
        None => None,
    };
    let count = fields.get("count").map(|count| count.number(1..=KEEP_COUNT_MAX)).transpose()?;
    if age.is_none() && count.is_none() {
        return Err(cursor.invalid("says neither `age` nor `count`; to keep all, write `forever`"));
    }
    Retention::new(age, count).map(Some).map_err(|message| cursor.invalid(message))
}

/// A cron expression.
pub fn cron(cursor: &Cursor<'_>) -> Result<CronExpression, FleetFileError> {
    CronExpression::try_from(cursor.text()?.to_owned()).map_err(|message| cursor.invalid(message))
}

/// The name of a time zone that this machine knows; `None` where nothing is written.
pub fn time_zone(cursor: &Cursor<'_>) -> Result<Option<String>, FleetFileError> {
    if cursor.is_null() {
        return Ok(None);
    }
    let name = cursor.text()?;
    time_zone::check(name).map_err(|message| cursor.invalid(message))?;
    Ok(Some(name.to_owned()))
}

/// `deduplicate`: `off`, or the keys `window` and `id`.
pub fn deduplicate(cursor: &Cursor<'_>) -> Result<Deduplicate, FleetFileError> {
    if cursor.is_null() {
        return Ok(Deduplicate::Usual);
    }
    if !cursor.is_mapping() {
        return match cursor.text()? {
            "off" => Ok(Deduplicate::Off),
            _ => Err(cursor.invalid("expected `off`, or a window as in {window: 3d}")),
        };
    }
    let fields = cursor.fields(&["window", "id"])?;
    let window =
        fields.get("window").map(|window| match keys::duration(window, DEDUPLICATE_WINDOW_MAX)? {
            none if none.is_zero() => {
                Err(window.invalid("no time at all; write `deduplicate: off`"))
            }
            wanted => Ok(wanted),
        });
    let window = window.transpose()?;
    let id = fields.get("id").map(expression).transpose()?.flatten();
    Ok(match (id, window) {
        (Some(id), window) => Deduplicate::Own { id, window: window.unwrap_or(DEDUPLICATE_WINDOW) },
        (None, Some(window)) => Deduplicate::Window(window),
        (None, None) => Deduplicate::Usual,
    })
}

/// The same in YAML; `None`: the file says nothing about it.
pub fn deduplicate_yaml(wanted: &Deduplicate) -> Option<String> {
    match wanted {
        Deduplicate::Usual => None,
        Deduplicate::Off => Some("off".to_owned()),
        Deduplicate::Window(window) => Some(format!("{{window: {}}}", format_duration(*window))),
        Deduplicate::Own { id, window } => {
            Some(format!("{{id: {}, window: {}}}", scalar(id.text()), format_duration(*window)))
        }
    }
}

/// The same as the API shows it.
pub fn deduplicate_json(wanted: &Deduplicate) -> Value {
    match wanted {
        Deduplicate::Usual => Value::Null,
        Deduplicate::Off => "off".into(),
        Deduplicate::Window(window) => json!({"window": format_duration(*window)}),
        Deduplicate::Own { id, window } => {
            json!({"id": id.text(), "window": format_duration(*window)})
        }
    }
}

/// An expression; `None` where nothing is written.
pub fn expression(cursor: &Cursor<'_>) -> Result<Option<Expression>, FleetFileError> {
    match cursor.is_null() {
        true => Ok(None),
        false => computed::expression(cursor).map(Some),
    }
}

/// `debounce`: `wait` by itself, or the keys `wait` and `max_wait`; `None` where nothing is written.
pub fn debounce(cursor: &Cursor<'_>) -> Result<Option<Debounce>, FleetFileError> {
    if cursor.is_null() {
        return Ok(None);
    }
    let known = ["wait", "max_wait"];
    let fields = cursor.is_mapping().then(|| cursor.fields(&known)).transpose()?;
    let wait = match &fields {
        None => cursor,
        Some(fields) => fields.get("wait").ok_or_else(|| {
            cursor.missing("wait", "missing; say how long to wait for more, as in `wait: 10s`")
        })?,
    };
    let time = keys::duration(wait, debounce::WAIT_MAX)?;
    if time.is_zero() {
        return Err(wait.invalid("no time at all; to start each run at once, remove `debounce`"));
    }
    let max_wait = match fields.as_ref().and_then(|fields| fields.get("max_wait")) {
        None => time * debounce::MAX_WAIT_FACTOR,
        Some(most) => match keys::duration(most, debounce::MAX_WAIT_MAX)? {
            shorter if shorter < time => {
                return Err(most.invalid(format!("shorter than `wait`, {}", format_duration(time))));
            }
            max_wait => max_wait,
        },
    };
    Ok(Some(Debounce { wait: time, max_wait: max_wait.min(debounce::MAX_WAIT_MAX) }))
}

/// The same in YAML.
pub fn debounce_yaml(Debounce { wait, max_wait }: Debounce) -> String {
    format!("{{wait: {}, max_wait: {}}}", format_duration(wait), format_duration(max_wait))
}

/// The same as the API shows it.
pub fn debounce_json(Debounce { wait, max_wait }: Debounce) -> Value {
    json!({"wait": format_duration(wait), "max_wait": format_duration(max_wait)})
}

/// The networks of an `allow` list.
pub fn networks(cursor: &Cursor<'_>) -> Result<Networks, FleetFileError> {
    let items = if cursor.is_null() { Vec::new() } else { cursor.sequence()? };
    if items.len() > ALLOW_NETWORKS_MAX {
        return Err(cursor.invalid(format!("at most {ALLOW_NETWORKS_MAX} networks")));
    }
    let mut networks = Networks::default();
    for item in items {
        networks.add(item.text()?).map_err(|error| item.invalid(error.to_string()))?;
    }
    Ok(networks)
}

/// The list in YAML.
pub fn networks_yaml(networks: &Networks) -> String {
    let items = networks.texts().map(|network| scalar(&network));
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A rate; `None` where nothing is written.
pub fn rate(cursor: &Cursor<'_>) -> Result<Option<Rate>, FleetFileError> {
    if cursor.is_null() {
        return Ok(None);
    }
    cursor.text()?.parse().map(Some).map_err(|message: String| cursor.invalid(message))
}
