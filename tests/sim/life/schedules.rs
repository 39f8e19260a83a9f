//! Schedules: which due times must run, found minute by minute and without cron expressions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use boathook::internals::store::Store;
use boathook::internals::{
    ArrivalRecord, CatchUp, Change, FleetDefinition, FleetId, RequestHead, RunRecord, Timestamp,
    Trigger,
};

use super::{Life, WAITING_MAX};
use crate::model::Run;

/// Whether a schedule is due in a minute since the epoch.
type IsDue = fn(i64) -> bool;

/// Expressions of schedules, and when they are due.
pub const SCHEDULES: [(&str, IsDue); 4] = [
    ("* * * * *", |_| true),
    ("*/7 * * * *", |minute| minute % 60 % 7 == 0),
    ("30 * * * *", |minute| minute % 60 == 30),
    ("15 3 * * *", |minute| minute % 1440 == 195),
];

/// Due times that a schedule remembers, and that may wait.
const REMEMBERED: usize = 100;
/// See `engine/schedules/plan.rs`.
const ON_TIME: Duration = Duration::from_secs(300);
const REFUSED_WAIT: Duration = Duration::from_secs(10);
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// The schedule of a fleet by the rules alone.
pub struct Timetable {
    cron: String,
    is_due: IsDue,
    catch_up: CatchUp,
    decided: Timestamp,
    /// Due times that must run.
    owed: Vec<Timestamp>,
    /// All that have run.
    ran: BTreeSet<Timestamp>,
    /// Its server has not looked yet.
    is_new: bool,
    refused_at: Option<Timestamp>,
}

impl Timetable {
    /// The schedule of a fleet that is made or changed at `now`.
    fn of(definition: &FleetDefinition, now: Timestamp) -> Option<Self> {
        let schedule = definition.schedules.first()?;
        let cron = schedule.cron.text().to_owned();
        let (_, is_due) = SCHEDULES.iter().find(|(known, _)| *known == cron)?;
        Some(Self {
            cron,
            is_due: *is_due,
            catch_up: schedule.catch_up,
            decided: now,
            owed: Vec::new(),
            ran: BTreeSet::new(),
            is_new: false,
            refused_at: None,
        })
    }

    /// The latest due times that ran, the first of them first.
    fn remembered(&self) -> Vec<Timestamp> {
        let excess = self.ran.len().saturating_sub(REMEMBERED);
        self.ran.iter().skip(excess).copied().collect()
    }

    /// What falls due until `now`.
    fn look(&mut self, now: Timestamp) {
        let remembered = self.remembered();
        if now < self.decided {
            self.owed.retain(|due| *due <= now);
            let oldest = remembered.first().filter(|_| remembered.len() == REMEMBERED);
            let oldest = oldest.filter(|it| **it > now && it.since(now) <= AHEAD_MAX);
            self.decided = oldest.copied().unwrap_or(now);
        }
        let minute = |time: Timestamp| time.as_millis().div_euclid(60_000);
        let minutes = minute(self.decided) + 1..=minute(now);
        let due: Vec<Timestamp> = minutes
            .filter(|minute| (self.is_due)(*minute))
            .map(|minute| Timestamp::from_millis(minute * 60_000))
            .collect();
        let due = &due[due.len().saturating_sub(REMEMBERED)..];
        self.decided = due.last().copied().unwrap_or(self.decided);
        let due: Vec<_> = due.iter().filter(|it| !remembered.contains(it)).copied().collect();
        let is_new = std::mem::take(&mut self.is_new);
        for (place, at) in due.iter().enumerate() {
            let is_on_time = !is_new && now.since(*at) <= ON_TIME;
            let is_latest = place + 1 == due.len();
            let runs = match self.catch_up {
                CatchUp::All => true,
                CatchUp::Latest => is_on_time || is_latest,
                CatchUp::None => is_on_time,
            };
            if runs {
                self.owed.push(*at);
            }
        }
        let excess = self.owed.len().saturating_sub(REMEMBERED);
        self.owed.drain(..excess);
    }

    fn is_refused(&self, now: Timestamp) -> bool {
        self.refused_at.is_some_and(|at| now >= at && now.since(at) < REFUSED_WAIT)
    }
}

impl Life {
    /// A version of a fleet has become durable; `None`: the fleet is deleted.
    pub(super) fn follow_schedule(&mut self, fleet: FleetId, definition: Option<&FleetDefinition>) {
        let now = self.machine.now();
        let changed = definition.and_then(|definition| Timetable::of(definition, now));
        let former = self.timetables.remove(&fleet);
        let Some(mut changed) = changed else { return };
        if let Some(former) = former.filter(|former| former.cron == changed.cron) {
            let catch_up = changed.catch_up;
            changed = Timetable { catch_up, ..former };
        }
        self.timetables.insert(fleet, changed);
    }

    /// A server has started: it goes on where the rows say.
    pub(super) fn reload_schedules(&mut self) {
        let rows = self.disk.lock().rows.schedules.clone();
        for (key, entry) in rows {
            let timetable = self.timetables.get_mut(&key.fleet);
            let timetable = timetable.unwrap_or_else(|| panic!("{key} belongs to no fleet"));
            timetable.decided = entry.settled;
            timetable.owed = entry.waiting;
            timetable.is_new = true;
            timetable.refused_at = None;
        }
    }

    /// The server looks at its schedules.
    pub(super) fn fire_schedules(&mut self) {
        let now = self.machine.now();
        let waiting: Vec<FleetId> = self
            .timetables
            .iter_mut()
            .filter_map(|(fleet, timetable)| {
                timetable.look(now);
                (!timetable.owed.is_empty() && !timetable.is_refused(now)).then_some(*fleet)
            })
            .collect();
        let outcome = self.call(|engine| engine.fire_schedules());
        for change in outcome.changes() {
            if let Change::AddRun(run) = change {
                assert!(waiting.contains(&run.fleet_id), "{} is not due", run.id);
                self.note_due_run(run, now);
            }
        }
        self.note(format!("schedules of {} fleets at {now}: {:?}", waiting.len(), outcome.result));
        // A run that gave way to a newer one has left its room to others.
        let frees = |change: &Change| matches!(change, Change::RemoveQueueEntry { .. });
        let has_freed = outcome.changes().any(frees);
        if outcome.result.is_none() {
            return;
        }
        for fleet in waiting {
            let has_room =
                self.model.has_room(WAITING_MAX) && self.model.has_room_for(fleet, WAITING_MAX);
            let Some(timetable) = self.timetables.get_mut(&fleet) else { continue };
            timetable.refused_at = (!timetable.owed.is_empty()).then_some(now);
            let owed = &timetable.owed;
            assert!(owed.is_empty() || !has_room || has_freed, "{owed:?} of {fleet} did not run");
        }
        self.check_schedules();
    }

    fn note_due_run(&mut self, run: &RunRecord, now: Timestamp) {
        let due = run.arrival().due_at.unwrap_or_else(|| panic!("{} has no due time", run.id));
        assert_eq!(run.trigger, Trigger::Schedule);
        let timetable = self.timetables.get_mut(&run.fleet_id);
        let timetable = timetable.unwrap_or_else(|| panic!("{} has no schedule", run.fleet_id));
        assert_eq!(timetable.owed.first(), Some(&due), "of {:?}", timetable.owed);
        timetable.owed.remove(0);
        let remembered = timetable.remembered();
        let is_forgotten =
            remembered.len() == REMEMBERED && remembered.first().is_some_and(|it| due < *it);
        let is_first = timetable.ran.insert(due);
        assert!(is_first || is_forgotten, "{due} of {} runs twice", run.fleet_id);
        let place = self.fleets.iter().position(|fleet| fleet.id == run.fleet_id);
        let versions = &self.fleets[place.unwrap_or_else(|| panic!("no such fleet"))].versions;
        let definition = &versions[run.fleet_version as usize - 1];
        let mut expected = Run::new(run.fleet_id, run.fleet_version, definition);
        expected.arrival = ArrivalRecord { due_at: Some(due), ..ArrivalRecord::default() };
        self.remember(run.id, &RequestHead::default(), Vec::new());
        self.model.submit(run.id, expected, now);
    }

    /// The rows say which due times have run, and which wait.
    pub(super) fn check_schedules(&self) {
        let rows = &self.disk.lock().rows.schedules;
        let stored: BTreeMap<FleetId, _> =
            rows.iter().map(|(key, entry)| (key.fleet, (&entry.ran, &entry.waiting))).collect();
        assert_eq!(stored.len(), rows.len(), "one schedule of each fleet");
        assert!(stored.keys().eq(self.timetables.keys()), "the fleets with schedules");
        for (fleet, timetable) in &self.timetables {
            let (ran, waiting) = stored[fleet];
            assert_eq!(*ran, timetable.remembered(), "the due times of {fleet} that ran");
            assert_eq!(*waiting, timetable.owed, "the due times of {fleet} that wait");
        }
    }

    /// The stored schedules are those that were made durable.
    pub(super) fn check_stored_schedules(&self, store: &Store) {
        let rows = self.disk.lock().rows.schedules.clone();
        let stored = store.schedules().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(stored.into_iter().collect::<BTreeMap<_, _>>(), rows, "the stored schedules");
    }
}
