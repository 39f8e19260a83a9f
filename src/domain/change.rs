//! Changes of stored state. Whoever decides returns them; the committer makes them durable, in the
//! order in which they were decided. Recovery reads back what they left.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::fleet::{Fleet, FleetVersion, Organization, Project};
use crate::domain::ids::{FleetId, InstanceId, ProjectId, RunId, VesselRunId};
use crate::domain::notification::NotificationRecord;
use crate::domain::run::{PayloadSize, RunRecord, Trigger, VesselRunRecord};
use crate::domain::webhook::{TokenHash, Webhook};

/// One change of stored state.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    PutOrganization(Organization),
    PutServer(ServerRecord),
    PutProject(Project),
    RemoveProject(ProjectId),
    PutFleet(Fleet),
    /// The fleet alone: its versions stay, for the runs that hold them.
    RemoveFleet(FleetId),
    AddFleetVersion(Arc<FleetVersion>),
    PutWebhook(Webhook),
    RemoveWebhook(TokenHash),
    /// A run is accepted: its row and its place in the indexes. Once per run.
    AddRun(RunRecord),
    PutRun(RunRecord),
    PutVesselRun(VesselRunRecord),
    /// A run waits or is under way: written when it is accepted, and again when it starts.
    PutQueueEntry(QueueEntry),
    RemoveQueueEntry {
        sequence: u64,
    },
    /// Part of a payload, from chunk number `chunk` on. A whole number of chunks, but for the last.
    PutPayload {
        run: RunId,
        chunk: u32,
        bytes: Vec<u8>,
    },
    /// A payload begins to arrive in slices: until its run is there, it is nobody's.
    BeginUpload(RunId),
    /// Its run is there (same commit), or it was given up and its chunks are removed.
    EndUpload(RunId),
    RemovePayload {
        run: RunId,
        chunks: u32,
    },
    /// A notification is to be delivered, or given up.
    PutNotification(NotificationRecord),
    /// It has been delivered, or nobody asks any more why it was not.
    RemoveNotification {
        run: RunId,
        number: u32,
    },
    /// The output of an attempt, small enough for the database.
    PutOutput {
        vessel_run: VesselRunId,
        attempt: u32,
        bytes: Vec<u8>,
    },
}

/// An unfinished run as recovery needs it, without reading its row: a row of `queue`, by sequence.
/// The order of its fields is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    pub sequence: u64,
    pub run: RunId,
    pub fleet: FleetId,
    pub version: u32,
    pub trigger: Trigger,
    #[serde(default)]
    pub replay_of: Option<RunId>,
    pub payload: PayloadSize,
    /// Whether any vessel of it has been claimed: then there is more in its rows.
    pub started: bool,
}

/// What a server leaves behind for the next one on the same data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    pub instance: InstanceId,
    /// The kernel's boot id: work directories do not outlive the boot they were made in.
    pub boot_id: String,
    /// Whether it stopped in order. False while it runs.
    pub stopped_cleanly: bool,
}
