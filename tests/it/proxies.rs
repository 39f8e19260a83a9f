//! The proxies of `boathook help exposing` in front of the server, configured as written there: only
//! addresses and paths are others.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::api::true_fleet;
use crate::harness::certificate::{Certificate, HOST};
use crate::harness::proxy::{Proxy, free_port, topic_block};
use crate::harness::server::read_until;
use crate::harness::{Hook, Random, Server, sha256, wait_until};

const TOPIC: &str = include_str!("../../src/cli/help/exposing.md");

/// The topic's first block in this language.
fn block(language: &str, replacements: &[(&str, &str)]) -> String {
    topic_block(TOPIC, "", language, replacements)
}

/// nginx with the topic's block, for the server at `hooks`.
fn nginx(hooks: &str) -> Proxy {
    nginx_with("", hooks)
}

/// The same with `more` lines in the block of the server.
fn nginx_with(more: &str, hooks: &str) -> Proxy {
    let scratch = tempfile::tempdir().unwrap();
    let port = free_port();
    let made = Certificate::make(scratch.path(), "proxy");
    let block = block(
        "nginx",
        &[
            ("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl")),
            ("/etc/ssl/hooks.example.com.pem", &made.certificate.display().to_string()),
            ("/etc/ssl/private/hooks.example.com.key", &made.key.display().to_string()),
            ("/var/log/nginx/hooks.log", &format!("{}/hooks.log", scratch.path().display())),
            ("127.0.0.1:9000", hooks),
            ("    location / {", &format!("{more}    location / {{")),
        ],
    );
    let arguments = made.curl_arguments(&port.to_string());
    Proxy::nginx(scratch, &block, format!("https://{HOST}:{port}"), arguments)
}

/// Caddy with the topic's block, for the server at `hooks`; without TLS, for which it would ask a server
/// on the internet.
fn caddy(hooks: &str) -> Proxy {
    caddy_with("", hooks)
}

/// The same with `more` lines in the block of the site.
fn caddy_with(more: &str, hooks: &str) -> Proxy {
    let base = format!("http://127.0.0.1:{}", free_port());
    let proxied = format!("{more}    reverse_proxy");
    let replacements =
        [(HOST, base.as_str()), ("127.0.0.1:9000", hooks), ("    reverse_proxy", &proxied)];
    Proxy::caddy(&block("caddyfile", &replacements), base)
}

/// Fails when a file of the proxy's holds the token.
fn assert_secret(proxy: &Proxy, hook: &Hook) {
    let mut seen = 0;
    for entry in fs::read_dir(proxy.scratch.path()).unwrap().flatten() {
        if entry.path().is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            let token = hook.token().as_bytes();
            let is_told = bytes.windows(token.len()).any(|at| at == token);
            assert!(!is_told, "{} holds the token", entry.path().display());
            seen += 1;
        }
    }
    assert!(seen > 1);
}

/// `silence`: the statuses by which curl tells that this proxy may close a connection unanswered when
/// it brings too much.
fn works_as_written(start: impl Fn(&str) -> Proxy, silence: &[&str]) {
    let settings = block("toml", &[]);
    let settings: toml::Table = settings.parse().unwrap();
    let proxies: Vec<&str> = settings["trusted_proxies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    let mut server = Server::builder().setting("trusted_proxies", &proxies.join(",")).start();
    let script = "echo $BOATHOOK_REMOTE_ADDR; sha256sum";
    let (_, hook) =
        server.fleet_with_webhook(&json!({"name": "proxied", "vessels": {"v": {"run": script}}}));
    let proxy = start(server.hooks());
    let body = server.scratch().join("body");
    fs::write(&body, "").unwrap();
    wait_until("the proxy answers", || proxy.post("/", &body, &[]).0 == "400");

    let mut random = Random::seeded(25);
    let forged = ["-H", "X-Forwarded-For: 1.2.3.4", "-H", "Forwarded: for=1.2.3.4"];
    for (bytes, more) in [
        (vec![], &[][..]),
        (b"{}".to_vec(), &forged[..]),
        (random.bytes(100_000), &["-H", "Transfer-Encoding: chunked"]),
        (random.bytes(25 << 20), &[]),
    ] {
        fs::write(&body, &bytes).unwrap();
        let (status, answer) = proxy.post(&hook.target(), &body, more);
        assert_eq!(status, "201", "{} bytes: {answer}", bytes.len());
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let run = answer["data"]["fleet_run_id"].as_str().unwrap();
        let run = server.api().wait_status(run, "Success");
        let output = server.api().output(&run, "v");
        assert_eq!(output, format!("127.0.0.2\n{}  -\n", sha256(&bytes)));
    }
    fs::write(&body, vec![b'x'; (25 << 20) + 1]).unwrap();
    wait_until("it is too large", || {
        let (status, _) = proxy.post(&hook.target(), &body, &[]);
        let is_refused = status == "413";
        assert!(is_refused || silence.contains(&status.as_str()), "{status}");
        is_refused
    });
    // The URL stays secret when the server is away, too.
    server.stop();
    fs::write(&body, "{}").unwrap();
    assert_eq!(proxy.post(&hook.target(), &body, &[]).0, "502");
    assert_secret(&proxy, &hook);
}

#[test]
fn nginx_in_front_works_as_written() {
    works_as_written(nginx, &[]);
}

#[test]
fn caddy_in_front_works_as_written() {
    // Caddy closes before curl has sent all, which may cost curl the answer on a busy machine.
    works_as_written(caddy, &["000", "100"]);
}

/// The topic's lines for probes and browsers: what `start`ed with them answers, and what the server
/// gets to see.
fn answers_probes_as_written(start: impl Fn(&str) -> Proxy) {
    let server = Server::builder().setting("trusted_proxies", "127.0.0.1").start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("probed"));
    let proxy = start(server.hooks());
    let page = "https://shop.example.com";
    wait_until("the proxy answers", || proxy.ask("GET", "/healthz").0 == "200");
    for (method, target, status) in [
        ("OPTIONS", hook.target(), "204"),
        ("GET", hook.target(), "200"),
        ("HEAD", hook.target(), "200"),
        ("GET", "/other".to_owned(), "405"),
        ("POST", hook.target(), "201"),
        ("POST", "/hooks/unknown".to_owned(), "400"),
    ] {
        let expected = (status.to_owned(), page.to_owned());
        assert_eq!(proxy.ask(method, &target), expected, "{method}");
    }
    assert_eq!(server.api().all_runs().len(), 1);
}

#[test]
fn nginx_answers_probes_and_browsers_as_written() {
    answers_probes_as_written(|hooks| nginx_with(&block("conf", &[]), hooks));
}

#[test]
fn caddy_answers_probes_and_browsers_as_written() {
    answers_probes_as_written(|hooks| caddy_with(&block("caddy", &[]), hooks));
}

/// The output of a vessel comes through the proxy as it is written.
fn passes_streams_on(start: impl Fn(&str) -> Proxy) {
    let server = Server::start();
    let api = server.api();
    let gate = server.scratch().join("gate");
    let script =
        format!("echo first; while [ ! -e {} ]; do sleep 0.05; done; echo second", gate.display());
    let fleet = api.apply(&json!({"name": "slow", "vessels": {"v": {"run": script}}}));
    let run = api.run(&api.start(&fleet));
    let vessel = run["vessels"][0]["id"].as_str().unwrap();
    let proxy = start(server.admin());
    wait_until("the proxy answers", || proxy.ask("GET", "/healthz").0 == "200");

    let header = server.scratch().join("header");
    fs::write(&header, format!("Authorization: Bearer {}\n", server.token())).unwrap();
    let mut curl = Command::new("curl")
        .args(["-sSN", "--max-time", "60", "-H"])
        .arg(format!("@{}", header.display()))
        .args(&proxy.arguments)
        .arg(format!("{}/api/v1/vessel-runs/{vessel}/output?follow=true", proxy.base))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = curl.stdout.take().unwrap();
    // The vessel goes on only once its first line has come all the way.
    assert_eq!(read_until(&mut output, "first\n"), "first\n");
    fs::write(&gate, "").unwrap();
    assert_eq!(read_until(&mut output, "second\n"), "second\n");
    assert!(curl.wait().unwrap().success());
}

#[test]
fn nginx_passes_streams_on_piece_by_piece() {
    passes_streams_on(nginx);
}

#[test]
fn caddy_passes_streams_on_piece_by_piece() {
    passes_streams_on(caddy);
}
