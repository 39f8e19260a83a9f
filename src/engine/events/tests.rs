//! The decisions on events, and that a filter or a late read changes none of them.

use super::*;
use crate::model::event::{BodyHash, Event};
use crate::model::ids::RunIds;

const WINDOW: Duration = Duration::from_secs(600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
}

/// Events with their rows, as the database would have them.
struct World {
    events: Events,
    rows: BTreeMap<EventKey, EventEntry>,
    ids: RunIds,
    fleet: FleetId,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            events: Events::default(),
            rows: BTreeMap::new(),
            ids: RunIds::after(None),
            fleet: FleetId::random(),
        };
        world.pass(at(0));
        world
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::PutEvent { key, entry } => drop(self.rows.insert(key, entry)),
                Change::RemoveEvent(key) => drop(self.rows.remove(&key)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn pass(&mut self, now: Timestamp) {
        let began = self.events.begin_pass();
        self.events.note_read(began);
        let mark = self.events.begin_read();
        let rows = self.rows.clone().into_iter().collect();
        let fleet = self.fleet;
        let changes = self.events.sweep(rows, mark, |it| it == fleet, now);
        self.apply(changes);
        self.events.end_pass();
    }

    fn stored(&self, keys: &[EventKey], mark: ReadMark) -> StoredEvent {
        let of_id = keys[0];
        let is_other = |key: &&EventKey| key.digest == of_id.digest && **key != of_id;
        let other_body = self.rows.keys().find(is_other).map(|key| self.rows[key].clone());
        let entries = keys.iter().filter_map(|key| self.rows.get(key).cloned()).collect();
        StoredEvent { mark, entries, other_body }
    }

    fn decide(&mut self, arrival: &ArrivalRecord, now: Timestamp) -> Decision {
        let keys = arrival.keys(self.fleet);
        match self.events.decide(&keys, WINDOW, None, now) {
            Err(mark) => {
                let stored = self.stored(&keys, mark);
                self.events.decide(&keys, WINDOW, Some(&stored), now).unwrap()
            }
            Ok(decision) => decision,
        }
    }

    /// A delivery; the run that it starts, or the decision against one.
    fn deliver(&mut self, arrival: &ArrivalRecord, now: Timestamp) -> Result<RunRecord, Decision> {
        let decision = self.decide(arrival, now);
        let Decision::Run { first_run, is_id_reused } = decision else { return Err(decision) };
        let arrival = ArrivalRecord { first_run, is_id_reused, ..arrival.clone() };
        let run = self.ids.next(now, 0);
        let changes = self.events.enter(self.fleet, run, &arrival, now);
        self.apply(changes);
        Ok(RunRecord {
            id: run,
            fleet_id: self.fleet,
            arrival: arrival.pack(),
            queued_at: now,
            ..record(run)
        })
    }

    fn end(&mut self, run: &RunRecord, status: Status) {
        let changes = self.events.close(&RunRecord { status, ..run.clone() });
        self.apply(changes);
    }
}

fn record(id: RunId) -> RunRecord {
    RunRecord { queued_at: at(0), ..RunRecord::example(id) }
}

fn arrival(id: &str, body: u8, id_is_signed: bool) -> ArrivalRecord {
    let body = BodyHash::from([body; 32]);
    let memory = EventMemory { window_seconds: WINDOW.as_secs(), body, id_is_signed };
    let event = Event::new(Some("preset"), Some(id), None);
    ArrivalRecord { event, memory: Some(memory), ..ArrivalRecord::default() }
}

#[test]
fn an_event_runs_once_and_again_after_a_failure() {
    let mut world = World::new();
    let event = arrival("1", 1, true);
    let first = world.deliver(&event, at(0)).unwrap();
    assert_eq!(world.deliver(&event, at(1)), Err(Decision::Duplicate(first.id)));
    world.end(&first, Status::Errored);
    let second = world.deliver(&event, at(2)).unwrap();
    assert_eq!(second.arrival().first_run, Some(first.id));
    assert_eq!(world.deliver(&event, at(3)), Err(Decision::Duplicate(second.id)));
    world.end(&second, Status::Terminated);
    let third = world.deliver(&event, at(4)).unwrap();
    assert_eq!(third.arrival().first_run, Some(first.id), "the first of all");
    world.end(&third, Status::Success);
    assert_eq!(world.deliver(&event, at(603)), Err(Decision::Duplicate(third.id)));
    assert!(world.deliver(&event, at(604)).is_ok_and(|it| it.arrival().first_run.is_none()));
}

#[test]
fn an_id_with_another_body_runs_and_is_flagged() {
    let mut world = World::new();
    let first = world.deliver(&arrival("1", 1, true), at(0)).unwrap();
    let other = world.deliver(&arrival("1", 2, true), at(1)).unwrap();
    assert!(!first.arrival().is_id_reused && other.arrival().is_id_reused);
    world.end(&first, Status::Success);
    world.end(&other, Status::Success);
    let third = world.deliver(&arrival("1", 3, true), at(2)).unwrap();
    assert!(third.arrival().is_id_reused, "also of what has ended");
    // Each body is an event of its own, and runs once.
    for (body, run) in [(1, &first), (2, &other), (3, &third)] {
        let again = world.deliver(&arrival("1", body, true), at(3));
        assert_eq!(again, Err(Decision::Duplicate(run.id)));
    }
    assert!(!world.deliver(&arrival("2", 1, true), at(3)).unwrap().arrival().is_id_reused);
}

#[test]
fn a_body_under_another_unsigned_id_is_a_duplicate() {
    let mut world = World::new();
    let first = world.deliver(&arrival("1", 1, false), at(0)).unwrap();
    let replayed = arrival("2", 1, false);
    assert_eq!(world.deliver(&replayed, at(1)), Err(Decision::Duplicate(first.id)));
    world.end(&first, Status::Errored);
    let second = world.deliver(&replayed, at(2)).unwrap();
    assert_eq!(second.arrival().first_run, Some(first.id));
    world.end(&second, Status::Success);
    for event in [arrival("1", 1, false), arrival("3", 1, false)] {
        assert_eq!(world.deliver(&event, at(3)), Err(Decision::Duplicate(second.id)));
    }
    assert!(world.deliver(&arrival("3", 1, true), at(3)).is_ok(), "a signed id is its own");
}

#[test]
fn a_pass_forgets_what_is_over_and_keeps_the_rest() {
    let mut world = World::new();
    let open = world.deliver(&arrival("open", 1, true), at(0)).unwrap();
    for (id, body, seconds) in [("old", 2, 0), ("new", 3, 500), ("ahead", 4, 1 << 30)] {
        let run = world.deliver(&arrival(id, body, true), at(seconds)).unwrap();
        world.end(&run, Status::Success);
    }
    world.pass(at(700));
    assert_eq!(world.rows.len(), 3, "{:?}", world.rows);
    assert!(world.deliver(&arrival("old", 2, true), at(700)).is_ok());
    let is_known = |world: &mut World, id, body, seconds| {
        matches!(world.decide(&arrival(id, body, true), at(seconds)), Decision::Duplicate(_))
    };
    assert!(is_known(&mut world, "open", 1, 700), "as long as its run has not ended");
    assert!(is_known(&mut world, "new", 3, 1_099) && !is_known(&mut world, "new", 3, 1_100));
    assert!(is_known(&mut world, "ahead", 4, 1_299), "from the pass on");
    assert!(!is_known(&mut world, "ahead", 4, 1_300));
    world.end(&open, Status::Success);
    world.fleet = FleetId::random();
    world.pass(at(701));
    assert_eq!(world.rows.len(), 1, "of a deleted fleet, what has not ended: {:?}", world.rows);
}

#[test]
fn a_row_that_was_written_after_a_read_is_read_again() {
    let mut world = World::new();
    let event = arrival("1", 1, false);
    let keys = event.keys(world.fleet);
    let late = world.stored(&keys, world.events.begin_read());
    let run = world.deliver(&event, at(0)).unwrap();
    world.end(&run, Status::Success);
    let decision = world.events.decide(&keys, WINDOW, Some(&late), at(1));
    assert!(decision.is_err(), "{decision:?}");
    assert_eq!(world.deliver(&event, at(1)), Err(Decision::Duplicate(run.id)));
    // More rows than are known by their keys count as any.
    let late = world.stored(&keys, world.events.begin_read());
    for number in 0..WRITTEN_MAX as u32 + 1 {
        let other = arrival(&number.to_string(), 9, true);
        let run = world.deliver(&other, at(2)).unwrap();
        world.end(&run, Status::Success);
    }
    let decision = world.events.decide(&keys, WINDOW, Some(&late), at(2));
    assert!(decision.is_err(), "{decision:?}");
}

#[test]
fn a_redelivery_after_a_failure_waits_for_the_row_of_the_failure() {
    let mut world = World::new();
    let event = arrival("1", 1, true);
    let keys = event.keys(world.fleet);
    let run = world.deliver(&event, at(0)).unwrap();
    // The row of the failure waits for its commit.
    let pending = world.events.close(&RunRecord { status: Status::Errored, ..run.clone() });
    let other = world.ids.next(at(1), 0);
    world.events.enter(world.fleet, other, &arrival("2", 2, true), at(1));
    let Err(mark) = world.events.decide(&keys, WINDOW, None, at(1)) else { panic!() };
    assert!(mark.awaits_commit, "the database has the row of the start only");
    world.apply(pending);
    let stored = world.stored(&keys, mark);
    let decision = world.events.decide(&keys, WINDOW, Some(&stored), at(1));
    assert_eq!(decision, Ok(Decision::Run { first_run: Some(run.id), is_id_reused: false }));
    // Once it is readable, no redelivery waits for a commit.
    let Err(mark) = world.events.decide(&keys, WINDOW, None, at(2)) else { panic!() };
    assert!(!mark.awaits_commit);
    // Nor does an event that the filter may have, unless more rows were written than are known.
    for number in 0..=WRITTEN_MAX as u32 {
        world.deliver(&arrival(&format!("n{number}"), 9, true), at(2)).unwrap();
    }
    assert!(world.events.begin_read().awaits_commit);
}

#[test]
fn a_pass_leaves_rows_whose_latest_write_it_may_have_missed() {
    let mut world = World::new();
    let run = world.deliver(&arrival("ahead", 1, true), at(1 << 30)).unwrap();
    let began = world.events.begin_pass();
    world.events.note_read(began);
    let pending = world.events.close(&RunRecord { status: Status::Errored, ..run.clone() });
    let mark = world.events.begin_read();
    let rows: Vec<_> = world.rows.clone().into_iter().collect();
    let fleet = world.fleet;
    let changes = world.events.sweep(rows, mark, |it| it == fleet, at(700));
    world.apply(pending);
    world.apply(changes);
    assert!(world.rows.values().all(|row| row.has_failed), "{:?}", world.rows);
}

#[test]
fn rows_that_arrive_during_a_pass_are_in_its_filter_and_stay() {
    let mut world = World::new();
    let old = world.deliver(&arrival("old", 1, true), at(0)).unwrap();
    world.end(&old, Status::Success);
    world.events.begin_pass();
    let mark = world.events.begin_read();
    let rows: Vec<_> = world.rows.clone().into_iter().collect();
    // Its window is over, and the sender delivers it once more while the sweeper reads.
    let again = world.deliver(&arrival("old", 1, true), at(600)).unwrap();
    world.end(&again, Status::Success);
    let new = world.deliver(&arrival("new", 2, true), at(600)).unwrap();
    let fleet = world.fleet;
    let changes = world.events.sweep(rows, mark, |it| it == fleet, at(601));
    world.apply(changes);
    world.events.end_pass();
    for (event, run) in [(arrival("old", 1, true), again), (arrival("new", 2, true), new)] {
        assert_eq!(world.deliver(&event, at(602)), Err(Decision::Duplicate(run.id)));
    }
}

#[test]
fn a_pass_sets_every_row_of_one_id_right() {
    let mut world = World::new();
    for body in [1, 2] {
        let run = world.deliver(&arrival("ahead", body, true), at(1 << 30)).unwrap();
        world.end(&run, Status::Success);
    }
    world.pass(at(700));
    let since: Vec<Timestamp> = world.rows.values().map(|row| row.since).collect();
    assert_eq!(since, [at(700), at(700)]);
}

#[test]
fn a_new_event_needs_no_read_once_a_pass_was_made() {
    let mut world = World::new();
    let event = arrival("1", 1, false);
    let keys = event.keys(world.fleet);
    let fresh = Ok(Decision::Run { first_run: None, is_id_reused: false });
    assert_eq!(world.events.decide(&keys, WINDOW, None, at(0)), fresh);
    let mut blank = Events::default();
    assert!(blank.decide(&keys, WINDOW, None, at(0)).is_err());
    assert_eq!(blank.decide(&[], WINDOW, None, at(0)), fresh, "a request without an event");
}
