//! Events: each is run once however often it is delivered, also across kills of the server and from
//! many connections at once, and the ledger says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::is_final;
use crate::harness::http::{exchange, post_request};
use crate::harness::server::finish;
use crate::harness::{Hook, Random, Server, wait_until};

const SECRET: &str = "a secret for senders";
const SENDERS: usize = 4;
const EVENTS_PER_SENDER: usize = 12;
const KILLS: usize = 12;
const LIFE_MS_MAX: usize = 250;

fn server(secrets: &Path) -> Server {
    fs::write(secrets.join("HOOK"), SECRET).unwrap();
    Server::builder()
        .setting("secrets_dir", secrets.to_str().unwrap())
        .setting("max_crash_attempts", "100000")
        .start()
}

/// A fleet that knows its sender and does nothing.
fn fleet(run: &str) -> Value {
    let verify = json!({"preset": "gitlab", "secret": "HOOK"});
    json!({"name": "once", "webhook": {"verify": verify}, "vessels": {"v": {"run": run}}})
}

/// Delivers an event. Returns the status, the run and whether it counted as a duplicate.
fn deliver(hook: &Hook, address: &str, event: &str) -> std::io::Result<(u16, String, bool)> {
    let headers = [("X-Gitlab-Token", SECRET), ("X-Gitlab-Event-UUID", event)];
    let answer = hook.try_post(address, &headers, event.as_bytes())?;
    let run = answer.json()["data"]["fleet_run_id"].as_str().unwrap_or_default().to_owned();
    let is_duplicate = answer.header("boathook-duplicate") == Some("true");
    Ok((answer.status, run, is_duplicate))
}

#[test]
fn an_event_has_one_successful_run_under_a_sender_that_retries_across_kills() {
    let mut random = Random::seeded(Random::seed("events"));
    let secrets = tempfile::tempdir().unwrap();
    let mut server = server(secrets.path());
    let (_, hook) = server.fleet_with_webhook(&fleet("exit 0"));
    let address = Mutex::new(server.hooks().to_owned());
    let senders_left = AtomicUsize::new(SENDERS);
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (address, hook, senders_left) = (&address, &hook, &senders_left);
            scope.spawn(move || {
                for number in 0..EVENTS_PER_SENDER {
                    let event = format!("event-{sender}-{number}");
                    // Until a 2xx, and then once more: the answer may be lost on its way.
                    let mut answers = 0;
                    while answers < 2 {
                        let to = address.lock().unwrap().clone();
                        match deliver(hook, &to, &event) {
                            Ok((200 | 201, ..)) => answers += 1,
                            _ => thread::sleep(Duration::from_millis(10)),
                        }
                    }
                }
                senders_left.fetch_sub(1, Ordering::SeqCst);
            });
        }
        for _ in 0..KILLS {
            thread::sleep(Duration::from_millis(random.below(LIFE_MS_MAX) as u64));
            server.crash_and_restart();
            server.hooks().clone_into(&mut address.lock().unwrap());
        }
        wait_until("all events were answered", || senders_left.load(Ordering::SeqCst) == 0);
    });
    let api = server.api();
    wait_until("all runs have ended", || api.all_runs().iter().all(is_final));
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for run in api.all_runs() {
        assert_eq!(run["status"], "Success", "{run:#}");
        *runs.entry(run["event"]["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(runs.len(), SENDERS * EVENTS_PER_SENDER, "{runs:?}");
    assert!(runs.values().all(|count| *count == 1), "{runs:?}");
}

#[test]
fn one_event_from_sixteen_connections_starts_one_run_and_the_ledger_names_it() {
    let secrets = tempfile::tempdir().unwrap();
    let server = server(secrets.path());
    let (fleet, hook) = server.fleet_with_webhook(&fleet("exit 1"));
    let (barrier, address) = (Barrier::new(16), server.hooks());
    let answers: Vec<_> = thread::scope(|scope| {
        let senders: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    deliver(&hook, address, "event").unwrap()
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    let api = server.api();
    let run = answers.iter().find(|answer| answer.0 == 201).expect("one is accepted").1.clone();
    api.wait_status(&run, "Errored");
    // Those that came while it ran are duplicates. A later one runs again, because it has failed.
    let again = answers.iter().filter(|answer| answer.0 == 201).count() - 1;
    for (status, named, is_duplicate) in &answers {
        assert_eq!(*is_duplicate, *status == 200);
        assert!(again > 0 || *named == run, "{answers:?}");
    }
    let list = |verdict: &str| {
        let path = format!("/api/v1/deliveries?fleet={fleet}&verdict={verdict}");
        api.get(&path).expect(200).data().as_array().unwrap().clone()
    };
    assert_eq!((list("accepted").len(), list("duplicate").len()), (1 + again, 15 - again));
    let duplicate = &list("duplicate")[0];
    assert_eq!((&duplicate["event_id"], &duplicate["preset"]), (&json!("event"), &json!("gitlab")));
    assert_eq!((&duplicate["status"], &duplicate["reason"]), (&json!(200), &Value::Null));

    // A redelivery after the failure is a retry, and names the first run.
    let (status, retried, _) = deliver(&hook, server.hooks(), "event").unwrap();
    assert_eq!(status, 201);
    assert!(api.run(&retried)["first_run"].is_string());
    let metric = r#"boathook_webhook_requests_total{verdict="duplicate",reason=""}"#;
    let counted = crate::harness::scrape::Scrape::of(&api).value(metric);
    assert_eq!(counted, (15 - again) as f64);
}

#[test]
fn a_refused_delivery_is_kept_without_its_credentials_and_runs_after_all() {
    let secrets = tempfile::tempdir().unwrap();
    let server = server(secrets.path());
    let (_, hook) = server.fleet_with_webhook(&fleet("cat"));
    let api = server.api();
    let wrong = [("X-Gitlab-Token", "the wrong secret"), ("X-Gitlab-Event-UUID", "1")];
    let answer = hook.try_post(server.hooks(), &wrong, b"payload").unwrap().expect(401);
    let id = answer.json()["request"]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/deliveries/{id}");
    let shown = api.get(&path).expect(200).data();
    assert_eq!((&shown["verdict"], &shown["has_body"]), (&json!("refused"), &json!(true)));
    assert_eq!(shown["reason"], "credentials_mismatch");
    assert!(!shown.to_string().contains("the wrong secret"), "a credential is kept");
    assert_eq!(api.get(&format!("{path}/body")).expect(200).text(), "payload");

    let started = api.post(&format!("{path}/replay"), &json!({})).expect(201).data();
    let run = api.wait_status(started["fleet_run_id"].as_str().unwrap(), "Success");
    assert_eq!((&run["trigger"], &run["delivery_id"]), (&json!("replay"), &json!(id)));
    assert_eq!(api.output(&run, "v"), "payload");
    assert_eq!(api.get(&path).expect(200).data()["run_id"], run["id"]);
}

/// Posts a body with an `Idempotency-Key`. Returns the status, the run and whether it counted as a duplicate.
fn post(server: &Server, hook: &Hook, key: Option<&str>, body: &str) -> (u16, String, bool) {
    let headers: Vec<_> = key.into_iter().map(|key| ("Idempotency-Key", key)).collect();
    let answer = hook.try_post(server.hooks(), &headers, body.as_bytes()).unwrap();
    let run = answer.json()["data"]["fleet_run_id"].as_str().unwrap_or_default().to_owned();
    (answer.status, run, answer.header("boathook-duplicate") == Some("true"))
}

#[test]
fn an_id_of_ones_own_runs_a_repeat_once_without_a_verified_sender() {
    let mut server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "own", "vessels": {"v": {"run": "exit 0"}},
        "webhook": {"deduplicate": {"id": "headers[\"idempotency-key\"]", "window": "1d"}},
    }));
    let (status, first, is_duplicate) = post(&server, &hook, Some("a"), "1");
    assert_eq!((status, is_duplicate), (201, false));
    assert_eq!(post(&server, &hook, Some("a"), "1"), (200, first.clone(), true));
    let run = server.api().wait_status(&first, "Success");
    assert_eq!(run["event"]["id"], "a");
    server.crash_and_restart();
    assert_eq!(post(&server, &hook, Some("a"), "1"), (200, first.clone(), true));
    // The same body under another id is another request, and nothing swallows an id that is used twice.
    for (key, body) in [(Some("b"), "1"), (Some("a"), "2"), (None, "1"), (None, "1")] {
        let (status, run, is_duplicate) = post(&server, &hook, key, body);
        assert_eq!((status, is_duplicate), (201, false), "{key:?}, {body}");
        assert_ne!(run, first);
        server.api().wait_status(&run, "Success");
    }
    // An id that cannot be computed loses no request.
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "failing", "vessels": {"v": {"run": "exit 0"}},
        "webhook": {"deduplicate": {"id": "body.n + \"x\""}},
    }));
    for _ in 0..2 {
        let (status, run, _) = post(&server, &hook, None, "{\"n\": 1}");
        assert_eq!(status, 201);
        let run = server.api().wait_status(&run, "Success");
        assert_eq!(run["note"]["reason"], "deduplicate_id_failed");
    }
}

#[test]
fn a_duplicate_gets_the_ids_of_its_run_before_the_filter_sees_it() {
    let secrets = tempfile::tempdir().unwrap();
    let server = server(secrets.path());
    let api = server.api();
    let filtered = |when: &str, run: &str| {
        let mut fleet = fleet(run);
        fleet["webhook"]["when"] = json!(when);
        fleet
    };
    let (id, hook) = server.fleet_with_webhook(&filtered("text == \"a\"", "exit 0"));
    let (status, run, _) = deliver(&hook, server.hooks(), "a").unwrap();
    assert_eq!(status, 201);
    api.wait_status(&run, "Success");
    // The filter wants it no more, nor anything else; it has run all the same.
    api.put(&format!("/api/v1/fleets/{id}"), &filtered("false", "exit 1")).expect(200);
    assert_eq!(deliver(&hook, server.hooks(), "a").unwrap(), (200, run.clone(), true));
    assert_eq!(deliver(&hook, server.hooks(), "b").unwrap(), (200, String::new(), false));
    // What has failed is no duplicate, and the filter is asked.
    api.put(&format!("/api/v1/fleets/{id}"), &filtered("true", "exit 1")).expect(200);
    let (_, failed, _) = deliver(&hook, server.hooks(), "c").unwrap();
    api.wait_status(&failed, "Errored");
    api.put(&format!("/api/v1/fleets/{id}"), &filtered("false", "exit 1")).expect(200);
    assert_eq!(deliver(&hook, server.hooks(), "c").unwrap(), (200, String::new(), false));
    let verdicts = api.get(&format!("/api/v1/deliveries?fleet={id}")).expect(200).data();
    let verdicts: Vec<_> =
        verdicts.as_array().unwrap().iter().map(|it| it["verdict"].clone()).collect();
    assert_eq!(verdicts, ["filtered", "accepted", "filtered", "duplicate", "accepted"]);
}

/// A test request has no signature; for all else it goes the way of a delivery.
#[test]
fn a_test_request_is_deduplicated_and_filtered_as_a_delivery_is() {
    let secrets = tempfile::tempdir().unwrap();
    let server = server(secrets.path());
    let mut definition = fleet("exit 0");
    definition["webhook"]["when"] = json!("body.ref == 'main' && event.id != ''");
    let (id, hook) = server.fleet_with_webhook(&definition);
    let api = server.api();
    let path = format!("/api/v1/fleets/{id}/test");
    let token = format!("Bearer {}", server.token());
    let test = |event: &str, body: &[u8]| {
        let headers = [
            ("Authorization", token.as_str()),
            ("X-Gitlab-Event-UUID", event),
            ("Content-Type", "application/json"),
        ];
        exchange(server.admin(), &post_request(&path, &headers, body)).unwrap()
    };
    let main = br#"{"ref":"main"}"#;
    let first = test("one", main).expect(201).data()["fleet_run_id"].clone();
    api.wait_status(first.as_str().unwrap(), "Success");
    let again = test("one", main).expect(200);
    assert_eq!(again.header("boathook-duplicate"), Some("true"));
    assert_eq!(again.data()["fleet_run_id"], first);
    // It is the event for its sender as well.
    let headers = [("X-Gitlab-Token", SECRET), ("X-Gitlab-Event-UUID", "one")];
    let delivered = hook.try_post(server.hooks(), &headers, main).unwrap();
    assert_eq!((delivered.status, &delivered.json()["data"]["fleet_run_id"]), (200, &first));
    let unwanted = test("two", br#"{"ref":"other"}"#).expect(200);
    assert_eq!(unwanted.json()["data"], Value::Null);
    assert_eq!(api.all_runs().len(), 1);
    let body = server.scratch().join("body");
    fs::write(&body, br#"{"ref":"other"}"#).unwrap();
    let (code, output, error) =
        finish(server.cli(&["run", "once", "--body", body.to_str().unwrap()]));
    assert!(code == 1 && output.is_empty() && error.contains("--dry-run"), "{error}");
}
