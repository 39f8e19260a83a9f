//! Runners: words before the argument vector of a vessel, by which another engine (Slurm, a container
//! engine, ssh) runs it, and the command that ends what an attempt may have left with that engine.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::duration::millis;
use crate::model::fleet::{FleetDefinition, VesselDefinition};
use crate::model::suggest::closest;

/// How long a cleanup may take, unless its runner says otherwise.
pub const CLEANUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest `cleanup_timeout`: a worker waits for it.
pub const CLEANUP_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Words of one command of a runner.
pub const RUNNER_WORDS_MAX: usize = 256;
/// Bytes of the name of a runner.
const RUNNER_NAME_BYTES_MAX: usize = 64;
/// The word for no runner.
pub const NO_RUNNER: &str = "none";

/// A runner. Has words of at least one of its two commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// The words before those of the vessel. Variables in them expand. May be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The command that ends what an attempt has left; empty: there is none. Variables in it expand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cleanup: Vec<String>,
    /// How long that command may take.
    #[serde(default = "usual_timeout", skip_serializing_if = "is_usual", with = "millis")]
    pub cleanup_timeout: Duration,
}

impl Default for Runner {
    fn default() -> Self {
        Self { command: Vec::new(), cleanup: Vec::new(), cleanup_timeout: CLEANUP_TIMEOUT }
    }
}

/// The runner that a fleet or a vessel asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerChoice {
    /// None, whatever the fleet or the settings say.
    None,
    /// The one of this name in the settings.
    Named(String),
    Own(Runner),
}

/// The runners of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runners {
    pub named: BTreeMap<String, Runner>,
    /// The name of the one that vessels have unless their fleet says otherwise.
    pub default: Option<String>,
}

/// The settings have no runner of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRunner {
    pub name: String,
    known: Vec<String>,
}

impl std::fmt::Display for UnknownRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, known } = self;
        write!(f, "the settings have no runner `{name}`")?;
        match (closest(name, known.iter().map(String::as_str)), known.is_empty()) {
            (Some(meant), _) => write!(f, "; did you mean `{meant}`?"),
            (None, true) => {
                write!(f, "; the operator adds it to boathook.toml as [runners.{name}]")
            }
            (None, false) => write!(f, "; there are {}", known.join(", ")),
        }
    }
}

impl Runners {
    /// The runner of `vessel`, which is one of `fleet`'s.
    ///
    /// # Errors
    /// When the settings have none of the name that is asked for.
    pub fn of<'a>(
        &'a self,
        fleet: &'a FleetDefinition,
        vessel: &'a VesselDefinition,
    ) -> Result<Option<&'a Runner>, UnknownRunner> {
        match vessel.runner.as_ref().or(fleet.runner.as_ref()) {
            Some(RunnerChoice::Own(runner)) => Ok(Some(runner)),
            _ => self.name_of(fleet, vessel).map(|name| self.named(name)).transpose(),
        }
    }

    /// The name under which the settings have the runner of `vessel`; `None`: it has none, or one of its own.
    pub fn name_of<'a>(
        &'a self,
        fleet: &'a FleetDefinition,
        vessel: &'a VesselDefinition,
    ) -> Option<&'a str> {
        match vessel.runner.as_ref().or(fleet.runner.as_ref()) {
            None => self.default.as_deref(),
            Some(RunnerChoice::Named(name)) => Some(name),
            Some(RunnerChoice::None | RunnerChoice::Own(_)) => None,
        }
    }

    /// Whether there is what `choice` asks for.
    ///
    /// # Errors
    /// When it is a name of none.
    pub fn check(&self, choice: &RunnerChoice) -> Result<(), UnknownRunner> {
        match choice {
            RunnerChoice::None | RunnerChoice::Own(_) => Ok(()),
            RunnerChoice::Named(name) => self.named(name).map(drop),
        }
    }

    fn named(&self, name: &str) -> Result<&Runner, UnknownRunner> {
        self.named.get(name).ok_or_else(|| UnknownRunner {
            name: name.to_owned(),
            known: self.named.keys().cloned().collect(),
        })
    }
}

/// Checks the name of a runner.
///
/// # Errors
/// What to write instead, for a person.
pub fn check_runner_name(name: &str) -> Result<(), String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let is_valid = (1..=RUNNER_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(inner);
    match is_valid && name != NO_RUNNER {
        true => Ok(()),
        false => Err(format!(
            "a runner's name has letters, digits, `_` and `-`, and is not `{NO_RUNNER}`"
        )),
    }
}

/// Checks that a runner has something to do.
///
/// # Errors
/// What to write instead, for a person.
pub fn check_runner(runner: &Runner) -> Result<(), String> {
    if runner.command.is_empty() && runner.cleanup.is_empty() {
        return Err("has neither `command` nor `cleanup`; write the words that go before the \
                    vessel's own, as in `command: [srun, --ntasks=1]`"
            .to_owned());
    }
    for words in [&runner.command, &runner.cleanup] {
        if words.len() > RUNNER_WORDS_MAX {
            return Err(format!("more than {RUNNER_WORDS_MAX} words; put them into a script"));
        }
        if words.first().is_some_and(String::is_empty) {
            return Err("the program's name is empty".to_owned());
        }
    }
    if runner.cleanup_timeout.is_zero() || runner.cleanup_timeout > CLEANUP_TIMEOUT_MAX {
        return Err("`cleanup_timeout` is more than 0 and up to 1h".to_owned());
    }
    Ok(())
}

fn usual_timeout() -> Duration {
    CLEANUP_TIMEOUT
}

fn is_usual(timeout: &Duration) -> bool {
    *timeout == CLEANUP_TIMEOUT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(name: &str) -> Runner {
        Runner { command: vec![name.to_owned()], ..Runner::default() }
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let runners = |names: &[&str]| Runners {
            named: names.iter().map(|name| ((*name).to_owned(), runner(name))).collect(),
            default: None,
        };
        for (names, message) in [
            (&["slurm", "docker"][..], "no runner `slrum`; did you mean `slurm`?"),
            (&["docker", "ssh"], "no runner `slrum`; there are docker, ssh"),
            (&[], "no runner `slrum`; the operator adds it to boathook.toml as [runners.slrum]"),
        ] {
            let error = runners(names).named("slrum").unwrap_err().to_string();
            assert!(error.ends_with(message), "{error}");
        }
    }
}
