//! Whom the end of a run is told by a command or a POST. Whether the operator allows it is not
//! known here.

use ureq::http::Uri;

use super::vessel::arguments;
use crate::config::HttpUrl;
use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Cursor;
use crate::model::limits::NOTIFY_ENTRIES_MAX;
use crate::model::notification::{Format, Notify, Target};
use crate::model::run::Status;
use crate::model::variable::{SecretName, VariableValue};

const ENTRY_KEYS: &[&str] = &["on", "command", "url", "secret", "format"];
/// The ends that a run can have, as a fleet file names them.
const ENDS: [(&str, Status); 4] = [
    ("SUCCESS", Status::Success),
    ("ERRORED", Status::Errored),
    ("TERMINATED", Status::Terminated),
    ("INCOMPLETE", Status::Incomplete),
];

/// The entries of `notify`.
pub(super) fn notify(cursor: &Cursor<'_>) -> Result<Vec<Notify>, FleetFileError> {
    if cursor.is_null() {
        return Ok(Vec::new());
    }
    let items = cursor.sequence()?;
    if items.len() > NOTIFY_ENTRIES_MAX {
        let message = format!("more than {NOTIFY_ENTRIES_MAX} entries; let one of them tell more");
        return Err(cursor.invalid(message));
    }
    items.iter().map(entry).collect()
}

fn entry(cursor: &Cursor<'_>) -> Result<Notify, FleetFileError> {
    let fields = cursor.fields(ENTRY_KEYS)?;
    let on = match fields.get("on") {
        None => return Err(cursor.missing("on", "missing; list the ends, as in [ERRORED]")),
        Some(on) => on.one_or_more(end)?,
    };
    if on.is_empty() {
        return Err(cursor.missing("on", "the list is empty; name an end, as in [ERRORED]"));
    }
    let target = match (fields.get("command"), fields.get("url")) {
        (Some(command), None) => {
            if let Some(other) = fields.get("secret").or_else(|| fields.get("format")) {
                return Err(other.invalid_key("belongs to a `url`; a command reads JSON"));
            }
            Target::Command(program(command)?)
        }
        (None, Some(url)) => {
            let format = fields.get("format").map(format).transpose()?.unwrap_or_default();
            let secret = fields.get("secret").map(secret_name).transpose()?;
            if secret.is_none() && format == Format::Json {
                let message = "missing; name the secret that the POST is signed with, or the format \
                               of a chat: slack, discord or teams";
                return Err(cursor.missing("secret", message));
            }
            Target::Url { url: self::url(url)?, secret, format }
        }
        _ => return Err(cursor.invalid("an entry has either `command` or `url`")),
    };
    Ok(Notify { on, target })
}

fn end(cursor: &Cursor<'_>) -> Result<Status, FleetFileError> {
    let word = cursor.text()?;
    let known = ENDS.iter().find(|(name, _)| *name == word).map(|(_, status)| *status);
    known.ok_or_else(|| cursor.invalid(super::expected_word(word, &ENDS.map(|(name, _)| name))))
}

/// An argument vector whose program is named by its whole path: there is no `PATH` to go by that
/// its author could know.
fn program(cursor: &Cursor<'_>) -> Result<Vec<String>, FleetFileError> {
    let command = arguments(cursor)?;
    if !command.first().is_some_and(|program| program.starts_with('/')) {
        return Err(cursor.invalid("the program must be an absolute path, beginning with `/`"));
    }
    Ok(command)
}

fn format(cursor: &Cursor<'_>) -> Result<Format, FleetFileError> {
    let word = cursor.text()?;
    let known = Format::ALL.into_iter().find(|format| format.word() == word);
    known.ok_or_else(|| cursor.invalid(super::expected_word(word, &Format::ALL.map(Format::word))))
}

/// A URL, or `{secret: NAME}` where a file of the operator holds it.
fn url(cursor: &Cursor<'_>) -> Result<VariableValue, FleetFileError> {
    if cursor.is_mapping() {
        let fields = cursor.fields(&["secret"])?;
        let secret = fields.get("secret");
        let secret = secret.ok_or_else(|| cursor.invalid("expected a URL or {secret: NAME}"))?;
        return Ok(VariableValue::Secret { secret: secret_name(secret)? });
    }
    let text = cursor.text()?;
    // The second is what the delivery sends to.
    let fits = text.parse::<HttpUrl>().is_ok() && text.parse::<Uri>().is_ok();
    if !fits {
        let message = "expected an http or https URL, with a port up to 65535 or none, and without a \
                       user or password in it";
        return Err(cursor.invalid(message));
    }
    Ok(VariableValue::Literal(text.to_owned()))
}

fn secret_name(cursor: &Cursor<'_>) -> Result<SecretName, FleetFileError> {
    let name = cursor.text()?.to_owned();
    SecretName::try_from(name).map_err(|error| cursor.invalid(error.to_string()))
}
