//! The run queue: a pure state machine. Its methods take the time as an argument, decide, and return
//! the [`Change`]s that make the decision durable. There is no I/O, no clock and no thread here.
//! Recovery reloads stored runs through [`reload`](Queue::reload); simulations take single steps.
//!
//! A run waits in its fleet's lane ([`lane`]) until its first vessel is claimed. Then it is active
//! ([`active`]) until all its vessels are decided. [`fairness`] picks the fleet that starts the next
//! vessel. A run that was running when the server crashed is *crash-looping* from then on: such runs
//! run one at a time, apart from the lanes, so that a run that ends the server takes no other run
//! with it. The queue holds no payloads.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::model::change::{Change, QueueEntry};
use crate::model::clock::Timestamp;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::debounce::Hold;
use crate::model::event::{ArrivalRecord, PackedArrival};
use crate::model::fleet::FleetVersion;
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::run::{PayloadSize, RunRecord, Status, Trigger};
use crate::model::share;

mod active;
mod effects;
mod fairness;
mod lane;
mod lanes;
mod postpone;
mod reload;
mod settle;
mod stop;
mod submit;
mod waits;

pub use active::graph_of;
pub use effects::Effects;
pub use reload::{Discard, Interruption, InterruptionCause, Reloaded, StartedRun};
pub use submit::QueueFull;
pub use waits::{Wait, WaitCause};

use active::{ActiveRun, VesselState};
use lanes::{Lanes, NextStart};

/// A run that is submitted or waits: what its start needs, except the payload.
#[derive(Clone, Debug)]
pub struct QueuedRun {
    pub id: RunId,
    pub version: Arc<FleetVersion>,
    pub trigger: Trigger,
    /// The run that this one replays.
    pub replay_of: Option<RunId>,
    pub payload: PayloadSize,
    /// When it was accepted. The time in its id may be later: ids increase also when the clock steps
    /// back.
    pub queued_at: Timestamp,
    pub arrival: Option<PackedArrival>,
    /// What `arrival` says of it.
    pub key: Option<ConcurrencyKey>,
    /// What `arrival` says of it: the run does not start before that.
    pub hold: Option<Hold>,
}

impl QueuedRun {
    /// Holds the run back, or lets it go.
    fn set_hold(&mut self, hold: Option<Hold>) {
        let arrival = self.arrival.as_ref().map(PackedArrival::unpack).unwrap_or_default();
        self.arrival = ArrivalRecord { hold, ..arrival }.pack();
        self.hold = hold;
    }

    /// Lets no hold last longer than its `wait` from `now` on. Its row keeps the hold as it was.
    fn clamp_hold(&mut self, now: Timestamp) -> Option<Hold> {
        let debounce = self.version.definition.debounce?;
        self.hold = self.hold.map(|hold| debounce.clamped(hold, now));
        self.hold
    }

    /// The row of the waiting run.
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
            arrival: self.arrival.clone(),
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
            arrival: self.arrival.clone(),
        }
    }
}

/// One attempt of a vessel, claimed by a worker.
#[derive(Clone, Debug)]
pub struct Claim {
    pub run: RunRecord,
    pub version: Arc<FleetVersion>,
    /// The vessel's index in the version.
    pub vessel: usize,
    pub vessel_run: VesselRunId,
    pub attempt: u32,
    /// When the vessel became ready.
    pub scheduled_at: Timestamp,
    pub started_at: Timestamp,
    /// Whether a program of the run has run, so that its work directory must be there.
    pub expects_directory: bool,
    /// Whether the run was started by an earlier server.
    pub is_resumed: bool,
    /// The first line of the vessel's log: why it starts again.
    pub notice: Option<String>,
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Runs without a claimed vessel.
    pub waiting: usize,
    /// Runs that have started and not ended.
    pub active: usize,
    /// Vessels that are running.
    pub running: usize,
    /// Vessels that wait for their next attempt.
    pub retries: usize,
}

/// A vessel of an active run, by its index.
type VesselOfRun = (RunId, usize);
/// Vessels that wait for a retry, by their due time.
type Retries = BTreeSet<(Timestamp, RunId, usize)>;

/// See the module.
#[derive(Debug)]
pub struct Queue {
    waiting_max: usize,
    crash_attempts_max: u32,
    sequence_next: u64,
    lanes: Lanes,
    active: HashMap<RunId, ActiveRun>,
    /// Vessels of crash-looping runs that may start. Some may have been stopped since.
    ready_crash_looping: VecDeque<VesselOfRun>,
    /// Whether the last claim was of a crash-looping run: these and the lanes alternate.
    crash_looping_was_last: bool,
    /// The crash-looping run that has a vessel running.
    crash_looping_running: Option<RunId>,
    retries: Retries,
    /// Vessels that are running.
    running: usize,
    /// The latest time passed in, to notice a clock that steps back.
    now_last: Timestamp,
}

impl Queue {
    /// An empty queue. `waiting_max` runs may wait, to start or to be retried. A run that was running
    /// in `crash_attempts_max` crashes of the server is given up.
    pub fn new(waiting_max: usize, crash_attempts_max: u32) -> Self {
        Self {
            waiting_max,
            crash_attempts_max,
            sequence_next: 1,
            lanes: Lanes::default(),
            active: HashMap::new(),
            ready_crash_looping: VecDeque::new(),
            crash_looping_was_last: false,
            crash_looping_running: None,
            retries: BTreeSet::new(),
            running: 0,
            now_last: Timestamp::default(),
        }
    }

    /// How full the queue is.
    pub fn depth(&self) -> Depth {
        Depth {
            waiting: self.lanes.len(),
            active: self.active.len(),
            running: self.running,
            retries: self.retries.len(),
        }
    }

    /// Each fleet with runs that wait, held ones included, or are active, and how many do each.
    pub fn fleets_at_work(&self) -> impl Iterator<Item = (FleetId, usize, usize)> {
        self.lanes.at_work()
    }

    /// When the oldest waiting run that is not held was accepted. Costs a look at every lane.
    pub fn oldest_waiting(&self) -> Option<Timestamp> {
        self.lanes.first_waiting().map(|run| run.queued_at)
    }

    /// Whether another run can be submitted. Active runs without a running vessel count as well:
    /// otherwise a fleet that fails and retries for hours would fill the memory.
    pub fn has_room(&self) -> bool {
        // A run with several running vessels hides as many idle runs, but workers are few.
        let idle = self.active.len().saturating_sub(self.running);
        self.lanes.len() + idle < self.waiting_max
    }

    /// Whether another run of `fleet` fits into the fleet's share of the queue. Counts as
    /// [`has_room`](Self::has_room) does.
    pub fn has_room_for(&self, fleet: FleetId) -> bool {
        let idle = self.active.len().saturating_sub(self.running);
        let left = self.waiting_max.saturating_sub(self.lanes.len() + idle);
        share::may_hold(self.lanes.without_vessel(fleet) as u64, 1, left as u64)
    }

    /// Bytes of the payloads of the fleet's runs that have not ended.
    pub fn payload_bytes(&self, fleet: FleetId) -> u64 {
        self.lanes.payload_bytes(fleet)
    }

    /// Whether [`claim`](Self::claim) may find a vessel.
    pub fn has_claimable(&self) -> bool {
        self.lanes.has_next() || self.next_crash_looping().is_some()
    }

    /// Claims the next vessel: of an active run of the next fleet, else the first vessel of the run
    /// that waits there. The worker starts it when the changes are durable.
    pub fn claim(&mut self, now: Timestamp) -> Option<(Claim, Vec<Change>)> {
        self.now_last = self.now_last.max(now);
        let claimed =
            if self.crash_looping_was_last { None } else { self.claim_crash_looping(now) };
        let claimed = claimed.or_else(|| self.claim_in_turn(now));
        claimed.or_else(|| self.claim_crash_looping(now))
    }

    fn claim_crash_looping(&mut self, now: Timestamp) -> Option<(Claim, Vec<Change>)> {
        while let Some(place) = self.next_crash_looping() {
            let (run, vessel) = self.ready_crash_looping.remove(place)?;
            if let Some(claimed) = self.claim_vessel(run, vessel, now) {
                self.crash_looping_running = Some(run);
                self.crash_looping_was_last = true;
                return Some(claimed);
            }
        }
        None
    }

    fn claim_in_turn(&mut self, now: Timestamp) -> Option<(Claim, Vec<Change>)> {
        while let Some((fleet, next)) = self.lanes.take_next() {
            let claimed = match next {
                NextStart::Vessel((run, vessel)) => self.claim_vessel(run, vessel, now),
                NextStart::Run(sequence, queued) => self.start_run(sequence, queued, now),
            };
            if claimed.is_some() {
                self.lanes.served(fleet);
                self.crash_looping_was_last = false;
                return claimed;
            }
        }
        None
    }

    /// Activates a waiting run and claims its first vessel.
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

    /// When the next retry falls due, or the next hold ends.
    pub fn next_due(&self) -> Option<Timestamp> {
        let retry = self.retries.first().map(|(due, _, _)| *due);
        retry.into_iter().chain(self.lanes.next_release()).min()
    }

    /// Makes every retry that is due at `now` ready, and lets runs go whose holds have ended: some of
    /// them, if there are many ([`next_due`](Self::next_due) tells). A due time further ahead than the
    /// wait of its vessel or fleet means that the clock stepped back: it is set to `now` plus the wait.
    pub fn fire_due(&mut self, now: Timestamp) -> Effects {
        if now < self.now_last {
            self.clamp_retries(now);
            self.lanes.clamp_holds(now);
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
        let mut effects = Effects::default();
        self.release_held(now, &mut effects);
        effects
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

    /// The index in `ready_crash_looping` of the first vessel that may start now. While a
    /// crash-looping run has a vessel running, only its own vessels may.
    fn next_crash_looping(&self) -> Option<usize> {
        let may_run = |run| self.crash_looping_running.is_none_or(|running| running == run);
        self.ready_crash_looping.iter().position(|(run, _)| may_run(*run))
    }

    fn push_ready(&mut self, run: RunId, vessel: usize) {
        let Some(active) = self.active.get(&run) else { return };
        if active.record.crashes > 0 {
            self.ready_crash_looping.push_back((run, vessel));
        } else {
            let priority = active.version.definition.priority;
            self.lanes.push_ready(active.record.fleet_id, (run, vessel), priority);
        }
    }

    /// Starts the next attempt of a vessel; `None` if the vessel is not ready any more.
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
            is_resumed: active.is_resumed,
            notice,
        };
        Some((claim, vec![Change::PutVesselRun(record)]))
    }

    /// Takes an active run out of the queue.
    fn finish(&mut self, run: RunId) -> Option<ActiveRun> {
        let ended = self.active.remove(&run)?;
        debug_assert_eq!(ended.running(), 0, "the run {run} leaves the queue while vessels run");
        self.lanes.finished(&ended.record);
        Some(ended)
    }

    /// After a vessel of `run` has ended: lets the next crash-looping run start when none runs.
    fn release_crash_looping(&mut self, run: RunId) {
        let still_running = self.active.get(&run).is_some_and(|active| active.running() > 0);
        if self.crash_looping_running == Some(run) && !still_running {
            self.crash_looping_running = None;
        }
    }
}

#[cfg(test)]
mod tests;
