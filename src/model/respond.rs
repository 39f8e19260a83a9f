//! The answer to the sender of an accepted request, where that is not the 201 with the ids of its run.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::duration::millis;

/// Statuses that a fleet or a vessel may answer with: those below are no final ones.
pub const STATUSES: RangeInclusive<u16> = 200..=599;
/// Bytes of the body of a fixed answer: one write to the sender's socket.
pub const FIXED_BODY_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a Content-Type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// Longest wait: most senders give up far earlier, and each one holds a connection.
pub const WAIT_MAX: Duration = Duration::from_secs(5 * 60);
/// The Content-Type of an answer that names none.
pub const CONTENT_TYPE_DEFAULT: &str = "text/plain; charset=utf-8";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Respond {
    Wait(Wait),
    Fixed(FixedAnswer),
}

/// The sender waits for the end of the run and gets what a vessel answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// How long at most.
    #[serde(with = "millis")]
    pub wait: Duration,
    /// The name of the vessel that answers; `None`: any may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vessel: Option<String>,
}

/// The same answer to each sender, once its run is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedAnswer {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

impl Default for FixedAnswer {
    fn default() -> Self {
        Self { status: 200, content_type: CONTENT_TYPE_DEFAULT.to_owned(), body: String::new() }
    }
}

/// Whether a response with this status has no body (RFC 9110 6.4.1, 15.3.6).
pub fn is_without_body(status: u16) -> bool {
    matches!(status, 204 | 205 | 304)
}
