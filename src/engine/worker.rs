//! The workers. Each claims a vessel, runs an attempt of it ([`attempt`](super::attempt)) and settles
//! the attempt. A settle claims the worker's next vessel in the same commit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crate::engine::{
    AttemptEnd, AttemptOutcome, Decisions, Engine, FinishedAttempt, Phase, Running,
};
use crate::model::change::Change;
use crate::model::ids::VesselRunId;
use crate::model::run::{End, OutputPlace, OutputRecord, RunRecord};
use crate::os::threads;
use crate::runner::output::{CapturedOutput, Kept, LiveOutput};
use crate::runner::stop::StopSignal;
use crate::scheduler::Claim;

/// A claimed vessel. The claim is durable, and the attempt can be stopped and followed.
pub struct Assignment {
    claim: Claim,
    output: Arc<LiveOutput>,
}

impl Assignment {
    /// The claim of the scheduler.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The output that the attempt writes.
    pub(super) fn output(&self) -> &LiveOutput {
        &self.output
    }
}

impl Engine {
    /// Starts the workers. They end once the engine drains.
    ///
    /// # Errors
    /// When the system has no thread or descriptor for them.
    pub fn start_workers(self: &Arc<Self>) -> std::io::Result<Vec<JoinHandle<()>>> {
        (0..self.settings.workers)
            .map(|number| {
                let engine = Arc::clone(self);
                let stop = Arc::new(StopSignal::new()?);
                let name = format!("worker-{number}");
                threads::vital(name).spawn(move || engine.work(&stop))
            })
            .collect()
    }

    /// What a worker does. The simulation takes the steps 2 to 4 one at a time.
    fn work(&self, stop: &Arc<StopSignal>) {
        // 1. Wait until a vessel can be claimed.
        while self.await_claimable() {
            // 2. Claim it, unless another worker was faster.
            let mut assigned = self.claim(stop);
            while let Some(assignment) = assigned {
                // 3. Run the attempt to its end.
                let finished = self.execute(&assignment, stop);
                // 4. Settle it, and claim the next vessel in the same commit.
                assigned = self.settle(&assignment, finished, stop);
            }
        }
    }

    /// Waits until a vessel can be claimed; false once the engine drains.
    fn await_claimable(&self) -> bool {
        let mut decisions = self.decisions();
        while decisions.phase == Phase::Serving && !decisions.can_claim() {
            decisions.workers_asleep += 1;
            decisions = self.work.wait(decisions).unwrap_or_else(|_| super::poisoned());
        }
        decisions.phase == Phase::Serving
    }

    /// Claims a vessel, if there is one, and waits until the claim is durable. `stop` is the worker's
    /// own signal, by which its attempt is stopped.
    pub fn claim(&self, stop: &Arc<StopSignal>) -> Option<Assignment> {
        let mut changes = Vec::new();
        let mut decisions = self.decisions();
        let assignment = self.claim_next(&mut decisions, stop, &mut changes)?;
        let commit = self.store.commit(changes);
        drop(decisions);
        commit.wait();
        Some(assignment)
    }

    /// Decides on a claim, and wakes another worker when there is more to claim.
    fn claim_next(
        &self,
        decisions: &mut Decisions,
        stop: &Arc<StopSignal>,
        changes: &mut Vec<Change>,
    ) -> Option<Assignment> {
        if !decisions.can_claim() {
            return None;
        }
        let (claim, claimed) = decisions.queue.claim(self.clock.now())?;
        changes.extend(claimed);
        stop.reset();
        let output = Arc::new(LiveOutput::default());
        let running = Running {
            attempt: claim.attempt,
            stop: Some(Arc::clone(stop)),
            output: Arc::clone(&output),
        };
        decisions.running.insert(claim.vessel_run, running);
        self.wake_worker(decisions);
        Some(Assignment { claim, output })
    }

    /// Wakes a worker that sleeps, if a vessel can be claimed. A worker that is awake looks by itself
    /// before it sleeps.
    pub(super) fn wake_worker(&self, decisions: &mut Decisions) {
        if decisions.workers_asleep > 0 && decisions.can_claim() {
            decisions.workers_asleep -= 1;
            self.work.notify_one();
        }
    }

    /// Wakes all workers.
    pub(super) fn wake_workers(&self, decisions: &mut Decisions) {
        decisions.workers_asleep = 0;
        self.work.notify_all();
    }

    /// Records the end of an attempt and claims the worker's next vessel in the same commit.
    pub fn settle(
        &self,
        assignment: &Assignment,
        finished: FinishedAttempt,
        stop: &Arc<StopSignal>,
    ) -> Option<Assignment> {
        let claim = &assignment.claim;
        let end = match finished.outcome {
            AttemptOutcome::Ended(end) => end,
            AttemptOutcome::Abandoned => {
                self.abandon(assignment, finished.output);
                return None;
            }
            AttemptOutcome::Postponed(reason) if self.postpone(assignment, &reason) => return None,
            // A stop was requested meanwhile: the attempt ends with it.
            AttemptOutcome::Postponed(reason) => End::NotStarted(reason),
        };
        let (output, mut changes) = output_changes(claim, finished.output);
        // 1. Decide what follows: a retry, the vessels downstream, the end of the run.
        let mut decisions = self.decisions();
        let due_before = decisions.queue.next_due();
        if !matches!(end, End::NotStarted(_) | End::Skipped(_)) {
            decisions.launching.started();
        }
        let settled = decisions.queue.settle(claim.vessel_run, &end, output, self.clock.now());
        decisions.take_stop_signal(claim.vessel_run);
        changes.extend(settled.changes);
        let notifications = self.note_ends(&mut decisions, &mut changes);
        self.wake_timer(&decisions, due_before);
        // 2. Claim the next vessel.
        let next = self.claim_next(&mut decisions, stop, &mut changes);
        // 3. Make both durable. Attempts that run may share the commit.
        let senders = self.attempts_running.load(Ordering::Relaxed) + 1;
        let commit = self.store.commit_among(senders, changes);
        drop(decisions);
        commit.wait();
        // 4. The rest follows the durable end.
        self.metrics.attempts.count(AttemptEnd::from(&end));
        if let Some(run) = &settled.ended {
            // A server that stops waits until the attempt is released, and no longer.
            self.waiting.tell_end(run);
        }
        self.release(assignment);
        self.hand_over(notifications);
        if let Some(run) = settled.ended {
            self.run_ended(&run);
        }
        next
    }

    /// Leaves an attempt to the next server, with the output that it has written.
    fn abandon(&self, assignment: &Assignment, output: CapturedOutput) {
        let claim = &assignment.claim;
        let (output, mut changes) = output_changes(claim, output);
        let mut decisions = self.decisions();
        decisions.take_stop_signal(claim.vessel_run);
        changes.extend(decisions.queue.abandon(claim.vessel_run, output));
        let commit = self.store.commit(changes);
        drop(decisions);
        commit.wait();
        self.release(assignment);
    }

    /// Lets readers find a settled attempt in the database: its end is durable.
    pub(super) fn release(&self, assignment: &Assignment) {
        let vessel_run = assignment.claim.vessel_run;
        let mut decisions = self.decisions();
        // The vessel's next attempt may have its entry already.
        let is_this = |it: &Running| Arc::ptr_eq(&it.output, &assignment.output);
        if decisions.running.get(&vessel_run).is_some_and(is_this) {
            decisions.running.remove(&vessel_run);
        }
        if decisions.phase != Phase::Serving {
            self.idle.notify_all();
        }
        drop(decisions);
        assignment.output.finish();
    }

    /// Follows the durable end of a run: removes its work directory, counts and logs it.
    pub(super) fn run_ended(&self, run: &RunRecord) {
        if !self.settings.keep_workdir.keeps(run.status) && !self.defers_wipe(run.id) {
            self.launcher.wipe_directory(run.id);
        }
        self.note_end(run);
    }

    /// Tells the sender of a run, if it still waits, that the run has ended. Counts and logs the end.
    pub(super) fn note_end(&self, run: &RunRecord) {
        self.waiting.tell_end(run);
        self.latest_ends.note(run);
        self.metrics.ended.count(run.status);
        let (id, fleet, status) = (run.id, run.fleet_name.as_str(), run.status);
        match &run.reason {
            None => log::info!(run:% = id, fleet, status:%; "run ended"),
            Some(reason) => log::info!(run:% = id, fleet, status:%, reason; "run ended"),
        }
    }
}

impl Decisions {
    /// Whether a vessel can be claimed now.
    pub(super) fn can_claim(&self) -> bool {
        self.phase == Phase::Serving && !self.launching.is_held() && self.queue.has_claimable()
    }

    /// Detaches the worker's stop signal from an attempt that is decided: the worker's next attempt
    /// uses the same signal, and a late stop of this one must not reach it.
    pub(super) fn take_stop_signal(&mut self, vessel_run: VesselRunId) {
        let running = self.running.get_mut(&vessel_run);
        debug_assert!(running.is_some(), "{vessel_run} is settled without an entry");
        if let Some(running) = running {
            running.stop = None;
        }
    }
}

/// The record of captured output, and the changes that store it.
fn output_changes(claim: &Claim, output: CapturedOutput) -> (OutputRecord, Vec<Change>) {
    let (vessel_run, attempt) = (claim.vessel_run, claim.attempt);
    let (place, changes) = match output.kept {
        Kept::Nothing => (OutputPlace::Nowhere, Vec::new()),
        Kept::Inline(bytes) => {
            (OutputPlace::Rows, vec![Change::PutOutput { vessel_run, attempt, bytes }])
        }
        Kept::File => (OutputPlace::File, Vec::new()),
    };
    (OutputRecord { place, bytes: output.bytes, kept: output.kept_bytes }, changes)
}
