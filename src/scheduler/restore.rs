//! Putting a stored run back after a restart of the server: it waits, goes on where it was, starts
//! again, or ends.

use std::sync::Arc;

use crate::model::change::{Change, QueueEntry};
use crate::model::clock::Timestamp;
use crate::model::fleet::{Delivery, FleetVersion};
use crate::model::run::{RunRecord, Status, VesselRunRecord};
use crate::scheduler::active::{ActiveRun, Vessel, VesselState};
use crate::scheduler::{Queue, QueuedRun};

/// Why a run was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The last server stopped in order.
    Stop,
    /// It did not.
    Crash,
    /// The run comes from a backup.
    Restore,
}

/// How the last server ended, and what it left of a run.
#[derive(Clone, Copy, Debug)]
pub struct Interruption {
    pub cause: Cause,
    /// The run's work directory is there, and from this boot of the machine: what vessels wrote
    /// into it is whole.
    pub has_directory: bool,
    /// The machine was booted since the last server ran.
    pub is_rebooted: bool,
}

/// The rows of a run that has started.
#[derive(Clone, Debug)]
pub struct Started {
    pub record: RunRecord,
    /// The latest attempt of each vessel, by its index.
    pub vessels: Vec<Option<VesselRunRecord>>,
    pub interruption: Interruption,
}

/// What became of a restored run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It waits as before.
    Waiting,
    /// It goes on at the first vessel whose end was not recorded.
    Resumed,
    /// It starts again at its first vessel; what is left of its work directory must be removed
    /// before any vessel starts.
    Restarted,
    /// It has ended; so must its work directory.
    Ended,
}

/// How a stored run ends that is not put back, and why.
#[derive(Clone, Copy, Debug)]
pub enum Discard<'a> {
    /// What has not ended is Terminated.
    Terminated(&'a str),
    /// What was running, or would have run next, is Errored; the rest never runs.
    GivenUp(&'a str),
}

impl Queue {
    /// Puts back a run that was not finished. `started` when any of its vessels had been claimed.
    pub fn restore(
        &mut self,
        entry: &QueueEntry,
        version: Arc<FleetVersion>,
        started: Option<Started>,
        now: Timestamp,
    ) -> (Restored, Vec<Change>) {
        self.now_last = self.now_last.max(now);
        self.sequence_next = self.sequence_next.max(entry.sequence + 1);
        let Some(started) = started else {
            self.lanes.push(entry.sequence, queued(entry, version));
            return (Restored::Waiting, Vec::new());
        };
        let mut changes = Vec::new();
        let mut active = ActiveRun::new(started.record, version);
        load_vessels(&mut active, started.vessels);
        let limit = self.crash_attempts_max;
        let restored = interrupt(&mut active, started.interruption, limit, now, &mut changes);
        let run = active.record.id;
        self.lanes.resumed(active.record.fleet_id, active.record.payload);
        for vessel in 0..active.vessels.len() {
            if let VesselState::AwaitsRetry { due } = active.vessels[vessel].state {
                // A due time further ahead than the wait means that the clock stepped back.
                let due = due.min(now.plus(active.retry_wait(vessel)));
                active.vessels[vessel].state = VesselState::AwaitsRetry { due };
                self.retries.insert((due, run, vessel));
            }
        }
        self.active.insert(run, active);
        match self.advance(run, now, &mut changes) {
            Some(_) => (Restored::Ended, changes),
            None => (restored, changes),
        }
    }

    /// Ends a run that was not finished instead of putting it back: as a stop would, or as given up.
    pub fn discard(
        &mut self,
        entry: &QueueEntry,
        version: Arc<FleetVersion>,
        started: Option<Started>,
        discard: Discard<'_>,
        now: Timestamp,
    ) -> Vec<Change> {
        self.now_last = self.now_last.max(now);
        self.sequence_next = self.sequence_next.max(entry.sequence + 1);
        let mut active = match started {
            Some(started) => {
                let mut active = ActiveRun::new(started.record, version);
                load_vessels(&mut active, started.vessels);
                active
            }
            None => {
                let record = queued(entry, Arc::clone(&version)).record(entry.sequence);
                ActiveRun::new(record, version)
            }
        };
        let mut changes = Vec::new();
        match discard {
            Discard::Terminated(reason) => {
                for vessel in 0..active.vessels.len() {
                    if active.ended(vessel).is_none() {
                        changes.push(active.decide(vessel, Status::Terminated, reason, now));
                    }
                }
            }
            Discard::GivenUp(reason) => give_up(&mut active, reason, now, &mut changes),
        }
        changes.extend(active.end(now));
        changes
    }
}

fn queued(entry: &QueueEntry, version: Arc<FleetVersion>) -> QueuedRun {
    QueuedRun {
        id: entry.run,
        version,
        trigger: entry.trigger,
        replay_of: entry.replay_of,
        payload: entry.payload,
        queued_at: entry.queued_at.unwrap_or_else(|| entry.run.time()),
    }
}

fn load_vessels(active: &mut ActiveRun, records: Vec<Option<VesselRunRecord>>) {
    for (vessel, record) in active.vessels.iter_mut().zip(records) {
        let state = match &record {
            Some(record) if record.status.is_final() => VesselState::Ended(record.status),
            Some(VesselRunRecord { retry_at: Some(due), .. }) => {
                VesselState::AwaitsRetry { due: *due }
            }
            Some(VesselRunRecord { status: Status::Running | Status::Retrying, .. }) => {
                VesselState::Running
            }
            _ => VesselState::Waiting,
        };
        *vessel = Vessel::stored(state, record);
    }
}

/// Decides what the end of the last server means for the run. Afterwards no vessel is running.
fn interrupt(
    active: &mut ActiveRun,
    interruption: Interruption,
    crash_attempts_max: u32,
    now: Timestamp,
    changes: &mut Vec<Change>,
) -> Restored {
    for vessel in 0..active.vessels.len() {
        let stop_requested =
            active.vessels[vessel].record.as_ref().is_some_and(|record| record.stop_requested);
        if active.vessels[vessel].state == VesselState::Running && stop_requested {
            changes.push(active.decide(vessel, Status::Terminated, "stopped", now));
        }
    }
    if active.is_decided() {
        // All that was left of it had been stopped: nothing is worth starting the rest again for.
        return Restored::Ended;
    }
    let was_running = active.running() > 0;
    let was_crash = interruption.cause == Cause::Crash;
    if was_crash && was_running {
        active.record.crashes += 1;
        changes.push(Change::PutRun(active.record.clone()));
    }
    let how = if was_crash { "crashed" } else { "stopped" };
    let has_directory = interruption.has_directory || !active.has_launched();
    let at_most_once = active.version.definition.delivery == Delivery::AtMostOnce;
    if at_most_once && (was_running || !has_directory) {
        let why = "with delivery at_most_once it is not started again";
        give_up(active, &format!("the server {how} during this run; {why}"), now, changes);
        return Restored::Ended;
    }
    if was_running && was_crash && active.record.crashes >= crash_attempts_max {
        let crashes = active.record.crashes;
        let why = format!("given up: the server crashed {crashes} times while this was running");
        give_up(active, &why, now, changes);
        return Restored::Ended;
    }
    if has_directory {
        let why = format!("the server {how} during attempt");
        set_back(active, &why, changes, |state| state == VesselState::Running);
        return Restored::Resumed;
    }
    let gone = match interruption.cause {
        Cause::Restore => "the backup that it was restored from has no work directories".to_owned(),
        _ if interruption.is_rebooted => format!("the machine was booted since the server {how}"),
        Cause::Stop | Cause::Crash => format!("the work directory is gone since the server {how}"),
    };
    let why = format!("{gone}: the run starts again at its first vessel, after attempt");
    // What a person has stopped stays so.
    let is_kept = |state| state == VesselState::Ended(Status::Terminated);
    set_back(active, &why, changes, |state| !is_kept(state));
    Restored::Restarted
}

/// Ends an interrupted run: what was running is Errored, the rest never runs.
fn give_up(active: &mut ActiveRun, reason: &str, now: Timestamp, changes: &mut Vec<Change>) {
    let running = |vessel: &usize| active.vessels[*vessel].state == VesselState::Running;
    let mut errored: Vec<usize> = (0..active.vessels.len()).filter(running).collect();
    if errored.is_empty() {
        // Interrupted between two vessels: the next one that would have run bears the reason.
        let undecided = |vessel: &usize| active.ended(*vessel).is_none();
        errored.extend((0..active.vessels.len()).find(undecided));
    }
    for vessel in errored {
        changes.push(active.decide(vessel, Status::Errored, reason, now));
    }
    changes.extend(active.decide_rest(Status::Incomplete, "the run was given up", now));
}

/// Sets vessels back to waiting, those whose state `applies` to and that have a record.
fn set_back(
    active: &mut ActiveRun,
    why: &str,
    changes: &mut Vec<Change>,
    applies: impl Fn(VesselState) -> bool,
) {
    for vessel in active.vessels.iter_mut().filter(|vessel| applies(vessel.state)) {
        vessel.state = VesselState::Waiting;
        if let Some(record) = &mut vessel.record {
            // The next attempt's log begins with this reason.
            let reason = (record.attempt > 0).then(|| format!("{why} {}", record.attempt));
            record.status = Status::Scheduled;
            record.reason = reason;
            record.exit_code = None;
            record.signal = None;
            record.skip = None;
            record.retry_at = None;
            record.ended_at = None;
            changes.push(Change::PutVesselRun(record.clone()));
        }
    }
}
