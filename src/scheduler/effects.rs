//! What follows from a decision of the queue.

use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::VesselRunId;
use crate::model::run::{RunRecord, Status};
use crate::scheduler::QueuedRun;
use crate::scheduler::active::ActiveRun;

/// See the module.
#[derive(Debug, Default)]
pub struct Effects {
    pub changes: Vec<Change>,
    /// Running vessels to be signalled when the changes are durable.
    pub signal: Vec<VesselRunId>,
    /// Runs that ended with the decision.
    pub ended: Vec<RunRecord>,
}

impl Effects {
    /// Ends a run that has not started.
    pub(super) fn dismiss(
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
