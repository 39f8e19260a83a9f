//! The environment of a vessel. Messages quote no value: it may be a secret.

use std::collections::BTreeSet;

use super::computed::{VARIABLE_KEYS, computed};
use crate::fleet_file::cursor::Cursor;
use crate::fleet_file::{FleetFileError, HiddenValue};
use crate::model::limits::ARGUMENT_BYTES_MAX;
use crate::model::variable::{FixedValue, SecretName, VariableValue};

/// Bytes of a variable's name. YAML ends a key at 1,024 characters, and no program asks for such a name.
const ENVIRONMENT_NAME_BYTES_MAX: usize = 255;
/// Secrets of one vessel: each is a file to read at every start, and a search in all that the vessel
/// writes.
pub const SECRETS_PER_VESSEL_MAX: usize = 64;

/// Prefixes of the variables that every vessel gets from the server.
const RESERVED_PREFIXES: [&str; 2] = ["SHIPYARD_", "BOATHOOK_"];

/// The hosted system's placeholder for a value that it does not show.
const HIDDEN: &str = "SHIPYARD_HIDDEN";

/// The variables of a vessel, in the order of the file.
type Variables = Vec<(String, VariableValue)>;

/// A mapping of names to values, or the hosted system's list of `{name, value}`. Adds to `hidden`
/// the variables of the vessel `vessel` whose values the file does not show.
pub fn environment(
    cursor: &Cursor<'_>,
    vessel: &str,
    hidden: &mut Vec<HiddenValue>,
) -> Result<Variables, FleetFileError> {
    if cursor.is_null() {
        return Ok(Vec::new());
    }
    let mut variables = Vec::new();
    let mut secrets = 0;
    for (name, value) in entries(cursor)? {
        let read = checked_value(name, &value)?;
        secrets += usize::from(matches!(read, VariableValue::Fixed(FixedValue::Secret { .. })));
        if secrets > SECRETS_PER_VESSEL_MAX {
            return Err(value.invalid(format!(
                "more than {SECRETS_PER_VESSEL_MAX} secrets; let the program read them from a file"
            )));
        }
        if read == VariableValue::from(HIDDEN) {
            hidden.push(HiddenValue {
                vessel: vessel.to_owned(),
                variable: name.to_owned(),
                unknown: value.invalid(format!(
                    "{HIDDEN} stands for the value that the variable has here already, and it has \
                     none; write the value, or name a secret that holds it: {{secret: {name}}}"
                )),
            });
        }
        variables.push((name.to_owned(), read));
    }
    Ok(variables)
}

/// Names, each valid and none twice, and where their values stand.
fn entries<'a>(cursor: &Cursor<'a>) -> Result<Vec<(&'a str, Cursor<'a>)>, FleetFileError> {
    if cursor.is_sequence() {
        return list(cursor);
    }
    let entries = cursor.mapping()?;
    for (name, value) in &entries {
        check_name(name).map_err(|message| value.invalid_key(message))?;
    }
    Ok(entries)
}

fn list<'a>(cursor: &Cursor<'a>) -> Result<Vec<(&'a str, Cursor<'a>)>, FleetFileError> {
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
        variables.push((text, value.clone()));
    }
    Ok(variables)
}

fn checked_value(name: &str, cursor: &Cursor<'_>) -> Result<VariableValue, FleetFileError> {
    if cursor.is_mapping() {
        if let Some(expr) = cursor.entry("expr") {
            let fields = cursor.fields(&VARIABLE_KEYS)?;
            let computed = computed(&expr, &fields, |text| check_value(name, text))?;
            return Ok(VariableValue::Computed(computed));
        }
        let fields = cursor.fields(&["secret", "expr"])?;
        let Some(secret) = fields.get("secret") else {
            let message = "expected a value, {secret: NAME} or {expr: EXPRESSION}";
            return Err(cursor.invalid(message));
        };
        return match SecretName::try_from(secret.text()?.to_owned()) {
            Ok(secret) => Ok(secret.into()),
            Err(error) => Err(secret.invalid(error.to_string())),
        };
    }
    if cursor.is_null() {
        let message = "the value is missing; for an empty variable write \"\", and quote `~` or \
                       `null` if they are meant literally";
        return Err(cursor.invalid(message));
    }
    let value = cursor.text()?;
    check_value(name, value).map_err(|message| cursor.invalid(message))?;
    Ok(value.into())
}

/// Checks the name of a variable. The error is for a person.
pub fn check_name(name: &str) -> Result<(), String> {
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
pub fn check_value(name: &str, value: &str) -> Result<(), String> {
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
