//! The environment of a vessel as a fleet file gives it. Values are never quoted in messages: they
//! may be secrets.

use std::collections::BTreeSet;

use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Cursor;
use crate::limits::{ARGUMENT_BYTES_MAX, ENVIRONMENT_NAME_BYTES_MAX};

/// Prefixes of the variables that every vessel gets from the server.
const RESERVED_PREFIXES: [&str; 2] = ["SHIPYARD_", "BOATHOOK_"];

/// A mapping of names to values, or the hosted system's list of `{name, value}`.
pub(super) fn environment(cursor: &Cursor<'_>) -> Result<Vec<(String, String)>, FleetFileError> {
    if cursor.is_null() {
        return Ok(Vec::new());
    }
    if cursor.is_sequence() {
        return list(cursor);
    }
    let mut variables = Vec::new();
    for (name, value) in cursor.mapping()? {
        check_name(name).map_err(|message| value.invalid_key(message))?;
        variables.push((name.to_owned(), checked_value(name, &value)?));
    }
    Ok(variables)
}

fn list(cursor: &Cursor<'_>) -> Result<Vec<(String, String)>, FleetFileError> {
    let mut names = BTreeSet::new();
    let mut variables = Vec::new();
    for item in cursor.sequence()? {
        let fields = item.fields(&["name", "value"])?;
        let name = fields.get("name").ok_or_else(|| item.missing("name", "missing"))?;
        let value = fields.get("value").ok_or_else(|| {
            item.missing("value", "missing; for an empty variable write value: \"\"")
        })?;
        let text = name.text()?;
        check_name(text).map_err(|message| name.invalid(message))?;
        if !names.insert(text) {
            return Err(name.invalid(format!("duplicate variable `{text}`; keep one of them")));
        }
        variables.push((text.to_owned(), checked_value(text, value)?));
    }
    Ok(variables)
}

fn checked_value(name: &str, cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    if cursor.is_mapping() {
        // Names `secret` as not supported yet, and anything else as unknown.
        cursor.fields(&[])?;
    }
    if cursor.is_null() {
        let message = "the value is missing; for an empty variable write \"\", and quote `~` or \
                       `null` if they are meant literally";
        return Err(cursor.invalid(message));
    }
    let value = cursor.text()?;
    check_value(name, value).map_err(|message| cursor.invalid(message))?;
    Ok(value.to_owned())
}

/// Checks the name of a variable that somebody wants a vessel to have. The error is for a person.
pub(in crate::fleet_file) fn check_name(name: &str) -> Result<(), String> {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let well_formed = name.bytes().next().is_some_and(first)
        && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit());
    if !well_formed {
        return Err("a variable's name has letters, digits and `_`, and begins with no digit; \
                    rename it"
            .to_owned());
    }
    if name.len() > ENVIRONMENT_NAME_BYTES_MAX {
        return Err(format!(
            "the variable's name is longer than {ENVIRONMENT_NAME_BYTES_MAX} bytes; shorten it"
        ));
    }
    if let Some(prefix) = RESERVED_PREFIXES.iter().find(|prefix| name.starts_with(**prefix)) {
        return Err(format!("{prefix}* variables are set by the server; rename it"));
    }
    Ok(())
}

/// Checks that a program can be given the variable. The error is for a person.
pub(in crate::fleet_file) fn check_value(name: &str, value: &str) -> Result<(), String> {
    if value.contains('\0') {
        return Err("contains a NUL, which no variable can; remove it".to_owned());
    }
    if name.len() + 1 + value.len() > ARGUMENT_BYTES_MAX {
        return Err(format!(
            "name and value are longer than {ARGUMENT_BYTES_MAX} bytes, which is what Linux passes \
             to a program; put the value into a file"
        ));
    }
    Ok(())
}
