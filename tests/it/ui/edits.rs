//! Editing in the pages: nothing that was typed is lost, and nothing that others saved.

use serde_json::{Value, json};

use super::{open, sign_in};
use crate::harness::api::true_fleet;
use crate::harness::{Api, Browser, Server};

const TEXT: &str = "# Ours.\nname: shared\nvessels:\n  v: {command: ['true']}   # short\n";

/// A server with one fleet, whose editor the browser shows.
fn editing() -> (Server, Browser, String) {
    let server = Server::start();
    let fleet = server.api().apply_yaml(TEXT);
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/fleets/{fleet}"));
    browser.see("has not run yet");
    browser.click("Edit");
    browser.see("Valid: 1 vessel");
    (server, browser, fleet)
}

fn text(browser: &Browser) -> String {
    browser
        .script("return document.querySelector('.yaml')?.value ?? ''")
        .as_str()
        .unwrap()
        .to_owned()
}

fn version(api: &Api, fleet: &str) -> Value {
    api.get(&format!("/api/v1/fleets/{fleet}")).expect(200).data()["version"].clone()
}

#[test]
fn the_editor_shows_the_text_as_it_was_written_and_no_ids() {
    let (server, browser, fleet) = editing();
    assert_eq!(text(&browser), TEXT);
    let plain = server.api().apply(&true_fleet("plain"));
    open(&browser, &server, &format!("/fleets/{plain}/edit"));
    browser.see("Valid: 1 vessel");
    let shown = text(&browser);
    assert!(shown.contains("name: plain") && !shown.contains("_id"), "{shown}");
    open(&browser, &server, &format!("/fleets/{fleet}/edit"));
    browser.see("Valid: 1 vessel");
    browser.type_into("Fleet file", "# mine\n");
    browser.click("Save");
    browser.see("Saved as version 2");
    assert_eq!(text(&browser), format!("{TEXT}# mine\n"));
}

#[test]
fn a_step_back_or_forward_asks_before_an_edit_is_lost() {
    let (_server, browser, _) = editing();
    let at = |end: &str| browser.url().ends_with(end);
    browser.type_into("Fleet file", "# mine\n");
    browser.script("history.back()");
    browser.see("Leave without saving?");
    assert!(at("/edit"), "{}", browser.url());
    browser.click("Cancel");
    browser.wait("the dialog is gone", || !browser.text().contains("Leave without saving?"));
    assert!(text(&browser).ends_with("# mine\n") && at("/edit"));
    // A reload or a closed tab asks, too.
    let is_held = browser.script(
        "const event = new Event('beforeunload', {cancelable: true}); return !dispatchEvent(event)",
    );
    assert_eq!(is_held, true);
    browser.script("history.back()");
    browser.see("Leave without saving?");
    browser.click("Leave");
    browser.see("has not run yet");
    assert!(!at("/edit"));
    // Without an edit nothing is asked, in either direction.
    browser.script("history.forward()");
    browser.see("Valid: 1 vessel");
    assert_eq!(text(&browser), TEXT);
    browser.script("history.back()");
    browser.see("has not run yet");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_field_that_was_filled_in_is_asked_about_too() {
    let server = Server::start();
    let fleet = server.api().apply(&true_fleet("guarded"));
    server.api().add_webhook(&fleet);
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/fleets/{fleet}/triggers"));
    browser.click("Who may call it, and how often");
    browser.fill("Rate limit", "often");
    browser.click("Logs");
    browser.see("Leave without saving?");
    browser.click("Cancel");
    // A setting that is refused says so beside the fields, which stay.
    browser.fill("Addresses", "nowhere");
    browser.script("document.querySelector('form[data-name=limits]').requestSubmit()");
    browser.see("Addresses: ");
    let notice =
        browser.script("return document.querySelector('form[data-name=limits] .notice').innerText");
    assert!(!notice.as_str().unwrap().contains("allow"), "{notice}");
    browser.fill("Addresses", "192.0.2.0/24");
    browser.fill("Rate limit", "5/s");
    browser.script("document.querySelector('form[data-name=limits]').requestSubmit()");
    browser.see("Saved who may call the webhook");
    browser.click("Logs");
    browser.see("has not run yet");
}

#[test]
fn an_ended_session_asks_for_the_token_over_the_page_and_the_save_goes_on() {
    let (server, browser, fleet) = editing();
    browser.type_into("Fleet file", "# mine\n");
    browser.see("Valid: 1 vessel");
    browser.devtools("Network.clearBrowserCookies", json!({}));
    browser.click("Save");
    browser.see("Your session has ended");
    assert!(text(&browser).ends_with("# mine\n"), "the text is still there");
    assert_eq!(version(&server.api(), &fleet), 1);
    browser.fill("Token", &server.token());
    browser.click("Sign in");
    browser.see("Saved as version 2");
    browser.wait("the text is there", || text(&browser).ends_with("# mine\n"));
    assert_eq!(version(&server.api(), &fleet), 2);
}

#[test]
fn a_save_over_a_version_that_was_not_seen_is_asked_about() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("shared"));
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/fleets/{fleet}/edit"));
    browser.see("Valid: 1 vessel");
    browser.type_into("Fleet file", "\n# mine\nconcurrency: 7\n");
    browser.see("Valid: 1 vessel");
    let mut theirs = true_fleet("shared");
    theirs["concurrency"] = json!(3);
    api.apply(&theirs);

    browser.click("Save");
    browser.see("Version 2 was saved meanwhile");
    browser.see("+ concurrency: 3");
    browser.click("Cancel");
    assert!(text(&browser).contains("# mine"));
    let version = || api.get(&format!("/api/v1/fleets/{fleet}")).expect(200).data();
    assert_eq!(version()["concurrency"], 3);
    browser.click("Save");
    browser.see("Version 2 was saved meanwhile");
    browser.click("Save over it");
    browser.see("Saved as version 3");
    assert_eq!((&version()["concurrency"], &version()["version"]), (&json!(7), &json!(3)));
}

#[test]
fn all_versions_of_a_fleet_can_be_seen() {
    let server = Server::start();
    let api = server.api();
    let mut fleet = String::new();
    for concurrency in 1..=53 {
        let mut definition = true_fleet("long");
        definition["concurrency"] = json!(concurrency);
        fleet = api.apply(&definition);
    }
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    open(&browser, &server, &format!("/fleets/{fleet}/versions"));
    browser.see("Version 4 ");
    assert!(!browser.text().contains("Version 3 "));
    browser.click("Older versions");
    browser.see("Version 1 ");
    assert!(!browser.text().contains("Older versions"));
}
