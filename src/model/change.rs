//! Changes of stored state. The engine decides on them; the committer makes them durable, in the order
//! of the decisions. Recovery reads back what they left.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::access::{AccessToken, Scope};
use crate::model::audit::{AuditClass, AuditEntry};
use crate::model::clock::Timestamp;
use crate::model::delivery::Delivery;
use crate::model::event::{EventEntry, EventKey, PackedArrival};
use crate::model::fleet::{Fleet, FleetVersion, Organization, Project};
use crate::model::ids::{FleetId, InstanceId, ProjectId, RequestId, RunId, VesselRunId};
use crate::model::notification::NotificationRecord;
use crate::model::run::{PayloadSize, RunRecord, Trigger, VesselRunRecord};
use crate::model::schedule::{ScheduleEntry, ScheduleKey};
use crate::model::statistics::{EndedRun, Hour, StatisticsRecord, Tally};
use crate::model::webhook::{TokenHash, Webhook};

/// One change of stored state.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    PutOrganization(Organization),
    PutServer(ServerRecord),
    /// Vessel runs whose processes a former server may have left, in numbered rows.
    PutLeftovers {
        row: u32,
        vessel_runs: Vec<VesselRunId>,
    },
    /// They are gone.
    RemoveLeftovers {
        row: u32,
    },
    PutProject(Project),
    RemoveProject(ProjectId),
    PutFleet(Fleet),
    /// The fleet alone: its versions stay, for the runs that hold them.
    RemoveFleet(FleetId),
    AddFleetVersion(Arc<FleetVersion>),
    /// The text that the author of a version wrote.
    PutFleetText {
        fleet: FleetId,
        version: u32,
        text: Arc<str>,
    },
    /// So many newer versions are there that it is not kept, or the fleet is gone.
    RemoveFleetText {
        fleet: FleetId,
        version: u32,
        chunks: u32,
    },
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
    /// A payload begins to arrive in slices: until its run is there, it belongs to none.
    BeginUpload(RunId),
    /// Its run is there (same commit), or it was given up and its chunks are removed.
    EndUpload(RunId),
    RemovePayload {
        run: RunId,
        chunks: Range<u32>,
    },
    /// A notification is to be delivered, or given up.
    PutNotification(NotificationRecord),
    /// It has been delivered, or its run is removed.
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
    /// A run has ended and everybody knows (same commit): its place in the history of its fleet.
    PutHistory {
        fleet: FleetId,
        number: u64,
        entry: HistoryEntry,
    },
    RemoveHistory {
        fleet: FleetId,
        number: u64,
    },
    /// A run is there no more, and what is left of it is marked for removal.
    BeginRemoval {
        run: RunId,
        fleet: FleetId,
    },
    /// An attempt of a vessel, and as many chunks of its output.
    RemoveAttempt {
        vessel_run: VesselRunId,
        attempt: u32,
        output_chunks: u32,
    },
    /// Nothing is left of a run that was removed.
    EndRemoval(RunId),
    /// An event is remembered: in the commit of its run, and again when that ends without success.
    PutEvent {
        key: EventKey,
        entry: EventEntry,
    },
    /// Its window is over, or its fleet is gone.
    RemoveEvent(EventKey),
    /// How far a schedule has come: when it is made, and in the commit of each of its runs.
    PutSchedule {
        key: ScheduleKey,
        entry: ScheduleEntry,
    },
    /// Its fleet is gone, or has it no more.
    RemoveSchedule(ScheduleKey),
    /// A delivery that started no run, and its place in the index of its fleet.
    PutDelivery(Delivery),
    /// Head and body of a delivery.
    PutDeliveryRequest {
        delivery: RequestId,
        bytes: Vec<u8>,
    },
    /// A delivery with all chunks of its request.
    RemoveDelivery {
        fleet: FleetId,
        delivery: RequestId,
        chunks: u32,
    },
    /// Head and body of a delivery that stays.
    RemoveDeliveryRequest {
        delivery: RequestId,
        chunks: u32,
    },
    /// A token of the admin API, by the hash of its secret.
    PutAccessToken {
        hash: TokenHash,
        token: AccessToken,
    },
    RemoveAccessToken(TokenHash),
    PutAudit(AuditEntry),
    RemoveAudit {
        class: AuditClass,
        id: RequestId,
    },
    /// A run ends with this commit: it counts in the statistics of its hour.
    CountRun(EndedRun),
    /// The runs of an hour, as an older server has left them.
    PutTally {
        hour: Hour,
        scope: Scope,
        tally: Tally,
    },
    RemoveTally {
        hour: Hour,
        scope: Scope,
    },
    /// From now on every run counts.
    PutStatistics(StatisticsRecord),
    /// A version of a fleet that is gone, as its runs are.
    RemoveFleetVersion {
        fleet: FleetId,
        version: u32,
        chunks: u32,
    },
}

/// A run that has ended and has no notification left to deliver: a row of `history`, by fleet and number.
/// Numbers count such runs of a fleet, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub run: RunId,
    /// When this entry was made.
    pub since: Timestamp,
    /// Bytes of its stored payload and output.
    pub bytes: u64,
    /// Sum of `bytes` over all earlier entries of the fleet, removed ones included. The bytes between two
    /// entries are the difference of their sums.
    pub bytes_before: u64,
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
    /// Whether a vessel of it has been claimed. Recovery then reads its other rows.
    pub started: bool,
    /// When the run was accepted. Rows of schema 3 do not hold it; the time of the run's id stands in.
    #[serde(default)]
    pub queued_at: Option<Timestamp>,
    #[serde(default)]
    pub arrival: Option<PackedArrival>,
}

/// The record of a server for the next server on the same data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    pub instance: InstanceId,
    /// The kernel's boot id: work directories do not outlive the boot they were made in.
    pub boot_id: String,
    /// Whether it stopped in order. False while it runs.
    pub stopped_cleanly: bool,
    /// The backup, when a restore has left the record instead of a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoredFrom>,
}

/// The backup that a database comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredFrom {
    pub created_at: Timestamp,
    /// Whether unfinished runs go on. Otherwise the next server ends them.
    pub resume_runs: bool,
}
