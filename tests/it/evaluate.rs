//! Trying expressions out: over deliveries and over a request that is given.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::api::true_fleet;

#[track_caller]
fn evaluate(server: &Server, fleet: &str, asked: &Value) -> Value {
    server.api().post(&format!("/api/v1/fleets/{fleet}/evaluate"), asked).expect(200).data()
}

#[test]
fn an_expression_is_tried_over_the_latest_deliveries() {
    let server = Server::start();
    let mut definition = true_fleet("tried");
    definition["webhook"] = json!({"when": "body.n != 3"});
    let (fleet, hook) = server.fleet_with_webhook(&definition);
    for n in 1..=4 {
        let body = format!(r#"{{"n": {n}, "ref": "r{n}"}}"#);
        let answer = hook.try_post(server.hooks(), &[("X-Kind", "push")], body.as_bytes()).unwrap();
        assert_eq!(answer.status, if n == 3 { 200 } else { 201 });
    }
    server.wait_until("all four", || {
        server.api().get("/api/v1/deliveries").data().as_array().unwrap().len() == 4
    });
    let shown = evaluate(&server, &fleet, &json!({"expr": "body.n > 2"}));
    let deliveries = shown["deliveries"].as_array().unwrap();
    let truths: Vec<_> = deliveries.iter().map(|entry| entry["is_true"].clone()).collect();
    assert_eq!(truths, [json!(true), json!(true), json!(false), json!(false)], "the latest first");
    assert_eq!(deliveries[1]["verdict"], "filtered", "also those that started no run");
    assert_eq!(
        (&deliveries[0]["seen"], &shown["request"]),
        (&json!({"body.n": "4"}), &Value::Null)
    );
    // As a value.
    let shown = evaluate(
        &server,
        &fleet,
        &json!({"expr": "headers['x-kind'] + body.ref", "deliveries": 2}),
    );
    let values: Vec<_> =
        shown["deliveries"].as_array().unwrap().iter().map(|it| &it["value"]).collect();
    assert_eq!(values, ["pushr4", "pushr3"]);
    let shown = evaluate(&server, &fleet, &json!({"expr": "body.none.such"}));
    let first = &shown["deliveries"][0];
    assert_eq!((&first["is_true"], &first["value"]), (&json!(false), &Value::Null));
    assert!(first["missing"].is_string(), "{first}");
    let shown = evaluate(&server, &fleet, &json!({"expr": "body.n + 'x'"}));
    assert!(
        shown["deliveries"][0]["error"].as_str().unwrap().contains("does not go with"),
        "{shown}"
    );
    assert_eq!(server.api().all_runs().len(), 3, "nothing is started");
}

#[test]
fn an_expression_is_tried_over_a_request_that_is_given() {
    let server = Server::start();
    let (fleet, _) = server.fleet_with_webhook(&true_fleet("tried"));
    let given = json!({"body": r#"{"a": [1, "b"]}"#, "query": "q=1", "headers": {"X-A": "b"}});
    for (expr, value, is_true) in [
        ("body.a", json!("[1,\"b\"]"), Value::Null),
        ("body.a[1]", json!("b"), Value::Null),
        ("query.q == '1' && headers['x-a'] == 'b'", json!("true"), json!(true)),
        ("text.contains('zz')", json!("false"), json!(false)),
    ] {
        let asked = json!({"expr": expr, "request": given, "deliveries": 0});
        let shown = evaluate(&server, &fleet, &asked);
        let request = &shown["request"];
        assert_eq!((&request["value"], &request["is_true"]), (&value, &is_true), "{expr}");
        assert_eq!(shown["deliveries"], json!([]));
    }
    let wrong = evaluate(&server, &fleet, &json!({"expr": "bdy.ref"}));
    assert_eq!(wrong["error"]["column"], 1);
    assert!(wrong["error"]["message"].as_str().unwrap().contains("no variable `bdy`"), "{wrong}");
    let api = server.api();
    let path = format!("/api/v1/fleets/{fleet}/evaluate");
    api.post(&path, &json!({"expression": "1"})).expect(422);
    api.call("POST", &path, None).expect(400);
    // A costly expression over many large payloads is bounded.
    let big = format!("{{\"l\": [{}0]}}", "0,".repeat(200_000));
    let asked = json!({"expr": "body.l.all(x, body.l.all(y, x == y))", "request": {"body": big}});
    let shown = evaluate(&server, &fleet, &asked);
    assert!(shown["request"]["error"].as_str().unwrap().contains("costs too much"), "{shown}");
}

/// The filter of a webhook fails over such a body, and the request runs.
#[test]
fn a_body_that_the_webhook_would_not_read_is_not_read_here() {
    let server = Server::builder().setting("max_expression_body_bytes", "1000").start();
    let (fleet, hook) = server.fleet_with_webhook(&true_fleet("tried"));
    let long = format!("{{\"ref\": \"{}\"}}", "x".repeat(1000));
    server.api().wait_status(&hook.post(server.hooks(), &[], long.as_bytes()), "Success");
    let tried = |expr: &str| {
        let asked = json!({"expr": expr, "request": {"body": long}, "deliveries": 1});
        let shown = evaluate(&server, &fleet, &asked);
        [shown["request"].clone(), shown["deliveries"][0].clone()]
    };
    for shown in tried("body.ref == 'y'") {
        let error = shown["error"].as_str().unwrap_or_default();
        assert!(error.contains("more than max_expression_body_bytes"), "{shown}");
        assert_eq!(shown["is_true"], Value::Null);
    }
    for shown in tried("method == 'POST'") {
        assert_eq!(shown["is_true"], true, "{shown}");
    }
}
