//! Accepting a run into the queue, and the `overlap` rule of its fleet.

use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::overlap::Overlap;
use crate::model::run::{RunRecord, Status};
use crate::scheduler::active::ActiveRun;
use crate::scheduler::{Queue, QueuedRun};

/// Runs that give way to one new run under `overlap: replace`: the bound of one commit. Usually one
/// run gives way; a long queue from before the fleet said `replace` goes in several commits.
pub(super) const REPLACED_PER_ARRIVAL_MAX: usize = 64;

/// The queue has no room for another run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

/// The effects of an accepted run.
#[derive(Debug, Default)]
pub struct Submitted {
    pub changes: Vec<Change>,
    /// Runs that ended without a start: the run itself (`skip`) or older ones (`replace`).
    pub ended: Vec<RunRecord>,
}

impl Queue {
    /// Accepts a run.
    ///
    /// # Errors
    /// When the queue is full.
    pub fn submit(&mut self, run: QueuedRun, now: Timestamp) -> Result<Submitted, QueueFull> {
        if !self.has_room() {
            return Err(QueueFull);
        }
        let sequence = self.sequence_next;
        self.sequence_next += 1;
        let mut submitted = Submitted {
            changes: vec![
                Change::AddRun(run.record(sequence)),
                Change::PutQueueEntry(run.entry(sequence, false)),
            ],
            ended: Vec::new(),
        };
        let (fleet, definition) = (run.version.fleet_id, &run.version.definition);
        let limit = definition.concurrency;
        let has_place = self.lanes.has_place(fleet, limit);
        match definition.overlap {
            Overlap::Skip if !has_place => {
                let limit = limit.unwrap_or_default();
                let reason = format!(
                    "skipped: {limit} of this fleet's runs were under way, as many as may (overlap: skip)"
                );
                submitted.dismiss(sequence, run, Status::Incomplete, &reason, now);
                return Ok(submitted);
            }
            Overlap::Replace if !has_place => {
                let max = REPLACED_PER_ARRIVAL_MAX;
                for (place, older) in self.lanes.remove_without_place(fleet, limit, max) {
                    let reason = format!("gave way to the newer run {} (overlap: replace)", run.id);
                    submitted.dismiss(place, older, Status::Incomplete, &reason, now);
                }
            }
            Overlap::Queue | Overlap::Skip | Overlap::Replace => {}
        }
        self.lanes.push(sequence, run);
        Ok(submitted)
    }
}

impl Submitted {
    fn dismiss(
        &mut self,
        sequence: u64,
        run: QueuedRun,
        status: Status,
        reason: &str,
        now: Timestamp,
    ) {
        let mut dismissed = ActiveRun::new(run.record(sequence), run.version);
        self.changes.extend(dismissed.dismiss(status, reason, now));
        self.ended.push(dismissed.record);
    }
}
