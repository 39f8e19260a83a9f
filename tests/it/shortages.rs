//! What the machine lacks is no vessel's failure: launching pauses, runs wait with the reason, and go
//! on by themselves.

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::harness::api::{true_fleet, vessel_of};
use crate::harness::disk::SmallDisk;
use crate::harness::http::exchange;
use crate::harness::processes::Holdings;
use crate::harness::server::finish;
use crate::harness::{Api, Hook, Server};

/// Posts as many runs.
fn post_all(server: &Server, hook: &Hook, count: usize, body: &[u8]) -> Vec<String> {
    (0..count).map(|_| hook.post(server.hooks(), &[], body)).collect()
}

fn overview(api: &Api) -> Value {
    api.get("/api/v1/overview").expect(200).data()
}

/// Waits until launching is paused, for a reason with `words` in it, and the vessel `v` of all of `runs`
/// waits as if none had been claimed: several workers may undo a start.
#[track_caller]
fn wait_paused(server: &Server, runs: &[String], words: &str) {
    let api = server.api();
    server.wait_until("launching is paused", || {
        overview(&api)["launching_paused_because"].as_str().is_some_and(|it| it.contains(words))
    });
    server.wait_until("all starts are undone", || {
        runs.iter().all(|run| {
            let vessel = vessel_of(&api.run(run), "v").clone();
            (&vessel["status"], &vessel["attempt"]) == (&"Scheduled".into(), &0.into())
        })
    });
}

/// All of `runs` wait, with a reason that has `words` in it.
#[track_caller]
fn assert_waiting(api: &Api, runs: &[String], words: &str) {
    for run in runs {
        let run = api.run(run);
        assert_eq!(run["status"], "Scheduled", "{run:#}");
        assert!(run["reason"].as_str().unwrap_or_default().contains(words), "{run:#}");
        assert_eq!(run["started_at"], Value::Null);
        assert_eq!(vessel_of(&run, "v")["attempt"], 0, "{run:#}");
    }
}

/// All of `runs` succeed at their first attempt.
#[track_caller]
fn assert_succeed(api: &Api, runs: &[String]) {
    for run in runs {
        let run = api.wait_status(run, "Success");
        assert_eq!(vessel_of(&run, "v")["attempt"], 1, "{run:#}");
    }
}

#[test]
fn runs_wait_while_the_work_directory_has_no_space() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let mut server = Server::builder().setting("work_dir", disk.path().to_str().unwrap()).start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("full"));
    disk.use_up_all_but(0);
    let runs = post_all(&server, &hook, 60, &[b'x'; 10_000]);
    wait_paused(&server, &runs, "No space left on device");
    let api = server.api();
    assert_waiting(&api, &runs, "No space left on device");

    for (listener, says) in [(server.hooks(), "ok"), (server.admin(), "ok; launching is paused")] {
        let health = exchange(listener, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!((health.status, health.text().as_str()), (200, says));
    }
    let (code, said, _) = finish(server.cli(&["runs", "show", &runs[0]]));
    assert!(code == 0 && said.contains("launching is paused"), "{said}");
    let (code, said, _) = finish(server.cli(&["doctor"]));
    assert!(code != 0 && said.contains("launching is paused"), "{said}");

    disk.give_back();
    assert_succeed(&api, &runs);
    assert_eq!(overview(&api)["launching_paused_because"], Value::Null);
    let log = server.log();
    assert_eq!(log.matches("launching is paused").count(), 1, "{}", server.log_tail());
    assert!(log.contains("launching goes on"), "{}", server.log_tail());
    server.stop();
}

#[test]
fn runs_wait_while_the_work_directory_has_no_inodes() {
    let Some(disk) = SmallDisk::mount_with("size=4m,nr_inodes=40") else { return };
    let server = Server::builder().setting("work_dir", disk.path().to_str().unwrap()).start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("inodes"));
    let mut files = Vec::new();
    while let Ok(file) = fs::File::create_new(disk.path().join(format!("file-{}", files.len()))) {
        files.push(file);
    }
    let runs = post_all(&server, &hook, 20, b"{}");
    wait_paused(&server, &runs, "");
    assert_waiting(&server.api(), &runs, "");
    let count = files.len();
    // A file that is open keeps its inode.
    drop(files);
    for number in 0..count {
        fs::remove_file(disk.path().join(format!("file-{number}"))).unwrap();
    }
    assert_succeed(&server.api(), &runs);
}

#[test]
fn a_waiting_run_can_be_stopped_and_waits_across_a_restart() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let mut server = Server::builder()
        .setting("work_dir", disk.path().to_str().unwrap())
        .setting("max_crash_attempts", "1")
        .start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("full"));
    disk.use_up_all_but(0);
    let runs = post_all(&server, &hook, 4, &[b'x'; 10_000]);
    wait_paused(&server, &runs, "No space");
    let stopped = server.api().post(&format!("/api/v1/runs/{}/stop", runs[0]), &json!({}));
    assert_eq!(stopped.expect(200).data()["status"], "Terminated");
    for _ in 0..3 {
        server.crash_and_restart();
        wait_paused(&server, &runs[1..], "No space");
    }
    assert_waiting(&server.api(), &runs[1..], "No space");
    server.stop();
    server.start_again();
    wait_paused(&server, &runs[1..], "No space");
    disk.give_back();
    assert_succeed(&server.api(), &runs[1..]);
}

/// The run under way holds what its earlier vessel did, and its other vessel still has all its retries.
#[test]
fn a_run_under_way_waits_between_its_vessels() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let server = Server::builder().setting("work_dir", disk.path().to_str().unwrap()).start();
    let journal = server.journal("journal");
    let ballast = disk.path().join("fill");
    let fill =
        format!("echo first >> {journal}; head -c 8000000 /dev/zero > {} || :", ballast.display());
    let fleet = json!({
        "name": "between",
        "vessels": {
            "fill": {"run": fill},
            "v": {"run": format!("echo then >> {journal}"), "guardrails": {"retry_count": 1}},
        },
        "connections": {"fill": {"v": "COMPLETED"}},
    });
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let run = hook.post(server.hooks(), &[], &[b'x'; 10_000]);
    wait_paused(&server, std::slice::from_ref(&run), "No space");
    let waits = server.api().run(&run);
    assert_eq!(vessel_of(&waits, "fill")["status"], "Success", "{waits:#}");
    assert_eq!(vessel_of(&waits, "v")["status"], "Scheduled", "{waits:#}");
    fs::remove_file(ballast).unwrap();
    assert_succeed(&server.api(), &[run]);
    assert_eq!(journal.lines(), ["first", "then"]);
}

#[test]
fn runs_wait_while_there_are_no_descriptors() {
    let server = Server::builder().setting("workers", "1").start();
    let gate = server.scratch().join("gate");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done", gate.display());
    let fleet = json!({"name": "files", "vessels": {"v": {"run": script}}});
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let runs = post_all(&server, &hook, 5, b"{}");
    let api = server.api();
    server.wait_until("the first runs", || api.run(&runs[0])["status"] == "Running");
    let pid = Pid::from_raw(server.pid()).unwrap();
    let given = getrlimit_of(pid);
    let few = Holdings::of(server.pid()).descriptors as u64 + 1;
    set_limit_of(pid, Rlimit { current: Some(few), maximum: given.maximum });
    fs::write(&gate, "").unwrap();
    server.wait_until("launching is paused", || server.log().contains("launching is paused"));
    set_limit_of(pid, given);
    assert_succeed(&api, &runs);
}

fn getrlimit_of(pid: Pid) -> Rlimit {
    // To set what a process has and return what it had is one call.
    let own = getrlimit(Resource::Nofile);
    let had = prlimit(Some(pid), Resource::Nofile, own).unwrap();
    set_limit_of(pid, had);
    had
}

fn set_limit_of(pid: Pid, limit: Rlimit) {
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
}

#[test]
fn a_body_that_can_never_fit_is_its_vessels_failure() {
    let Some(disk) = SmallDisk::mount(2) else { return };
    let server = Server::builder().setting("work_dir", disk.path().to_str().unwrap()).start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("huge"));
    let huge = hook.post(server.hooks(), &[], &vec![b'x'; 5 << 20]);
    let small = hook.post(server.hooks(), &[], b"{}");
    let ended = server.api().wait_status(&huge, "Errored");
    assert!(ended["reason"].as_str().unwrap().contains("No space left"), "{ended:#}");
    server.api().wait_status(&small, "Success");
}
