//! The sender of a webhook in the pages: from none to a verified one, and back.

use std::fs;

use super::{open, sign_in};
use crate::harness::api::true_fleet;
use crate::harness::{Browser, Server};

fn page_of(fleet: &str) -> String {
    format!("/fleets/{fleet}/triggers")
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
