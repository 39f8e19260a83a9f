//! Finds environment variables that look like settings and are none: a misspelt name would silently leave
//! the default in force.

use std::collections::BTreeSet;

use clap::Args;

use super::Sources;
use crate::model::suggest::closest;

const PREFIX: &str = "BOATHOOK_";
/// Variables of the command line that are no settings of a server.
const OF_CLIENTS: [&str; 3] = ["CONFIG", "TOKEN", "URL"];
/// Variables that vessels and notification commands get. A server that a vessel starts inherits
/// them.
const OF_VESSELS: [&str; 7] = [
    "ATTEMPT",
    "FLEET_RUN_ID",
    "INSTANCE",
    "NOTIFICATION_ID",
    "REMOTE_ADDR",
    "TRIGGER",
    // A prefix.
    "WEBHOOK_",
];

/// A variable that is no setting. Its value is not kept: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVariable {
    pub name: String,
    /// The known variable with the most similar name.
    pub meant: Option<String>,
}

impl UnknownVariable {
    /// What to do about it, for a person.
    pub fn advice(&self) -> String {
        match &self.meant {
            Some(meant) => format!("did you mean {meant}?"),
            None => "`boathook serve --help` lists the variables that are settings".to_owned(),
        }
    }
}

/// The variables of this process that begin like settings and are none.
pub fn unknown_variables() -> Vec<UnknownVariable> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    unknown(names)
}

fn unknown(names: impl Iterator<Item = String>) -> Vec<UnknownVariable> {
    let known = known_names();
    let mut unknown: Vec<_> = names
        .filter_map(|name| {
            let own = own_part(&name)?;
            if name.starts_with(PREFIX) && is_known(own, &known) || is_of_kubernetes(own) {
                return None;
            }
            let meant = closest(own, known.iter().map(String::as_str));
            let meant = meant.map(|meant| format!("{PREFIX}{meant}"));
            Some(UnknownVariable { name, meant })
        })
        .collect();
    unknown.sort_by(|left, right| left.name.cmp(&right.name));
    unknown
}

/// The part of `name` after the prefix, in upper or lower case.
fn own_part(name: &str) -> Option<&str> {
    let (prefix, own) = name.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then_some(own)
}

fn known_names() -> BTreeSet<String> {
    let command = Sources::augment_args(clap::Command::new("serve"));
    let settings = command.get_arguments().filter_map(|argument| {
        let name = argument.get_env()?.to_str()?;
        name.strip_prefix(PREFIX).map(str::to_owned)
    });
    settings.chain(OF_CLIENTS.map(str::to_owned)).collect()
}

fn is_known(own: &str, known: &BTreeSet<String>) -> bool {
    let mut of_vessels = OF_VESSELS.into_iter();
    known.contains(own)
        || of_vessels.any(|it| own == it || it.ends_with('_') && own.starts_with(it))
}

/// Whether Kubernetes makes such a variable for a service of the name `boathook` or `boathook-...`:
/// `..._SERVICE_HOST`, `..._SERVICE_PORT_HTTP`, `..._PORT`, `..._PORT_9000_TCP_ADDR`.
fn is_of_kubernetes(own: &str) -> bool {
    let own = format!("_{own}");
    let has_numbered_port = own.match_indices("_PORT_").any(|(at, found)| {
        own.get(at + found.len()..)
            .is_some_and(|rest| rest.starts_with(|it: char| it.is_ascii_digit()))
    });
    own.contains("_SERVICE_") || own.ends_with("_PORT") || has_numbered_port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<UnknownVariable> {
        unknown([name.to_owned()].into_iter()).pop()
    }

    #[test]
    fn a_misspelt_setting_is_named_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("BOATHOOK_WORKRES", Some("BOATHOOK_WORKERS")),
            ("BOATHOOK_workers", Some("BOATHOOK_WORKERS")),
            ("boathook_data_dir", Some("BOATHOOK_DATA_DIR")),
            ("BOATHOOK_PUBLIC_URI", Some("BOATHOOK_PUBLIC_URL")),
            ("BOATHOOK_SMTP_PASSWORD", None),
            ("BOATHOOK_", None),
        ] {
            let unknown = of(name).unwrap();
            assert_eq!(unknown.meant.as_deref(), meant, "{name}");
        }
    }

    #[test]
    fn settings_and_variables_of_vessels_and_kubernetes_are_known() {
        for name in [
            "BOATHOOK_WORKERS",
            "BOATHOOK_SMTP",
            "BOATHOOK_CONFIG",
            "BOATHOOK_TOKEN",
            "BOATHOOK_ATTEMPT",
            "BOATHOOK_WEBHOOK_BODY",
            "BOATHOOK_PORT",
            "BOATHOOK_PORT_9000_TCP",
            "BOATHOOK_PORT_9000_TCP_ADDR",
            "BOATHOOK_SERVICE_HOST",
            "BOATHOOK_SERVICE_PORT_HOOKS",
            "BOATHOOK_ADMIN_SERVICE_PORT",
            "BOATHOOK_HOOKS_PORT_9000_TCP_PROTO",
            "BOATHOOKS",
            "PATH",
            "BÖÄTHOOK_X",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
