//! Undoing the claim of a vessel that could not start because the machine lacks something. The undone
//! claim counts as no attempt, no retry and no crash. A run without any other start waits in its lane
//! again.

use crate::model::change::Change;
use crate::model::ids::VesselRunId;
use crate::model::run::Status;
use crate::scheduler::{Queue, QueuedRun};

/// The effects of an undone claim.
#[derive(Debug)]
pub struct Postponed {
    pub changes: Vec<Change>,
    /// The run waits to start again, and its work directory is to be removed.
    pub is_waiting: bool,
}

impl Queue {
    /// Undoes the claim of a vessel that has not started. `None` if the vessel is not running or a
    /// stop was requested: the caller settles it instead.
    pub fn postpone(&mut self, vessel_run: VesselRunId) -> Option<Postponed> {
        let run = vessel_run.run();
        let vessel = vessel_run.vessel()?;
        let active = self.active.get_mut(&run)?;
        let stop_requested = active.vessels.get(vessel)?.record.as_ref()?.stop_requested;
        if stop_requested {
            return None;
        }
        let attempt = active.undo_start(vessel)?;
        self.running -= 1;
        self.lanes.vessel_ended(active.record.fleet_id);
        let mut changes = vec![Change::RemoveAttempt { vessel_run, attempt, output_chunks: 0 }];
        let is_waiting = active.is_untouched();
        if is_waiting {
            self.wait_again(vessel_run, &mut changes);
        } else {
            changes.extend(active.note_status());
            let fleet = active.record.fleet_id;
            let priority = active.version.definition.priority;
            if active.record.crashes > 0 {
                self.ready_crash_looping.push_front((run, vessel));
            } else {
                self.lanes.push_ready_again(fleet, (run, vessel), priority);
            }
            self.release_crash_looping(run);
        }
        Some(Postponed { changes, is_waiting })
    }

    /// Puts an active run without any start back into its lane.
    fn wait_again(&mut self, vessel_run: VesselRunId, changes: &mut Vec<Change>) {
        let Some(active) = self.finish(vessel_run.run()) else { return };
        let mut record = active.record;
        record.status = Status::Scheduled;
        record.started_at = None;
        let queued = QueuedRun {
            id: record.id,
            version: active.version,
            trigger: record.trigger,
            replay_of: record.replay_of,
            payload: record.payload,
            queued_at: record.queued_at,
            arrival: record.arrival.clone(),
            key: record.key(),
            hold: None,
        };
        changes.push(Change::PutQueueEntry(queued.entry(record.sequence, false)));
        self.lanes.remove_ready(record.fleet_id, record.id);
        self.lanes.push(record.sequence, queued);
        changes.push(Change::PutRun(record));
    }
}
