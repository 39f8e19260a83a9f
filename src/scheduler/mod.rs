//! The run queue: a pure state machine. Its verbs take the time as an argument, decide, and return
//! the [`Change`]s that make the decision durable. No I/O, no clock, no threads: recovery puts
//! stored state back through [`restore`](Queue::restore), simulations drive it step by step.
//!
//! A run waits in its fleet's lane ([`lanes`]) until its first vessel is claimed; from then on it
//! is active ([`active`]) until all its vessels are decided. The fleets take turns ([`turns`]), vessel
//! by vessel. Payloads are never here.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::model::change::{Change, QueueEntry};
use crate::model::clock::Timestamp;
use crate::model::fleet::FleetVersion;
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::run::{PayloadSize, RunRecord, Status, Trigger};
use crate::model::share;

mod active;
mod lanes;
mod postpone;
mod restore;
mod settle;
mod stop;
mod submit;
mod turns;

pub use postpone::Postponed;
pub use restore::{Cause, Discard, Interruption, Restored, Started};
pub use settle::Settled;
pub use stop::Stopped;
pub use submit::{QueueFull, Submitted};

use active::{ActiveRun, VesselState};
use lanes::{Lanes, Next};

/// A run as it is handed in, and as it waits: all that is needed to start it but the payload.
#[derive(Clone, Debug)]
pub struct QueuedRun {
    pub id: RunId,
    pub version: Arc<FleetVersion>,
    pub trigger: Trigger,
    /// The run that this one repeats.
    pub replay_of: Option<RunId>,
    pub payload: PayloadSize,
    /// When it was accepted. The time in its id may be later: ids increase also when the clock steps
    /// back.
    pub queued_at: Timestamp,
}

impl QueuedRun {
    /// The row of the run, as it waits.
    fn record(&self, sequence: u64) -> RunRecord {
        RunRecord {
            id: self.id,
            fleet_id: self.version.fleet_id,
            fleet_name: self.version.definition.name.clone(),
            fleet_version: self.version.version,
            project_id: self.version.project_id,
            trigger: self.trigger,
            status: Status::Scheduled,
            reason: None,
            replay_of: self.replay_of,
            sequence,
            payload: self.payload,
            output_bytes: 0,
            crashes: 0,
            queued_at: self.queued_at,
            started_at: None,
            ended_at: None,
        }
    }

    fn entry(&self, sequence: u64, started: bool) -> QueueEntry {
        QueueEntry {
            sequence,
            run: self.id,
            fleet: self.version.fleet_id,
            version: self.version.version,
            trigger: self.trigger,
            replay_of: self.replay_of,
            payload: self.payload,
            started,
            queued_at: Some(self.queued_at),
        }
    }
}

/// One attempt of a vessel that a worker has taken on.
#[derive(Clone, Debug)]
pub struct Claim {
    pub run: RunRecord,
    pub version: Arc<FleetVersion>,
    /// The vessel's index within the version.
    pub vessel: usize,
    pub vessel_run: VesselRunId,
    pub attempt: u32,
    /// When the vessel could have started at the earliest.
    pub scheduled_at: Timestamp,
    pub started_at: Timestamp,
    /// Whether a program has run in the run's work directory before, so that it should be there.
    pub expects_directory: bool,
    /// What the vessel's log should say first: why it starts again.
    pub notice: Option<String>,
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Runs of which no vessel has been claimed.
    pub waiting: usize,
    /// Runs that have started and not ended.
    pub active: usize,
    /// Vessels that are running.
    pub running: usize,
    /// Vessels that wait for their next attempt.
    pub retries: usize,
}

/// A vessel of an active run.
type VesselOfRun = (RunId, usize);
/// Such vessels by the time at which they are due.
type Retries = BTreeSet<(Timestamp, RunId, usize)>;

/// The queue. See the module.
#[derive(Debug)]
pub struct Queue {
    waiting_max: usize,
    crash_attempts_max: u32,
    sequence_next: u64,
    lanes: Lanes,
    active: HashMap<RunId, ActiveRun>,
    /// Vessels of runs with a crash behind them that may start: such runs run one at a time, apart
    /// from the lanes. May hold some that were stopped meanwhile.
    ready_suspects: VecDeque<VesselOfRun>,
    /// Whether the vessel claimed last was one of those: they and the lanes alternate.
    suspect_was_last: bool,
    /// The run with a crash behind it that has a vessel running.
    suspect_running: Option<RunId>,
    /// Vessels whose next attempt has a due time.
    retries: Retries,
    running: usize,
    /// The latest time it was told, to notice that the clock stepped back.
    now_last: Timestamp,
}

impl Queue {
    /// An empty queue that lets `waiting_max` runs wait, to start or to be retried, and gives up a
    /// run that was running at `crash_attempts_max` unclean ends of the server.
    pub fn new(waiting_max: usize, crash_attempts_max: u32) -> Self {
        Self {
            waiting_max,
            crash_attempts_max,
            sequence_next: 1,
            lanes: Lanes::default(),
            active: HashMap::new(),
            ready_suspects: VecDeque::new(),
            suspect_was_last: false,
            suspect_running: None,
            retries: BTreeSet::new(),
            running: 0,
            now_last: Timestamp::default(),
        }
    }

    /// How full it is.
    pub fn depth(&self) -> Depth {
        Depth {
            waiting: self.lanes.len(),
            active: self.active.len(),
            running: self.running,
            retries: self.retries.len(),
        }
    }

    /// When the run was accepted that has waited longest. Looks at every fleet that has something
    /// to do.
    pub fn oldest_waiting(&self) -> Option<Timestamp> {
        self.lanes.first_waiting().map(|run| run.queued_at)
    }

    /// Whether another run can be submitted. Runs that wait between two attempts count as well:
    /// otherwise a fleet that fails and retries for hours would fill the memory with them.
    pub fn has_room(&self) -> bool {
        // A run with several vessels running hides as many idle ones, but workers are few.
        let idle = self.active.len().saturating_sub(self.running);
        self.lanes.len() + idle < self.waiting_max
    }

    /// Whether another run of `fleet` can be submitted beside those of others: one fleet has no more
    /// than its share of the queue. Counts as [`has_room`](Self::has_room) does.
    pub fn has_room_for(&self, fleet: FleetId) -> bool {
        let idle = self.active.len().saturating_sub(self.running);
        let left = self.waiting_max.saturating_sub(self.lanes.len() + idle);
        share::may_hold(self.lanes.held(fleet) as u64, 1, left as u64)
    }

    /// Bytes of the payloads of the fleet's runs that have not ended.
    pub fn payload_bytes(&self, fleet: FleetId) -> u64 {
        self.lanes.payload_bytes(fleet)
    }

    /// Whether [`claim`](Self::claim) would find something.
    pub fn has_claimable(&self) -> bool {
        self.lanes.has_next() || self.next_suspect().is_some()
    }

    /// Takes the next vessel to run, fleet after fleet: of a run under way if there is one, else
    /// the first of the next run that waits. Start it only once the changes are durable.
    pub fn claim(&mut self, now: Timestamp) -> Option<(Claim, Vec<Change>)> {
        self.now_last = self.now_last.max(now);
        let suspect = if self.suspect_was_last { None } else { self.claim_suspect(now) };
        let claimed = suspect.or_else(|| self.claim_in_turn(now));
        claimed.or_else(|| self.claim_suspect(now))
    }

    fn claim_suspect(&mut self, now: Timestamp) -> Option<(Claim, Vec<Change>)> {
        while let Some(place) = self.next_suspect() {
            let (run, vessel) = self.ready_suspects.remove(place)?;
            if let Some(claimed) = self.claim_vessel(run, vessel, now) {
                self.suspect_running = Some(run);
                self.suspect_was_last = true;
                return Some(claimed);
            }
        }
        None
    }

    fn claim_in_turn(&mut self, now: Timestamp) -> Option<(Claim, Vec<Change>)> {
        while let Some((fleet, next)) = self.lanes.take_next() {
            let claimed = match next {
                Next::Vessel((run, vessel)) => self.claim_vessel(run, vessel, now),
                Next::Run(sequence, queued) => self.start_run(sequence, queued, now),
            };
            if claimed.is_some() {
                self.lanes.served(fleet);
                self.suspect_was_last = false;
                return claimed;
            }
        }
        None
    }

    /// Starts a run that waited with its first vessel.
    fn start_run(
        &mut self,
        sequence: u64,
        queued: QueuedRun,
        now: Timestamp,
    ) -> Option<(Claim, Vec<Change>)> {
        let run = queued.id;
        let mut changes = vec![Change::PutQueueEntry(queued.entry(sequence, true))];
        let mut active = ActiveRun::new(queued.record(sequence), queued.version);
        active.record.status = Status::Running;
        active.record.started_at = Some(now);
        changes.push(Change::PutRun(active.record.clone()));
        let mut roots: VecDeque<usize> = active.graph.roots().collect();
        let since = active.record.queued_at;
        for root in &roots {
            active.vessels[*root].state = VesselState::Ready { since };
        }
        let first = roots.pop_front()?;
        self.active.insert(run, active);
        for root in roots {
            self.push_ready(run, root);
        }
        let (claim, started) = self.claim_vessel(run, first, now)?;
        changes.extend(started);
        Some((claim, changes))
    }

    /// When the next retry falls due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.retries.first().map(|(due, _, _)| *due)
    }

    /// Lets every retry that is due at `now` be claimed. A due time that lies further ahead than
    /// the vessel's wait means that the clock stepped back: it is brought near again.
    pub fn fire_due(&mut self, now: Timestamp) {
        if now < self.now_last {
            self.clamp_retries(now);
        }
        self.now_last = now;
        while let Some((due, run, vessel)) = self.retries.first().copied()
            && due <= now
        {
            self.retries.pop_first();
            if let Some(active) = self.active.get_mut(&run)
                && let VesselState::AwaitsRetry { due: stored } = active.vessels[vessel].state
                && stored == due
            {
                active.vessels[vessel].state = VesselState::Ready { since: now };
                self.push_ready(run, vessel);
            }
        }
    }

    fn clamp_retries(&mut self, now: Timestamp) {
        let retries = std::mem::take(&mut self.retries);
        for (due, run, vessel) in retries {
            let Some(active) = self.active.get_mut(&run) else { continue };
            let clamped = due.min(now.plus(active.retry_wait(vessel)));
            if let VesselState::AwaitsRetry { due: stored } = &mut active.vessels[vessel].state
                && *stored == due
            {
                *stored = clamped;
                self.retries.insert((clamped, run, vessel));
            }
        }
    }

    /// The place of the first vessel in `ready_suspects` that may start now: any while no run with
    /// a crash behind it is running, else only those of that run.
    fn next_suspect(&self) -> Option<usize> {
        let may_run = |run| self.suspect_running.is_none_or(|running| running == run);
        self.ready_suspects.iter().position(|(run, _)| may_run(*run))
    }

    fn push_ready(&mut self, run: RunId, vessel: usize) {
        let Some(active) = self.active.get(&run) else { return };
        if active.record.crashes > 0 {
            self.ready_suspects.push_back((run, vessel));
        } else {
            let priority = active.version.definition.priority;
            self.lanes.push_ready(active.record.fleet_id, (run, vessel), priority);
        }
    }

    /// Starts the next attempt of a vessel; `None` when it is not ready any more.
    fn claim_vessel(
        &mut self,
        run: RunId,
        vessel: usize,
        now: Timestamp,
    ) -> Option<(Claim, Vec<Change>)> {
        let active = self.active.get_mut(&run)?;
        let expects_directory = active.has_run_programs();
        let (record, notice) = active.start(vessel, now)?;
        self.running += 1;
        self.lanes.vessel_started(active.record.fleet_id);
        let claim = Claim {
            run: active.record.clone(),
            version: Arc::clone(&active.version),
            vessel,
            vessel_run: record.id,
            attempt: record.attempt,
            scheduled_at: record.scheduled_at,
            started_at: now,
            expects_directory,
            notice,
        };
        Some((claim, vec![Change::PutVesselRun(record)]))
    }

    /// Takes a run that has ended out of the queue.
    fn finish(&mut self, run: RunId) -> Option<ActiveRun> {
        let ended = self.active.remove(&run)?;
        self.lanes.finished(ended.record.fleet_id, ended.record.payload);
        Some(ended)
    }

    /// After a vessel of `run` has ended: lets the next run with a crash behind it have its turn.
    fn release_suspect(&mut self, run: RunId) {
        let still_running = self.active.get(&run).is_some_and(|active| active.running() > 0);
        if self.suspect_running == Some(run) && !still_running {
            self.suspect_running = None;
        }
    }
}

#[cfg(test)]
mod tests;
