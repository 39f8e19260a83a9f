//! The fate of runs beyond the `concurrency` of their fleet.

use serde::{Deserialize, Serialize};

/// The fate of a run that finds no place within the `concurrency` of its fleet and key. A run that waits
/// only for a worker has its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It waits for its turn.
    #[default]
    Queue,
    /// It ends as Incomplete at once.
    Skip,
    /// It waits, and earlier runs without a place end as Incomplete.
    Replace,
    /// Earlier runs make room for it: those that wait end as Incomplete, those that run are stopped.
    Cancel,
}

impl Overlap {
    #[cfg(test)]
    pub const ALL: [Overlap; 4] =
        [Overlap::Queue, Overlap::Skip, Overlap::Replace, Overlap::Cancel];

    /// The word for it in a fleet file.
    pub fn word(self) -> &'static str {
        match self {
            Overlap::Queue => "queue",
            Overlap::Skip => "skip",
            Overlap::Replace => "replace",
            Overlap::Cancel => "cancel",
        }
    }
}
