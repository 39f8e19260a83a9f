//! What the pages say of the server's state and of addresses that lead nowhere.

use std::net::TcpListener;

use serde_json::json;

use super::{open, sign_in};
use crate::harness::api::true_fleet;
use crate::harness::http::exchange;
use crate::harness::{Browser, Server};

#[test]
fn one_banner_says_that_the_server_is_away_and_goes_when_it_is_back() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut server = Server::builder().admin_listen(&free.to_string()).start();
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    server.kill();
    let banners = "return [...document.querySelectorAll('.banner:not([hidden])')].length";
    browser.see("The server does not answer.");
    assert_eq!(browser.script(banners), 1);
    assert_eq!(browser.script("return document.querySelectorAll('.message').length"), 0);
    let grey = "return getComputedStyle(document.querySelector('.health')).opacity < 1";
    assert_eq!(browser.script(grey), true);
    server.start_again();
    browser.wait("the banner is gone", || browser.script(banners) == 0);
}

#[test]
fn an_address_that_is_no_page_says_so_to_browsers_and_to_programs() {
    let server = Server::start();
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    open(&browser, &server, "/nope");
    browser.see("There is no page at this address.");
    let ask = |path: &str, accept: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
        exchange(server.admin(), request.as_bytes()).unwrap()
    };
    let page = ask("/nope", "text/html,application/xhtml+xml,*/*;q=0.8").expect(404);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    ask("/nope", "*/*").expect(401);
    ask("/api/v1/nope", "text/html").expect(401);
    ask("/metrics", "text/html").expect(401);
}

#[test]
fn the_box_finds_fleets_by_a_part_of_their_names_by_keyboard_alone() {
    let server = Server::start();
    let api = server.api();
    for name in ["deploy site", "nightly-backup", "Deploy docs"] {
        api.apply(&true_fleet(name));
    }
    let found = api.get("/api/v1/fleets?name=dEPLOY").expect(200).data();
    assert_eq!(found.as_array().unwrap().len(), 2);
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    browser.see("nightly-backup");
    // The slash leads to the box from anywhere.
    browser
        .script("document.dispatchEvent(new KeyboardEvent('keydown', {key: '/', bubbles: true}))");
    browser.type_into("Find a fleet", "deploy");
    let options = "return [...document.querySelectorAll('[role=option] span:first-child')].map((it) => it.textContent)";
    browser.wait("both are offered", || {
        browser.script(options) == json!(["Deploy docs", "deploy site"])
    });
    // Down twice, and in.
    browser.type_into("Find a fleet", "\u{e015}\u{e015}\u{e007}");
    browser.wait("the fleet is shown", || browser.text().contains("has not run yet"));
    assert_eq!(browser.script("return document.querySelector('h1').textContent"), "deploy site");
}

#[test]
fn a_step_back_returns_to_the_same_page_of_the_runs() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("many"));
    for _ in 0..30 {
        api.wait_ended(&api.start(&fleet));
    }
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    browser.click("Runs");
    let rows = || browser.script("return document.querySelectorAll('.runs tbody tr').length");
    browser.wait("a page of runs is there", || rows() == 25);
    browser.type_into("Status", "Success");
    browser.click("Older");
    browser.wait("the rest is there", || rows() == 5);
    let place = browser.url();
    assert!(place.contains("status=Success") && place.contains("before="), "{place}");
    browser.script("document.querySelector('.runs tbody a').click()");
    browser.see("Graph");
    browser.script("history.back()");
    browser.wait("the same page is back", || rows() == 5);
    assert_eq!(browser.url(), place);
}

#[test]
fn a_fleet_is_found_by_its_name_and_a_deleted_one_is_no_link() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("by name"));
    let run = api.wait_ended(&api.start(&fleet));
    let browser = Browser::start();
    sign_in(&browser, &server, "/fleets/by%20name/vessels");
    browser.see("1 vessel.");
    open(&browser, &server, "/fleets/nobody");
    browser.see("No fleet is called nobody.");
    open(&browser, &server, &format!("/runs/{}", run["id"].as_str().unwrap()));
    browser.click("Replay");
    browser.see("The new run takes version 1 of the fleet, as this one did.");
    browser.click("Cancel");
    api.delete(&format!("/api/v1/fleets/{fleet}")).expect(200);
    open(&browser, &server, &format!("/runs/{}", run["id"].as_str().unwrap()));
    browser.see("by name (deleted)");
    let links = "return document.querySelectorAll('main a[href^=\"/fleets\"]').length";
    assert_eq!(browser.script(links), 0);
    api.apply(&json!({"name": "other", "vessels": {"v": {"command": ["true"]}}}));
    open(&browser, &server, "/");
    browser.see("by name (deleted)");
}
