//! The JSON of projects, fleets, webhooks and runs in the admin API. It is separate from the stored rows, so
//! that each can change without the other.

use serde::{Serialize, Serializer};

use crate::engine::{FleetView, RunView, WebhookView};
use crate::fleet_file::{Shown, runner_json};
use crate::model::access::Principal;
use crate::model::clock::Timestamp;
use crate::model::computed::Argument;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::confinement::{Confinement, Limits};
use crate::model::event::ArrivalRecord;
use crate::model::exit_meaning::exit_meaning;
use crate::model::fleet::{
    FleetDefinition, FleetVersion, Organization, Program, Project, VesselDefinition,
};
use crate::model::graph::Condition;
use crate::model::guardrails::Guardrails;
use crate::model::ids::{
    FleetId, OrganizationId, ProjectId, RequestId, RunId, VesselId, VesselRunId,
};
use crate::model::notification::{
    EmailNotifications, Format, NotificationRecord, Notify, Recipient, Target,
};
use crate::model::run::{Status, Trigger, VesselRunRecord};
use crate::model::schedule::{Hosted, Schedule};
use crate::model::variable::{FixedValue, SecretName, VariableValue};
use crate::model::webhook::{Token, WebhookSettings};

mod delivery;
mod forecast;
mod source;

pub use delivery::DeliveryJson;
use delivery::{EventJson, NoteJson};
pub(in crate::web) use forecast::ForecastJson;
use source::SourceJson;

#[derive(Serialize)]
pub struct OrganizationJson {
    id: OrganizationId,
    name: String,
}

impl From<Organization> for OrganizationJson {
    fn from(organization: Organization) -> Self {
        Self { id: organization.id, name: organization.name }
    }
}

#[derive(Serialize)]
pub struct ProjectJson {
    id: ProjectId,
    name: String,
    time_zone: String,
    created_at: Timestamp,
    /// How many it has.
    fleets: usize,
}

impl ProjectJson {
    pub fn new(project: Project, fleets: usize) -> Self {
        Self {
            fleets,
            id: project.id,
            name: project.name,
            time_zone: project.time_zone,
            created_at: project.created_at,
        }
    }
}

#[derive(Serialize)]
pub struct FleetJson<'a> {
    id: FleetId,
    name: &'a str,
    project_id: ProjectId,
    project_name: &'a str,
    version: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
    webhook: bool,
    vessels: Vec<VesselJson<'a>>,
    connections: Vec<ConnectionJson<'a>>,
    #[serde(flatten)]
    keys: Shown<'a, FleetDefinition>,
    schedules: Vec<ScheduleJson<'a>>,
    notifications: Option<&'a EmailNotifications>,
    notify: Vec<NotifyJson<'a>>,
    /// Whether `PUT ?by=name` changed anything; absent elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    /// Warnings for the fleet's author about what was just saved; absent without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl<'a> FleetJson<'a> {
    /// The same, with whether an apply has changed it.
    pub fn with_changed(self, changed: bool) -> Self {
        Self { changed: Some(changed), ..self }
    }

    /// The same, with warnings for its author.
    pub fn with_warnings(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

impl<'a> From<&'a FleetView> for FleetJson<'a> {
    fn from(view: &'a FleetView) -> Self {
        let definition = &view.current.definition;
        Self {
            id: view.fleet.id,
            name: &view.fleet.name,
            project_id: view.fleet.project_id,
            project_name: &view.project_name,
            version: view.fleet.version,
            created_at: view.fleet.created_at,
            updated_at: view.fleet.updated_at,
            webhook: view.has_webhook,
            vessels: definition.vessels.iter().map(VesselJson::from).collect(),
            connections: connections(definition),
            keys: Shown::from(definition),
            schedules: definition.schedules.iter().map(ScheduleJson::from).collect(),
            notifications: definition.notifications.as_ref(),
            notify: definition.notify.iter().map(NotifyJson::from).collect(),
            changed: None,
            warnings: Vec::new(),
        }
    }
}

/// A fleet as a token sees it that may start it and no more.
#[derive(Serialize)]
pub struct FleetNameJson<'a> {
    id: FleetId,
    name: &'a str,
    project_id: ProjectId,
    project_name: &'a str,
    version: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> From<&'a FleetView> for FleetNameJson<'a> {
    fn from(FleetView { fleet, project_name, .. }: &'a FleetView) -> Self {
        Self {
            id: fleet.id,
            name: &fleet.name,
            project_id: fleet.project_id,
            project_name,
            version: fleet.version,
            created_at: fleet.created_at,
            updated_at: fleet.updated_at,
        }
    }
}

/// The definition in a fleet file that was only checked.
#[derive(Serialize)]
pub struct DefinitionJson<'a> {
    name: &'a str,
    vessels: Vec<VesselJson<'a>>,
    connections: Vec<ConnectionJson<'a>>,
}

impl<'a> From<&'a FleetDefinition> for DefinitionJson<'a> {
    fn from(definition: &'a FleetDefinition) -> Self {
        Self {
            name: &definition.name,
            vessels: definition.vessels.iter().map(VesselJson::from).collect(),
            connections: connections(definition),
        }
    }
}

/// One schedule, with the words of the hosted system if its file has these.
#[derive(Serialize)]
struct ScheduleJson<'a> {
    #[serde(flatten)]
    keys: Shown<'a, Schedule>,
    #[serde(flatten)]
    hosted: Option<&'a Hosted>,
}

impl<'a> From<&'a Schedule> for ScheduleJson<'a> {
    fn from(schedule: &'a Schedule) -> Self {
        Self { keys: Shown::from(schedule), hosted: schedule.hosted.as_ref() }
    }
}

/// Has `command`, `run` or `source`, as its vessel has an argument vector, a script or code.
#[derive(Serialize)]
struct VesselJson<'a> {
    id: VesselId,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a [Argument]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceJson<'a>>,
    working_directory: Option<&'a str>,
    environment: EnvironmentJson<'a>,
    guardrails: Shown<'a, Guardrails>,
    runner: serde_json::Value,
    /// Without those that are not set.
    limits: Limits,
    #[serde(flatten)]
    keys: Shown<'a, Confinement>,
    notifications: Option<&'a EmailNotifications>,
}

impl<'a> From<&'a VesselDefinition> for VesselJson<'a> {
    fn from(vessel: &'a VesselDefinition) -> Self {
        let (mut command, mut run, mut source) = (None, None, None);
        match &vessel.program {
            Program::Command(arguments) => command = Some(arguments.as_slice()),
            Program::Script(script) => run = Some(script.as_str()),
            Program::Code(code) => source = Some(SourceJson::from(&**code)),
        }
        Self {
            id: vessel.id,
            name: &vessel.name,
            command,
            run,
            source,
            working_directory: vessel.working_directory.as_deref(),
            environment: EnvironmentJson(&vessel.environment),
            guardrails: Shown::from(&vessel.guardrails),
            runner: runner_json(vessel.runner.as_ref()),
            limits: vessel.confinement.limits,
            keys: Shown::from(&vessel.confinement),
            notifications: vessel.notifications.as_ref(),
        }
    }
}

/// A JSON object, in the order of the fleet file. A secret is shown by its name.
struct EnvironmentJson<'a>(&'a [(String, VariableValue)]);

impl Serialize for EnvironmentJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Has `command`, or `url` with `format` and, for signed POSTs, `secret`.
#[derive(Serialize)]
struct NotifyJson<'a> {
    on: &'a [Status],
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a FixedValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format>,
}

impl<'a> From<&'a Notify> for NotifyJson<'a> {
    fn from(entry: &'a Notify) -> Self {
        let on = entry.on.as_slice();
        match &entry.target {
            Target::Command(command) => {
                Self { on, command: Some(command), url: None, secret: None, format: None }
            }
            Target::Url { url, secret, format } => Self {
                on,
                command: None,
                url: Some(url),
                secret: secret.as_ref().map(SecretName::as_str),
                format: Some(*format).filter(|format| *format != Format::default()),
            },
        }
    }
}

#[derive(Serialize)]
struct ConnectionJson<'a> {
    from: &'a str,
    to: &'a str,
    condition: Condition,
}

/// The paths, by the names of their vessels.
fn connections(definition: &FleetDefinition) -> Vec<ConnectionJson<'_>> {
    let name =
        |index: u16| definition.vessels.get(usize::from(index)).map(|vessel| vessel.name.as_str());
    definition
        .paths
        .iter()
        .filter_map(|path| {
            let condition = path.condition;
            Some(ConnectionJson { from: name(path.from)?, to: name(path.to)?, condition })
        })
        .collect()
}

#[derive(Serialize)]
pub struct VersionJson {
    version: u32,
    created_at: Timestamp,
    yaml: String,
    current: bool,
}

impl VersionJson {
    /// `version` with its content as `yaml`; `current` is the number of the fleet's current one.
    pub fn new(version: &FleetVersion, yaml: String, current: u32) -> Self {
        Self {
            version: version.version,
            created_at: version.created_at,
            yaml,
            current: version.version == current,
        }
    }
}

#[derive(Serialize)]
pub struct WebhookJson<'a> {
    /// `None`: the token may not see it. So for a previous one.
    url: Option<String>,
    fleet_id: FleetId,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
    previous: Option<PreviousJson>,
    paused_at: Option<Timestamp>,
    handshake_until: Option<Timestamp>,
    #[serde(flatten)]
    settings: Shown<'a, WebhookSettings>,
}

#[derive(Serialize)]
struct PreviousJson {
    url: Option<String>,
    valid_until: Timestamp,
}

impl<'a> WebhookJson<'a> {
    /// `webhook` with URLs below `public_base`; without them for a principal that may not see them.
    pub fn new(
        WebhookView { webhook, current }: &'a WebhookView,
        public_base: &str,
        principal: &Principal,
    ) -> Self {
        let shown = |token: &Token| principal.sees_webhook_urls().then(|| token.url(public_base));
        Self {
            url: shown(&webhook.token),
            fleet_id: webhook.fleet_id,
            created_at: webhook.created_at,
            last_used_at: webhook.last_used_at,
            previous: webhook.previous.as_ref().map(|previous| PreviousJson {
                url: shown(&previous.token),
                valid_until: previous.valid_until,
            }),
            paused_at: webhook.paused_at,
            handshake_until: webhook.handshake_until,
            settings: Shown::from(&current.definition.webhook),
        }
    }
}

#[derive(Serialize)]
pub struct RunJson<'a> {
    id: RunId,
    fleet_id: FleetId,
    fleet_name: &'a str,
    /// `true`; absent while its fleet is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet_deleted: Option<bool>,
    fleet_version: u32,
    project_id: ProjectId,
    trigger: Trigger,
    status: Status,
    reason: Option<&'a str>,
    replay_of: Option<RunId>,
    /// Its value of the fleet's `concurrency_key`; absent of runs without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_key: Option<ConcurrencyKey>,
    /// Until when `debounce` lets it wait for more; absent of other runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_until: Option<Timestamp>,
    /// The due time of the schedule that started it; absent of other runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_time: Option<Timestamp>,
    event: Option<EventJson>,
    /// The first run of the event, if that ended without success.
    first_run: Option<RunId>,
    /// The delivery that started it.
    delivery_id: Option<RequestId>,
    /// What verification would have refused it for, or what is odd about its event.
    note: Option<NoteJson>,
    queued_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    duration_ms: Option<u64>,
    vessels: Vec<VesselRunJson<'a>>,
    /// Undelivered notifications of its end; only where one run is shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notifications: Vec<NotificationJson<'a>>,
}

/// A notification that is not delivered: yet, or for good.
#[derive(Serialize)]
struct NotificationJson<'a> {
    recipient: Recipient,
    attempts: u32,
    problem: Option<&'a str>,
    /// `None`: it is given up.
    next_attempt_at: Option<Timestamp>,
}

/// The run as JSON.
pub fn run_json(view: &RunView) -> String {
    // Its types always have a JSON form.
    serde_json::to_string(&RunJson::from(view)).unwrap_or_else(|_| "null".to_owned())
}

impl<'a> RunJson<'a> {
    /// `view` as `principal` sees it: its status alone, or all of it.
    pub fn new(view: &'a RunView, principal: &Principal) -> Self {
        let shown = Self::from(view);
        match principal.sees_status_only() {
            true => Self { event: None, first_run: None, delivery_id: None, note: None, ..shown },
            false => shown,
        }
    }

    /// The same, with the undelivered notifications of its end.
    pub fn with_notifications(self, records: &'a [NotificationRecord]) -> Self {
        let notifications = records.iter().map(|record| NotificationJson {
            recipient: record.recipient,
            attempts: record.attempts,
            problem: record.problem.as_deref(),
            next_attempt_at: (!record.given_up).then_some(record.due_at),
        });
        Self { notifications: notifications.collect(), ..self }
    }
}

impl<'a> From<&'a RunView> for RunJson<'a> {
    fn from(RunView { run, is_fleet_deleted, vessels }: &'a RunView) -> Self {
        let ArrivalRecord { event, first_run, note, delivery, due_at, key, hold, .. } =
            run.arrival();
        let hold = hold.filter(|_| run.status == Status::Scheduled);
        let own_delivery = || (run.trigger == Trigger::Webhook).then(|| RequestId::of_run(run.id));
        Self {
            id: run.id,
            fleet_id: run.fleet_id,
            fleet_name: &run.fleet_name,
            fleet_deleted: is_fleet_deleted.then_some(true),
            fleet_version: run.fleet_version,
            project_id: run.project_id,
            trigger: run.trigger,
            status: run.status,
            reason: run.reason.as_deref(),
            replay_of: run.replay_of,
            concurrency_key: key,
            waits_until: hold.map(|hold| hold.until),
            scheduled_time: due_at,
            event: EventJson::of(&event),
            first_run,
            delivery_id: delivery.or_else(own_delivery),
            note: note.as_ref().map(NoteJson::from),
            queued_at: run.queued_at,
            started_at: run.started_at,
            ended_at: run.ended_at,
            duration_ms: duration_ms(run.started_at, run.ended_at),
            vessels: vessels.iter().map(VesselRunJson::from).collect(),
            notifications: Vec::new(),
        }
    }
}

#[derive(Serialize)]
pub struct VesselRunJson<'a> {
    id: VesselRunId,
    vessel_id: VesselId,
    vessel_name: &'a str,
    status: Status,
    attempt: u32,
    exit_code: Option<i32>,
    signal: Option<i32>,
    reason: Option<&'a str>,
    /// What the exit code or the signal means; absent where there is nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    meaning: Option<String>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    duration_ms: Option<u64>,
}

impl<'a> From<&'a VesselRunRecord> for VesselRunJson<'a> {
    fn from(vessel: &'a VesselRunRecord) -> Self {
        Self {
            id: vessel.id,
            vessel_id: vessel.vessel_id,
            vessel_name: &vessel.vessel_name,
            status: vessel.status,
            attempt: vessel.attempt,
            exit_code: vessel.exit_code,
            signal: vessel.signal,
            reason: vessel.reason.as_deref(),
            meaning: exit_meaning(vessel),
            started_at: vessel.started_at,
            ended_at: vessel.ended_at,
            duration_ms: duration_ms(vessel.started_at, vessel.ended_at),
        }
    }
}

/// How long something took that has started and ended.
fn duration_ms(started_at: Option<Timestamp>, ended_at: Option<Timestamp>) -> Option<u64> {
    let duration = ended_at?.since(started_at?);
    u64::try_from(duration.as_millis()).ok()
}

#[cfg(test)]
mod tests;
