//! Replays: the same request again, with the fleet as it is now.

use std::fs;

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::http::{exchange, post_request};
use crate::harness::server::finish;
use crate::harness::{Answer, Api, Journal, Random, Server, assert_error, sha256};

fn try_replay(api: &Api, run: &str, body: &Value) -> Answer {
    api.post(&format!("/api/v1/runs/{run}/replay"), body)
}

#[track_caller]
fn replay(api: &Api, run: &str, body: &Value) -> String {
    let data = try_replay(api, run, body).expect(201).data();
    data["fleet_run_id"].as_str().unwrap().to_owned()
}

fn from(vessel: &str) -> Value {
    json!({"from": vessel})
}

/// The statuses of the run's vessels, in the order of the fleet.
fn statuses(run: &Value) -> Vec<&str> {
    let vessels = run["vessels"].as_array().unwrap();
    vessels.iter().map(|vessel| vessel["status"].as_str().unwrap()).collect()
}

#[test]
fn a_replay_is_sent_what_the_run_was_sent() {
    let mut server = Server::start();
    let script =
        "sha256sum | cut -d' ' -f1; sha256sum < $SHIPYARD_WEBHOOK_BODY_FILE | cut -d' ' -f1
        cat $SHIPYARD_WEBHOOK_HEADERS_FILE; echo; echo $BOATHOOK_WEBHOOK_QUERY
        echo $BOATHOOK_REMOTE_ADDR >&2";
    let (fleet, hook) = server.fleet_with_webhook(&json!({
        "name": "repeated", "vessels": {"v": {"run": script}},
    }));
    let api = server.api();
    // Several slices of the database, and what is no text.
    let body = Random::seeded(7).bytes(3_000_001);
    let headers = [("Content-Type", "image/odd"), ("X-Many", "one"), ("X-Many", "two")];
    let request = post_request(&format!("{}?a=b&c=%20d", hook.target()), &headers, &body);
    let data = exchange(server.hooks(), &request).unwrap().expect(201).data();
    let origin = api.wait_status(data["fleet_run_id"].as_str().unwrap(), "Success");
    let id = origin["id"].as_str().unwrap();

    let answer = try_replay(&api, id, &json!({})).expect(201).data();
    assert_eq!(answer["fleet_id"], fleet.as_str());
    let again = answer["fleet_run_id"].as_str().unwrap();
    assert_ne!(again, id);
    let again = api.wait_status(again, "Success");
    assert_eq!((&again["trigger"], &again["replay_of"]), (&json!("replay"), &json!(id)));
    assert_eq!(api.output(&again, "v"), api.output(&origin, "v"));
    assert!(api.output(&again, "v").starts_with(&sha256(&body)));
    let read = |run: &Value, what: &str| {
        api.get(&format!("/api/v1/runs/{}/{what}", run["id"].as_str().unwrap())).expect(200).body
    };
    assert_eq!(read(&again, "body"), body);
    let parameters =
        |run| serde_json::from_slice::<Value>(&read(run, "webhook-parameters")).unwrap();
    assert_eq!(parameters(&again)["data"], parameters(&origin)["data"]);

    // Also after a crash, without a body to send along, and as the replay of a replay.
    server.crash_and_restart();
    let api = server.api();
    let path = format!("/api/v1/runs/{}/replay", again["id"].as_str().unwrap());
    let third = api.call("POST", &path, None).expect(201).data();
    let third = api.wait_status(third["fleet_run_id"].as_str().unwrap(), "Success");
    assert_eq!(third["replay_of"], again["id"]);
    assert_eq!(api.output(&third, "v"), api.output(&origin, "v"));
    let listed = api.get("/api/v1/runs?trigger=replay").expect(200).data();
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

#[test]
fn a_replay_keeps_the_overrides_and_its_origin_while_it_waits() {
    let mut server = Server::builder().setting("workers", "1").start();
    let api = server.api();
    let journal = server.journal("journal");
    let script = format!("echo $WHO $BOATHOOK_TRIGGER >> {journal}");
    let fleet = api.apply(&json!({
        "name": "overridden",
        "vessels": {"v": {"run": script, "environment": {"WHO": "own"}}, "w": {"command": ["false"]}},
    }));
    let overrides = json!({"vessel_overrides": [
        {"name": "v", "environment_variable_overrides": {"WHO": "other"}},
        {"name": "w", "environment_variable_overrides": {"SHIPYARD_OVERRIDE_STATUS": "SUCCESS"}},
    ]});
    let origin = api.start_with(&fleet, &overrides);
    api.wait_status(&origin, "Success");

    let blocked = server.journal("blocked");
    let block =
        format!("[ $BOATHOOK_ATTEMPT = 2 ] || {{ echo on >> {blocked}; exec sleep 100000; }}");
    api.start(&api.apply(&json!({"name": "block", "vessels": {"v": {"run": block}}})));
    blocked.wait_for_line("on");
    let again = replay(&api, &origin, &json!({}));
    assert_eq!(api.run(&again)["replay_of"], origin.as_str());
    server.crash_and_restart();
    let again = server.api().wait_status(&again, "Success");
    assert_eq!(again["replay_of"], origin.as_str());
    assert_eq!(again["trigger"], "replay");
    assert_eq!(journal.lines(), ["other on_demand", "other replay"]);
    let path = format!("/api/v1/runs/{}/webhook-parameters", again["id"].as_str().unwrap());
    assert_error(&server.api().get(&path), 404);

    // A vessel that is named runs, though the replayed run skipped it.
    let api = server.api();
    let named = api.wait_status(&replay(&api, &origin, &from("w")), "Errored");
    assert_eq!(vessel_of(&named, "w")["reason"], "exit code 1");
}

/// Vessels in a row that note their names; `b` fails unless `mended`. And another one, which fails.
fn row(journal: &Journal, mended: bool) -> Value {
    let note = |name: &str| format!("echo {name} $BOATHOOK_TRIGGER >> {journal}");
    let end = if mended { "cat" } else { "exit 4" };
    json!({
        "name": "row",
        "vessels": {
            "a": {"run": note("a")},
            "b": {"run": format!("{}; {end}", note("b"))},
            "c": {"run": note("c")},
            "other": {"run": format!("{}; exit 5", note("other"))},
        },
        "connections": {"a": {"b": "SUCCESS"}, "b": {"c": "SUCCESS"}},
    })
}

#[test]
fn a_replay_from_a_vessel_takes_the_others_over() {
    let mut server = Server::start();
    let journal = server.journal("journal");
    let api = server.api();
    let (fleet, hook) = server.fleet_with_webhook(&row(&journal, false));
    let origin = hook.post(server.hooks(), &[], b"the body");
    let ended = api.wait_status(&origin, "Errored");
    assert_eq!(statuses(&ended), ["Success", "Errored", "Incomplete", "Errored"]);

    fs::remove_file(journal.path()).unwrap();
    api.apply(&row(&journal, true));
    let again = api.wait_status(&replay(&api, &origin, &from("b")), "Success");
    assert_eq!(again["fleet_version"], 2, "the fleet as it is now");
    assert_eq!(journal.lines(), ["b replay", "c replay"]);
    assert_eq!(statuses(&again), ["Success", "Success", "Success", "Errored"]);
    assert_eq!(api.output(&again, "b"), "the body");
    for (name, exit_code) in [("a", 0), ("other", 5)] {
        let vessel = vessel_of(&again, name);
        assert_eq!(vessel["exit_code"], exit_code, "{vessel:#}");
        assert_eq!(vessel["reason"], "skipped: as in the replayed run");
        let line = "Vessel has been skipped: it counts as in the replayed run.\n";
        assert_eq!(api.output(&again, name), line);
    }

    // A replay of the replay as a whole takes nothing over.
    fs::remove_file(journal.path()).unwrap();
    let whole =
        api.wait_status(&replay(&api, again["id"].as_str().unwrap(), &json!({})), "Errored");
    assert_eq!(statuses(&whole), ["Success", "Success", "Success", "Errored"]);
    let mut lines = journal.lines();
    lines.sort();
    assert_eq!(lines, ["a replay", "b replay", "c replay", "other replay"]);

    // Of a fleet that is gone, the version that the run had.
    api.delete(&format!("/api/v1/fleets/{fleet}")).expect(200);
    server.crash_and_restart();
    let api = server.api();
    fs::remove_file(journal.path()).unwrap();
    let again = api.wait_status(&replay(&api, &origin, &from("b")), "Errored");
    assert_eq!(
        (&again["fleet_version"], journal.lines()),
        (&json!(1), vec!["b replay".to_owned()])
    );
}

#[test]
fn a_branch_of_a_diamond_can_be_replayed() {
    let server = Server::start();
    let api = server.api();
    let journal = server.journal("journal");
    let vessel = |name: &str| json!({"run": format!("echo {name} >> {journal}")});
    let fleet = api.apply(&json!({
        "name": "diamond",
        "vessels": {
            "top": vessel("top"),
            "left": vessel("left"),
            "right": vessel("right"),
            "bottom": vessel("bottom"),
        },
        "connections": {
            "top": {"left": "SUCCESS", "right": "SUCCESS"},
            "left": {"bottom": "SUCCESS"},
            "right": {"bottom": "COMPLETED"},
        },
    }));
    let origin = api.start(&fleet);
    api.wait_status(&origin, "Success");
    fs::remove_file(journal.path()).unwrap();
    let again = api.wait_status(&replay(&api, &origin, &from("left")), "Success");
    assert_eq!(journal.lines(), ["left", "bottom"]);
    assert_eq!(statuses(&again), ["Success"; 4]);
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let server = Server::start();
    let api = server.api();
    let journal = server.journal("journal");
    let fleet = api.apply(&row(&journal, false));
    let origin = api.start(&fleet);
    api.wait_status(&origin, "Errored");
    let message = |answer: Answer, status| {
        assert_error(&answer, status);
        answer.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    let said = message(try_replay(&api, &origin, &from("c")), 422);
    assert!(
        said.contains("\"c\" would not start") && said.contains("\"b\" counts as Errored"),
        "{said}"
    );
    let said = message(try_replay(&api, &origin, &from("d")), 422);
    assert!(said.contains("from: the fleet has no vessel \"d\" in version 1"), "{said}");
    assert_error(&try_replay(&api, &origin, &json!({"form": "b"})), 422);
    assert_error(&try_replay(&api, &origin, &json!({"from": 1})), 422);
    let nobody = uuid::Uuid::nil().to_string();
    assert_error(&try_replay(&api, &nobody, &json!({})), 404);

    let hangs = format!("echo hangs >> {journal}; exec sleep 100000");
    let fleet = api.apply(&json!({"name": "hangs", "vessels": {"v": {"run": hangs}}}));
    let running = api.start(&fleet);
    journal.wait_for_line("hangs");
    let said = message(try_replay(&api, &running, &from("v")), 409);
    assert!(said.contains("has not ended"), "{said}");
    // The whole of it can be had at once.
    let again = replay(&api, &running, &json!({}));
    for run in [running, again] {
        api.call("POST", &format!("/api/v1/runs/{run}/stop"), None).expect(200);
        api.wait_status(&run, "Terminated");
    }
    assert_eq!(api.all_runs().len(), 3, "what was refused left no run");
}

#[test]
fn the_command_line_replays() {
    let server = Server::start();
    let journal = server.journal("journal");
    let api = server.api();
    let origin = api.start(&api.apply(&row(&journal, false)));
    api.wait_status(&origin, "Errored");
    api.apply(&row(&journal, true));
    for (arguments, status) in [(&[][..], "Errored"), (&["--from", "b"], "Success")] {
        let arguments = [&["runs", "replay", &origin[24..]], arguments].concat();
        let (code, stdout, stderr) = finish(server.cli(&arguments));
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains("runs logs"), "says what to do next: {stderr}");
        api.wait_status(stdout.trim_end(), status);
    }
    let (code, _, stderr) = finish(server.cli(&["runs", "replay", &origin, "--from", "nobody"]));
    assert_eq!(code, 1);
    assert!(stderr.contains("nobody"), "{stderr}");
}
