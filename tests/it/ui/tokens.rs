//! Tokens in the pages: made, shown once, revoked; and what a page shows to each role.

use serde_json::json;

use super::{open, sign_in};
use crate::harness::api::true_fleet;
use crate::harness::{Browser, Server};

/// Signs the browser in with a new token of this role.
pub fn sign_in_as(browser: &Browser, server: &Server, role: &str) {
    let body = json!({"name": format!("a-{role}"), "role": role});
    let made = server.api().post("/api/v1/tokens", &body).expect(201).data();
    open(browser, server, "/sign-in");
    browser.fill("Token", made["token"].as_str().unwrap());
    browser.click("Sign in");
    browser.see(&format!("a-{role} · {role}"));
}

pub fn has_button(browser: &Browser, text: &str) -> bool {
    let script = format!(
        "return [...document.querySelectorAll('button, a')].some((it) => \
         it.textContent.trim() === {text:?} && it.checkVisibility())"
    );
    browser.script(&script) == true
}

#[test]
fn tokens_are_made_shown_once_and_revoked() {
    let server = Server::start();
    server.api().apply(&true_fleet("deploy"));
    let browser = Browser::start();
    sign_in(&browser, &server, "/tokens");
    browser.see("No tokens yet");
    browser.click("Make a token");
    browser.type_into("Name", "ci");
    browser.click("Make");
    browser.see("It is not shown again.");
    browser.click("Copy");
    browser.see("Copied the token");
    let token = browser.clipboard();
    let api = server.api().with_token(&token);
    assert_eq!(api.get("/api/v1/session").expect(200).data()["role"], "reader");
    browser.click("Done");
    browser.wait("the page forgets the token", || {
        let page = browser.script("return document.documentElement.outerHTML");
        !page.as_str().unwrap().contains(&token)
    });
    browser.see("create token ci");
    browser.see("make sign-in link");

    browser.click("Revoke ci");
    browser.see("Runs that it has started go on.");
    browser.click("Revoke");
    browser.see("ci is revoked");
    assert_eq!(api.get("/api/v1/session").status, 401);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_pages_hide_what_the_role_may_not_do() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("deploy"));
    api.add_webhook(&fleet);
    let run = api.wait_ended(&api.start(&fleet))["id"].as_str().unwrap().to_owned();
    let browser = Browser::start();
    let fleet = format!("/fleets/{fleet}");
    for (role, controls) in [
        ("reader", [false, false, false, false, false]),
        ("operator", [true, true, false, false, false]),
        ("author", [true, true, true, true, false]),
        ("admin", [true, true, true, true, true]),
    ] {
        sign_in_as(&browser, &server, role);
        open(&browser, &server, &format!("{fleet}/triggers"));
        let (start, reveal) = (has_button(&browser, "Run now"), has_button(&browser, "Reveal"));
        let (edit, tokens) = (has_button(&browser, "Edit"), has_button(&browser, "Tokens"));
        open(&browser, &server, &format!("/runs/{run}"));
        let replay = has_button(&browser, "Replay");
        assert_eq!([start, replay, reveal, edit, tokens], controls, "{role}");
        browser.click("Sign out");
        browser.see("Sign in to Boathook");
    }
    sign_in_as(&browser, &server, "trigger");
    browser.see("Latest runs");
    browser.click("Run deploy now");
    api.wait_ended(api.all_runs()[0]["id"].as_str().unwrap());
    assert!(!has_button(&browser, "Secrets") && !has_button(&browser, "New fleet"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn projects_are_made_changed_and_deleted() {
    let server = Server::start();
    let browser = Browser::start();
    sign_in(&browser, &server, "/projects");
    browser.see("default");
    browser.click("Make a project");
    browser.type_into("Name", "web");
    browser.fill("Time zone", "Europe/Berlin");
    browser.click("Save");
    browser.see("web is made");
    browser.click("Change web");
    browser.fill("Time zone", "Nowhere/City");
    browser.click("Save");
    browser.see("nknown time zone");
    let projects = server.api().get("/api/v1/projects").data();
    assert_eq!(projects[1]["time_zone"], "Europe/Berlin");
    browser.click("Delete web");
    browser.click("Delete");
    browser.see("web is gone");
}
