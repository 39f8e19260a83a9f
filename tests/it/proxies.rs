//! The proxies of `boathook help exposing` in front of the server, configured as written there: only
//! addresses and paths are others.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::api::true_fleet;
use crate::harness::certificate::{Certificate, HOST};
use crate::harness::server::{finish, read_until};
use crate::harness::{Hook, Random, Server, sha256, wait_until};

/// The topic's block in this language, with `replacements` made, each of which must be there.
fn topic_block(language: &str, replacements: &[(&str, &str)]) -> String {
    let topic = include_str!("../../src/cli/help/exposing.md");
    let (_, rest) = topic.split_once(&format!("```{language}\n")).expect("a block in the topic");
    let (block, _) = rest.split_once("```").unwrap();
    replacements.iter().fold(block.to_owned(), |block, (from, to)| {
        assert!(block.contains(from), "no {from:?} in the block");
        block.replace(from, to)
    })
}

fn free_port() -> u16 {
    // Below the ports that the system gives away: no server of another test takes it meanwhile.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A proxy in front of a server. Ended when dropped.
struct Proxy {
    child: Child,
    scratch: TempDir,
    /// What senders begin URLs with.
    base: String,
    /// Of curl, to get there.
    arguments: Vec<String>,
}

impl Proxy {
    fn spawn(mut command: Command, scratch: TempDir, base: String, arguments: Vec<String>) -> Self {
        let log = fs::File::create(scratch.path().join("log")).unwrap();
        let child = command
            .current_dir(scratch.path())
            .env_clear()
            .env("HOME", scratch.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the proxy is installed: tests/run installs it");
        Self { child, scratch, base, arguments }
    }

    /// nginx with the topic's block, for the server at `hooks`.
    fn nginx(hooks: &str) -> Self {
        Self::nginx_with("", hooks)
    }

    /// The same with `more` lines in the block of the server.
    fn nginx_with(more: &str, hooks: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let port = free_port();
        let made = Certificate::make(scratch.path(), "proxy");
        let directory = scratch.path().display();
        let block = topic_block(
            "nginx",
            &[
                ("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl")),
                ("/etc/ssl/hooks.example.com.pem", &made.certificate.display().to_string()),
                ("/etc/ssl/private/hooks.example.com.key", &made.key.display().to_string()),
                ("/var/log/nginx/hooks.log", &format!("{directory}/hooks.log")),
                ("127.0.0.1:9000", hooks),
                ("    location / {", &format!("{more}    location / {{")),
            ],
        );
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {directory}/{name};\n"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {directory}/pid;\n\
             error_log {directory}/error.log;\nevents {{}}\n\
             http {{ access_log {directory}/access.log;\n{paths}{block}}}\n"
        );
        let file = scratch.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-e").arg(scratch.path().join("early.log")).arg("-c").arg(&file);
        let arguments = made.curl_arguments(&port.to_string());
        Self::spawn(command, scratch, format!("https://{HOST}:{port}"), arguments)
    }

    /// Caddy with the topic's block, for the server at `hooks`; without TLS, for which it would
    /// ask a server on the internet.
    fn caddy(hooks: &str) -> Self {
        Self::caddy_with("", hooks)
    }

    /// The same with `more` lines in the block of the site.
    fn caddy_with(more: &str, hooks: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let base = format!("http://127.0.0.1:{}", free_port());
        let proxied = format!("{more}    reverse_proxy");
        let replacements =
            [(HOST, base.as_str()), ("127.0.0.1:9000", hooks), ("    reverse_proxy", &proxied)];
        let block = topic_block("caddyfile", &replacements);
        let caddyfile = scratch.path().join("Caddyfile");
        fs::write(&caddyfile, block).unwrap();
        let mut adapt = Command::new("caddy");
        adapt.args(["adapt", "--config"]).arg(&caddyfile);
        let (code, adapted, said) = finish(adapt);
        assert_eq!(code, 0, "{said}");
        let mut configuration: serde_json::Value = serde_json::from_str(&adapted).unwrap();
        // Its own admin listener has one port on the whole machine.
        configuration["admin"] = json!({"disabled": true});
        let file = scratch.path().join("caddy.json");
        fs::write(&file, configuration.to_string()).unwrap();
        let mut command = Command::new("/usr/bin/caddy");
        command.args(["run", "--config"]).arg(&file);
        Self::spawn(command, scratch, base, Vec::new())
    }

    /// POSTs the file `body` as 127.0.0.2: (status, answer).
    fn post(&self, target: &str, body: &Path, more: &[&str]) -> (String, String) {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60", "--interface", "127.0.0.2", "-w", "\n%{http_code}"])
            .args(&self.arguments)
            .args(["-H", "Content-Type: application/octet-stream"])
            .args(more)
            .arg("--data-binary")
            .arg(format!("@{}", body.display()))
            .arg(format!("{}{target}", self.base));
        let (_, stdout, _) = finish(curl);
        let (answer, status) = stdout.rsplit_once('\n').unwrap_or_default();
        (status.to_owned(), answer.to_owned())
    }

    /// A request without a body: (status, the header `Access-Control-Allow-Origin`).
    fn ask(&self, method: &str, target: &str) -> (String, String) {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60", "-o", "/dev/null", "-w"])
            .arg("%{http_code} %header{access-control-allow-origin}")
            .args(&self.arguments);
        match method {
            "HEAD" => curl.arg("-I"),
            method => curl.args(["-X", method]),
        };
        curl.arg(format!("{}{target}", self.base));
        let (_, stdout, _) = finish(curl);
        let (status, origin) = stdout.split_once(' ').unwrap_or_default();
        (status.to_owned(), origin.to_owned())
    }

    /// Fails when a file of the proxy's holds the token.
    fn assert_secret(&self, hook: &Hook) {
        let mut seen = 0;
        for entry in fs::read_dir(self.scratch.path()).unwrap().flatten() {
            if entry.path().is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                let is_told =
                    bytes.windows(hook.token().len()).any(|at| at == hook.token().as_bytes());
                assert!(!is_told, "{} holds the token", entry.path().display());
                seen += 1;
            }
        }
        assert!(seen > 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
            println!("--- the proxy's log\n{}", crate::harness::redacted(&log));
        }
    }
}

/// `silence`: the statuses by which curl tells that this proxy may close a connection unanswered when
/// it brings too much.
fn works_as_written(start: impl Fn(&str) -> Proxy, silence: &[&str]) {
    let settings = topic_block("toml", &[]);
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
    proxy.assert_secret(&hook);
}

#[test]
fn nginx_in_front_works_as_written() {
    works_as_written(Proxy::nginx, &[]);
}

#[test]
fn caddy_in_front_works_as_written() {
    // Caddy closes before curl has sent all, which may cost curl the answer on a busy machine.
    works_as_written(Proxy::caddy, &["000", "100"]);
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
    answers_probes_as_written(|hooks| Proxy::nginx_with(&topic_block("conf", &[]), hooks));
}

#[test]
fn caddy_answers_probes_and_browsers_as_written() {
    answers_probes_as_written(|hooks| Proxy::caddy_with(&topic_block("caddy", &[]), hooks));
}

#[test]
fn nginx_passes_streams_on_piece_by_piece() {
    let server = Server::start();
    let api = server.api();
    let gate = server.scratch().join("gate");
    let script =
        format!("echo first; while [ ! -e {} ]; do sleep 0.05; done; echo second", gate.display());
    let fleet = api.apply(&json!({"name": "slow", "vessels": {"v": {"run": script}}}));
    let run = api.run(&api.start(&fleet));
    let vessel = run["vessels"][0]["id"].as_str().unwrap();
    let proxy = Proxy::nginx(server.admin());
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
