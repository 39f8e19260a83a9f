//! Secrets in the pages: set, generated, replaced and removed, and never shown again.

use std::fs;

use serde_json::json;

use super::sign_in;
use crate::harness::{Browser, Server};

#[test]
fn secrets_are_set_generated_and_removed() {
    let server = Server::start();
    server.api().apply(&json!({"name": "uploads", "vessels": {"v": {"run": "true",
        "environment": {"KEY": {"secret": "API_KEY"}}}}}));
    let kept = |name: &str| fs::read_to_string(server.data_dir().join("secrets").join(name));
    let browser = Browser::start();
    sign_in(&browser, &server, "/secrets");
    browser.see("No secrets yet");
    browser.see("API_KEY is missing: uploads needs it.");

    browser.click("Set it");
    browser.type_into("Value", "line one\nline two");
    browser.click("Set");
    browser.see("used by uploads");
    assert_eq!(kept("API_KEY").unwrap(), "line one\nline two");
    assert!(!browser.text().contains("is missing"));

    browser.click("Generate one");
    browser.type_into("Name", "GITHUB_HOOK");
    browser.click("Generate");
    browser.see("It is not shown again.");
    browser.click("Copy");
    browser.see("Copied the secret");
    let generated = browser.clipboard();
    assert_eq!(data_encoding::BASE64URL_NOPAD.decode(generated.as_bytes()).unwrap().len(), 32);
    assert_eq!(kept("GITHUB_HOOK").unwrap(), generated);
    browser.click("Done");
    browser.see("not in use");
    let page = browser.script("return document.documentElement.outerHTML");
    assert!(!page.as_str().unwrap().contains(&generated), "the page forgets the value");

    browser.click("Remove GITHUB_HOOK");
    browser.see("No fleet names it.");
    browser.click("Remove");
    browser.see("GITHUB_HOOK is gone");
    browser.click("Remove API_KEY");
    browser.see("what needs it fails from now on");
    browser.click("Cancel");
    assert!(kept("API_KEY").is_ok());
    browser.click("Remove API_KEY");
    browser.click("Remove it all the same");
    browser.see("API_KEY is missing");
    assert!(kept("API_KEY").is_err() && kept("GITHUB_HOOK").is_err());
    assert_eq!(browser.errors(), Vec::<String>::new());
}
