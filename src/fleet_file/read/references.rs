//! The secrets that a `source` refers to as `#{GROUP.KEY}`, the hosted system's form.

use std::collections::BTreeMap;

use super::environment::SECRETS_PER_VESSEL_MAX;
use crate::fleet_file::cursor::Cursor;
use crate::fleet_file::{FleetFileError, SecretReference};
use crate::model::expansion::{Reference, references, whole_secret};
use crate::model::variable::{FixedValue, SecretName, VariableValue};

/// The secrets to which the words of the `source` of each vessel in `vessels` refer.
pub fn references_of(vessels: &Cursor<'_>) -> Result<Vec<SecretReference>, FleetFileError> {
    let mut found = Vec::new();
    for (_, vessel) in vessels.mapping()? {
        let Some(source) = vessel.entry("source") else { continue };
        let mut secrets = BTreeMap::new();
        for key in ["file_to_run", "arguments", "environment"] {
            if let Some(value) = source.entry(key) {
                collect(&value, key == "environment", &mut secrets)?;
            }
        }
        if secrets.len() > SECRETS_PER_VESSEL_MAX {
            return Err(source.invalid(format!(
                "refers to more than {SECRETS_PER_VESSEL_MAX} secrets; let the program read them \
                 from a file"
            )));
        }
        found.extend(
            secrets.into_iter().map(|(secret, missing)| SecretReference { secret, missing }),
        );
    }
    Ok(found)
}

/// Adds the secrets that `value` refers to, each with the error when it is missing.
fn collect(
    value: &Cursor<'_>,
    is_environment: bool,
    secrets: &mut BTreeMap<SecretName, FleetFileError>,
) -> Result<(), FleetFileError> {
    if value.is_sequence() {
        return value.sequence()?.iter().try_for_each(|it| collect(it, is_environment, secrets));
    }
    if value.is_mapping() {
        let mut entries = value.mapping()?.into_iter();
        return entries.try_for_each(|(_, it)| collect(&it, is_environment, secrets));
    }
    if value.is_null() {
        return Ok(());
    }
    let word = value.text()?;
    for reference in references(word) {
        let Reference::Secret(secret) = reference else { continue };
        let name = secret.as_str();
        if is_environment && whole_secret(word).is_none() {
            return Err(value.invalid(format!(
                "a variable is a secret as a whole, as in `#{{{name}}}`; give the program the rest \
                 in another variable"
            )));
        }
        let missing = value
            .invalid(format!("there is no secret `{name}`; set it: boathook secret set {name}"));
        secrets.entry(secret).or_insert(missing);
    }
    Ok(())
}

/// Makes each variable that is a reference as a whole the secret that it names.
pub fn resolve_variables(environment: &mut [(String, VariableValue)]) {
    for (_, value) in environment {
        if let VariableValue::Fixed(FixedValue::Literal(text)) = value
            && let Some(secret) = whole_secret(text)
        {
            *value = secret.into();
        }
    }
}
