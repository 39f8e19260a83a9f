//! Stops of runs and vessels. A vessel that was settled before the stop keeps its status; a vessel
//! that is settled after it is Terminated.

use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::run::Status;
use crate::scheduler::active::{ActiveRun, VesselState};
use crate::scheduler::{Effects, Queue, Retries};

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
    ) -> Option<Effects> {
        let mut effects = Effects::default();
        if let Some(queued) = self.lanes.remove(fleet, sequence, run) {
            effects.dismiss(sequence, queued, Status::Terminated, NOT_STARTED, now);
            return Some(effects);
        }
        self.stop_active(run, None, now, &mut effects).then_some(effects)
    }

    /// Stops an active run, for a person or because of `why`. False if the run is not active.
    pub(super) fn stop_active(
        &mut self,
        run: RunId,
        why: Option<&str>,
        now: Timestamp,
        effects: &mut Effects,
    ) -> bool {
        let Some(active) = self.active.get_mut(&run) else { return false };
        for vessel in 0..active.vessels.len() {
            stop_vessel(active, vessel, why, &mut self.retries, now, effects);
        }
        let ended = self.advance(run, now, &mut effects.changes);
        effects.ended.extend(ended);
        true
    }

    /// Stops a vessel of an active run and every vessel downstream of it. `None` if its run is not
    /// active. Without effect if the vessel has ended already.
    pub fn stop_vessel_run(&mut self, id: VesselRunId, now: Timestamp) -> Option<Effects> {
        let run = id.run();
        let active = self.active.get_mut(&run)?;
        let vessel = id.vessel().filter(|vessel| *vessel < active.vessels.len())?;
        let mut effects = Effects::default();
        if active.ended(vessel).is_none() {
            stop_vessel(active, vessel, None, &mut self.retries, now, &mut effects);
            for below in active.graph.descendants(vessel) {
                stop_vessel(active, below, None, &mut self.retries, now, &mut effects);
            }
            let ended = self.advance(run, now, &mut effects.changes);
            effects.ended.extend(ended);
        }
        Some(effects)
    }
}

fn stop_vessel(
    active: &mut ActiveRun,
    vessel: usize,
    why: Option<&str>,
    retries: &mut Retries,
    now: Timestamp,
    effects: &mut Effects,
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
                record.reason = why.map(str::to_owned);
                effects.changes.push(Change::PutVesselRun(record.clone()));
            }
            effects.signal.push(active.record.id.vessel_run(vessel));
        }
        VesselState::Waiting | VesselState::Ready { .. } | VesselState::AwaitsRetry { .. } => {
            let has_started =
                active.vessels[vessel].record.as_ref().is_some_and(|it| it.attempt > 0);
            let reason = if has_started { BETWEEN_ATTEMPTS } else { NOT_STARTED };
            effects.changes.push(active.decide(
                vessel,
                Status::Terminated,
                why.unwrap_or(reason),
                now,
            ));
        }
    }
}
