//! The ledger on a real database, its writer called step by step.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::writer::StoredDeliveries;
use super::*;
use crate::config::Settings;
use crate::engine::{Applied, EngineError, ExpectedVersion, Reach, ReplayError, World};
use crate::fleet_file::parse_yaml;
use crate::model::change::Change;
use crate::model::clock::{Clock, Timestamp};
use crate::model::delivery::{
    FILTER_FAILED, ID_FAILED, KEPT_BYTES_MAX, KEPT_FOR, KEPT_PER_FLEET_MAX, KEY_FAILED,
};
use crate::model::event::{Arrival, BodyHash};
use crate::model::fleet::FleetVersion;
use crate::model::ids::InstanceId;
use crate::model::random::SystemRandom;
use crate::model::refusal::Reason;
use crate::model::run::Trigger;
use crate::runner::output::LiveOutput;
use crate::runner::stop::StopSignal;
use crate::runner::{Ended, Launch, Launcher, Unfinished};
use crate::store;

/// Starts nothing: these runs wait.
struct NoLauncher;

impl Launcher for NoLauncher {
    fn directory(&self, _: RunId) -> PathBuf {
        PathBuf::new()
    }

    fn has_directory(&self, _: RunId) -> bool {
        false
    }

    fn launch(&self, _: &Launch<'_>, _: &StopSignal, _: &LiveOutput) -> Ended {
        unreachable!("nothing is started")
    }

    fn clean_up(&self, _: &Launch<'_>, _: &LiveOutput) {}

    fn wipe_directory(&self, _: RunId) {}

    fn retire_directory(&self, _: RunId) {}

    fn wipe_retired(&self, _: RunId) {}

    fn sweep_directories(&self, _: &dyn Fn(RunId) -> bool) {}

    fn end_leftovers(&self, _: InstanceId, _: &Unfinished) -> usize {
        0
    }
}

/// A clock that goes on by a millisecond each time it is asked.
#[derive(Clone)]
struct TestClock(Arc<AtomicI64>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct Rig {
    directory: tempfile::TempDir,
    clock: TestClock,
    engine: Arc<Engine>,
    committer: std::thread::JoinHandle<()>,
    stored: StoredDeliveries,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = TestClock(Arc::new(AtomicI64::new(1_700_000_000_000)));
        let (engine, committer) = open(&directory, &clock);
        Self { directory, clock, engine, committer, stored: StoredDeliveries::default() }
    }

    /// Starts again as after a crash.
    fn restart(self) -> Self {
        let Self { directory, clock, engine, committer, .. } = self;
        drop(engine);
        committer.join().unwrap();
        let (engine, committer) = open(&directory, &clock);
        let stored = engine.pass_over_deliveries();
        Self { directory, clock, engine, committer, stored }
    }

    fn fleet(&self, name: &str) -> Arc<FleetVersion> {
        let yaml = format!("name: {name}\nvessels: {{v: {{run: exit}}}}\n");
        let file = parse_yaml(&yaml).unwrap();
        let (applied, view) = self.engine.apply_fleet(file, &ExpectedVersion::Any).unwrap();
        assert_eq!(applied, Applied::Created);
        view.current
    }

    fn id(&self) -> RequestId {
        RequestId::arriving(self.clock.now())
    }

    /// Refuses a request with this body to `fleet`.
    fn refuse(&self, fleet: &FleetVersion, body: &[u8]) -> RequestId {
        let id = self.id();
        let refusal = Refusal::new(Reason::SignatureMismatch, "matches secret 2 of 2");
        let address = [192, 0, 2, 1].into();
        let mut head = RequestHead::default();
        head.push_header("x-event", "push".to_owned());
        self.engine.record_delivery(NewDelivery {
            event: event("1"),
            deduplicate: Some(deduplicate(body)),
            bytes: body.len() as u64,
            request: Some((head, &mut &body[..])),
            ..NewDelivery::refused(id, Some(fleet.fleet_id), address, &refusal)
        });
        id
    }

    fn accept(&self, fleet: &Arc<FleetVersion>, arrival: Arrival, body: &[u8]) -> (RunId, bool) {
        let (head, trigger) = (RequestHead::default(), Trigger::Webhook);
        let accepted =
            self.engine.accept(fleet, trigger, head, arrival, &mut &body[..], None).unwrap();
        let is_duplicate = accepted.is_duplicate();
        (self.engine.confirm(accepted), is_duplicate)
    }

    fn write(&mut self) {
        while !self.engine.ledger.state().recent.is_empty() {
            self.engine.write_deliveries(&mut self.stored);
        }
    }

    fn ids(&self, filter: DeliveryFilter) -> Vec<RequestId> {
        let page = self.engine.deliveries(&filter);
        page.deliveries.iter().map(|view| view.delivery.id).collect()
    }

    fn verify(&self) -> store::VerifyReport {
        let callbacks =
            &mut store::VerifyCallbacks { step: &mut |_| true, has_output_file: &|_, _| true };
        self.engine.store.verify(callbacks).unwrap()
    }

    fn body(&self, id: RequestId) -> Option<Vec<u8>> {
        let view = self.engine.delivery(id)?;
        let (mut body, length) = self.engine.delivered_request(&view).unwrap().body?;
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, length);
        Some(bytes)
    }
}

fn open(
    directory: &tempfile::TempDir,
    clock: &TestClock,
) -> (Arc<Engine>, std::thread::JoinHandle<()>) {
    let (storage, committer) = store::open(directory.path()).unwrap();
    let settings =
        Settings { min_free_bytes: 0, ..Settings::defaults(directory.path().to_owned()) };
    let world = World {
        launcher: Box::new(NoLauncher),
        clock: Box::new(clock.clone()),
        random: Box::new(SystemRandom),
        boot_id: "boot".into(),
        promised_bytes: Arc::default(),
        on_pause: Box::new(|_| ()),
    };
    (Engine::open(Arc::new(settings), storage, world).unwrap(), committer)
}

fn event(id: &str) -> Event {
    Event::new(Some("github"), Some(id), Some("push"))
}

fn deduplicate(body: &[u8]) -> Deduplicate {
    let body = BodyHash::of(&mut &body[..]).unwrap();
    Deduplicate { window: Duration::from_secs(3600), body, id_is_signed: true }
}

fn all() -> DeliveryFilter {
    DeliveryFilter { limit: 5_000, ..DeliveryFilter::default() }
}

#[test]
fn a_delivery_is_the_same_in_memory_on_disk_and_after_a_crash() {
    let mut rig = Rig::new();
    let fleet = rig.fleet("site");
    let id = rig.refuse(&fleet, b"{\"a\":1}");
    let check = |rig: &Rig| {
        let view = rig.engine.delivery(id).unwrap();
        let DeliveryView { delivery, has_body, .. } = &view;
        assert_eq!((delivery.verdict, delivery.status), (Verdict::Refused, 401));
        let note = delivery.note.as_ref().unwrap();
        let said = (note.reason(), note.detail());
        assert_eq!(said, ("signature_mismatch", "matches secret 2 of 2"));
        assert_eq!((delivery.event.id(), delivery.bytes, *has_body), (Some("1"), 7, true));
        let head = rig.engine.delivered_request(&view).unwrap().head;
        assert_eq!(head.header("X-Event"), Some("push"));
        assert_eq!(rig.body(id).unwrap(), b"{\"a\":1}");
        assert_eq!(rig.ids(all()), [id]);
    };
    check(&rig);
    rig.write();
    check(&rig);
    let rig = rig.restart();
    check(&rig);
    let lost = rig.refuse(&fleet, b"");
    let rig = rig.restart();
    assert_eq!(rig.ids(all()), [id], "{lost} was not written");
}

#[test]
fn lists_have_accepted_and_other_deliveries_in_the_order_of_arrival() {
    let mut rig = Rig::new();
    let (one, two) = (rig.fleet("one"), rig.fleet("two"));
    let mut expected = Vec::new();
    for round in 0..6 {
        let fleet = if round % 3 == 0 { &two } else { &one };
        expected.push((fleet.fleet_id, rig.refuse(fleet, b"x")));
        let (run, _) = rig.accept(fleet, Arrival::default(), b"y");
        expected.push((fleet.fleet_id, RequestId::of_run(run)));
        if round == 3 {
            rig.write();
        }
    }
    expected.reverse();
    let ids: Vec<RequestId> = expected.iter().map(|(_, id)| *id).collect();
    assert_eq!(rig.ids(all()), ids);
    // Page by page, from whatever entry.
    let (mut paged, mut before) = (Vec::new(), None);
    loop {
        let page = rig.engine.deliveries(&DeliveryFilter { limit: 5, before, ..all() });
        paged.extend(page.deliveries.iter().map(|view| view.delivery.id));
        before = page.next_before;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(paged, ids);
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(rig.ids(DeliveryFilter { before: Some(*id), ..all() }), ids[place + 1..]);
    }
    let of_one = expected.iter().filter(|(fleet, _)| *fleet == one.fleet_id);
    let of_one: Vec<RequestId> = of_one.map(|(_, id)| *id).collect();
    assert_eq!(rig.ids(DeliveryFilter { fleet: Some(one.fleet_id), ..all() }), of_one);
    let of = |verdict| rig.ids(DeliveryFilter { verdict: Some(verdict), ..all() });
    assert_eq!(of(Verdict::Accepted).len(), 6);
    assert!(of(Verdict::Accepted).iter().all(|id| id.run().is_some()));
    assert_eq!((of(Verdict::Refused).len(), of(Verdict::Duplicate).len()), (6, 0));
    let because = |reason: &str| rig.ids(DeliveryFilter { reason: Some(reason.into()), ..all() });
    assert_eq!((because("signature_mismatch").len(), because("paused").len()), (6, 0));
    let since = rig.engine.delivery(ids[4]).unwrap().delivery.received_at;
    assert_eq!(rig.ids(DeliveryFilter { since: Some(since), ..all() }), ids[..5]);
    let found = rig.engine.find_deliveries(&ids[0].to_string()[24..], 2, &Reach::Everything);
    assert!(found.contains(&ids[0]));
}

#[test]
fn a_delivery_that_is_run_after_all_names_its_run_and_its_event_runs_once() {
    for is_written in [false, true] {
        let mut rig = Rig::new();
        let fleet = rig.fleet("site");
        let id = rig.refuse(&fleet, b"{}");
        if is_written {
            rig.write();
        }
        let (_, run) = rig.engine.replay_delivery(id).unwrap();
        let stored = rig.engine.run(run).unwrap().run;
        assert_eq!(stored.trigger, Trigger::Replay);
        assert_eq!(stored.arrival().delivery, Some(id));
        assert_eq!(rig.engine.delivery(id).unwrap().delivery.run, Some(run));
        let arrival = Arrival {
            event: event("1"),
            deduplicate: Some(deduplicate(b"{}")),
            ..Arrival::default()
        };
        assert_eq!(rig.accept(&fleet, arrival, b"{}"), (run, true), "its sender sends it again");
        rig.write();
        let rig = rig.restart();
        assert_eq!(rig.engine.delivery(id).unwrap().delivery.run, Some(run));
        assert_eq!(rig.body(id).unwrap(), b"{}");
        let (_, again) = rig.engine.replay_delivery(id).unwrap();
        assert_ne!(again, run, "a person may run it as often as they like");
    }
}

#[test]
fn a_delivery_without_its_body_is_not_run() {
    let rig = Rig::new();
    let fleet = rig.fleet("site");
    let id = rig.refuse(&fleet, &vec![b'x'; 300 * 1024]);
    assert_eq!(rig.body(id), None);
    assert!(!rig.engine.delivery(id).unwrap().has_body);
    let refused = rig.engine.replay_delivery(id).unwrap_err();
    assert!(matches!(refused, ReplayError::Refused(EngineError::Conflict(_))), "{refused}");
}

#[test]
fn the_rows_of_a_flood_are_the_latest_of_each_fleet() {
    let mut rig = Rig::new();
    let (quiet, loud) = (rig.fleet("quiet"), rig.fleet("loud"));
    let first = rig.refuse(&quiet, b"x");
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.extend((0..KEPT_PER_FLEET_MAX / 2).map(|_| rig.refuse(&loud, b"x")));
        rig.write();
    }
    let rig = rig.restart();
    sent.reverse();
    sent.truncate(KEPT_PER_FLEET_MAX);
    assert_eq!(rig.ids(DeliveryFilter { fleet: Some(loud.fleet_id), ..all() }), sent);
    assert_eq!(rig.ids(DeliveryFilter { fleet: Some(quiet.fleet_id), ..all() }), [first]);
    let report = rig.verify();
    assert_eq!((report.damages, report.damage), (0, Vec::new()));
}

#[test]
fn the_oldest_bodies_go_when_they_take_up_too_much() {
    let mut rig = Rig::new();
    let fleet = rig.fleet("site");
    let body = vec![b'x'; 250 * 1024];
    let ids: Vec<RequestId> = (0..20).map(|_| rig.refuse(&fleet, &body)).collect();
    rig.write();
    // As if others had taken up all of it but a megabyte.
    rig.stored.take_up(KEPT_BYTES_MAX - (1 << 20));
    let last = rig.refuse(&fleet, &body);
    rig.write();
    let kept = ids.iter().chain([&last]).filter(|id| rig.body(**id).is_some());
    assert_eq!(kept.collect::<Vec<_>>(), [&ids[17], &ids[18], &ids[19], &last]);
    assert_eq!(rig.ids(all()).len(), 21, "the deliveries stay");
    rig.stored = rig.engine.pass_over_deliveries();
    let next = rig.refuse(&fleet, &body);
    rig.write();
    assert!(rig.body(next).is_some());
    assert_eq!(rig.verify().damage, Vec::<String>::new());
}

#[test]
fn a_request_goes_when_its_delivery_is_damaged() {
    let mut rig = Rig::new();
    let fleet = rig.fleet("site");
    let body = vec![b'x'; 250 * 1024];
    let ids: Vec<RequestId> = (0..6).map(|_| rig.refuse(&fleet, &body)).collect();
    rig.write();
    let lost = Change::RemoveDelivery { fleet: fleet.fleet_id, delivery: ids[0], chunks: 0 };
    rig.engine.store.commit(vec![lost]).wait();
    rig.stored.take_up(KEPT_BYTES_MAX - (1 << 20));
    let last = rig.refuse(&fleet, &body);
    rig.write();
    let kept = ids.iter().chain([&last]).filter(|id| rig.body(**id).is_some());
    assert_eq!(kept.collect::<Vec<_>>(), [&ids[4], &ids[5], &last]);
    assert_eq!(rig.engine.store.next_delivery_request(None).unwrap().0, ids[4]);
}

#[test]
fn a_damaged_request_is_named_and_not_run() {
    let mut rig = Rig::new();
    let fleet = rig.fleet("site");
    let id = rig.refuse(&fleet, b"payload");
    rig.write();
    let bytes = b"no JSON".to_vec();
    rig.engine.store.commit(vec![Change::PutDeliveryRequest { delivery: id, bytes }]).wait();
    let view = rig.engine.delivery(id).unwrap();
    let refused = rig.engine.delivered_request(&view).err();
    assert!(matches!(refused, Some(EngineError::Damaged(_))), "{refused:?}");
    let refused = rig.engine.replay_delivery(id);
    assert!(
        matches!(refused, Err(ReplayError::Refused(EngineError::Damaged(_)))),
        "{:?}",
        refused.err()
    );
}

#[test]
fn a_pass_removes_what_is_old_ahead_or_of_a_deleted_fleet() {
    let mut rig = Rig::new();
    let (stays, goes) = (rig.fleet("stays"), rig.fleet("goes"));
    let old = rig.refuse(&stays, b"x");
    rig.clock.0.fetch_add(KEPT_FOR.as_millis() as i64, Ordering::Relaxed);
    let now = rig.clock.now();
    let kept = rig.refuse(&stays, b"x");
    let gone = rig.refuse(&goes, b"x");
    rig.clock.0.fetch_add(3_600_000, Ordering::Relaxed);
    let ahead = rig.refuse(&stays, b"x");
    rig.write();
    rig.clock.0.store(now.as_millis() + 1_000, Ordering::Relaxed);
    assert_eq!(rig.ids(all()), [ahead, gone, kept, old]);
    let in_memory = rig.refuse(&goes, b"x");
    rig.engine.delete_fleet(goes.fleet_id, &ExpectedVersion::Any).unwrap();
    assert!(rig.engine.delivery(in_memory).is_none());
    assert!(rig.engine.ledger.take_pass_due());
    rig.stored = rig.engine.pass_over_deliveries();
    assert_eq!(rig.ids(all()), [kept]);
    assert_eq!(rig.verify().damage, Vec::<String>::new());
    let late = rig.refuse(&goes, b"x");
    assert!(rig.engine.delivery(late).is_none(), "its fleet is gone");
}

#[test]
fn requests_are_counted_by_verdict_and_reason() {
    let rig = Rig::new();
    let fleet = rig.fleet("site");
    let count = |verdict, reason| {
        let all = rig.engine.delivery_counts().all();
        let found = all.into_iter().find(|(is, why, _)| (*is, *why) == (verdict, reason));
        found.map_or(0, |(_, _, count)| count)
    };
    rig.refuse(&fleet, b"x");
    rig.accept(&fleet, Arrival::default(), b"");
    let note = Some(Note::new("timestamp_too_old", "by 7 min"));
    rig.accept(&fleet, Arrival { note, ..Arrival::default() }, b"");
    for reason in [FILTER_FAILED, ID_FAILED, KEY_FAILED] {
        let note = Some(Note::new(reason, "`body.n + 1`: no"));
        rig.accept(&fleet, Arrival { note, ..Arrival::default() }, b"");
        assert_eq!(count(Verdict::Accepted, reason), 1);
    }
    let refusal = Refusal::new(Reason::UnknownUrl, "not the URL of a webhook");
    let (id, address) = (rig.id(), [192, 0, 2, 1].into());
    rig.engine.record_delivery(NewDelivery::refused(id, None, address, &refusal));
    assert_eq!(count(Verdict::Refused, "signature_mismatch"), 1);
    assert_eq!(count(Verdict::Accepted, ""), 1);
    assert_eq!(count(Verdict::Accepted, "timestamp_too_old"), 1);
    assert_eq!(count(Verdict::Refused, "unknown_url"), 1);
    assert!(rig.engine.delivery(id).is_none(), "the URL of no webhook");
}
