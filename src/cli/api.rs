//! What the admin API answers, as far as the command line shows it. Fields that it does not show
//! are not named here, so that a newer server may send more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::locate::quoted;
use crate::model::clock::Timestamp;
use crate::model::fleet::DEFAULT_PROJECT;
use crate::model::network::Networks;
use crate::model::rate::Rate;
use crate::model::run::Status;

/// A fleet in its current version.
#[derive(Clone, Debug, Deserialize)]
pub struct Fleet {
    pub id: String,
    pub name: String,
    pub project_name: String,
    pub version: u32,
    pub updated_at: Timestamp,
    #[serde(default)]
    pub webhook: bool,
    #[serde(default)]
    pub vessels: Vec<Vessel>,
    #[serde(default)]
    pub connections: Vec<Connection>,
    #[serde(default)]
    pub concurrency: Option<u32>,
    #[serde(default)]
    pub concurrency_key: Option<String>,
    #[serde(default)]
    pub overlap: Option<String>,
    #[serde(default)]
    pub debounce: Option<Debounce>,
    #[serde(default)]
    pub priority: i8,
    #[serde(default)]
    pub delivery: Option<String>,
    #[serde(default)]
    pub keep_runs: Option<String>,
    /// Only in the answer to an apply.
    #[serde(default)]
    pub changed: bool,
    /// What its author should know, in the answer to an apply.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How long a fleet's requests wait for more of their key.
#[derive(Clone, Debug, Deserialize)]
pub struct Debounce {
    pub wait: String,
    pub max_wait: String,
}

impl Fleet {
    /// What to call it on a command line, where no option is expected.
    pub fn argument(&self) -> String {
        let with_project = format!("{}/{}", self.project_name, self.name);
        let is_default = self.project_name == DEFAULT_PROJECT;
        let names = [is_default.then_some(&self.name), Some(&with_project)];
        // A word that begins with `-` would be taken for an option.
        let name = names.into_iter().flatten().find(|name| !name.starts_with('-'));
        quoted(name.unwrap_or(&self.id))
    }
}

/// A project.
#[derive(Clone, Debug, Deserialize)]
pub struct Project {
    pub id: String,
    pub name: String,
    /// An IANA name.
    pub time_zone: String,
    pub created_at: Timestamp,
}

/// A token of the admin API.
#[derive(Clone, Deserialize)]
pub struct AccessToken {
    pub id: String,
    pub name: String,
    pub role: String,
    pub created_at: Timestamp,
    #[serde(default)]
    pub created_by: String,
    #[serde(default)]
    pub project_id: Option<String>,
    #[serde(default)]
    pub project_name: Option<String>,
    #[serde(default)]
    pub fleet_id: Option<String>,
    #[serde(default)]
    pub fleet_name: Option<String>,
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    #[serde(default)]
    pub is_expired: bool,
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
    /// The secret, in the answer that makes it.
    #[serde(default)]
    pub token: Option<String>,
}

impl AccessToken {
    /// What it is limited to, for a table.
    pub fn limit(&self) -> String {
        let gone = "(deleted)";
        let project = self.project_name.as_deref().unwrap_or(gone);
        match (&self.fleet_id, &self.project_id) {
            (Some(_), _) => match &self.fleet_name {
                Some(fleet) => format!("fleet {project}/{fleet}"),
                None => format!("fleet {gone}"),
            },
            (None, Some(_)) => format!("project {project}"),
            (None, None) => "-".to_owned(),
        }
    }
}

/// A sample event that was sent to a webhook, and what that answered.
#[derive(Clone, Debug, Deserialize)]
pub struct SentSample {
    pub preset: Option<String>,
    pub event_id: String,
    pub event_type: String,
    pub is_signed: bool,
    pub status: u16,
    pub fleet_run_id: Option<String>,
}

/// A secret, without its value.
#[derive(Clone, Debug, Deserialize)]
pub struct Secret {
    pub name: String,
    /// `None`: it is missing.
    pub set_at: Option<Timestamp>,
    #[serde(default)]
    pub read_only: bool,
    #[serde(default)]
    pub fleets: Vec<FleetName>,
    /// The settings of the server that name it.
    #[serde(default)]
    pub settings: Vec<String>,
}

impl Secret {
    /// The fleets and settings that name it.
    pub fn users(&self) -> Vec<String> {
        let fleets = self.fleets.iter().map(|FleetName { name, project_name }| {
            if project_name == DEFAULT_PROJECT {
                return name.clone();
            }
            format!("{project_name}/{name}")
        });
        fleets.chain(self.settings.iter().cloned()).collect()
    }
}

/// The names of a fleet and of its project.
#[derive(Clone, Debug, Deserialize)]
pub struct FleetName {
    pub name: String,
    pub project_name: String,
}

/// A vessel of a fleet.
#[derive(Clone, Debug, Deserialize)]
pub struct Vessel {
    pub name: String,
}

/// A path from one vessel to another, by their names.
#[derive(Clone, Debug, Deserialize)]
pub struct Connection {
    pub from: String,
    pub to: String,
    pub condition: String,
}

/// One saved version of a fleet.
#[derive(Clone, Debug, Deserialize)]
pub struct Version {
    pub version: u32,
    pub created_at: Timestamp,
    #[serde(default)]
    pub yaml: String,
}

/// A fleet's webhook. Has no `Debug`: its URL is a secret.
#[derive(Clone, Deserialize)]
pub struct Webhook {
    /// `None`: the role of the token does not see it.
    pub url: Option<String>,
    pub created_at: Timestamp,
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
    #[serde(default)]
    pub previous: Option<PreviousWebhook>,
    #[serde(default)]
    pub paused_at: Option<Timestamp>,
    #[serde(default)]
    pub handshake_until: Option<Timestamp>,
    #[serde(default)]
    pub allow: Networks,
    #[serde(default)]
    pub rate_limit: Option<Rate>,
}

/// A replaced URL that is still answered.
#[derive(Clone, Deserialize)]
pub struct PreviousWebhook {
    pub valid_until: Timestamp,
}

/// The ids of a run that was just accepted.
#[derive(Clone, Debug, Deserialize)]
pub struct Accepted {
    pub fleet_run_id: String,
}

/// One run of a fleet.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    pub id: String,
    pub fleet_name: String,
    pub fleet_version: u32,
    pub trigger: String,
    pub status: Status,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub replay_of: Option<String>,
    #[serde(default)]
    pub concurrency_key: Option<String>,
    #[serde(default)]
    pub event: Option<Event>,
    #[serde(default)]
    pub first_run: Option<String>,
    #[serde(default)]
    pub delivery_id: Option<String>,
    #[serde(default)]
    pub note: Option<Note>,
    pub queued_at: Timestamp,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    #[serde(default)]
    pub duration_ms: Option<u64>,
    #[serde(default)]
    pub vessels: Vec<VesselRun>,
    /// What of its end has not been told.
    #[serde(default)]
    pub notifications: Vec<Notification>,
}

/// What a sender calls a request.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    #[serde(default)]
    pub preset: Option<String>,
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
}

impl Event {
    /// Its type, or else its id.
    pub fn short(&self) -> String {
        self.kind.as_ref().or(self.id.as_ref()).cloned().unwrap_or_default()
    }

    /// Preset, type and id.
    pub fn long(&self) -> String {
        let parts = [&self.preset, &self.kind, &self.id];
        let parts: Vec<&str> = parts.into_iter().filter_map(|part| part.as_deref()).collect();
        parts.join(" ")
    }
}

/// A remark on the sender of a request.
#[derive(Clone, Debug, Deserialize)]
pub struct Note {
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub detail: Option<String>,
}

/// A request to a webhook, and what became of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Delivery {
    pub id: String,
    pub received_at: Timestamp,
    pub fleet_name: String,
    pub remote_addr: String,
    #[serde(default)]
    pub preset: Option<String>,
    #[serde(default)]
    pub event_id: Option<String>,
    #[serde(default)]
    pub event_type: Option<String>,
    pub verdict: String,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub detail: Option<String>,
    pub status: Option<u16>,
    #[serde(default)]
    pub run_id: Option<String>,
    #[serde(default)]
    pub first_run: Option<String>,
    pub bytes: u64,
    #[serde(default)]
    pub has_body: bool,
    #[serde(default)]
    pub verified_by: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub query: String,
}

impl Delivery {
    /// The status of the answer, or whose it was.
    pub fn answer(&self) -> String {
        self.status.map_or_else(|| "vessel's".to_owned(), |status| status.to_string())
    }

    /// What its sender calls it.
    pub fn event(&self) -> Event {
        let (preset, id) = (self.preset.clone(), self.event_id.clone());
        Event { preset, id, kind: self.event_type.clone() }
    }
}

/// What became of many runs.
#[derive(Debug, Deserialize)]
pub struct Many {
    pub runs: Vec<DoneRun>,
    pub failed: Vec<FailedRun>,
    /// Why the rest was left undone.
    #[serde(default)]
    pub ended_early: Option<String>,
    #[serde(default)]
    pub next_before: Option<String>,
}

/// A run that was replayed or stopped.
#[derive(Debug, Deserialize, Serialize)]
pub struct DoneRun {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
}

/// A run that was not.
#[derive(Debug, Deserialize, Serialize)]
pub struct FailedRun {
    pub id: String,
    pub reason: String,
}

/// A notification that is not delivered.
#[derive(Clone, Debug, Deserialize)]
pub struct Notification {
    pub attempts: u32,
    #[serde(default)]
    pub problem: Option<String>,
    /// `None`: it is given up.
    #[serde(default)]
    pub next_attempt_at: Option<Timestamp>,
}

/// One vessel within a run.
#[derive(Clone, Debug, Deserialize)]
pub struct VesselRun {
    pub id: String,
    pub vessel_name: String,
    pub status: Status,
    /// 0 while it has never started.
    #[serde(default)]
    pub attempt: u32,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub signal: Option<i32>,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub duration_ms: Option<u64>,
}
