//! Runs of one fleet side by side and in a row, and fleets that share the workers.

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::server::finish;
use crate::harness::{Api, Journal, Server};

/// A vessel that notes `start` in the journal and ends once the file `gate` is there.
fn gated(journal: &Journal, server: &Server) -> Value {
    let gate = server.scratch().join("gate");
    let run = format!(
        "echo start >> {journal}; while [ ! -e {} ]; do sleep 0.02; done; cat",
        gate.display()
    );
    json!({"v": {"run": run}, "w": {"command": ["true"]}})
}

fn open_gate(server: &Server) {
    std::fs::write(server.scratch().join("gate"), "").unwrap();
}

#[test]
fn a_run_that_comes_too_many_is_skipped_and_can_be_seen() {
    let mut server = Server::start();
    let journal = server.journal("journal");
    // Without a number, `overlap` means one at a time.
    let (fleet, hook) = server.fleet_with_webhook(&json!({
        "name": "skips", "vessels": gated(&journal, &server), "overlap": "skip",
    }));
    let api = server.api();
    let first = hook.post(server.hooks(), &[], b"first");
    journal.wait_for_line("start");
    let second = hook.post(server.hooks(), &[], b"second");
    let skipped = api.wait_status(&second, "Incomplete");
    let reason = skipped["reason"].as_str().unwrap();
    assert!(reason.starts_with("skipped: 1 of this fleet's runs"), "{reason}");
    assert!(skipped["started_at"].is_null() && !skipped["ended_at"].is_null(), "{skipped:#}");
    for name in ["v", "w"] {
        assert_eq!(vessel_of(&skipped, name)["status"], "Incomplete");
    }
    let listed = api.get(&format!("/api/v1/runs?fleet={fleet}&status=Incomplete")).data();
    assert_eq!(listed[0]["id"], second.as_str());
    let (code, _, _) = finish(server.cli(&["runs", "logs", &second, "--follow"]));
    assert_eq!(code, 5, "Incomplete");

    // A replay is a run like any other; what was skipped can be had later.
    server.crash_and_restart();
    open_gate(&server);
    let api = server.api();
    api.wait_status(&first, "Success");
    assert_eq!(api.run(&second)["status"], "Incomplete");
    let again = api.post(&format!("/api/v1/runs/{second}/replay"), &json!({})).expect(201).data();
    let again = api.wait_status(again["fleet_run_id"].as_str().unwrap(), "Success");
    assert_eq!(api.output(&again, "v"), "second");
}

#[test]
fn the_run_that_waits_gives_way_to_the_newest() {
    let server = Server::start();
    let journal = server.journal("journal");
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "replaces", "vessels": gated(&journal, &server),
        "concurrency": 1, "overlap": "replace",
    }));
    let api = server.api();
    let first = hook.post(server.hooks(), &[], b"1");
    journal.wait_for_line("start");
    let rest: Vec<String> = (2..6)
        .map(|number| hook.post(server.hooks(), &[], number.to_string().as_bytes()))
        .collect();
    for pair in rest.windows(2) {
        let replaced = api.wait_status(&pair[0], "Incomplete");
        let reason = replaced["reason"].as_str().unwrap();
        assert_eq!(reason, format!("gave way to the newer run {} (overlap: replace)", pair[1]));
    }
    open_gate(&server);
    api.wait_status(&first, "Success");
    let last = api.wait_status(rest.last().unwrap(), "Success");
    assert_eq!(api.output(&last, "v"), "5");
}

/// Starts `count` runs of a fleet, and waits for none.
fn start_many(api: &Api, fleet: &str, count: usize) -> Vec<String> {
    (0..count).map(|_| api.start(fleet)).collect()
}

/// A server with one worker, which hangs until the gate opens: (server, journal).
fn one_busy_worker() -> (Server, Journal) {
    let server = Server::builder().setting("workers", "1").start();
    let journal = server.journal("busy");
    let vessels = gated(&journal, &server);
    let api = server.api();
    api.start(&api.apply(&json!({"name": "busy", "vessels": vessels, "priority": 10})));
    journal.wait_for_line("start");
    let order = server.journal("order");
    (server, order)
}

#[test]
fn a_long_line_of_one_fleet_does_not_hold_up_another() {
    let (server, order) = one_busy_worker();
    let api = server.api();
    let note = |name: &str| json!({"run": format!("echo {name} >> {order}")});
    let long = api.apply(&json!({
        "name": "long",
        "vessels": {"1": note("long"), "2": note("long"), "3": note("long")},
        "connections": {"1": {"2": "SUCCESS"}, "2": {"3": "SUCCESS"}},
    }));
    let mut runs = start_many(&api, &long, 20);
    let other = api.apply(&json!({"name": "other", "vessels": {"v": note("other")}}));
    runs.extend(start_many(&api, &other, 2));
    open_gate(&server);
    for run in &runs {
        api.wait_status(run, "Success");
    }
    let lines = order.lines();
    let turns: Vec<usize> = (0..lines.len()).filter(|line| lines[*line] == "other").collect();
    assert!(turns[0] <= 1 && turns[1] <= 3, "{turns:?}");
    assert_eq!(lines.len(), 62);
}

#[test]
fn a_higher_priority_goes_first() {
    let (server, order) = one_busy_worker();
    let api = server.api();
    let mut runs = Vec::new();
    for (name, priority, count) in [("low", -5, 4), ("usual", 0, 4), ("high", 5, 14)] {
        let vessel = json!({"run": format!("echo {name} >> {order}")});
        let fleet = api.apply(&json!({
            "name": name, "vessels": {"v": vessel}, "priority": priority,
        }));
        runs.extend(start_many(&api, &fleet, count));
    }
    open_gate(&server);
    for run in &runs {
        api.wait_status(run, "Success");
    }
    let lines = order.lines();
    let place = |name: &str| lines.iter().position(|line| line == name).unwrap();
    assert_eq!(lines.iter().filter(|line| *line == "high").count(), 14);
    // One start of eight is for the fleet that has waited longest, so that none waits for ever.
    let early = lines[..14].iter().filter(|line| *line == "high").count();
    assert!((11..=13).contains(&early), "{lines:?}");
    assert!(place("high") < place("usual").min(place("low")), "{lines:?}");
}
