//! The environment of a vessel, built from scratch for every attempt but for its [`VesselBase`]. Pure: a
//! test compares all of it with a table.

use std::fmt::Display;

use crate::model::clock::Timestamp;
use crate::model::environment::Environment;
use crate::model::fleet::{Organization, Project, VesselDefinition};
use crate::model::ids::InstanceId;
use crate::model::limits::ARGUMENT_BYTES_MAX;
use crate::model::request::RequestHead;
use crate::model::variable::{FixedValue, VariableValue};
use crate::runner::{parameter_file_names, response_file_name};
use crate::scheduler::Claim;

mod base;

pub use base::VesselBase;
pub(super) use base::VesselBases;

/// The search path of programs, unless the fleet sets its own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables that the server gives to vessels, some of them only where there is a value.
const NAMES: [&str; 46] = [
    "BOATHOOK_ATTEMPT",
    "BOATHOOK_FLEET_RUN_ID",
    "BOATHOOK_INSTANCE",
    "BOATHOOK_REMOTE_ADDR",
    "BOATHOOK_RESPONSE_FILE",
    "BOATHOOK_TRIGGER",
    "BOATHOOK_WEBHOOK_BODY",
    "BOATHOOK_WEBHOOK_CONTENT_TYPE",
    "BOATHOOK_WEBHOOK_HEADERS",
    "BOATHOOK_WEBHOOK_QUERY",
    "HOME",
    "LANG",
    "PATH",
    "SHIPYARD_BLUEPRINT_ID",
    "SHIPYARD_BLUEPRINT_NAME",
    "SHIPYARD_CLONE_LOCATION",
    "SHIPYARD_FLEET_CURRENTSTREAM_COUNT",
    "SHIPYARD_FLEET_CURRENTSTREAM_INDEX",
    "SHIPYARD_FLEET_CURRENTSTREAM_LOG_IDS",
    "SHIPYARD_FLEET_CURRENTSTREAM_VESSEL_IDS",
    "SHIPYARD_FLEET_DOWNSTREAM_COUNT",
    "SHIPYARD_FLEET_DOWNSTREAM_LOG_IDS",
    "SHIPYARD_FLEET_DOWNSTREAM_VESSEL_IDS",
    "SHIPYARD_FLEET_ID",
    "SHIPYARD_FLEET_LOG_ID",
    "SHIPYARD_FLEET_NAME",
    "SHIPYARD_FLEET_SCHEDULED_TIME",
    "SHIPYARD_FLEET_START_TIME",
    "SHIPYARD_FLEET_UPSTREAM_COUNT",
    "SHIPYARD_FLEET_UPSTREAM_LOG_IDS",
    "SHIPYARD_FLEET_UPSTREAM_VESSEL_IDS",
    "SHIPYARD_LOG_ID",
    "SHIPYARD_LOG_WORKDIR",
    "SHIPYARD_ORG_ID",
    "SHIPYARD_ORG_NAME",
    "SHIPYARD_PROJECT_ID",
    "SHIPYARD_PROJECT_NAME",
    "SHIPYARD_REPO_NAME",
    "SHIPYARD_VESSEL_ID",
    "SHIPYARD_VESSEL_NAME",
    "SHIPYARD_VESSEL_SCHEDULED_TIME",
    "SHIPYARD_VESSEL_START_TIME",
    "SHIPYARD_WEBHOOK_BODY_FILE",
    "SHIPYARD_WEBHOOK_HEADERS_FILE",
    "TZ",
    "USER",
];
/// The times among them, which come in parts as well.
const TIMES: [&str; 2] = ["SHIPYARD_FLEET_START_TIME_", "SHIPYARD_VESSEL_START_TIME_"];
const TIME_PARTS: [&str; 8] =
    ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "EPOCH"];

/// The inputs of the environment of one attempt.
pub struct EnvironmentInputs<'a> {
    pub organization: &'a Organization,
    pub project: &'a Project,
    /// Of the vessel in its version.
    pub base: &'a VesselBase,
    pub instance: InstanceId,
    /// The name of the user that the vessel runs as.
    pub user: &'a str,
    pub claim: &'a Claim,
    pub head: &'a RequestHead,
    /// The body, if it is text that fits into an environment string.
    pub body_text: Option<&'a str>,
    /// The headers as JSON, if there are any.
    pub headers_json: Option<&'a str>,
    pub work_directory: &'a str,
    /// The vessel's own variables ([`own_variables`]) with their values.
    pub own: &'a [(String, String)],
}

/// The room that the variables of an attempt take beside those of its base, most of the time.
const MORE_VARIABLES: usize = 56;
const MORE_BYTES: usize = 4096;

/// The environment of the attempt.
pub fn environment(inputs: &EnvironmentInputs<'_>) -> Environment {
    let mut environment = inputs.base.variables().with_room(MORE_VARIABLES, MORE_BYTES);
    environment.set("HOME", inputs.work_directory);
    environment.set("TZ", &inputs.project.time_zone);
    environment.set("USER", inputs.user);
    set_identity(&mut environment, inputs);
    inputs.base.set_logs(&mut environment, inputs.claim.run.id);
    set_request(&mut environment, inputs);
    if let Some(place) = inputs.base.clone_location() {
        let directory = inputs.work_directory;
        environment.set("SHIPYARD_CLONE_LOCATION", format_args!("{directory}{place}"));
    }
    for (name, value) in inputs.own {
        environment.replace(name, value);
    }
    environment
}

/// Sets a value from the request, if it fits into an environment string.
fn set_if_fits(environment: &mut Environment, name: &str, value: &str) {
    // NAME=value and a NUL.
    let fits = name.len() + 1 + value.len() <= ARGUMENT_BYTES_MAX;
    if fits && !value.contains('\0') {
        environment.set(name, value);
    }
}

/// Sets a time and its parts.
fn set_start_time(environment: &mut Environment, prefix: &str, time: Timestamp) {
    let utc = time.to_jiff().to_zoned_datetime(jiff::tz::TimeZone::UTC);
    environment.set(prefix, whole_seconds(time));
    let mut set = |part: &str, value: &dyn Display| {
        environment.set(format_args!("{prefix}_{part}"), value);
    };
    set("YEAR", &utc.year());
    set("MONTH", &format_args!("{:02}", utc.month()));
    set("DAY", &format_args!("{:02}", utc.day()));
    set("HOUR", &utc.hour());
    set("MINUTE", &utc.minute());
    set("SECOND", &utc.second());
    set("MILLISECOND", &utc.millisecond());
    set("EPOCH", &time.to_jiff().as_second());
}

/// Whether `vessel` may have a variable called `name`, unless a run takes it away.
pub fn has_variable(vessel: &VesselDefinition, name: &str) -> bool {
    let part = TIMES.iter().find_map(|time| name.strip_prefix(time));
    NAMES.contains(&name)
        || part.is_some_and(|part| TIME_PARTS.contains(&part))
        || vessel.environment.iter().any(|(own, _)| own == name)
}

/// The search path of a vessel's programs, unless a run overrides it.
pub fn search_path(vessel: &VesselDefinition) -> &str {
    let own = vessel.environment.iter().find(|(name, _)| name == "PATH");
    match own {
        Some((_, VariableValue::Fixed(FixedValue::Literal(path)))) => path,
        _ => PATH,
    }
}

/// The vessel's variables in this run: those of the fleet that the run does not override, then those
/// of the run.
pub fn own_variables(
    vessel: &VesselDefinition,
    head: &RequestHead,
) -> Vec<(String, VariableValue)> {
    let overrides = head.overrides.of(&vessel.name).map(|it| &it.environment);
    let is_kept = |name: &str| overrides.is_none_or(|overrides| !overrides.contains_key(name));
    let kept = vessel.environment.iter().filter(|(name, _)| is_kept(name)).cloned();
    let set = overrides
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_deref()?.into())));
    kept.chain(set).collect()
}

/// The form of times in the hosted system. Programs parse it with that very pattern.
fn whole_seconds(time: Timestamp) -> impl Display {
    time.to_jiff().strftime("%Y-%m-%dT%H:%M:%SZ")
}

fn set_identity(environment: &mut Environment, inputs: &EnvironmentInputs<'_>) {
    let EnvironmentInputs { organization, project, claim, .. } = inputs;
    let run = &claim.run;
    environment.set("SHIPYARD_ORG_ID", organization.id);
    environment.set("SHIPYARD_ORG_NAME", &organization.name);
    environment.set("SHIPYARD_PROJECT_ID", project.id);
    environment.set("SHIPYARD_PROJECT_NAME", &project.name);
    environment.set("SHIPYARD_LOG_ID", claim.vessel_run);
    environment.set("SHIPYARD_LOG_WORKDIR", inputs.work_directory);
    set_start_time(environment, "SHIPYARD_VESSEL_START_TIME", claim.started_at);
    let scheduled_at =
        if inputs.base.is_first() { run.scheduled_time() } else { claim.scheduled_at };
    environment.set("SHIPYARD_VESSEL_SCHEDULED_TIME", whole_seconds(scheduled_at));
    environment.set("SHIPYARD_FLEET_ID", run.fleet_id);
    environment.set("SHIPYARD_FLEET_NAME", &run.fleet_name);
    environment.set("SHIPYARD_FLEET_LOG_ID", run.id);
    let started_at = run.started_at.unwrap_or(claim.started_at);
    set_start_time(environment, "SHIPYARD_FLEET_START_TIME", started_at);
    environment.set("SHIPYARD_FLEET_SCHEDULED_TIME", whole_seconds(run.scheduled_time()));
    environment.set("BOATHOOK_INSTANCE", inputs.instance);
    environment.set("BOATHOOK_FLEET_RUN_ID", run.id);
    environment.set("BOATHOOK_TRIGGER", run.trigger.word());
    environment.set("BOATHOOK_ATTEMPT", claim.attempt);
}

fn set_request(environment: &mut Environment, inputs: &EnvironmentInputs<'_>) {
    let EnvironmentInputs { claim, head, work_directory, .. } = inputs;
    let (headers_file, body_file) = parameter_file_names(claim.run.id);
    if let Some(headers_json) = inputs.headers_json {
        let file = format_args!("{work_directory}/{headers_file}");
        environment.set("SHIPYARD_WEBHOOK_HEADERS_FILE", file);
        set_if_fits(environment, "BOATHOOK_WEBHOOK_HEADERS", headers_json);
    }
    if claim.run.payload.body_bytes > 0 {
        let file = format_args!("{work_directory}/{body_file}");
        environment.set("SHIPYARD_WEBHOOK_BODY_FILE", file);
    }
    if let Some(body) = inputs.body_text {
        set_if_fits(environment, "BOATHOOK_WEBHOOK_BODY", body);
    }
    if claim.version.definition.may_answer(claim.vessel) {
        let file = response_file_name(claim.vessel_run);
        environment.set("BOATHOOK_RESPONSE_FILE", format_args!("{work_directory}/{file}"));
    }
    let content_type = head.header("Content-Type").unwrap_or_default();
    set_if_fits(environment, "BOATHOOK_WEBHOOK_QUERY", &head.query);
    set_if_fits(environment, "BOATHOOK_WEBHOOK_CONTENT_TYPE", content_type);
    set_if_fits(environment, "BOATHOOK_REMOTE_ADDR", &head.remote_addr);
}

#[cfg(test)]
mod tests;
