//! Events: deliveries of a few events again and again, and what must be remembered of them.

use std::collections::BTreeMap;
use std::time::Duration;

use boathook::internals::limits::CLOCK_STEP_MAX;
use boathook::internals::store::Store;
use boathook::internals::{
    Arrival, ArrivalRecord, BodyHash, Deduplicate, Event, EventEntry, EventKey, FleetId, RunId,
    Status, Timestamp,
};

use super::Life;

/// Events of each fleet.
const EVENTS: u8 = 5;

/// What is remembered of events by the rules alone, whatever the rows say.
#[derive(Default)]
pub struct Memory {
    /// The latest run of each event that cannot have been forgotten, and when it was accepted.
    held: BTreeMap<EventKey, (RunId, Timestamp)>,
    /// How runs with events ended that are kept no longer.
    ends: BTreeMap<RunId, Status>,
}

/// What must become of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    Run(Box<ArrivalRecord>),
    Duplicate(RunId),
}

impl Life {
    /// A delivery of one of a few events, and its body.
    pub(super) fn random_event(&mut self) -> (Arrival, Vec<u8>) {
        let number = self.random.u8(..EVENTS);
        let id_is_signed = number.is_multiple_of(2);
        let variant = u8::from(self.random.u8(..8) == 0);
        let length = if number == 4 { 300_000 } else { 100 };
        let mut body = format!("event {number}, variant {variant}").into_bytes();
        body.resize(length, b'.');
        let id = match self.random.u8(..6) {
            // A replay of the body under another id.
            0 if !id_is_signed => format!("replayed-{}", self.random.u8(..3)),
            _ => format!("event-{number}"),
        };
        let preset = if id_is_signed { "signed" } else { "unsigned" };
        let hash = BodyHash::of(&mut body.as_slice()).unwrap_or_else(|error| panic!("{error}"));
        let window = self.temper.window;
        let arrival = Arrival {
            event: Event::new(Some(preset), Some(&id), Some("push")),
            deduplicate: Some(Deduplicate { window, body: hash, id_is_signed }),
            ..Arrival::default()
        };
        (arrival, body)
    }

    /// What must become of a delivery to `fleet`, or of a replay.
    pub(super) fn expected(
        &self,
        fleet: FleetId,
        mut arrival: ArrivalRecord,
        is_replay: bool,
    ) -> Expected {
        let (keys, now) = (arrival.keys(fleet), self.machine.now());
        let duplicate_of = self.duplicate_of(fleet, &keys, now);
        if let (Some(run), false) = (duplicate_of, is_replay) {
            return Expected::Duplicate(run);
        }
        if keys.is_empty() || duplicate_of.is_some() {
            arrival.memory = None;
            return Expected::Run(Box::new(arrival));
        }
        for key in &keys {
            let held = self.memory.held.get(key);
            let must_be_known = held.is_some_and(|(run, _)| self.status(*run) == Status::Success);
            assert!(is_replay || !must_be_known, "{held:?} has run this event");
        }
        let rows = &self.disk.lock().rows.events;
        let remembered = keys.iter().filter_map(|key| rows.get(key));
        let remembered = remembered.filter(|row| row.is_within(self.temper.window, now));
        arrival.first_run = remembered.map(|row| row.first_run).min();
        let has_other_body = |(key, row): (&EventKey, &EventEntry)| {
            let is_open = !self.status(row.run).is_final();
            (key.fleet, key.digest) == (keys[0].fleet, keys[0].digest)
                && key.body != keys[0].body
                && (is_open || row.is_within(self.temper.window, now))
        };
        arrival.is_id_reused = rows.iter().any(has_other_body);
        Expected::Run(Box::new(arrival))
    }

    /// The run that an event has: one that has not ended, or has succeeded and is remembered.
    fn duplicate_of(&self, fleet: FleetId, keys: &[EventKey], now: Timestamp) -> Option<RunId> {
        let is_same = |it: &ArrivalRecord| it.keys(fleet).iter().any(|key| keys.contains(key));
        let mut unfinished = self.model.unfinished().filter(|(_, run)| run.fleet == fleet);
        if let Some((run, _)) = unfinished.find(|(_, run)| is_same(&run.arrival)) {
            return Some(*run);
        }
        let rows = &self.disk.lock().rows.events;
        let remembered = keys.iter().filter_map(|key| rows.get(key));
        let mut remembered = remembered.filter(|row| row.is_within(self.temper.window, now));
        remembered.find(|row| self.status(row.run) == Status::Success).map(|row| row.run)
    }

    /// The status of a run, also of one that is kept no longer.
    fn status(&self, run: RunId) -> Status {
        let ended = || self.memory.ends.get(&run).copied();
        let status = self.model.get(run).map(|run| run.status()).or_else(ended);
        status.unwrap_or_else(|| panic!("the model has no run {run}"))
    }

    /// A run was accepted: its event must be remembered for its window.
    pub(super) fn hold_event(&mut self, run: RunId) {
        let held = self.model.run(run);
        for key in held.arrival.keys(held.fleet) {
            self.memory.held.insert(key, (run, self.machine.now()));
        }
    }

    /// A run is kept no longer; its event may be.
    pub(super) fn note_last_status(&mut self, run: RunId) {
        let ended = self.model.run(run);
        if ended.arrival.memory.is_some() {
            self.memory.ends.insert(run, ended.status());
        }
    }

    /// The clock says another time: events whose window is over by it may be forgotten.
    pub(super) fn age_events(&mut self) {
        let (now, window) = (self.machine.now(), self.temper.window);
        self.memory.held.retain(|_, (_, since)| now.since(*since) < window);
    }

    /// The rows of events are what the runs are.
    pub(super) fn check_events(&self) {
        let rows = &self.disk.lock().rows.events;
        for (key, row) in rows {
            let status = self.status(row.run);
            let has_failed = status.is_final() && status != Status::Success;
            assert_eq!(row.has_failed, has_failed, "the event {key:?} of {}, {status}", row.run);
        }
        for (id, run) in self.model.unfinished() {
            for key in run.arrival.keys(run.fleet) {
                let row = rows.get(&key);
                let row = row.unwrap_or_else(|| panic!("the event of {id} is not remembered"));
                let first_run = run.arrival.first_run.unwrap_or(*id);
                assert_eq!((row.run, row.first_run), (*id, first_run), "the event of {id}");
            }
        }
    }

    /// The stored events are those that were made durable.
    pub(super) fn check_stored_events(&self, store: &Store) {
        let rows = &self.disk.lock().rows.events;
        let stored: BTreeMap<EventKey, EventEntry> = store.events_after(None).collect();
        assert_eq!(stored, *rows, "the stored events");
    }

    /// The sweeper passes over all events.
    pub(super) fn sweep_events(&mut self) {
        let before = self.disk.lock().rows.events.clone();
        let outcome = self.call(|engine| engine.sweep_events());
        let after = self.disk.lock().rows.events.clone();
        let (now, is_complete) = (self.machine.now(), outcome.result.is_some());
        // The window of an event from a clock that was ahead is counted from the pass on.
        for (_, since) in self.memory.held.values_mut() {
            if *since > now.plus(CLOCK_STEP_MAX) {
                *since = now;
            }
        }
        self.note(format!("pass over {} events, {} are left", before.len(), after.len()));
        for (key, row) in &before {
            let is_open = !self.status(row.run).is_final();
            let is_over = now.since(row.since) >= Duration::from_secs(row.window_seconds);
            let is_gone = !self.fleets.iter().any(|it| it.id == key.fleet && it.is_alive);
            let may_go = !is_open && (is_over || is_gone);
            assert!(may_go || after.contains_key(key), "{row:?} was to stay at {now}");
            assert!(!may_go || !is_complete || !after.contains_key(key), "{row:?} was to go");
        }
        let is_ahead = |row: &EventEntry| {
            row.since > now.plus(CLOCK_STEP_MAX) && self.status(row.run).is_final()
        };
        assert!(!is_complete || !after.values().any(is_ahead), "remembered for too long");
    }
}
