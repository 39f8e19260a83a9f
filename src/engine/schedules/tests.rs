//! A year of schedules with downtimes, clocks that are set and queues that are full, against the list
//! of all due times. Those are compared with what Python's zoneinfo finds (`tests/data/schedules.py`).

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::plan::{ON_TIME, REFUSED_WAIT};
use super::*;
use crate::model::schedule::{
    CatchUp, CronExpression, DUE_TIMES_MAX, DueTimes, Schedule, ScheduleEntry, ZonedSchedule,
};

const VECTORS: &str = include_str!("../../../tests/data/schedules.txt");
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn expression(cron: &str) -> CronExpression {
    CronExpression::try_from(cron.to_owned()).unwrap()
}

fn zoned(cron: &str, zone: &str, catch_up: CatchUp) -> ZonedSchedule {
    let schedule = Schedule { cron: expression(cron), catch_up, ..Schedule::default() };
    ZonedSchedule::new(&schedule, zone)
}

/// The due times of a year by the clock of the zone.
fn year(cron: &str, zone: &str) -> Vec<Timestamp> {
    let times = DueTimes::new(&expression(cron), zone).unwrap();
    let zone = crate::model::time_zone::get(zone).unwrap();
    let start = |year: i16| {
        let start = jiff::civil::date(year, 1, 1).at(0, 0, 0, 0);
        let start = zone.to_ambiguous_timestamp(start).compatible().unwrap();
        Timestamp::from_millis(start.as_millisecond())
    };
    let (start, end) = (start(2028), start(2029));
    let first = times.next_after(start.minus(Duration::from_millis(1)));
    std::iter::successors(first, |last| times.next_after(*last))
        .take_while(|it| *it < end)
        .collect()
}

#[test]
fn the_due_times_of_a_year_are_those_that_zoneinfo_finds() {
    let mut compared = 0;
    for line in VECTORS.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let &[zone, cron, count, digest] = fields.as_slice() else { panic!("{line}") };
        let due = year(cron, zone);
        let minutes: String =
            due.iter().map(|it| format!("{}\n", it.as_millis() / 60_000)).collect();
        assert_eq!(due.len().to_string(), count, "{zone} {cron}");
        let found = data_encoding::HEXLOWER.encode(&Sha256::digest(minutes.as_bytes()));
        assert_eq!(found, digest, "{zone} {cron}");
        compared += 1;
    }
    assert!(compared >= 55, "{compared}");
}

/// A server that comes and goes, with one schedule.
struct World {
    key: ScheduleKey,
    zoned: ZonedSchedule,
    now: Timestamp,
    /// `None` while the server is down.
    schedules: Option<Schedules>,
    /// What is stored.
    entry: ScheduleEntry,
    /// Each due time that ran, with when.
    ran: Vec<(Timestamp, Timestamp)>,
    has_room: bool,
}

impl World {
    fn new(zoned: ZonedSchedule, now: Timestamp) -> Self {
        let fleet = FleetId::random();
        let key = ScheduleKey::all(fleet, std::slice::from_ref(&zoned))[0];
        let mut schedules = Schedules::default();
        let changes = schedules.set(fleet, vec![zoned.clone()], now);
        let entry = ScheduleEntry::new(now);
        assert_eq!(changes, [Change::PutSchedule { key, entry: entry.clone() }]);
        let schedules = Some(schedules);
        Self { key, zoned, now, schedules, entry, ran: Vec::new(), has_room: true }
    }

    fn start(&mut self) {
        let stored = vec![(self.key, self.entry.clone())];
        let fleets = vec![(self.key.fleet, vec![self.zoned.clone()])];
        let (schedules, changes) = Schedules::reload(stored, fleets, self.now);
        assert_eq!(changes, []);
        self.schedules = Some(schedules);
        self.look();
    }

    fn crash(&mut self) {
        self.schedules = None;
    }

    /// What the thread of the schedules does.
    fn look(&mut self) {
        let Some(schedules) = &mut self.schedules else { return };
        schedules.look(self.now);
        for key in schedules.with_due(self.now) {
            while let Some((due, entry)) = schedules.first_due(key) {
                if !self.has_room {
                    schedules.refuse(key, self.now);
                    break;
                }
                schedules.ran(key);
                self.entry = entry;
                self.ran.push((due, self.now));
            }
        }
        for change in schedules.take_unstored() {
            let Change::PutSchedule { entry, .. } = change else { panic!("{change:?}") };
            assert_ne!(self.entry, entry, "a row is written again");
            self.entry = entry;
        }
    }

    /// Time goes on to `end`, and the server wakes when it has asked for.
    fn sleep_until(&mut self, end: Timestamp) {
        loop {
            let wake = self.schedules.as_ref().and_then(|it| it.wake_at(self.now));
            match wake.filter(|wake| *wake <= end) {
                Some(wake) => {
                    assert!(wake > self.now || self.has_room, "it polls");
                    self.now = wake.max(self.now);
                    self.look();
                }
                None => {
                    self.now = end;
                    return;
                }
            }
        }
    }

    fn sleep(&mut self, time: Duration) {
        self.sleep_until(self.now.plus(time));
    }

    /// The clock is set, which wakes the server.
    fn set_clock(&mut self, now: Timestamp) {
        self.now = now;
        self.look();
    }

    fn due(&self) -> Vec<Timestamp> {
        self.ran.iter().map(|(due, _)| *due).collect()
    }

    fn times(&self) -> Vec<String> {
        self.ran.iter().map(|(due, _)| due.to_string()[5..16].to_owned()).collect()
    }
}

const ZONES: [&str; 4] =
    ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"];

#[test]
fn through_a_year_with_downtimes_each_due_time_runs_once_and_in_order() {
    for (seed, zone) in (1..).zip(ZONES) {
        for cron in ["25 * * * *", "30 2 * * *", "*/20 1-3 * * *"] {
            for catch_up in [CatchUp::Latest, CatchUp::All, CatchUp::None] {
                live_a_year(seed, zone, cron, catch_up);
            }
        }
    }
}

fn live_a_year(seed: u64, zone: &str, cron: &str, catch_up: CatchUp) {
    let mut random = fastrand::Rng::with_seed(seed);
    let all = year(cron, zone);
    let start = all[0].minus(MINUTE);
    let end = all[all.len() - 1].plus(MINUTE);
    let mut world = World::new(zoned(cron, zone, catch_up), start);
    let mut expected = Vec::new();
    let mut expect = |from: Timestamp, until: Timestamp, was_down: bool| {
        let passed: Vec<Timestamp> =
            all.iter().filter(|due| **due > from && **due <= until).copied().collect();
        let kept = match catch_up {
            _ if !was_down => passed.len(),
            CatchUp::All => DUE_TIMES_MAX,
            CatchUp::Latest => 1,
            CatchUp::None => 0,
        };
        expected.extend_from_slice(&passed[passed.len().saturating_sub(kept)..]);
    };
    while world.now < end {
        let before = world.now;
        let up = Duration::from_secs(random.u64(1..20 * 24 * 3600));
        world.sleep_until(world.now.plus(up).min(end));
        expect(before, world.now, false);
        let before = world.now;
        world.crash();
        let longest = [600, 90_000, 900_000][random.usize(..3)];
        let down = Duration::from_secs(random.u64(1..longest));
        world.sleep_until(world.now.plus(down).min(end));
        world.start();
        expect(before, world.now, true);
    }
    world.sleep_until(end);
    let due = world.due();
    let differs = due.iter().zip(&expected).find(|(ran, expected)| ran != expected);
    assert_eq!(differs, None, "{zone} {cron} {catch_up:?}");
    assert_eq!(due.len(), expected.len(), "{zone} {cron} {catch_up:?}");
    assert!(world.ran.iter().all(|(due, ran)| ran >= due));
}

#[test]
fn through_a_year_of_clocks_that_are_set_no_due_time_runs_twice_or_is_lost() {
    for (seed, zone) in (10..).zip(ZONES) {
        let cron = "25 * * * *";
        let mut random = fastrand::Rng::with_seed(seed);
        let all = year(cron, zone);
        let end = all[all.len() - 1].plus(MINUTE);
        let mut world = World::new(zoned(cron, zone, CatchUp::All), all[0].minus(MINUTE));
        while world.now < end {
            world.sleep(Duration::from_secs(random.u64(1..5 * 24 * 3600)));
            let step = Duration::from_secs(random.u64(1..20 * 3600));
            let set = if random.bool() { world.now.plus(step) } else { world.now.minus(step) };
            // A crash right after the clock was set.
            if random.u8(..3) == 0 {
                world.crash();
                world.now = set;
                world.start();
            } else {
                world.set_clock(set);
            }
        }
        world.sleep(DAY);
        let mut counts: BTreeMap<Timestamp, usize> = BTreeMap::new();
        world.due().into_iter().for_each(|due| *counts.entry(due).or_default() += 1);
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{zone}: {twice:?}");
        let lost: Vec<_> = all.iter().filter(|due| !counts.contains_key(due)).collect();
        assert!(lost.is_empty(), "{zone}: {lost:?}");
    }
}

#[test]
fn a_clock_that_is_put_back_repeats_nothing_and_does_not_silence_a_schedule() {
    let mut world =
        World::new(zoned("0 * * * *", "UTC", CatchUp::Latest), at("2028-06-01T07:30:00Z"));
    world.sleep(HOUR);
    // The clock jumps to a wrong year and comes back.
    world.set_clock(at("2060-01-01T00:10:00Z"));
    assert_eq!(world.times(), ["06-01T08:00", "01-01T00:00"]);
    world.set_clock(at("2028-06-01T07:50:00Z"));
    world.sleep(3 * HOUR);
    assert_eq!(world.times()[2..], ["06-01T09:00", "06-01T10:00"], "08:00 has run");
    // After a restart as well.
    world.crash();
    world.now = at("2028-06-01T08:50:00Z");
    world.start();
    world.sleep(3 * HOUR);
    assert_eq!(world.times()[4..], ["06-01T11:00"]);
}

#[test]
fn more_than_what_is_remembered_is_not_repeated_when_the_clock_is_put_back_by_hours() {
    let mut world =
        World::new(zoned("* * * * *", "UTC", CatchUp::Latest), at("2028-06-01T00:00:30Z"));
    world.sleep(10 * HOUR);
    assert_eq!(world.ran.len(), 600);
    world.set_clock(at("2028-06-01T03:00:30Z"));
    world.sleep(8 * HOUR);
    assert_eq!(world.ran.len(), 660);
    let mut due = world.due();
    due.dedup();
    assert_eq!(due.len(), 660, "each once");
    // Years ahead is another thing: then the clock was wrong.
    world.set_clock(at("2060-01-01T00:00:30Z"));
    world.sleep(10 * HOUR);
    world.set_clock(at("2028-06-01T11:30:30Z"));
    let before = world.ran.len();
    world.sleep(HOUR);
    assert_eq!(world.ran.len() - before, 60);
}

#[test]
fn a_short_sleep_of_the_machine_loses_nothing_and_a_long_one_is_a_downtime() {
    for (catch_up, after_long) in [(CatchUp::Latest, 6), (CatchUp::All, 30), (CatchUp::None, 6)] {
        let mut world = World::new(zoned("* * * * *", "UTC", catch_up), at("2028-06-01T00:00:30Z"));
        world.set_clock(at("2028-06-01T00:04:30Z"));
        assert_eq!(world.ran.len(), 4, "{catch_up:?}");
        world.set_clock(at("2028-06-01T00:34:59Z"));
        let long = world.ran.len() - 4;
        assert!(ON_TIME == 5 * MINUTE && (long == after_long || long == after_long - 1), "{long}");
    }
}

#[test]
fn what_finds_no_room_waits_and_runs_late_but_once() {
    let mut world =
        World::new(zoned("*/10 * * * *", "UTC", CatchUp::Latest), at("2028-06-01T00:00:30Z"));
    world.has_room = false;
    world.sleep(HOUR);
    assert_eq!(world.ran, []);
    world.has_room = true;
    let opened = world.now;
    world.sleep(REFUSED_WAIT);
    assert_eq!(world.ran.len(), 6, "nothing is lost while the server is up");
    assert!(world.ran.iter().all(|(_, ran)| ran.since(opened) <= REFUSED_WAIT));
    world.sleep(HOUR);
    assert_eq!(world.ran.len(), 12);
    // What waits is bounded.
    world.has_room = false;
    world.sleep(2 * DAY);
    world.has_room = true;
    world.sleep(REFUSED_WAIT);
    assert_eq!(world.ran.len(), 12 + DUE_TIMES_MAX);
    let due = world.due();
    assert!(due.is_sorted());
    let last = due[due.len() - 1];
    assert!(world.now.since(last) < 11 * MINUTE, "the latest of them");
}

#[test]
fn what_waits_for_room_runs_after_a_restart_whatever_is_caught_up_with() {
    for (catch_up, of_downtime) in [(CatchUp::Latest, 1), (CatchUp::All, 3), (CatchUp::None, 0)] {
        let mut world =
            World::new(zoned("*/10 * * * *", "UTC", catch_up), at("2028-06-01T00:00:30Z"));
        world.has_room = false;
        world.sleep(HOUR / 2);
        world.crash();
        world.sleep(HOUR / 2);
        world.has_room = true;
        world.start();
        assert_eq!(world.ran.len(), 3 + of_downtime, "{catch_up:?}: {:?}", world.times());
        assert_eq!(world.times()[..3], ["06-01T00:10", "06-01T00:20", "06-01T00:30"]);
        // Each once: a crash after the runs finds nothing to do.
        world.crash();
        world.start();
        assert_eq!(world.ran.len(), 3 + of_downtime, "{catch_up:?}");
    }
}

#[test]
fn a_changed_schedule_runs_nothing_for_the_past_and_another_goes_on() {
    let (fleet, start) = (FleetId::random(), at("2028-06-01T00:00:30Z"));
    let set = |crons: &[&str]| crons.iter().map(|cron| zoned(cron, "UTC", CatchUp::All)).collect();
    let mut schedules = Schedules::default();
    assert_eq!(schedules.set(fleet, set(&["0 * * * *", "0 * * * *"]), start).len(), 2);
    let later = start.plus(3 * HOUR);
    // One of two equal ones goes, one that is new comes; their catch_up may change.
    let mut changed: Vec<ZonedSchedule> = set(&["30 * * * *", "0 * * * *"]);
    changed[1].schedule.catch_up = CatchUp::Latest;
    let changes = schedules.set(fleet, changed.clone(), later);
    let [Change::RemoveSchedule(_), Change::PutSchedule { entry, .. }] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    assert_eq!(entry.settled, later);
    assert_eq!(schedules.look(later), 2, "of 01:00, 02:00 and 03:00");
    let due: Vec<_> =
        schedules.with_due(later).into_iter().filter_map(|key| schedules.first_due(key)).collect();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].0, at("2028-06-01T03:00:00Z"));
    assert_eq!(schedules.set(fleet, changed, later), [], "no change");
    // In another zone the same times are others.
    let zone = set(&["30 * * * *", "0 * * * *"]).into_iter();
    let moved =
        zone.map(|it: ZonedSchedule| ZonedSchedule { time_zone: "Asia/Kathmandu".into(), ..it });
    assert_eq!(schedules.set(fleet, moved.collect(), later).len(), 4);
    assert_eq!(schedules.set(fleet, Vec::new(), later).len(), 2);
    assert_eq!(schedules.wake_at(later), None);
}
