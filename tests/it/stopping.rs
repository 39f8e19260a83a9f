//! Stopping runs and vessels: what has not started never does, and who comes first decides.

use serde_json::{Value, json};

use crate::harness::api::{is_final, vessel_of};
use crate::harness::{Api, Server, assert_error};

#[track_caller]
fn stop(api: &Api, run: &str) -> Value {
    api.call("POST", &format!("/api/v1/runs/{run}/stop"), None).expect(200).data()
}

#[test]
fn a_queued_run_is_stopped_without_ever_starting() {
    let mut server = Server::builder().setting("workers", "1").start();
    let api = server.api();
    let journal = server.journal("journal");
    let script = format!("echo $WHO >> {journal}; exec sleep 100000");
    let fleet = api.apply(&json!({
        "name": "queued", "vessels": {"v": {"run": script}, "w": {"command": ["true"]}},
        "connections": {"v": {"w": "COMPLETED"}},
    }));
    let with_name = |name: &str| json!({"vessel_overrides": [{"name": "v", "environment_variable_overrides": {"WHO": name}}]});
    let running = api.start_with(&fleet, &with_name("running"));
    journal.wait_for_line("running");
    let queued = api.start_with(&fleet, &with_name("queued"));
    let last = api.start_with(&fleet, &with_name("last"));

    let vessel = vessel_of(&api.run(&queued), "v")["id"].as_str().unwrap().to_owned();
    let answer = api.call("POST", &format!("/api/v1/vessel-runs/{vessel}/stop"), None);
    assert_error(&answer, 409);
    let stopped = stop(&api, &queued);
    assert_eq!((&stopped["status"], &stopped["started_at"]), (&json!("Terminated"), &Value::Null));
    assert_eq!(stopped["reason"], "stopped before it could start");
    for name in ["v", "w"] {
        let vessel = vessel_of(&stopped, name);
        assert_eq!((&vessel["status"], &vessel["attempt"]), (&json!("Terminated"), &json!(0)));
    }
    assert_eq!(stop(&api, &queued), stopped, "a second stop changes nothing");

    server.crash_and_restart();
    let api = server.api();
    assert_eq!(api.run(&queued), stopped);
    stop(&api, &running);
    api.wait_status(&running, "Terminated");
    journal.wait_for_line("last");
    stop(&api, &last);
    api.wait_status(&last, "Terminated");
    assert!(!journal.lines().contains(&"queued".to_owned()));
}

#[test]
fn a_stop_and_a_natural_end_have_one_winner() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({
        "name": "race",
        "vessels": {"v": {"command": ["true"]}, "w": {"command": ["true"]}},
        "connections": {"v": {"w": "COMPLETED"}},
    }));
    let mut seen = [0, 0];
    for round in 0..60 {
        let run = api.start(&fleet);
        std::thread::sleep(std::time::Duration::from_micros(300 * round));
        let answer = stop(&api, &run);
        let ended = api.wait_ended(&run);
        if is_final(&answer) {
            assert_eq!(ended, answer, "what has ended stays as it is");
        }
        let status = |name: &str| vessel_of(&ended, name)["status"].as_str().unwrap().to_owned();
        let expected = match (status("v").as_str(), status("w").as_str()) {
            ("Success", "Success") => "Success",
            ("Success" | "Terminated", "Terminated") => "Terminated",
            other => panic!("{other:?}: {ended:#}"),
        };
        assert_eq!(ended["status"], expected, "{ended:#}");
        seen[usize::from(expected == "Success")] += 1;
        assert_eq!(stop(&api, &run), ended);
    }
    assert!(seen[0] > 0, "no stop came first: {seen:?}");
}

#[test]
fn a_vessel_that_ends_by_itself_after_its_stop_is_terminated() {
    let server = Server::start();
    let api = server.api();
    let journal = server.journal("journal");
    // Takes its time, and then exits with 0.
    let script = format!(
        "trap 'sleep 0.2; exit 0' TERM; echo on >> {journal}; while :; do sleep 0.02; done"
    );
    let guardrails = json!({"retry_count": 5});
    let fleet = api.apply(&json!({
        "name": "polite",
        "vessels": {
            "v": {"run": script, "guardrails": guardrails},
            "below": {"command": ["true"]},
            "beside": {"command": ["true"]},
        },
        "connections": {"v": {"below": "SUCCESS"}},
    }));
    let run = api.start(&fleet);
    journal.wait_for_line("on");
    let vessel = vessel_of(&api.run(&run), "v")["id"].as_str().unwrap().to_owned();
    let stop_vessel =
        || api.call("POST", &format!("/api/v1/vessel-runs/{vessel}/stop"), None).expect(200).data();
    let answer = stop_vessel();
    assert_eq!(vessel_of(&answer, "below")["status"], "Terminated", "at once");
    stop_vessel();
    let ended = api.wait_status(&run, "Terminated");
    let v = vessel_of(&ended, "v");
    assert_eq!((&v["status"], &v["exit_code"]), (&json!("Terminated"), &json!(0)), "{v:#}");
    assert_eq!(v["attempt"], 1, "what was stopped is not retried");
    assert_eq!(vessel_of(&ended, "beside")["status"], "Success");
    assert_eq!(stop_vessel(), ended);
}
