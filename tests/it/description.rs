//! The description of the admin API against the API: every operation is tried, and its answer held to
//! what is described ([`crate::harness::description`] does so for all other tests as well).

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::description;
use crate::harness::http::exchange;
use crate::harness::{Server, assert_error};
use crate::recover;

/// Of each feature that shows in an answer one.
const FLEET: &str = r#"
name: described
project: elsewhere
vessels:
  first:
    run: "cat; exit 3"
    environment: {A: 3.10, B: yes}
    guardrails: {retry_count: 1, retry_wait: 0, exclude_exit_code_ranges: [2, "4-5"]}
  second:
    command: [sh, -c, exit]
    working_directory: /tmp
    environment: [{name: C, value: d}]
    limits: {memory: 4GiB, cpu_time: 10m, open_files: 256, file_size: 1GiB}
    nice: 1
    umask: "027"
  third:
    source:
      type: CODE
      language: BASH
      file: {name: a.sh, content: echo}
      arguments: [{key: --a, value: "1"}, {value: all}]
  fourth:
    source: {type: CODE, language: PYTHON, version: "3", git: {repository: file:///nowhere/repo}, file_to_run: repo/a.py}
    notifications: {emails: [ops@example.com], after_error: true}
connections:
  first: {second: ERRORED, third: SUCCESS, fourth: COMPLETED}
concurrency: 2
notifications: {emails: [ops@example.com], after_on_demand: true}
notify:
  - {on: ERRORED, command: [/nowhere/page]}
  - {on: [ERRORED, SUCCESS], url: "https://nowhere.invalid/", secret: signing}
"#;

#[test]
fn every_operation_answers_as_described() {
    let (github, known) = recover::stand_in();
    let url = format!("http://{}", github.address);
    let server = Server::builder().setting("github_api_url", &url).start();
    let api = server.api();
    let mut tried = BTreeSet::new();
    let mut call = |method: &str, path: &str, content: Option<(&str, &str)>, status: u16| {
        tried.extend(description::operation(method, path));
        let content = content.map(|(kind, text)| (kind, text.as_bytes().to_vec()));
        api.call(method, path, content).expect(status)
    };
    let json = |text| Some(("application/json", text));
    let yaml = Some(("application/yaml", FLEET));

    assert_eq!(call("GET", "/healthz", None, 200).text(), "ok");
    call("GET", &format!("/api/v1/proof?nonce={}", "0".repeat(64)), None, 200);
    call("GET", "/api/v1/organization", None, 200);
    call("POST", "/api/v1/backup", None, 200);
    let project = call("POST", "/api/v1/projects", json(r#"{"name": "zoo"}"#), 201).data();
    let project = format!("/api/v1/projects/{}", project["id"].as_str().unwrap());
    call("GET", &project, None, 200);
    call("PUT", &project, json(r#"{"time_zone": "Europe/Berlin"}"#), 200);
    call("GET", "/api/v1/projects?limit=1&name=o", None, 200);
    call("DELETE", &project, None, 200);

    call("POST", "/api/v1/fleets/check", yaml, 200);
    call("POST", "/api/v1/fleets/check", Some(("application/yaml", "name: [")), 200);
    let fleet = call("POST", "/api/v1/fleets", yaml, 201).data();
    let fleet = format!("/api/v1/fleets/{}", fleet["id"].as_str().unwrap());
    call("PUT", "/api/v1/fleets?by=name", yaml, 200);
    let changed = FLEET.replace("concurrency: 2", "concurrency: 3");
    call("PUT", &fleet, Some(("application/yaml", &changed)), 200);
    call("GET", "/api/v1/fleets", None, 200);
    call("GET", &fleet, None, 200);
    call("GET", &format!("{fleet}/versions"), None, 200);
    call("GET", &format!("{fleet}/versions/1"), None, 200);
    call("POST", &format!("{fleet}/versions/1/revert"), None, 201);

    let settings = json(r#"{"allow": ["127.0.0.0/8"], "rate_limit": "60/m"}"#);
    call("POST", &format!("{fleet}/webhook"), settings, 201);
    call("PUT", &format!("{fleet}/webhook"), json("{}"), 200);
    let settings = json(r#"{"mode": "observe", "deduplicate": {"window": "1h"}}"#);
    call("PUT", &format!("{fleet}/webhook"), settings, 200);
    call("POST", &format!("{fleet}/webhook/pause"), None, 200);
    call("POST", &format!("{fleet}/webhook/resume"), None, 200);
    let asana = json(r#"{"verify": {"preset": "asana", "secret": "BROUGHT"}}"#);
    call("PUT", &format!("{fleet}/webhook"), asana, 200);
    call("POST", &format!("{fleet}/webhook/handshake"), None, 200);
    call("DELETE", &format!("{fleet}/webhook/handshake"), None, 200);
    call("PUT", &format!("{fleet}/webhook"), json(r#"{"verify": null}"#), 200);
    let shown = api.get(&format!("{fleet}/webhook")).expect(200).data();
    known.lock().unwrap().hook_url = shown["url"].as_str().unwrap().to_owned();
    let token = Some(("application/octet-stream", recover::TOKEN));
    call("PUT", "/api/v1/secrets/GITHUB_TOKEN", token, 200);
    let recovered = json(r#"{"repository": "octo/app", "token": "GITHUB_TOKEN", "dry_run": true}"#);
    call("POST", &format!("{fleet}/webhook/recover"), recovered, 200);
    call("POST", &format!("{fleet}/webhook/send"), None, 200);
    call("GET", "/api/v1/senders", None, 200);
    let replaced = json(r#"{"grace_seconds": 60}"#);
    call("POST", &format!("{fleet}/webhook/replace"), replaced, 201);
    let shown = call("GET", &format!("{fleet}/webhook"), None, 200).data();
    assert!(shown["previous"].is_object(), "a replaced URL shows");

    let sent = Some(("text/plain", "sent"));
    call("POST", &format!("{fleet}/dry-run?a=b"), sent, 200);
    let asked = r#"{"expr": "text", "request": {"body": "x"}}"#;
    call("POST", &format!("{fleet}/evaluate"), json(asked), 200);
    call("POST", &format!("{fleet}/evaluate"), json(r#"{"expr": "1 +"}"#), 200);
    let run = call("POST", &format!("{fleet}/test?a=b"), sent, 201).data();
    let run = run["fleet_run_id"].as_str().unwrap().to_owned();
    let ended = api.wait_status(&run, "Errored");
    let vessel = format!("/api/v1/vessel-runs/{}", ended["vessels"][0]["id"].as_str().unwrap());
    let run = format!("/api/v1/runs/{run}");
    let shown = call("GET", &run, None, 200).data();
    assert!(shown["notifications"].is_array(), "what cannot be delivered shows: {shown}");
    call("GET", "/api/v1/runs?status=Errored&trigger=webhook&limit=5&vessels=false", None, 200);
    call("GET", &format!("{run}/webhook-parameters"), None, 200);
    assert_eq!(call("GET", &format!("{run}/body"), None, 200).text(), "sent");
    assert_eq!(call("GET", &vessel, None, 200).data()["attempts"].as_array().unwrap().len(), 2);
    call("GET", &format!("{vessel}/output?offset=1&attempt=1"), None, 200);
    call("GET", &format!("{vessel}/output?part=true&follow=true"), None, 200);
    call("POST", &format!("{run}/stop"), None, 200);
    let dry = r#"{"status": "Errored", "since": "2020-01-01T00:00:00Z", "dry_run": true}"#;
    call("POST", "/api/v1/runs/replay", json(dry), 200);
    let named = run.rsplit('/').next().unwrap();
    let named = format!(r#"{{"runs": ["{named}"]}}"#);
    call("POST", "/api/v1/runs/replay", json(&named), 201);
    call("POST", "/api/v1/runs/stop", json(&named), 200);
    let deliveries = call("GET", "/api/v1/deliveries?verdict=accepted&limit=5", None, 200).data();
    let delivery = format!("/api/v1/deliveries/{}", deliveries[0]["id"].as_str().unwrap());
    call("GET", &delivery, None, 200);
    assert_eq!(call("GET", &format!("{delivery}/body"), None, 200).text(), "sent");
    call("POST", &format!("{delivery}/dry-run"), None, 200);
    call("POST", &format!("{run}/dry-run"), None, 200);
    call("POST", &format!("{delivery}/replay"), None, 201);
    call("POST", &format!("{run}/replay"), json(r#"{"from": "second"}"#), 201);
    let overrides = r#"{"vessel_overrides": [{"name": "first", "environment_variable_overrides":
        {"A": null, "SHIPYARD_OVERRIDE_STATUS": "SUCCESS"}}]}"#;
    let started = call("POST", &format!("{fleet}/runs?trigger=on_demand"), json(overrides), 201);
    let started = api.wait_ended(started.data()["fleet_run_id"].as_str().unwrap());
    let vessel = started["vessels"][0]["id"].as_str().unwrap();
    call("POST", &format!("/api/v1/vessel-runs/{vessel}/stop"), None, 200);

    let value = Some(("application/octet-stream", "opensesame"));
    call("PUT", "/api/v1/secrets/KEY", value, 200);
    call("GET", "/api/v1/secrets?missing=false&limit=5", None, 200);
    call("DELETE", "/api/v1/secrets/KEY?force=true", None, 200);

    let id = fleet.rsplit('/').next().unwrap();
    let token = format!(
        r#"{{"name": "ci", "role": "trigger", "fleet_id": "{id}", "expires_in_seconds": 3600}}"#
    );
    let token = call("POST", "/api/v1/tokens", json(&token), 201).data();
    call("GET", "/api/v1/tokens?limit=5", None, 200);
    call("DELETE", &format!("/api/v1/tokens/{}", token["id"].as_str().unwrap()), None, 200);
    call("GET", "/api/v1/session", None, 200);
    let hosted = format!("/orgs/default/projects/elsewhere/fleets/{id}");
    call("GET", "/orgs", None, 200);
    call("PUT", "/orgs/default/projects/elsewhere/fleets", yaml, 200);
    call("PUT", &hosted, Some(("application/json", &changed)), 200);
    call("POST", &format!("{hosted}/fleetruns"), json(overrides), 201);
    call("GET", &format!("{hosted}/fleetruns?days=1"), None, 200);
    call("GET", &format!("{hosted}/runs"), None, 200);
    call("GET", "/orgs/default/voyages?days=2", None, 200);
    let query = "by=admin.token&since=2020-01-01T00:00:00Z&limit=5";
    assert_eq!(
        call("GET", &format!("/api/v1/audit?{query}"), None, 200).data()[4]["session"],
        false
    );

    call("DELETE", &format!("{fleet}/webhook"), None, 200);
    call("DELETE", &fleet, None, 200);
    call("GET", "/api/v1/schedules?next=3", None, 200);
    call("GET", "/api/v1/overview", None, 200);
    call("GET", "/api/v1/overview/fleets?state=no_webhook&name=x&limit=5", None, 200);
    call("GET", "/api/v1/queue?limit=5", None, 200);
    call("GET", "/api/v1/statistics?period=7d", None, 200);
    call("GET", "/api/v1/examples", None, 200);
    call("GET", "/api/v1/doctor", None, 200);
    call("GET", "/api/v1/settings", None, 200);
    call("GET", "/api/v1/sessions", None, 200);
    let nobody = "00000000-0000-4000-8000-000000000000";
    call("DELETE", &format!("/api/v1/sessions/{nobody}"), None, 404);
    call("GET", "/api/v1/doctor/database", None, 200);
    call("GET", "/metrics", None, 200);
    call("POST", "/api/v1/session/links", None, 201);
    call("DELETE", "/api/v1/session", None, 200);
    let described = call("GET", "/api/v1/openapi.json", None, 200).json();
    assert_eq!(described["openapi"], "3.1.0");

    // Signing in is for pages, without the token that all other requests here have.
    let content = format!("{{\"token\": \"{}\"}}", server.token());
    let request = format!(
        "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nX-Boathook-Page: 1\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    );
    let answer = exchange(server.admin(), request.as_bytes()).unwrap().expect(201);
    let content = ("application/json", content.into_bytes());
    description::check("POST", "/api/v1/session", Some(&content), &answer);
    tried.insert("signIn");

    let untried: Vec<_> =
        description::operations().into_iter().filter(|id| !tried.contains(id)).collect();
    assert!(untried.is_empty(), "not tried: {untried:?}");
}

#[test]
fn the_description_needs_the_token() {
    let server = Server::start();
    assert_error(&server.api().with_token("wrong").get("/api/v1/openapi.json"), 401);
}

#[test]
fn files_in_json_are_described_and_taken_alike() {
    let server = Server::start();
    let api = server.api();
    // The checks of the harness compare what is sent with the description.
    api.apply(&json!({
        "name": "local",
        "vessels": {
            "v": {
                "run": "true",
                "environment": {"A": 1, "B": false},
                "guardrails": {"runtime_cutoff": "1h", "retry_backoff": "constant"},
                "limits": {"memory": "512MiB", "cpu_time": "10s", "open_files": 64, "file_size": 0},
                "nice": 10, "umask": "077",
            },
            "w": {"command": ["true"], "environment": null, "guardrails": null},
            "x": {"command": ["true"], "guardrails": {"exclude_exit_code_ranges": "3-5"}},
            "y": {"command": ["true"], "guardrails": {"exclude_exit_code_ranges": null}},
        },
        "connections": {"v": {"w": "COMPLETED"}},
        "priority": -1, "overlap": "skip", "delivery": "at_most_once",
        "triggers": {"schedules": [{"how_often": "WEEKLY", "at": "2:00", "when": "MONDAY"}]},
        "schedules": [{"cron": "*/5 * * * *", "time_zone": "Europe/Berlin", "catch_up": "all"}],
        "webhook": {"allow": ["192.0.2.7"], "rate_limit": null, "deduplicate": "off"},
    }));
    let fleets = api.get("/api/v1/fleets").expect(200).data();
    assert_eq!(fleets[0]["priority"], -1);
}
