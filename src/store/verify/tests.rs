use sled::Batch;

use super::*;
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::{RunIds, VesselId};
use crate::model::run::{OutputRecord, PayloadSize, Status};
use crate::store;

const HEAD: &[u8] = b"{}";
const BODY_BYTES: u64 = 10_000;

/// A database with one run, a payload of three chunks and the output of its vessel.
fn stored(directory: &Path) -> (Store, RunId) {
    let (store, _committer) = store::open(directory).unwrap();
    let id = RunIds::after(None).next(Timestamp::from_millis(1), 7);
    let run = RunRecord {
        status: Status::Success,
        payload: PayloadSize { head_bytes: HEAD.len() as u32, body_bytes: BODY_BYTES },
        output_bytes: 5,
        ..RunRecord::example(id)
    };
    let vessel = VesselRunRecord {
        id: id.vessel_run(0),
        vessel_id: VesselId::random(),
        vessel_name: "v".to_owned(),
        status: Status::Success,
        attempt: 1,
        retries: 0,
        exit_code: Some(0),
        signal: None,
        reason: None,
        retry_at: None,
        stop_requested: false,
        skip: None,
        scheduled_at: Timestamp::from_millis(1),
        started_at: None,
        ended_at: None,
        output: OutputRecord { place: OutputPlace::Rows, bytes: 5, kept: 5 },
    };
    let bytes = [HEAD, &vec![b'x'; BODY_BYTES as usize]].concat();
    let output = Change::PutOutput { vessel_run: vessel.id, attempt: 1, bytes: b"hello".to_vec() };
    let changes = vec![
        Change::PutPayload { run: id, chunk: 0, bytes },
        Change::AddRun(run),
        output,
        Change::PutVesselRun(vessel),
    ];
    store.commit(changes).wait();
    (store, id)
}

fn verified(store: &Store) -> VerifyReport {
    let mut watch = VerifyCallbacks { step: &mut |_| true, has_output_file: &|_, _| false };
    store.verify(&mut watch).unwrap()
}

/// The report on a database that `break_it` has damaged.
fn damage(break_it: impl FnOnce(&Store, RunId, &mut Batch)) -> VerifyReport {
    let directory = tempfile::tempdir().unwrap();
    let (store, run) = stored(directory.path());
    let whole = verified(&store);
    assert_eq!((whole.damages, whole.orphans, whole.runs), (0, 0, 1), "{:?}", whole.damage);
    assert!(whole.read.bytes > BODY_BYTES && !whole.is_cut_short, "{whole:?}");
    let mut batch = Batch::default();
    break_it(&store, run, &mut batch);
    store.database.commit(batch).unwrap();
    verified(&store)
}

fn key(table: Table, key: &[u8]) -> Vec<u8> {
    keys::of_table(table, key)
}

#[test]
fn missing_and_short_rows_are_damage() {
    for (name, expected, break_it) in [
        (
            "a chunk in the middle",
            "of the 10002 bytes of its request",
            (|_: &Store, run: RunId, batch: &mut Batch| {
                batch.remove(key(Table::Payloads, &keys::payload(run, 1)));
            }) as fn(&Store, RunId, &mut Batch),
        ),
        ("the last chunk", "8192 of the 10002 bytes of its request", |_, run, batch| {
            batch.remove(key(Table::Payloads, &keys::payload(run, 2)));
        }),
        ("a short chunk", "of the 10002 bytes of its request", |_, run, batch| {
            batch.insert(key(Table::Payloads, &keys::payload(run, 2)), &b"x"[..]);
        }),
        ("a head that is none", "the head of its request", |_, run, batch| {
            batch.insert(key(Table::Payloads, &keys::payload(run, 0)), vec![b'?'; ROW_BYTES_MAX]);
        }),
        ("an output", "0 of the 5 bytes of its output", |_, run, batch| {
            batch.remove(key(Table::Outputs, &keys::output(run.vessel_run(0), 1, 0)));
        }),
        ("the index", "the list of its fleet's runs", |store, run, batch| {
            let fleet = store.run(run).unwrap().fleet_id;
            batch.remove(key(Table::RunsByFleet, &keys::run_of_fleet(fleet, run)));
        }),
        ("a run with an end", "though its end is known", |_, run, batch| {
            let entry = HistoryEntry {
                run: RunIds::after(Some(run)).next(Timestamp::from_millis(2), 0),
                since: Timestamp::from_millis(1),
                bytes: 0,
                bytes_before: 0,
            };
            let row = codec::encode(&entry).unwrap();
            batch.insert(key(Table::History, &keys::history(FleetId::random(), 1)), row);
        }),
        ("a row", "a row of `runs`", |_, run, batch| {
            batch.insert(key(Table::Runs, run.as_bytes()), &b"1{\"id\""[..]);
        }),
        ("a version", "version 3 of the fleet", |_, _, batch| {
            let version = keys::fleet_version(FleetId::random(), 3, 0);
            batch.insert(key(Table::FleetVersions, &version), &b"1{}"[..]);
        }),
    ] {
        let found = damage(break_it);
        assert_eq!(found.damages, 1, "{name}: {found:?}");
        assert!(found.damage[0].contains(expected), "{name}: {}", found.damage[0]);
    }
}

#[test]
fn payloads_without_a_run_or_an_upload_are_orphans() {
    let found = damage(|store, _, _| {
        let mut ids = RunIds::after(Some(store.last_run().unwrap().unwrap()));
        let [lost, arriving] = [1, 2].map(|time| ids.next(Timestamp::from_millis(time), 0));
        let payload = |run| Change::PutPayload { run, chunk: 0, bytes: vec![0; 9000] };
        let changes = vec![payload(lost), Change::BeginUpload(arriving), payload(arriving)];
        store.commit(changes).wait();
    });
    assert_eq!((found.damages, found.orphans), (0, 1), "{found:?}");
}

#[test]
fn a_verification_ends_when_its_caller_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let (store, run) = stored(directory.path());
    let bytes = vec![0; ROW_BYTES_MAX * STEP_ROWS as usize];
    store.commit(vec![Change::PutPayload { run, chunk: 0, bytes }]).wait();
    let mut steps = 0;
    let mut step = |_| {
        steps += 1;
        false
    };
    let mut watch = VerifyCallbacks { step: &mut step, has_output_file: &|_, _| false };
    assert!(store.verify(&mut watch).unwrap().is_cut_short);
    assert_eq!(steps, 1);
}

#[test]
fn verifying_a_directory_makes_and_migrates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut watch = VerifyCallbacks { step: &mut |_| true, has_output_file: &|_, _| false };
    let refused = verify_directory(directory.path(), &mut watch).unwrap_err().to_string();
    assert!(refused.contains("has no database yet"), "{refused}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is made");

    std::fs::write(directory.path().join("schema"), "1\n").unwrap();
    std::fs::create_dir(directory.path().join("db")).unwrap();
    let refused = verify_directory(directory.path(), &mut watch).unwrap_err().to_string();
    assert!(refused.contains("brings it up to date"), "{refused}");
}
