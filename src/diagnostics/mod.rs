//! `boathook doctor`: examines a server and its machine, and gives a remedy with each finding. A
//! module for each check reads facts (thin) and judges them (pure). Most checks run in the server's
//! process, since its permissions and its sandbox count, not those of the caller. They change
//! nothing, but for a temporary file to sync.

use std::path::Path;
use std::sync::Arc;

use crate::config::secrets::SecretStore;
use crate::config::{self, EffectiveSetting, Settings, UnknownVariable};
use crate::engine::{Engine, FleetView};
use crate::listener::forwarding::Forwarding;
use crate::model::environment::Environment;
use crate::model::finding::Finding;
use crate::model::fleet::{FleetDefinition, Program};
use crate::notify::rules;
use crate::os::descriptor_budget::Concurrency;
use crate::runner::output::has_output;
use crate::runner::packages::cache::{Installed, PackageCache};
use crate::runner::user;
use crate::store::{
    OUTPUT_DIRECTORY, OpenError, VerifyCallbacks, VerifyProgress, verify_directory,
};

mod capacity;
mod clock;
mod database;
mod directory;
mod exposure;
mod fleets;
mod listening;
mod mounts;
mod preflight;
mod sandbox;
mod secrets;
mod time_zones;

pub use listening::bind_advice;
use mounts::Mounts;
use preflight::{Candidate, preflight};
use sandbox::Sandbox;

/// Facts about a server that its engine does not know.
#[derive(Clone, Debug)]
pub struct Facts {
    pub settings: Arc<Settings>,
    /// The same for people, with where each comes from.
    pub effective: Vec<EffectiveSetting>,
    /// The concurrency that the settings ask for.
    pub concurrency: Concurrency,
    pub forwarding: Arc<Forwarding>,
}

/// All checks of a running server, except that of the database's content.
pub fn examine(engine: &Engine, facts: &Facts) -> Vec<Finding> {
    let sandbox = Sandbox::of_process();
    let settings = &facts.settings;
    let mut findings = directory::examine(settings, sandbox.mounts());
    findings.push(clock::examine(engine.now(), engine.last_accepted_at()));
    findings.extend(time_zones::examine(&engine.projects()));
    findings.extend(capacity::examine(facts.concurrency));
    findings.extend(exposure::examine(facts, sandbox.is_container()));
    findings.push(settings_file(settings));
    findings.extend(variables(config::unknown_variables()));
    findings.push(identity(settings));
    findings.extend(packages(settings));
    findings.extend(walls(&sandbox));
    let fleets = engine.fleets();
    findings.extend(fleets::examine(&fleets, settings, &sandbox));
    findings.extend(notifications(&fleets, settings, &sandbox));
    let mail = settings.mail.as_ref().and_then(|mail| mail.secret.as_ref());
    let store = SecretStore::of(settings);
    findings.extend(secrets::examine(
        &fleets,
        mail.map(|secret| ("`smtp_secret`", secret)),
        &store,
    ));
    findings
}

/// What keeps the vessels of a fleet that have a `source` from starting, in the words of `doctor`.
pub fn unready_code(fleet: &FleetDefinition, settings: &Settings) -> Vec<String> {
    fleets::unready_code(fleet, settings)
}

/// The whole content of the database, which takes a while. `go_on` gets the progress; it returns
/// false to end the check.
pub fn examine_database(
    engine: &Engine,
    go_on: impl FnMut(VerifyProgress) -> bool,
) -> Vec<Finding> {
    match engine.verify(go_on) {
        Ok(verified) => database::judge(&verified),
        Err(error) => vec![database::unreadable(&error.to_string())],
    }
}

/// The checks that need no server.
pub fn examine_without_server(settings: &Settings) -> Vec<Finding> {
    let mut findings = directory::examine(settings, &Mounts::of_process());
    findings.push(clock::examine(
        crate::model::clock::Clock::now(&crate::model::clock::SystemClock),
        None,
    ));
    findings.extend(time_zones::examine(&[]));
    findings.extend(exposure::free_addresses(settings));
    findings.push(settings_file(settings));
    findings.extend(variables(config::unknown_variables()));
    findings
}

/// [`examine_database`] for a database that no server has open.
pub fn examine_database_in(
    data_dir: &Path,
    mut go_on: impl FnMut(VerifyProgress) -> bool,
) -> Vec<Finding> {
    if let Some(owner) = directory::other_owner(data_dir) {
        // sled would leave files that the server could not read.
        return vec![database::not_ours(data_dir, &owner)];
    }
    let output_dir = data_dir.join(OUTPUT_DIRECTORY);
    let has_output_file = |vessel_run, attempt| has_output(&output_dir, vessel_run, attempt);
    let mut watch = VerifyCallbacks { step: &mut go_on, has_output_file: &has_output_file };
    match verify_directory(data_dir, &mut watch) {
        Ok(verified) => database::judge(&verified),
        Err(OpenError::Directory(error)) => vec![database::not_opened(&error)],
        Err(OpenError::Store(error)) => vec![database::unreadable(&error.to_string())],
    }
}

/// The file for the settings that other findings name.
fn settings_file(settings: &Settings) -> Finding {
    let file = settings.file.display();
    let there = if settings.file.exists() { "" } else { ", which is not there yet" };
    Finding::ok("settings", format!("read from the environment and {file}{there}"))
}

/// Environment variables with the prefix of settings that are no settings.
fn variables(unknown: Vec<UnknownVariable>) -> impl Iterator<Item = Finding> {
    unknown.into_iter().map(|variable| {
        let what = format!("the variable {} is no setting and changes nothing", variable.name);
        Finding::warning("settings", what, variable.advice())
    })
}

/// The user of the server, and so of its vessels.
fn identity(settings: &Settings) -> Finding {
    const CHECK: &str = "user";
    let name = user::own_name();
    if rustix::process::geteuid().is_root() && settings.allowed_users.is_empty() {
        let what = "the server is root, and so is every vessel";
        let remedy = "give it a user of its own, as the packaged unit does; or set `allowed_users`, \
                      and `user` in fleets";
        return Finding::warning(CHECK, what, remedy);
    }
    let others = settings.allowed_users.join(", ");
    let others = if others.is_empty() { others } else { format!(", or {others}") };
    Finding::ok(CHECK, format!("vessels run as {name}{others}"))
}

/// How much is installed for vessels, if the operator allows it.
fn packages(settings: &Settings) -> Option<Finding> {
    const CHECK: &str = "packages";
    settings.install_packages.then(|| {
        if let Some(finding) = directory::writable_by_others(CHECK, &settings.packages_dir) {
            return finding;
        }
        let Installed { environments, bytes } = PackageCache::new(settings).installed();
        let (taken, most) =
            (directory::rounded(bytes), directory::rounded(settings.max_packages_bytes));
        let place = settings.packages_dir.display();
        let what =
            format!("{place}: {environments} installed, {taken} of {most} (`max_packages_bytes`)");
        Finding::ok(CHECK, what)
    })
}

/// The limits of the sandbox for every vessel.
fn walls(sandbox: &Sandbox) -> Option<Finding> {
    const CHECK: &str = "sandbox";
    let walls = sandbox.walls();
    (!walls.is_empty()).then(|| Finding::ok(CHECK, walls.join("; ")))
}

/// Whether the settings allow the notifications of fleets, and whether the allowed commands could
/// start.
fn notifications(fleets: &[FleetView], settings: &Settings, sandbox: &Sandbox) -> Vec<Finding> {
    const CHECK: &str = "notifications";
    let refused = fleets.iter().flat_map(|fleet| {
        let name = fleet.fleet.name.clone();
        let warnings = rules::warnings(settings, &fleet.current.definition).into_iter();
        warnings.map(move |warning| {
            Finding::warning(CHECK, format!("{name}: {warning}"), "allow it, or take it out")
        })
    });
    let commands = settings.notify_commands.iter().flat_map(|command| {
        let program = Program::command([command.as_str()]);
        let (program, environment) = (&program, &Environment::default());
        let candidate = Candidate { program, working_directory: None, user: None, environment };
        let found = preflight(&candidate, &[], sandbox).into_iter();
        found.map(|finding| Finding { check: CHECK.to_owned(), ..finding })
    });
    refused.chain(commands).collect()
}
