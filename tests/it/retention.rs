//! How long runs are kept: by age and by number, what goes with them, and what a crash in the middle
//! of a removal leaves, which is nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use boathook::internals::{RunId, store};
use serde_json::{Value, json};

use crate::harness::api::{Api, is_final, true_fleet};
use crate::harness::receiver::Receiver;
use crate::harness::server::finish;
use crate::harness::{Random, Server};

fn is_gone(api: &Api, run: &str) -> bool {
    api.get(&format!("/api/v1/runs/{run}")).status == 404
}

fn count_files(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

fn ids(runs: &[Value]) -> Vec<String> {
    runs.iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
}

/// Servers that may take turns at one removal: each does a step of it at least.
const STOPS_MAX: usize = 20;

/// Stops the server and looks for rows of `runs` that are gone.
#[track_caller]
fn assert_nothing_left(server: &mut Server, runs: &[String]) {
    server.stop();
    let (mut store, mut committer) = store::open(server.data_dir()).unwrap();
    // A server that stops in the middle of a removal leaves the rest to the next one.
    for _ in 0..STOPS_MAX {
        if store.removals().next().is_none() {
            break;
        }
        drop(store);
        committer.join().unwrap();
        server.start_again();
        server.stop();
        (store, committer) = store::open(server.data_dir()).unwrap();
    }
    assert_eq!(store.removals().count(), 0);
    assert_eq!(store.fleets_with_history().unwrap(), []);
    for run in runs {
        let run: RunId = run.parse().unwrap();
        assert!(store.run(run).is_none());
        assert_eq!(store.payload_chunks(run).unwrap(), 0, "the payload of {run}");
        assert_eq!(store.attempts_of(run).count(), 0, "the vessels of {run}");
        assert_eq!(store.output_chunks(run.vessel_run(0), 1), 0, "the output of {run}");
        assert_eq!(store.notifications_of(run), []);
    }
}

#[test]
fn a_run_goes_with_all_that_it_has_left_when_its_time_is_over() {
    let builder = Server::builder().setting("keep_runs", "3s").setting("keep_workdir", "always");
    let mut server = builder.start();
    let api = server.api();
    let definition = json!({
        "name": "f",
        "vessels": {
            "long": {"run": "seq 30000; touch kept"},
            "short": {"run": "echo once; exit 1", "guardrails": {"retry_count": 1}},
            "silent": {"run": "true"},
        },
    });
    let (fleet, hook) = server.fleet_with_webhook(&definition);
    let kept = json!({"name": "kept", "keep_runs": "forever", "vessels": {"v": {"run": "true"}}});
    let kept = api.start(&api.apply(&kept));
    api.wait_ended(&kept);
    let run = hook.post(server.hooks(), &[], &vec![b'x'; 300_000]);
    let ended = api.wait_ended(&run);
    let long = api.output_answer(&ended, "long", "").body;
    assert!(long.len() > 100_000);
    let left = (server.data_dir().join("output"), server.data_dir().join("work"));
    assert_eq!((count_files(&left.0), count_files(&left.1)), (1, 2));

    server.wait_until("the run is gone", || is_gone(&api, &run));
    for path in ["/body", "/webhook-parameters"] {
        assert_eq!(api.get(&format!("/api/v1/runs/{run}{path}")).status, 404);
    }
    for verb in ["replay", "stop"] {
        assert_eq!(api.post(&format!("/api/v1/runs/{run}/{verb}"), &json!({})).status, 404);
    }
    for vessel in ended["vessels"].as_array().unwrap() {
        let id = vessel["id"].as_str().unwrap();
        assert_eq!(api.get(&format!("/api/v1/vessel-runs/{id}/output")).status, 404);
    }
    assert_eq!(api.get(&format!("/api/v1/runs?fleet={fleet}")).expect(200).data(), json!([]));
    let (code, _, said) = finish(server.cli(&["runs", "show", &run]));
    assert!(code == 1 && said.contains("no run"), "{code} {said}");
    assert_eq!(ids(&api.all_runs()), [kept.as_str()]);
    server.wait_until("its files are gone", || {
        (count_files(&left.0), count_files(&left.1)) == (0, 1)
    });
    server.wait_until("its rows are gone", || {
        let overview = api.get("/api/v1/overview").expect(200).data();
        overview["history_runs"] == 1
    });

    // What the fleet says counts from now on, and the server's word for the others.
    api.apply(&json!({"name": "kept", "keep_runs": "1s", "vessels": {"v": {"run": "true"}}}));
    server.wait_until("the other run is gone", || is_gone(&api, &kept));
    assert_nothing_left(&mut server, &[run, kept]);
}

#[test]
fn of_more_runs_than_are_kept_the_last_stay() {
    let mut server = Server::start();
    let api = server.api();
    let definition = json!({
        "name": "f",
        "concurrency": 1,
        "vessels": {"v": {"command": ["true"]}},
        "keep_runs": {"count": 3, "age": "1d"},
    });
    let fleet = api.apply(&definition);
    let shown = api.get(&format!("/api/v1/fleets/{fleet}")).expect(200).data();
    assert_eq!(shown["keep_runs"], "1d, 3 runs");
    let (_, shown, _) = finish(server.cli(&["fleet", "show", "f"]));
    assert!(shown.contains("1d, 3 runs"), "{shown}");
    let others = api.start(&api.apply(&true_fleet("another")));
    let mut started: Vec<String> = (0..150).map(|_| api.start(&fleet)).collect();
    server.wait_until("three are left", || {
        let runs = api.all_runs();
        runs.len() == 4 && runs.iter().all(is_final)
    });
    let mut expected = started.split_off(147);
    expected.reverse();
    expected.push(others);
    assert_eq!(ids(&api.all_runs()), expected);
    let overview = api.get("/api/v1/overview").expect(200).data();
    assert_eq!(overview["keep_runs"], "90d");
    assert_eq!(overview["history_runs"], 4);
    assert!(overview["history_bytes"].as_u64().unwrap() > 0);
    assert!(overview["database_bytes"].as_u64().unwrap() > 0);
    // The next server counts on.
    server.crash_and_restart();
    let api = server.api();
    let latest = api.start(&fleet);
    server.wait_until("the oldest gives way", || is_gone(&api, &expected[2]));
    expected.truncate(2);
    assert_eq!(ids(&api.all_runs())[..3], [&[latest], &expected[..]].concat());
}

#[test]
fn what_has_not_ended_and_what_has_not_been_told_stays() {
    let receiver = Receiver::start(|number| {
        Some(if number == 0 { "503 Busy\r\n" } else { "200 OK\r\n" }.to_owned())
    });
    let builder = Server::builder().setting("keep_runs", "1s");
    let (_secrets, builder) = receiver.allowed_by(builder);
    let mut server = builder.start();
    let api = server.api();
    let gate = server.scratch().join("gate");
    let wait = format!("while [ ! -e {} ]; do sleep 0.02; done", gate.display());
    let fleet = api.apply(&json!({"name": "slow", "vessels": {"v": {"run": wait}}}));
    let running = api.start(&fleet);
    let url = format!("http://{}/told", receiver.address);
    let told = api.apply(&json!({
        "name": "told",
        "vessels": {"v": {"run": "true"}},
        "notify": [{"on": ["SUCCESS"], "url": url, "secret": "signing"}],
    }));
    let told = api.start(&told);
    server.wait_until("the first attempt has failed", || receiver.received().len() == 1);
    let quick = api.start(&api.apply(&true_fleet("quick")));
    server.wait_until("what has ended is gone", || is_gone(&api, &quick));
    assert_eq!(receiver.received().len(), 1, "the second attempt is too early for this test");
    assert_eq!(ids(&api.all_runs()), [told.as_str(), running.as_str()]);
    server.crash_and_restart();
    let api = server.api();
    server.wait_until("what has been told is gone", || is_gone(&api, &told));
    assert_eq!(receiver.received().len(), 2);
    assert_eq!(ids(&api.all_runs()), [running.as_str()]);
    fs::write(&gate, "").unwrap();
    server.wait_until("all is gone", || api.all_runs().is_empty());
    assert_nothing_left(&mut server, &[running, told, quick]);
}

#[test]
fn a_removal_that_is_killed_goes_on_at_the_next_start() {
    let mut random = Random::seeded(Random::seed("killed removals"));
    let mut server = Server::builder().setting("keep_workdir", "always").start();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "f",
        "vessels": {"v": {"run": "seq 20000"}, "w": {"run": "echo hello"}},
        "keep_runs": "1s",
    }));
    let body = vec![b'x'; 2_000_000];
    let mut all: Vec<String> = Vec::new();
    for _ in 0..6 {
        all.extend((0..8).map(|_| hook.post(server.hooks(), &[], &body)));
        let api = server.api();
        // Some are being removed while others run.
        server.wait_until("a removal has begun", || is_gone(&api, &all[all.len() - 8]));
        std::thread::sleep(Duration::from_millis(random.below(40) as u64));
        server.crash_and_restart();
        // A run that is still there is whole.
        let api = server.api();
        for run in all.iter().filter(|run| !is_gone(&api, run)) {
            // One that goes while its body is being sent breaks the answer off.
            let answer = api.try_call("GET", &format!("/api/v1/runs/{run}/body"), None);
            let is_whole = answer.is_ok_and(|answer| answer.body == body);
            assert!(is_whole || is_gone(&api, run), "{run}");
        }
    }
    let api = server.api();
    server.wait_until("all are gone", || api.all_runs().is_empty());
    server.wait_until("their files are gone", || {
        let directories = ["output", "work"].map(|name| server.data_dir().join(name));
        directories.iter().all(|directory| count_files(directory) == 0)
    });
    server.crash_and_restart();
    server.wait_until("the rows are gone", || {
        server.api().get("/api/v1/overview").expect(200).data()["history_runs"] == 0
    });
    assert_nothing_left(&mut server, &all);
}

#[test]
fn the_versions_of_a_deleted_fleet_go_after_its_last_run() {
    let mut server = Server::builder().setting("keep_runs", "1s").start();
    let api = server.api();
    let gate = server.scratch().join("gate");
    let wait = format!("while [ ! -e {} ]; do sleep 0.02; done", gate.display());
    let large = "x".repeat(20_000);
    let version = |text: &str| json!({"name": "f", "vessels": {"v": {"run": format!("{wait}; # {text}{large}")}}});
    let fleet = api.apply(&version("one"));
    api.apply(&version("two"));
    let run = api.start(&fleet);
    let other = api.apply(&true_fleet("other"));
    api.delete(&format!("/api/v1/fleets/{fleet}")).expect(200);
    server.crash_and_restart();
    fs::write(&gate, "").unwrap();
    let api = server.api();
    server.wait_until("the run is gone", || is_gone(&api, &run));
    server.stop();
    server.start_again();
    assert_nothing_left(&mut server, &[run]);
    let (store, _committer) = store::open(server.data_dir()).unwrap();
    assert_eq!(store.fleets_with_versions().unwrap(), [other.parse().unwrap()]);
}

#[test]
fn versions_go_but_for_the_newest_and_those_that_runs_have() {
    let mut server = Server::builder().setting("keep_versions", "2").start();
    let api = server.api();
    let version = |number: usize| json!({"name": "edited", "vessels": {"v": {"run": format!("exit 0 # {number}")}}});
    let fleet = api.apply(&version(1));
    api.apply(&version(2));
    let run = api.start(&fleet);
    api.wait_status(&run, "Success");
    (3..=7).for_each(|number| _ = api.apply(&version(number)));
    let versions = |api: &Api| -> Vec<u64> {
        let listed = api.get(&format!("/api/v1/fleets/{fleet}/versions")).expect(200).data();
        listed.as_array().unwrap().iter().map(|it| it["version"].as_u64().unwrap()).collect()
    };
    assert_eq!(versions(&api), [7, 6, 5, 4, 3, 2, 1], "what is being accepted may need them");
    // A start has a pass.
    server.crash_and_restart();
    let api = server.api();
    server.wait_until("they are gone", || versions(&api) == [7, 6, 2]);
    let shown = api.run(&run);
    assert_eq!(
        (&shown["fleet_version"], &shown["vessels"][0]["vessel_name"]),
        (&json!(2), &json!("v"))
    );
    let gone = api.get(&format!("/api/v1/fleets/{fleet}/versions/3"));
    assert!(gone.status == 404 && gone.error().contains("keep_versions"), "{}", gone.text());
    api.post(&format!("/api/v1/fleets/{fleet}/versions/2/revert"), &json!({})).expect(201);
    // The id of a deleted fleet stays taken as long as it has versions.
    api.delete(&format!("/api/v1/fleets/{fleet}")).expect(200);
    let mut again = version(1);
    again["_id"] = json!(fleet);
    assert_ne!(api.apply(&again), fleet);
    assert_eq!(api.run(&run)["vessels"][0]["vessel_name"], "v");
}
