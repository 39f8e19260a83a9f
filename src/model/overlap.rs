//! What becomes of runs of a fleet that come when as many of its runs as may are under way.

use serde::{Deserialize, Serialize};

/// What a run does that finds no place among the `concurrency` of its fleet. Runs that wait for
/// nothing but a worker have their place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It waits for its turn.
    #[default]
    Queue,
    /// It ends as Incomplete at once.
    Skip,
    /// It waits, and those that wait without a place end as Incomplete: of what has not started,
    /// only the newest counts.
    Replace,
}

impl Overlap {
    /// All of them.
    pub const ALL: [Overlap; 3] = [Overlap::Queue, Overlap::Skip, Overlap::Replace];

    /// The word for it in a fleet file.
    pub fn word(self) -> &'static str {
        match self {
            Overlap::Queue => "queue",
            Overlap::Skip => "skip",
            Overlap::Replace => "replace",
        }
    }
}
