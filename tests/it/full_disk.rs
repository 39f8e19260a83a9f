//! Full disks: a small file system of the test fills up while the server works. Every acknowledged run
//! is there when the disk has space again.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use crate::harness::api::true_fleet;
use crate::harness::disk::SmallDisk;
use crate::harness::http::exchange;
use crate::harness::server::finish;
use crate::harness::{Connection, Hook, Random, Server, wait_for};

fn health(server: &Server) -> u16 {
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    exchange(server.hooks(), request).map_or(0, |answer| answer.status)
}

#[test]
fn a_server_accepts_nothing_below_the_floor_and_recovers_above_it() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let mut server = disk.server().setting("min_free_bytes", "8MiB").start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("floor"));
    let status = || hook.try_post(server.hooks(), &[], b"{}").unwrap().status;
    assert_eq!((status(), health(&server)), (201, 200));
    for round in 1..=2 {
        disk.use_up_all_but(6 << 20);
        server.wait_until("nothing is accepted", || status() == 503);
        assert_eq!(health(&server), 503);
        disk.give_back();
        server.wait_until("runs are accepted again", || status() == 201);
        assert_eq!(health(&server), 200);
        let said = |what| server.log().matches(what).count();
        server.wait_until("it says so", || said("enough free disk space again") == round);
        assert_eq!(said("too little free disk space:"), round, "once each time");
    }
    server.stop();
}

/// Bytes of large bodies on their way count as used, because the database gets a copy.
#[test]
fn bodies_on_their_way_count_for_the_floor() {
    let Some(disk) = SmallDisk::mount(48) else { return };
    let mut server = disk.server().setting("min_free_bytes", "8MiB").start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("promised"));
    let status = || hook.try_post(server.hooks(), &[], b"{}").unwrap().status;
    assert_eq!(status(), 201);
    let mut slow = Connection::open(server.hooks()).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        hook.target(),
        16 << 20
    );
    slow.send(head.as_bytes()).unwrap();
    slow.send(&vec![b'x'; 6 << 20]).unwrap();
    // The free space is above the floor, but not without the copy of the body.
    server.wait_until("it has come", || {
        disk.use_up_all_but(11 << 20);
        status() == 503
    });
    disk.give_back();
    server.wait_until("there is enough for both", || status() == 201);
    disk.use_up_all_but(11 << 20);
    server.wait_until("nothing more is accepted", || status() == 503);
    drop(slow);
    server.wait_until("runs are accepted again", || status() == 201);
    server.stop();
}

/// Acknowledged runs: their bodies by their ids.
type Accepted = HashMap<String, Vec<u8>>;

/// POSTs bodies of `bytes` bytes until the server is gone, or has refused many in a row, each with a
/// 503.
fn send_until_it_ends(server: &Server, hook: &Hook, bytes: usize, accepted: &mut Accepted) {
    const REFUSALS_MAX: usize = 20;
    let mut random = Random::seeded(bytes as u64);
    let mut refusals = 0;
    for number in 0_usize.. {
        assert!(number < 100_000, "the disk does not fill up");
        let body = random.bytes(bytes);
        match hook.try_post(server.hooks(), &[], &body) {
            Ok(answer) if answer.status == 201 => {
                let run = answer.data()["fleet_run_id"].as_str().unwrap().to_owned();
                accepted.insert(run, body);
            }
            Ok(answer) => {
                assert_eq!(answer.status, 503, "{}", answer.text());
                refusals += 1;
                if refusals == REFUSALS_MAX {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Starts the server again and again, as a supervisor does, until it stays up.
fn supervise(server: &mut Server) {
    let up = wait_for(|| server.try_start_again().ok());
    assert!(up.is_some(), "it does not start again\n{}", server.log_tail());
}

#[track_caller]
fn assert_all_there(server: &Server, accepted: &Accepted) {
    let api = server.api();
    for (run, body) in accepted {
        let kept = api.get(&format!("/api/v1/runs/{run}/body")).expect(200).body;
        assert!(kept == *body, "the body of {run} is another one");
        api.wait_status(run, "Success");
    }
}

#[test]
fn a_disk_that_fills_up_ends_the_server_and_loses_nothing() {
    // Small rows, a payload within one commit, and payloads in slices, which the listener keeps in
    // files first and refuses when it cannot.
    for bytes in [300, 20_000, 700_000] {
        let Some(disk) = SmallDisk::mount(32) else { return };
        let mut server = disk.server().setting("min_free_bytes", "0").start();
        let (_, hook) = server.fleet_with_webhook(&true_fleet("full"));
        let mut accepted = Accepted::new();
        disk.use_up_all_but(6 << 20);
        send_until_it_ends(&server, &hook, bytes, &mut accepted);
        send_until_it_ends(&server, &hook, 300, &mut accepted);
        assert!(!accepted.is_empty());
        let status = server.wait_exit();
        assert_eq!(status.code(), Some(1), "{bytes}: {status}\n{}", server.log_tail());
        server.wait_until("it says why", || server.log().contains("stopping: the database"));
        // Without space the server says so and tries again.
        disk.use_up_all_but(0);
        assert!(server.try_start_again().is_err());
        let said = "No space left on device";
        server.wait_until("it says why", || {
            server.log().lines().any(|line| line.starts_with("boathook: ") && line.contains(said))
        });
        disk.give_back();
        supervise(&mut server);
        assert_all_there(&server, &accepted);
        hook.post(server.hooks(), &[], b"again");
        server.stop();
    }
}

/// Runs that write 30 MB each.
const LOUD_RUNS: u32 = 20;

#[test]
fn a_disk_that_fills_up_with_output_loses_no_run() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let mut server = disk.server().setting("min_free_bytes", "0").setting("workers", "2").start();
    let fleet = json!({"name": "loud", "vessels": {"v": {"run": "head -c 30000000 /dev/zero"}}});
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let (_, quiet) = server.fleet_with_webhook(&true_fleet("quiet"));
    disk.use_up_all_but(5 << 20);
    let mut accepted = Accepted::new();
    // Output fills the disk. Then starts pause, unless the database has ended the server.
    for _ in 0..LOUD_RUNS {
        match hook.try_post(server.hooks(), &[], b"x") {
            Ok(answer) if answer.status == 201 => {
                let run = answer.data()["fleet_run_id"].as_str().unwrap().to_owned();
                accepted.insert(run, b"x".to_vec());
            }
            _ => break,
        }
    }
    assert!(!accepted.is_empty(), "{}", server.log_tail());
    // Runs accepted meanwhile fill the rest of the disk.
    send_until_it_ends(&server, &quiet, 3000, &mut accepted);
    send_until_it_ends(&server, &quiet, 300, &mut accepted);
    let status = server.wait_exit();
    assert_eq!(status.code(), Some(1), "{status}\n{}", server.log_tail());
    // The runs that waited write as much again.
    disk.grow(32 + 32 * LOUD_RUNS);
    supervise(&mut server);
    assert_all_there(&server, &accepted);
    let run = hook.post(server.hooks(), &[], b"x");
    server.api().wait_status(&run, "Success");
    server.stop();
}

#[test]
fn a_full_disk_under_the_log_delays_no_request() {
    let mut server =
        Server::builder().setting("log", "debug").after_shell("exec 2>/dev/full").start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("mute"));
    let run = hook.post(server.hooks(), &[], b"{}");
    server.api().wait_status(&run, "Success");
    assert_eq!(hook.try_post(server.hooks(), &[("Content-Length", "x")], b"").unwrap().status, 400);
    server.stop();
    // A server that cannot go on ends all the same.
    let Some(disk) = SmallDisk::mount(8) else { return };
    for level in ["info", "off"] {
        let data_dir = disk.path().join(level);
        let mut server = Server::builder()
            .data_dir(&data_dir)
            .setting("min_free_bytes", "0")
            .setting("log", level)
            .after_shell("exec 2>/dev/full")
            .start();
        let (_, hook) = server.fleet_with_webhook(&true_fleet("mute"));
        disk.use_up_all_but(256 << 10);
        send_until_it_ends(&server, &hook, 3000, &mut Accepted::new());
        assert_eq!(server.wait_exit().code(), Some(1));
        disk.give_back();
    }
}

/// Fails in CI where the tests of this file would be skipped.
#[test]
fn ci_can_mount() {
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let is_root = rustix::process::geteuid().is_root();
    if is_ci && is_root {
        let disk = SmallDisk::mount(1).expect("CI as root can mount a tmpfs");
        let write = || -> io::Result<()> {
            let mut file = File::create(disk.path().join("file"))?;
            file.write_all(&vec![0; 2 << 20])
        };
        assert_eq!(write().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}

#[test]
fn a_backup_or_restore_without_room_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("large"));
    let run = hook.post(server.hooks(), &[], &vec![b'l'; 20 << 20]);
    server.api().wait_status(&run, "Success");
    let backup = |path: &Path| finish(server.cli(&["backup", path.to_str().unwrap()]));
    let (code, _, problem) = backup(&disk.path().join("full.backup"));
    assert_eq!(code, 1);
    assert!(problem.contains("full.backup") && problem.contains("No space"), "{problem}");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);

    disk.grow(40);
    let whole = server.scratch().join("whole.backup");
    assert_eq!(backup(&whole).0, 0);
    let data_dir = disk.path().join("data");
    let restore = || {
        let data_dir = data_dir.to_str().unwrap();
        finish(server.cli(&["restore", whole.to_str().unwrap(), "--data-dir", data_dir]))
    };
    let (code, _, problem) = restore();
    assert_eq!(code, 1);
    assert!(problem.contains("too little free disk space"), "{problem}");
    let left: Vec<_> =
        fs::read_dir(&data_dir).unwrap().flatten().map(|it| it.file_name()).collect();
    assert_eq!(left, ["boathook.lock"], "{problem}");
    disk.grow(400);
    let (code, _, problem) = restore();
    assert_eq!(code, 0, "{problem}");
}
