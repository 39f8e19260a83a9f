//! The queue: what waits, in which order, and for what.

use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::server::finish;
use crate::harness::{Api, Server};

/// Starts a fleet and waits until its vessel runs.
fn start_running(server: &Server, fleet: &str) -> String {
    let api = server.api();
    let run = api.start(fleet);
    server.wait_until("it runs", || api.run(&run)["vessels"][0]["status"] == "Running");
    run
}

fn sleeper(name: &str) -> Value {
    json!({"name": name, "vessels": {"v": {"command": ["sleep", "600"]}}})
}

fn entries(api: &Api, query: &str) -> Vec<Value> {
    let queue = api.get(&format!("/api/v1/queue{query}")).expect(200).data();
    queue["entries"].as_array().unwrap().clone()
}

fn end_of(id: &str) -> &str {
    id.rsplit('-').next().unwrap()
}

#[test]
fn the_queue_tells_what_waits_in_the_order_of_starts_and_what_for() {
    let server = Server::builder().setting("workers", "2").start();
    let api = server.api();
    let mut one = sleeper("one");
    one["concurrency"] = json!(1);
    let one = api.apply(&one);
    let free = api.apply(&sleeper("free"));
    let mut held = true_fleet("held");
    held["debounce"] = json!({"wait": "1h", "max_wait": "2h"});
    let held = api.apply(&held);
    assert_eq!(entries(&api, ""), Vec::<Value>::new());

    let (first, busy) = (start_running(&server, &one), start_running(&server, &free));
    let second = api.start(&one);
    let third = api.start(&one);
    let next = api.start(&free);
    let later = api.post(&format!("/api/v1/fleets/{held}/runs"), &json!({})).expect(201).data();
    let later = later["fleet_run_id"].as_str().unwrap().to_owned();

    let queue = api.get("/api/v1/queue").expect(200).data();
    let told = |field: &str| -> Vec<Value> {
        queue["entries"].as_array().unwrap().iter().map(|it| it[field].clone()).collect()
    };
    assert_eq!(told("run_id"), [&next, &second, &third, &later].map(|run| json!(run)));
    assert_eq!(told("cause"), ["worker", "concurrency", "concurrency", "debounce"]);
    assert_eq!(told("waits_for"), [json!(null), json!(first), json!(second), json!(null)]);
    let reason = format!("waits for run {}: concurrency 1", end_of(&first));
    assert_eq!(told("reason")[..2], [json!("all 2 workers are busy"), json!(reason)]);
    assert!(queue["entries"][3]["until"].is_string(), "{queue}");
    assert_eq!((&queue["workers"], &queue["runs_waiting"]), (&json!(2), &json!(4)));
    let part = api.get(&format!("/api/v1/queue?fleet={one}&limit=1")).expect(200).data();
    assert_eq!(part["entries"][0]["run_id"], json!(second));
    assert_eq!(part["has_more"], true);
    assert_eq!(api.get("/api/v1/queue?flet=x").status, 400);

    // The page of a run and the command line say the same.
    assert_eq!(api.run(&second)["reason"], json!(reason));
    let (code, out, _) = finish(server.cli(&["runs", "queue"]));
    assert_eq!((code, out.lines().count()), (0, 5), "{out}");
    assert!(out.lines().nth(2).unwrap().ends_with(&reason), "{out}");
    let (code, out, _) = finish(server.cli(&["runs", "queue", "--fleet", "held", "--json"]));
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &shown["entries"][0]["run_id"]), (0, &json!(later)));

    // A limited token sees what waits of its fleet.
    let limited = json!({"name": "held only", "role": "reader", "fleet_id": held});
    let token = api.post("/api/v1/tokens", &limited).expect(201).data();
    let limited = api.with_token(token["token"].as_str().unwrap());
    let seen: Vec<Value> = entries(&limited, "");
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(entries(&limited, &format!("?fleet={one}")), Vec::<Value>::new());

    for run in [&busy, &first] {
        api.post(&format!("/api/v1/runs/{run}/stop"), &json!({})).expect(200);
    }
    server.wait_until("the next ones start", || entries(&api, "").len() == 2);
    let left: Vec<Value> = entries(&api, "").iter().map(|it| it["run_id"].clone()).collect();
    assert_eq!(left, [json!(third), json!(later)]);
    // What is left of the others: stopped all at once.
    let stopped = finish(server.cli(&["runs", "stop", "--waiting", "--yes"]));
    assert_eq!(stopped.0, 0, "{stopped:?}");
    assert_eq!(entries(&api, ""), Vec::<Value>::new());
    let (_, _, advice) = finish(server.cli(&["runs", "queue"]));
    assert!(advice.contains("Nothing waits."), "{advice}");
}

#[test]
fn a_vessel_that_waits_for_its_next_attempt_is_told_with_its_time() {
    let server = Server::start();
    let api = server.api();
    let guardrails = json!({"retry_count": 1, "retry_wait": "1h"});
    let fleet = api.apply(&json!({"name": "fails", "vessels": {
        "build": {"command": ["false"], "guardrails": guardrails}}}));
    let run = api.start(&fleet);
    server.wait_until("it waits", || !entries(&api, "").is_empty());
    let entry = entries(&api, "").remove(0);
    assert_eq!((&entry["run_id"], &entry["vessel_name"]), (&json!(run), &json!("build")));
    assert_eq!(entry["cause"], "retry");
    assert!(entry["until"].as_str() > entry["since"].as_str(), "{entry}");
}
