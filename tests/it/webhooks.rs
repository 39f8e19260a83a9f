//! The webhook of a fleet through its life, and what deleting the fleet leaves.

use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::{Api, Hook, Server, assert_error};

/// What a POST to the webhook is answered with.
fn status(server: &Server, hook: &Hook) -> u16 {
    hook.try_post(server.hooks(), &[], b"{}").unwrap().status
}

fn replace(api: &Api, fleet: &str, grace_seconds: u32) -> (Value, Hook) {
    let path = format!("/api/v1/fleets/{fleet}/webhook/replace");
    let answer = api.post(&path, &json!({"grace_seconds": grace_seconds}));
    assert!(matches!(answer.status, 200 | 201), "{}", answer.status);
    let data = answer.data();
    let hook = Hook::from_url(data["url"].as_str().unwrap());
    (data, hook)
}

#[test]
fn a_webhook_is_added_shown_replaced_and_removed() {
    let mut server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("hooked"));
    let path = format!("/api/v1/fleets/{fleet}/webhook");
    assert_error(&api.get(&path), 404);
    let first = api.add_webhook(&fleet);
    assert_eq!(first.token().len(), 43, "256 bits in Base64");
    assert_error(&api.call("POST", &path, None), 409);
    let shown = api.get(&path).expect(200).data();
    let url = shown["url"].as_str().unwrap();
    assert!(
        url == format!("http://{}{}", server.hooks(), first.target()),
        "the URL, ready to copy"
    );
    assert!(shown["created_at"].is_string());
    assert_eq!(status(&server, &first), 201);

    // With a grace, both URLs work, also after a crash.
    let (data, second) = replace(&api, &fleet, 3600);
    assert!(!data["previous"].is_null());
    server.crash_and_restart();
    assert_eq!((status(&server, &first), status(&server, &second)), (201, 201));
    // Without, the old one is gone at once.
    let api = server.api();
    let (_, third) = replace(&api, &fleet, 0);
    let statuses = [&first, &second, &third].map(|hook| status(&server, hook));
    assert_eq!(statuses, [400, 400, 201]);
    // A short grace runs out.
    let (_, fourth) = replace(&api, &fleet, 1);
    server.wait_until("the grace is over", || status(&server, &third) == 400);
    assert_eq!(status(&server, &fourth), 201);

    api.delete(&path).expect(200);
    assert_eq!(status(&server, &fourth), 400);
    assert_error(&api.get(&path), 404);
    assert_error(&api.delete(&path), 404);
    let fifth = api.add_webhook(&fleet);
    server.crash_and_restart();
    assert_eq!((status(&server, &fourth), status(&server, &fifth)), (400, 201));
}

#[test]
fn webhook_urls_begin_with_the_public_url() {
    let server = Server::builder().setting("public_url", "https://hooks.example.com/in").start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("public"));
    let path = format!("/api/v1/fleets/{fleet}/webhook");
    let data = api.call("POST", &path, None).expect(201).data();
    assert!(data["url"].as_str().unwrap().starts_with("https://hooks.example.com/in/hooks/"));
}

#[test]
fn a_deleted_fleet_takes_no_more_runs_and_finishes_the_accepted_ones() {
    let server = Server::start();
    let api = server.api();
    let gate = server.scratch().join("gate");
    let wait = format!("while [ ! -e {} ]; do sleep 0.02; done", gate.display());
    let definition = json!({
        "name": "short-lived",
        "concurrency": 1,
        "vessels": {"a": {"run": wait}, "b": {"command": ["echo", "finished"]}},
        "connections": {"a": {"b": "SUCCESS"}},
    });
    let (fleet, hook) = server.fleet_with_webhook(&definition);
    let runs: Vec<String> = (0..3).map(|_| hook.post(server.hooks(), &[], b"")).collect();
    api.delete(&format!("/api/v1/fleets/{fleet}")).expect(200);
    assert_eq!(status(&server, &hook), 400);
    assert_error(&api.get(&format!("/api/v1/fleets/{fleet}")), 404);
    std::fs::write(gate, "").unwrap();
    for run in &runs {
        let run = api.wait_status(run, "Success");
        assert_eq!(api.output(&run, "b"), "finished\n");
        assert_eq!(run["fleet_name"], "short-lived");
    }
    // The name is free again, for another fleet.
    assert_ne!(api.apply(&definition), fleet);
    assert_eq!(api.all_runs().len(), 3, "history stays");
}
