//! Senders: what providers send, right and wrong, made by an independent implementation
//! (`senders/sender.py`) and sent through the real server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use boathook::internals::limits::ADMIN_HANDLERS;
use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::http::{Connection, exchange, post_request};
use crate::harness::server::finish;
use crate::harness::{Server, sha256};

const PUBLIC_URL: &str = "https://hooks.example.com/in";

/// The providers of `senders/sender.py`.
struct Providers {
    python: Child,
    output: BufReader<ChildStdout>,
}

impl Providers {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/senders/sender.py");
        let mut python = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let output = BufReader::new(python.stdout.take().unwrap());
        Self { python, output }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("sender.py fails")
    }

    /// Lets them send; what has failed.
    fn send(mut self, specs: &[Value]) -> Value {
        let mut input = self.python.stdin.take().unwrap();
        specs.iter().for_each(|spec| writeln!(input, "{spec}").unwrap());
        drop(input);
        let result = self.line();
        assert!(self.python.wait().unwrap().success());
        result
    }
}

/// The `webhook` of a fleet whose sender is `sender`: its preset, and behind a comma which form of it.
fn webhook(sender: &str, secrets: &[String]) -> Value {
    let preset = sender.split(',').next().unwrap();
    let verify = match preset {
        "mailchimp" | "monday" => json!({"preset": preset}),
        "header" => json!({"preset": preset, "secret": secrets, "name": "X-Key"}),
        "query" => json!({"preset": preset, "secret": secrets, "name": "key"}),
        "meta" => json!({"preset": preset, "secret": secrets, "verify_token": secrets[1]}),
        _ => json!({"preset": preset, "secret": secrets}),
    };
    json!({"verify": verify})
}

/// A server with a directory of secrets.
fn server(secrets: &Path) -> Server {
    Server::builder()
        .setting("secrets_dir", secrets.to_str().unwrap())
        .setting("public_url", PUBLIC_URL)
        .start()
}

#[test]
fn all_presets_take_what_their_providers_send_and_nothing_else() {
    let secrets = tempfile::tempdir().unwrap();
    let server = server(secrets.path());
    let api = server.api();
    let mut providers = Providers::start();
    let senders = providers.line();
    let specs = senders.as_array().unwrap().iter().map(|sender| {
        let name = sender["name"].as_str().unwrap();
        let values = sender["secrets"].as_array().unwrap();
        let names = values.iter().map(|value| {
            let value = value.as_str().unwrap();
            let name = format!("S{}", &sha256(value.as_bytes())[..16]);
            fs::write(secrets.path().join(&name), value).unwrap();
            name
        });
        let names: Vec<_> = names.collect();
        let mut fleet = true_fleet(&format!("of {name}"));
        fleet["webhook"] = webhook(name, &names);
        let hook = api.add_webhook(&api.apply(&fleet));
        json!({
            "name": name,
            "url": format!("http://{}{}", server.hooks(), hook.target()),
            "public": format!("{PUBLIC_URL}{}", hook.target()),
        })
    });
    let specs: Vec<_> = specs.collect();
    let result = providers.send(&specs);
    assert_eq!(result["failures"], json!([]));
    let requests = result["requests"].as_u64().unwrap();
    assert!(requests > 4_000, "{requests} requests were sent");
    server.wait_all_ended();
}

/// The code that GitHub sends with `body`, by openssl.
pub fn github(secret: &str, body: &str) -> String {
    let script = "printf %s \"$2\" | openssl dgst -sha256 -hmac \"$1\" -r | cut -d' ' -f1";
    let output = Command::new("sh").args(["-c", script, "sh", secret, body]).output().unwrap();
    format!("sha256={}", String::from_utf8(output.stdout).unwrap().trim())
}

fn github_fleet(mode: &str) -> Value {
    let mut fleet = true_fleet(&format!("github, {mode}"));
    fleet["webhook"] = json!({"verify": {"preset": "github", "secret": "HOOK"}, "mode": mode});
    fleet
}

#[test]
fn a_secret_without_a_value_makes_senders_try_again() {
    let secrets = tempfile::tempdir().unwrap();
    let server = server(secrets.path());
    let api = server.api();
    let refused = api.call(
        "PUT",
        "/api/v1/fleets?by=name",
        Some(("application/json", github_fleet("enforce").to_string().into_bytes())),
    );
    let message = refused.expect(422).json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("webhook.verify: there is no secret `HOOK`"), "{message}");

    let file = secrets.path().join("HOOK");
    fs::write(&file, "first\n").unwrap();
    let hook = api.add_webhook(&api.apply(&github_fleet("enforce")));
    let post = |secret, body| {
        let signature = github(secret, body);
        let headers = [("X-Hub-Signature-256", signature.as_str())];
        hook.try_post(server.hooks(), &headers, body.as_bytes()).unwrap()
    };
    post("first", "1").expect(201);
    fs::remove_file(&file).unwrap();
    let later = post("first", "2").expect(503);
    assert_eq!(later.header("retry-after"), Some("5"));
    server.wait_until("the log says so", || server.log().contains("reason=secret_missing"));
    // A new value counts from the next request on.
    fs::write(&file, "second").unwrap();
    post("first", "2").expect(401);
    post("second", "2").expect(201);
    assert_eq!(api.all_runs().len(), 2);
}

#[test]
fn an_observing_fleet_runs_what_it_would_refuse() {
    let secrets = tempfile::tempdir().unwrap();
    fs::write(secrets.path().join("HOOK"), "secret").unwrap();
    let server = server(secrets.path());
    let hook = server.api().add_webhook(&server.api().apply(&github_fleet("observe")));
    let headers = [("X-GitHub-Delivery", "1"), ("X-Hub-Signature-256", "sha256=00")];
    hook.post(server.hooks(), &headers, b"x");
    // A forged event does not stand in the way of the true one.
    let signature = github("secret", "x");
    let headers = [("X-GitHub-Delivery", "1"), ("X-Hub-Signature-256", signature.as_str())];
    hook.post(server.hooks(), &headers, b"x");
    let again = hook.try_post(server.hooks(), &headers, b"x").unwrap().expect(200);
    assert_eq!(again.header("boathook-duplicate"), Some("true"));
}

#[test]
fn credentials_are_not_kept_with_the_request() {
    let secrets = tempfile::tempdir().unwrap();
    let secret = "correct-horse-battery-staple";
    fs::write(secrets.path().join("HOOK"), secret).unwrap();
    let server = server(secrets.path());
    let api = server.api();
    for (number, check) in [
        json!({"preset": "bearer", "secret": "HOOK"}),
        json!({"preset": "gitlab", "secret": "HOOK"}),
        json!({"preset": "header", "secret": "HOOK", "name": "x-key"}),
        json!({"preset": "query", "secret": "HOOK", "name": "key"}),
    ]
    .into_iter()
    .enumerate()
    {
        let script = "cat \"$SHIPYARD_WEBHOOK_HEADERS_FILE\"; env";
        let fleet = json!({"name": format!("f{number}"), "vessels": {"v": {"run": script}},
            "webhook": {"verify": check}});
        let hook = api.add_webhook(&api.apply(&fleet));
        let bearer = format!("Bearer {secret}");
        let headers: &[(&str, &str)] = match number {
            0 => &[("Authorization", &bearer), ("X-Other", "kept")],
            1 => &[("X-Gitlab-Token", secret), ("X-Other", "kept")],
            2 => &[("X-Key", secret), ("X-Other", "kept")],
            _ => &[("X-Other", "kept")],
        };
        let query = if number == 3 { format!("?a=b&key={secret}&c=d") } else { String::new() };
        let target = format!("{}{query}", hook.target());
        let answer = exchange(server.hooks(), &post_request(&target, headers, b"{}")).unwrap();
        let run = answer.expect(201).data()["fleet_run_id"].as_str().unwrap().to_owned();
        let run = api.wait_ended(&run);
        let output = api.output(&run, "v");
        assert!(output.contains("kept"), "{number}");
        assert!(!output.contains(secret), "{number}: a vessel got the credential");
        if number == 3 {
            assert!(output.contains("BOATHOOK_WEBHOOK_QUERY=a=b&c=d\n"), "{output}");
        }
    }
    assert!(!server.log().contains(secret));
}

#[test]
fn the_log_says_what_would_have_made_a_request_right() {
    let secrets = tempfile::tempdir().unwrap();
    for (name, value) in [("HOOK", "secret "), ("OTHER", "another one")] {
        fs::write(secrets.path().join(name), value).unwrap();
    }
    let server = server(secrets.path());
    let hook = server.api().add_webhook(&server.api().apply(&github_fleet("enforce")));
    let post = |headers: &[(&str, &str)], body: &str| {
        hook.try_post(server.hooks(), headers, body.as_bytes()).unwrap().expect(401);
    };
    let signed = |signature: &str| post(&[("X-Hub-Signature-256", signature)], "{\"a\": 1}");
    for (signature, detail) in [
        (github("secret", "{\"a\": 1}"), "matches without the blanks around the secret"),
        (github("another one", "{\"a\": 1}"), "matches another secret: OTHER"),
        (github("secret ", "{\"a\":1}"), "the body was re-encoded on the way"),
        (github("secret ", "{\"a\": 1}\n"), "with a line end after the body"),
    ] {
        signed(&signature);
        server.wait_until(detail, || server.log().contains(detail));
    }
    let stripe = format!("t=1,v1={}", "0".repeat(64));
    post(&[("Stripe-Signature", &stripe)], "x");
    let detail = "the request has Stripe-Signature, as of the preset `stripe`";
    server.wait_until(detail, || server.log().contains(detail));
}

#[test]
fn samples_of_all_presets_are_signed_as_the_fleet_expects_them() {
    let secrets = tempfile::tempdir().unwrap();
    let server = Server::builder().setting("secrets_dir", secrets.path().to_str().unwrap()).start();
    let api = server.api();
    let mut providers = Providers::start();
    let senders = providers.line();
    for sender in senders.as_array().unwrap() {
        let name = sender["name"].as_str().unwrap();
        let value = sender["secrets"][0].as_str().unwrap();
        fs::write(secrets.path().join("S"), value).unwrap();
        let mut fleet = true_fleet(&format!("of {name}"));
        fleet["webhook"] = webhook(name, &["S".to_owned(), "S".to_owned()]);
        let id = api.apply(&fleet);
        api.add_webhook(&id);
        let path = format!("/api/v1/fleets/{id}/webhook/send");
        let answer = api.call("POST", &path, None);
        if ["discord", "sendgrid"].contains(&name) {
            // The secret is a public key.
            answer.expect(422);
            continue;
        }
        let sent = answer.expect(200).data();
        assert_eq!(sent["status"], 201, "{name}: {sent}");
        api.wait_ended(sent["fleet_run_id"].as_str().unwrap());
    }
    let (code, output, advice) = finish(server.cli(&["webhook", "send", "of github"]));
    assert_eq!(code, 0, "{advice}");
    assert!(
        output.starts_with("sent      github push ") && output.ends_with("answered  201\n"),
        "{output}"
    );
    fs::write(secrets.path().join("S"), "x").unwrap();
    let (code, output, _) =
        finish(server.cli(&["webhook", "send", "of stripe", "--event", "a&b", "--json"]));
    let sent: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &sent["event_type"], &sent["is_signed"]), (0, &json!("a&b"), &json!(true)));
    let (code, _, error) =
        finish(server.cli(&["webhook", "send", "of stripe", "--preset", "github"]));
    assert!(code == 1 && error.contains("the fleet does not verify `github`"), "{code}: {error}");
}

#[test]
fn samples_that_wait_for_their_answers_leave_handlers_to_other_requests() {
    let server = Server::start();
    let gate = server.scratch().join("gate");
    let script = format!("until test -e {}; do sleep 0.05; done", gate.display());
    let (fleet, _) = server.fleet_with_webhook(&json!({
        "name": "slow", "vessels": {"v": {"run": script}}, "webhook": {"respond": {"wait": "1m"}},
    }));
    let path = format!("/api/v1/fleets/{fleet}/webhook/send");
    let api = server.api();
    let mut waiting: Vec<Connection> = Vec::new();
    while waiting.len() < 2 * ADMIN_HANDLERS {
        let mut client = Connection::open(server.admin()).unwrap();
        let token = format!("Bearer {}", server.token());
        client.send(&post_request(&path, &[("Authorization", &token)], b"")).unwrap();
        waiting.push(client);
    }
    // All but those that are sent are refused at once, and others are served meanwhile.
    let refused = waiting.split_off(2).into_iter();
    let refused = refused.map(|mut client| client.answer().unwrap().status).filter(|it| *it == 503);
    assert_eq!(api.get("/api/v1/overview").expect(200).status, 200);
    fs::write(&gate, "").unwrap();
    let sent = waiting.iter_mut().map(|client| client.answer().unwrap().status);
    let all: Vec<u16> = refused.chain(sent).collect();
    assert!(all.iter().filter(|status| **status == 200).count() <= 2, "{all:?}");
    server.wait_until("there is room again", || api.call("POST", &path, None).status == 200);
}
