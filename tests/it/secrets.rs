//! Secrets appear where their owner asks for them and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::harness::http::{exchange, post_request};
use crate::harness::server::finish;
use crate::harness::{Hook, Server};

/// Fails when one of `secrets` is in `text`, without repeating either.
#[track_caller]
fn assert_without(what: &str, text: &str, secrets: &[String]) {
    for (number, secret) in secrets.iter().enumerate() {
        assert!(!text.contains(secret.as_str()), "{what} shows secret number {number}");
    }
}

#[test]
fn tokens_stay_out_of_logs_command_lines_and_answers() {
    let mut server = Server::builder().setting("log", "trace").start();
    let api = server.api();
    let journal = server.journal("journal");
    let script =
        format!("tr '\\0' '\\n' < /proc/$$/environ; echo up >> {journal}; cat > /dev/null");
    let (fleet, hook) =
        server.fleet_with_webhook(&json!({"name": "secretive", "vessels": {"v": {"run": script}}}));
    let run = hook.post(server.hooks(), &[("X-Hub-Signature", "abc")], b"{}");
    let replaced =
        api.post(&format!("/api/v1/fleets/{fleet}/webhook/replace"), &json!({"grace_seconds": 60}));
    let new = Hook::from_url(replaced.data()["url"].as_str().unwrap());
    let unknown = "U".repeat(43);
    let wrong = "W".repeat(43);
    let secrets = [
        server.token(),
        hook.token().to_owned(),
        new.token().to_owned(),
        unknown.clone(),
        wrong.clone(),
    ];

    // Everything that touches them: accepted, refused, broken off, stopped, listed.
    exchange(server.hooks(), &post_request(&format!("/hooks/{unknown}"), &[], b""))
        .unwrap()
        .expect(400);
    let get = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", new.target());
    exchange(server.hooks(), get.as_bytes()).unwrap().expect(405);
    new.post(server.hooks(), &[], b"");
    api.with_token(&wrong).get("/api/v1/fleets").expect(401);
    let ended = api.wait_status(&run, "Success");
    finish(server.cli(&["webhook", "show", "secretive"]));
    finish(server.cli(&["runs", "list"]));
    let stderr = finish(server.cli(&["fleet", "show", "nobody"])).2;
    assert_without("the CLI's stderr", &stderr, &secrets);

    assert_without("the vessel's environment", &api.output(&ended, "v"), &secrets);
    for path in [
        "/api/v1/fleets".to_owned(),
        format!("/api/v1/fleets/{fleet}"),
        format!("/api/v1/fleets/{fleet}/versions"),
        "/api/v1/runs".to_owned(),
        format!("/api/v1/runs/{run}"),
        format!("/api/v1/runs/{run}/webhook-parameters"),
    ] {
        assert_without(&path, &api.get(&path).expect(200).text(), &secrets);
    }
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{file}", server.pid())).unwrap();
        assert_without(file, &String::from_utf8_lossy(&bytes), &secrets);
    }
    server.stop();
    server.start_again();
    assert!(
        server.log().contains("trace") || server.log().len() > 100,
        "there is a log to look at"
    );
    assert_without("the log", &server.log(), &secrets);
}

#[test]
fn files_of_the_data_directory_are_private() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "private", "vessels": {"v": {"run": "head -c 300000 /dev/zero; sleep 2"}},
    }));
    let run = hook.post(server.hooks(), &[], b"{}");
    server.api().wait_status(&run, "Success");
    check_private(server.data_dir());
    let mode = fs::metadata(server.data_dir().join("admin.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

/// The owner alone may read the files: a closed directory closes what is in it.
fn check_private(path: &Path) {
    let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
}

#[test]
fn a_torn_admin_token_is_replaced() {
    let mut server = Server::start();
    let path = server.data_dir().join("admin.token");
    let first = server.token();
    server.crash_and_restart();
    assert!(server.token() == first, "a restart keeps the token");
    for torn in ["", "\n", &first[..first.len() / 2]] {
        server.kill();
        fs::write(&path, torn).unwrap();
        server.start_again();
        let new = server.token();
        assert!(new.len() >= first.len() && new != torn, "the torn token is accepted");
        server.api().get("/api/v1/organization").expect(200);
        let answer = server.api().with_token(torn.trim()).get("/api/v1/organization");
        assert_eq!(answer.status, 401);
    }
}
