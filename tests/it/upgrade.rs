//! Databases of servers that were killed, one per schema, the present one included. Each must open with
//! all its rows. A change of the schema adds a database under tests/data.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boathook::internals::Timestamp;
use boathook::internals::backup::{Header, RowChange, Writer};
use boathook::internals::store::SCHEMA;
use serde_json::{Value, json};

use crate::harness::api::{is_final, vessel_of};
use crate::harness::server::restored;
use crate::harness::{Hook, Random, Server};

/// Servers on copies of one data directory would end each other's vessels as leftovers.
static TURN: Mutex<()> = Mutex::new(());

struct Left {
    server: Server,
    _scratch: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Unpacks the data directory of a server that was killed: the fleet `kept` in its version 2, its
/// webhook, and three runs: one stopped, one running, one waiting with a body of 300,000 bytes.
fn left_by_schema(schema: u32, keep_runs: &str) -> Left {
    left(&format!("schema-{schema}"), keep_runs)
}

/// Unpacks the data directory in `tests/data/{name}.tar.gz`.
fn left(name: &str, keep_runs: &str) -> Left {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.tar.gz"));
    let unpacked = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&data_dir).status();
    assert!(unpacked.unwrap().success());
    // Retention keeps old runs.
    let builder = Server::builder().data_dir(&data_dir).setting("keep_runs", keep_runs);
    let server = builder.not_started();
    Left { server, _scratch: scratch, _turn: turn }
}

fn recorded_schema(server: &Server) -> String {
    fs::read_to_string(server.data_dir().join("schema")).unwrap()
}

fn assert_all_rows_are_there(server: &Server) {
    let api = server.api();
    let runs = api.get("/api/v1/runs").expect(200).data();
    let words = |key: &str| -> Vec<Value> {
        runs.as_array().unwrap().iter().map(|run| run[key].clone()).collect()
    };
    assert_eq!(words("fleet_version"), [2, 2, 2]);
    assert_eq!(words("status")[2], "Terminated");
    let body = |index: usize| {
        let id = words("id")[index].as_str().unwrap().to_owned();
        api.get(&format!("/api/v1/runs/{id}/body")).expect(200).body
    };
    assert_eq!(body(2), b"one");
    assert!(body(0) == vec![b'x'; 300_000]);
    assert_eq!(api.output(&runs[2], "greet"), "hello\none");

    let fleet = words("fleet_id")[0].as_str().unwrap().to_owned();
    let versions = api.get(&format!("/api/v1/fleets/{fleet}/versions")).expect(200).data();
    assert_eq!(versions.as_array().unwrap().len(), 2);
    let webhook = api.get(&format!("/api/v1/fleets/{fleet}/webhook")).expect(200).data();
    Hook::from_url(webhook["url"].as_str().unwrap()).post(server.hooks(), &[], b"four");
}

#[test]
fn databases_of_every_schema_open() {
    for schema in 1..=SCHEMA {
        let mut left = left_by_schema(schema, "forever");
        let server = &mut left.server;
        server.start_again();
        assert_all_rows_are_there(server);
        // The run that was running goes on.
        let runs = server.api().all_runs();
        server.wait_until("the interrupted run goes on", || {
            let run = server.api().run(runs[2]["id"].as_str().unwrap());
            !is_final(&run) && vessel_of(&run, "greet")["attempt"] == 2
        });
        assert_eq!(recorded_schema(server), format!("{SCHEMA}\n"));
        let overview = server.api().get("/api/v1/overview").expect(200).data();
        assert_eq!(overview["history_runs"], 1, "what has ended is history");
    }
}

#[test]
fn a_restored_backup_of_an_older_schema_is_migrated() {
    let left = left_by_schema(2, "forever");
    let rows = sled::open(left.server.data_dir().join("db")).unwrap();
    let backup = left.server.scratch().join("older.backup");
    let header = Header::new(2, Timestamp::from_millis(1_790_000_000_000), 0);
    let mut archive = Writer::begin(fs::File::create(&backup).unwrap(), &header).unwrap();
    for row in rows.iter() {
        let (key, value) = row.unwrap();
        archive.change(RowChange { key: &key, value: Some(&value) }).unwrap();
    }
    archive.finish().unwrap();

    let mut server = restored(&backup, &[]);
    assert_eq!(recorded_schema(&server), "2\n");
    server.start_again();
    assert_all_rows_are_there(&server);
    assert_eq!(recorded_schema(&server), format!("{SCHEMA}\n"));
}

#[test]
fn retention_removes_runs_that_ended_before_the_table_history() {
    for schema in [1, 2] {
        let mut left = left_by_schema(schema, "1s");
        let server = &mut left.server;
        server.start_again();
        server.wait_until("the ended run is gone", || server.api().all_runs().len() == 2);
        assert!(server.api().all_runs().iter().all(|run| !is_final(run)));
    }
}

#[test]
fn the_next_start_repeats_a_killed_migration() {
    let mut random = Random::seeded(Random::seed("killed migrations"));
    for _ in 0..5 {
        let mut left = left_by_schema(1, "forever");
        let server = &mut left.server;
        for _ in 0..3 {
            server.start_and_kill(Duration::from_millis(random.below(60) as u64));
        }
        server.start_again();
        assert_all_rows_are_there(server);
    }
}

/// The fleets of `schema-4-webhooks`: `guarded` in two versions, `large` in one of several rows, `open`
/// without settings.
fn assert_settings_are_in_the_fleets(server: &Server) {
    let api = server.api();
    let fleets = api.get("/api/v1/fleets").expect(200).data();
    let fleets: Vec<&Value> = fleets.as_array().unwrap().iter().collect();
    let names: Vec<_> = fleets.iter().map(|fleet| fleet["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["guarded", "large", "open"]);
    for (fleet, version, allow, rate_limit) in [
        (fleets[0], 2, json!(["192.0.2.0/24", "2001:db8::/32"]), json!("60/m burst 10")),
        (fleets[1], 1, json!(["198.51.100.7/32"]), Value::Null),
        (fleets[2], 1, json!([]), Value::Null),
    ] {
        let path = format!("/api/v1/fleets/{}", fleet["id"].as_str().unwrap());
        assert_eq!(fleet["version"], version, "the migration makes no version");
        let webhook = api.get(&format!("{path}/webhook")).expect(200).data();
        assert_eq!((&webhook["allow"], &webhook["rate_limit"]), (&allow, &rate_limit));
        let versions = api.get(&format!("{path}/versions")).expect(200).data();
        for version in versions.as_array().unwrap() {
            let yaml = version["yaml"].as_str().unwrap();
            assert_eq!(yaml.contains("\nwebhook:\n"), allow != json!([]), "{yaml}");
        }
        let hook = Hook::from_url(webhook["url"].as_str().unwrap());
        let status = hook.try_post(server.hooks(), &[], b"{}").unwrap().status;
        assert_eq!(status, if allow == json!([]) { 201 } else { 400 });
    }
    // A revert to a version from before keeps the list.
    let path = format!("/api/v1/fleets/{}", fleets[0]["id"].as_str().unwrap());
    api.call("POST", &format!("{path}/versions/1/revert"), None).expect(201);
    let webhook = api.get(&format!("{path}/webhook")).expect(200).data();
    assert_eq!(webhook["allow"], json!(["192.0.2.0/24", "2001:db8::/32"]));
}

#[test]
fn settings_of_webhooks_become_part_of_their_fleets() {
    let mut left = left("schema-4-webhooks", "forever");
    left.server.start_again();
    assert_settings_are_in_the_fleets(&left.server);
    assert_eq!(recorded_schema(&left.server), format!("{SCHEMA}\n"));
    left.server.crash_and_restart();
    let fleets = left.server.api().get("/api/v1/fleets").expect(200).data();
    assert_eq!(fleets[0]["version"], 3);
}

#[test]
fn a_killed_migration_of_settings_is_repeated() {
    let mut random = Random::seeded(Random::seed("killed migrations of settings"));
    for _ in 0..5 {
        let mut left = left("schema-4-webhooks", "forever");
        for _ in 0..3 {
            left.server.start_and_kill(Duration::from_millis(random.below(60) as u64));
        }
        left.server.start_again();
        assert_settings_are_in_the_fleets(&left.server);
    }
}
