//! The page of the server: findings with remedies, settings, sessions and a backup.

use std::fs;

use super::tokens::{has_button, sign_in_as};
use super::{open, sign_in};
use crate::harness::{Browser, Server};

#[test]
fn the_page_of_the_server_shows_findings_and_settings_and_ends_sessions() {
    let server = Server::builder().setting("max_followers", "7").start();
    let api = server.api();
    let sessions = || api.get("/api/v1/sessions").expect(200).data().as_array().map_or(0, Vec::len);
    let browser = Browser::start();
    sign_in(&browser, &server, "/server");
    browser.see("Nothing wrong: ");
    let is_one_row = "const last = [...document.querySelectorAll('.bar button')].pop(); \
        return last.offsetTop < document.querySelector('.brand').offsetTop + 30";
    assert_eq!(browser.script(is_one_row), true, "Sign out is on a second row");

    for finding in api.get("/api/v1/doctor").expect(200).data().as_array().unwrap() {
        if finding["level"] == "ok" {
            continue;
        }
        let remedy = finding["remedy"].as_str().unwrap_or_default();
        browser.see(&remedy.lines().next().unwrap_or_default().replace('`', ""));
    }
    let settings = api.get("/api/v1/settings").expect(200).data();
    let set = settings.as_array().unwrap().iter().find(|it| it["name"] == "max_followers").unwrap();
    assert_ne!(set["source"], "default");
    browser.see("max_followers = 7");
    browser.see(set["source"].as_str().unwrap());
    assert!(!browser.text().contains("idle_timeout"), "a default is shown");
    browser.click_beginning("At their defaults");
    browser.see("idle_timeout");

    // The session that this one takes the place of in the browser stays open.
    sign_in(&browser, &server, "/server");
    assert_eq!(sessions(), 2);
    browser.click("End");
    browser.click("End it");
    browser.see("The session has ended");
    browser.see("this one");
    assert_eq!(sessions(), 1);
    let audit = api.get("/api/v1/audit?limit=5").expect(200).data();
    assert!(audit.to_string().contains("end session"), "{audit}");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_page_of_the_server_makes_a_backup_that_can_be_restored() {
    let server = Server::start();
    let browser = Browser::start();
    sign_in(&browser, &server, "/server");
    let keep = "window.made = null; const make = URL.createObjectURL; \
                URL.createObjectURL = (blob) => { window.made = blob; return make.call(URL, blob); }";
    browser.script(keep);
    browser.click("Make a backup");
    browser.see("The backup is made");
    browser.see("Made, ");
    let bytes = "return window.made.arrayBuffer().then((it) => [...new Uint8Array(it)])";
    let bytes: Vec<u8> = serde_json::from_value(browser.script(bytes)).unwrap();
    let kept = server.scratch().join("page.backup");
    fs::write(&kept, bytes).unwrap();
    let verified = server.cli(&["restore", kept.to_str().unwrap(), "--verify"]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_reader_sees_the_server_without_sessions_and_backup() {
    let server = Server::start();
    let browser = Browser::start();
    sign_in_as(&browser, &server, "reader");
    assert!(has_button(&browser, "Server"));
    open(&browser, &server, "/server");
    browser.see("At their defaults");
    assert!(!has_button(&browser, "Make a backup") && !has_button(&browser, "End"));
    assert!(!browser.text().contains("Sessions"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}
