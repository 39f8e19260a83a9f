//! The sender of a webhook in the pages: from none to a verified one, and back.

use std::fs;

use serde_json::{Value, json};

use super::{open, sign_in};
use crate::harness::api::{Api, true_fleet};
use crate::harness::http::{exchange, post_request};
use crate::harness::{Browser, Server};

fn page_of(fleet: &str) -> String {
    format!("/fleets/{fleet}/triggers")
}

/// Keeps a secret named HOOK.
fn keep_secret(api: &Api) {
    let value = ("application/octet-stream", b"a secret of ours".to_vec());
    api.call("PUT", "/api/v1/secrets/HOOK", Some(value)).expect(200);
}

#[test]
fn from_no_sender_to_a_verified_one() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("deploy"));
    let hook = api.add_webhook(&fleet);
    let browser = Browser::start();
    sign_in(&browser, &server, &page_of(&fleet));
    browser.see("The URL alone is the secret now.");
    browser.click("Name the sender");
    browser.see("The name under which the server keeps it.");
    browser.click("Save");
    browser.see("GITHUB_HOOK is set");
    browser.see("Repository › Settings › Webhooks › Add webhook");
    browser.click("Done");
    browser.see("Waiting for the first event.");
    let secret = fs::read_to_string(server.data_dir().join("secrets/GITHUB_HOOK")).unwrap();
    let page = browser.script("return document.documentElement.outerHTML");
    assert!(!page.as_str().unwrap().contains(&secret), "the page forgets the value");

    hook.try_post(server.hooks(), &[], b"{}").unwrap().expect(401);
    open(&browser, &server, &page_of(&fleet));
    browser.see("X-Hub-Signature-256 is missing");
    browser.click("Send a sample");
    browser.see("Success");
    open(&browser, &server, &page_of(&fleet));
    browser.see("Verified");
    browser.see(": push");

    browser.click("Stop verifying");
    browser.see("Everything that comes to the URL is run then");
    browser.click("Stop verifying");
    browser.see("The URL alone is the secret now.");
    hook.post(server.hooks(), &[], b"{}");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_change_keeps_what_it_does_not_show() {
    let server = Server::start();
    let api = server.api();
    for name in ["ONE", "TWO", "TOKEN"] {
        let value = ("application/octet-stream", name.as_bytes().to_vec());
        api.call("PUT", &format!("/api/v1/secrets/{name}"), Some(value)).expect(200);
    }
    let change = |name: &str, verify: &Value| {
        let mut file = true_fleet(name);
        file["webhook"] = json!({"verify": verify});
        let fleet = api.apply(&file);
        api.add_webhook(&fleet);
        fleet
    };
    let verify_of = |fleet: &str| {
        api.get(&format!("/api/v1/fleets/{fleet}/webhook")).expect(200).data()["verify"].clone()
    };
    let stripe = json!({"preset": "stripe", "secret": ["ONE", "TWO"], "tolerance": "7m"});
    let meta = json!({"preset": "meta", "secret": "ONE", "verify_token": "TOKEN"});
    let grafana = json!({"preset": "grafana", "secret": "ONE", "header": "X-Sig",
        "timestamp_header": "X-Time"});
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    for (name, verify) in [("rotates", stripe), ("meta", meta), ("grafana", grafana)] {
        let fleet = change(name, &verify);
        open(&browser, &server, &page_of(&fleet));
        browser.click("Change");
        browser.see("The name under which the server keeps it.");
        let shown = browser.text().contains("verify token");
        assert_eq!(shown, name == "meta", "{}", browser.text());
        browser.click("Save");
        browser.see("The sender is verified from now on");
        assert_eq!(verify_of(&fleet), verify, "{name}");
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn what_no_sender_has_signed_is_not_called_verified() {
    let server = Server::start();
    let api = server.api();
    keep_secret(&api);
    let fleet = api.apply(&true_fleet("deploy"));
    let hook = api.add_webhook(&fleet);
    hook.post(server.hooks(), &[], b"{}");
    let verify = json!({"verify": {"preset": "github", "secret": "HOOK"}});
    api.put(&format!("/api/v1/fleets/{fleet}/webhook"), &verify).expect(200);
    let browser = Browser::start();
    sign_in(&browser, &server, &page_of(&fleet));
    browser.see("The latest request was not verified");
    let test = Some(("application/json", b"{}".to_vec()));
    api.call("POST", &format!("/api/v1/fleets/{fleet}/test"), test).expect(201);
    open(&browser, &server, &page_of(&fleet));
    browser.see("The latest request was not verified");
    open(&browser, &server, &format!("/fleets/{fleet}/deliveries"));
    browser.see("(test)");
    // Signed, and nothing to check it by.
    fs::remove_file(server.data_dir().join("secrets/HOOK")).unwrap();
    let signature = format!("sha256={}", "0".repeat(64));
    let headers = [("X-Hub-Signature-256", signature.as_str())];
    hook.try_post(server.hooks(), &headers, b"{}").unwrap().expect(503);
    open(&browser, &server, &page_of(&fleet));
    browser.see("Failing");
    browser.see("the secret `HOOK`");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_secret_of_asana_comes_in_a_handshake_that_its_owner_expects() {
    let server = Server::start();
    let api = server.api();
    let mut file = true_fleet("tasks");
    file["webhook"] = json!({"verify": {"preset": "asana", "secret": "ASANA_HOOK"}});
    let fleet = api.apply(&file);
    let hook = api.add_webhook(&fleet);
    let browser = Browser::start();
    sign_in(&browser, &server, &page_of(&fleet));
    browser.click("Expect a handshake");
    browser.see("Create the webhook at the provider now.");
    let bring = post_request(&hook.target(), &[("X-Hook-Secret", "brought")], b"");
    exchange(server.hooks(), &bring).unwrap().expect(200);
    open(&browser, &server, &page_of(&fleet));
    browser.see("The latest request was not verified: handshake");
    browser.click("Send a sample");
    browser.see("Success");
    open(&browser, &server, &page_of(&fleet));
    browser.see("Verified");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_refused_delivery_is_found_copied_and_run_after_all() {
    let server = Server::start();
    let api = server.api();
    keep_secret(&api);
    let mut file = true_fleet("deploy");
    file["webhook"] = json!({"verify": {"preset": "github", "secret": "HOOK"}});
    let fleet = api.apply(&file);
    let hook = api.add_webhook(&fleet);
    let body = br#"{"ref": "refs/heads/it's main"}"#;
    let headers = [("X-GitHub-Event", "push"), ("Content-Type", "application/json")];
    let refused = hook.try_post(server.hooks(), &headers, body).unwrap().expect(401);
    let id = refused.json()["request"]["id"].as_str().unwrap().to_owned();
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/fleets/{fleet}/deliveries?reason=timestamp_too_old"));
    browser.see("No delivery matches these filters.");
    open(&browser, &server, &format!("/fleets/{fleet}/deliveries?reason=signature_missing"));
    let short = &id[id.len() - 12..];
    browser.see(short);
    browser.click(short);
    browser.see("X-Hub-Signature-256 is missing");
    browser.click("Copy as curl");
    browser.see("Copied the curl command");
    let curl = browser.clipboard();
    assert!(curl.contains(hook.token()) && curl.contains("X-Github-Event: push"), "no URL");
    browser.click("Run it after all");
    browser.see("Its sender was not verified");
    browser.click("Run");
    browser.see("A new run has started");
    browser.see("Success");
    let runs = api.all_runs();
    assert_eq!((runs.len(), &runs[0]["trigger"]), (1, &json!("replay")));
    let run = runs[0]["id"].as_str().unwrap();
    open(&browser, &server, &format!("/deliveries/{id}"));
    browser.see(&run[run.len() - 12..]);

    // A test POST is signed as well.
    open(&browser, &server, &page_of(&fleet));
    browser.see("signed as from its sender");
    browser.fill("Body", "written by hand");
    browser.fill("Another header", "X-GitHub-Event: release");
    browser.click("Send");
    browser.see("Success");
    let sent = api.get("/api/v1/deliveries?verdict=accepted&limit=1").expect(200).data();
    assert_eq!((&sent[0]["event_type"], &sent[0]["bytes"]), (&json!("release"), &json!(15)));
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn an_observed_sender_shows_what_would_be_refused_and_is_enforced_by_one_click() {
    let server = Server::start();
    let api = server.api();
    keep_secret(&api);
    let mut file = true_fleet("deploy");
    let verify = json!({"preset": "github", "secret": "HOOK"});
    file["webhook"] = json!({"verify": verify, "mode": "observe"});
    let fleet = api.apply(&file);
    let hook = api.add_webhook(&fleet);
    hook.post(server.hooks(), &[], b"{}");
    let browser = Browser::start();
    sign_in(&browser, &server, &page_of(&fleet));
    browser.see("Enforcing would have refused 1 of the latest 1 requests.");
    browser.see("X-Hub-Signature-256 is missing");
    browser.click("Enforce");
    browser.wait("it is enforced", || !browser.text().contains("observe: everything runs"));
    hook.try_post(server.hooks(), &[], b"{}").unwrap().expect(401);
    assert_eq!(browser.errors(), Vec::<String>::new());
}
