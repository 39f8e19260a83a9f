//! Schedules: a thread sleeps until the next due time and accepts a run of each that has come. The row
//! that says how far a schedule has come is in the commit of its run, so that a crash neither loses nor
//! repeats a due time. A due time that finds no room is in the row as well. [`plan`] decides.

mod plan;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::engine::catalog::Catalog;
use crate::engine::intake::{NewRun, PendingRun};
use crate::engine::{AcceptError, Engine, Phase, Reach};
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::event::ArrivalRecord;
use crate::model::ids::FleetId;
use crate::model::request::RequestHead;
use crate::model::run::Trigger;
use crate::model::schedule::ScheduleKey;
use crate::os::alarm::Alarm;
use crate::os::{fatal, threads};

pub use plan::{Plan, Schedules};

/// A schedule as clients see it.
pub struct ScheduleView {
    pub key: ScheduleKey,
    pub fleet_name: String,
    pub plan: Plan,
    /// The time by the engine's clock.
    pub now: Timestamp,
}

/// A due time to come.
#[derive(Clone, Debug)]
pub struct Upcoming {
    pub due_at: Timestamp,
    pub fleet: FleetId,
    pub fleet_name: String,
}

impl Schedules {
    /// Follows `changes` of the catalog, which has made them already. Returns the changes of rows that
    /// belong into the same commit.
    pub fn follow(&mut self, catalog: &Catalog, changes: &[Change], now: Timestamp) -> Vec<Change> {
        let fleets = changes.iter().flat_map(|change| match change {
            Change::PutFleet(fleet) => vec![fleet.id],
            Change::RemoveFleet(id) => vec![*id],
            // Its time zone may be another.
            Change::PutProject(project) => catalog.fleets_of(project.id),
            _ => Vec::new(),
        });
        fleets.flat_map(|id| self.set(id, catalog.schedules_of(id), now)).collect()
    }
}

impl Engine {
    /// Starts the thread of the schedules. It ends once the engine drains.
    ///
    /// # Errors
    /// When the system has no thread or no timer for it.
    pub fn start_schedules(self: &Arc<Self>) -> io::Result<JoinHandle<()>> {
        let alarm = Alarm::new()?;
        // The engine starts its threads once.
        let _ = self.alarm.set(alarm);
        let engine = Arc::clone(self);
        threads::vital("schedules").spawn(move || engine.run_schedules())
    }

    fn run_schedules(&self) {
        let Some(alarm) = self.alarm.get() else { return };
        while self.decisions().phase == Phase::Serving {
            self.fire_schedules();
            if let Err(error) = alarm.wait() {
                fatal::stop(&format!("the timer of the schedules cannot be read: {error}"));
            }
        }
    }

    /// Accepts a run of each due time that has come. Returns how many.
    pub fn fire_schedules(&self) -> usize {
        let mut schedules = self.schedules();
        let now = self.clock.now();
        // 1. Decide on what has fallen due.
        let passed_over = schedules.look(now);
        if passed_over > 0 {
            self.metrics.due_times_passed_over.add(passed_over);
            log::warn!(due_times = passed_over; "due times passed while the server was down, and do not run (catch_up)");
        }
        // 2. Hand runs over to the committer, each with the row of its schedule.
        let mut accepted = Vec::new();
        for key in schedules.with_due(now) {
            while let Some(run) = self.accept_due(&mut schedules, key, now) {
                accepted.push(run);
            }
        }
        let unstored = schedules.take_unstored();
        let decided = (!unstored.is_empty()).then(|| self.store.commit(unstored));
        // 3. Sleep until the next one. `drain` sets the alarm last, so that none overhears it.
        if self.decisions().phase == Phase::Serving {
            self.set_alarm(&schedules, now);
        }
        drop(schedules);
        // 4. Wait until all of it is durable.
        if let Some(commit) = decided {
            commit.wait();
        }
        let count = accepted.len();
        for run in accepted {
            self.confirm(run);
        }
        count
    }

    /// Accepts a run of the first due time of a schedule that waits. `None`: none waits, or there is no
    /// room; the due time is then tried again.
    fn accept_due(
        &self,
        schedules: &mut Schedules,
        key: ScheduleKey,
        now: Timestamp,
    ) -> Option<PendingRun> {
        let (due_at, entry) = schedules.first_due(key)?;
        let version = self.current_version(key.fleet).ok()?;
        let arrival = self.arrival_of_none(&version, Trigger::Schedule);
        let new_run = NewRun {
            version,
            trigger: Trigger::Schedule,
            head: RequestHead::default(),
            replay_of: None,
            arrival: ArrivalRecord { due_at: Some(due_at), ..arrival },
            with: Some(Change::PutSchedule { key, entry }),
            waits: false,
        };
        match self.accept_run(new_run, &mut io::empty(), Some(0), 0) {
            Ok(run) => {
                schedules.ran(key);
                Some(run)
            }
            Err(error) => {
                self.metrics.due_times_postponed.count();
                if !matches!(error, AcceptError::Stopping) {
                    log::warn!(fleet:% = key.fleet, due:% = due_at, error:% = error; "a due time waits");
                }
                schedules.refuse(key, now);
                None
            }
        }
    }

    /// Sets the alarm to the next time at which the schedules need a look. Called under their lock.
    pub(super) fn set_alarm(&self, schedules: &Schedules, now: Timestamp) {
        if let Some(alarm) = self.alarm.get() {
            set(alarm, schedules.wake_at(now));
        }
    }

    /// Wakes the thread of the schedules, which ends if the engine drains.
    pub(super) fn ring_alarm(&self) {
        let _schedules = self.schedules();
        if let Some(alarm) = self.alarm.get() {
            set(alarm, Some(Timestamp::default()));
        }
    }

    /// The schedules of `fleet` or of all fleets, by the names of these.
    pub fn schedule_views(&self, fleet: Option<FleetId>) -> Vec<ScheduleView> {
        let schedules = self.schedules();
        let now = self.clock.now();
        let view = |(key, plan): (&ScheduleKey, &Plan)| {
            let fleet_name = self.fleet_name(key.fleet)?;
            Some(ScheduleView { key: *key, fleet_name, plan: plan.clone(), now })
        };
        let mut views: Vec<_> = schedules.of(fleet).filter_map(view).collect();
        drop(schedules);
        views.sort_by(|a, b| (&a.fleet_name, a.key).cmp(&(&b.fleet_name, b.key)));
        views
    }

    /// The next `count` due times of the fleets within `reach`.
    pub fn upcoming(&self, count: usize, reach: &Reach) -> Vec<Upcoming> {
        let schedules = self.schedules();
        let now = self.clock.now();
        // No other schedule has one of them than those that come first.
        let of_reach = schedules.of(None).filter(|(key, _)| reach.has_fleet(key.fleet, None));
        let mut first: Vec<(Timestamp, ScheduleKey, &Plan)> =
            of_reach.filter_map(|(key, plan)| Some((plan.next?, *key, plan))).collect();
        first.sort_by_key(|(next, key, _)| (*next, *key));
        let of_plan = |(_, key, plan): &(_, ScheduleKey, &Plan)| {
            let fleet = key.fleet;
            plan.to_come(now).take(count).map(move |due_at| (due_at, fleet)).collect::<Vec<_>>()
        };
        let mut due: Vec<(Timestamp, FleetId)> =
            first.iter().take(count).flat_map(of_plan).collect();
        due.sort_unstable();
        let named = due.into_iter().take(count).filter_map(|(due_at, fleet)| {
            Some(Upcoming { due_at, fleet, fleet_name: self.fleet_name(fleet)? })
        });
        named.collect()
    }

    fn fleet_name(&self, id: FleetId) -> Option<String> {
        self.current_version(id).ok().map(|version| version.definition.name.clone())
    }
}

fn set(alarm: &Alarm, at: Option<Timestamp>) {
    if let Err(error) = alarm.set(at) {
        fatal::stop(&format!("the timer of the schedules cannot be set: {error}"));
    }
}
