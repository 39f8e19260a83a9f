//! The metrics of the engine.

use std::fmt;

use crate::model::metrics::{Counter, Counters, Histogram};
use crate::model::run::{End, Status, Trigger};

/// Bounds of the durations of attempts, in microseconds: from a one-line script to a nightly job.
const VESSEL_BOUNDS: [u64; 14] = [
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    4 * 3_600_000_000,
    12 * 3_600_000_000,
    24 * 3_600_000_000,
];

/// The final statuses of a run.
const FINAL: [Status; 4] =
    [Status::Success, Status::Errored, Status::Terminated, Status::Incomplete];

/// See the module.
#[derive(Debug)]
pub struct EngineMetrics {
    /// Runs that have become durable.
    pub accepted: Counters<Trigger>,
    /// Runs that have ended.
    pub ended: Counters<Status>,
    /// Attempts that have ended.
    pub attempts: Counters<AttemptEnd>,
    /// How long programs ran, with their start and end.
    pub running: Histogram,
    /// Due times that did not run, as `catch_up` says.
    pub due_times_passed_over: Counter,
    /// Tries to run a due time that found no room.
    pub due_times_postponed: Counter,
    pub notifications_delivered: Counter,
    pub notifications_given_up: Counter,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        Self {
            accepted: Counters::of(&Trigger::ALL),
            ended: Counters::of(&FINAL),
            attempts: Counters::of(&AttemptEnd::ALL),
            running: Histogram::of_durations(&VESSEL_BOUNDS),
            due_times_passed_over: Counter::default(),
            due_times_postponed: Counter::default(),
            notifications_delivered: Counter::default(),
            notifications_given_up: Counter::default(),
        }
    }
}

/// How an attempt ended: the label of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    Zero,
    NonZero,
    Signaled,
    OutOfMemory,
    CutOff,
    NotStarted,
    Skipped,
}

impl AttemptEnd {
    /// All values.
    pub const ALL: [Self; 7] = [
        Self::Zero,
        Self::NonZero,
        Self::Signaled,
        Self::OutOfMemory,
        Self::CutOff,
        Self::NotStarted,
        Self::Skipped,
    ];
}

impl From<&End> for AttemptEnd {
    fn from(end: &End) -> Self {
        match end {
            End::Exited(0) => Self::Zero,
            End::Exited(_) => Self::NonZero,
            End::Signaled(_) => Self::Signaled,
            End::OutOfMemory { .. } => Self::OutOfMemory,
            End::CutOff => Self::CutOff,
            End::NotStarted(_) => Self::NotStarted,
            End::Skipped(_) => Self::Skipped,
        }
    }
}

impl fmt::Display for AttemptEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zero => "exit_zero",
            Self::NonZero => "exit_nonzero",
            Self::Signaled => "signal",
            Self::OutOfMemory => "out_of_memory",
            Self::CutOff => "cutoff",
            Self::NotStarted => "not_started",
            Self::Skipped => "skipped",
        })
    }
}
