//! The effects of an attempt's end: a retry, the vessels downstream, the end of the run.

use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::{RunId, VesselRunId};
use crate::model::run::{End, OutputRecord, RunRecord, SIGKILL, Status};
use crate::scheduler::Queue;
use crate::scheduler::active::{ActiveRun, VesselState};

/// The effects of a settled attempt.
#[derive(Debug, Default)]
pub struct Settled {
    pub changes: Vec<Change>,
    /// The run, if it ended with this attempt.
    pub ended: Option<RunRecord>,
}

impl Queue {
    /// Records the end of a claimed attempt. Without effect if the vessel is not running.
    pub fn settle(
        &mut self,
        vessel_run: VesselRunId,
        end: &End,
        output: OutputRecord,
        now: Timestamp,
    ) -> Settled {
        // The due time of a retry counts from `now`, so the timer compares the clock with it.
        self.now_last = self.now_last.max(now);
        let run = vessel_run.run();
        let settled = vessel_run
            .vessel()
            .and_then(|vessel| Some((vessel, self.active.get_mut(&run)?)))
            .filter(|(vessel, active)| {
                active.vessels.get(*vessel).is_some_and(|it| it.state == VesselState::Running)
            });
        let Some((vessel, active)) = settled else { return Settled::default() };
        let fleet = active.record.fleet_id;
        let retry_at = settle_vessel(active, vessel, end, output, now);
        let mut changes = Vec::new();
        if let Some(record) = &active.vessels[vessel].record {
            changes.push(Change::PutVesselRun(record.clone()));
        }
        self.running -= 1;
        self.lanes.vessel_ended(fleet);
        if let Some(due) = retry_at {
            self.retries.insert((due, run, vessel));
        }
        let ended = self.advance(run, now, &mut changes);
        self.release_crash_looping(run);
        Settled { changes, ended }
    }

    /// Records the output of an attempt that the stopping server has ended. The attempt stays
    /// Running, so that the next server resumes the vessel.
    pub fn abandon(&mut self, vessel_run: VesselRunId, output: OutputRecord) -> Vec<Change> {
        let Some(active) = self.active.get_mut(&vessel_run.run()) else { return Vec::new() };
        let vessel = vessel_run.vessel().and_then(|vessel| active.vessels.get_mut(vessel));
        let Some(record) = vessel.and_then(|vessel| vessel.record.as_mut()) else {
            return Vec::new();
        };
        record.output = output;
        active.record.output_bytes = active.record.output_bytes.saturating_add(output.kept);
        vec![Change::PutVesselRun(record.clone()), Change::PutRun(active.record.clone())]
    }

    /// Follows the run's paths after a vessel was decided, and ends the run if it was the last one.
    pub(super) fn advance(
        &mut self,
        run: RunId,
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) -> Option<RunRecord> {
        let active = self.active.get_mut(&run)?;
        let (ready, decided) = active.follow_paths(now);
        changes.extend(decided);
        if active.is_decided() {
            changes.extend(active.end(now));
            return self.finish(run).map(|active| active.record);
        }
        changes.extend(active.note_status());
        for vessel in ready {
            self.push_ready(run, vessel);
        }
        None
    }
}

/// Enters the end of an attempt into the vessel's record and state. Returns when the vessel is
/// retried.
fn settle_vessel(
    active: &mut ActiveRun,
    vessel: usize,
    end: &End,
    output: OutputRecord,
    now: Timestamp,
) -> Option<Timestamp> {
    let guardrails = &active.version.definition.vessels[vessel].guardrails;
    let entry = &mut active.vessels[vessel];
    let record = entry.record.as_mut()?;
    record.ended_at = Some(now);
    record.output = output;
    active.record.output_bytes = active.record.output_bytes.saturating_add(output.kept);
    let why_stopped = record.why_stopped();
    record.reason = end.reason();
    match end {
        End::Exited(code) | End::OutOfMemory { exit_code: Some(code) } => {
            record.exit_code = Some(*code);
        }
        End::Signaled(signal) => record.signal = Some(*signal),
        End::OutOfMemory { exit_code: None } => record.signal = Some(SIGKILL),
        End::CutOff | End::NotStarted(_) => {}
        End::Skipped(skip) => {
            record.exit_code = skip.exit_code();
            record.skip = Some(*skip).filter(|_| !record.stop_requested);
        }
    }
    record.status = end.status();
    let may_retry = match end {
        End::Exited(code) | End::OutOfMemory { exit_code: Some(code) } => {
            guardrails.retries_exit_code(*code)
        }
        End::OutOfMemory { exit_code: None } => guardrails.retries_signal(SIGKILL),
        End::Signaled(signal) => guardrails.retries_signal(*signal),
        // A retry would be skipped again.
        End::Skipped(_) => false,
        _ => true,
    };
    let mut retry_at = None;
    if record.stop_requested {
        record.status = Status::Terminated;
        record.reason = Some(why_stopped);
    } else if record.status == Status::Errored
        && may_retry
        && record.retries < guardrails.retry_count
    {
        record.status = Status::Retrying;
        record.retries += 1;
        retry_at = Some(now.plus(guardrails.wait_before(record.retries, record.id)));
        record.retry_at = retry_at;
    }
    entry.state = match retry_at {
        Some(due) => VesselState::AwaitsRetry { due },
        None => VesselState::Ended(record.status),
    };
    retry_at
}
