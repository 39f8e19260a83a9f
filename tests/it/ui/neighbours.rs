//! A session in a real browser: what other services of the same host get of it, other tabs, reloads.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;

use super::{open, sign_in};
use crate::harness::http::exchange;
use crate::harness::{Browser, PATIENCE, Server};

#[test]
fn a_service_on_another_port_gets_the_cookie_and_can_do_nothing_with_it() {
    let server = Server::start();
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let neighbour = listener.local_addr().unwrap();
    let (heads, received) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = vec![0; 8192];
            let count = stream.read(&mut head).unwrap_or_default();
            let _ = heads.send(String::from_utf8_lossy(&head[..count]).into_owned());
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>hello",
            );
        }
    });
    browser.go(&format!("http://{neighbour}/"));
    let head = received.recv_timeout(PATIENCE).unwrap();
    let cookie = head.lines().find(|line| line.to_lowercase().starts_with("cookie:")).unwrap();
    assert!(cookie.contains("boathook_session_"), "browsers send it to every port: {cookie}");
    assert!(!head.contains("X-Boathook"), "{head}");
    let forged = format!(
        "GET /api/v1/fleets HTTP/1.1\r\nHost: {0}\r\nSec-Fetch-Site: same-origin\r\n\
         Origin: http://{0}\r\nX-Boathook-Page: 1\r\n{cookie}\r\n\r\n",
        server.admin()
    );
    assert_eq!(exchange(server.admin(), forged.as_bytes()).unwrap().status, 401);
    // Its page can neither read our storage nor have the browser send the key along.
    assert_eq!(browser.script("return localStorage.length"), 0);
    let attempt = format!(
        "return fetch('http://{}/api/v1/fleets', {{credentials: 'include', \
         headers: {{'X-Boathook-Session': 'x'}}}}).then((it) => it.status, () => 'failed')",
        server.admin()
    );
    assert_eq!(browser.script(&attempt), "failed");
    // The owner is signed in as before.
    open(&browser, &server, "/");
    browser.see("No fleets yet");
}

#[test]
fn a_session_lasts_through_reloads_and_tabs_and_ends_in_all_of_them() {
    let mut server = Server::start();
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    let has_form = || browser.script("return !!document.querySelector('.sign-in')") == true;
    browser.script("location.reload()");
    browser.see("No fleets yet");
    assert!(!has_form());

    let first = browser.tab();
    let second = browser.open_tab();
    browser.switch_to(&second);
    open(&browser, &server, "/new");
    browser.see("Create fleet");
    browser.click("Sign out");
    browser.see("Sign in to Boathook");
    assert_eq!(
        browser.script("return localStorage.getItem('boathook.session')"),
        serde_json::Value::Null
    );
    browser.switch_to(&first);
    browser.see("Sign in to Boathook");
    // Signing in works for both again.
    browser.fill("Token", &server.token());
    browser.click("Sign in");
    browser.see("No fleets yet");
    browser.switch_to(&second);
    browser.see("Create fleet");

    // A restart ends the sessions that there were: the pages ask anew.
    server.stop();
    server.start_again();
    sign_in(&browser, &server, "/");
    browser.see("No fleets yet");
}
