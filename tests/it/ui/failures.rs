//! A failure can be read on the page of its run, without a click.

use serde_json::json;

use super::{open, sign_in};
use crate::harness::{Browser, Server};

#[test]
fn the_page_of_a_run_shows_the_ends_of_failed_outputs_and_what_exit_codes_mean() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "fails", "vessels": {
        "tests": {"run": "for n in $(seq 1 200); do echo \"case $n\"; done; printf '\\033[31mred\\033[0m end\\n'; exit 3"},
        "absent": {"run": "no-such-program --now"},
        "killed": {"run": "sh -c 'kill -SEGV $$'; exit 139"},
        "quiet": {"command": ["false"]},
        "fine": {"run": "echo all is well"},
        "after": {"run": "true"},
    }, "connections": {"tests": {"after": "SUCCESS"}}}));
    let run = api.wait_ended(&api.start(&fleet));
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/runs/{}", run["id"].as_str().unwrap()));
    browser.see("red end");
    let text = browser.text();
    assert!(text.contains("case 182\n") && text.contains("case 200\n"), "{text}");
    assert!(!text.contains("case 181\n"), "the last 20 lines");
    assert!(text.contains("Exit code 127. The program was not found"), "{text}");
    assert!(text.contains("no-such-program"), "{text}");
    assert!(text.contains("SIGSEGV (signal 11): it used memory that is not its own."), "{text}");
    assert!(text.contains("It wrote nothing."), "{text}");
    assert!(!text.contains("all is well"), "only what failed");
    assert!(text.contains("these are its last 20 lines."), "{text}");
    let colour = "return [...document.querySelectorAll('.last-lines span')]
        .find((it) => it.textContent === 'red').style.color";
    assert_eq!(browser.script(colour), "var(--ansi-1)");
    browser.wait("the title says it", || {
        browser.script("return document.title").as_str().unwrap().starts_with("✗ fails")
    });
    let icon = "return document.querySelector('link[rel=icon]').href";
    assert!(browser.script(icon).as_str().unwrap().starts_with("data:image/svg+xml"));
    browser.click("Whole log");
    browser.see("Exit code");
    open(&browser, &server, "/");
    browser.see("fails");
    browser.wait("the overview says it, too", || {
        browser.script("return document.title").as_str().unwrap().starts_with("✗ Overview")
    });
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_notification_that_did_not_arrive_is_told_with_its_next_try() {
    let server = Server::builder().setting("notify_hosts", "127.0.0.1:9").start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "untold", "vessels": {"v": {"command": ["false"]}},
        "notify": [{"on": "ERRORED", "url": "http://127.0.0.1:9/told", "format": "slack"}]}));
    let run = api.wait_ended(&api.start(&fleet));
    let id = run["id"].as_str().unwrap();
    server.wait_until("it was tried", || {
        api.run(id)["notifications"][0]["attempts"].as_u64().is_some_and(|attempts| attempts > 0)
    });
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/runs/{id}"));
    browser.see("Not told yet: entry 1 of notify.");
    browser.see("Next try ");
}
