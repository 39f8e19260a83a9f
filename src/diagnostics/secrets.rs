//! Whether every secret that a fleet or a setting names has a value that can be used, and whether other
//! users can read one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::fleets::part_of;
use crate::config::secrets::{KeptSecret, SecretError, SecretStore};
use crate::engine::FleetView;
use crate::model::finding::Finding;
use crate::model::fleet::SecretUse;
use crate::model::sender::Verification;
use crate::model::variable::SecretName;

const CHECK: &str = "secrets";

/// `of_settings`: a setting and the secret that it names.
pub(super) fn examine(
    fleets: &[FleetView],
    of_settings: Option<(&str, &SecretName)>,
    store: &SecretStore,
) -> Vec<Finding> {
    let uses = uses(fleets, of_settings);
    let missing = uses.iter().filter_map(|(secret, (user, variable))| {
        let error = store.examine(variable, secret).err()?;
        Some(unusable(secret, user, error, fleet_with_handshake(fleets, secret)))
    });
    let mut findings: Vec<Finding> = missing.collect();
    findings.extend(modes(store));
    match (findings.is_empty(), uses.len()) {
        (false, _) => findings,
        (true, 0) => vec![Finding::ok(CHECK, "no fleet names any")],
        (true, 1) => vec![Finding::ok(CHECK, "the one that is named is there")],
        (true, named) => vec![Finding::ok(CHECK, format!("all {named} are there"))],
    }
}

/// A fleet whose sender brings `secret` in a handshake.
fn fleet_with_handshake<'a>(fleets: &'a [FleetView], secret: &SecretName) -> Option<&'a str> {
    let brings = |fleet: &&FleetView| {
        let verify = fleet.current.definition.webhook.verify.iter();
        verify.flat_map(Verification::brought_secrets).any(|brought| brought == secret)
    };
    fleets.iter().find(brings).map(|fleet| fleet.fleet.name.as_str())
}

/// `with_handshake`: the fleet that gets it by a handshake.
fn unusable(
    secret: &SecretName,
    user: &str,
    error: SecretError,
    with_handshake: Option<&str>,
) -> Finding {
    let name = secret.as_str();
    let why = match error {
        SecretError::Missing { path, .. } => format!("there is no {}", path.display()),
        error => error.to_string(),
    };
    let what = format!("`{name}`, which {user} needs: {why}");
    let remedy = match with_handshake {
        Some(fleet) => format!(
            "boathook webhook handshake {fleet:?}, and create the webhook at its provider: that \
             brings the secret"
        ),
        None => {
            format!("boathook secret set {name}; or the unit loads it: LoadCredential={name}:FILE")
        }
    };
    Finding::problem(CHECK, what, remedy)
}

/// Files that other users can read. In a directory of the operator a group may have access.
fn modes(store: &SecretStore) -> Vec<Finding> {
    let directory = store.directory().display();
    let listed = match store.list() {
        Ok(listed) => listed,
        Err(error) => {
            let what = format!("{directory}: {error}");
            return vec![Finding::problem(CHECK, what, "let the server's user read it")];
        }
    };
    let others = if store.is_private() { 0o077 } else { 0o007 };
    let mut findings = Vec::new();
    let mode = fs::metadata(store.directory()).map_or(0, |found| found.permissions().mode());
    if store.is_private() && mode & others != 0 {
        let what =
            format!("{directory} has mode {:04o}: other users may look into it", mode & 0o777);
        findings.push(Finding::warning(CHECK, what, format!("chmod 0700 {directory}")));
    }
    let kept = listed.iter().filter(|secret| !secret.is_credential);
    findings.extend(kept.filter(|secret| secret.mode & others != 0).map(|secret| {
        let KeptSecret { name, mode, .. } = secret;
        let name = name.as_str();
        let (who, remedy) = match mode & 0o007 {
            0 => ("its group", "chmod 0600 the file"),
            _ => ("everybody", "chmod o= the file"),
        };
        let what = format!("`{name}`: {who} may read its file (mode {mode:03o})");
        Finding::warning(CHECK, what, remedy)
    }));
    findings
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
        for SecretUse { secret, part, variable } in fleet.current.definition.secret_uses() {
            note(&secret, part_of(fleet, part), variable);
        }
    }
    uses
}
