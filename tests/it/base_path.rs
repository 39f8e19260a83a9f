//! The pages, their API and the command line below a path of a host, behind proxies that are configured as
//! `boathook help exposing` has it.

use std::fs;

use serde_json::json;

use crate::harness::proxy::{Proxy, free_port, topic_block};
use crate::harness::server::finish;
use crate::harness::{Browser, Server, wait_until};

const TOPIC: &str = include_str!("../../src/cli/help/exposing.md");
const SECTION: &str = "## The pages";
const BASE: &str = "/boathook";

fn server() -> Server {
    Server::builder().setting("admin_base_path", BASE).start()
}

/// nginx that asks for a password.
fn nginx(server: &Server) -> Proxy {
    let scratch = tempfile::tempdir().unwrap();
    let users = scratch.path().join("users");
    fs::write(&users, "proxy:{PLAIN}password\n").unwrap();
    let password = format!("{{ auth_basic proxy; auth_basic_user_file {};\n", users.display());
    let replacements = [("127.0.0.1:9001", server.admin()), ("{\n", &password)];
    let location = topic_block(TOPIC, SECTION, "nginx", &replacements);
    let address = format!("127.0.0.1:{}", free_port());
    let block = format!("server {{ listen {address};\n{location}}}\n");
    let arguments = vec!["-u".to_owned(), "proxy:password".to_owned()];
    Proxy::nginx(scratch, &block, format!("http://{address}"), arguments)
}

/// Caddy, which passes the base path on or not.
fn caddy(server: &Server, strips: bool) -> Proxy {
    let base = format!("http://127.0.0.1:{}", free_port());
    let stripping = format!("handle_path /boathook/* {{\nreverse_proxy {}\n}}\n", server.admin());
    let as_it_is = format!("reverse_proxy /boathook/* {}", server.admin());
    let line = if strips { &stripping } else { &as_it_is };
    let written = "reverse_proxy /boathook/* 127.0.0.1:9001";
    let lines = topic_block(TOPIC, SECTION, "caddy", &[(written, line)]);
    Proxy::caddy(&format!("{base} {{\n{lines}}}\n"), base)
}

/// Waits until the page at `path` is there. Fails when one of its links leads elsewhere.
#[track_caller]
fn assert_page(browser: &Browser, base: &str, path: &str) {
    browser.wait(&format!("{path} is there"), || {
        let is_there = browser.script("return !!document.querySelector('main h1')") == true;
        is_there && browser.url() == format!("{base}{path}")
    });
    let strange = browser.script(
        "const own = location.origin + '/boathook/';
        return [...document.querySelectorAll('[href]')].map((it) => it.getAttribute('href'))
          .filter((it) => !it.startsWith('data:') && !new URL(it, location).href.startsWith(own))",
    );
    assert_eq!(strange, json!([]), "{path}");
}

#[test]
fn the_pages_work_below_a_path_and_behind_a_password() {
    let server = server();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "below", "vessels": {"v": {"run": "echo its output"}}}));
    let run = api.wait_status(&api.start(&fleet), "Success");
    let (run_id, vessel) = (run["id"].as_str().unwrap(), run["vessels"][0]["id"].as_str().unwrap());
    let proxy = nginx(&server);
    wait_until("the proxy answers", || proxy.ask("GET", "/boathook/healthz").0 == "200");
    let base = format!("{}{BASE}", proxy.base);
    let browser = Browser::start();
    browser.devtools("Network.enable", json!({}));
    let password = data_encoding::BASE64.encode(b"proxy:password");
    let headers = json!({"headers": {"Authorization": format!("Basic {password}")}});
    browser.devtools("Network.setExtraHTTPHeaders", headers);

    let link = api.call("POST", "/api/v1/session/links", None).expect(201).data();
    browser.go(&format!("{base}{}", link["path"].as_str().unwrap()));
    browser.see("below");
    assert_page(&browser, &base, "/");
    let cookies = browser.devtools("Network.getCookies", json!({"urls": [format!("{base}/")]}));
    assert_eq!(
        (&cookies["cookies"][0]["path"], &cookies["cookies"][1]),
        (&json!(BASE), &json!(null))
    );
    let (of_fleet, of_run) = (format!("/fleets/{fleet}"), format!("/runs/{run_id}"));
    let of_vessel = format!("{of_run}/vessels/{vessel}");
    for path in
        ["/runs", "/new", "/projects", "/secrets", "/tokens", &of_fleet, &of_run, &of_vessel]
    {
        browser.go(&format!("{base}{path}"));
        assert_page(&browser, &base, path);
    }
    browser.see("its output");
    // A part of an id leads to the address with the whole id.
    browser.go(&format!("{base}/runs/{}", &run_id[24..]));
    assert_page(&browser, &base, &of_run);
    // From page to page without loading anew, and back.
    browser.script("window.stays = true");
    browser.click("Runs");
    assert_page(&browser, &base, "/runs");
    browser.follow(&of_run);
    assert_page(&browser, &base, &of_run);
    browser.follow(&of_vessel);
    assert_page(&browser, &base, &of_vessel);
    browser.script("history.back()");
    assert_page(&browser, &base, &of_run);
    browser.click("Boathook");
    assert_page(&browser, &base, "/");
    assert_eq!(browser.script("return window.stays"), true);
    browser.click("Sign out");
    browser.see("Sign in to Boathook");
    assert_eq!(browser.errors(), Vec::<String>::new());

    // Past the proxy the pages are below the path as well.
    let link = api.call("POST", "/api/v1/session/links", None).expect(201).data();
    browser.go(&format!("http://{}{}", server.admin(), link["path"].as_str().unwrap()));
    assert_page(&browser, &format!("http://{}{BASE}", server.admin()), "/");
    browser.see("below");
}

#[test]
fn the_command_line_goes_through_a_path_of_a_proxy() {
    for strips in [false, true] {
        let server = server();
        let proxy = caddy(&server, strips);
        wait_until("the proxy answers", || proxy.ask("GET", "/boathook/healthz").0 == "200");
        let url = format!("{}{BASE}", proxy.base);
        let cli = |arguments: &[&str]| finish(server.cli(&[&["--url", &url], arguments].concat()));
        let fleet = server.scratch().join("below.yaml");
        fs::write(&fleet, "name: below\nvessels:\n  v: {run: echo its output}\n").unwrap();
        for arguments in [&["fleet", "apply", fleet.to_str().unwrap()][..], &["status"]] {
            let (code, _, said) = cli(arguments);
            assert_eq!(code, 0, "{said}");
        }
        let (code, output, said) = cli(&["run", "below", "--follow"]);
        assert!(code == 0 && output.contains("its output"), "{output}{said}");
        let (code, link, said) = cli(&["open"]);
        assert!(code == 0 && link.starts_with(&format!("{url}/sign-in#link=")), "{said}");
        let backup = server.scratch().join(format!("backup-{strips}"));
        assert_eq!(cli(&["backup", backup.to_str().unwrap()]).0, 0);
        // Nor does it need the proxy.
        assert_eq!(finish(server.cli(&["fleet", "show", "below"])).0, 0);
        let redirect = ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"];
        assert_eq!(proxy.curl(&redirect, BASE), format!("302 {url}/"));
        // What is beside the path is none of the server's.
        assert_ne!(proxy.curl(&[], "/"), proxy.curl(&[], "/boathook/"));
    }
}

#[test]
fn a_base_path_that_would_hide_the_api_is_refused() {
    for (path, message) in [
        ("/api", "/api is a path of the server's own"),
        ("boathook", "not a path: \"boathook\""),
        ("/a b", "between its slashes"),
    ] {
        let mut server = Server::builder().setting("admin_base_path", path).not_started();
        assert!(server.try_start_again().is_err(), "{path}");
        assert!(server.log().contains(message), "{}", server.log());
    }
}
