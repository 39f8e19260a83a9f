//! Fleets of several vessels: which run, in which order, and what becomes of the others.

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::{Api, Server};

/// The statuses of the run's vessels, by name in alphabetical order.
fn statuses(run: &Value) -> Vec<(String, String)> {
    let mut statuses: Vec<(String, String)> = run["vessels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vessel| {
            let text = |key: &str| vessel[key].as_str().unwrap().to_owned();
            (text("vessel_name"), text("status"))
        })
        .collect();
    statuses.sort();
    statuses
}

fn run_fleet(api: &Api, definition: &Value) -> Value {
    let run = api.start(&api.apply(definition));
    api.wait_ended(&run)
}

#[test]
fn a_diamond_runs_in_order_and_its_branches_side_by_side() {
    let server = Server::start();
    let api = server.api();
    let journal = server.journal("journal");
    // Each branch ends only when the other has started, and sees it in the shared directory.
    let branch = |mine: &str, other: &str| {
        let run = format!(
            "echo {mine} >> {journal}; touch {mine}; while [ ! -e {other} ]; do sleep 0.02; done"
        );
        json!({"run": run, "guardrails": {"runtime_cutoff": "1m"}})
    };
    let run = run_fleet(
        &api,
        &json!({
            "name": "diamond",
            "vessels": {
                "top": {"run": format!("echo top >> {journal}")},
                "left": branch("left", "right"),
                "right": branch("right", "left"),
                "bottom": {"run": format!("[ -e left ] && [ -e right ] && echo bottom >> {journal}")},
            },
            "connections": {
                "top": {"left": "SUCCESS", "right": "SUCCESS"},
                "left": {"bottom": "SUCCESS"},
                "right": {"bottom": "SUCCESS"},
            },
        }),
    );
    assert_eq!(run["status"], "Success", "{run:#}");
    let lines = journal.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!((lines[0].as_str(), lines[3].as_str()), ("top", "bottom"), "{lines:?}");
}

#[test]
fn paths_decide_what_runs() {
    let server = Server::start();
    let api = server.api();
    let vessels = json!({
        "fails": {"command": ["false"]},
        "works": {"command": ["true"]},
        "target": {"command": ["true"]},
        "after": {"command": ["true"]},
    });
    // (from the failing one, from the one that works, what becomes of the target)
    let cases = [
        ("SUCCESS", "SUCCESS", "Incomplete"),
        ("ERRORED", "SUCCESS", "Success"),
        ("COMPLETED", "SUCCESS", "Success"),
        ("COMPLETED", "COMPLETED", "Success"),
        ("ERRORED", "ERRORED", "Incomplete"),
        ("COMPLETED", "ERRORED", "Incomplete"),
    ];
    for (number, (failing, working, target)) in cases.iter().enumerate() {
        let run = run_fleet(
            &api,
            &json!({
                "name": format!("case {number}"),
                "vessels": vessels,
                "connections": {
                    "fails": {"target": failing},
                    "works": {"target": working},
                    "target": {"after": "COMPLETED"},
                },
            }),
        );
        let expected =
            [("after", *target), ("fails", "Errored"), ("target", *target), ("works", "Success")]
                .map(|(name, status)| (name.to_owned(), status.to_owned()));
        assert_eq!(statuses(&run), expected, "{failing} {working}");
        assert_eq!(run["status"], "Errored", "also on an intended error path");
        if *target == "Incomplete" {
            let vessel = vessel_of(&run, "target");
            assert!(vessel["started_at"].is_null(), "{vessel:#}");
            assert_eq!(vessel["attempt"], 0, "{vessel:#}");
        }
    }
}

#[test]
fn vessels_know_their_neighbours() {
    let server = Server::start();
    let api = server.api();
    let script = "echo $SHIPYARD_FLEET_UPSTREAM_VESSEL_IDS/$SHIPYARD_FLEET_CURRENTSTREAM_VESSEL_IDS\
                  /$SHIPYARD_FLEET_DOWNSTREAM_VESSEL_IDS/$SHIPYARD_FLEET_CURRENTSTREAM_INDEX\
                  /$SHIPYARD_FLEET_UPSTREAM_LOG_IDS/$SHIPYARD_FLEET_CURRENTSTREAM_COUNT";
    let vessel = json!({"run": script});
    let run = run_fleet(
        &api,
        &json!({
            "name": "neighbours",
            "vessels": {"a": vessel, "b": vessel, "c": vessel, "d": vessel},
            "connections": {
                "a": {"b": "SUCCESS", "c": "SUCCESS"},
                "b": {"d": "SUCCESS"},
                "c": {"d": "SUCCESS"},
            },
        }),
    );
    assert_eq!(run["status"], "Success", "{run:#}");
    let id = |name: &str, key: &str| vessel_of(&run, name)[key].as_str().unwrap().to_owned();
    let fields = |name: &str| {
        let output = api.output(&run, name);
        output.trim_end().split('/').map(str::to_owned).collect::<Vec<_>>()
    };
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };

    let top = fields("a");
    assert_eq!(top[0], "");
    assert_eq!(sorted(list(&top[2])), sorted(vec![id("b", "vessel_id"), id("c", "vessel_id")]));
    for name in ["b", "c"] {
        let fields = fields(name);
        assert_eq!(fields[0], id("a", "vessel_id"));
        assert_eq!(fields[2], id("d", "vessel_id"));
        assert_eq!(fields[4], id("a", "id"));
        assert_eq!(fields[5], "2");
        let index: usize = fields[3].parse().unwrap();
        assert_eq!(list(&fields[1])[index], id(name, "vessel_id"));
    }
    let (upstream, logs) = (list(&fields("d")[0]), list(&fields("d")[4]));
    for (vessel, log) in upstream.iter().zip(&logs) {
        let name = if *vessel == id("b", "vessel_id") { "b" } else { "c" };
        assert_eq!(*log, id(name, "id"), "orders match");
    }
}

#[test]
fn a_fleet_need_not_be_connected() {
    let server = Server::start();
    let api = server.api();
    let run = run_fleet(
        &api,
        &json!({
            "name": "islands",
            "vessels": {"a": {"command": ["true"]}, "b": {"command": ["false"]}, "c": {"command": ["true"]}},
            "connections": {"a": {"c": "SUCCESS"}},
        }),
    );
    let expected = [("a", "Success"), ("b", "Errored"), ("c", "Success")]
        .map(|(name, status)| (name.to_owned(), status.to_owned()));
    assert_eq!(statuses(&run), expected);
    assert_eq!(run["status"], "Errored");
}

#[test]
fn stopping_outranks_errors_and_keeps_the_rest_from_starting() {
    let server = Server::start();
    let api = server.api();
    let journal = server.journal("journal");
    let fleet = api.apply(&json!({
        "name": "stopped",
        "vessels": {
            "fails": {"command": ["false"]},
            "hangs": {"run": format!("echo hangs >> {journal}; exec sleep 100000")},
            "next": {"run": format!("echo next >> {journal}")},
            "free": {"run": format!("echo free >> {journal}")},
        },
        "connections": {"hangs": {"next": "COMPLETED"}, "fails": {"free": "ERRORED"}},
    }));

    let run = api.start(&fleet);
    journal.wait_for_line("hangs");
    journal.wait_for_line("free");
    api.call("POST", &format!("/api/v1/runs/{run}/stop"), None).expect(200);
    let ended = api.wait_status(&run, "Terminated");
    assert_eq!(vessel_of(&ended, "hangs")["status"], "Terminated");
    assert_eq!(vessel_of(&ended, "next")["status"], "Terminated");
    assert_eq!(vessel_of(&ended, "fails")["status"], "Errored");
    assert!(!journal.lines().contains(&"next".to_owned()));

    // One vessel of a run: what hangs on it goes with it, the others go on.
    std::fs::remove_file(journal.path()).unwrap();
    let run = api.start(&fleet);
    journal.wait_for_line("hangs");
    let vessel = vessel_of(&api.run(&run), "hangs")["id"].as_str().unwrap().to_owned();
    api.call("POST", &format!("/api/v1/vessel-runs/{vessel}/stop"), None).expect(200);
    let ended = api.wait_status(&run, "Terminated");
    assert_eq!(vessel_of(&ended, "next")["status"], "Terminated");
    assert_eq!(vessel_of(&ended, "free")["status"], "Success");
    assert!(!journal.lines().contains(&"next".to_owned()));
}

#[test]
fn concurrency_limits_the_runs_of_a_fleet() {
    let server = Server::start();
    let api = server.api();
    let lock = server.scratch().join("lock");
    let script = format!("mkdir {0} || exit 7; sleep 0.05; rmdir {0}", lock.display());
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "one by one", "concurrency": 1, "vessels": {"alone": {"run": script}},
    }));
    let runs: Vec<String> = (0..8).map(|_| hook.post(server.hooks(), &[], b"")).collect();
    for run in runs {
        api.wait_status(&run, "Success");
    }
}
