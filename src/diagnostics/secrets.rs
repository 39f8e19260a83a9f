//! Whether every secret that a fleet or a setting names has a value that can be used.

use std::collections::BTreeMap;

use super::fleets::part_of;
use crate::config::secrets::{SecretError, SecretStore};
use crate::engine::FleetView;
use crate::model::finding::Finding;
use crate::model::sender::Verification;
use crate::model::variable::{FixedValue, SecretName, VariableValue};

const CHECK: &str = "secrets";

/// `of_settings`: a setting and the secret that it names.
pub(super) fn examine(
    fleets: &[FleetView],
    of_settings: Option<(&str, &SecretName)>,
    store: &SecretStore,
) -> Vec<Finding> {
    let uses = uses(fleets, of_settings);
    let examined = uses.iter().filter_map(|(secret, (user, variable))| {
        let name = secret.as_str();
        match store.examine(variable, secret) {
            Err(error) => {
                let why = match error {
                    SecretError::NoDirectory => "there is no directory of secrets".to_owned(),
                    SecretError::Missing(path) => format!("there is no {}", path.display()),
                    error => error.to_string(),
                };
                let what = format!("`{name}`, which {user} needs: {why}");
                let remedy = format!(
                    "a file {name} in `secrets_dir` holds its value and nothing else, or the unit \
                     loads it: LoadCredential={name}:FILE"
                );
                Some(Finding::problem(CHECK, what, remedy))
            }
            Ok(mode) if mode & 0o007 != 0 => {
                let what = format!("`{name}`: everybody may read its file (mode {mode:03o})");
                Some(Finding::warning(CHECK, what, "chmod o= the file"))
            }
            Ok(_) => None,
        }
    });
    let findings: Vec<Finding> = examined.collect();
    match (findings.is_empty(), uses.len()) {
        (false, _) => findings,
        (true, 0) => vec![Finding::ok(CHECK, "no fleet names any")],
        (true, 1) => vec![Finding::ok(CHECK, "the one that is named is there")],
        (true, named) => vec![Finding::ok(CHECK, format!("all {named} are there"))],
    }
}

/// By secret: its first user, and the longest name of a variable that it is for, which bounds its
/// length.
fn uses(
    fleets: &[FleetView],
    of_settings: Option<(&str, &SecretName)>,
) -> BTreeMap<SecretName, (String, String)> {
    let mut uses: BTreeMap<SecretName, (String, String)> = BTreeMap::new();
    let mut note = |secret: &SecretName, user: String, variable: &str| {
        let (_, longest) = uses.entry(secret.clone()).or_insert((user, String::new()));
        if variable.len() > longest.len() {
            variable.clone_into(longest);
        }
    };
    if let Some((setting, secret)) = of_settings {
        note(secret, setting.to_owned(), "");
    }
    for fleet in fleets {
        for vessel in &fleet.current.definition.vessels {
            for (variable, value) in &vessel.environment {
                if let VariableValue::Fixed(FixedValue::Secret { secret }) = value {
                    note(secret, part_of(fleet, &vessel.name), variable);
                }
            }
        }
        let verify = &fleet.current.definition.webhook.verify;
        for secret in verify.iter().flat_map(Verification::secrets) {
            note(secret, part_of(fleet, "webhook"), "");
        }
        for notify in &fleet.current.definition.notify {
            for secret in notify.target.secrets() {
                note(secret, part_of(fleet, "notify"), "");
            }
        }
    }
    uses
}
