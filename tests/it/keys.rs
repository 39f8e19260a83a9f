//! Runs that belong together: `concurrency_key`, `overlap: cancel` and `debounce`.

use std::collections::BTreeMap;
use std::thread;

use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::api::{is_final, vessel_of};

/// A body of this key.
fn body(key: &str, number: usize) -> Vec<u8> {
    json!({"key": key, "number": number}).to_string().into_bytes()
}

fn reason(run: &Value) -> &str {
    run["reason"].as_str().unwrap_or_default()
}

#[test]
fn a_thousand_pushes_on_ten_keys_run_one_at_a_time_and_in_order_for_each_key() {
    let server = Server::builder().setting("workers", "8").start();
    let journal = server.journal("journal");
    let locks = server.scratch().display().to_string();
    // A directory is made once: a run that finds it there meets another one of its key.
    let script = format!(
        "mkdir {locks}/lock-$KEY || echo overlap >> {journal}; echo $KEY $NUMBER >> {journal}; \
         rmdir {locks}/lock-$KEY"
    );
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "ordered", "concurrency_key": "body.key",
        "vessels": {"v": {"run": script, "environment": {
            "KEY": {"expr": "body.key"}, "NUMBER": {"expr": "body.number"},
        }}},
    }));
    let (address, hook) = (server.hooks(), &hook);
    let pushes = move |key: usize| {
        for number in 0..100 {
            hook.post(address, &[], &body(&format!("k{key}"), number));
        }
    };
    thread::scope(|scope| (0..10).for_each(|key| _ = scope.spawn(move || pushes(key))));
    server.wait_until("all runs have ended", || journal.lines().len() >= 1_000);
    let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for line in journal.lines() {
        let (key, number) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        by_key.entry(key.to_owned()).or_default().push(number.parse().unwrap());
    }
    assert_eq!(by_key.len(), 10);
    for (key, numbers) in by_key {
        assert!(numbers.iter().copied().eq(0..100), "{key} ran in the order {numbers:?}");
    }
    let ended = server.wait_all_ended();
    assert_eq!(ended.iter().filter(|run| run["status"] == "Success").count(), 1_000);
}

#[test]
fn a_newer_run_stops_the_one_of_its_key_that_runs_and_no_other() {
    let server = Server::start();
    let api = server.api();
    let journal = server.journal("journal");
    let script = format!("echo $KEY $NUMBER >> {journal}; [ $NUMBER = 9 ] || exec sleep 1000; cat");
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "cancels", "concurrency_key": "body.key", "overlap": "cancel",
        "vessels": {
            "v": {"run": script, "environment": {
                "KEY": {"expr": "body.key"}, "NUMBER": {"expr": "body.number"},
            }},
            "w": {"command": ["true"]},
        },
        "connections": {"v": {"w": "COMPLETED"}},
    }));
    let post = |key: &str, number| hook.post(server.hooks(), &[], &body(key, number));
    let (other, first) = (post("b", 1), post("a", 1));
    journal.wait_for_line("a 1");
    journal.wait_for_line("b 1");
    let second = post("a", 2);
    let stopped = api.wait_status(&first, "Terminated");
    let why = format!("gave way to the newer run {second} (overlap: cancel)");
    assert_eq!(reason(&stopped), format!("v: {why}"));
    for name in ["v", "w"] {
        let vessel = vessel_of(&stopped, name);
        assert_eq!((&vessel["status"], reason(vessel)), (&json!("Terminated"), why.as_str()));
    }
    journal.wait_for_line("a 2");
    let last = post("a", 9);
    api.wait_status(&second, "Terminated");
    let last = api.wait_status(&last, "Success");
    assert_eq!(last["concurrency_key"], "a");
    assert_eq!(api.output(&last, "v").into_bytes(), body("a", 9));
    assert_eq!(api.run(&other)["status"], "Running");
}

#[test]
fn requests_without_the_field_share_one_key_and_long_values_stay_apart() {
    let server = Server::start();
    let api = server.api();
    let (fleet, hook) = server.fleet_with_webhook(&json!({
        "name": "shared", "concurrency_key": "body.key", "overlap": "skip",
        "vessels": {"v": {"command": ["sleep", "1000"]}},
    }));
    let post = |body: &[u8]| hook.post(server.hooks(), &[], body);
    let wait_running = |run: &str| {
        server.wait_until("the run has started", || api.run(run)["status"] == "Running");
        api.run(run)
    };
    wait_running(&api.start(&fleet));
    for body in [&b"{}"[..], b"no JSON", b"{\"key\": null}", b"{\"other\": 1}"] {
        let skipped = api.wait_status(&post(body), "Incomplete");
        assert!(reason(&skipped).starts_with("skipped: 1 of this fleet's runs were"), "{skipped}");
    }
    // A replay has the key of the request.
    let long = |last: &str| body(&format!("{}{last}", "x".repeat(300)), 1);
    let (one, two) = (post(&long("1")), post(&long("2")));
    let running = [&one, &two].map(|run| wait_running(run));
    let keys = running.map(|run| run["concurrency_key"].as_str().unwrap().to_owned());
    assert!(keys[0] != keys[1] && keys[0].len() <= 200, "{keys:?}");
    let again = api.post(&format!("/api/v1/runs/{one}/replay"), &json!({})).expect(201).data();
    let again = api.wait_status(again["fleet_run_id"].as_str().unwrap(), "Incomplete");
    assert_eq!(again["concurrency_key"], keys[0].as_str());
    // A key that cannot be computed loses no request.
    let fleet = json!({
        "name": "failing", "concurrency_key": "body.key + 1", "vessels": {"v": {"run": "true"}},
    });
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let run = api.wait_status(&hook.post(server.hooks(), &[], &body("a", 1)), "Success");
    assert_eq!(run["note"]["reason"], "concurrency_key_failed");
    assert_eq!(run["concurrency_key"], Value::Null);
}

/// A fleet that waits for more requests of a key.
fn debounced(name: &str, debounce: Value) -> Value {
    json!({
        "name": name, "concurrency_key": "body.key", "debounce": debounce,
        "vessels": {"v": {"run": "cat"}},
    })
}

#[test]
fn the_newest_of_many_requests_runs_for_each_key() {
    let server = Server::start();
    let api = server.api();
    let (_, hook) =
        server.fleet_with_webhook(&debounced("newest", json!({"wait": "1s", "max_wait": "10s"})));
    let (address, hook) = (server.hooks(), &hook);
    let pushes = move |key: usize| {
        let posts =
            (0..100).map(|number| hook.post(address, &[], &body(&format!("k{key}"), number)));
        posts.collect::<Vec<_>>()
    };
    let pushed: Vec<Vec<String>> = thread::scope(|scope| {
        let started: Vec<_> = (0..10).map(|key| scope.spawn(move || pushes(key))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (key, runs) in pushed.iter().enumerate() {
        let newest = api.wait_ended(&runs[99]);
        assert_eq!(newest["status"], "Success", "{newest}");
        assert_eq!(api.output(&newest, "v").into_bytes(), body(&format!("k{key}"), 99));
    }
    let ended = server.wait_all_ended();
    assert_eq!(ended.len(), 1_000);
    let place: BTreeMap<&str, usize> =
        pushed.iter().flatten().enumerate().map(|(place, run)| (run.as_str(), place)).collect();
    let mut given_way = 0;
    for run in ended.iter().filter(|run| run["status"] != "Success") {
        let id = run["id"].as_str().unwrap();
        let newer = reason(run).strip_prefix("gave way to the newer run ").unwrap_or_default();
        let newer = newer.strip_suffix(" (debounce)").unwrap_or_else(|| panic!("{run}"));
        // Each thread has pushed one key, in order.
        assert_eq!(place[newer], place[id] + 1, "{id} names {newer}");
        assert_eq!((&run["status"], &run["started_at"]), (&json!("Incomplete"), &Value::Null));
        given_way += 1;
    }
    assert!(given_way > 500, "{given_way} of 1,000 gave way to others");
}

#[test]
fn a_crash_in_the_middle_of_a_debounce_loses_nothing() {
    let mut server = Server::start();
    let fleets = [("short", "3s", "30s"), ("long", "1h", "2h")]
        .map(|(name, wait, max_wait)| debounced(name, json!({"wait": wait, "max_wait": max_wait})));
    let hooks = fleets.map(|fleet| server.fleet_with_webhook(&fleet).1);
    let post = |server: &Server, hook: usize, key: &str, number| {
        hooks[hook].post(server.hooks(), &[], &body(key, number))
    };
    let older = post(&server, 0, "a", 1);
    let newer = [post(&server, 0, "a", 2), post(&server, 0, "b", 3)];
    let (first, held) = (post(&server, 1, "a", 1), post(&server, 1, "a", 2));
    let before = server.api().run(&held);
    server.crash_and_restart();
    let api = server.api();
    assert_eq!(
        reason(&api.wait_status(&older, "Incomplete")),
        format!("gave way to the newer run {} (debounce)", newer[0])
    );
    for (run, (key, number)) in newer.iter().zip([("a", 2), ("b", 3)]) {
        let run = api.wait_status(run, "Success");
        assert_eq!(api.output(&run, "v").into_bytes(), body(key, number));
        let time = |key: &str| run[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let waited = time("started_at").duration_since(time("queued_at"));
        assert!(waited.as_secs() >= 3, "it has waited for {waited:?}");
        assert_eq!(run["waits_until"], Value::Null);
    }
    // It waits as before.
    assert_eq!(api.run(&first)["status"], "Incomplete");
    let after = api.run(&held);
    assert_eq!(
        (&after["status"], &after["waits_until"]),
        (&json!("Scheduled"), &before["waits_until"])
    );
    let until = after["waits_until"].as_str().unwrap();
    assert_eq!(reason(&after), format!("waits until {until} for more of key a (debounce)"));
    // A run by hand does not wait, nor does it end the one that waits.
    let fleet = after["fleet_id"].as_str().unwrap();
    let by_hand = api.post(&format!("/api/v1/fleets/{fleet}/runs?trigger=on_demand"), &json!({}));
    let by_hand = by_hand.expect(201).data()["fleet_run_id"].as_str().unwrap().to_owned();
    api.wait_status(&by_hand, "Success");
    assert!(!is_final(&api.run(&held)));
    api.post(&format!("/api/v1/runs/{held}/stop"), &json!({})).expect(200);
    assert_eq!(api.run(&held)["status"], "Terminated");
    // The key holds nothing any more.
    let next = post(&server, 1, "a", 3);
    assert_eq!(api.run(&next)["status"], "Scheduled");
}
