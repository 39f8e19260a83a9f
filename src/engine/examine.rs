//! Checks for `boathook doctor`: whether the programs, users and secrets that fleets name exist, and
//! whether the stored data is whole. Reads only.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::secrets::SecretError;
use crate::engine::environment::search_path;
use crate::engine::{Engine, FleetView};
use crate::model::clock::Timestamp;
use crate::model::finding::{Finding, Level};
use crate::model::fleet::{DEFAULT_PROJECT, Program, VesselDefinition};
use crate::model::variable::{SecretName, VariableValue};
use crate::runner::Draft;
use crate::runner::output::has_output;
use crate::runner::sandbox::Sandbox;
use crate::store::{StorageError, VerifyCallbacks, VerifyProgress, VerifyReport};

/// Findings about fleets that are listed one by one. More of them share a cause.
const FLEET_FINDINGS_MAX: usize = 100;

const FLEETS: &str = "fleets";
const SECRETS: &str = "secrets";

impl Engine {
    /// Whether every vessel of every fleet could start now, and what prevents it.
    pub fn examine_fleets(&self, sandbox: &Sandbox) -> Vec<Finding> {
        let fleets = self.fleets();
        let (mut findings, mut vessels) = (Vec::new(), 0);
        for fleet in &fleets {
            for vessel in &fleet.current.definition.vessels {
                vessels += 1;
                let trouble = self.foresee(fleet, vessel, sandbox).into_iter();
                findings.extend(trouble.map(|finding| {
                    let what = format!("{}: {}", named(fleet, &vessel.name), finding.what);
                    Finding { what, ..finding }
                }));
            }
        }
        if findings.iter().all(|finding| finding.level == Level::Ok) {
            let what = match (vessels, fleets.len()) {
                (0, _) => "there are none yet".to_owned(),
                (1, _) => "one vessel, which can start".to_owned(),
                (vessels, 1) => format!("{vessels} vessels, which can start"),
                (vessels, fleets) => format!("{vessels} vessels of {fleets} fleets, all can start"),
            };
            return vec![Finding::ok(FLEETS, what)];
        }
        // The worst first, then by name.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        if findings.len() > FLEET_FINDINGS_MAX {
            let more = findings.len() - FLEET_FINDINGS_MAX;
            findings.truncate(FLEET_FINDINGS_MAX);
            let what = format!("{more} more findings like these");
            findings.push(Finding::warning(FLEETS, what, "see to these first, then look again"));
        }
        findings
    }

    fn foresee(
        &self,
        fleet: &FleetView,
        vessel: &VesselDefinition,
        sandbox: &Sandbox,
    ) -> Vec<Finding> {
        let environment = [("PATH".to_owned(), search_path(vessel).to_owned())];
        let draft = Draft {
            program: &vessel.program,
            working_directory: vessel.working_directory.as_deref(),
            user: fleet.current.definition.user.as_deref(),
            environment: &environment,
        };
        self.launcher.foresee(&draft, sandbox)
    }

    /// What prevents a start of a program of the operator, given by an absolute path.
    pub fn foresee_helper(&self, program: &Program, sandbox: &Sandbox) -> Vec<Finding> {
        let draft = Draft { program, working_directory: None, user: None, environment: &[] };
        self.launcher.foresee(&draft, sandbox)
    }

    /// Whether every secret that a fleet or a setting (`others`) names has a valid value.
    pub fn examine_secrets(&self, others: &[(&str, &SecretName)]) -> Vec<Finding> {
        // By secret: its first user, and the longest name of a variable for it.
        let mut uses: BTreeMap<SecretName, (String, String)> = BTreeMap::new();
        let mut note = |secret: &SecretName, user: String, variable: &str| {
            let (_, longest) = uses.entry(secret.clone()).or_insert((user, String::new()));
            if variable.len() > longest.len() {
                variable.clone_into(longest);
            }
        };
        for (user, secret) in others {
            note(secret, (*user).to_owned(), "");
        }
        for fleet in self.fleets() {
            for vessel in &fleet.current.definition.vessels {
                for (variable, value) in &vessel.environment {
                    if let VariableValue::Secret { secret } = value {
                        note(secret, named(&fleet, &vessel.name), variable);
                    }
                }
            }
            for notify in &fleet.current.definition.notify {
                for secret in notify.target.secrets() {
                    note(secret, named(&fleet, "notify"), "");
                }
            }
        }
        let examined = uses.iter().filter_map(|(secret, (user, variable))| {
            let name = secret.as_str();
            match self.secrets.examine(variable, secret) {
                Err(error) => {
                    let why = match error {
                        SecretError::NoDirectory => "there is no directory of secrets".to_owned(),
                        SecretError::Missing(path) => format!("there is no {}", path.display()),
                        error => error.to_string(),
                    };
                    let what = format!("`{name}`, which {user} needs: {why}");
                    let remedy = format!(
                        "a file {name} in `secrets_dir` holds its value and nothing else, or the \
                         unit loads it: LoadCredential={name}:FILE"
                    );
                    Some(Finding::problem(SECRETS, what, remedy))
                }
                Ok(mode) if mode & 0o007 != 0 => {
                    let what = format!("`{name}`: everybody may read its file (mode {mode:03o})");
                    Some(Finding::warning(SECRETS, what, "chmod o= the file"))
                }
                Ok(_) => None,
            }
        });
        let findings: Vec<Finding> = examined.collect();
        match (findings.is_empty(), uses.len()) {
            (false, _) => findings,
            (true, 0) => vec![Finding::ok(SECRETS, "no fleet names any")],
            (true, 1) => vec![Finding::ok(SECRETS, "the one that is named is there")],
            (true, named) => vec![Finding::ok(SECRETS, format!("all {named} are there"))],
        }
    }

    /// When the last run was accepted, by the clock at that time.
    pub fn last_accepted_at(&self) -> Option<Timestamp> {
        self.storage.runs_before(None).next().map(|run| run.queued_at)
    }

    /// Reads all stored data. After each step it pauses as long as the step has taken, so that requests
    /// come first. `go_on` gets the progress and returns false to end the check.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn verify(
        &self,
        mut go_on: impl FnMut(VerifyProgress) -> bool,
    ) -> Result<VerifyReport, StorageError> {
        let mut began_at = Instant::now();
        let mut step = |progress| {
            std::thread::sleep(began_at.elapsed().min(Duration::from_secs(1)));
            let goes_on = go_on(progress);
            began_at = Instant::now();
            goes_on
        };
        let directory = &self.output_dir;
        let has_output_file = |vessel_run, attempt| has_output(directory, vessel_run, attempt);
        self.storage
            .verify(&mut VerifyCallbacks { step: &mut step, has_output_file: &has_output_file })
    }
}

/// The name of a vessel or another part of a fleet, with project and fleet.
fn named(fleet: &FleetView, part: &str) -> String {
    let (project, name) = (&fleet.project_name, &fleet.fleet.name);
    match project == DEFAULT_PROJECT {
        true => format!("{name}, {part}"),
        false => format!("{project}/{name}, {part}"),
    }
}
