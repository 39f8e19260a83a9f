//! The environment of a vessel, built from scratch for every attempt. Pure: a test compares all of it
//! with a table.

use crate::model::clock::Timestamp;
use crate::model::fleet::{FleetVersion, Organization, Program, Project, VesselDefinition};
use crate::model::ids::{InstanceId, RunId};
use crate::model::limits::ARGUMENT_BYTES_MAX;
use crate::model::request::RequestHead;
use crate::model::source::{Code, Origin};
use crate::model::variable::{FixedValue, VariableValue};
use crate::runner::{parameter_file_names, response_file_name};
use crate::scheduler::{Claim, graph_of};

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

/// The environment under construction.
#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    /// Sets a variable of the server. Each is set in one place.
    fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Sets a variable of the vessel. It replaces a variable of the server of the same name.
    fn replace(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(existing, _)| existing == name) {
            Some(entry) => value.clone_into(&mut entry.1),
            None => self.set(name, value),
        }
    }

    /// Sets a value from the request, if it fits into an environment string.
    fn set_if_fits(&mut self, name: &str, value: &str) {
        // NAME=value and a NUL.
        let fits = name.len() + 1 + value.len() <= ARGUMENT_BYTES_MAX;
        if fits && !value.contains('\0') {
            self.set(name, value);
        }
    }

    /// Sets a time and its parts.
    fn set_start_time(&mut self, prefix: &str, time: Timestamp) {
        let utc = time.to_jiff().to_zoned_datetime(jiff::tz::TimeZone::UTC);
        self.set(prefix, whole_seconds(time));
        self.set(format!("{prefix}_YEAR"), utc.year().to_string());
        self.set(format!("{prefix}_MONTH"), format!("{:02}", utc.month()));
        self.set(format!("{prefix}_DAY"), format!("{:02}", utc.day()));
        self.set(format!("{prefix}_HOUR"), utc.hour().to_string());
        self.set(format!("{prefix}_MINUTE"), utc.minute().to_string());
        self.set(format!("{prefix}_SECOND"), utc.second().to_string());
        self.set(format!("{prefix}_MILLISECOND"), utc.millisecond().to_string());
        self.set(format!("{prefix}_EPOCH"), time.to_jiff().as_second().to_string());
    }

    /// Sets the vessels in one direction of the graph.
    fn set_stream(&mut self, name: &str, version: &FleetVersion, run: RunId, vessels: &[usize]) {
        let join = |ids: Vec<String>| ids.join(",");
        let logs = vessels.iter().map(|vessel| run.vessel_run(*vessel).to_string()).collect();
        let definitions = &version.definition.vessels;
        let ids = vessels.iter().map(|vessel| definitions[*vessel].id.to_string()).collect();
        self.set(format!("SHIPYARD_FLEET_{name}_COUNT"), vessels.len().to_string());
        self.set(format!("SHIPYARD_FLEET_{name}_LOG_IDS"), join(logs));
        self.set(format!("SHIPYARD_FLEET_{name}_VESSEL_IDS"), join(ids));
    }
}

/// The environment of the attempt, as (name, value) pairs with unique names.
pub fn environment(inputs: &EnvironmentInputs<'_>) -> Vec<(String, String)> {
    let claim = inputs.claim;
    let vessel = &claim.version.definition.vessels[claim.vessel];
    let mut environment = Environment(Vec::with_capacity(72));
    environment.set("PATH", PATH);
    environment.set("HOME", inputs.work_directory);
    environment.set("LANG", "C.UTF-8");
    environment.set("TZ", &inputs.project.time_zone);
    environment.set("USER", inputs.user);
    set_identity(&mut environment, inputs);
    set_graph(&mut environment, claim);
    set_request(&mut environment, inputs);
    if let Program::Code(code) = &vessel.program {
        set_code(&mut environment, code, inputs.work_directory);
    }
    for (name, value) in inputs.own {
        environment.replace(name, value);
    }
    environment.0
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

/// Sets what only a vessel with a `source` has.
fn set_code(environment: &mut Environment, code: &Code, work_directory: &str) {
    // The hosted system runs code by a blueprint per language, whose id is no UUID.
    environment.set("SHIPYARD_BLUEPRINT_ID", code.language.word().to_ascii_lowercase());
    environment.set("SHIPYARD_BLUEPRINT_NAME", code.language.title());
    if let Origin::Git(git) = &code.origin {
        let place = git.directory().map(|directory| format!("/{directory}")).unwrap_or_default();
        environment.set("SHIPYARD_REPO_NAME", git.name());
        environment.set("SHIPYARD_CLONE_LOCATION", format!("{work_directory}{place}"));
    }
}

/// The form of times in the hosted system. Programs parse it with that very pattern.
fn whole_seconds(time: Timestamp) -> String {
    time.to_jiff().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn set_identity(environment: &mut Environment, inputs: &EnvironmentInputs<'_>) {
    let EnvironmentInputs { organization, project, claim, .. } = inputs;
    let vessel = &claim.version.definition.vessels[claim.vessel];
    let run = &claim.run;
    environment.set("SHIPYARD_ORG_ID", organization.id.to_string());
    environment.set("SHIPYARD_ORG_NAME", &organization.name);
    environment.set("SHIPYARD_PROJECT_ID", project.id.to_string());
    environment.set("SHIPYARD_PROJECT_NAME", &project.name);
    environment.set("SHIPYARD_VESSEL_ID", vessel.id.to_string());
    environment.set("SHIPYARD_VESSEL_NAME", &vessel.name);
    environment.set("SHIPYARD_LOG_ID", claim.vessel_run.to_string());
    environment.set("SHIPYARD_LOG_WORKDIR", inputs.work_directory);
    environment.set_start_time("SHIPYARD_VESSEL_START_TIME", claim.started_at);
    let is_first = graph_of(&claim.version).upstream(claim.vessel).next().is_none();
    let scheduled_at = if is_first { run.scheduled_time() } else { claim.scheduled_at };
    environment.set("SHIPYARD_VESSEL_SCHEDULED_TIME", whole_seconds(scheduled_at));
    environment.set("SHIPYARD_FLEET_ID", run.fleet_id.to_string());
    environment.set("SHIPYARD_FLEET_NAME", &run.fleet_name);
    environment.set("SHIPYARD_FLEET_LOG_ID", run.id.to_string());
    let started_at = run.started_at.unwrap_or(claim.started_at);
    environment.set_start_time("SHIPYARD_FLEET_START_TIME", started_at);
    environment.set("SHIPYARD_FLEET_SCHEDULED_TIME", whole_seconds(run.scheduled_time()));
    environment.set("BOATHOOK_INSTANCE", inputs.instance.to_string());
    environment.set("BOATHOOK_FLEET_RUN_ID", run.id.to_string());
    environment.set("BOATHOOK_TRIGGER", run.trigger.word());
    environment.set("BOATHOOK_ATTEMPT", claim.attempt.to_string());
}

fn set_graph(environment: &mut Environment, claim: &Claim) {
    let graph = graph_of(&claim.version);
    if graph.is_empty() {
        return;
    }
    let (version, run) = (&claim.version, claim.run.id);
    let upstream: Vec<usize> = graph.upstream(claim.vessel).collect();
    let current = graph.currentstream(claim.vessel);
    let index = current.iter().position(|vessel| *vessel == claim.vessel).unwrap_or(0);
    environment.set_stream("UPSTREAM", version, run, &upstream);
    environment.set_stream("CURRENTSTREAM", version, run, &current);
    environment.set_stream("DOWNSTREAM", version, run, graph.downstream(claim.vessel));
    environment.set("SHIPYARD_FLEET_CURRENTSTREAM_INDEX", index.to_string());
}

fn set_request(environment: &mut Environment, inputs: &EnvironmentInputs<'_>) {
    let EnvironmentInputs { claim, head, work_directory, .. } = inputs;
    let (headers_file, body_file) = parameter_file_names(claim.run.id);
    if let Some(headers_json) = inputs.headers_json {
        environment
            .set("SHIPYARD_WEBHOOK_HEADERS_FILE", format!("{work_directory}/{headers_file}"));
        environment.set_if_fits("BOATHOOK_WEBHOOK_HEADERS", headers_json);
    }
    if claim.run.payload.body_bytes > 0 {
        environment.set("SHIPYARD_WEBHOOK_BODY_FILE", format!("{work_directory}/{body_file}"));
    }
    if let Some(body) = inputs.body_text {
        environment.set_if_fits("BOATHOOK_WEBHOOK_BODY", body);
    }
    if claim.version.definition.may_answer(claim.vessel) {
        let file = response_file_name(claim.vessel_run);
        environment.set("BOATHOOK_RESPONSE_FILE", format!("{work_directory}/{file}"));
    }
    environment.set_if_fits("BOATHOOK_WEBHOOK_QUERY", &head.query);
    environment.set_if_fits(
        "BOATHOOK_WEBHOOK_CONTENT_TYPE",
        head.header("Content-Type").unwrap_or_default(),
    );
    environment.set_if_fits("BOATHOOK_REMOTE_ADDR", &head.remote_addr);
}

#[cfg(test)]
mod tests;
