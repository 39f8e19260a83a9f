//! The block `webhook` of a fleet file: who edits it makes a version, and what the file does not say
//! stays. Pausing a webhook.

use std::thread;

use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::http::{Answer, exchange, post_request};
use crate::harness::scrape::Scrape;
use crate::harness::server::finish;
use crate::harness::{Api, Hook, Server, assert_error};

const ELSEWHERE: &str = "198.51.100.0/24";

fn status(server: &Server, hook: &Hook) -> u16 {
    hook.try_post(server.hooks(), &[], b"{}").unwrap().status
}

fn webhook(api: &Api, fleet: &str) -> Value {
    api.get(&format!("/api/v1/fleets/{fleet}/webhook")).expect(200).data()
}

fn version(api: &Api, fleet: &str) -> u64 {
    api.get(&format!("/api/v1/fleets/{fleet}")).expect(200).data()["version"].as_u64().unwrap()
}

/// The fleet file `name` with this block `webhook`.
fn with_settings(name: &str, settings: &Value) -> Value {
    let mut file = true_fleet(name);
    file["webhook"] = settings.clone();
    file
}

#[test]
fn a_file_without_the_key_leaves_the_settings_and_an_empty_block_resets_them() {
    let mut server = Server::start();
    let api = server.api();
    let settings = json!({"allow": [ELSEWHERE], "rate_limit": "60/m", "mode": "observe",
        "deduplicate": {"window": "12h"}});
    let fleet = api.apply(&with_settings("guarded", &settings));
    let hook = api.add_webhook(&fleet);
    let expected = |shown: &Value| {
        assert_eq!(shown["allow"], json!([ELSEWHERE]));
        assert_eq!(shown["rate_limit"], "60/m");
        assert_eq!(shown["mode"], "observe");
        assert_eq!(shown["deduplicate"], json!({"window": "12h"}));
    };
    expected(&webhook(&api, &fleet));
    assert_eq!(status(&server, &hook), 400);

    // An old file: it changes something else, and says nothing of the webhook.
    let mut old = true_fleet("guarded");
    old["priority"] = json!(3);
    let content = ("application/json", old.to_string().into_bytes());
    let answer = api.call("PUT", "/api/v1/fleets?by=name", Some(content)).expect(200).data();
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.contains("no key `webhook`") && warning.contains("webhook: {}"), "{warning}");
    expected(&webhook(&api, &fleet));
    server.crash_and_restart();
    let api = server.api();
    expected(&webhook(&api, &fleet));
    assert_eq!(status(&server, &hook), 400);

    let reset = with_settings("guarded", &json!({}));
    api.apply(&reset);
    let shown = webhook(&api, &fleet);
    assert_eq!((&shown["allow"], &shown["rate_limit"]), (&json!([]), &Value::Null));
    assert_eq!((&shown["mode"], &shown["deduplicate"]), (&json!("enforce"), &Value::Null));
    assert_eq!(status(&server, &hook), 201);
}

#[test]
fn every_edit_of_the_settings_is_a_version_that_a_revert_brings_back() {
    let server = Server::start();
    let (fleet, hook) = server.fleet_with_webhook(&true_fleet("edited"));
    let api = server.api();
    let path = format!("/api/v1/fleets/{fleet}/webhook");
    assert_eq!(version(&api, &fleet), 1, "a webhook without settings makes no version");
    api.put(&path, &json!({"allow": [ELSEWHERE]})).expect(200);
    assert_eq!((version(&api, &fleet), status(&server, &hook)), (2, 400));
    api.put(&path, &json!({"allow": [ELSEWHERE]})).expect(200);
    assert_eq!(version(&api, &fleet), 2, "the same settings make no version");
    // Settings that came later outlive an edit by a client that does not know them.
    api.put(&path, &json!({"allow": [ELSEWHERE], "mode": "observe"})).expect(200);
    let shown = api.put(&path, &json!({"rate_limit": "9/s"})).expect(200).data();
    assert_eq!((&shown["allow"], &shown["mode"]), (&json!([]), &json!("observe")));
    assert_eq!((version(&api, &fleet), status(&server, &hook)), (4, 201));

    let versions = format!("/api/v1/fleets/{fleet}/versions");
    let second = api.get(&format!("{versions}/2")).expect(200).data();
    assert!(second["yaml"].as_str().unwrap().ends_with("webhook:\n  allow: [198.51.100.0/24]\n"));
    api.call("POST", &format!("{versions}/2/revert"), None).expect(201);
    assert_eq!(status(&server, &hook), 400);
    api.call("POST", &format!("{versions}/1/revert"), None).expect(201);
    assert_eq!(status(&server, &hook), 201);
    assert_eq!(webhook(&api, &fleet)["rate_limit"], Value::Null);
    // A file that was shown says the same again.
    let (code, text, _) = finish(server.cli(&["fleet", "show", "edited", "--yaml"]));
    assert_eq!(code, 0);
    assert!(!text.contains("webhook"), "{text}");
}

#[test]
fn a_settings_edit_meets_the_version_that_it_expects() {
    let server = Server::start();
    let (fleet, _) = server.fleet_with_webhook(&true_fleet("raced"));
    let path = format!("/api/v1/fleets/{fleet}/webhook");
    let put = |tag: &str| {
        let (token, body) = (server.token(), r#"{"rate_limit": "9/s"}"#);
        let request = format!(
            "PUT {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nIf-Match: {tag}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(server.admin(), request.as_bytes()).unwrap()
    };
    assert_error(&put("\"7\""), 412);
    put("\"1\"").expect(200);
    assert_error(&put("\"1\""), 412);
}

#[test]
fn a_paused_webhook_answers_503_until_it_is_resumed() {
    let mut server = Server::start();
    let (fleet, hook) = server.fleet_with_webhook(&true_fleet("paused"));
    let path = format!("/api/v1/fleets/{fleet}/webhook");
    let api = server.api();
    assert_eq!(webhook(&api, &fleet)["paused_at"], Value::Null);
    let first = api.call("POST", &format!("{path}/pause"), None).expect(200).data();
    assert!(first["paused_at"].is_string());
    let again = api.call("POST", &format!("{path}/pause"), None).expect(200).data();
    assert_eq!(again["paused_at"], first["paused_at"], "a pause keeps its beginning");
    let refused = hook.try_post(server.hooks(), &[], b"{}").unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert!(refused.json()["data"].is_null() && refused.json().get("error").is_none());
    let counted = r#"boathook_requests_refused_total{listener="hooks",reason="paused"}"#;
    assert_eq!(Scrape::of(&api).value(counted), 1.0);

    // It is no part of the file: an edit and a revert leave it, and so does a new URL.
    api.put(&path, &json!({"rate_limit": "9/s"})).expect(200);
    api.call("POST", &format!("/api/v1/fleets/{fleet}/versions/1/revert"), None).expect(201);
    let replaced = api.post(&format!("{path}/replace"), &json!({"grace_seconds": 60})).expect(201);
    let new = Hook::from_url(replaced.data()["url"].as_str().unwrap());
    assert_eq!((status(&server, &hook), status(&server, &new)), (503, 503));
    server.crash_and_restart();
    assert_eq!((status(&server, &hook), status(&server, &new)), (503, 503));
    // The owner can still try the fleet out.
    let api = server.api();
    api.post(&format!("/api/v1/fleets/{fleet}/test"), &json!({})).expect(201);

    let resumed = api.call("POST", &format!("{path}/resume"), None).expect(200).data();
    assert_eq!(resumed["paused_at"], Value::Null);
    assert_eq!((status(&server, &hook), status(&server, &new)), (201, 201));
    api.delete(&path).expect(200);
    for verb in ["pause", "resume"] {
        assert_error(&api.call("POST", &format!("{path}/{verb}"), None), 404);
    }
}

#[test]
fn the_command_line_sets_pauses_and_resumes() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("handy"));
    let run = |arguments: &[&str]| finish(server.cli(&[&["webhook"], arguments].concat()));
    let (code, printed, said) =
        run(&["set", "handy", "--allow", ELSEWHERE, "--rate-limit", "60/m burst 5"]);
    assert_eq!((code, printed.as_str()), (0, "set the webhook of handy\n"), "{said}");
    assert!(said.contains(ELSEWHERE) && said.contains("60/m burst 5"), "{said}");
    assert_eq!(status(&server, &hook), 400);
    let (code, _, said) = run(&["set", "handy", "--allow", "any"]);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains(ELSEWHERE) && said.contains("60/m burst 5"), "{said}");
    assert_eq!(status(&server, &hook), 201);
    let (_, _, said) = run(&["set", "handy", "--rate-limit", "off"]);
    assert!(!said.contains("60/m"), "{said}");
    let (code, _, said) = run(&["set", "handy"]);
    assert_eq!(code, 1);
    assert!(said.contains("--allow, --rate-limit"), "{said}");
    let (code, versions, _) = finish(server.cli(&["fleet", "versions", "handy", "--json"]));
    assert_eq!(code, 0);
    let versions: Value = serde_json::from_str(&versions).unwrap();
    assert_eq!(versions.as_array().unwrap().len(), 4);

    let (code, printed, said) = run(&["pause", "handy"]);
    assert_eq!((code, printed.as_str()), (0, "paused the webhook of handy\n"));
    assert!(said.contains("boathook webhook resume handy"), "{said}");
    assert_eq!(status(&server, &hook), 503);
    let (_, _, said) = run(&["show", "handy"]);
    assert!(said.contains("paused") && said.contains("webhook resume handy"), "{said}");
    let (code, printed, _) = run(&["resume", "handy"]);
    assert_eq!((code, printed.as_str()), (0, "resumed the webhook of handy\n"));
    assert_eq!(status(&server, &hook), 201);
}

fn put_file(api: &Api, file: &Value) -> Answer {
    let content = ("application/json", file.to_string().into_bytes());
    api.call("PUT", "/api/v1/fleets?by=name", Some(content))
}

#[test]
fn a_name_is_answered_only_where_something_else_guards_it() {
    let mut server = Server::start();
    let api = server.api();
    for unguarded in [
        json!({"keep_path": true}),
        json!({"keep_path": true, "verify": {"preset": "monday"}}),
        json!({"keep_path": true, "verify": {"preset": "github", "secret": "S"}, "mode": "observe"}),
    ] {
        let answer = put_file(&api, &with_settings("named", &unguarded)).expect(422);
        assert!(answer.error().contains("a name is no secret"), "{}", answer.text());
    }
    let guarded = json!({"keep_path": true, "allow": ["127.0.0.0/8"]});
    let answer = put_file(&api, &with_settings("de ploy", &guarded)).expect(201);
    let warning = answer.data()["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.contains("answers at /hooks/de ploy too"), "{warning}");
    let fleet = answer.data()["id"].as_str().unwrap().to_owned();

    let post = |server: &Server, path: &str| {
        let request = post_request(path, &[], b"{}");
        exchange(server.hooks(), &request).unwrap()
    };
    assert_eq!(post(&server, "/hooks/de%20ploy").status, 400, "it has no webhook yet");
    let hook = api.add_webhook(&fleet);
    for path in ["/hooks/de%20ploy", "/hooks/de%20ploy/", "/hooks/%64e%20ploy?a=1", &hook.target()]
    {
        assert_eq!(post(&server, path).expect(201).data()["fleet_id"], json!(fleet), "{path}");
    }
    for path in
        ["/hooks/de+ploy", "/hooks/De%20ploy", "/hooks/de%20ploy%2", "/hooks/%ff", "/de%20ploy"]
    {
        assert_eq!(post(&server, path).expect(400).json()["data"], Value::Null, "{path}");
    }
    let get = b"GET /hooks/de%20ploy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(server.hooks(), get).unwrap().status, 405);

    // It follows the fleet: its URL, its pause, its name, its settings.
    let path = format!("/api/v1/fleets/{fleet}/webhook");
    api.post(&format!("{path}/replace"), &json!({})).expect(201);
    assert_eq!(post(&server, &hook.target()).status, 400);
    server.crash_and_restart();
    let api = server.api();
    assert_eq!(post(&server, "/hooks/de%20ploy").status, 201);
    api.post(&format!("{path}/pause"), &json!({})).expect(200);
    assert_eq!(post(&server, "/hooks/de%20ploy").status, 503);
    api.post(&format!("{path}/resume"), &json!({})).expect(200);
    let renamed = with_settings("other", &guarded);
    api.put(&format!("/api/v1/fleets/{fleet}"), &renamed).expect(200);
    assert_eq!(post(&server, "/hooks/de%20ploy").status, 400);
    assert_eq!(post(&server, "/hooks/other").status, 201);

    let mut elsewhere = with_settings("other", &guarded);
    elsewhere["project"] = json!("second");
    let answer = put_file(&api, &elsewhere).expect(409);
    assert!(answer.error().contains("keeps this path already"), "{}", answer.text());
    let answer = api.put(&path, &json!({"allow": []})).expect(422);
    assert!(answer.error().contains("keep_path: a name is no secret"), "{}", answer.text());
    api.put(&path, &json!({"allow": [ELSEWHERE]})).expect(200);
    assert_eq!(post(&server, "/hooks/other").status, 400);
    api.put(&path, &json!({"allow": [], "keep_path": false})).expect(200);
    assert_eq!(post(&server, "/hooks/other").status, 400);
    put_file(&api, &elsewhere).expect(201);
    api.delete(&format!("/api/v1/fleets/{fleet}")).expect(200);
}

#[test]
fn two_commands_that_set_different_settings_at_once_lose_none() {
    let server = Server::start();
    let (fleet, _) = server.fleet_with_webhook(&true_fleet("shared"));
    let api = server.api();
    let path = format!("/api/v1/fleets/{fleet}/webhook");
    let tag = |answer: &Answer| answer.header("etag").unwrap().to_owned();
    let before = tag(&api.get(&path).expect(200));
    let after = tag(&api.put(&path, &json!({"allow": [ELSEWHERE]})).expect(200));
    assert_ne!(before, after);
    assert_eq!(after, tag(&api.get(&format!("/api/v1/fleets/{fleet}")).expect(200)));
    // Each of two commands leaves what the other sets.
    for round in 1..=6 {
        let (network, rate) = (format!("192.0.2.{round}/32"), format!("{round}/m"));
        thread::scope(|scope| {
            for setting in [["--allow", &network], ["--rate-limit", &rate]] {
                let command = server.cli(&["webhook", "set", "shared", setting[0], setting[1]]);
                scope.spawn(move || {
                    let (code, _, error) = finish(command);
                    assert_eq!(code, 0, "{error}");
                });
            }
        });
        let shown = webhook(&api, &fleet);
        assert_eq!((&shown["allow"][0], &shown["rate_limit"]), (&json!(network), &json!(rate)));
    }
}
