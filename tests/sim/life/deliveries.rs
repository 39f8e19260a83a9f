//! Deliveries that start no run: a bounded ring in memory and on the disk, written lazily, and run after all.

use std::collections::BTreeMap;
use std::time::Duration;

use boathook::internals::ledger::{
    Delivery, DeliveryFilter, KEPT_FOR, KEPT_PER_FLEET_MAX, NewDelivery, RequestId,
    StoredDeliveries, Verdict,
};
use boathook::internals::limits::CLOCK_STEP_MAX;
use boathook::internals::store::Store;
use boathook::internals::{
    AcceptError, ArrivalRecord, Change, EngineError, FleetId, ReplayError, RequestHead, RunId,
};

use super::{Life, WAITING_MAX};
use crate::model::Run;

/// Deliveries of one flood: more than a fleet keeps.
const FLOOD: usize = KEPT_PER_FLEET_MAX + 200;
/// Deliveries in memory, of all fleets.
const RECENT_MAX: usize = 4_096;
/// Entries of one step of the writer.
const BATCH: usize = 64;

/// What was recorded, whether it is kept or not.
#[derive(Default)]
pub struct Book {
    recorded: BTreeMap<RequestId, Recorded>,
    number: u64,
    /// What the writer of the server that runs now has counted.
    stored: StoredDeliveries,
}

struct Recorded {
    fleet: FleetId,
    /// How many were recorded before it. A clock that is put back gives later ones smaller ids.
    number: u64,
    body: Vec<u8>,
    /// It may be gone: its server has died, its fleet is gone, or it is too old.
    may_be_gone: bool,
    /// The latest run that it was run as after all, and whether that is sure to be known.
    run: Option<(RunId, bool)>,
}

impl Life {
    /// Refuses requests to a fleet's webhook: one, or once in a while a flood.
    pub(super) fn refuse(&mut self) {
        let alive = self.fleets.iter().filter(|it| it.is_alive).map(|it| it.id);
        let alive: Vec<FleetId> = alive.collect();
        let Some(fleet) = self.pick(&alive) else { return };
        let count = if self.random.u8(..60) == 0 { FLOOD } else { self.random.usize(1..4) };
        for _ in 0..count {
            // One after the other, so that the order of ids is the same in each life of the seed.
            self.advance(Duration::from_millis(1));
            let id = RequestId::arriving(self.machine.now());
            let mut body = vec![0; self.random.usize(..40)];
            self.random.fill(&mut body);
            let mut reader = body.as_slice();
            let delivery = NewDelivery {
                verdict: Verdict::Refused,
                reason: "signature_mismatch",
                detail: "simulated",
                status: 401,
                bytes: body.len() as u64,
                request: Some((RequestHead::default(), &mut reader)),
                ..NewDelivery::new(id, Some(fleet), [192, 0, 2, 1].into())
            };
            self.engine().record_delivery(delivery);
            self.book.number += 1;
            let number = self.book.number;
            let recorded = Recorded { fleet, number, body, may_be_gone: false, run: None };
            self.book.recorded.insert(id, recorded);
        }
        self.note(format!("{count} requests to {fleet} are refused"));
        self.make_room();
    }

    /// When memory holds too many of all fleets, the oldest may go. What is long gone is no longer looked for.
    fn make_room(&mut self) {
        let disk = self.disk.lock();
        let rows = &disk.rows.deliveries;
        let in_memory =
            |(id, it): &(&RequestId, &mut Recorded)| !it.may_be_gone && !rows.contains_key(id);
        let recent: Vec<_> = self.book.recorded.iter_mut().filter(in_memory).collect();
        if recent.len() > RECENT_MAX {
            recent.into_iter().for_each(|(_, recorded)| recorded.may_be_gone = true);
        }
        drop(disk);
        let excess = self.book.recorded.len().saturating_sub(4 * FLOOD);
        let gone = self.book.recorded.iter().filter(|(_, it)| it.may_be_gone).map(|(id, _)| *id);
        let gone: Vec<RequestId> = gone.take(excess).collect();
        for id in gone {
            self.book.recorded.remove(&id);
        }
    }

    /// The writer of deliveries makes a step, or passes over all of them.
    pub(super) fn write_deliveries(&mut self) {
        if self.random.u8(..6) == 0 {
            let outcome = self.call(|engine| engine.pass_over_deliveries());
            self.age_deliveries();
            self.book.stored = outcome.result.unwrap_or_default();
        } else {
            let mut stored = std::mem::take(&mut self.book.stored);
            let outcome = self.call(|engine| engine.write_deliveries(&mut stored));
            let put = outcome.changes().filter(|it| matches!(it, Change::PutDelivery(_))).count();
            assert!(put <= BATCH + RECENT_MAX, "{put} deliveries in one step");
            self.book.stored = stored;
        }
        if !self.is_doomed {
            self.check_ring();
        }
        self.note("deliveries are written".into());
    }

    /// The server stops in order: all is written.
    pub(super) fn write_all_deliveries(&mut self) {
        loop {
            let mut stored = std::mem::take(&mut self.book.stored);
            let outcome = self.call(|engine| engine.write_deliveries(&mut stored));
            self.book.stored = stored;
            match outcome.result {
                Some(written) if written == Default::default() => return self.check_ring(),
                Some(_) => {}
                None => return,
            }
        }
    }

    /// A server has started: it counts what is stored.
    pub(super) fn count_deliveries(&mut self) {
        let outcome = self.call(|engine| engine.pass_over_deliveries());
        self.age_deliveries();
        self.book.stored = outcome.result.unwrap_or_default();
    }

    /// The server has died: what is not written is lost, unless it stopped in order.
    pub(super) fn lose_deliveries(&mut self) {
        let disk = self.disk.lock();
        for (id, recorded) in &mut self.book.recorded {
            let row = disk.rows.deliveries.get(id);
            recorded.may_be_gone |= row.is_none();
            if let Some((run, is_sure)) = &mut recorded.run {
                *is_sure &= row.is_some_and(|row| row.run == Some(*run));
            }
        }
    }

    /// What a pass may have removed by now.
    fn age_deliveries(&mut self) {
        let now = self.machine.now();
        for (id, recorded) in &mut self.book.recorded {
            let time = id.time();
            let is_old = time.plus(KEPT_FOR) <= now || time > now.plus(CLOCK_STEP_MAX);
            recorded.may_be_gone |= is_old;
        }
    }

    /// Runs a delivery after all.
    pub(super) fn replay_delivery(&mut self) {
        let alive =
            |it: &Recorded| self.fleets.iter().any(|one| one.id == it.fleet && one.is_alive);
        let latest = self.book.recorded.iter().rev().filter(|(_, it)| alive(it)).take(20);
        let latest: Vec<RequestId> = latest.map(|(id, _)| *id).collect();
        let Some(id) = self.pick(&latest) else { return };
        let Recorded { fleet, body, may_be_gone, .. } = &self.book.recorded[&id];
        let (fleet, body, may_be_gone) = (*fleet, body.clone(), *may_be_gone);
        let versions = self.fleets.iter().find(|it| it.id == fleet).map(|it| &it.versions);
        let Some(definition) = versions.and_then(|versions| versions.last()) else { return };
        let number = versions.map_or(0, Vec::len);
        let mut run = Run::new(fleet, number as u32, definition);
        run.arrival = ArrivalRecord { delivery: Some(id), ..ArrivalRecord::default() };
        let is_safe = !may_be_gone && !self.is_pushed_out(id);
        let has_room = self.model.has_room(WAITING_MAX);
        let has_share = self.model.has_room_for(fleet, WAITING_MAX);
        let outcome = self.call(|engine| engine.replay_delivery(id));
        let added = outcome.changes().find_map(|change| match change {
            Change::AddRun(run) => Some(run.id),
            _ => None,
        });
        // Not its id, a part of which is random.
        let at = id.time();
        let is_accepted = matches!(&outcome.result, Some(Ok(_)));
        self.note(format!(
            "the delivery of {at} is run after all: {is_accepted}, {added:?} is there"
        ));
        let accepted = match outcome.result {
            Some(Ok((_, run))) => {
                assert!(has_room && has_share, "accepted though the queue is full");
                Some(run)
            }
            None => added,
            Some(Err(error)) => {
                let is_right = match error {
                    ReplayError::Refused(EngineError::NotFound(_)) => !is_safe,
                    // The request has made room for later ones.
                    ReplayError::Refused(EngineError::Conflict(_)) => !is_safe,
                    ReplayError::NotAccepted(AcceptError::QueueFull) => !has_room,
                    ReplayError::NotAccepted(AcceptError::FleetQueueFull) => !has_share,
                    _ => false,
                };
                assert!(is_right, "{error}");
                None
            }
        };
        let Some(accepted) = accepted else { return };
        self.remember(accepted, &RequestHead::default(), body);
        self.model.submit(accepted, run, self.machine.now());
        if let Some(recorded) = self.book.recorded.get_mut(&id) {
            recorded.run = Some((accepted, !self.is_doomed));
        }
    }

    /// Whether so many later deliveries of its fleet were recorded that it may have made room for them.
    fn is_pushed_out(&self, id: RequestId) -> bool {
        let Recorded { fleet, number, .. } = self.book.recorded[&id];
        let of_fleet = self.book.recorded.iter().filter(|(_, it)| it.fleet == fleet);
        let later = of_fleet.filter(|(other, it)| **other > id || it.number > number);
        later.take(KEPT_PER_FLEET_MAX).count() == KEPT_PER_FLEET_MAX
    }

    /// Of each fleet no more is stored than its number.
    fn check_ring(&self) {
        let mut counts: BTreeMap<FleetId, usize> = BTreeMap::new();
        for row in self.disk.lock().rows.deliveries.values() {
            *counts.entry(row.fleet_id).or_default() += 1;
        }
        let rows = &self.disk.lock().rows;
        for (id, row) in &rows.deliveries {
            let is_kept = row.kept.bytes() > 0;
            assert_eq!(is_kept, rows.delivery_requests.contains(id), "the request of {id}");
        }
        let of_none = rows.delivery_requests.iter().find(|id| !rows.deliveries.contains_key(id));
        assert_eq!(of_none, None, "a request without its delivery");
        let most = counts.values().max().copied().unwrap_or(0);
        assert!(most <= KEPT_PER_FLEET_MAX, "{most} stored deliveries of one fleet");
    }

    /// A person looks at the deliveries of a fleet.
    pub(super) fn look_at_deliveries(&mut self) {
        let all: Vec<FleetId> = self.fleets.iter().map(|it| it.id).collect();
        let Some(fleet) = self.pick(&all) else { return };
        let mut listed = BTreeMap::new();
        let mut before = None;
        loop {
            let filter = DeliveryFilter {
                fleet: Some(fleet),
                verdict: Some(Verdict::Refused),
                before,
                limit: 500,
                ..DeliveryFilter::default()
            };
            let page = self.engine().deliveries(&filter);
            listed
                .extend(page.deliveries.into_iter().map(|view| (view.delivery.id, view.delivery)));
            before = page.next_before;
            if before.is_none() {
                break;
            }
        }
        let most = 2 * KEPT_PER_FLEET_MAX;
        assert!(listed.len() <= most, "{} deliveries of one fleet", listed.len());
        for (id, recorded) in &self.book.recorded {
            if recorded.fleet != fleet {
                assert!(!listed.contains_key(id), "{id} is of another fleet");
                continue;
            }
            match listed.get(id) {
                Some(delivery) => check_delivery(delivery, recorded),
                None => {
                    let may_go = recorded.may_be_gone || self.is_pushed_out(*id);
                    assert!(may_go, "the delivery {id} is lost");
                }
            }
        }
        self.look_at_an_accepted_delivery();
    }

    /// An accepted delivery is its run.
    fn look_at_an_accepted_delivery(&mut self) {
        let is_of_webhook = |run: &Run| run.replay_of.is_none() && run.arrival.delivery.is_none();
        let accepted = self.model.all().filter(|(_, run)| is_of_webhook(run)).map(|(id, _)| *id);
        let accepted: Vec<RunId> = accepted.collect();
        let Some(run) = self.pick(&accepted) else { return };
        let id = RequestId::of_run(run);
        assert_eq!(id.run(), Some(run));
        let Some(view) = self.engine().delivery(id) else {
            // Due times make runs without a request.
            let view = self.engine().run(run);
            let trigger = view.map(|view| view.run.trigger.word());
            return assert_ne!(trigger, Some("webhook"), "{run} has no delivery");
        };
        let shown = view.delivery;
        assert_eq!((shown.verdict, shown.run), (Verdict::Accepted, Some(run)));
        assert_eq!(shown.fleet_id, self.model.run(run).fleet);
    }

    /// The stored deliveries are those that were made durable.
    pub(super) fn check_stored_deliveries(&self, store: &Store) {
        let rows = &self.disk.lock().rows.deliveries;
        let stored: BTreeMap<RequestId, Delivery> =
            store.deliveries_after(None).map(|row| (row.id, row)).collect();
        assert_eq!(stored, *rows, "the stored deliveries");
    }

    /// A fleet is gone, and its deliveries with it.
    pub(super) fn forget_deliveries(&mut self, fleet: FleetId) {
        let of_fleet = self.book.recorded.values_mut().filter(|it| it.fleet == fleet);
        for recorded in of_fleet {
            recorded.may_be_gone = true;
            // What was to be written of a run after all is forgotten with the fleet.
            recorded.run.iter_mut().for_each(|(_, is_sure)| *is_sure = false);
        }
    }
}

fn check_delivery(delivery: &Delivery, recorded: &Recorded) {
    let id = delivery.id;
    assert_eq!(delivery.bytes, recorded.body.len() as u64, "the delivery {id}");
    assert_eq!((delivery.verdict, delivery.status), (Verdict::Refused, 401));
    match recorded.run {
        Some((run, true)) => assert_eq!(delivery.run, Some(run), "the run of {id}"),
        Some((_, false)) => {}
        None => assert_eq!(delivery.run, None, "{id} was not run after all"),
    }
}
