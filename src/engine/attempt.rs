//! One attempt of a vessel: what its program gets, its start, and how it ends.

use std::borrow::Cow;
use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::config::secrets::{Resolved, SecretStore};
use crate::engine::compute::ComputedStart;
use crate::engine::environment::{EnvironmentInputs, environment, own_variables};
use crate::engine::request::RunRequest;
use crate::engine::{Assignment, Engine};
use crate::model::environment::Environment;
use crate::model::fleet::{Delivery, Program};
use crate::model::limits::ARGUMENT_BYTES_MAX;
use crate::model::request::{Headers, given_headers};
use crate::model::run::{End, Skip};
use crate::model::runner::Runner;
use crate::runner::output::{CapturedOutput, LiveOutput};
use crate::runner::shortage::Shortage;
use crate::runner::stop::StopSignal;
use crate::runner::{Ended, HowEnded, Launch, Payload};
use crate::scheduler::Claim;

/// An attempt that is over but not settled.
#[derive(Debug)]
pub struct FinishedAttempt {
    pub outcome: AttemptOutcome,
    pub output: CapturedOutput,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    Ended(End),
    /// The stopping server has ended it. The next server resumes the vessel.
    Abandoned,
    /// It has not started. The text says what the machine lacks.
    Postponed(String),
}

/// What the program of an attempt gets, read from the database and the operator's secrets.
pub(super) struct PreparedAttempt<'a> {
    request: RunRequest,
    /// The headers file; `None` when the request has no headers.
    headers_json: Option<String>,
    own: Resolved,
    /// The vessel's program with the text of each argument.
    program: Cow<'a, Program>,
    runner: Option<&'a Runner>,
}

/// Why an attempt ends without a start.
pub(super) enum NoStart {
    Skipped(Skip),
    Failed(String),
}

impl Engine {
    /// Runs an attempt to its end.
    pub fn execute(&self, assignment: &Assignment, stop: &StopSignal) -> FinishedAttempt {
        // 1. Gather what the program gets, and start it unless that fails or the run skips it.
        let mut finished = match self.prepare(assignment.claim()) {
            Ok(prepared) => self.launch(assignment, &prepared, stop),
            Err(why) => FinishedAttempt::without_start(assignment, why),
        };
        // 2. A failed start counts against the vessel only if the machine lacks nothing.
        if matches!(finished.outcome, AttemptOutcome::Ended(End::NotStarted(_)))
            && stop.raised().is_none()
            && let Some(reason) = self.launcher.shortage(0)
        {
            finished.outcome = AttemptOutcome::Postponed(reason);
        }
        finished
    }

    /// Reads what the attempt needs.
    ///
    /// # Errors
    /// When the run skips the vessel, or something it needs cannot be read.
    fn prepare<'a>(&'a self, claim: &'a Claim) -> Result<PreparedAttempt<'a>, NoStart> {
        let request = self.stored_request(claim.run.id, claim.run.payload).map_err(|error| {
            NoStart::Failed(format!("the stored request cannot be read: {error}"))
        })?;
        self.prepare_with(claim, request, self.secrets.store())
    }

    /// Composes what the attempt needs from its request, with the values of `secrets`.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub(super) fn prepare_with<'a>(
        &'a self,
        claim: &'a Claim,
        request: RunRequest,
        secrets: &SecretStore,
    ) -> Result<PreparedAttempt<'a>, NoStart> {
        let definition = &claim.version.definition;
        let vessel = &definition.vessels[claim.vessel];
        let head = &request.head;
        if let Some(skip) = head.overrides.of(&vessel.name).and_then(|vessel| vessel.skip) {
            return Err(NoStart::Skipped(skip));
        }
        let runner = self.settings.runners.of(definition, vessel);
        let runner = runner.map_err(|unknown| NoStart::Failed(format!("runner: {unknown}")))?;
        let variables = own_variables(vessel, head);
        let ComputedStart { program, variables } =
            self.compute(claim, &request, variables).map_err(NoStart::Failed)?;
        let mut own = secrets.resolve(&variables).map_err(NoStart::Failed)?;
        if let Program::Code(code) = &vessel.program {
            let resolved = secrets.resolve_references(code.secrets(), &mut own);
            resolved.map_err(NoStart::Failed)?;
        }
        let headers_json = headers_json(&head.headers).map_err(|error| {
            NoStart::Failed(format!("the headers cannot be written as JSON: {error}"))
        })?;
        Ok(PreparedAttempt { request, headers_json, own, program, runner })
    }

    /// Starts the program and waits for its end.
    fn launch(
        &self,
        assignment: &Assignment,
        prepared: &PreparedAttempt<'_>,
        stop: &StopSignal,
    ) -> FinishedAttempt {
        let claim = assignment.claim();
        let environment = self.environment(claim, prepared);
        let launch = prepared.launch(claim, &environment);
        let begun = Instant::now();
        self.attempts_running.fetch_add(1, Ordering::Relaxed);
        let mut ended = self.launcher.launch(&launch, stop, assignment.output());
        self.attempts_running.fetch_sub(1, Ordering::Relaxed);
        let has_run = !matches!(
            ended.how,
            HowEnded::NotStarted(_) | HowEnded::Abandoned | HowEnded::Postponed(_)
        );
        if launch.may_answer && has_run {
            self.waiting.take_answer(claim.vessel_run, ended.answer.take());
        }
        if has_run {
            self.metrics.running.observe_duration(begun.elapsed());
        }
        match ended {
            // A program that has started may have had effects: `at_most_once` forbids another start.
            Ended {
                how: HowEnded::Postponed(Shortage { reason, has_started: true }),
                output,
                ..
            } if claim.version.definition.delivery == Delivery::AtMostOnce => {
                FinishedAttempt { outcome: AttemptOutcome::Ended(End::NotStarted(reason)), output }
            }
            ended => FinishedAttempt::from(ended),
        }
    }

    /// Ends what an attempt of an earlier server may have left with its runner's engine. The claim is
    /// that of the attempt.
    pub(super) fn clean_up(&self, claim: &Claim, output: &LiveOutput) {
        let prepared = match self.prepare(claim) {
            Ok(prepared) => prepared,
            // Its program was not started either.
            Err(NoStart::Skipped(_)) => return,
            Err(NoStart::Failed(reason)) => {
                output.append_line(&format!("boathook: the cleanup failed: {reason}"));
                log::warn!(vessel_run:% = claim.vessel_run, reason; "the cleanup of an interrupted attempt failed");
                return;
            }
        };
        let environment = self.environment(claim, &prepared);
        self.launcher.clean_up(&prepared.launch(claim, &environment), output);
    }

    /// The environment of the attempt.
    pub(super) fn environment(&self, claim: &Claim, prepared: &PreparedAttempt<'_>) -> Environment {
        let base = self.bases.of(&claim.version, claim.vessel);
        let body_text = prepared.body_text();
        let directory = self.launcher.directory(claim.run.id);
        let catalog = self.catalog();
        let project = catalog.project(claim.version.project_id);
        environment(&EnvironmentInputs {
            organization: &catalog.organization,
            // A project goes only without fleets, but its fleets may go while their runs last.
            project: project.unwrap_or(&catalog.no_project),
            base: &base,
            instance: self.server.instance,
            user: claim.version.definition.user.as_deref().unwrap_or(&self.user),
            claim,
            head: &prepared.request.head,
            body_text: body_text.as_deref(),
            headers_json: prepared.headers_json.as_deref(),
            work_directory: &directory.to_string_lossy(),
            own: &prepared.own.variables,
        })
    }
}

impl FinishedAttempt {
    /// An attempt whose program was not started. The vessel's log says why.
    fn without_start(assignment: &Assignment, why: NoStart) -> Self {
        let output = assignment.output();
        let end = match why {
            NoStart::Skipped(skip) => {
                output.append_line(skip.log_line());
                End::Skipped(skip)
            }
            NoStart::Failed(why) => {
                output.append_line(&format!("boathook: {why}"));
                End::NotStarted(why)
            }
        };
        Self { outcome: AttemptOutcome::Ended(end), output: output.capture() }
    }
}

impl From<Ended> for FinishedAttempt {
    fn from(ended: Ended) -> Self {
        let outcome = match ended.how {
            HowEnded::Exited(code) => AttemptOutcome::Ended(End::Exited(code)),
            HowEnded::Signaled(signal) => AttemptOutcome::Ended(End::Signaled(signal)),
            HowEnded::OutOfMemory { exit_code } => {
                AttemptOutcome::Ended(End::OutOfMemory { exit_code })
            }
            HowEnded::CutOff => AttemptOutcome::Ended(End::CutOff),
            HowEnded::NotStarted(why) => AttemptOutcome::Ended(End::NotStarted(why)),
            HowEnded::Abandoned => AttemptOutcome::Abandoned,
            HowEnded::Postponed(shortage) => AttemptOutcome::Postponed(shortage.reason),
        };
        Self { outcome, output: ended.output }
    }
}

impl PreparedAttempt<'_> {
    /// The attempt `claim`, ready to start.
    pub(super) fn launch<'l>(
        &'l self,
        claim: &'l Claim,
        environment: &'l Environment,
    ) -> Launch<'l> {
        let definition = &claim.version.definition;
        let vessel = &definition.vessels[claim.vessel];
        Launch {
            run: claim.run.id,
            vessel_run: claim.vessel_run,
            attempt: claim.attempt,
            program: &self.program,
            working_directory: vessel.working_directory.as_deref(),
            runner: self.runner,
            cleans_first: claim.attempt > 1 || claim.is_resumed,
            user: definition.user.as_deref(),
            confinement: &vessel.confinement,
            environment,
            references: &self.own.references,
            secrets: &self.own.secrets,
            payload: self,
            runtime_cutoff: vessel.guardrails.runtime_cutoff,
            may_answer: definition.may_answer(claim.vessel),
            expects_directory: claim.expects_directory,
            notices: claim.notice.as_slice(),
        }
    }

    /// The body, if it is text and short enough for an environment string.
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

impl Payload for PreparedAttempt<'_> {
    fn headers_json(&self) -> Option<&[u8]> {
        self.headers_json.as_deref().map(str::as_bytes)
    }

    fn body_bytes(&self) -> u64 {
        self.request.body_bytes()
    }

    fn open_body(&self) -> Box<dyn Read + Send + '_> {
        self.request.open_body()
    }
}

/// The headers that a vessel is given, as JSON; `None` when there are none.
fn headers_json(headers: &Headers) -> serde_json::Result<Option<String>> {
    let given = given_headers(headers);
    if given.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&given).map(Some)
}
