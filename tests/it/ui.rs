//! The web pages, in a real browser.

mod edits;
mod failures;
mod gallery;
mod hostile;
mod logs;
mod neighbours;
mod overview;
mod preview;
mod queue;
mod schedules;
mod secrets;
mod sender;
mod server;
mod sessions;
mod starting;
mod state;
mod statistics;
mod story;
mod tokens;

use crate::harness::{Browser, Server};

/// Signs the browser in by a one-time link and opens `path`.
#[track_caller]
fn sign_in(browser: &Browser, server: &Server, path: &str) {
    let link = server.api().call("POST", "/api/v1/session/links", None).expect(201).data();
    let link = link["path"].as_str().expect("a path");
    browser.go(&format!("http://{}{link}", server.admin()));
    browser.wait("one is signed in", || browser.url().ends_with('/') && !has_form(browser));
    if path != "/" {
        open(browser, server, path);
    }
}

fn has_form(browser: &Browser) -> bool {
    browser.script("return !!document.querySelector('.sign-in')") == true
}

/// Opens the page at `path` and waits until it is there.
#[track_caller]
fn open(browser: &Browser, server: &Server, path: &str) {
    browser.go(&format!("http://{}{path}", server.admin()));
    browser.wait("the page is there", || {
        browser.script("return !!document.querySelector('main h1')") == true
    });
}
