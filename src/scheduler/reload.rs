//! Reloading stored runs at the start of a server. A reloaded run waits, is resumed, starts over, or
//! ends.

use std::sync::Arc;

use crate::model::change::{Change, QueueEntry};
use crate::model::clock::Timestamp;
use crate::model::event::PackedArrival;
use crate::model::fleet::{Delivery, FleetVersion};
use crate::model::run::{RunRecord, Status, VesselRunRecord};
use crate::scheduler::active::{ActiveRun, Vessel, VesselState};
use crate::scheduler::{Queue, QueuedRun};

/// Why a run was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptionCause {
    /// The last server has recorded its stop.
    Stop,
    /// The last server ended without that.
    Crash,
    /// The run comes from a backup.
    BackupRestore,
}

/// How the last server ended, and whether the work directory of a run is whole.
#[derive(Clone, Copy, Debug)]
pub struct Interruption {
    pub cause: InterruptionCause,
    /// The run's work directory exists and is from this boot of the machine: its files are whole.
    pub has_directory: bool,
    /// The machine has booted since the last server ran.
    pub is_rebooted: bool,
}

/// The stored rows of a run that has started.
#[derive(Clone, Debug)]
pub struct StartedRun {
    pub record: RunRecord,
    /// The latest attempt of each vessel, by its index.
    pub vessels: Vec<Option<VesselRunRecord>>,
    pub interruption: Interruption,
}

/// What became of a reloaded run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// It waits as before.
    Waiting,
    /// It continues with the vessels whose end is not recorded.
    Resumed,
    /// It starts again at its first vessel. The caller removes its work directory before any vessel
    /// starts.
    StartsOver,
    /// It has ended. The caller removes its work directory.
    Ended,
}

/// How a stored run ends that is not reloaded, and the reason.
#[derive(Clone, Copy, Debug)]
pub enum Discard<'a> {
    /// Vessels that have not ended are Terminated.
    Terminated(&'a str),
    /// Vessels that were running, or the one that would have run next, are Errored; the rest is
    /// Incomplete.
    GivenUp(&'a str),
}

impl Queue {
    /// Reloads an unfinished run. `started` if a vessel of it had been claimed.
    pub fn reload(
        &mut self,
        entry: &QueueEntry,
        version: Arc<FleetVersion>,
        started: Option<StartedRun>,
        now: Timestamp,
    ) -> (Reloaded, Vec<Change>) {
        self.now_last = self.now_last.max(now);
        self.sequence_next = self.sequence_next.max(entry.sequence + 1);
        let Some(started) = started else {
            let mut waiting = queued(entry, version);
            waiting.clamp_hold(now);
            self.lanes.push(entry.sequence, waiting);
            return (Reloaded::Waiting, Vec::new());
        };
        let mut changes = Vec::new();
        let mut active = ActiveRun::new(started.record, version);
        active.is_resumed = true;
        load_vessels(&mut active, started.vessels);
        let limit = self.crash_attempts_max;
        let reloaded = interrupt(&mut active, started.interruption, limit, now, &mut changes);
        let run = active.record.id;
        self.lanes.resumed(&active.record);
        for vessel in 0..active.vessels.len() {
            if let VesselState::AwaitsRetry { due } = active.vessels[vessel].state {
                // A due time further ahead than the wait: the clock has stepped back.
                let due = due.min(now.plus(active.retry_wait(vessel)));
                active.vessels[vessel].state = VesselState::AwaitsRetry { due };
                self.retries.insert((due, run, vessel));
            }
        }
        self.active.insert(run, active);
        match self.advance(run, now, &mut changes) {
            Some(_) => (Reloaded::Ended, changes),
            None => (reloaded, changes),
        }
    }

    /// Ends an unfinished run instead of reloading it.
    pub fn discard(
        &mut self,
        entry: &QueueEntry,
        version: Arc<FleetVersion>,
        started: Option<StartedRun>,
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
    let arrival = entry.arrival.as_ref().map(PackedArrival::unpack).unwrap_or_default();
    QueuedRun {
        id: entry.run,
        version,
        trigger: entry.trigger,
        replay_of: entry.replay_of,
        payload: entry.payload,
        queued_at: entry.queued_at.unwrap_or_else(|| entry.run.time()),
        arrival: entry.arrival.clone(),
        key: arrival.key,
        hold: arrival.hold,
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

/// Applies the end of the last server to the run. Afterwards no vessel is running.
fn interrupt(
    active: &mut ActiveRun,
    interruption: Interruption,
    crash_attempts_max: u32,
    now: Timestamp,
    changes: &mut Vec<Change>,
) -> Reloaded {
    for vessel in 0..active.vessels.len() {
        let record = active.vessels[vessel].record.as_ref().filter(|record| record.stop_requested);
        let Some(why) = record.map(VesselRunRecord::why_stopped) else { continue };
        if active.vessels[vessel].state == VesselState::Running {
            changes.push(active.decide(vessel, Status::Terminated, &why, now));
        }
    }
    if active.is_decided() {
        // A stop had decided the rest: the run does not start over for it.
        return Reloaded::Ended;
    }
    let was_running = active.running() > 0;
    let was_crash = interruption.cause == InterruptionCause::Crash;
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
        return Reloaded::Ended;
    }
    if was_running && was_crash && active.record.crashes >= crash_attempts_max {
        let crashes = active.record.crashes;
        let why = format!("given up: the server crashed {crashes} times while this was running");
        give_up(active, &why, now, changes);
        return Reloaded::Ended;
    }
    if has_directory {
        let why = format!("the server {how} during attempt");
        set_back(active, &why, changes, |state| state == VesselState::Running);
        return Reloaded::Resumed;
    }
    let gone = match interruption.cause {
        InterruptionCause::BackupRestore => {
            "the backup that it was restored from has no work directories".to_owned()
        }
        _ if interruption.is_rebooted => format!("the machine was booted since the server {how}"),
        InterruptionCause::Stop | InterruptionCause::Crash => {
            format!("the work directory is gone since the server {how}")
        }
    };
    let why = format!("{gone}: the run starts again at its first vessel, after attempt");
    // A vessel that a person has stopped stays stopped.
    let is_kept = |state| state == VesselState::Ended(Status::Terminated);
    set_back(active, &why, changes, |state| !is_kept(state));
    Reloaded::StartsOver
}

/// Ends an interrupted run: the vessels that were running are Errored, the rest is Incomplete.
fn give_up(active: &mut ActiveRun, reason: &str, now: Timestamp, changes: &mut Vec<Change>) {
    let running = |vessel: &usize| active.vessels[*vessel].state == VesselState::Running;
    let mut errored: Vec<usize> = (0..active.vessels.len()).filter(running).collect();
    if errored.is_empty() {
        // Interrupted between two vessels: the one that would have run next carries the reason.
        let undecided = |vessel: &usize| active.ended(*vessel).is_none();
        errored.extend((0..active.vessels.len()).find(undecided));
    }
    for vessel in errored {
        changes.push(active.decide(vessel, Status::Errored, reason, now));
    }
    changes.extend(active.decide_rest(Status::Incomplete, "the run was given up", now));
}

/// Sets the vessels whose state `applies` to back to waiting.
fn set_back(
    active: &mut ActiveRun,
    why: &str,
    changes: &mut Vec<Change>,
    applies: impl Fn(VesselState) -> bool,
) {
    for vessel in active.vessels.iter_mut().filter(|vessel| applies(vessel.state)) {
        vessel.state = VesselState::Waiting;
        if let Some(record) = &mut vessel.record {
            // The log of the next attempt begins with this reason.
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
