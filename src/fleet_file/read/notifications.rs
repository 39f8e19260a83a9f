//! The notifications of a fleet or a vessel: e-mail, commands and POSTs. Whether the operator allows them
//! is not checked here.

use std::collections::BTreeSet;

use ureq::http::Uri;

use super::vessel::{argument, arguments};
use crate::config::HttpUrl;
use crate::fleet_file::cursor::Cursor;
use crate::fleet_file::{FleetFileError, keys};
use crate::model::name::is_invisible;
use crate::model::notification::{EmailNotifications, Format, Notify, Target};
use crate::model::run::Status;
use crate::model::variable::{FixedValue, SecretName};

/// Entries of a fleet's `notify`: each is a delivery per run.
const NOTIFY_ENTRIES_MAX: usize = 20;
/// Bytes of an e-mail address (RFC 5321, section 4.5.3.1.3: a path of 256 with its brackets).
const EMAIL_ADDRESS_BYTES_MAX: usize = 254;
/// Addresses of one list. Mail servers take a hundred in one message (RFC 5321, section 4.5.3.1.8).
const EMAIL_RECIPIENTS_MAX: usize = 100;

const NOTIFICATION_KEYS: &[&str] = &["emails", "after_error", "after_on_demand"];
const ENTRY_KEYS: &[&str] = &["on", "command", "url", "secret", "format"];
/// The ends that a run can have, as a fleet file names them.
const ENDS: [(&str, Status); 4] = [
    ("SUCCESS", Status::Success),
    ("ERRORED", Status::Errored),
    ("TERMINATED", Status::Terminated),
    ("INCOMPLETE", Status::Incomplete),
];

/// The `notifications` of a fleet or a vessel; `None` for an empty block.
pub fn emails(cursor: &Cursor<'_>) -> Result<Option<EmailNotifications>, FleetFileError> {
    if cursor.is_null() {
        return Ok(None);
    }
    let fields = cursor.fields(NOTIFICATION_KEYS)?;
    let flag = |key| fields.get(key).map_or(Ok(false), Cursor::truth);
    Ok(Some(EmailNotifications {
        emails: match fields.get("emails") {
            Some(emails) => addresses(emails)?,
            None => return Err(cursor.missing("emails", "missing; list who is to be told")),
        },
        after_error: flag("after_error")?,
        after_on_demand: flag("after_on_demand")?,
    }))
}

fn addresses(cursor: &Cursor<'_>) -> Result<Vec<String>, FleetFileError> {
    if cursor.is_null() {
        return Ok(Vec::new());
    }
    let mut seen = BTreeSet::new();
    let mut addresses = Vec::new();
    for item in cursor.sequence()? {
        let address = item.text()?;
        if !is_address(address) {
            return Err(item.invalid("expected an e-mail address, such as ops@example.com"));
        }
        if !seen.insert(address) {
            return Err(item.invalid("this address comes twice; keep one of them"));
        }
        if addresses.len() == EMAIL_RECIPIENTS_MAX {
            let message = format!("more than {EMAIL_RECIPIENTS_MAX} addresses; use a mailing list");
            return Err(item.invalid(message));
        }
        addresses.push(address.to_owned());
    }
    Ok(addresses)
}

/// Whether a mail server may take `text` for one plain address (the `addr-spec` of RFC 5322,
/// section 3.4.1, without quoting and comments). Nothing that could end a header line passes.
fn is_address(text: &str) -> bool {
    let plain = |character: char| {
        !is_invisible(character)
            && !character.is_whitespace()
            && !"()<>[]:;,\\\"".contains(character)
    };
    text.len() <= EMAIL_ADDRESS_BYTES_MAX
        && text.chars().all(plain)
        && text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@')
        })
}

/// The entries of `notify`.
pub fn notify(cursor: &Cursor<'_>) -> Result<Vec<Notify>, FleetFileError> {
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
    keys::word(cursor, &ENDS)
}

/// An argument vector that names its program by an absolute path: the author of a fleet does not know the
/// server's `PATH`.
fn program(cursor: &Cursor<'_>) -> Result<Vec<String>, FleetFileError> {
    let command = arguments(cursor, argument)?;
    if !command.first().is_some_and(|program| program.starts_with('/')) {
        return Err(cursor.invalid("the program must be an absolute path, beginning with `/`"));
    }
    Ok(command)
}

fn format(cursor: &Cursor<'_>) -> Result<Format, FleetFileError> {
    keys::word(cursor, &Format::ALL.map(|format| (format.word(), format)))
}

/// A URL, or `{secret: NAME}` where a file of the operator holds it.
fn url(cursor: &Cursor<'_>) -> Result<FixedValue, FleetFileError> {
    if cursor.is_mapping() {
        let fields = cursor.fields(&["secret"])?;
        let secret = fields.get("secret");
        let secret = secret.ok_or_else(|| cursor.invalid("expected a URL or {secret: NAME}"))?;
        return Ok(FixedValue::Secret { secret: secret_name(secret)? });
    }
    let text = cursor.text()?;
    // The delivery sends to a `Uri`.
    let fits = text.parse::<HttpUrl>().is_ok() && text.parse::<Uri>().is_ok();
    if !fits {
        let message = "expected an http or https URL: a host that can be, a port from 1 to 65535 or none, \
                       no user or password, and %XX in its path for what is not ASCII";
        return Err(cursor.invalid(message));
    }
    Ok(FixedValue::Literal(text.to_owned()))
}

fn secret_name(cursor: &Cursor<'_>) -> Result<SecretName, FleetFileError> {
    let name = cursor.text()?.to_owned();
    SecretName::try_from(name).map_err(|error| cursor.invalid(error.to_string()))
}
