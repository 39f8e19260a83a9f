//! Which due times of schedules run, and when the server has to look again. Pure: a test and the
//! simulation give the time.
//!
//! A due time runs once. A schedule remembers the due times that ran last, so that a clock that is put
//! back repeats none of them. A due time that the queue or the disk has no room for waits, across
//! restarts, too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::FleetId;
use crate::model::schedule::{
    CatchUp, DUE_TIMES_MAX, DueTimes, ScheduleEntry, ScheduleKey, ZonedSchedule,
};

/// A due time runs under every rule when a running server sees it within this time: a loaded machine
/// and a short sleep lose none.
pub const ON_TIME: Duration = Duration::from_secs(300);
/// Until a due time that found no room is tried again.
pub const REFUSED_WAIT: Duration = Duration::from_secs(10);
/// How far ahead of the clock the due times that ran may lie before the clock is thought to have been
/// wrong when they ran: those that are not remembered then run again.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// The schedules of all fleets.
#[derive(Default)]
pub struct Schedules {
    plans: BTreeMap<ScheduleKey, Plan>,
}

/// One schedule, and what this server has decided about it.
#[derive(Clone)]
pub struct Plan {
    pub zoned: ZonedSchedule,
    /// What is decided.
    pub entry: ScheduleEntry,
    /// Whether the row of the schedule, or the commit of a run, has `entry`.
    is_stored: bool,
    /// The first due time that is not decided. `None`: there is none, or `problem` says why.
    pub next: Option<Timestamp>,
    /// Why the due times are unknown.
    pub problem: Option<String>,
    /// This server has not looked yet: what is due fell due before its start.
    is_new: bool,
    /// When the first waiting due time found no room.
    refused_at: Option<Timestamp>,
}

impl Schedules {
    /// The schedules of `fleets` at the start of a server. `stored` says how far each has come. Returns
    /// the changes of rows that this takes.
    pub fn reload(
        stored: Vec<(ScheduleKey, ScheduleEntry)>,
        fleets: Vec<(FleetId, Vec<ZonedSchedule>)>,
        now: Timestamp,
    ) -> (Self, Vec<Change>) {
        let mut stored: BTreeMap<_, _> = stored.into_iter().collect();
        let (mut schedules, mut changes) = (Self::default(), Vec::new());
        for (fleet, zoned) in fleets {
            for (key, zoned) in ScheduleKey::all(fleet, &zoned).into_iter().zip(zoned) {
                if let Some(entry) = stored.remove(&key) {
                    schedules.plans.insert(key, Plan::new(zoned, entry, true));
                } else {
                    changes.push(schedules.add(key, zoned, now));
                }
            }
        }
        changes.extend(stored.into_keys().map(Change::RemoveSchedule));
        (schedules, changes)
    }

    /// Gives a fleet these schedules from `now` on. One that it has already goes on; a new one, as a
    /// changed one is, has no due times before `now`.
    pub fn set(
        &mut self,
        fleet: FleetId,
        schedules: Vec<ZonedSchedule>,
        now: Timestamp,
    ) -> Vec<Change> {
        let keys = ScheduleKey::all(fleet, &schedules);
        let wanted: BTreeSet<ScheduleKey> = keys.iter().copied().collect();
        let of_fleet = self.plans.keys().filter(|key| key.fleet == fleet);
        let gone: Vec<_> = of_fleet.filter(|key| !wanted.contains(key)).copied().collect();
        let mut changes = Vec::new();
        for key in gone {
            self.plans.remove(&key);
            changes.push(Change::RemoveSchedule(key));
        }
        for (key, zoned) in keys.into_iter().zip(schedules) {
            match self.plans.get_mut(&key) {
                Some(plan) => plan.zoned = zoned,
                None => changes.push(self.add(key, zoned, now)),
            }
        }
        changes
    }

    fn add(&mut self, key: ScheduleKey, zoned: ZonedSchedule, now: Timestamp) -> Change {
        let entry = ScheduleEntry::new(now);
        self.plans.insert(key, Plan::new(zoned, entry.clone(), false));
        Change::PutSchedule { key, entry }
    }

    /// Decides on the due times up to `now`. Returns how many of them do not run.
    pub fn look(&mut self, now: Timestamp) -> u64 {
        self.plans.values_mut().map(|plan| plan.look(now)).sum()
    }

    /// The changes of rows that no run has carried: of due times that do not run or that wait, and of a
    /// clock that was put back.
    pub fn take_unstored(&mut self) -> Vec<Change> {
        let unstored = self.plans.iter_mut().filter(|(_, plan)| !plan.is_stored);
        let change = |(key, plan): (&ScheduleKey, &mut Plan)| {
            plan.is_stored = true;
            Change::PutSchedule { key: *key, entry: plan.entry.clone() }
        };
        unstored.map(change).collect()
    }

    /// The schedules with a due time that is to be tried at `now`.
    pub fn with_due(&self, now: Timestamp) -> Vec<ScheduleKey> {
        let due = self.plans.iter().filter(|(_, plan)| plan.may_try(now));
        due.map(|(key, _)| *key).collect()
    }

    /// The first waiting due time of a schedule, and its entry once that has run.
    pub fn first_due(&self, key: ScheduleKey) -> Option<(Timestamp, ScheduleEntry)> {
        let plan = self.plans.get(&key)?;
        let due = *plan.entry.waiting.first()?;
        Some((due, plan.entry.with(due)))
    }

    /// The first waiting due time of a schedule runs. The commit of its run has the entry.
    pub fn ran(&mut self, key: ScheduleKey) {
        let Some(plan) = self.plans.get_mut(&key) else { return };
        if let Some(due) = plan.entry.waiting.first().copied() {
            plan.entry = plan.entry.with(due);
            plan.is_stored = true;
            plan.refused_at = None;
        }
    }

    /// The first waiting due time of a schedule found no room at `now`.
    pub fn refuse(&mut self, key: ScheduleKey, now: Timestamp) {
        if let Some(plan) = self.plans.get_mut(&key) {
            plan.refused_at = Some(now);
        }
    }

    /// When to look again, by what was known at `now`. `None`: when a schedule is added.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.plans.values().filter_map(|plan| plan.wake_at(now)).min()
    }

    /// The schedules of `fleet`, or of all fleets.
    pub fn of(&self, fleet: Option<FleetId>) -> impl Iterator<Item = (&ScheduleKey, &Plan)> {
        self.plans.iter().filter(move |(key, _)| fleet.is_none_or(|fleet| key.fleet == fleet))
    }
}

impl Plan {
    fn new(zoned: ZonedSchedule, entry: ScheduleEntry, is_new: bool) -> Self {
        let mut plan = Self {
            zoned,
            entry,
            is_stored: true,
            next: None,
            problem: None,
            is_new,
            refused_at: None,
        };
        if let Some(times) = plan.times() {
            plan.next = times.next_after(plan.entry.settled);
        }
        plan
    }

    /// The due times after `now` that have not run.
    pub fn to_come(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let zoned = &self.zoned;
        let times = DueTimes::new(&zoned.schedule.cron, &zoned.time_zone).ok();
        let mut last = now.max(self.entry.settled);
        let due = std::iter::from_fn(move || {
            last = times.as_ref()?.next_after(last)?;
            Some(last)
        });
        due.filter(|due| !self.entry.ran.contains(due))
    }

    /// The due times; `None` when they are unknown, for now.
    fn times(&mut self) -> Option<DueTimes> {
        match DueTimes::new(&self.zoned.schedule.cron, &self.zoned.time_zone) {
            Ok(times) => {
                self.problem = None;
                Some(times)
            }
            Err(problem) => {
                self.problem = Some(problem);
                None
            }
        }
    }

    /// See [`Schedules::look`]. Returns how many due times do not run.
    fn look(&mut self, now: Timestamp) -> u64 {
        let is_put_back = now < self.entry.settled;
        let is_due = self.next.is_some_and(|next| next <= now);
        let is_new = std::mem::take(&mut self.is_new);
        if !is_put_back && !is_due && self.problem.is_none() {
            return 0;
        }
        let Some(times) = self.times() else { return 0 };
        // 1. A clock that was put back makes due times due again that have not run.
        let settled = self.entry.settled;
        if is_put_back {
            self.entry.waiting.retain(|due| *due <= now);
            self.entry.settled = self.oldest_unknown(now);
        }
        // 2. What has fallen due since, without what has run.
        let mut due = times.last_within(self.entry.settled, now, DUE_TIMES_MAX);
        self.entry.settled = due.last().copied().unwrap_or(self.entry.settled);
        self.next = times.next_after(self.entry.settled);
        self.is_stored &= self.entry.settled == settled;
        due.retain(|due| !self.entry.ran.contains(due));
        // 3. What of it runs.
        let found = due.len();
        let latest = due.last().copied();
        due.retain(|due| {
            let is_on_time = !is_new && now.since(*due) <= ON_TIME;
            match self.zoned.schedule.catch_up {
                CatchUp::All => true,
                CatchUp::Latest => is_on_time || Some(*due) == latest,
                CatchUp::None => is_on_time,
            }
        });
        let kept = due.len();
        let waiting = &mut self.entry.waiting;
        waiting.extend(due);
        let excess = waiting.len().saturating_sub(DUE_TIMES_MAX);
        waiting.drain(..excess);
        u64::try_from(found - kept + excess).unwrap_or(u64::MAX)
    }

    /// Where the due times begin that a clock put back to `now` makes due again.
    fn oldest_unknown(&self, now: Timestamp) -> Timestamp {
        let ran = &self.entry.ran;
        let oldest = ran.first().filter(|_| ran.len() == DUE_TIMES_MAX);
        match oldest {
            // What ran before the oldest one that is remembered must not run again.
            Some(oldest) if *oldest > now && oldest.since(now) <= AHEAD_MAX => *oldest,
            _ => now,
        }
    }

    fn may_try(&self, now: Timestamp) -> bool {
        let is_refused = |at: Timestamp| now >= at && now.since(at) < REFUSED_WAIT;
        !self.entry.waiting.is_empty() && !self.refused_at.is_some_and(is_refused)
    }

    fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let again = match (self.entry.waiting.is_empty(), self.refused_at) {
            (true, _) => None,
            (false, Some(at)) if now >= at => Some(at.plus(REFUSED_WAIT)),
            (false, _) => Some(now),
        };
        again.into_iter().chain(self.next).min()
    }
}
