//! Deliveries: the requests to webhooks, and what became of each.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::event::{Event, EventMemory, Note, Verifier};
use crate::model::ids::{FleetId, RequestId, RunId};
use crate::model::limits::ROW_BYTES_MAX;

/// Deliveries of a fleet that are kept, beside accepted ones: what a person looks through.
pub const KEPT_PER_FLEET_MAX: usize = 1_000;
/// How long they are kept: longer than the time for which providers offer to deliver again.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of a body that is kept.
pub const KEPT_BODY_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of all kept heads and bodies.
pub const KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The reason of an accepted delivery whose event id came before with another body.
pub const ID_REUSED: &str = "id_reused";
/// The reason of a delivery that ran because the filter of its fleet failed.
pub const FILTER_FAILED: &str = "filter_failed";
/// The reason of a delivery whose own id could not be computed.
pub const ID_FAILED: &str = "deduplicate_id_failed";
/// The reason of a delivery whose key could not be computed.
pub const KEY_FAILED: &str = "concurrency_key_failed";
/// The reasons that refuse no request.
pub const REMARKS: [&str; 4] = [ID_REUSED, FILTER_FAILED, ID_FAILED, KEY_FAILED];

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It started a run.
    Accepted,
    /// Its event has a run already.
    Duplicate,
    /// The fleet's filter did not want it.
    Filtered,
    /// The sender's way to prove that the URL is right.
    Handshake,
    Refused,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 5] = [
        Verdict::Accepted,
        Verdict::Duplicate,
        Verdict::Filtered,
        Verdict::Handshake,
        Verdict::Refused,
    ];
}

impl Verdict {
    /// The word that the API and the metric use.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Duplicate => "duplicate",
            Verdict::Filtered => "filtered",
            Verdict::Handshake => "handshake",
            Verdict::Refused => "refused",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Verdict::ALL.into_iter().find(|verdict| verdict.to_string() == text).ok_or_else(|| {
            let words = Verdict::ALL.map(|verdict| verdict.to_string()).join(", ");
            format!("no such verdict: {text:?}; one of {words}")
        })
    }
}

/// A request to a webhook that exists. The order of its fields is part of the format of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The id that the sender got.
    pub id: RequestId,
    pub received_at: Timestamp,
    pub fleet_id: FleetId,
    /// At that time.
    pub fleet_name: String,
    /// The client's address.
    pub remote_addr: String,
    pub event: Event,
    pub verdict: Verdict,
    /// Why, for the operator. The reason is empty where the verdict says all.
    pub note: Option<Note>,
    /// The status of the answer.
    pub status: u16,
    /// The run that it started or is a duplicate of.
    pub run: Option<RunId>,
    /// Bytes of its body as far as it was read.
    pub bytes: u64,
    /// The parts of the request that are kept.
    pub kept: KeptRequest,
    /// How the event is remembered once the delivery is run after all.
    pub memory: Option<EventMemory>,
    pub verified_by: Option<Verifier>,
}

/// The stored parts of a request that started no run: its head, as JSON, and then its body. The order
/// of its fields is part of the format of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRequest {
    /// 0 when nothing is kept.
    pub head_bytes: u32,
    /// Bytes of the body; `None` when it is not kept.
    pub body_bytes: Option<u32>,
}

impl KeptRequest {
    /// All of it.
    pub fn bytes(self) -> u64 {
        u64::from(self.head_bytes) + u64::from(self.body_bytes.unwrap_or(0))
    }

    /// The rows that hold it.
    pub fn chunks(self) -> u32 {
        u32::try_from(self.bytes().div_ceil(ROW_BYTES_MAX as u64)).unwrap_or(u32::MAX)
    }
}
