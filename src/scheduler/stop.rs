//! Stops of runs and vessels. A vessel that was settled before the stop keeps its status; a vessel
//! that is settled after it is Terminated.

use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::run::{RunRecord, Status};
use crate::scheduler::active::{ActiveRun, VesselState};
use crate::scheduler::{Queue, Retries};

/// The effects of a stop.
#[derive(Debug, Default)]
pub struct Stopped {
    pub changes: Vec<Change>,
    /// The running vessels to be signalled when the changes are durable.
    pub signal: Vec<VesselRunId>,
    /// The run, if it ended with the stop.
    pub ended: Option<RunRecord>,
}

const NOT_STARTED: &str = "stopped before it could start";
const BETWEEN_ATTEMPTS: &str = "stopped before it could start again";

impl Queue {
    /// Stops a run of this fleet and sequence number. A waiting run ends without a start. `None` if
    /// the run has ended already.
    pub fn stop_run(
        &mut self,
        run: RunId,
        fleet: FleetId,
        sequence: u64,
        now: Timestamp,
    ) -> Option<Stopped> {
        if let Some(queued) = self.lanes.remove(fleet, sequence, run) {
            let mut never_started = ActiveRun::new(queued.record(sequence), queued.version);
            let changes = never_started.dismiss(Status::Terminated, NOT_STARTED, now);
            let ended = Some(never_started.record);
            return Some(Stopped { changes, signal: Vec::new(), ended });
        }
        let active = self.active.get_mut(&run)?;
        let mut stopped = Stopped::default();
        for vessel in 0..active.vessels.len() {
            stop_vessel(active, vessel, &mut self.retries, now, &mut stopped);
        }
        stopped.ended = self.advance(run, now, &mut stopped.changes);
        Some(stopped)
    }

    /// Stops a vessel of an active run and every vessel downstream of it. `None` if its run is not
    /// active. Without effect if the vessel has ended already.
    pub fn stop_vessel_run(&mut self, id: VesselRunId, now: Timestamp) -> Option<Stopped> {
        let run = id.run();
        let active = self.active.get_mut(&run)?;
        let vessel = id.vessel().filter(|vessel| *vessel < active.vessels.len())?;
        let mut stopped = Stopped::default();
        if active.ended(vessel).is_none() {
            stop_vessel(active, vessel, &mut self.retries, now, &mut stopped);
            for below in active.graph.descendants(vessel) {
                stop_vessel(active, below, &mut self.retries, now, &mut stopped);
            }
            stopped.ended = self.advance(run, now, &mut stopped.changes);
        }
        Some(stopped)
    }
}

fn stop_vessel(
    active: &mut ActiveRun,
    vessel: usize,
    retries: &mut Retries,
    now: Timestamp,
    stopped: &mut Stopped,
) {
    if let VesselState::AwaitsRetry { due } = active.vessels[vessel].state {
        retries.remove(&(due, active.record.id, vessel));
    }
    match active.vessels[vessel].state {
        VesselState::Ended(_) => {}
        VesselState::Running => {
            // Stored, so that after a crash the next server does not resume the vessel.
            if let Some(record) = &mut active.vessels[vessel].record
                && !record.stop_requested
            {
                record.stop_requested = true;
                stopped.changes.push(Change::PutVesselRun(record.clone()));
            }
            stopped.signal.push(active.record.id.vessel_run(vessel));
        }
        VesselState::Waiting | VesselState::Ready { .. } | VesselState::AwaitsRetry { .. } => {
            let has_started =
                active.vessels[vessel].record.as_ref().is_some_and(|it| it.attempt > 0);
            let reason = if has_started { BETWEEN_ATTEMPTS } else { NOT_STARTED };
            stopped.changes.push(active.decide(vessel, Status::Terminated, reason, now));
        }
    }
}
