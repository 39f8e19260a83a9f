//! Whom the end of a run is told by a command or a POST. Whether the operator allows it is not
//! known here.

use ureq::http::Uri;

use super::vessel::arguments;
use crate::config::HttpUrl;
use crate::domain::notification::{Notify, Target};
use crate::domain::run::Status;
use crate::domain::variable::SecretName;
use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Cursor;
use crate::limits::NOTIFY_ENTRIES_MAX;

const ENTRY_KEYS: &[&str] = &["on", "command", "url", "secret"];
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
    let target = match (fields.get("command"), fields.get("url"), fields.get("secret")) {
        (Some(command), None, None) => Target::Command(program(command)?),
        (None, Some(url), Some(secret)) => {
            Target::Url { url: self::url(url)?, secret: secret_name(secret)? }
        }
        (None, Some(_), None) => {
            let message = "missing; name the secret that the POST is signed with";
            return Err(cursor.missing("secret", message));
        }
        _ => return Err(cursor.invalid("an entry has either `command`, or `url` and `secret`")),
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

fn url(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let text = cursor.text()?;
    // The second is what the delivery sends to.
    let fits = text.parse::<HttpUrl>().is_ok() && text.parse::<Uri>().is_ok();
    if !fits {
        let message = "expected an http or https URL, with a port up to 65535 or none, and without a \
                       user or password in it";
        return Err(cursor.invalid(message));
    }
    Ok(text.to_owned())
}

fn secret_name(cursor: &Cursor<'_>) -> Result<SecretName, FleetFileError> {
    let name = cursor.text()?.to_owned();
    SecretName::try_from(name).map_err(|error| cursor.invalid(error.to_string()))
}
