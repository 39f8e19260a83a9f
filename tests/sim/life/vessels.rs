//! The steps of workers: claim a vessel, execute it, and settle it some steps later.

use std::sync::Arc;

use boathook::internals::{
    Assignment, AttemptOutcome, Change, End, Kept, Status, Stop, Timestamp, VesselRunId,
};

use super::{Answer, Flight, Life};
use crate::machine::Launched;
use crate::model::index;

/// SIGTERM and SIGKILL, as signal(7) numbers them.
const TERM: i32 = 15;
const KILL: i32 = 9;

impl Life {
    /// A random worker does its next step.
    pub(super) fn work(&mut self) {
        let worker = self.random.usize(..self.temper.workers);
        match self.server().workers[worker].vessel {
            Some(_) => self.settle(worker),
            None => self.claim(worker),
        }
    }

    fn claim(&mut self, worker: usize) {
        let expected = self.model.has_claimable();
        let stop = Arc::clone(&self.server().workers[worker].stop);
        let outcome = self.call(|engine| engine.claim(&stop));
        let interrupted = self.observe_claims(&outcome);
        match outcome.result {
            Some(Some(assignment)) => self.launch(worker, assignment, interrupted),
            Some(None) => {
                let is_paused = self.engine().is_paused();
                assert!(is_paused || !expected, "a vessel can be claimed and is not");
            }
            None => {}
        }
    }

    /// Tells the model which vessels the engine has claimed. Returns whether the vessel's log must say
    /// why it starts again.
    fn observe_claims<T>(&mut self, outcome: &Answer<T>) -> bool {
        let mut interrupted = false;
        for change in outcome.changes() {
            let Change::PutVesselRun(record) = change else { continue };
            let vessel = &self.model.run(record.id.run()).vessels[index(record.id)];
            let runs = matches!(record.status, Status::Running | Status::Retrying);
            if runs && record.retry_at.is_none() && record.attempt > vessel.attempts {
                interrupted = vessel.interrupted;
                self.model.claim(record.id, record.attempt);
                self.note(format!("claim of {} of {}", index(record.id), record.id.run()));
            }
        }
        interrupted
    }

    fn launch(&mut self, worker: usize, assignment: Assignment, interrupted: bool) {
        let (vessel_run, attempt) = (assignment.claim().vessel_run, assignment.claim().attempt);
        {
            let fails = self.chance(self.temper.spawn_failure);
            let output = self.random_output();
            let mut machine = self.machine.lock();
            machine.next_spawn_fails = fails;
            machine.next_output = output;
            machine.launched = None;
        }
        let stop = Arc::clone(&self.server().workers[worker].stop);
        let finished = self.engine().execute(&assignment, &stop);
        let launched = self.machine.lock().launched.take();
        let skip = self.model.run(vessel_run.run()).skip(index(vessel_run));
        if let Some(skip) = skip {
            assert!(launched.is_none(), "{vessel_run} is to be skipped");
            assert_eq!(finished.outcome, AttemptOutcome::Ended(End::Skipped(skip)));
        } else if let AttemptOutcome::Postponed(_) = finished.outcome {
            assert!(self.machine.lock().is_short, "{vessel_run} is postponed for no reason");
        } else {
            let launched =
                launched.unwrap_or_else(|| panic!("{vessel_run} is not started: {finished:?}"));
            assert_eq!((launched.vessel_run, launched.attempt), (vessel_run, attempt));
            assert_eq!(launched.notices > 0, interrupted, "{vessel_run} says why it starts again");
            self.check_directory(&launched);
        }
        if let Some(server) = &mut self.server {
            server.workers[worker].vessel = Some(Flight { assignment, finished });
        }
    }

    /// A vessel finds the files of the vessels upstream in the work directory.
    fn check_directory(&self, launched: &Launched) {
        let vessel_run = launched.vessel_run;
        let run = self.model.run(vessel_run.run());
        for (upstream, _) in run.upstream(index(vessel_run)) {
            let was_skipped = run.vessels[upstream].skipped.is_some();
            let upstream = vessel_run.run().vessel_run(upstream);
            let has_written = was_skipped || launched.marks.contains(&upstream);
            assert!(has_written, "{vessel_run} misses what {upstream} has left in the directory");
        }
    }

    /// The worker's vessel ends. The worker may claim another one with it.
    pub(super) fn settle(&mut self, worker: usize) {
        let Some(server) = &mut self.server else { return };
        let Some(Flight { assignment, mut finished }) = server.workers[worker].vessel.take() else {
            return;
        };
        let stop = Arc::clone(&server.workers[worker].stop);
        let (vessel_run, attempt) = (assignment.claim().vessel_run, assignment.claim().attempt);
        let is_decided = matches!(
            finished.outcome,
            AttemptOutcome::Postponed(_)
                | AttemptOutcome::Ended(End::NotStarted(_) | End::Skipped(_))
        );
        if !is_decided {
            finished.outcome = self.random_end(vessel_run, stop.raised());
        }
        self.machine.reap(vessel_run, finished.outcome == AttemptOutcome::Abandoned);
        self.note(format!(
            "end of {} of {}: {:?}",
            index(vessel_run),
            vessel_run.run(),
            finished.outcome
        ));
        let written = match &finished.output.kept {
            Kept::Inline(bytes) => bytes.clone(),
            _ => Vec::new(),
        };
        let decided = finished.outcome.clone();
        let now = self.machine.now();
        let outcome = self.call(|engine| engine.settle(&assignment, finished, &stop));
        let mut interrupted = false;
        if outcome.is_durable() {
            self.outputs.insert((vessel_run, attempt), written);
            let retry_at = retry_at(&outcome, vessel_run, attempt);
            match decided {
                AttemptOutcome::Abandoned => {}
                AttemptOutcome::Ended(end) => self.model.settle(vessel_run, &end, retry_at, now),
                AttemptOutcome::Postponed(_) if self.model.postpone(vessel_run) => {
                    self.outputs.remove(&(vessel_run, attempt));
                }
                AttemptOutcome::Postponed(why) => {
                    self.model.settle(vessel_run, &End::NotStarted(why), retry_at, now);
                }
            }
            interrupted = self.observe_claims(&outcome);
        }
        if let Some(Some(assignment)) = outcome.result {
            self.launch(worker, assignment, interrupted);
        }
    }

    /// A random end of a vessel, stopped or not.
    fn random_end(&mut self, vessel_run: VesselRunId, stop: Option<Stop>) -> AttemptOutcome {
        let obeys = self.random.u8(..4) > 0;
        match stop {
            Some(Stop::Requested) if obeys => return AttemptOutcome::Ended(End::Signaled(TERM)),
            Some(Stop::Abandon) if obeys => return AttemptOutcome::Abandoned,
            _ => {}
        }
        let run = self.model.run(vessel_run.run());
        let has_cutoff = !run.guardrails(index(vessel_run)).runtime_cutoff.is_zero();
        AttemptOutcome::Ended(match self.random.u8(..20) {
            0..=11 => End::Exited(0),
            12 => End::Signaled(KILL),
            13 if has_cutoff => End::CutOff,
            _ => End::Exited(self.random.i32(1..8)),
        })
    }

    fn random_output(&mut self) -> Vec<u8> {
        let length = match self.random.u8(..8) {
            0 => self.random.usize(1..9_000),
            1 | 2 => self.random.usize(1..100),
            _ => 0,
        };
        std::iter::repeat_with(|| self.random.u8(..)).take(length).collect()
    }
}

/// When the engine retries, by the row of the ended attempt.
fn retry_at<T>(outcome: &Answer<T>, vessel_run: VesselRunId, attempt: u32) -> Option<Timestamp> {
    outcome.changes().find_map(|change| match change {
        Change::PutVesselRun(it) if it.id == vessel_run && it.attempt == attempt => it.retry_at,
        _ => None,
    })
}
