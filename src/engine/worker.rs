//! The workers: each takes a vessel from the queue, runs it to its end, settles it, and takes the
//! next in the same commit.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::engine::environment::{Surroundings, environment, own_variables};
use crate::engine::request::StoredRequest;
use crate::engine::{AttemptEnd, Decisions, Engine, Phase, Running};
use crate::model::change::Change;
use crate::model::fleet::Delivery;
use crate::model::limits::ARGUMENT_BYTES_MAX;
use crate::model::run::{End, OutputPlace, OutputRecord, RunRecord};
use crate::runner::output::{CapturedOutput, Kept, LiveOutput};
use crate::runner::shortage::Shortage;
use crate::runner::stop::StopSignal;
use crate::runner::{Ended, HowEnded, Launch, Payload};
use crate::scheduler::Claim;
use crate::store::COMMIT_SIBLINGS;

/// A vessel that a worker is to run: durable, and known to those who stop and follow.
pub struct Assignment {
    claim: Claim,
    output: Arc<LiveOutput>,
}

impl Assignment {
    /// What was claimed.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }
}

/// How an attempt came out.
#[derive(Debug)]
pub struct Outcome {
    pub how: HowItWent,
    pub output: CapturedOutput,
}

/// What has become of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HowItWent {
    Ended(End),
    /// The stopping server has ended it before its time.
    Abandoned,
    /// It has not started: the machine lacks what this says.
    Postponed(String),
}

impl Outcome {
    /// Nothing was started; `line` is all that the vessel's log says.
    fn without_start(assignment: &Assignment, end: End, line: &str) -> Self {
        assignment.output.append_line(line);
        Self { how: HowItWent::Ended(end), output: assignment.output.capture() }
    }
}

impl From<Ended> for Outcome {
    fn from(ended: Ended) -> Self {
        let end = match ended.how {
            HowEnded::Exited(code) => End::Exited(code),
            HowEnded::Signaled(signal) => End::Signaled(signal),
            HowEnded::OutOfMemory { exit_code } => End::OutOfMemory { exit_code },
            HowEnded::CutOff => End::CutOff,
            HowEnded::NotStarted(why) => End::NotStarted(why),
            HowEnded::Abandoned => {
                return Self { how: HowItWent::Abandoned, output: ended.output };
            }
            HowEnded::Postponed(shortage) => {
                let how = HowItWent::Postponed(shortage.reason);
                return Self { how, output: ended.output };
            }
        };
        Self { how: HowItWent::Ended(end), output: ended.output }
    }
}

impl Engine {
    /// Starts the workers. They end once the engine drains.
    ///
    /// # Errors
    /// When a thread or a descriptor is not to be had.
    pub fn start_workers(self: &Arc<Self>) -> std::io::Result<Vec<JoinHandle<()>>> {
        (0..self.settings.workers)
            .map(|number| {
                let engine = Arc::clone(self);
                let stop = Arc::new(StopSignal::new()?);
                let name = format!("worker-{number}");
                thread::Builder::new().name(name).spawn(move || engine.work(&stop))
            })
            .collect()
    }

    fn work(&self, stop: &Arc<StopSignal>) {
        let mut assigned = self.await_assignment(stop);
        while let Some(assignment) = assigned {
            let outcome = self.execute(&assignment, stop);
            let next = self.settle(&assignment, outcome, stop);
            assigned = next.or_else(|| self.await_assignment(stop));
        }
    }

    /// Waits for something to claim; `None` once the engine drains.
    fn await_assignment(&self, stop: &Arc<StopSignal>) -> Option<Assignment> {
        let mut decisions = self.decisions();
        while decisions.phase == Phase::Serving {
            decisions = match self.assign(decisions, stop) {
                Ok(assignment) => return Some(assignment),
                Err(decisions) => self.work.wait(decisions).unwrap_or_else(|_| super::poisoned()),
            };
        }
        None
    }

    /// Claims a vessel durably, if one can be had at once. With [`execute`](Self::execute) and
    /// [`settle`](Self::settle) this is all that a worker does, one step at a time.
    pub fn try_claim(&self, stop: &Arc<StopSignal>) -> Option<Assignment> {
        let decisions = self.decisions();
        if decisions.phase != Phase::Serving {
            return None;
        }
        self.assign(decisions, stop).ok()
    }

    /// Claims a vessel and waits until that is durable; gives the lock back when there is none.
    fn assign<'a>(
        &self,
        mut decisions: MutexGuard<'a, Decisions>,
        stop: &Arc<StopSignal>,
    ) -> Result<Assignment, MutexGuard<'a, Decisions>> {
        let mut changes = Vec::new();
        let Some(assignment) = self.claim(&mut decisions, stop, &mut changes) else {
            return Err(decisions);
        };
        let ticket = self.storage.commit(changes);
        drop(decisions);
        ticket.wait();
        Ok(assignment)
    }

    /// Claims a vessel, and wakes a fellow when there is more.
    fn claim(
        &self,
        decisions: &mut Decisions,
        stop: &Arc<StopSignal>,
        changes: &mut Vec<Change>,
    ) -> Option<Assignment> {
        if decisions.launching.is_held() {
            return None;
        }
        let (claim, claimed) = decisions.queue.claim(self.clock.now())?;
        changes.extend(claimed);
        stop.reset();
        let output = Arc::new(LiveOutput::default());
        let running =
            Running { attempt: claim.attempt, stop: Arc::clone(stop), output: Arc::clone(&output) };
        decisions.running.insert(claim.vessel_run, running);
        if decisions.queue.has_claimable() {
            self.work.notify_one();
        }
        Some(Assignment { claim, output })
    }

    /// Runs an attempt to its end. Where it could not be started, the machine may be to blame.
    pub fn execute(&self, assignment: &Assignment, stop: &StopSignal) -> Outcome {
        let mut outcome = self.attempt(assignment, stop);
        let has_failed = matches!(outcome.how, HowItWent::Ended(End::NotStarted(_)));
        if has_failed
            && stop.raised().is_none()
            && let Some(reason) = self.launcher.shortage(0)
        {
            outcome.how = HowItWent::Postponed(reason);
        }
        outcome
    }

    fn attempt(&self, assignment: &Assignment, stop: &StopSignal) -> Outcome {
        let claim = &assignment.claim;
        let vessel = &claim.version.definition.vessels[claim.vessel];
        let request = match self.stored_request(claim.run.id, claim.run.payload) {
            Ok(request) => request,
            Err(error) => {
                let why = format!("the stored request cannot be read: {error}");
                let line = format!("boathook: {why}");
                return Outcome::without_start(assignment, End::NotStarted(why), &line);
            }
        };
        let head = &request.head;
        if let Some(skip) = head.overrides.of(&vessel.name).and_then(|vessel| vessel.skip) {
            return Outcome::without_start(assignment, End::Skipped(skip), skip.log_line());
        }
        let own = match self.secrets.resolve(&own_variables(vessel, head)) {
            Ok(own) => own,
            Err(why) => {
                let line = format!("boathook: {why}");
                return Outcome::without_start(assignment, End::NotStarted(why), &line);
            }
        };
        let headers_json = (!head.headers.is_empty())
            .then(|| serde_json::to_string(&head.headers).unwrap_or_default());
        let payload = StoredPayload { request: &request, headers_json: headers_json.as_deref() };
        let environment = self.environment(claim, &payload, &own.variables);
        let notices: Vec<String> = claim.notice.iter().cloned().collect();
        let launch = Launch {
            run: claim.run.id,
            vessel_run: claim.vessel_run,
            attempt: claim.attempt,
            program: &vessel.program,
            working_directory: vessel.working_directory.as_deref(),
            user: claim.version.definition.user.as_deref(),
            confinement: &vessel.confinement,
            environment: &environment,
            secrets: &own.secrets,
            payload: &payload,
            runtime_cutoff: vessel.guardrails.runtime_cutoff,
            expects_directory: claim.expects_directory,
            notices: &notices,
        };
        let begun = Instant::now();
        self.at_work.fetch_add(1, Ordering::Relaxed);
        let ended = self.launcher.launch(&launch, stop, &assignment.output);
        self.at_work.fetch_sub(1, Ordering::Relaxed);
        let has_run = !matches!(
            ended.how,
            HowEnded::NotStarted(_) | HowEnded::Abandoned | HowEnded::Postponed(_)
        );
        if has_run {
            self.instruments.running.observe_duration(begun.elapsed());
        }
        let delivery = claim.version.definition.delivery;
        match ended {
            // It may have done something before it was killed.
            Ended { how: HowEnded::Postponed(Shortage { reason, has_started: true }), output }
                if delivery == Delivery::AtMostOnce =>
            {
                Outcome { how: HowItWent::Ended(End::NotStarted(reason)), output }
            }
            ended => Outcome::from(ended),
        }
    }

    fn environment(
        &self,
        claim: &Claim,
        payload: &StoredPayload<'_>,
        own: &[(String, String)],
    ) -> Vec<(String, String)> {
        let body_text = payload.body_text();
        let directory = self.launcher.directory(claim.run.id);
        let catalog = self.catalog();
        let project = catalog.project(claim.version.project_id);
        environment(&Surroundings {
            organization: &catalog.organization,
            // A project cannot be deleted while it has fleets, but its fleets can while they run.
            project: project.unwrap_or(&catalog.no_project),
            instance: self.server.instance,
            user: claim.version.definition.user.as_deref().unwrap_or(&self.user),
            claim,
            head: &payload.request.head,
            body_text: body_text.as_deref(),
            headers_json: payload.headers_json,
            work_directory: &directory.to_string_lossy(),
            own,
        })
    }

    /// Records the end of an attempt and claims the next in the same commit. What was abandoned is
    /// left to the next server.
    pub fn settle(
        &self,
        assignment: &Assignment,
        outcome: Outcome,
        stop: &Arc<StopSignal>,
    ) -> Option<Assignment> {
        let claim = &assignment.claim;
        let end = match outcome.how {
            HowItWent::Ended(end) => end,
            HowItWent::Abandoned => {
                self.abandon(assignment, outcome.output);
                return None;
            }
            HowItWent::Postponed(reason) if self.postpone(assignment, &reason) => return None,
            HowItWent::Postponed(reason) => End::NotStarted(reason),
        };
        let output = outcome.output;
        let (output, mut changes) = output_changes(claim, output);
        let mut decisions = self.decisions();
        let due_before = decisions.queue.next_due();
        if !matches!(end, End::NotStarted(_) | End::Skipped(_)) {
            decisions.launching.started();
        }
        let settled = decisions.queue.settle(claim.vessel_run, &end, output, self.clock.now());
        changes.extend(settled.changes);
        let notifications = self.note_ends(&mut decisions, &mut changes);
        if decisions.queue.next_due() != due_before {
            self.retries.notify_one();
        }
        let mut next = None;
        if decisions.phase == Phase::Serving {
            next = self.claim(&mut decisions, stop, &mut changes);
        }
        // Where enough others are at work, some may well end soon.
        let ticket = match self.at_work.load(Ordering::Relaxed) + 1 >= COMMIT_SIBLINGS {
            true => self.storage.commit_delayed(changes),
            false => self.storage.commit(changes),
        };
        drop(decisions);
        ticket.wait();
        self.instruments.attempts.count(AttemptEnd::from(&end));
        self.release(assignment);
        self.hand_over(notifications);
        if let Some(run) = settled.ended {
            self.run_ended(&run);
        }
        next
    }

    /// Leaves an attempt for the next server, with what it has written so far.
    fn abandon(&self, assignment: &Assignment, output: CapturedOutput) {
        let claim = &assignment.claim;
        let (output, mut changes) = output_changes(claim, output);
        let mut decisions = self.decisions();
        changes.extend(decisions.queue.abandon(claim.vessel_run, output));
        let ticket = self.storage.commit(changes);
        drop(decisions);
        ticket.wait();
        self.release(assignment);
    }

    /// The end of the attempt is durable: readers find it in the database from now on.
    pub(super) fn release(&self, assignment: &Assignment) {
        let claim = &assignment.claim;
        let mut decisions = self.decisions();
        if decisions.running.get(&claim.vessel_run).is_some_and(|it| it.attempt == claim.attempt) {
            decisions.running.remove(&claim.vessel_run);
        }
        if decisions.phase != Phase::Serving {
            self.idle.notify_all();
        }
        drop(decisions);
        assignment.output.finish();
    }

    /// A run has ended, durably.
    pub(super) fn run_ended(&self, run: &RunRecord) {
        if !self.settings.keep_workdir.keeps(run.status) {
            self.launcher.wipe_directory(run.id);
        }
        self.note_end(run);
    }

    /// Counts and logs the end of a run.
    pub(super) fn note_end(&self, run: &RunRecord) {
        self.instruments.ended.count(run.status);
        let (id, fleet, status) = (run.id, run.fleet_name.as_str(), run.status);
        match &run.reason {
            None => log::info!(run:% = id, fleet, status:%; "run ended"),
            Some(reason) => log::info!(run:% = id, fleet, status:%, reason; "run ended"),
        }
    }
}

/// The record of captured output, and what it adds to the settle's commit.
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

/// What triggered the run, as the vessel gets it.
struct StoredPayload<'a> {
    request: &'a StoredRequest,
    headers_json: Option<&'a str>,
}

impl StoredPayload<'_> {
    /// The body, when it is text and short enough to be an environment string.
    fn body_text(&self) -> Option<String> {
        let length = self.body_bytes();
        if length == 0 || length > ARGUMENT_BYTES_MAX as u64 {
            return None;
        }
        let mut bytes = Vec::with_capacity(length as usize);
        self.open_body().read_to_end(&mut bytes).ok()?;
        String::from_utf8(bytes).ok()
    }
}

impl Payload for StoredPayload<'_> {
    fn headers_json(&self) -> Option<&[u8]> {
        self.headers_json.map(str::as_bytes)
    }

    fn body_bytes(&self) -> u64 {
        self.request.body_bytes()
    }

    fn open_body(&self) -> Box<dyn Read + Send + '_> {
        Box::new(self.request.open_body())
    }
}
