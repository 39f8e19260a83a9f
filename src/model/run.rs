//! Runs of fleets and of their vessels, as they are stored and shown.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::event::{ArrivalRecord, PackedArrival};
use crate::model::ids::{FleetId, ProjectId, RunId, VesselId, VesselRunId};
use crate::model::text::prefix;

/// Where a run, or a vessel within it, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Queued, or waiting for its upstream vessels.
    Scheduled,
    Running,
    /// An attempt failed; the next one waits or is running.
    Retrying,
    /// Exit code 0 (of a run: of every vessel that ran).
    Success,
    /// Another exit code, a signal, a cutoff, or it could not be started.
    Errored,
    /// Stopped by a person, or kept from starting by such a stop.
    Terminated,
    /// Will never run.
    Incomplete,
}

impl Status {
    /// All of them, in the order of a life.
    pub const ALL: [Status; 7] = [
        Status::Scheduled,
        Status::Running,
        Status::Retrying,
        Status::Success,
        Status::Errored,
        Status::Terminated,
        Status::Incomplete,
    ];

    /// Whether nothing will change it any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Status::Scheduled | Status::Running | Status::Retrying)
    }

    /// The word that the API uses.
    pub fn word(self) -> &'static str {
        match self {
            Status::Scheduled => "Scheduled",
            Status::Running => "Running",
            Status::Retrying => "Retrying",
            Status::Success => "Success",
            Status::Errored => "Errored",
            Status::Terminated => "Terminated",
            Status::Incomplete => "Incomplete",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Status::ALL
            .into_iter()
            .find(|status| status.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                let words = Status::ALL.map(|status| status.to_string()).join(", ");
                format!("no such status: {text:?}; one of {words}")
            })
    }
}

/// The cause of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    Webhook,
    Api,
    OnDemand,
    Replay,
    Schedule,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Trigger; 5] =
        [Trigger::Webhook, Trigger::Api, Trigger::OnDemand, Trigger::Replay, Trigger::Schedule];

    /// Whether a request of a sender or a client is the cause, which `debounce` may delay. A person, a
    /// replay and a schedule mean their own run.
    pub fn is_request(self) -> bool {
        matches!(self, Trigger::Webhook | Trigger::Api)
    }

    /// The word that the API and a vessel's environment use.
    pub fn word(self) -> &'static str {
        match self {
            Trigger::Webhook => "webhook",
            Trigger::Api => "api",
            Trigger::OnDemand => "on_demand",
            Trigger::Replay => "replay",
            Trigger::Schedule => "schedule",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Trigger::ALL.into_iter().find(|trigger| trigger.word() == text).ok_or_else(|| {
            let words = Trigger::ALL.map(Trigger::word).join(", ");
            format!("no such trigger: {text:?}; one of {words}")
        })
    }
}

/// The lengths of the two parts of a stored payload: the request's head and its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadSize {
    pub head_bytes: u32,
    pub body_bytes: u64,
}

impl PayloadSize {
    /// All of it.
    pub fn bytes(self) -> u64 {
        self.body_bytes.saturating_add(self.head_bytes.into())
    }
}

/// One run of a fleet: a row of `runs`. The order of its fields is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    pub id: RunId,
    pub fleet_id: FleetId,
    pub fleet_name: String,
    pub fleet_version: u32,
    pub project_id: ProjectId,
    pub trigger: Trigger,
    pub status: Status,
    /// Why it has its status, for a person; at most [`REASON_BYTES_MAX`] bytes.
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub replay_of: Option<RunId>,
    /// Its place in the queue: the order in which runs were accepted.
    pub sequence: u64,
    pub payload: PayloadSize,
    /// Bytes of its vessels' output that are kept, of all attempts.
    #[serde(default)]
    pub output_bytes: u64,
    /// Crashes of the server while it was running.
    #[serde(default)]
    pub crashes: u32,
    pub queued_at: Timestamp,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// The event of the request that started it.
    #[serde(default)]
    pub arrival: Option<PackedArrival>,
}

#[cfg(test)]
impl RunRecord {
    /// A run of a webhook that waits, queued at the time of its id.
    pub fn example(id: RunId) -> Self {
        Self {
            id,
            fleet_id: FleetId::random(),
            fleet_name: "site".to_owned(),
            fleet_version: 1,
            project_id: ProjectId::random(),
            trigger: Trigger::Webhook,
            status: Status::Scheduled,
            reason: None,
            replay_of: None,
            sequence: 1,
            payload: PayloadSize::default(),
            output_bytes: 0,
            crashes: 0,
            queued_at: id.time(),
            started_at: None,
            ended_at: None,
            arrival: None,
        }
    }
}

impl RunRecord {
    /// What its request brought beside head and body.
    pub fn arrival(&self) -> ArrivalRecord {
        self.arrival.as_ref().map(PackedArrival::unpack).unwrap_or_default()
    }

    /// Its value of the fleet's `concurrency_key`.
    pub fn key(&self) -> Option<ConcurrencyKey> {
        self.arrival.as_ref().and_then(|arrival| arrival.unpack().key)
    }

    /// When it was due: the due time of its schedule, or when it was accepted.
    pub fn scheduled_time(&self) -> Timestamp {
        self.arrival().due_at.unwrap_or(self.queued_at)
    }

    /// Bytes that the run takes up, but for its rows.
    pub fn kept_bytes(&self) -> u64 {
        let payload = self.payload.body_bytes.saturating_add(self.payload.head_bytes.into());
        payload.saturating_add(self.output_bytes)
    }
}

/// One attempt of a vessel within a run: a row of `vessel_runs`, the greatest attempt being the
/// vessel's current state. Attempt 0 is a vessel that was decided without ever starting. The order of
/// its fields is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VesselRunRecord {
    pub id: VesselRunId,
    pub vessel_id: VesselId,
    pub vessel_name: String,
    pub status: Status,
    /// Counts every start, also those after a crash.
    pub attempt: u32,
    /// How many of the attempts used up `retry_count`.
    #[serde(default)]
    pub retries: u32,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub signal: Option<i32>,
    /// Why it has its status, for a person; at most [`REASON_BYTES_MAX`] bytes.
    #[serde(default)]
    pub reason: Option<String>,
    /// When the next attempt falls due, while status is Retrying and none is running.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    /// A person or a newer run has asked for its end, which is not recorded yet.
    #[serde(default)]
    pub stop_requested: bool,
    /// It was not started, and counts as this.
    #[serde(default)]
    pub skip: Option<Skip>,
    /// When its last upstream vessel ended (for a root: when the run was accepted).
    pub scheduled_at: Timestamp,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    #[serde(default)]
    pub output: OutputRecord,
}

impl VesselRunRecord {
    /// Why its running attempt is to end: because a newer run asks for it, or a person.
    pub fn why_stopped(&self) -> String {
        self.reason.clone().unwrap_or_else(|| "stopped".to_owned())
    }

    /// The vessel at `index` of a run before its first attempt, by its id and name.
    pub fn scheduled(
        run: RunId,
        index: usize,
        vessel: (VesselId, &str),
        scheduled_at: Timestamp,
    ) -> Self {
        Self {
            id: run.vessel_run(index),
            vessel_id: vessel.0,
            vessel_name: vessel.1.to_owned(),
            status: Status::Scheduled,
            attempt: 0,
            retries: 0,
            exit_code: None,
            signal: None,
            reason: None,
            retry_at: None,
            stop_requested: false,
            skip: None,
            scheduled_at,
            started_at: None,
            ended_at: None,
            output: OutputRecord::default(),
        }
    }
}

/// The signal by which the kernel ends a process for want of memory (signal(7)).
pub const SIGKILL: i32 = 9;

/// How an attempt of a vessel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The program exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// The kernel ended it for want of memory, or a process of it: then its shell exited with this
    /// code.
    OutOfMemory { exit_code: Option<i32> },
    /// It ran into its `runtime_cutoff`.
    CutOff,
    /// It could not be started, and why.
    NotStarted(String),
    /// It was not to be started.
    Skipped(Skip),
}

impl End {
    /// Success for exit code 0; Errored for everything else, unless it was skipped.
    pub fn status(&self) -> Status {
        match self {
            End::Exited(0) => Status::Success,
            End::Skipped(skip) => skip.status(),
            _ => Status::Errored,
        }
    }

    /// The reason that is shown; `None` for success.
    pub fn reason(&self) -> Option<String> {
        match self {
            End::Exited(0) => None,
            End::Exited(code) => Some(format!("exit code {code}")),
            End::Signaled(signal) => Some(format!("ended by signal {signal}")),
            End::OutOfMemory { exit_code: None } => {
                Some("out of memory: the kernel ended it".to_owned())
            }
            End::OutOfMemory { exit_code: Some(code) } => {
                Some(format!("out of memory: the kernel ended a process of it, exit code {code}"))
            }
            End::CutOff => Some("runtime cutoff".to_owned()),
            End::NotStarted(why) => Some(shorten(why)),
            End::Skipped(skip) => Some(skip.reason().to_owned()),
        }
    }
}

/// Why a vessel does not start, and as what it counts instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// The request asked for it; the vessel counts as having exited with this code.
    Override { exit_code: i32 },
    /// The run goes on from the middle of another; the vessel counts as it ended there.
    Replay { status: Status, exit_code: Option<i32> },
}

impl Skip {
    /// The end of the one attempt that a skipped vessel has.
    pub fn end(self) -> End {
        End::Skipped(self)
    }

    /// The status that the vessel gets.
    pub fn status(self) -> Status {
        match self {
            Skip::Override { exit_code: 0 } => Status::Success,
            Skip::Override { .. } => Status::Errored,
            Skip::Replay { status, .. } => status,
        }
    }

    /// The exit code that is shown for it, if there is one.
    pub fn exit_code(self) -> Option<i32> {
        match self {
            Skip::Override { exit_code } => Some(exit_code),
            Skip::Replay { exit_code, .. } => exit_code,
        }
    }

    /// The whole log of the vessel.
    pub fn log_line(self) -> &'static str {
        match self {
            // The hosted system's words, which scripts may look for.
            Skip::Override { .. } => "Vessel has been skipped due to override.",
            Skip::Replay { .. } => "Vessel has been skipped: it counts as in the replayed run.",
        }
    }

    /// The reason that is shown.
    pub fn reason(self) -> &'static str {
        match self {
            Skip::Override { .. } => "skipped due to override",
            Skip::Replay { .. } => "skipped: as in the replayed run",
        }
    }
}

/// `text` within the length of a reason, on one line and without other control characters: those
/// would grow sixfold in JSON, and a row has its limit.
pub fn shorten(text: &str) -> String {
    let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    if text.len() <= REASON_BYTES_MAX {
        return text;
    }
    format!("{}…", prefix(&text, REASON_BYTES_MAX - '…'.len_utf8()))
}

/// Bytes of a reason: an operating system's message and a path fit, a row stays small.
pub const REASON_BYTES_MAX: usize = 1000;

/// Where the captured output of an attempt is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    pub place: OutputPlace,
    /// Bytes the attempt wrote, kept or not.
    pub bytes: u64,
    /// Bytes that are kept.
    #[serde(default)]
    pub kept: u64,
}

/// Where captured output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputPlace {
    /// There is none, or it is still in the memory of the server.
    #[default]
    Nowhere,
    /// In the database, beside the record.
    Rows,
    /// In a file of its own below the data directory.
    File,
}
