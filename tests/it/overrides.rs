//! Overrides of the API trigger: they live as long as their run, and mistakes in them are named.

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::server::finish;
use crate::harness::{Api, Server, assert_error};

fn variables(vessel: &str, variables: &Value) -> Value {
    json!({"vessel_overrides": [{"name": vessel, "environment_variable_overrides": variables}]})
}

#[test]
fn a_crash_does_not_lose_them() {
    let mut server = Server::builder().setting("workers", "1").start();
    let journal = server.journal("journal");
    let api = server.api();
    let script = format!(
        "echo \"$WHAT $BOATHOOK_ATTEMPT ${{GONE-unset}}\" >> {journal}\n\
         [ $BOATHOOK_ATTEMPT = 2 ] || exec sleep 100000"
    );
    let fleet = api.apply(&json!({
        "name": "kept",
        "vessels": {
            "skipped": {"run": format!("echo skipped ran >> {journal}")},
            "v": {"run": script, "environment": {"WHAT": "own", "GONE": "own"}},
        },
        "connections": {"skipped": {"v": "ERRORED"}},
    }));
    let overrides = json!({"vessel_overrides": [
        {"name": "v", "environment_variable_overrides": {"WHAT": "overridden", "GONE": null}},
        {"name": "skipped",
            "environment_variable_overrides": {"SHIPYARD_OVERRIDE_STATUS": "ERRORED"}},
    ]});
    let first = api.start_with(&fleet, &overrides);
    journal.wait_for_line("overridden 1 unset");
    // Waits behind the first until after the crash.
    let second = api.start_with(&fleet, &overrides);
    server.crash_and_restart();
    journal.wait_for_line("overridden 2 unset");
    server.wait_until("the second run has started", || journal.lines().len() == 3);
    server.crash_and_restart();
    let api = server.api();
    for run in [first, second] {
        // The skipped vessel counts as having failed.
        let run = api.wait_status(&run, "Errored");
        assert_eq!(vessel_of(&run, "v")["status"], "Success");
        let skipped = vessel_of(&run, "skipped");
        assert_eq!((&skipped["exit_code"], &skipped["attempt"]), (&json!(1), &json!(1)));
    }
    let expected = ["overridden 1 unset", "overridden 2 unset"];
    assert_eq!(journal.lines(), [expected, expected].concat());
}

#[test]
fn skipped_vessels_are_not_retried() {
    let server = Server::start();
    let api = server.api();
    let guardrails = json!({"retry_count": 3, "retry_wait": "1h"});
    let fleet = api.apply(&json!({
        "name": "skipped", "vessels": {"v": {"command": ["true"], "guardrails": guardrails}},
    }));
    let overrides = variables("v", &json!({"SHIPYARD_OVERRIDE_STATUS": "ERROR"}));
    let run = api.wait_status(&api.start_with(&fleet, &overrides), "Errored");
    let reason = vessel_of(&run, "v")["reason"].as_str().unwrap();
    assert_eq!(reason, "skipped due to override");
    assert_eq!(api.output(&run, "v"), "Vessel has been skipped due to override.\n");
}

#[test]
fn large_ones_are_taken_whole() {
    let server = Server::start();
    let api = server.api();
    let run = "echo ${#A} ${#B} ${#C} ${#D} ${#E} ${#F}";
    let fleet = api.apply(&json!({"name": "large", "vessels": {"v": {"run": run}}}));
    let value = "x".repeat(100_000);
    let all: Value =
        ["A", "B", "C", "D", "E", "F"].iter().map(|name| (*name, value.as_str())).collect();
    let run = api.wait_status(&api.start_with(&fleet, &variables("v", &all)), "Success");
    assert_eq!(api.output(&run, "v"), "100000 100000 100000 100000 100000 100000\n");
}

/// What is wrong, its status, and what the message must name.
fn mistakes() -> Vec<(String, u16, &'static str)> {
    let of_v = |given: Value| variables("v", &given).to_string();
    let path = "vessel_overrides[0].environment_variable_overrides";
    vec![
        ("{\"vessel_overrides\": [".into(), 400, "line 1"),
        ("[]".into(), 422, "expected a mapping"),
        (json!({"vessel_overrides": 7}).to_string(), 422, "vessel_overrides: expected a list"),
        (json!({"vessel_override": []}).to_string(), 422, "did you mean `vessel_overrides`?"),
        (variables("w", &json!({})).to_string(), 422, "vessel_overrides[0].name: the fleet has no"),
        (of_v(json!([])), 422, path),
        (of_v(json!({"SHIPYARD_FLEET_ID": "x"})), 422, "SHIPYARD_FLEET_ID: SHIPYARD_* variables"),
        (of_v(json!({"BOATHOOK_X": null})), 422, "BOATHOOK_X: BOATHOOK_* variables"),
        (of_v(json!({"1A": "x"})), 422, "1A: a variable's name"),
        (of_v(json!({"": "x"})), 422, "a variable's name"),
        (of_v(json!({"A": {}})), 422, "A: expected text"),
        (of_v(json!({"A": "a\u{0}b"})), 422, "A: contains a NUL"),
        (of_v(json!({"A": "x".repeat(131_072)})), 422, "A: name and value are longer"),
        (
            of_v(json!({"SHIPYARD_OVERRIDE_STATUS": "DONE"})),
            422,
            "SHIPYARD_OVERRIDE_STATUS: expected one of SUCCESS",
        ),
    ]
}

#[test]
fn mistakes_are_refused_and_named() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "strict", "vessels": {"v": {"command": ["true"]}}}));
    let start = |api: &Api, body: &str, content_type| {
        let content = Some((content_type, body.as_bytes().to_vec()));
        api.call("POST", &format!("/api/v1/fleets/{fleet}/runs"), content)
    };
    for (body, status, named) in mistakes() {
        let answer = start(&api, &body, "application/json");
        assert_error(&answer, status);
        // As it stands in the message, not in its JSON.
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(named), "{named} in {message}");
        assert!(message.len() < 500, "the value is quoted: {message}");
    }
    assert_error(&start(&api, "{}", "text/plain"), 415);
    assert_eq!(api.all_runs().len(), 0, "nothing is stored");
}

#[test]
fn the_command_line_takes_them_from_a_file() {
    let server = Server::start();
    let api = server.api();
    let vessel = json!({"run": "echo $A", "environment": {"A": "own"}});
    api.apply(&json!({"name": "cli", "vessels": {"v": vessel}}));
    let file = server.scratch().join("overrides.json");
    std::fs::write(&file, variables("v", &json!({"A": "from a file"})).to_string()).unwrap();
    let path = file.to_str().unwrap();
    let (code, stdout, stderr) =
        finish(server.cli(&["run", "cli", "--overrides", path, "--follow"]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("from a file"), "{stdout}");

    std::fs::write(&file, variables("w", &json!({})).to_string()).unwrap();
    let (code, _, stderr) = finish(server.cli(&["run", "cli", "--overrides", path]));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("vessel_overrides[0].name") && stderr.contains("`w`"), "{stderr}");
}

#[test]
fn a_run_with_a_body_follows_overrides_as_well() {
    let server = Server::start();
    let api = server.api();
    let script = "echo \"$WHAT $BOATHOOK_TRIGGER\"; cat";
    api.apply(
        &json!({"name": "both", "vessels": {"v": {"run": script, "environment": {"WHAT": "own"}}}}),
    );
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let body = file("body", "sent");
    let overrides = serde_json::to_string_pretty(&variables("v", &json!({"WHAT": "gr\u{fc}n"})));
    let overrides = file("overrides", &overrides.unwrap());
    let arguments = ["run", "both", "--body", &body, "--overrides", &overrides, "--follow"];
    let (code, stdout, stderr) = finish(server.cli(&arguments));
    assert_eq!((code, stdout.as_str()), (0, "gr\u{fc}n webhook\nsent"), "{stderr}");
    let wrong = file("wrong", &variables("w", &json!({})).to_string());
    let arguments = ["run", "both", "--body", &body, "--overrides", &wrong];
    let (code, _, stderr) = finish(server.cli(&arguments));
    assert!(code == 1 && stderr.contains("no vessel `w`"), "{stderr}");
}
