//! Who gets e-mail about a fleet or a vessel.

use std::collections::BTreeSet;

use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Cursor;
use crate::model::limits::{EMAIL_ADDRESS_BYTES_MAX, EMAIL_RECIPIENTS_MAX};
use crate::model::name::is_invisible;
use crate::model::notification::EmailNotifications;

const NOTIFICATION_KEYS: &[&str] = &["emails", "after_error", "after_on_demand"];

/// The `notifications` of a fleet or a vessel; `None` for an empty block.
pub(super) fn notifications(
    cursor: &Cursor<'_>,
) -> Result<Option<EmailNotifications>, FleetFileError> {
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
