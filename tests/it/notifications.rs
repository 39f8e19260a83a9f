//! What is told when a run has ended: to whom, how, and only where the operator allows it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use boathook::internals::{Change, store};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::receiver::{Received, Receiver, SECRET};
use crate::harness::server::finish;
use crate::harness::{Server, processes, wait_until};

const PASSWORD: &str = "correct-horse-battery-staple";
const OK: &str = "200 OK\r\n";

fn telling(receiver: &Receiver) -> (tempfile::TempDir, Server) {
    let (secrets, builder) = receiver.allowed_by(Server::builder());
    (secrets, builder.start())
}

fn fleet(name: &str, script: &str, notify: &Value) -> Value {
    json!({"name": name, "vessels": {"v": {"run": script}}, "notify": notify})
}

fn post_to(receiver: &Receiver, on: &[&str]) -> Value {
    let url = format!("http://{}/told?token=in-the-url", receiver.address);
    json!([{"on": on, "url": url, "secret": "signing"}])
}

fn assert_signed(received: &Received) {
    let key = data_encoding::BASE64.decode(&SECRET.as_bytes()["whsec_".len()..]).unwrap();
    let signed = format!(
        "{}.{}.{}",
        received.header("webhook-id"),
        received.header("webhook-timestamp"),
        received.body
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(signed.as_bytes());
    let expected = format!("v1,{}", data_encoding::BASE64.encode(&mac.finalize().into_bytes()));
    assert_eq!(received.header("webhook-signature"), expected);
}

#[test]
fn a_post_is_signed_and_holds_the_run_as_the_api_shows_it() {
    let receiver = Receiver::start(|_| Some(OK.to_owned()));
    let (_secrets, server) = telling(&receiver);
    let api = server.api();
    let told = post_to(&receiver, &["ERRORED"]);
    let quiet = api.start(&api.apply(&fleet("quiet", "true", &told)));
    api.wait_status(&quiet, "Success");
    let run = api.start(&api.apply(&fleet("loud", "exit 3", &told)));
    api.wait_status(&run, "Errored");
    server.wait_until("it is told", || !receiver.received().is_empty());
    let all = receiver.received();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_signed(&all[0]);
    assert_eq!(all[0].header("content-type"), "application/json");
    assert_eq!(all[0].target, "/told?token=in-the-url");
    let event: Value = serde_json::from_str(&all[0].body).unwrap();
    assert_eq!(event["type"], "run.finished");
    server.wait_until("nothing is left to tell", || api.run(&run).get("notifications").is_none());
    assert_eq!(event["data"], api.run(&run));
    assert_eq!(event["timestamp"], event["data"]["ended_at"]);
}

#[test]
fn what_fails_is_tried_again_also_by_the_next_server() {
    let receiver =
        Receiver::start(|number| Some(if number == 0 { "503 Busy\r\n" } else { OK }.to_owned()));
    let (_secrets, mut server) = telling(&receiver);
    let api = server.api();
    let run = api.start(&api.apply(&fleet("again", "true", &post_to(&receiver, &["SUCCESS"]))));
    let mut waiting = Value::Null;
    server.wait_until("the failure is seen", || {
        waiting = api.run(&run)["notifications"][0].clone();
        waiting["attempts"] == 1
    });
    assert_eq!(waiting["problem"], "127.0.0.1 answers 503");
    assert!(waiting["next_attempt_at"].is_string(), "{waiting:#}");
    server.crash_and_restart();
    let api = server.api();
    server.wait_until("it is told", || receiver.received().len() == 2);
    server.wait_until("nothing is left to tell", || api.run(&run).get("notifications").is_none());
    let all = receiver.received();
    assert_eq!(all[0].header("webhook-id"), all[1].header("webhook-id"));
    assert_eq!(all[0].body, all[1].body);
    all.iter().for_each(assert_signed);
}

#[test]
fn what_is_told_of_a_damaged_fleet_version_is_given_up_and_says_why() {
    let receiver = Receiver::start(|_| Some("503 Busy\r\n".to_owned()));
    let (_secrets, mut server) = telling(&receiver);
    let api = server.api();
    let told = post_to(&receiver, &["SUCCESS"]);
    let id = api.apply(&fleet("damaged", "true", &told));
    let run = api.start(&id);
    server.wait_until("the failure is seen", || api.run(&run)["notifications"][0]["attempts"] == 1);
    api.apply(&fleet("damaged", "exit 0", &told));
    server.stop();
    let (store, committer) = store::open(server.data_dir()).unwrap();
    let version = Change::RemoveFleetVersion { fleet: id.parse().unwrap(), version: 1, chunks: 1 };
    store.commit(vec![version]).wait();
    drop(store);
    committer.join().unwrap();
    server.start_again();
    let api = server.api();
    server.wait_until("it is given up", || {
        let notification = api.run(&run)["notifications"][0].clone();
        notification["problem"] == "version 1 of the fleet cannot be read from the database"
            && notification["next_attempt_at"].is_null()
    });
}

/// A redirect is a way to somewhere that the operator did not allow.
#[test]
fn redirects_are_not_followed() {
    let elsewhere = Receiver::start(|_| Some(OK.to_owned()));
    let target = format!("http://{}/stolen", elsewhere.address);
    let receiver = Receiver::start(move |_| Some(format!("307 There\r\nLocation: {target}\r\n")));
    let (_secrets, server) = telling(&receiver);
    let api = server.api();
    let run = api.start(&api.apply(&fleet("led", "true", &post_to(&receiver, &["SUCCESS"]))));
    server.wait_until("the answer is seen", || {
        let problem = api.run(&run)["notifications"][0]["problem"].clone();
        problem == "127.0.0.1 answers 307, and redirects are not followed"
    });
    assert!(elsewhere.received().is_empty());
}

/// Whatever is asked for goes nowhere by default; who asks is told, and so is who looks at the run.
#[test]
fn what_is_not_allowed_is_not_sent() {
    let receiver = Receiver::start(|_| Some(OK.to_owned()));
    let server = Server::start();
    let api = server.api();
    let marker = server.scratch().join("marker");
    let url = format!("http://{}/told?token=in-the-url", receiver.address);
    let mut asked = fleet(
        "asks",
        "exit 1",
        &json!([
            {"on": "ERRORED", "url": url, "secret": "signing"},
            {"on": ["ERRORED"], "command": ["/usr/bin/touch", marker]},
        ]),
    );
    asked["notifications"] = json!({"emails": ["a@example.com"], "after_error": true});
    let answer = api.put("/api/v1/fleets?by=name", &asked).expect(201);
    let expected = [
        format!(
            "notify[0] will not be sent: the host {} is not in the setting `notify_hosts`",
            receiver.address
        ),
        "notify[1] will not be sent: the command /usr/bin/touch is not in the setting \
         `notify_commands`"
            .to_owned(),
        "notifications will not be sent: no mail server is configured; set `smtp` and `smtp_from`"
            .to_owned(),
    ];
    assert_eq!(answer.data()["warnings"], json!(expected));
    let run = api.start(answer.data()["id"].as_str().unwrap());
    server.wait_until("all three are given up", || {
        let left = api.run(&run)["notifications"].clone();
        let left = left.as_array().cloned().unwrap_or_default();
        left.len() == 3 && left.iter().all(|it| it["next_attempt_at"].is_null())
    });
    let (_, shown, _) = finish(server.cli(&["runs", "show", &run]));
    assert_eq!(shown.matches("not told").count(), 3, "{shown}");
    assert!(shown.contains("no mail server is configured") && shown.contains("; given up"));
    assert!(receiver.received().is_empty());
    assert!(!marker.exists());
    assert!(!server.log().contains("in-the-url"), "the path of a URL may be a secret");
}

#[test]
fn a_command_reads_the_event() {
    let scratch = tempfile::tempdir().unwrap();
    let program = scratch.path().join("tell");
    let out = scratch.path().join("told");
    let script = "#!/bin/sh\n[ \"$1\" = now ] || { echo \"what now?\" >&2; exit 7; }\n\
                  echo \"$BOATHOOK_FLEET_RUN_ID\" > $2.new; env | wc -l >> $2.new\n\
                  cat >> $2.new; mv $2.new $2\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let allowed = program.to_str().unwrap();
    let server = Server::builder().setting("notify_commands", allowed).start();
    let api = server.api();
    let notify = json!([
        {"on": ["TERMINATED", "SUCCESS"], "command": [program, "now", out]},
        {"on": ["SUCCESS"], "command": [program]},
    ]);
    let run = api.start(&api.apply(&fleet("commanded", "true", &notify)));
    server.wait_until("it is told", || out.exists());
    let told = fs::read_to_string(&out).unwrap();
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some(run.as_str()));
    let variables: u32 = lines.next().unwrap().trim().parse().unwrap();
    assert!(variables < 10, "{variables} variables: more than it was given");
    let event: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(event["data"]["id"], run);
    server.wait_until("the other one has failed", || {
        api.run(&run)["notifications"][0]["problem"] == "exit code 7: what now?"
    });
}

/// Its server is gone, and the next one runs it again: there must not be two.
#[test]
fn a_command_ends_with_its_server() {
    let scratch = tempfile::tempdir().unwrap();
    let (program, begun) = (scratch.path().join("tell"), scratch.path().join("begun"));
    let script = "#!/bin/sh\n[ -e $1 ] && exit 0\ntrap '' TERM\ntouch $1\n\
                  while :; do sleep 1000; done\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let builder = Server::builder().setting("notify_commands", program.to_str().unwrap());
    let mut server = builder.setting("kill_grace", "1s").start();
    let api = server.api();
    let notify = json!([{"on": ["SUCCESS"], "command": [program, begun]}]);
    let run = api.start(&api.apply(&fleet("commanded", "true", &notify)));
    server.wait_until("the command runs", || begun.exists());
    server.kill();
    let of_run = || processes::with_environment(&format!("BOATHOOK_FLEET_RUN_ID={run}"));
    let left = of_run();
    assert!(!left.is_empty(), "nothing outlives the server");
    server.start_again();
    server.wait_until("the leftovers have ended", || {
        let now = of_run();
        !left.iter().any(|pid| now.contains(pid))
    });
    let api = server.api();
    server.wait_until("nothing is left to tell", || api.run(&run).get("notifications").is_none());
}

/// A receiver that never answers holds up neither runs nor the end of the server.
#[test]
fn a_silent_receiver_delays_nobody() {
    let receiver = Receiver::start(|_| None);
    let (_secrets, mut server) = telling(&receiver);
    let api = server.api();
    let silent = api.apply(&fleet("silent", "true", &post_to(&receiver, &["SUCCESS"])));
    let runs: Vec<String> = (0..20).map(|_| api.start(&silent)).collect();
    for run in &runs {
        api.wait_status(run, "Success");
    }
    server.wait_until("some are on their way", || !receiver.received().is_empty());
    server.stop();
}

/// A mail server of Python's aiosmtpd on loopback, which keeps what it gets in a maildir.
struct MailServer {
    child: Child,
    port: u16,
    maildir: PathBuf,
}

impl MailServer {
    fn start(directory: &Path) -> Self {
        // A free port that is free again in a moment.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let maildir = directory.join("mail");
        let child = Command::new("/usr/bin/python3")
            .args(["-m", "aiosmtpd", "--nosetuid", "--listen", &format!("127.0.0.1:{port}")])
            .arg("--class=aiosmtpd.handlers.Mailbox")
            .arg(&maildir)
            .stdin(Stdio::null())
            .spawn()
            .expect("python3 and its aiosmtpd are installed");
        wait_until("the mail server listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { child, port, maildir }
    }

    fn letters(&self) -> Vec<String> {
        let entries = fs::read_dir(self.maildir.join("new")).into_iter().flatten().flatten();
        let mut letters: Vec<String> =
            entries.map(|entry| fs::read_to_string(entry.path()).unwrap()).collect();
        letters.sort();
        letters
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn e_mail_reaches_everybody_who_asked_for_it() {
    let scratch = tempfile::tempdir().unwrap();
    let mail = MailServer::start(scratch.path());
    let server = Server::builder()
        .setting("smtp", &format!("smtp://127.0.0.1:{}", mail.port))
        .setting("smtp_from", "Boathook <boathook@example.com>")
        .setting("smtp_hello", "boat.example.com")
        .start();
    let api = server.api();
    let answer = api
        .put(
            "/api/v1/fleets?by=name",
            &json!({
                "name": "größte Flotte",
                "vessels": {
                    "fails": {"run": "exit 4", "notifications":
                        {"emails": ["a@example.com", "vessel@example.com"], "after_error": true}},
                    "works": {"run": "true", "notifications":
                        {"emails": ["nobody@example.com"], "after_error": true}},
                },
                "notifications": {"emails": ["a@example.com", "b@example.com"],
                                  "after_error": true},
            }),
        )
        .expect(201);
    assert_eq!(answer.data().get("warnings"), None);
    let run = api.start(answer.data()["id"].as_str().unwrap());
    api.wait_status(&run, "Errored");
    server.wait_until("all mail is there", || mail.letters().len() >= 3);
    server.wait_until("nothing is left to tell", || api.run(&run).get("notifications").is_none());
    let letters = mail.letters();
    let to = |address: &str| {
        let header = format!("To: {address}\n");
        let found: Vec<_> = letters.iter().filter(|it| it.contains(&header)).collect();
        assert_eq!(found.len(), 1, "{address}: {letters:#?}");
        found[0].clone()
    };
    for address in ["a@example.com", "b@example.com", "vessel@example.com"] {
        let letter = to(address);
        assert!(letter.contains(&run) && letter.contains("boathook@example.com"), "{letter}");
        assert!(letter.contains("fails: exit code 4"), "{letter}");
        for header in ["MIME-Version: 1.0\n", "Auto-Submitted: auto-generated\n"] {
            assert!(letter.contains(header), "{letter}");
        }
        let id = letter.lines().find_map(|line| line.strip_prefix("Message-ID: <msg_"));
        assert!(id.is_some_and(|id| id.ends_with("@boat.example.com>")), "{letter}");
    }
    assert_eq!(letters.len(), 3, "an address that is told of the fleet is told once");
}

/// The first line that a client says to a mail server on `listener`.
fn greeting(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"220 mail\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn a_mail_server_is_greeted_by_a_real_name() {
    for (hello, expected) in
        [("boat.example.com", "boat.example.com"), ("[192.0.2.7]", "[192.0.2.7]"), ("", ".")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::builder()
            .setting("smtp", &format!("smtp://{}", listener.local_addr().unwrap()))
            .setting("smtp_from", "boathook@example.com")
            .setting("smtp_hello", hello)
            .start();
        let api = server.api();
        api.start(&api.apply(&json!({
            "name": "told", "vessels": {"v": {"run": "exit 1"}},
            "notifications": {"emails": ["a@example.com"], "after_error": true},
        })));
        let said = greeting(&listener);
        let name = said.strip_prefix("EHLO ").unwrap();
        assert!(name.contains(expected) && !name.contains("localhost"), "{said}");
    }
    let mut server = Server::builder()
        .setting("smtp", "smtp://127.0.0.1")
        .setting("smtp_from", "boathook@example.com")
        .setting("smtp_hello", "no name")
        .not_started();
    assert!(server.try_start_again().is_err() && server.log().contains("smtp_hello: "));
}

#[test]
fn chats_get_a_message_of_theirs() {
    let receiver = Receiver::start(|_| Some(OK.to_owned()));
    let (secrets, server) = telling(&receiver);
    let url = format!("http://{}/services/T0/SECRETSECRET", receiver.address);
    fs::write(secrets.path().join("CHAT"), format!("{url}\n")).unwrap();
    let api = server.api();
    for (format, place) in [
        ("slack", "/text"),
        ("discord", "/content"),
        ("teams", "/attachments/0/content/body/0/text"),
    ] {
        let name = format!("a & b to {format}");
        let notify = json!([{"on": "ERRORED", "url": {"secret": "CHAT"}, "format": format}]);
        let id = api.apply(&fleet(&name, "exit 3", &notify));
        let shown = api.get(&format!("/api/v1/fleets/{id}")).data()["notify"][0].clone();
        assert_eq!((&shown["format"], &shown["url"]), (&json!(format), &json!({"secret": "CHAT"})));
        // As it is shown it can be applied again, without a new version.
        let (_, yaml, _) = finish(server.cli(&["fleet", "show", &id, "--yaml"]));
        assert!(yaml.contains(&format!("format: {format}")), "{yaml}");
        let file = server.scratch().join("shown.yaml");
        fs::write(&file, yaml).unwrap();
        let (code, said, problem) = finish(server.cli(&["fleet", "apply", file.to_str().unwrap()]));
        assert!(code == 0, "{said}{problem}");
        assert_eq!(api.get(&format!("/api/v1/fleets/{id}")).data()["version"], 1);

        let before = receiver.received().len();
        let run = api.start(&id);
        server.wait_until("it is told", || receiver.received().len() > before);
        let told = receiver.received().pop().unwrap();
        assert_eq!(told.target, "/services/T0/SECRETSECRET");
        assert!(!told.headers.iter().any(|(name, _)| name == "webhook-signature"));
        let body: Value = serde_json::from_str(&told.body).unwrap();
        let text = body.pointer(place).unwrap().as_str().unwrap();
        let name = if format == "slack" { name.replace('&', "&amp;") } else { name };
        assert!(text.starts_with(&format!("{name}: Errored\n")), "{text}");
        assert!(text.contains("exit code 3") && text.contains(&run), "{text}");
    }
    let refused = api.put(
        "/api/v1/fleets?by=name",
        &fleet(
            "x",
            "true",
            &json!([
                {"on": "ERRORED", "url": url, "format": "slak"},
            ]),
        ),
    );
    assert!(refused.expect(422).text().contains("did you mean slack"));
}

#[test]
fn json_for_a_chat_is_warned_of() {
    let server = Server::builder().setting("notify_hosts", "hooks.slack.com").start();
    let notify = json!([{"on": "ERRORED", "url": "https://hooks.slack.com/services/T/B/x",
                         "secret": "signing"}]);
    let answer = server.api().put("/api/v1/fleets?by=name", &fleet("x", "true", &notify));
    let warnings = answer.expect(201).data()["warnings"].to_string();
    assert!(warnings.contains("format: slack") && !warnings.contains("services"), "{warnings}");
}

#[test]
fn a_refusal_tells_what_the_receiver_says_and_waits_as_it_asks() {
    let receiver = Receiver::start(|_| {
        let said = format!("slow\x1b[2J down,\r\nin-the-url {}", "é".repeat(4000));
        Some(format!("429 Too Many Requests\r\nRetry-After: 3600\r\n\r\n{said}"))
    });
    let (_secrets, server) = telling(&receiver);
    let api = server.api();
    let run = api.start(&api.apply(&fleet("f", "true", &post_to(&receiver, &["SUCCESS"]))));
    api.wait_status(&run, "Success");
    let mut left = Value::Null;
    server.wait_until("it was refused", || {
        left = api.run(&run)["notifications"][0].clone();
        left["attempts"] == 1
    });
    let problem = left["problem"].as_str().unwrap();
    assert!(problem.contains("answers 429: slow [2J down, … éé"), "{problem}");
    assert!(problem.ends_with('…') && problem.len() < 600, "{problem}");
    let next: jiff::Timestamp = left["next_attempt_at"].as_str().unwrap().parse().unwrap();
    let seconds = next.as_second() - jiff::Timestamp::now().as_second();
    assert!((3500..=3601).contains(&seconds), "{seconds}");
}

#[test]
fn a_sender_that_is_none_is_refused_at_the_start() {
    let builder = Server::builder().setting("smtp", "smtp://127.0.0.1");
    let mut server = builder.setting("smtp_from", "nobody at home").not_started();
    let refused = server.try_start_again();
    assert!(refused.is_err() && server.log().contains("smtp_from: "), "{refused:?}");
}

#[test]
fn secrets_of_notifications_are_nowhere() {
    let receiver = Receiver::start(|_| Some("500 No\r\n".to_owned()));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let smtp = format!("smtp://{}", silent.local_addr().unwrap());
    drop(silent);
    let builder = Server::builder()
        .setting("smtp", &smtp)
        .setting("smtp_from", "boathook@example.com")
        .setting("smtp_user", "boathook")
        .setting("smtp_secret", "mail")
        .setting("log", "trace");
    let (secrets, builder) = receiver.allowed_by(builder);
    fs::write(secrets.path().join("mail"), PASSWORD).unwrap();
    let server = builder.start();
    let api = server.api();
    let mut told = fleet("told", "exit 1", &post_to(&receiver, &["ERRORED"]));
    told["notifications"] = json!({"emails": ["a@example.com"], "after_error": true});
    let id = api.apply(&told);
    let run = api.start(&id);
    server.wait_until("both have failed", || {
        let left = api.run(&run)["notifications"].clone();
        left.as_array().is_some_and(|left| left.iter().all(|it| it["attempts"] == 1))
    });
    let shown = [
        api.get(&format!("/api/v1/runs/{run}")).text(),
        api.get(&format!("/api/v1/fleets/{id}/versions")).text(),
        server.log(),
    ];
    for text in shown {
        for secret in [SECRET, &SECRET["whsec_".len()..], PASSWORD] {
            assert!(!text.contains(secret), "a secret is shown");
        }
    }
}
