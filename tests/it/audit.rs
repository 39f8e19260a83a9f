//! The audit: who did what, with which token, from where.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::Server;
use crate::harness::api::true_fleet;
use crate::harness::http::exchange;

/// `by`, `action` and `object` of the entries, the oldest first.
fn told(server: &Server, query: &str) -> Vec<[String; 3]> {
    let listed = server.api().get(&format!("/api/v1/audit{query}")).expect(200).data();
    let told = |entry: &Value| {
        ["by", "action", "object"].map(|field| entry[field].as_str().unwrap().to_owned())
    };
    listed.as_array().unwrap().iter().rev().map(told).collect()
}

#[test]
fn what_was_done_is_in_the_audit_and_survives_a_crash() {
    let mut server = Server::start();
    let api = server.api();
    let project = api.post("/api/v1/projects", &json!({"name": "web"})).expect(201).data();
    let fleet = json!({"name": "f", "project": "web", "vessels": {"v": {"command": ["true"]}}});
    let id = api.apply(&fleet);
    // Nothing has changed, and so it is with a rehearsal and with a look.
    api.apply(&fleet);
    let rehearsal = json!({"fleet": id, "dry_run": true});
    api.post("/api/v1/runs/stop", &rehearsal).expect(200);
    api.get("/api/v1/fleets").expect(200);
    let made = api.post("/api/v1/tokens", &json!({"name": "ann", "role": "author"})).expect(201);
    let made = made.data();
    let ann = api.with_token(made["token"].as_str().unwrap());
    ann.add_webhook(&id);
    let run = ann.start(&id);
    api.wait_ended(&run);
    ann.post(&format!("/api/v1/runs/{run}/replay"), &json!({})).expect(201);
    let content = Some(("application/octet-stream", b"a value to be kept".to_vec()));
    ann.call("PUT", "/api/v1/secrets/KEY", content).expect(200);
    assert_eq!(ann.call("POST", "/api/v1/backup", None).status, 403);
    assert_eq!(ann.delete(&format!("/api/v1/fleets/{}", Uuid::new_v4())).status, 404);
    ann.delete(&format!("/api/v1/fleets/{id}")).expect(200);
    let last = api.delete(&format!("/api/v1/tokens/{}", made["id"].as_str().unwrap())).expect(200);
    api.delete(&format!("/api/v1/projects/{}", project["id"].as_str().unwrap())).expect(200);

    server.crash_and_restart();
    let expected = [
        ["admin.token", "create project", "web"],
        ["admin.token", "apply fleet", "web/f"],
        ["admin.token", "create token", "ann"],
        ["ann", "add webhook", "web/f"],
        ["ann", "start run", "web/f"],
        ["ann", "replay run", &run],
        ["ann", "set secret", "KEY"],
        ["ann", "delete fleet", "web/f"],
        ["admin.token", "revoke token", "ann"],
        ["admin.token", "delete project", "web"],
    ];
    assert_eq!(told(&server, ""), expected);
    assert_eq!(told(&server, "?by=ann"), expected[3..8]);
    let api = server.api();
    let entries = api.get("/api/v1/audit").data();
    assert_eq!(entries[1]["id"], last.header("x-request-id").unwrap());
    assert!(entries[0]["remote_addr"] == "127.0.0.1" && entries[0]["session"] == false);
    let since = entries[1]["at"].as_str().unwrap();
    assert_eq!(told(&server, &format!("?since={since}")), expected[8..]);
    assert!(!server.log().contains("a value to be kept"));
}

#[test]
fn the_audit_pages_through_changes_and_operations_in_the_order_of_time() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("f"));
    for _ in 0..4 {
        api.start(&fleet);
        let webhook = format!("/api/v1/fleets/{fleet}/webhook");
        api.post(&webhook, &json!({})).expect(201);
        api.delete(&webhook).expect(200);
    }
    let whole = api.get("/api/v1/audit").expect(200).data();
    let whole = whole.as_array().unwrap();
    assert_eq!(whole.len(), 13);
    assert!(whole.windows(2).all(|pair| pair[0]["at"].as_str() >= pair[1]["at"].as_str()));
    let (mut paged, mut before) = (Vec::new(), String::new());
    loop {
        let answer = api.get(&format!("/api/v1/audit?limit=4{before}")).expect(200);
        paged.extend(answer.data().as_array().unwrap().clone());
        match answer.header("x-next-before") {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(&paged, whole);
    assert_eq!(api.get("/api/v1/audit?before=x").status, 400);
}

#[test]
fn sessions_are_noted_with_the_token_that_opened_them() {
    let server = Server::start();
    let api = server.api();
    let made = api.post("/api/v1/tokens", &json!({"name": "ann", "role": "author"})).expect(201);
    let send = |method: &str, path: &str, lines: &str, body: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: same-origin\r\n{lines}\
             Content-Length: {}\r\n\r\n{body}",
            server.admin(),
            body.len()
        );
        exchange(server.admin(), request.as_bytes()).unwrap()
    };
    let proof = json!({"token": made.data()["token"]}).to_string();
    let answer = send("POST", "/api/v1/session", "", &proof).expect(201);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let key = answer.data()["key"].as_str().unwrap().to_owned();
    let lines = format!("Cookie: {cookie}\r\nX-Boathook-Session: {key}\r\n");
    let fleet = "{\"name\": \"f\", \"vessels\": {\"v\": {\"run\": \"true\"}}}";
    send("POST", "/api/v1/fleets", &lines, fleet).expect(201);
    send("POST", "/api/v1/session", "", "{\"token\": \"a wrong one\"}").expect(403);
    let entries = api.get("/api/v1/audit?by=ann").data();
    let told: Vec<_> = entries.as_array().unwrap().iter().map(|it| &it["action"]).collect();
    assert_eq!(told, [&json!("create fleet"), &json!("sign in")]);
    assert!(entries[0]["session"] == true && entries[1]["session"] == true, "{entries}");
}
