//! Named tokens: made, used, revoked and expired, by the API, the command line and the pages.

use std::io::Read;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::http::exchange;
use crate::harness::server::{back_up, finish, read_until, restored};
use crate::harness::{Api, Server, assert_error, wait_until};

fn make(api: &Api, body: &Value) -> (String, String) {
    let made = api.post("/api/v1/tokens", body).expect(201).data();
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

fn names(api: &Api) -> Vec<String> {
    let listed = api.get("/api/v1/tokens").expect(200).data();
    let names = listed.as_array().unwrap().iter();
    names.map(|token| token["name"].as_str().unwrap().to_owned()).collect()
}

/// `boathook` with a token other than that of the data directory.
fn cli(server: &Server, token: &str, arguments: &[&str]) -> Command {
    let mut command = server.cli(arguments);
    command.env("BOATHOOK_TOKEN", token);
    command
}

#[test]
fn a_token_works_until_it_is_revoked_or_has_expired() {
    let mut server = Server::start();
    let api = server.api();
    let (id, token) = make(&api, &json!({"name": "ann", "role": "reader"}));
    let ann = api.with_token(&token);
    assert_eq!(ann.get("/api/v1/fleets").status, 200);
    let shown = ann.get("/api/v1/session").expect(200).data();
    assert_eq!((&shown["name"], &shown["role"]), (&json!("ann"), &json!("reader")));
    assert_eq!(api.get("/api/v1/session").data()["name"], "admin.token");
    let listed = api.get("/api/v1/tokens").data();
    assert_eq!(
        (&listed[0]["created_by"], &listed[0]["expires_at"]),
        (&json!("admin.token"), &Value::Null)
    );
    assert!(listed[0]["last_used_at"].is_string(), "{listed}");
    assert!(listed[0].get("token").is_none());

    // It outlives a restart, a crash and a backup.
    let backup = back_up(&server, "backup");
    server.crash_and_restart();
    server.api().with_token(&token).get("/api/v1/fleets").expect(200);
    let mut other = restored(&backup, &[]);
    other.start_again();
    other.api().with_token(&token).get("/api/v1/fleets").expect(200);
    let api = server.api();

    let second = json!({"name": "brief", "role": "reader", "expires_in_seconds": 1});
    let (_, brief) = make(&api, &second);
    wait_until("the token has expired", || {
        api.with_token(&brief).get("/api/v1/fleets").status == 401
    });
    let listed = api.get("/api/v1/tokens").data();
    assert_eq!((&listed[1]["name"], &listed[1]["is_expired"]), (&json!("brief"), &json!(true)));
    let taken = api.post("/api/v1/tokens", &second).expect(409).error();
    assert!(taken.contains("expired") && taken.contains("revoke"), "{taken}");

    let revoke = format!("/api/v1/tokens/{id}");
    api.delete(&revoke).expect(200);
    assert_error(&api.with_token(&token).get("/api/v1/fleets"), 401);
    assert_eq!(api.delete(&revoke).status, 404);
    server.crash_and_restart();
    assert_error(&server.api().with_token(&token).get("/api/v1/fleets"), 401);
    assert_eq!(names(&server.api()), ["brief"]);
}

#[test]
fn what_makes_no_token_is_refused_and_says_why() {
    let server = Server::start();
    let api = server.api();
    let unknown = "00000000-0000-4000-8000-000000000000";
    for (body, status, word) in [
        (json!({"name": "x", "role": "root"}), 422, "operator"),
        (json!({"name": "", "role": "reader"}), 422, "name"),
        (json!({"name": "a/b", "role": "reader"}), 422, "/"),
        (json!({"role": "reader"}), 422, "name"),
        (json!({"name": "x", "role": "reader", "expires_in_seconds": 0}), 422, "expires"),
        (json!({"name": "x", "role": "reader", "expires_in_seconds": u64::MAX}), 422, "expires"),
        (json!({"name": "x", "role": "reader", "fleet_id": unknown}), 404, "fleet"),
        (json!({"name": "x", "role": "reader", "project_id": unknown}), 404, "project"),
        (
            json!({"name": "x", "role": "reader", "fleet_id": unknown, "project_id": unknown}),
            422,
            "both",
        ),
        (json!({"name": "x", "role": "reader", "token": "mine"}), 422, "token"),
    ] {
        let refused = api.post("/api/v1/tokens", &body).expect(status).error();
        assert!(refused.contains(word), "{body}: {refused}");
    }
    assert!(names(&api).is_empty());
}

#[test]
fn an_admin_with_a_limit_makes_tokens_within_it() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "f", "project": "p", "vessels": {"v": {"run": "true"}}}));
    let project = api.get(&format!("/api/v1/fleets/{fleet}")).data()["project_id"].clone();
    make(&api, &json!({"name": "wide", "role": "reader"}));
    let limited = json!({"name": "limited", "role": "admin", "project_id": project});
    let limited = api.with_token(&make(&api, &limited).1);
    let refused = limited.post("/api/v1/tokens", &json!({"name": "x", "role": "reader"}));
    assert!(refused.expect(403).error().contains("limited"));
    make(&limited, &json!({"name": "narrow", "role": "admin", "fleet_id": fleet}));
    assert_eq!(names(&limited), ["limited", "narrow"]);
    assert_eq!(names(&api), ["limited", "narrow", "wide"]);
}

#[test]
fn a_token_is_stored_by_its_hash_and_shown_once() {
    let mut server = Server::start();
    let (_, token) = make(&server.api(), &json!({"name": "ann", "role": "operator"}));
    let api = server.api().with_token(&token);
    let fleet = api.get("/api/v1/fleets").expect(200).text();
    let metrics = api.get("/metrics").expect(200).text();
    let listed = server.api().get("/api/v1/tokens").text();
    for text in [fleet, metrics, listed, server.log()] {
        assert!(!text.contains(&token));
    }
    server.stop();
    let database = server.data_dir().join("db");
    let mut files = 0;
    for file in std::fs::read_dir(database).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(bytes) = std::fs::read(&file) else { continue };
        files += 1;
        assert!(!bytes.windows(token.len()).any(|it| it == token.as_bytes()), "{file:?}");
    }
    assert!(files > 0);
}

#[test]
fn revoking_ends_open_streams_and_sessions() {
    let server = Server::start();
    let api = server.api();
    let run = "echo begun; while :; do sleep 1; done";
    let fleet = api.apply(&json!({"name": "f", "vessels": {"v": {"run": run}}}));
    let run = api.start(&fleet);
    wait_until("the vessel runs", || api.run(&run)["vessels"][0]["status"] == "Running");
    let (id, token) = make(&api, &json!({"name": "ann", "role": "reader"}));
    let (_, kept) = make(&api, &json!({"name": "bob", "role": "reader"}));
    let mut follower = api.with_token(&token).follow(&api.run(&run), "v");
    read_until(&mut follower, "begun");
    let mut other = api.with_token(&kept).follow(&api.run(&run), "v");
    read_until(&mut other, "begun");
    let (cookie, key) = sign_in(&server, &token);
    let session = |method: &str, path: &str| {
        let lines = [cookie.as_str(), &key, "Sec-Fetch-Site: same-origin"];
        send(&server, method, path, &lines, "").status
    };
    assert_eq!(session("GET", "/api/v1/fleets"), 200);
    assert_eq!(session("POST", "/api/v1/backup"), 403, "the session has the role of its token");

    api.delete(&format!("/api/v1/tokens/{id}")).expect(200);
    assert_eq!(session("GET", "/api/v1/fleets"), 401);
    // The stream ends, whole or broken off, while the run goes on.
    let _ = follower.read_to_end(&mut Vec::new());
    assert_eq!(api.run(&run)["status"], "Running");
    api.post(&format!("/api/v1/runs/{run}/stop"), &json!({})).expect(200);
    other.read_to_end(&mut Vec::new()).expect("the other stream goes on to the end of the run");
}

/// One request with these header lines and this body.
fn send(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> crate::harness::Answer {
    let lines = headers.join("\r\n");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{lines}\r\n\r\n{body}",
        server.admin(),
        body.len()
    );
    exchange(server.admin(), request.as_bytes()).unwrap()
}

/// The header lines of a new session of this token.
fn sign_in(server: &Server, token: &str) -> (String, String) {
    let proof = json!({"token": token}).to_string();
    let lines = ["Sec-Fetch-Site: same-origin"];
    let answer = send(server, "POST", "/api/v1/session", &lines, &proof).expect(201);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let key = answer.data()["key"].as_str().unwrap().to_owned();
    (format!("Cookie: {cookie}"), format!("X-Boathook-Session: {key}"))
}

#[test]
fn a_session_has_the_role_of_its_token_and_so_have_its_links() {
    let server = Server::start();
    let api = server.api();
    let (id, token) = make(&api, &json!({"name": "ann", "role": "reader"}));
    let (cookie, key) = sign_in(&server, &token);
    // The password or token of a proxy does not defeat the session, nor does it open more.
    for foreign in ["Authorization: Basic YTpi", "Authorization: Bearer of.a.proxy", "X-A: b"] {
        let lines = [cookie.as_str(), &key, "Sec-Fetch-Site: same-origin", foreign];
        let shown = send(&server, "GET", "/api/v1/session", &lines, "").expect(200).data();
        assert_eq!(
            (&shown["name"], &shown["role"]),
            (&json!("ann"), &json!("reader")),
            "{foreign}"
        );
        assert_eq!(send(&server, "POST", "/api/v1/fleets", &lines, "").status, 403, "{foreign}");
    }
    let open = |arguments: &[&str]| {
        let (code, url, stderr) = finish(cli(&server, &token, arguments));
        assert_eq!(code, 0, "{stderr}");
        url.trim().split_once("#link=").unwrap().1.to_owned()
    };
    let follow = |link: &str| {
        let proof = json!({"link": link}).to_string();
        send(&server, "POST", "/api/v1/session", &["Sec-Fetch-Site: same-origin"], &proof)
    };
    assert_eq!(follow(&open(&["open"])).expect(201).data()["role"], "reader");
    let late = open(&["open"]);
    api.delete(&format!("/api/v1/tokens/{id}")).expect(200);
    assert_eq!(follow(&late).status, 403);
    // Old links are no wrong tokens: they slow nobody down.
    for _ in 0..20 {
        assert_eq!(follow(&late).status, 403);
    }
}

#[test]
fn the_header_of_the_hosted_system_takes_tokens() {
    let server = Server::start();
    let (_, token) = make(&server.api(), &json!({"name": "ci", "role": "reader"}));
    for (key, status) in [(token.as_str(), 200), ("wrong", 401), ("", 401)] {
        let header = format!("X-Shipyard-API-Key: {key}");
        assert_eq!(send(&server, "GET", "/api/v1/fleets", &[&header], "").status, status);
    }
    // Beside the password of a proxy.
    let lines = [&format!("X-Shipyard-API-Key: {token}"), "Authorization: Basic YTpi"];
    assert_eq!(send(&server, "GET", "/api/v1/fleets", &lines, "").status, 200);
}

#[test]
fn the_command_line_makes_uses_and_revokes_tokens() {
    let server = Server::start();
    let api = server.api();
    let fleet = json!({"name": "deploy", "vessels": {"v": {"run": "echo out; exit 3"}}});
    let id = api.apply(&fleet);
    let (code, stdout, stderr) = finish(server.cli(&[
        "token",
        "create",
        "ci",
        "--role",
        "trigger",
        "--fleet",
        "deploy",
        "--expires",
        "90d",
    ]));
    assert_eq!(code, 0, "{stderr}");
    let token = stdout.trim_end();
    assert!(token.len() == 43 && stdout.lines().count() == 1 && !stderr.contains(token));
    let listed = api.get("/api/v1/tokens").data();
    assert_eq!((&listed[0]["fleet_id"], &listed[0]["role"]), (&json!(id), &json!("trigger")));

    // From the environment and from a file, with the address of the data directory and with a given one.
    let file = server.scratch().join("ci.token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let file = file.to_str().unwrap();
    let url = format!("http://{}", server.admin());
    let by_file = ["run", "deploy", "--follow", "--url", &url, "--token-file", file];
    for command in [cli(&server, token, &["run", "deploy", "--follow"]), server.cli(&by_file)] {
        let (code, stdout, stderr) = finish(command);
        assert_eq!(code, 3, "{stderr}");
        assert!(!stdout.contains("out"), "a trigger sees no output: {stdout}");
    }
    let (code, _, stderr) = finish(cli(&server, token, &["fleet", "delete", "deploy"]));
    assert_eq!(code, 1);
    assert!(stderr.contains("author") && stderr.contains("trigger"), "{stderr}");

    let (code, stdout, _) = finish(server.cli(&["token", "list"]));
    assert!(code == 0 && stdout.contains("fleet default/deploy") && !stdout.contains(token));
    let (code, stdout, _) = finish(server.cli(&["token", "revoke", "ci"]));
    assert_eq!((code, stdout.as_str()), (0, "revoked  ci\n"));
    let (code, _, stderr) = finish(cli(&server, token, &["run", "deploy"]));
    assert_eq!(code, 1);
    assert!(stderr.contains("revoked") && !stderr.contains(token), "{stderr}");
    let (code, _, stderr) = finish(server.cli(&["token", "revoke", "ci"]));
    assert!(code == 1 && stderr.contains("token list"), "{stderr}");

    let (_, reader) = make(&api, &json!({"name": "ann", "role": "reader"}));
    api.add_webhook(&id);
    let (code, stdout, stderr) = finish(cli(&server, &reader, &["webhook", "show", "deploy"]));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("author"), "{stderr}");
}
