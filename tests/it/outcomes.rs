//! The table of what becomes of a request to a webhook, row by row, as its sender and the ledger see it.

use serde_json::{Value, json};

use crate::harness::http::{exchange, post_request};
use crate::harness::server::finish;
use crate::harness::{Answer, Hook, Server};

const MAIN: &[u8] = br#"{"ref": "refs/heads/main", "n": 1}"#;

/// A server with a fleet whose vessel fails while `gate` does not exist, and its webhook.
fn guarded(webhook: &Value) -> (Server, Hook) {
    let server = Server::start();
    server.api().call("PUT", "/api/v1/secrets/HOOK", Some(("text/plain", b"secret".to_vec())));
    let script = format!("test -e {}", server.scratch().join("gate").display());
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "guarded", "vessels": {"v": {"run": script}}, "webhook": webhook,
    }));
    (server, hook)
}

/// One POST with the token of GitLab's preset and an event of this id.
#[track_caller]
fn deliver(server: &Server, hook: &Hook, event: &str, body: &[u8]) -> Answer {
    let headers = [
        ("X-Gitlab-Token", "secret"),
        ("X-Gitlab-Event-UUID", event),
        ("Content-Type", "application/json"),
    ];
    hook.try_post(server.hooks(), &headers, body).unwrap()
}

fn run_of(answer: &Answer) -> String {
    answer.data()["fleet_run_id"].as_str().expect("a run").to_owned()
}

/// The delivery under the id that the sender got.
#[track_caller]
fn delivery(server: &Server, answer: &Answer) -> Value {
    let id = answer.header("x-request-id").unwrap().to_owned();
    let path = format!("/api/v1/deliveries/{id}");
    server.wait_until("the delivery", || server.api().get(&path).status == 200);
    server.api().get(&path).data()
}

#[test]
fn an_accepted_event_runs_and_its_duplicates_name_its_run() {
    let verify = json!({"preset": "gitlab", "secret": "HOOK"});
    let (server, hook) = guarded(&json!({"verify": verify}));
    let accepted = deliver(&server, &hook, "1", MAIN).expect(201);
    let first = run_of(&accepted);
    assert_eq!(delivery(&server, &accepted)["verdict"], "accepted");
    assert_eq!(server.api().wait_ended(&first)["status"], "Errored");
    // The run has failed: a redelivery is a retry, and names the first.
    let again = deliver(&server, &hook, "1", MAIN).expect(201);
    let second = run_of(&again);
    assert_ne!(first, second);
    assert_eq!(server.api().wait_ended(&second)["first_run"], first);
    // A run that has succeeded answers for its event.
    std::fs::write(server.scratch().join("gate"), "").unwrap();
    let third = run_of(&deliver(&server, &hook, "1", MAIN).expect(201));
    server.api().wait_status(&third, "Success");
    let duplicate = deliver(&server, &hook, "1", MAIN).expect(200);
    assert_eq!(duplicate.header("boathook-duplicate"), Some("true"));
    assert_eq!(run_of(&duplicate), third);
    let shown = delivery(&server, &duplicate);
    assert_eq!((&shown["verdict"], &shown["run_id"]), (&json!("duplicate"), &json!(third)));
    // The same id with another body swallows nothing.
    let other = deliver(&server, &hook, "1", b"{}").expect(201);
    assert_eq!(delivery(&server, &other)["reason"], "id_reused");
    assert_eq!(server.api().all_runs().len(), 4);
}

#[test]
fn a_filter_answers_200_without_a_run_and_a_broken_one_runs() {
    let verify = json!({"preset": "gitlab", "secret": "HOOK"});
    let when = "body.n > 1 && body.ref == 'refs/heads/main'";
    let (server, hook) = guarded(&json!({"verify": verify, "when": when}));
    for (event, body) in [("1", MAIN), ("2", br#"{"none": 1}"#)] {
        let filtered = deliver(&server, &hook, event, body).expect(200);
        assert!(filtered.data().is_null());
        let shown = delivery(&server, &filtered);
        assert_eq!(shown["verdict"], "filtered");
        assert!(shown["detail"].as_str().unwrap().contains(when), "{shown}");
    }
    let broken =
        deliver(&server, &hook, "3", br#"{"n": "x", "ref": "refs/heads/main"}"#).expect(201);
    let shown = delivery(&server, &broken);
    assert_eq!(
        (&shown["verdict"], &shown["reason"]),
        (&json!("accepted"), &json!("filter_failed"))
    );
    assert_eq!(server.api().all_runs().len(), 1);
}

#[test]
fn a_filtered_delivery_tells_what_enforcing_would_have_refused() {
    let verify = json!({"preset": "gitlab", "secret": "HOOK"});
    let (server, hook) =
        guarded(&json!({"verify": verify, "mode": "observe", "when": "body.n > 1"}));
    let filtered = hook.try_post(server.hooks(), &[], MAIN).unwrap().expect(200);
    let shown = delivery(&server, &filtered);
    assert_eq!(
        (&shown["verdict"], &shown["reason"], &shown["verified_by"]),
        (&json!("filtered"), &json!("credentials_missing"), &Value::Null)
    );
    let detail = shown["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("`body.n > 1` is false; body.n = 1; credentials_missing: "),
        "{shown}"
    );
    let known = deliver(&server, &hook, "1", MAIN).expect(200);
    let shown = delivery(&server, &known);
    assert_eq!((&shown["reason"], &shown["verified_by"]), (&Value::Null, &json!("sender")));
}

#[test]
fn a_delivery_tells_by_what_it_is_verified() {
    let verify = json!({"preset": "gitlab", "secret": "HOOK"});
    let (server, hook) = guarded(&json!({"verify": verify, "when": "body.n + 1 == 2"}));
    let verified_by = |answer: &Answer| delivery(&server, answer)["verified_by"].clone();
    assert_eq!(verified_by(&deliver(&server, &hook, "1", MAIN).expect(201)), "sender");
    let refused = hook.try_post(server.hooks(), &[], MAIN).unwrap().expect(401);
    assert_eq!(verified_by(&refused), Value::Null);
    let api = server.api();
    let fleet = api.get("/api/v1/fleets").data()[0]["id"].as_str().unwrap().to_owned();
    let test = format!("/api/v1/fleets/{fleet}/test");
    api.call("POST", &test, Some(("application/json", MAIN.to_vec()))).expect(201);
    let shown = api.get("/api/v1/deliveries?verdict=accepted&limit=1").expect(200).data();
    assert_eq!(shown[0]["verified_by"], "token");
    let (_, said, _) =
        finish(server.cli(&["deliveries", "show", shown[0]["id"].as_str().unwrap()]));
    assert!(said.contains("sender    a test by a client of the API"), "{said}");
    // Two remarks on one request: the filter fails, and the id came before with another body.
    let odd = deliver(&server, &hook, "1", br#"{"n": "x"}"#).expect(201);
    let shown = delivery(&server, &odd);
    let detail = shown["detail"].as_str().unwrap();
    assert_eq!(shown["reason"], "filter_failed");
    assert!(detail.contains("; id_reused: the id of this event came before"), "{shown}");
    for reason in ["filter_failed", "id_reused"] {
        let listed = api.get(&format!("/api/v1/deliveries?reason={reason}")).expect(200).data();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{reason}");
    }
    let metrics = api.get("/metrics").text();
    let counted = r#"boathook_webhook_requests_total{verdict="accepted",reason="filter_failed"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    // Without a sender that is named, no request is verified.
    api.put(&format!("/api/v1/fleets/{fleet}/webhook"), &json!({"verify": null})).expect(200);
    let open = hook.try_post(server.hooks(), &[], MAIN).unwrap().expect(201);
    assert_eq!(verified_by(&open), Value::Null);
}

#[test]
fn a_wrong_sender_gets_401_that_tells_nothing() {
    let (server, hook) = guarded(&json!({"verify": {"preset": "github", "secret": "HOOK"}}));
    for (headers, reason) in
        [(&[][..], "signature_missing"), (&[("X-Hub-Signature-256", WRONG)], "signature_mismatch")]
    {
        let refused = hook.try_post(server.hooks(), headers, MAIN).unwrap().expect(401);
        let id = refused.header("x-request-id").unwrap();
        assert_eq!(refused.text(), format!(r#"{{"request":{{"id":"{id}"}},"data":null}}"#));
        let shown = delivery(&server, &refused);
        assert_eq!((&shown["verdict"], &shown["reason"]), (&json!("refused"), &json!(reason)));
    }
    assert!(server.api().all_runs().is_empty());
}

/// A signature of nothing.
const WRONG: &str = "sha256=0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn handshakes_are_answered_and_other_methods_refused() {
    let (server, hook) =
        guarded(&json!({"verify": {"preset": "microsoft-graph", "secret": "HOOK"}}));
    let target = format!("{}?validationToken=abc%20d", hook.target());
    let answer = exchange(server.hooks(), &post_request(&target, &[], b"")).unwrap().expect(200);
    assert_eq!(answer.text(), "abc d");
    assert_eq!(delivery(&server, &answer)["verdict"], "handshake");
    for method in ["GET", "PUT", "DELETE"] {
        let request = format!("{method} {} HTTP/1.1\r\nHost: x\r\n\r\n", hook.target());
        let refused = exchange(server.hooks(), request.as_bytes()).unwrap().expect(405);
        assert_eq!(refused.header("allow"), Some("POST"), "{method}");
    }
    let (server, hook) = guarded(&json!({"verify":
        {"preset": "meta", "secret": "HOOK", "verify_token": "HOOK"}}));
    let query = "hub.mode=subscribe&hub.verify_token=secret&hub.challenge=42";
    let request = format!("GET {}?{query} HTTP/1.1\r\nHost: x\r\n\r\n", hook.target());
    let answer = exchange(server.hooks(), request.as_bytes()).unwrap().expect(200);
    assert_eq!(answer.text(), "42");
    assert!(server.api().all_runs().is_empty());
}
