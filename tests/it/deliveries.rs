//! The ledger of deliveries: what became of each request to a webhook, by the API and the command line.

use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::http::exchange;
use crate::harness::server::finish;
use crate::harness::{Api, Hook, Server, assert_error, wait_until};

/// The deliveries that `query` asks for, the latest first.
#[track_caller]
fn list(api: &Api, query: &str) -> Vec<Value> {
    let list = api.get(&format!("/api/v1/deliveries?limit=1000{query}")).expect(200).data();
    list.as_array().unwrap().clone()
}

fn post(server: &Server, hook: &Hook, rest: &str) -> (u16, String) {
    let request = format!("POST {} HTTP/1.1\r\nHost: x\r\n{rest}\r\n", hook.target());
    let answer = exchange(server.hooks(), request.as_bytes()).unwrap();
    let id = answer.json()["request"]["id"].as_str().unwrap().to_owned();
    (answer.status, id)
}

#[test]
fn each_request_to_a_webhook_is_a_delivery_under_the_id_that_its_sender_got() {
    let mut server = Server::builder().setting("max_body_bytes", "1KiB").start();
    let api = server.api();
    let (open, of_open) = server.fleet_with_webhook(&true_fleet("open"));
    let (choosy, of_choosy) = server.fleet_with_webhook(&true_fleet("choosy"));
    let webhook = |fleet: &str| format!("/api/v1/fleets/{fleet}/webhook");
    api.put(&webhook(&choosy), &json!({"allow": ["198.51.100.0/24"]})).expect(200);
    let (rare, of_rare) = server.fleet_with_webhook(&true_fleet("rare"));
    api.put(&webhook(&rare), &json!({"rate_limit": "1/h"})).expect(200);
    let (paused, of_paused) = server.fleet_with_webhook(&true_fleet("paused"));
    api.post(&format!("{}/pause", webhook(&paused)), &json!({})).expect(200);

    let body = "Content-Length: 2\r\n\r\nhi";
    let mut expected = [
        (&open, post(&server, &of_open, body), "accepted", None),
        (&open, post(&server, &of_open, "Content-Length: 1025\r\n"), "refused", Some("too_large")),
        (&choosy, post(&server, &of_choosy, body), "refused", Some("not_allowed")),
        (&rare, post(&server, &of_rare, body), "accepted", None),
        (&rare, post(&server, &of_rare, body), "refused", Some("rate_limited")),
        (&paused, post(&server, &of_paused, body), "refused", Some("paused")),
    ];
    let (accepted, refused) = (expected[0].1.1.clone(), expected[5].1.1.clone());
    // Ids sort by the millisecond.
    expected.sort_by(|one, other| one.1.1.cmp(&other.1.1));
    let unknown =
        exchange(server.hooks(), b"POST /hooks/none HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(unknown.status, 400);
    let check = |api: &Api| {
        let all = list(api, "");
        assert_eq!(all.len(), expected.len(), "the URL of no webhook makes no delivery: {all:#?}");
        for (shown, (fleet, (status, id), verdict, reason)) in all.iter().rev().zip(&expected) {
            assert_eq!((&shown["id"], &shown["fleet_id"]), (&json!(id), &json!(fleet)));
            assert_eq!((&shown["status"], &shown["verdict"]), (&json!(status), &json!(verdict)));
            assert_eq!(
                (&shown["reason"], &shown["remote_addr"]),
                (&json!(reason), &json!("127.0.0.1"))
            );
            let one = api.get(&format!("/api/v1/deliveries/{id}")).expect(200).data();
            assert_eq!((&one["id"], &one["detail"]), (&shown["id"], &shown["detail"]));
            assert_eq!(shown["detail"].is_string(), *verdict == "refused");
        }
    };
    check(&api);
    assert_eq!(list(&api, &format!("&fleet={rare}")).len(), 2);
    assert_eq!(list(&api, "&verdict=accepted").len(), 2);
    assert_eq!(list(&api, "&reason=paused").len(), 1);
    assert_eq!(list(&api, "&verdict=duplicate").len(), 0);
    assert_eq!(list(&api, &format!("&before={}", expected[3].1.1)).len(), 3, "before the fourth");
    assert_error(&api.get("/api/v1/deliveries?verdict=odd"), 400);
    assert_error(&api.get("/api/v1/deliveries?reasons=odd"), 400);

    // What an orderly stop has written is there again.
    server.stop();
    server.start_again();
    let api = server.api();
    check(&api);

    // An accepted one leads to its run, which leads back.
    let delivery = &accepted;
    let path = format!("/api/v1/deliveries/{delivery}");
    let shown = api.get(&path).expect(200).data();
    let run = api.run(shown["run_id"].as_str().unwrap());
    assert_eq!(run["delivery_id"], json!(delivery));
    assert_eq!((&shown["bytes"], &shown["has_body"]), (&json!(2), &json!(true)));
    assert_eq!(api.get(&format!("{path}/body")).expect(200).text(), "hi");
    let again = api.post(&format!("{path}/replay"), &json!({})).expect(201).data();
    let again = api.wait_status(again["fleet_run_id"].as_str().unwrap(), "Success");
    assert_eq!((&again["trigger"], &again["replay_of"]), (&json!("replay"), &run["id"]));

    // One whose body was never read cannot be run.
    let refused = format!("/api/v1/deliveries/{refused}");
    assert_error(&api.post(&format!("{refused}/replay"), &json!({})), 409);
    assert_error(&api.get(&format!("{refused}/body")), 404);
    assert_error(&api.get("/api/v1/deliveries/none"), 404);

    // The refused ones go with their fleet, the accepted ones with their runs.
    api.delete(&format!("/api/v1/fleets/{rare}")).expect(200);
    wait_until("the ledger forgets the fleet", || list(&api, &format!("&fleet={rare}")).len() == 1);
}

#[test]
fn many_runs_are_replayed_and_stopped_by_a_filter() {
    let server = Server::builder().setting("workers", "1").start();
    let api = server.api();
    let failing = api.apply(&json!({"name": "failing", "vessels": {"v": {"run": "exit 1"}}}));
    let other = api.apply(&true_fleet("other"));
    let runs: Vec<String> = (0..3).map(|_| api.start(&failing)).collect();
    for run in &runs {
        api.wait_status(run, "Errored");
    }
    api.wait_status(&api.start(&other), "Success");
    let replay = |body: &Value| api.post("/api/v1/runs/replay", body);
    let filter = json!({"fleet": failing, "status": "Errored", "dry_run": true});
    let shown = replay(&filter).expect(200).data();
    let ids = |data: &Value| -> Vec<String> {
        let runs = data["runs"].as_array().unwrap().iter();
        runs.map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((&shown["matched"], ids(&shown)), (&json!(3), runs.clone()), "the oldest first");
    assert_eq!(api.all_runs().len(), 4, "a dry run starts nothing");

    let done = replay(&json!({"fleet": failing, "status": "Errored"})).expect(201).data();
    assert_eq!((ids(&done), &done["failed"]), (runs.clone(), &json!([])));
    for run in done["runs"].as_array().unwrap() {
        let replayed = api.wait_status(run["replay"].as_str().unwrap(), "Errored");
        assert_eq!(replayed["replay_of"], run["id"]);
    }
    let gone = "01890000-0000-7000-8000-000000000000";
    let done = replay(&json!({"runs": [gone, runs[0]]})).expect(201).data();
    assert_eq!((ids(&done), &done["failed"][0]["id"]), (vec![runs[0].clone()], &json!(gone)));
    for refused in [json!({}), json!({"dry_run": true}), json!({"runs": [], "fleet": other})] {
        assert_error(&replay(&refused), 422);
    }

    // One runs, the others wait; all of them are stopped.
    let slow = api.apply(&json!({"name": "slow", "vessels": {"v": {"run": "exec sleep 600"}}}));
    let slow_runs: Vec<String> = (0..4).map(|_| api.start(&slow)).collect();
    wait_until("it runs", || api.run(&slow_runs[0])["status"] == "Running");
    let stop = |body: &Value| api.post("/api/v1/runs/stop", body).expect(200).data();
    let waiting = stop(&json!({"fleet": slow, "status": "Scheduled"}));
    assert_eq!(waiting["matched"], 3);
    for run in &slow_runs[1..] {
        api.wait_status(run, "Terminated");
    }
    assert_eq!(api.run(&slow_runs[0])["status"], "Running");
    assert_eq!(ids(&stop(&json!({"fleet": slow}))), [slow_runs[0].clone()]);
    api.wait_status(&slow_runs[0], "Terminated");
    assert_eq!(stop(&json!({"fleet": slow}))["matched"], 0, "those that have ended stay");
}

/// The words of a table's line.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn the_command_line_shows_deliveries_and_runs_them() {
    let server = Server::builder().setting("max_body_bytes", "1KiB").start();
    let api = server.api();
    let (fleet, hook) = server.fleet_with_webhook(&true_fleet("site"));
    let (_, accepted) = post(&server, &hook, "X-Event: push\r\nContent-Length: 2\r\n\r\nhi");
    api.post(&format!("/api/v1/fleets/{fleet}/webhook/pause"), &json!({})).expect(200);
    let (_, refused) = post(&server, &hook, "Content-Length: 2\r\n\r\nhi");
    let short = |id: &str| id.rsplit('-').next().unwrap().to_owned();
    let cli = |arguments: &[&str]| {
        let (code, stdout, _) = finish(server.cli(arguments));
        (code, stdout)
    };

    let (_, shown) = cli(&["deliveries", "list", "--fleet", "site", "--since", "1h"]);
    let lines: Vec<Vec<&str>> = shown.lines().map(words).collect();
    assert_eq!(lines[0][..3], ["DELIVERY", "FLEET", "FROM"]);
    let line = |id: &str| {
        let found = lines.iter().find(|line| line[0] == short(id));
        found.unwrap_or_else(|| panic!("{id} in {shown}")).clone()
    };
    assert_eq!(line(&refused)[1..6], ["site", "127.0.0.1", "refused", "paused", "503"]);
    assert_eq!(line(&accepted)[1..5], ["site", "127.0.0.1", "accepted", "201"]);
    let (_, shown) = cli(&["deliveries", "list", "--reason", "paused", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 1);
    assert_eq!(shown[0]["id"], json!(refused));

    let (_, shown) = cli(&["deliveries", "show", &short(&refused)]);
    assert!(shown.contains("detail    the webhook is paused"), "{shown}");
    let (_, shown) = cli(&["deliveries", "show", &accepted]);
    assert!(shown.contains("X-Event: push"), "{shown}");
    assert_eq!(cli(&["deliveries", "body", &accepted]), (0, "hi".to_owned()));
    let (code, run) = cli(&["deliveries", "replay", &short(&accepted)]);
    assert_eq!(code, 0);
    api.wait_status(run.trim(), "Success");
    let (_, shown) = cli(&["runs", "show", run.trim()]);
    assert!(shown.contains("trigger   replay"), "{shown}");
    assert_eq!(cli(&["deliveries", "replay", &refused]).0, 1);
    assert_eq!(cli(&["deliveries", "show", "none"]).0, 1);

    // Many at once: not without a confirmation.
    let fails = api.apply(&json!({"name": "fails", "vessels": {"v": {"run": "exit 1"}}}));
    for _ in 0..3 {
        api.wait_status(&api.start(&fails), "Errored");
    }
    let replay = ["runs", "replay", "--status", "errored", "--since", "1h", "--fleet", "fails"];
    assert_eq!(cli(&replay).0, 1);
    assert_eq!(cli(&[&replay[..], &["--yes"]].concat()), (0, "Replayed 3 runs.\n".into()));
    let runs = api.all_runs();
    let replays = runs.iter().filter(|run| run["fleet_id"] == json!(fails));
    assert_eq!(replays.filter(|run| run["replay_of"].is_string()).count(), 3);
    let none = cli(&["runs", "stop", "--waiting", "--fleet", "fails", "--yes", "--json"]);
    let none: Value = serde_json::from_str(&none.1).unwrap();
    assert_eq!(none, json!({"matched": 0, "runs": [], "failed": []}));
}
