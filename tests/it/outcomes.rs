//! The table of what becomes of a request to a webhook, row by row, as its sender and the ledger see it.

use serde_json::{Value, json};

use crate::harness::http::{exchange, post_request};
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
