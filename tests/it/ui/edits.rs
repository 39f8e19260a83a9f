//! Editing a fleet in the pages while others edit it.

use serde_json::json;

use super::{open, sign_in};
use crate::harness::api::true_fleet;
use crate::harness::{Browser, Server};

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
    browser.click("Cancel");
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
