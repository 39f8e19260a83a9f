//! Fleets to begin with. Each works as it is, on any machine with a POSIX shell.

use serde::Serialize;

use super::{AdminHandler, Call, Outcome, Reply};

#[derive(Serialize)]
struct Example {
    title: &'static str,
    /// What it does, in a sentence.
    text: &'static str,
    yaml: &'static str,
}

const EXAMPLES: [Example; 3] = [
    Example {
        title: "Run a script",
        text: "One program that gets whatever is sent.",
        yaml: include_str!("examples/run-a-script.yaml"),
    },
    Example {
        title: "Deploy on GitHub push",
        text: "Deploys pushes to main, checks the result, and tells somebody when it fails.",
        yaml: include_str!("examples/deploy-on-push.yaml"),
    },
    Example {
        title: "Back up on request",
        text: "Packs a directory, checks the archive, and keeps the latest seven.",
        yaml: include_str!("examples/back-up.yaml"),
    },
];

pub(super) fn list(_: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    call.query.allow_only(&[])?;
    Reply::ok(&EXAMPLES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet_file::parse_yaml;

    #[test]
    fn every_example_is_a_fleet() {
        for Example { title, yaml, .. } in EXAMPLES {
            assert!(parse_yaml(yaml).is_ok(), "{title}");
        }
    }
}
