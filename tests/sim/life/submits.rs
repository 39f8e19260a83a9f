//! Submitting runs: bodies of all sizes, some cut short, some too large.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use boathook::internals::limits::SLICE_BYTES;
use boathook::internals::{
    AcceptError, Change, ConcurrencyKey, FleetDefinition, Overrides, RequestHead, RunId, Skip,
    Trigger,
};
use boathook::internals::{Arrival, ArrivalRecord};

use super::events::Expected;
use super::{BODY_BYTES_MAX, Life, WAITING_MAX};
use crate::machine::Submitted;
use crate::model::Run;

/// How a body arrives.
struct Sender {
    body: Vec<u8>,
    position: usize,
    /// Bytes at a time.
    pace: usize,
    /// The connection breaks after so many bytes.
    breaks_at: Option<usize>,
}

impl Read for Sender {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.breaks_at.is_some_and(|at| self.position >= at) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let left = &self.body[self.position..];
        let count = left.len().min(self.pace).min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.position += count;
        Ok(count)
    }
}

impl Life {
    pub(super) fn submit(&mut self) {
        let alive: Vec<usize> =
            (0..self.fleets.len()).filter(|it| self.fleets[*it].is_alive).collect();
        let Some(place) = self.pick(&alive) else { return };
        let (fleet, number) = (self.fleets[place].id, self.fleets[place].versions.len());
        let definition = Arc::clone(&self.fleets[place].versions[number - 1]);
        let (mut arrival, body) = match self.chance(self.temper.event) {
            true => self.random_event(),
            false => (Arrival::default(), self.random_body()),
        };
        let query = ["", "k=a", "k=b"][self.random.usize(..3)];
        arrival.key = key_of(&definition, query);
        let expected = self.expected(fleet, ArrivalRecord::from(arrival.clone()), false);
        let mut head = self.random_head(&definition);
        head.query = query.to_owned();
        let mut run = Run::new(fleet, number as u32, &definition);
        run.asked_for = skips(&definition, &head.overrides);
        run.skips = run.asked_for.clone();
        run.is_request = true;
        run.first_of_hold = self.machine.hold_begins();
        if let Expected::Run(arrival) = &expected {
            run.arrival = (**arrival).clone();
        }
        let length = body.len();
        let mut sender =
            Sender { body, position: 0, pace: self.random.usize(1..5_000), breaks_at: None };
        let mut announced = self.random.bool().then_some(length as u64);
        match self.random.u8(..20) {
            0 => sender.breaks_at = Some(self.random.usize(..=length)),
            1 => announced = Some(length as u64 + self.random.u64(1..1_000)),
            _ => {}
        }
        if length > 5_000 {
            sender.pace *= 50;
        }
        let has_room = self.model.has_room(WAITING_MAX);
        let has_share = self.model.has_room_for(fleet, WAITING_MAX);
        let outcome = self.call(|engine| {
            let version = engine.current_version(fleet);
            let version = version.unwrap_or_else(|error| panic!("{fleet}: {error}"));
            assert_eq!(version.version as usize, number, "the fleet's current version");
            engine
                .accept(&version, Trigger::Webhook, head.clone(), arrival, &mut sender, announced)
                .map(|run| (run.is_duplicate(), engine.confirm(run)))
        });
        let added = outcome.changes().find_map(|change| match change {
            Change::AddRun(run) => Some(run.id),
            _ => None,
        });
        let what = format!("submit of {length} bytes to {}", self.fleets[place].name);
        if let Expected::Duplicate(first) = expected {
            self.note(format!("{what}, a duplicate of {first}"));
            assert_eq!(added, None, "a duplicate runs");
            let is_right = match &outcome.result {
                Some(Ok(accepted)) => *accepted == (true, first),
                Some(Err(AcceptError::TooLarge { .. })) => length > BODY_BYTES_MAX,
                Some(Err(_)) => false,
                None => true,
            };
            return assert!(is_right, "not taken for a duplicate of {first}");
        }
        match &outcome.result {
            Some(Ok((is_duplicate, id))) => {
                assert!(!is_duplicate, "taken for a duplicate of {id}");
                assert!(has_room, "accepted though the queue is full");
                assert!(has_share, "accepted though its fleet has its share of the queue");
                assert!(
                    announced.is_none_or(|it| it == length as u64) && sender.breaks_at.is_none()
                );
                self.note(format!("{what}: {id}"));
                self.remember(*id, &head, sender.body);
                self.model.submit(*id, run, self.machine.now());
                self.hold_event(*id);
            }
            None => {
                self.note(format!("{what}: died, {added:?} is there"));
                if let Some(id) = added {
                    self.remember(id, &head, sender.body);
                    self.model.submit(id, run, self.machine.now());
                    self.hold_event(id);
                }
            }
            Some(Err(error)) => {
                self.note(format!("{what}: {error}"));
                assert_eq!(added, None, "refused and yet stored");
                let is_right = match error {
                    AcceptError::QueueFull => !has_room,
                    AcceptError::FleetQueueFull => !has_share,
                    AcceptError::TooLarge { .. } => {
                        length.max(announced.unwrap_or(0) as usize) > BODY_BYTES_MAX
                    }
                    AcceptError::Incomplete => announced.is_some_and(|it| it > length as u64),
                    AcceptError::Read(_) => sender.breaks_at.is_some(),
                    _ => false,
                };
                assert!(is_right, "{error} of {length} bytes, {announced:?} announced");
            }
        }
    }

    /// A server that has closed accepts nothing.
    pub(super) fn submit_too_late(&mut self) {
        let Some(fleet) = self.fleets.iter().find(|fleet| fleet.is_alive) else { return };
        let version = self.engine().current_version(fleet.id);
        let version = version.unwrap_or_else(|error| panic!("{error}"));
        let head = RequestHead::default();
        let engine = self.engine();
        let (arrival, body) = (Arrival::default(), &mut io::empty());
        let refused = engine.accept(&version, Trigger::Webhook, head, arrival, body, None);
        let refused = refused.map(|run| engine.confirm(run));
        assert!(matches!(refused, Err(AcceptError::Stopping)), "{refused:?}");
    }

    pub(super) fn remember(&mut self, run: RunId, head: &RequestHead, body: Vec<u8>) {
        let headers_json = (!head.headers.is_empty())
            .then(|| serde_json::to_string(&head.headers).unwrap_or_default());
        let (overrides, query) = (head.overrides.clone(), head.query.clone());
        let submitted =
            Arc::new(Submitted { headers_json, overrides, query, body: Arc::new(body) });
        self.machine.lock().submitted.insert(run, submitted);
    }

    fn random_body(&mut self) -> Vec<u8> {
        let length = if self.chance(self.temper.large_bodies) {
            self.random.usize(200_000..BODY_BYTES_MAX + 20_000)
        } else {
            match self.random.u8(..10) {
                0 => 0,
                1..=6 => self.random.usize(1..300),
                7 => self.random.usize(1..3) * 4096 + self.random.usize(..3) - 1,
                8 => self.random.usize(300..9_000),
                _ => self.random.usize(9_000..60_000),
            }
        };
        let mut body = vec![0; length];
        self.random.fill(&mut body);
        if self.random.bool() {
            // Text, which vessels get in their environment as well.
            body.iter_mut().for_each(|byte| *byte = b' ' + *byte % 64);
        }
        body
    }

    fn random_head(&mut self, definition: &FleetDefinition) -> RequestHead {
        let mut head = RequestHead::default();
        for vessel in &definition.vessels {
            match self.random.u8(..24) {
                0 => {
                    let exit_code = self.random.i32(..2);
                    let skip = Skip::Override { exit_code };
                    head.overrides.entry(&vessel.name).skip = Some(skip);
                }
                1 => {
                    let value = self.random.bool().then(|| "overridden".to_owned());
                    let environment = &mut head.overrides.entry(&vessel.name).environment;
                    environment.insert("SIMULATED".into(), value);
                }
                _ => {}
            }
        }
        if self.chance(self.temper.large_bodies) {
            head.push_header("x-large", "y".repeat(self.random.usize(1..3 * SLICE_BYTES)));
        }
        for number in 0..self.random.u8(..4) {
            let value: String =
                std::iter::repeat_with(|| self.random.alphanumeric()).take(20).collect();
            head.push_header(&format!("x-header-{number}"), value);
        }
        head
    }
}

/// The value of a fleet's `concurrency_key`, `query.k`, for a request with this query.
pub(super) fn key_of(definition: &FleetDefinition, query: &str) -> Option<ConcurrencyKey> {
    definition.concurrency_key.as_ref()?;
    query.strip_prefix("k=").map(ConcurrencyKey::new)
}

/// The vessels of a fleet that are to be skipped.
fn skips(definition: &FleetDefinition, overrides: &Overrides) -> BTreeMap<String, Skip> {
    let vessels = definition.vessels.iter();
    let skip = |name: &str| overrides.of(name).and_then(|vessel| vessel.skip);
    vessels.filter_map(|it| Some((it.name.clone(), skip(&it.name)?))).collect()
}
