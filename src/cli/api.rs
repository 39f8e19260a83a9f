//! What the admin API answers, as far as the command line shows it. Fields that it does not show
//! are not named here, so that a newer server may send more.

use serde::Deserialize;

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
    pub overlap: Option<String>,
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
    pub url: String,
    pub created_at: Timestamp,
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
    #[serde(default)]
    pub previous: Option<PreviousWebhook>,
    #[serde(default)]
    pub paused_at: Option<Timestamp>,
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
