//! Whether every vessel of every fleet could start now, and what would be in its way.

use super::preflight::{Candidate, preflight};
use super::sandbox::Sandbox;
use crate::config::Settings;
use crate::engine::{FleetView, search_path};
use crate::model::environment::Environment;
use crate::model::finding::{Finding, Level};
use crate::model::fleet::{DEFAULT_PROJECT, FleetDefinition, Program, VesselDefinition};
use crate::runner::packages::machine::{lack_for, missing_system_packages};
use crate::runner::reason::Reason;

const CHECK: &str = "fleets";
/// Findings that are listed one by one. More have a common cause.
const FINDINGS_MAX: usize = 100;

pub(super) fn examine(
    fleets: &[FleetView],
    settings: &Settings,
    sandbox: &Sandbox,
) -> Vec<Finding> {
    let (mut findings, mut vessels) = (Vec::new(), 0);
    for fleet in fleets {
        for vessel in &fleet.current.definition.vessels {
            vessels += 1;
            let definition = &fleet.current.definition;
            let found = examine_vessel(definition, vessel, settings, sandbox).into_iter();
            findings.extend(found.map(|finding| {
                let what = format!("{}: {}", part_of(fleet, &vessel.name), finding.what);
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
        return vec![Finding::ok(CHECK, what)];
    }
    // The worst first, otherwise in the order of names.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    if findings.len() > FINDINGS_MAX {
        let more = findings.len() - FINDINGS_MAX;
        findings.truncate(FINDINGS_MAX);
        let what = format!("{more} more findings like these");
        findings.push(Finding::warning(CHECK, what, "see to these first, then look again"));
    }
    findings
}

/// What keeps the vessels of `fleet` that have a `source` from starting.
pub(super) fn unready_code(fleet: &FleetDefinition, settings: &Settings) -> Vec<String> {
    let has_code = |vessel: &&VesselDefinition| matches!(vessel.program, Program::Code(_));
    let mut vessels = fleet.vessels.iter().filter(has_code).peekable();
    if vessels.peek().is_none() {
        return Vec::new();
    }
    let sandbox = Sandbox::of_process();
    let problems = |vessel: &VesselDefinition| {
        let found = examine_vessel(fleet, vessel, settings, &sandbox).into_iter();
        let found = found.filter(|finding| finding.level == Level::Problem);
        let shown = found.map(|Finding { what, remedy, .. }| {
            let remedy = remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
            format!("vessels.{}: {what}{remedy}", vessel.name)
        });
        shown.collect::<Vec<_>>()
    };
    vessels.flat_map(problems).collect()
}

fn examine_vessel(
    definition: &FleetDefinition,
    vessel: &VesselDefinition,
    settings: &Settings,
    sandbox: &Sandbox,
) -> Vec<Finding> {
    let runner = match settings.runners.of(definition, vessel) {
        Ok(runner) => runner.cloned().unwrap_or_default(),
        Err(unknown) => return vec![Finding::problem(CHECK, unknown.to_string(), "")],
    };
    let environment = Environment::from_iter([("PATH", search_path(vessel))]);
    let examine = |program: &Program| {
        let candidate = Candidate {
            program,
            working_directory: vessel.working_directory.as_deref(),
            user: definition.user.as_deref(),
            environment: &environment,
        };
        preflight(&candidate, &settings.allowed_users, sandbox)
    };
    // The vessel's own program is the runner's to find, maybe on another machine.
    let command = |words: &[String]| Program::command(words.iter().map(String::as_str));
    let mut findings = match runner.command.is_empty() {
        true => {
            let mut findings = examine(&vessel.program);
            findings.extend(lack_of_packages(vessel, &environment, settings));
            findings
        }
        false => {
            let mut findings = examine(&command(&runner.command));
            let names_packages =
                matches!(&vessel.program, Program::Code(code) if !code.packages.is_empty());
            findings.extend(names_packages.then(|| {
                let what = "its packages are not installed, as it has a runner";
                Finding::problem(CHECK, what, "have the runner's image or machine bring them")
            }));
            findings
        }
    };
    if !runner.cleanup.is_empty() {
        let more = examine(&command(&runner.cleanup));
        findings.extend(more.into_iter().filter(|it| !findings.contains(it)).collect::<Vec<_>>());
    }
    findings
}

/// What keeps the packages of the vessel's code from being there.
fn lack_of_packages(
    vessel: &VesselDefinition,
    environment: &Environment,
    settings: &Settings,
) -> Vec<Finding> {
    let Program::Code(code) = &vessel.program else { return Vec::new() };
    let system = missing_system_packages(&code.system_packages);
    let own = match (code.packages.is_empty(), settings.install_packages) {
        (true, _) => None,
        (false, true) => lack_for(code, environment),
        (false, false) => Some(Reason::new(
            "its packages are not installed",
            "allow it with the setting `install_packages = true`, or remove `packages`",
        )),
    };
    let lacking = system.into_iter().chain(own);
    lacking.map(|Reason { what, remedy }| Finding::problem(CHECK, what, remedy)).collect()
}

/// The name of a vessel, or of another part of a fleet, with its fleet and project.
pub(super) fn part_of(fleet: &FleetView, part: &str) -> String {
    let (project, name) = (&fleet.project_name, &fleet.fleet.name);
    match project == DEFAULT_PROJECT {
        true => format!("{name}, {part}"),
        false => format!("{project}/{name}, {part}"),
    }
}
