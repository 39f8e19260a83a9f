//! Deliveries that GitHub has missed: found and delivered again, with a stand-in for GitHub on loopback.

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::receiver::{Received, Receiver};
use crate::harness::server::finish;
use crate::harness::{Hook, Server, assert_error};
use crate::senders::github;

pub const TOKEN: &str = "github_pat_11AAAAAAA0correcthorse";
const SECRET: &str = "It's a Secret to Everybody";

/// What the stand-in knows once the server runs.
#[derive(Default)]
pub struct GitHub {
    pub hook_url: String,
    hooks: String,
    redelivered: Vec<u64>,
}

fn attempt(id: u64, guid: &str, minute: u32, status_code: Option<u16>) -> Value {
    json!({"id": id, "guid": guid, "delivered_at": format!("2026-01-02T03:{minute:02}:00Z"),
        "redelivery": false, "duration": 0.3, "status": "?", "status_code": status_code,
        "event": "push", "action": null, "installation_id": null, "repository_id": 1})
}

/// The attempts, the latest first, in two pages.
fn pages() -> [Vec<Value>; 2] {
    [
        vec![
            attempt(90, "taken in time", 9, Some(0)),
            attempt(80, "recovered by hand", 8, Some(201)),
            attempt(70, "under way", 7, None),
            attempt(60, "failed twice", 6, Some(503)),
        ],
        vec![
            attempt(50, "recovered by hand", 5, Some(502)),
            attempt(40, "failed once", 4, Some(0)),
            attempt(30, "failed twice", 3, Some(502)),
            attempt(20, "too old", 1, Some(502)),
        ],
    ]
}

/// An event that GitHub sends; the status of the answer.
fn deliver(hooks: &str, hook: &Hook, guid: &str) -> u16 {
    let body = format!("{{\"of\": \"{guid}\"}}");
    let signature = github(SECRET, &body);
    let headers = [
        ("X-GitHub-Delivery", guid),
        ("X-GitHub-Event", "push"),
        ("X-Hub-Signature-256", signature.as_str()),
    ];
    hook.try_post(hooks, &headers, body.as_bytes()).unwrap().status
}

fn answer(github: &Mutex<GitHub>, request: &Received) -> Option<String> {
    let mut github = github.lock().unwrap();
    let json = |value: &Value| Some(format!("200 OK\r\n\r\n{value}"));
    if request.header("authorization") != format!("Bearer {TOKEN}") {
        return Some("401 Unauthorized\r\n\r\n{}".to_owned());
    }
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let hooks = if path.starts_with("/repos/octo/app/hooks") { 7 } else { 8 };
    let rest =
        path.trim_start_matches("/repos/octo/app/hooks").trim_start_matches("/orgs/octo/hooks");
    let [first, second] = pages();
    match (rest, query) {
        ("", "per_page=100") => json(&json!([
            {"id": 1, "config": {"url": "https://elsewhere.example/hook"}},
            {"id": 2, "config": {}},
            {"id": hooks, "config": {"url": github.hook_url, "secret": "********"}},
        ])),
        ("/7/deliveries", "per_page=100") => {
            // The token must not follow the link to its host.
            let link = "<http://198.51.100.1/x?per_page=100&cursor=v1_2>; rel=\"next\"";
            Some(format!("200 OK\r\nLink: {link}\r\n\r\n{}", json!(first)))
        }
        ("/7/deliveries", "per_page=100&cursor=v1_2") => json(&json!(second)),
        ("/8/deliveries", "per_page=100") => json(&json!([])),
        (rest, "") if rest.ends_with("/attempts") => {
            let id: u64 = rest.split('/').nth(3).unwrap().parse().unwrap();
            github.redelivered.push(id);
            let all = [first, second].concat();
            let guid =
                all.iter().find(|it| it["id"] == id).unwrap()["guid"].as_str().unwrap().to_owned();
            let (hooks, hook) = (github.hooks.clone(), Hook::from_url(&github.hook_url));
            std::thread::spawn(move || deliver(&hooks, &hook, &guid));
            Some("202 Accepted\r\n\r\n{}".to_owned())
        }
        _ => Some("404 Not Found\r\n\r\n{}".to_owned()),
    }
}

/// A stand-in for GitHub, and what it has to be told.
pub fn stand_in() -> (Receiver, Arc<Mutex<GitHub>>) {
    let known: Arc<Mutex<GitHub>> = Arc::default();
    let of_receiver = Arc::clone(&known);
    (Receiver::answering(move |_, request| answer(&of_receiver, request)), known)
}

fn fleet() -> Value {
    let mut fleet = true_fleet("deploy");
    fleet["webhook"] = json!({"verify": {"preset": "github", "secret": "HOOK"}});
    fleet
}

#[test]
fn missed_deliveries_are_delivered_again_and_run_once() {
    let (stand_in, known) = stand_in();
    let secrets = tempfile::tempdir().unwrap();
    fs::write(secrets.path().join("HOOK"), SECRET).unwrap();
    fs::write(secrets.path().join("GITHUB_TOKEN"), "expired").unwrap();
    let server = Server::builder()
        .setting("secrets_dir", secrets.path().to_str().unwrap())
        .setting("github_api_url", &format!("http://{}", stand_in.address))
        .start();
    let (id, hook) = server.fleet_with_webhook(&fleet());
    let api = server.api();
    let shown = api.get(&format!("/api/v1/fleets/{id}/webhook")).expect(200).data();
    {
        let mut known = known.lock().unwrap();
        known.hook_url = shown["url"].as_str().unwrap().to_owned();
        known.hooks = server.hooks().to_owned();
    }
    // The server had taken this one; GitHub did not wait for the answer.
    assert_eq!(deliver(server.hooks(), &hook, "taken in time"), 201);

    let recover = |arguments: &[&str]| {
        let line = ["webhook", "recover", "deploy", "--since", "2026-01-02T03:02:00Z"];
        finish(server.cli(&[&line[..], arguments].concat()))
    };
    let of_app: &[&str] = &["--repository", "octo/app"];
    let (code, _, said) = recover(of_app);
    assert!(code == 1 && said.contains("GitHub does not know the token (401)"), "{code}: {said}");
    fs::write(secrets.path().join("GITHUB_TOKEN"), TOKEN).unwrap();

    let (code, shown, said) = recover(&[of_app, &["--dry-run"]].concat());
    assert_eq!(code, 0, "{said}");
    let guids: Vec<&str> = shown.lines().skip(1).map(|it| it.split("  ").next().unwrap()).collect();
    assert_eq!(guids, ["failed once", "failed twice", "taken in time"], "{shown}");
    let (code, _, said) = recover(of_app);
    assert!(code == 1 && said.contains("Have 3 deliveries delivered again?"), "{code}: {said}");
    assert!(said.contains("--yes"), "{said}");
    assert_eq!(known.lock().unwrap().redelivered, [] as [u64; 0]);

    let (code, report, said) = recover(&[of_app, &["--yes", "--json"]].concat());
    assert_eq!(code, 0, "{said}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["attempts"], &report["redelivered"]), (&json!(7), &json!([40, 60, 90])));
    assert_eq!(known.lock().unwrap().redelivered, [40, 60, 90]);
    server.wait_until("the deliveries have come", || {
        api.get("/api/v1/deliveries").expect(200).data().as_array().unwrap().len() == 4
    });
    let duplicates = api.get("/api/v1/deliveries?verdict=duplicate").expect(200).data();
    assert_eq!(duplicates[0]["event_id"], "taken in time");
    assert_eq!(api.all_runs().len(), 3);

    let (code, said, _) = recover(&["--organization", "octo", "--yes", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["deliveries"]), (0, &json!([])));
    assert!(!server.log().contains(TOKEN));
}

#[test]
fn a_recovery_says_what_stands_in_its_way() {
    let stand_in = Receiver::answering(|_, request| {
        Some(match request.target.as_str() {
            it if it.starts_with("/repos/octo/limited") => {
                "403 Forbidden\r\nX-RateLimit-Remaining: 0\r\n\r\n{}".to_owned()
            }
            it if it.starts_with("/repos/octo/odd") => "200 OK\r\n\r\n<html>".to_owned(),
            it if it.starts_with("/repos/octo/bare") => "200 OK\r\n\r\n[]".to_owned(),
            it if it.starts_with("/repos/octo/down") => "502 Bad Gateway\r\n\r\n".to_owned(),
            _ => "404 Not Found\r\n\r\n{}".to_owned(),
        })
    });
    let server = Server::builder()
        .setting("github_api_url", &format!("http://{}/", stand_in.address))
        .start();
    let api = server.api();
    let (id, _) = server.fleet_with_webhook(&true_fleet("deploy"));
    let path = format!("/api/v1/fleets/{id}/webhook/recover");
    let recover = |body: &Value| api.post(&path, body);
    let named = |name: &str| json!({"repository": format!("octo/{name}"), "token": "GITHUB_TOKEN"});
    let refused = recover(&named("app"));
    assert_error(&refused, 422);
    assert!(refused.error().contains("the secret `GITHUB_TOKEN`"), "{}", refused.error());
    assert_eq!(stand_in.received().len(), 0);
    let token = ("application/octet-stream", TOKEN.as_bytes().to_vec());
    api.call("PUT", "/api/v1/secrets/GITHUB_TOKEN", Some(token)).expect(200);
    for (name, status, message) in [
        ("limited", 503, "lets this token ask no more for now"),
        ("odd", 503, "is not one of GitHub's"),
        ("bare", 409, "none of the 0 webhooks of octo/bare"),
        ("down", 503, "GitHub answered 502"),
        ("hidden", 409, "needs to read and write the webhooks of octo/hidden"),
    ] {
        let refused = recover(&named(name));
        assert_error(&refused, status);
        assert!(refused.error().contains(message), "{name}: {}", refused.error());
    }
    let asked = stand_in.received().len();
    for body in [
        json!({"token": "GITHUB_TOKEN"}),
        json!({"token": "GITHUB_TOKEN", "repository": "octo/app", "organization": "octo"}),
        json!({"token": "GITHUB_TOKEN", "repository": "octo/../user"}),
        json!({"token": "GITHUB_TOKEN", "organization": ".."}),
    ] {
        assert_error(&recover(&body), 422);
    }
    assert_eq!(stand_in.received().len(), asked);
    let bare = api.apply(&true_fleet("bare"));
    let path = format!("/api/v1/fleets/{bare}/webhook/recover");
    assert_error(&api.post(&path, &named("app")), 404);
}
