//! The key `verify` of a fleet's `webhook`: how requests show who sends them.

use std::time::Duration;

use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::{Cursor, Fields};

use crate::fleet_file::write::scalar;
use crate::model::sender::scheme::TOLERANCE_DEFAULT;
use crate::model::sender::table::{PRESETS, UNSUPPORTED, preset};
use crate::model::sender::{
    Algorithm, CHECKS_MAX, Check, Encoding, KeyForm, Method, Options, OwnPlace, OwnScheme,
    OwnTimestamp, Piece, Preset, PresetOption, SECRETS_MAX, Template, Unit, Verification,
};
use crate::model::suggest::closest;
use crate::model::text::is_token;
use crate::model::variable::SecretName;

/// Bytes of the name of a header or a parameter: longer than any that senders use.
const NAME_BYTES_MAX: usize = 128;
/// Bytes of a prefix.
const PREFIX_BYTES_MAX: usize = 64;
/// Keys on the way to a field of the body.
const PATH_KEYS_MAX: usize = 8;
/// Longest tolerance: a signature that is older is a replay.
const TOLERANCE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The keys of a scheme of one's own.
const SCHEME_KEYS: &[&str] = &[
    "header",
    "prefix",
    "signed",
    "algorithm",
    "encoding",
    "key",
    "secret",
    "timestamp",
    "event_id",
    "event_type",
];

/// A check, or a list of checks of which one must hold; `None`: nothing is verified.
pub fn verification(cursor: &Cursor<'_>) -> Result<Option<Verification>, FleetFileError> {
    if cursor.is_null() {
        return Ok(None);
    }
    let checks = cursor.one_or_more(check)?;
    if checks.len() > CHECKS_MAX {
        return Err(cursor.invalid(format!("more than {CHECKS_MAX} checks; remove some")));
    }
    let none = "the list is empty; remove `verify`, or name a check";
    Verification::new(checks).map(Some).ok_or_else(|| cursor.invalid(none))
}

/// The same in YAML, on one line.
pub fn yaml(verification: &Verification) -> Option<String> {
    serde_json::to_value(verification).ok().map(|value| flow(&value))
}

/// JSON in YAML's flow style, with quotes where they are needed.
pub(super) fn flow(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            // `preset` tells what the others are for.
            let (first, others): (Vec<_>, Vec<_>) =
                fields.iter().partition(|(key, _)| *key == "preset");
            let fields = first.into_iter().chain(others);
            let fields = fields.map(|(key, value)| format!("{key}: {}", flow(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

fn check(cursor: &Cursor<'_>) -> Result<Check, FleetFileError> {
    if !cursor.is_mapping() {
        let message = "expected a preset and its secret, as in {preset: github, secret: NAME}";
        return Err(cursor.invalid(message));
    }
    let named = cursor.mapping()?.into_iter().find(|(key, _)| *key == "preset");
    match named {
        Some((_, name)) => of_preset(cursor, known_preset(&name)?),
        None => of_own(cursor),
    }
}

fn known_preset(cursor: &Cursor<'_>) -> Result<&'static Preset, FleetFileError> {
    let name = cursor.text()?;
    if let Some(preset) = preset(name) {
        return Ok(preset);
    }
    if let Some((_, why)) = UNSUPPORTED.iter().find(|(known, _)| *known == name) {
        return Err(cursor.invalid(format!("`{name}` is not supported yet: {why}")));
    }
    let names = PRESETS.iter().map(|preset| preset.name);
    let there_is = format!("there are {}", names.clone().collect::<Vec<_>>().join(", "));
    Err(cursor.invalid(match closest(name, names) {
        Some(meant) => format!("no such preset; did you mean {meant}? {there_is}"),
        None => format!("no such preset; {there_is}; or describe a scheme of your own"),
    }))
}

fn of_preset(cursor: &Cursor<'_>, preset: &'static Preset) -> Result<Check, FleetFileError> {
    let mut known = vec!["preset"];
    if preset.has_secret() {
        known.push("secret");
    }
    known.extend(preset.options.iter().map(|option| option.key()));
    if preset.has_timestamp() {
        known.push("tolerance");
    }
    let fields = cursor.fields(&known)?;
    let secrets = match preset.has_secret() {
        true => secrets(cursor, &fields)?,
        false => Vec::new(),
    };
    let name = |key| fields.get(key).map(header_name).transpose();
    let options = Options {
        verify_token: fields.get("verify_token").map(secret_name).transpose()?,
        header: name("header")?,
        timestamp_header: name("timestamp_header")?,
        name: match fields.get("name") {
            Some(value) if preset.name == "query" => Some(parameter_name(value)?),
            _ => name("name")?,
        },
        tolerance: fields.get("tolerance").map(tolerance).transpose()?,
    };
    if preset.options.contains(&PresetOption::Name) && options.name.is_none() {
        let message = format!("missing; the preset `{}` needs it", preset.name);
        return Err(cursor.missing("name", &message));
    }
    if let (Some(tolerance), None) = (fields.get("tolerance"), &options.timestamp_header)
        && preset.options.contains(&PresetOption::TimestampHeader)
    {
        return Err(tolerance.invalid_key("belongs to a `timestamp_header`, and there is none"));
    }
    Ok(Check { method: Method::Preset(preset, options), secrets })
}

fn of_own(cursor: &Cursor<'_>) -> Result<Check, FleetFileError> {
    let fields = cursor.fields(SCHEME_KEYS)?;
    let header = fields.get("header").ok_or_else(|| {
        let message = "missing; name a `preset`, or the header that holds the signature";
        cursor.missing("header", message)
    })?;
    let signed = fields.get("signed").ok_or_else(|| {
        cursor.missing("signed", "missing; say what is signed, as in \"{body}\" or \"{ts}.{body}\"")
    })?;
    let template =
        Template::parse(signed.text()?).map_err(|error| signed.invalid(error.to_string()))?;
    let word = |key, known: &'static [_]| match fields.get(key) {
        Some(value) => super::word(value, known).map(Some),
        None => Ok(None),
    };
    let algorithm = word("algorithm", &Algorithm::WORDS)?.unwrap_or(Algorithm::HmacSha256);
    let key = match fields.get("key") {
        Some(key) if algorithm.is_asymmetric() => {
            return Err(key.invalid_key("is for HMAC; the form of a public key tells itself"));
        }
        Some(key) => super::word(key, &KeyForm::WORDS)?,
        None => KeyForm::Text,
    };
    let scheme = OwnScheme {
        header: header_name(header)?,
        prefix: fields.get("prefix").map(prefix).transpose()?.unwrap_or_default(),
        signed: template.as_str().to_owned(),
        algorithm,
        encoding: match fields.get("encoding") {
            Some(encoding) => super::word(encoding, &Encoding::WORDS)?,
            None => Encoding::Hex,
        },
        key,
        timestamp: fields.get("timestamp").map(timestamp).transpose()?,
        event_id: fields.get("event_id").map(place).transpose()?,
        event_type: fields.get("event_type").map(place).transpose()?,
    };
    check_placeholders(signed, template, &fields, &scheme)?;
    Ok(Check { secrets: secrets(cursor, &fields)?, method: Method::Own(scheme) })
}

/// Whether what the template names is there, and the other way round.
fn check_placeholders(
    signed: &Cursor<'_>,
    template: Template<'_>,
    fields: &Fields<'_>,
    scheme: &OwnScheme,
) -> Result<(), FleetFileError> {
    let has_timestamp = template.has(Piece::Timestamp);
    if has_timestamp && scheme.timestamp.is_none() {
        let message = "has {ts}; say where that stands, as in timestamp: {header: X-Time, unit: s}";
        return Err(signed.invalid(message));
    }
    if let Some(timestamp) = fields.get("timestamp").filter(|_| !has_timestamp) {
        let message = "is not signed, so that anyone could change it; put {ts} into `signed`, or \
                       remove this";
        return Err(timestamp.invalid_key(message));
    }
    if template.has(Piece::Id) && !matches!(scheme.event_id, Some(OwnPlace::Header(_))) {
        let message = "has {id}; say where that stands, as in event_id: {header: X-Id}";
        return Err(signed.invalid(message));
    }
    Ok(())
}

fn secrets(cursor: &Cursor<'_>, fields: &Fields<'_>) -> Result<Vec<SecretName>, FleetFileError> {
    let value = fields.get("secret").ok_or_else(|| {
        cursor.missing("secret", "missing; name the secret that the sender has, as in HOOK_SECRET")
    })?;
    let names = value.one_or_more(secret_name)?;
    if names.is_empty() {
        return Err(value.invalid("the list is empty; name a secret"));
    }
    if names.len() > SECRETS_MAX {
        return Err(value.invalid(format!("more than {SECRETS_MAX} secrets; remove old ones")));
    }
    Ok(names)
}

fn secret_name(cursor: &Cursor<'_>) -> Result<SecretName, FleetFileError> {
    let name = cursor.text()?.to_owned();
    SecretName::try_from(name)
        .map_err(|error| cursor.invalid(format!("{error}; write its name here, never its value")))
}

/// The name of a header (RFC 9110, section 5.1).
fn header_name(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let name = cursor.text()?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_token) {
        return Err(cursor.invalid("no name of a header; write one such as X-Signature"));
    }
    Ok(name.to_owned())
}

fn parameter_name(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let name = cursor.text()?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(cursor.invalid("no name of a parameter; write one such as token"));
    }
    Ok(name.to_owned())
}

fn prefix(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let prefix = cursor.text()?;
    if prefix.len() > PREFIX_BYTES_MAX || prefix.chars().any(char::is_control) {
        let message = format!("no prefix of a header; it has at most {PREFIX_BYTES_MAX} bytes");
        return Err(cursor.invalid(message));
    }
    Ok(prefix.to_owned())
}

fn timestamp(cursor: &Cursor<'_>) -> Result<OwnTimestamp, FleetFileError> {
    let fields = cursor.fields(&["header", "unit", "tolerance"])?;
    let header = fields.get("header");
    let header = header
        .ok_or_else(|| cursor.missing("header", "missing; name the header with the timestamp"))?;
    Ok(OwnTimestamp {
        header: header_name(header)?,
        unit: match fields.get("unit") {
            Some(unit) => super::word(unit, &Unit::WORDS)?,
            None => Unit::Seconds,
        },
        tolerance: match fields.get("tolerance") {
            Some(value) => tolerance(value)?,
            None => TOLERANCE_DEFAULT,
        },
    })
}

fn tolerance(cursor: &Cursor<'_>) -> Result<Duration, FleetFileError> {
    let tolerance = super::duration(cursor, TOLERANCE_MAX)?;
    match tolerance.is_zero() {
        true => Err(cursor.invalid("no time at all; every request would be too old")),
        false => Ok(tolerance),
    }
}

/// `{header: NAME}` or `{body: PATH}`.
fn place(cursor: &Cursor<'_>) -> Result<OwnPlace, FleetFileError> {
    let fields = cursor.fields(&["header", "body"])?;
    match (fields.get("header"), fields.get("body")) {
        (Some(header), None) => header_name(header).map(OwnPlace::Header),
        (None, Some(path)) => {
            let text = path.text()?;
            let keys: Vec<_> = text.split('.').collect();
            if keys.len() > PATH_KEYS_MAX || text.len() > NAME_BYTES_MAX || keys.contains(&"") {
                let message = "expected the way to a field of the JSON in the body, such as \
                               event.type";
                return Err(path.invalid(message));
            }
            Ok(OwnPlace::Body(text.to_owned()))
        }
        _ => Err(cursor.invalid("expected {header: NAME} or {body: FIELD}")),
    }
}
