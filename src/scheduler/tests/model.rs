//! What the queue must do, said as simply as possible: facts about every vessel of every run, with
//! no thought for speed. It learns of the queue's choices (which vessel is claimed next) and says
//! whether they were allowed; everything else it predicts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::debounce::Hold;
use crate::model::fleet::{Delivery, FleetVersion};
use crate::model::graph::Condition;
use crate::model::guardrails::RETRY_WAIT_MAX;
use crate::model::guardrails::{Backoff, Guardrails};
use crate::model::ids::{RunId, VesselRunId};
use crate::model::overlap::Overlap;
use crate::model::run::{End, Skip, Status};
use crate::scheduler::tests::rows::Rows;
use crate::scheduler::tests::{EXCLUDED_EXIT_CODE, EXCLUDED_SIGNAL, replay_of};
use crate::scheduler::{Claim, Interruption, InterruptionCause, Reloaded};

/// The runs that end with a decision, and the running vessels that must be told to.
pub type Told = (Vec<RunId>, Vec<VesselRunId>);

#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Every run, in the order of acceptance.
    pub runs: Vec<RunId>,
    pub versions: BTreeMap<RunId, Arc<FleetVersion>>,
    started: BTreeSet<RunId>,
    crashes: BTreeMap<RunId, u32>,
    pub running: BTreeSet<VesselRunId>,
    stop_requested: BTreeSet<VesselRunId>,
    ended: BTreeMap<VesselRunId, Status>,
    attempts: BTreeMap<VesselRunId, u32>,
    retries: BTreeMap<VesselRunId, u32>,
    /// Vessels between two attempts, and when the next falls due.
    due: BTreeMap<VesselRunId, Timestamp>,
    /// The wait that each vessel was given before its latest retry.
    waits: BTreeMap<VesselRunId, Duration>,
    /// Vessels that wait for a retry or are at it.
    retrying: BTreeSet<VesselRunId>,
    /// Vessels that were not started, and as what they count.
    skipped: BTreeMap<VesselRunId, Skip>,
    /// The values of `concurrency_key`.
    keys: BTreeMap<RunId, Option<ConcurrencyKey>>,
    /// The holds of waiting runs, as they were stored and by the clock of today.
    holds: BTreeMap<RunId, (Hold, Hold)>,
    /// Vessels whose next attempt a crash or a stop of the server has made necessary.
    interrupted: BTreeSet<VesselRunId>,
}

impl Model {
    pub fn vessels(&self, run: RunId) -> Vec<VesselRunId> {
        (0..self.versions[&run].definition.vessels.len())
            .map(|index| run.vessel_run(index))
            .collect()
    }

    pub fn is_over(&self, run: RunId) -> bool {
        self.vessels(run).iter().all(|vessel| self.ended.contains_key(vessel))
    }

    fn is_active(&self, run: RunId) -> bool {
        self.started.contains(&run) && !self.is_over(run)
    }

    fn is_running(&self, run: RunId) -> bool {
        self.running.iter().any(|vessel| vessel.run() == run)
    }

    /// How the incoming paths of a vessel stand: `Some(holds)` for each whose upstream has ended.
    fn paths(&self, vessel: VesselRunId) -> Vec<Option<bool>> {
        let run = vessel.run();
        let paths = self.versions[&run].definition.paths.iter();
        let incoming = paths.filter(|path| Some(usize::from(path.to)) == vessel.vessel());
        let holds = |condition, end| match end {
            Status::Success => condition != Condition::Errored,
            Status::Errored => condition != Condition::Success,
            _ => false,
        };
        incoming
            .map(|path| {
                let end = self.ended.get(&run.vessel_run(path.from.into()));
                end.map(|end| holds(path.condition, *end))
            })
            .collect()
    }

    /// Whether a vessel of an active run may start.
    fn is_ready(&self, vessel: VesselRunId) -> bool {
        !self.ended.contains_key(&vessel)
            && !self.running.contains(&vessel)
            && !self.due.contains_key(&vessel)
            && self.paths(vessel).iter().all(|path| *path == Some(true))
    }

    fn is_crash_looping(&self, run: RunId) -> bool {
        self.crashes.get(&run).is_some_and(|crashes| *crashes > 0)
    }

    pub fn some_crash_looping_runs(&self) -> bool {
        self.running.iter().any(|vessel| self.is_crash_looping(vessel.run()))
    }

    fn other_crash_looping_runs(&self, run: RunId) -> bool {
        self.running.iter().any(|it| it.run() != run && self.is_crash_looping(it.run()))
    }

    fn may_continue(&self, run: RunId) -> bool {
        self.is_active(run) && !(self.is_crash_looping(run) && self.other_crash_looping_runs(run))
    }

    /// Whether `run` is the first of its fleet that may begin.
    fn may_begin(&self, run: RunId) -> bool {
        let fleet = self.versions[&run].fleet_id;
        let of_fleet = |other: &&RunId| self.versions[*other].fleet_id == fleet;
        self.runs.iter().filter(of_fleet).find(|other| self.has_turn(**other)) == Some(&run)
    }

    /// Whether `run` is the next of its key, and the key may start one more.
    fn has_turn(&self, run: RunId) -> bool {
        let (active, waiting) = self.under_way(run);
        let limit = self.versions[&run].definition.concurrency;
        waiting.first() == Some(&run) && limit.is_none_or(|limit| active.len() < limit as usize)
    }

    /// The active runs and the waiting ones that have the fleet and key of `run` and are not held, in
    /// the order of acceptance.
    fn under_way(&self, run: RunId) -> (Vec<RunId>, Vec<RunId>) {
        let fleet_and_key = |run: RunId| (self.versions[&run].fleet_id, &self.keys[&run]);
        let others = self.runs.iter().copied().filter(|other| {
            fleet_and_key(*other) == fleet_and_key(run)
                && !self.is_over(*other)
                && !self.holds.contains_key(other)
        });
        others.partition(|other| self.started.contains(other))
    }

    /// How many keys have runs that have not ended.
    pub fn keys_in_use(&self) -> usize {
        let unfinished = self.runs.iter().filter(|run| !self.is_over(**run));
        let keys = unfinished.map(|run| (self.versions[run].fleet_id, &self.keys[run]));
        keys.collect::<BTreeSet<_>>().len()
    }

    pub fn has_claimable(&self) -> bool {
        self.runs.iter().any(|run| {
            let ready = || self.vessels(*run).into_iter().any(|vessel| self.is_ready(vessel));
            (self.may_continue(*run) && ready()) || self.may_begin(*run)
        })
    }

    /// Waiting and active runs.
    pub fn depth(&self) -> (usize, usize) {
        let unfinished: Vec<RunId> =
            self.runs.iter().copied().filter(|run| !self.is_over(*run)).collect();
        let active = unfinished.iter().filter(|run| self.started.contains(*run)).count();
        (unfinished.len() - active, active)
    }

    /// When the next retry falls due, or the next hold ends.
    pub fn next_due(&self) -> Option<Timestamp> {
        let held = self.holds.values().map(|(_, hold)| hold.until);
        self.due.values().copied().chain(held).min()
    }

    /// A run is accepted. Returns the runs that end with this, and the vessels that must be told.
    pub fn submit(
        &mut self,
        run: RunId,
        version: &Arc<FleetVersion>,
        key: Option<ConcurrencyKey>,
        now: Timestamp,
    ) -> Told {
        self.runs.push(run);
        self.versions.insert(run, Arc::clone(version));
        self.keys.insert(run, key);
        let Some(debounce) = version.definition.debounce else { return self.enter(run) };
        let fleet_and_key = |run: RunId| (self.versions[&run].fleet_id, &self.keys[&run]);
        let is_same = |other: &&RunId| fleet_and_key(**other) == fleet_and_key(run);
        let earlier = self.holds.keys().find(is_same).copied();
        let since = earlier.map_or(now, |earlier| self.holds[&earlier].1.since).min(now);
        let until = now.plus(debounce.wait).min(since.plus(debounce.max_wait));
        let ended: Vec<RunId> = earlier.into_iter().collect();
        ended.iter().for_each(|run| self.dismiss(*run));
        self.holds.insert(run, (Hold { since, until }, Hold { since, until }));
        (ended, Vec::new())
    }

    /// A run waits for its start.
    fn enter(&mut self, run: RunId) -> Told {
        let definition = &self.versions[&run].definition;
        let limit = definition.concurrency.map_or(usize::MAX, |limit| limit as usize);
        let overlap = definition.overlap;
        let (mut active, mut others) = self.under_way(run);
        others.retain(|other| *other != run);
        let places = limit.saturating_sub(active.len());
        let (mut ended, mut signal) = (Vec::new(), Vec::new());
        match overlap {
            Overlap::Queue => {}
            Overlap::Skip if others.len() < places => {}
            Overlap::Skip => ended.push(run),
            Overlap::Replace => ended.extend(others.iter().skip(places)),
            Overlap::Cancel => {
                active.retain(|run| !self.is_stopping(*run));
                let both = active.iter().chain(&others).copied().collect::<Vec<_>>();
                for older in &both[..(both.len() + 1).saturating_sub(limit)] {
                    if !active.contains(older) {
                        ended.push(*older);
                        continue;
                    }
                    signal.extend(self.stop(&self.vessels(*older)));
                    ended.extend(Some(*older).filter(|run| self.is_over(*run)));
                }
            }
        }
        for run in &ended {
            if !self.is_over(*run) {
                self.dismiss(*run);
            }
        }
        (ended, signal)
    }

    fn is_stopping(&self, run: RunId) -> bool {
        self.vessels(run).iter().all(|vessel| {
            self.ended.contains_key(vessel)
                || (self.running.contains(vessel) && self.stop_requested.contains(vessel))
        })
    }

    /// A run ends before it has started.
    fn dismiss(&mut self, run: RunId) {
        self.holds.remove(&run);
        for vessel in self.vessels(run) {
            self.ended.insert(vessel, Status::Incomplete);
        }
    }

    pub fn claim(&mut self, claim: &Claim) {
        let (run, vessel) = (claim.run.id, claim.vessel_run);
        assert_eq!(run.vessel_run(claim.vessel), vessel);
        if self.started.contains(&run) {
            assert!(self.may_continue(run), "not this run's turn");
        } else {
            assert!(self.may_begin(run), "not this fleet's turn, or another run's before it");
            self.started.insert(run);
        }
        assert!(self.is_ready(vessel), "{vessel} must not start");
        let attempt = self.attempts.entry(vessel).or_default();
        *attempt += 1;
        assert_eq!(claim.attempt, *attempt, "attempts count every start");
        if self.versions[&run].definition.delivery == Delivery::AtMostOnce {
            assert_eq!(claim.attempt, 1, "at most once");
        }
        let says_why = claim.notice.is_some();
        assert_eq!(says_why, self.interrupted.remove(&vessel), "{:?}", claim.notice);
        self.running.insert(vessel);
    }

    /// Returns whether the run has ended with this. `retry_at` is when the queue retries, if it does.
    pub fn settle(
        &mut self,
        vessel: VesselRunId,
        end: &End,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        assert!(self.running.remove(&vessel));
        let run = vessel.run();
        let guardrails =
            &self.versions[&run].definition.vessels[vessel.vessel().unwrap()].guardrails;
        let used = self.retries.get(&vessel).copied().unwrap_or(0);
        if let End::Skipped(skip) = end
            && !self.stop_requested.contains(&vessel)
        {
            self.skipped.insert(vessel, *skip);
        }
        let end = if self.stop_requested.contains(&vessel) {
            Status::Terminated
        } else if let End::Skipped(skip) = end {
            skip.status()
        } else if *end == End::Exited(0) {
            Status::Success
        } else if *end != End::Exited(EXCLUDED_EXIT_CODE)
            && *end != End::Signaled(EXCLUDED_SIGNAL)
            && used < guardrails.retry_count
        {
            let wait = retry_at.expect("it is retried").since(now);
            let (least, most) = wait_bounds(guardrails, used + 1);
            assert!(least <= wait && wait <= most, "{wait:?} is not {least:?} to {most:?}");
            self.retries.insert(vessel, used + 1);
            self.due.insert(vessel, now.plus(wait));
            self.waits.insert(vessel, wait);
            self.retrying.insert(vessel);
            return false;
        } else {
            Status::Errored
        };
        self.end(vessel, end);
        self.is_over(run)
    }

    fn end(&mut self, vessel: VesselRunId, status: Status) {
        self.due.remove(&vessel);
        self.retrying.remove(&vessel);
        self.running.remove(&vessel);
        self.interrupted.remove(&vessel);
        self.ended.insert(vessel, status);
        self.follow_paths(vessel.run());
    }

    /// What lies behind a path that was not taken never runs.
    fn follow_paths(&mut self, run: RunId) {
        let vessels = self.vessels(run);
        while let Some(never) = vessels.iter().find(|vessel| {
            !self.ended.contains_key(vessel) && self.paths(**vessel).contains(&Some(false))
        }) {
            self.due.remove(never);
            self.ended.insert(*never, Status::Incomplete);
        }
    }

    /// Returns the vessels that are running and must be told.
    pub fn stop(&mut self, vessels: &[VesselRunId]) -> Vec<VesselRunId> {
        let undecided = |it: &&VesselRunId| !self.ended.contains_key(*it);
        let (signal, rest): (Vec<VesselRunId>, Vec<VesselRunId>) =
            vessels.iter().filter(undecided).partition(|vessel| self.running.contains(*vessel));
        self.stop_requested.extend(&signal);
        for vessel in &rest {
            self.due.remove(vessel);
            self.retrying.remove(vessel);
            self.interrupted.remove(vessel);
            self.ended.insert(*vessel, Status::Terminated);
        }
        for vessel in vessels {
            self.holds.remove(&vessel.run());
            self.follow_paths(vessel.run());
        }
        signal
    }

    /// A vessel and all behind it.
    pub fn with_descendants(&self, vessel: VesselRunId) -> Vec<VesselRunId> {
        let run = vessel.run();
        let mut found = vec![vessel];
        // Paths lead forward in these tests, so that one pass in order of their end finds all.
        let mut paths = self.versions[&run].definition.paths.clone();
        paths.sort_by_key(|path| (path.to, path.from));
        for path in paths {
            let to = run.vessel_run(path.to.into());
            if found.contains(&run.vessel_run(path.from.into())) && !found.contains(&to) {
                found.push(to);
            }
        }
        found
    }

    /// Returns the runs that end with this, and the vessels that must be told.
    pub fn fire_due(&mut self, now: Timestamp) -> Told {
        for (vessel, due) in std::mem::take(&mut self.due) {
            let due = due.min(now.plus(self.wait(vessel)));
            if due > now {
                self.due.insert(vessel, due);
            }
        }
        for (run, (_, hold)) in &mut self.holds {
            let debounce = self.versions[run].definition.debounce.expect("it is held");
            hold.until = hold.until.min(now.plus(debounce.wait));
            hold.since = hold.since.min(now);
        }
        let released = self.holds.iter().filter(|(_, (_, hold))| hold.until <= now);
        let mut released: Vec<_> = released.map(|(run, (_, hold))| (hold.until, *run)).collect();
        released.sort_unstable();
        let (mut ended, mut signal) = (Vec::new(), Vec::new());
        for (_, run) in released {
            self.holds.remove(&run);
            let told = self.enter(run);
            ended.extend(told.0);
            signal.extend(told.1);
        }
        (ended, signal)
    }

    fn wait(&self, vessel: VesselRunId) -> Duration {
        self.waits[&vessel]
    }

    pub fn was_started(&self, run: RunId) -> bool {
        self.started.contains(&run)
    }

    /// A new server takes over a run.
    pub fn reload(
        &mut self,
        run: RunId,
        interruption: Interruption,
        crashes_max: u32,
        rows: &Rows,
        now: Timestamp,
    ) -> Reloaded {
        if !self.started.contains(&run) {
            let debounce = self.versions[&run].definition.debounce;
            if let Some(((stored, hold), debounce)) = self.holds.get_mut(&run).zip(debounce) {
                let until = stored.until.min(now.plus(debounce.wait));
                *hold = Hold { since: stored.since.min(now), until };
            }
            return Reloaded::Waiting;
        }
        let vessels = self.vessels(run);
        for vessel in &vessels {
            // Of retries that had fired but not started, only the stored due time is left.
            let stored = rows.latest(*vessel).and_then(|record| record.retry_at);
            if let Some(stored) = stored.filter(|_| !self.ended.contains_key(vessel)) {
                self.due.insert(*vessel, stored.min(now.plus(self.wait(*vessel))));
            }
            if self.running.contains(vessel) && self.stop_requested.contains(vessel) {
                self.running.remove(vessel);
                self.retrying.remove(vessel);
                self.ended.insert(*vessel, Status::Terminated);
            }
        }
        if self.is_over(run) {
            return Reloaded::Ended;
        }
        let was_running = self.is_running(run);
        let has_launched = vessels
            .iter()
            .any(|vessel| self.attempts.contains_key(vessel) && !self.skipped.contains_key(vessel));
        let has_directory = interruption.has_directory || !has_launched;
        let crashes = self.crashes.entry(run).or_default();
        let was_crash = interruption.cause == InterruptionCause::Crash;
        *crashes += u32::from(was_running && was_crash);
        let is_poison = was_running && was_crash && *crashes >= crashes_max;
        let at_most_once = self.versions[&run].definition.delivery == Delivery::AtMostOnce;
        if is_poison || at_most_once && (was_running || !has_directory) {
            self.give_up(&vessels);
            return Reloaded::Ended;
        }
        for vessel in &vessels {
            let was_running = self.running.remove(vessel);
            let restarts = !has_directory && self.ended.get(vessel) != Some(&Status::Terminated);
            if restarts {
                self.ended.remove(vessel);
                self.due.remove(vessel);
                self.skipped.remove(vessel);
            }
            if restarts || was_running {
                self.retrying.remove(vessel);
            }
            if (restarts || was_running) && self.attempts.contains_key(vessel) {
                self.interrupted.insert(*vessel);
            }
        }
        self.follow_paths(run);
        for vessel in &vessels {
            if self.ended.contains_key(vessel) {
                self.interrupted.remove(vessel);
            }
        }
        match has_directory {
            _ if self.is_over(run) => Reloaded::Ended,
            true => Reloaded::Resumed,
            false => Reloaded::StartsOver,
        }
    }

    fn give_up(&mut self, vessels: &[VesselRunId]) {
        let undecided: Vec<VesselRunId> =
            vessels.iter().copied().filter(|it| !self.ended.contains_key(it)).collect();
        let none_running = !undecided.iter().any(|vessel| self.running.contains(vessel));
        for (place, vessel) in undecided.iter().enumerate() {
            let bears = self.running.remove(vessel) || (none_running && place == 0);
            let status = if bears { Status::Errored } else { Status::Incomplete };
            self.due.remove(vessel);
            self.retrying.remove(vessel);
            self.interrupted.remove(vessel);
            self.ended.insert(*vessel, status);
        }
    }

    /// The rows say what the model says, and nothing else.
    pub fn check(&self, rows: &Rows) {
        let mut places: Vec<RunId> = Vec::new();
        for (sequence, entry) in &rows.queue {
            let run = &rows.runs[&entry.run];
            assert_eq!((run.sequence, run.fleet_version), (*sequence, entry.version));
            assert_eq!(entry.started, self.started.contains(&entry.run));
            places.push(entry.run);
        }
        let unfinished = self.runs.iter().copied().filter(|run| !self.is_over(*run));
        assert_eq!(places, unfinished.collect::<Vec<_>>(), "the queue holds the unfinished runs");
        for run in &self.runs {
            self.check_run(*run, rows);
        }
    }

    fn check_run(&self, run: RunId, rows: &Rows) {
        let vessels = self.vessels(run);
        let own = |it: &&VesselRunId| !matches!(self.skipped.get(*it), Some(Skip::Replay { .. }));
        let has = |status| vessels.iter().filter(own).any(|it| self.ended.get(it) == Some(&status));
        let expected = match (self.is_over(run), self.started.contains(&run)) {
            (true, _) if has(Status::Terminated) => Status::Terminated,
            (true, _) if has(Status::Errored) => Status::Errored,
            (true, _) if has(Status::Success) => Status::Success,
            (true, _) => Status::Incomplete,
            (false, true) if vessels.iter().any(|it| self.retrying.contains(it)) => {
                Status::Retrying
            }
            (false, true) => Status::Running,
            (false, false) => Status::Scheduled,
        };
        let record = &rows.runs[&run];
        assert_eq!(record.status, expected, "{record:?}");
        assert_eq!(record.key(), self.keys[&run], "{record:?}");
        if !self.is_over(run) {
            let held = self.holds.get(&run).map(|(stored, _)| *stored);
            assert_eq!(record.arrival().hold, held, "{record:?}");
        }
        assert_eq!(record.ended_at.is_some(), self.is_over(run), "{record:?}");
        assert_eq!(record.replay_of, replay_of(run), "{record:?}");
        assert_eq!(record.crashes, self.crashes.get(&run).copied().unwrap_or(0), "{record:?}");
        for vessel in vessels {
            let latest = rows.latest(vessel);
            let attempts = self.attempts.get(&vessel).copied().unwrap_or(0);
            assert_eq!(latest.map_or(0, |record| record.attempt), attempts, "{latest:?}");
            let ended = latest.map(|record| record.status).filter(|status| status.is_final());
            assert_eq!(ended, self.ended.get(&vessel).copied(), "{latest:?}");
            let is_retrying = latest.is_some_and(|record| record.status == Status::Retrying);
            assert_eq!(is_retrying, self.retrying.contains(&vessel), "{latest:?}");
            let awaits_retry = latest.is_some_and(|record| record.retry_at.is_some());
            assert!(!(awaits_retry && ended.is_some()), "{latest:?}");
            assert_eq!(rows.is_running(vessel), self.running.contains(&vessel), "{latest:?}");
            let retries = latest.map_or(0, |record| record.retries);
            assert_eq!(retries, self.retries.get(&vessel).copied().unwrap_or(0), "{latest:?}");
            let definition = &self.versions[&run].definition;
            assert!(retries <= definition.vessels[vessel.vessel().unwrap()].guardrails.retry_count);
        }
    }
}

/// Between which limits the wait before retry number `retry` lies, from 1.
fn wait_bounds(guardrails: &Guardrails, retry: u32) -> (Duration, Duration) {
    match guardrails.retry_backoff {
        Backoff::Constant => (guardrails.retry_wait, guardrails.retry_wait),
        Backoff::Exponential => {
            let full = (1..retry).fold(guardrails.retry_wait, |wait, _| wait * 2);
            let full = full.min(RETRY_WAIT_MAX);
            (full / 2, full)
        }
    }
}
