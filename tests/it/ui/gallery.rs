//! Every page in light, in dark and on a phone: pictures to look at, and an
//! accessibility check by axe-core where it is installed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{open, sign_in};
use crate::harness::browser::{Browser, DESK, Look};
use crate::harness::{Hook, Server};

const LOOKS: [(&str, Look); 4] = [
    ("light", DESK),
    ("dark", Look { scheme: "dark", ..DESK }),
    ("phone", Look { width: 390, height: 844, scheme: "light" }),
    ("narrow", Look { width: 320, height: 640, scheme: "dark" }),
];

const DEPLOY: &str = r#"
name: deploy-site
vessels:
  build:
    run: |
      printf '\033[1mbuilding\033[0m %s\n' "$(cat | head -c 60)"
      for step in fetch compile bundle; do printf '\033[32m✓\033[0m %s\n' "$step"; done
      printf '\033[33mwarning:\033[0m two packages are out of date\n'
      sleep 0.4
  test: {run: 'sleep 0.3; echo "214 passed"'}
  lint: {run: 'sleep 0.2; echo "no findings"'}
  publish: {run: 'sleep 0.2; echo published'}
  alarm: {run: 'echo "the build failed" >&2'}
  report: {command: [echo, done]}
connections:
  build: {test: SUCCESS, lint: SUCCESS, alarm: ERRORED, report: COMPLETED}
  test: {publish: SUCCESS}
  lint: {publish: SUCCESS}
"#;

/// A server with something to look at.
struct Scene {
    server: Server,
    secrets: tempfile::TempDir,
    deploy: String,
    good: Value,
    bad: Value,
    binary: String,
    running: Value,
    waiting: String,
    stock: String,
}

fn scene() -> Scene {
    let secrets = tempfile::tempdir().unwrap();
    let directory = secrets.path().to_str().unwrap().to_owned();
    let server = Server::builder().setting("secrets_dir", &directory).start();
    let api = server.api();
    let deploy = api.apply_yaml(DEPLOY);
    let hook = api.add_webhook(&deploy);
    let push = json!({"ref": "refs/heads/main", "repository": {"name": "tea-shop", "private": false},
        "commits": [{"id": "3f9c2e1", "message": "Add oolong", "author": "Ada"}], "size": 1});
    let post = |hook: &Hook, body: &[u8]| {
        let headers = [("Content-Type", "application/json"), ("X-GitHub-Event", "push")];
        hook.post(server.hooks(), &headers, body)
    };
    for _ in 0..3 {
        api.wait_ended(&post(&hook, push.to_string().as_bytes()));
    }
    api.apply_yaml(&DEPLOY.replace("sleep 0.4", "exit 3"));
    let bad = api.wait_ended(&post(&hook, b"{}"));
    api.apply_yaml(&DEPLOY.replace("214 passed", "215 passed"));
    let good = api.wait_ended(&post(&hook, push.to_string().as_bytes()));
    let bytes: Vec<u8> = (0..=255).cycle().take(700).collect();
    let binary = api.wait_ended(&post(&hook, &bytes))["id"].as_str().unwrap().to_owned();
    let nightly =
        api.apply(&json!({"name": "nightly-backup", "vessels": {"pack": {"run": "echo packed"}}}));
    for _ in 0..9 {
        api.wait_ended(&api.start(&nightly));
    }
    api.apply(&json!({"name": "a fleet with a rather long name that nobody has run yet",
        "project": "staging", "vessels": {"v": {"command": ["true"]}}}));
    let environment =
        json!({"SHOP": {"secret": "SHOP_API_KEY"}, "MAIL": {"secret": "SMTP_PASSWORD"}});
    api.apply(&json!({"name": "send-receipts", "vessels": {"v": {"command": ["true"],
        "environment": environment}}}));
    for name in ["SHOP_API_KEY", "GITHUB_HOOK"] {
        let value = Some(("text/plain", b"opensesame".to_vec()));
        api.call("PUT", &format!("/api/v1/secrets/{name}"), value).expect(200);
    }
    let slow = api.apply(&json!({"name": "import-orders", "vessels": {
        "fetch": {"run": "echo fetching; sleep 600"}, "store": {"run": "true"}},
        "connections": {"fetch": {"store": "SUCCESS"}}}));
    let stopped = api.start(&slow);
    server.wait_until("it runs", || api.run(&stopped)["vessels"][0]["status"] == "Running");
    api.call("POST", &format!("/api/v1/runs/{stopped}/stop"), None).expect(200);
    api.wait_ended(&stopped);
    let running = api.start(&slow);
    server.wait_until("it runs", || api.run(&running)["vessels"][0]["status"] == "Running");
    let running = api.run(&running);
    let stock = api.apply(&json!({"name": "sync-stock", "concurrency": 1,
        "vessels": {"sync": {"command": ["sleep", "600"]}}}));
    let first = api.start(&stock);
    server.wait_until("it runs", || api.run(&first)["vessels"][0]["status"] == "Running");
    let waiting = [(); 3].map(|()| api.start(&stock));
    let guardrails = json!({"retry_count": 2, "retry_wait": "1h"});
    let flaky = api.apply(&json!({"name": "poll-a-partner-whose-name-takes-a-lot-of-room",
        "vessels": {"call-the-partner": {"command": ["false"], "guardrails": guardrails}}}));
    let retried = api.start(&flaky);
    server.wait_until("it waits", || api.run(&retried)["status"] == "Retrying");
    let [waiting, ..] = waiting;
    Scene { server, secrets, deploy, good, bad, binary, running, waiting, stock }
}

/// The source of axe-core, unless it is not installed.
fn axe() -> Option<String> {
    let file = "target/axe/node_modules/axe-core/axe.min.js";
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
    if source.is_err() {
        println!("SKIPPED: the accessibility check; {file} is missing, tests/run installs it");
    }
    source.ok()
}

struct Gallery<'a> {
    browser: &'a Browser,
    directory: PathBuf,
    axe: Option<String>,
    findings: Vec<String>,
}

impl Gallery<'_> {
    /// Takes the page's picture in every look.
    fn take(&mut self, name: &str) {
        for (look_name, look) in LOOKS {
            self.browser.look(look);
            let script =
                "return new Promise((done) => requestAnimationFrame(() => setTimeout(done, 60)))";
            self.browser.script(script);
            self.browser.screenshot(&self.directory.join(format!("{name}-{look_name}.png")));
            self.check(&format!("{name}-{look_name}"), look.width == DESK.width);
        }
        self.browser.look(DESK);
    }

    /// Notes what is in the way of people who do not see or use the page as others do.
    fn check(&mut self, name: &str, is_thorough: bool) {
        let overflow = "return document.documentElement.scrollWidth - innerWidth";
        if self.browser.script(overflow).as_i64().unwrap_or(0) > 0 {
            self.findings.push(format!("{name}: wider than the window"));
        }
        // What axe-core looks at does not depend on the width.
        let Some(source) = self.axe.as_ref().filter(|_| is_thorough) else { return };
        if self.browser.script("return typeof axe") == "undefined" {
            self.browser.devtools("Runtime.evaluate", json!({"expression": source}));
        }
        let found = self.browser.script(
            "return axe.run({resultTypes: ['violations']}).then(({violations}) => violations
                .filter(({impact}) => impact === 'serious' || impact === 'critical')
                .map(({id, help, nodes}) => `${id}: ${help}: ${nodes.map((node) => node.html.slice(0, 160)).slice(0, 3)}`))",
        );
        for finding in found.as_array().into_iter().flatten() {
            self.findings.push(format!("{name}: {}", finding.as_str().unwrap_or_default()));
        }
    }
}

/// A delivery to the fleet that its verification refuses.
pub(super) fn refused_delivery(server: &Server, secrets: &Path, fleet: &str) -> String {
    let api = server.api();
    fs::write(secrets.join("GITHUB_HOOK"), "a secret of the owner").unwrap();
    let webhook = format!("/api/v1/fleets/{fleet}/webhook");
    let verify = json!({"verify": {"preset": "github", "secret": "GITHUB_HOOK"}});
    api.put(&webhook, &verify).expect(200);
    let url = api.get(&webhook).expect(200).data()["url"].as_str().unwrap().to_owned();
    let headers = [
        ("Content-Type", "application/json"),
        ("X-GitHub-Event", "push"),
        ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        (
            "X-Hub-Signature-256",
            "sha256=0000000000000000000000000000000000000000000000000000000000000000",
        ),
    ];
    let body = br#"{"ref": "refs/heads/main"}"#;
    let answer = Hook::from_url(&url).try_post(server.hooks(), &headers, body).unwrap();
    answer.expect(401).json()["request"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn every_page_in_every_look() {
    let empty = Server::start();
    let browser = Browser::start();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ui-screenshots");
    fs::create_dir_all(&directory).unwrap();
    let mut gallery = Gallery { browser: &browser, directory, axe: axe(), findings: Vec::new() };

    open(&browser, &empty, "/");
    gallery.take("sign-in");
    sign_in(&browser, &empty, "/");
    browser.see("No fleets yet");
    gallery.take("overview-empty");

    let Scene { server, secrets, deploy, good, bad, binary, running, waiting, stock } = scene();
    sign_in(&browser, &server, "/");
    browser.see("Latest runs");
    browser.wait("the runs are there", || browser.text().contains("import-orders"));
    gallery.take("overview");
    open(&browser, &server, "/server");
    browser.see("Nothing wrong: ");
    gallery.take("server");
    open(&browser, &server, "/");
    browser.wait("the runs are there", || browser.text().contains("import-orders"));
    let vessel = |run: &Value, at: usize| {
        format!(
            "/runs/{}/vessels/{}",
            run["id"].as_str().unwrap(),
            run["vessels"][at]["id"].as_str().unwrap()
        )
    };
    let of_run = |run: &Value, rest: &str| format!("/runs/{}{rest}", run["id"].as_str().unwrap());
    let refused = refused_delivery(&server, secrets.path(), &deploy);
    let untried = server.api().get("/api/v1/fleets").data()[0]["id"].as_str().unwrap().to_owned();
    for (name, path, sign) in [
        ("new-fleet", "/new".to_owned(), "Valid:"),
        ("overview-failing", "/?state=failing".to_owned(), "All runs"),
        ("overview-none", "/?name=nothing".to_owned(), "No fleet matches"),
        ("runs", "/runs".to_owned(), "Export"),
        ("projects", "/projects".to_owned(), "staging"),
        ("duplicate", format!("/new?from={deploy}&version=1"), "Valid:"),
        ("fleet-logs", format!("/fleets/{deploy}"), "Duration"),
        ("fleet-logs-empty", format!("/fleets/{untried}"), "has not run yet"),
        ("fleet-triggers", format!("/fleets/{deploy}/triggers"), "Treat this URL"),
        ("fleet-triggers-empty", format!("/fleets/{untried}/triggers"), "No webhook yet"),
        ("fleet-deliveries", format!("/fleets/{deploy}/deliveries"), "Refused"),
        ("delivery-refused", format!("/deliveries/{refused}"), "Run it after all"),
        ("fleet-vessels", format!("/fleets/{deploy}/vessels"), "6 vessels"),
        ("fleet-versions", format!("/fleets/{deploy}/versions"), "What changed"),
        ("run-success", of_run(&good, ""), "Graph"),
        ("run-errored", of_run(&bad, ""), "Graph"),
        ("runs", "/runs".to_owned(), "waits for run"),
        ("fleet-logs-waiting", format!("/fleets/{stock}"), "waits for run"),
        ("run-waiting", format!("/runs/{waiting}"), "waits for run"),
        ("run-running", of_run(&running, ""), "Running"),
        ("run-parameters", of_run(&good, "/parameters"), "Headers"),
        ("run-parameters-binary", format!("/runs/{binary}/parameters"), "bytes"),
        ("run-parameters-none", of_run(&running, "/parameters"), "No webhook parameters"),
        ("vessel-log", vessel(&good, 0), "two packages"),
        ("vessel-log-running", vessel(&running, 0), "fetching"),
        ("vessel-log-nothing", vessel(&bad, 1), "has not started"),
        ("secrets", "/secrets".to_owned(), "SMTP_PASSWORD is missing"),
        ("not-found", "/runs/ffffffffff".to_owned(), "Not found"),
    ] {
        open(&browser, &server, &path);
        browser.see(sign);
        gallery.take(name);
    }
    open(&browser, &server, &format!("/fleets/{deploy}"));
    browser.click("Run with parameters");
    gallery.take("run-with-parameters");
    open(&browser, &server, "/");
    browser.type_into("Find a fleet", "deploy");
    browser.wait("something is offered", || {
        browser.script("return document.querySelectorAll('[role=option]').length") == 1
    });
    gallery.take("search");
    open(&browser, &server, &format!("/fleets/{stock}"));
    browser.click("Stop all waiting");
    browser.see("Stop 3 runs?");
    gallery.take("dialog-many");
    browser.click("Cancel");
    open(&browser, &server, "/secrets");
    browser.click("Set a secret");
    browser.type_into("Name", "CHAT_URL");
    browser.type_into("Value", "https://chat.example.com/hook");
    gallery.take("secrets-set");
    open(&browser, &server, &format!("/fleets/{deploy}/edit"));
    browser.see("Valid:");
    gallery.take("fleet-edit");
    browser.type_into("Fleet file", "\n\nvesels: {}\n");
    browser.see("unknown key");
    gallery.take("fleet-edit-error");
    browser.click("Delete the fleet");
    browser.see("Delete deploy-site?");
    gallery.take("dialog");

    assert_eq!(browser.errors(), Vec::<String>::new());
    assert!(gallery.findings.is_empty(), "{:#?}", gallery.findings);
}
