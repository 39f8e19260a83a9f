//! Who gets in through the pages: sessions, where they count, and one-time links. Without a
//! browser, which would not send most of this.

use serde_json::{Value, json};

use crate::harness::http::exchange;
use crate::harness::server::finish;
use crate::harness::{Answer, Connection, Server};

/// One request with these header lines and this body.
fn send(server: &Server, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|line| line.starts_with("Host:")) {
        request.push_str(&format!("Host: {}\r\n", server.admin()));
    }
    for line in headers {
        request.push_str(&format!("{line}\r\n"));
    }
    exchange(server.admin(), format!("{request}\r\n{body}").as_bytes()).unwrap()
}

const SAME_ORIGIN: &str = "Sec-Fetch-Site: same-origin";

fn sign_in(server: &Server, proof: &Value) -> Answer {
    send(server, "POST", "/api/v1/session", &[SAME_ORIGIN], &proof.to_string())
}

/// The header lines of a new session: its cookie and its key.
fn session(server: &Server) -> (String, String) {
    let answer = sign_in(server, &json!({"token": server.token()})).expect(201);
    let cookie = answer.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{part}");
    }
    let port = server.admin().rsplit(':').next().unwrap();
    assert!(cookie.starts_with(&format!("boathook_session_{port}=")));
    let key = answer.data()["key"].as_str().unwrap().to_owned();
    assert!(!cookie.contains(&key));
    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
    (cookie, format!("X-Boathook-Session: {key}"))
}

#[test]
fn a_session_counts_for_our_own_pages_alone() {
    let server = Server::start();
    let (cookie, key) = session(&server);
    let origin = format!("Origin: http://{}", server.admin());
    let status = |method: &str, headers: &[&str]| {
        let lines = [&[cookie.as_str(), &key], headers].concat();
        send(&server, method, "/api/v1/projects", &lines, "").status
    };
    assert_eq!(status("GET", &[SAME_ORIGIN]), 200);
    assert_eq!(status("GET", &["Sec-Fetch-Site: none"]), 200);
    assert_eq!(status("GET", &["X-Boathook-Page: 1"]), 200);
    assert_eq!(status("GET", &[&origin]), 200);
    for headers in [
        vec![],
        vec!["Sec-Fetch-Site: same-site"],
        vec!["Sec-Fetch-Site: cross-site", &origin],
        vec!["Origin: http://127.0.0.1:1"],
        vec!["Origin: null"],
        vec![SAME_ORIGIN, "Host: evil.example"],
    ] {
        assert_eq!(status("GET", &headers), 401, "{headers:?}");
        assert_eq!(status("POST", &headers), 401, "{headers:?}");
    }
    assert_eq!(status("POST", &["Sec-Fetch-Site: none"]), 401);
    // A proxy with a password or a token of its own leaves the session as it is.
    let basic = "Authorization: Basic YTpi";
    for foreign in [basic, "Authorization: Bearer of.a.proxy", "Authorization: Bearer"] {
        assert_eq!(status("GET", &[SAME_ORIGIN, foreign]), 200, "{foreign}");
    }
    let bearer = format!("Authorization: Bearer {}", server.token());
    send(&server, "GET", "/api/v1/fleets", &[basic, &bearer], "").expect(200);

    // Nor does the secret count as a token, or in another cookie.
    let secret = cookie.rsplit('=').next().unwrap();
    let bearer = format!("Authorization: Bearer {secret}");
    assert_eq!(send(&server, "GET", "/api/v1/projects", &[&bearer], "").status, 401);
    let other = format!("Cookie: boathook_session_1={secret}");
    let other = [other.as_str(), &key, SAME_ORIGIN];
    assert_eq!(send(&server, "GET", "/api/v1/projects", &other, "").status, 401);

    let both = [cookie.as_str(), &key, SAME_ORIGIN];
    let left = send(&server, "DELETE", "/api/v1/session", &both, "").expect(200);
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(status("GET", &[SAME_ORIGIN]), 401);
}

#[test]
fn the_cookie_alone_opens_nothing_and_neither_does_the_key() {
    let server = Server::start();
    let (cookie, key) = session(&server);
    let (_, other_key) = session(&server);
    let origin = format!("Origin: http://{}", server.admin());
    // All that a service on another port can make up, with the cookie that browsers send it.
    let forged = [SAME_ORIGIN, "X-Boathook-Page: 1", origin.as_str()];
    let secret = cookie.rsplit('=').next().unwrap();
    let with_cookie_as_key = format!("X-Boathook-Session: {secret}");
    for session in [
        vec![cookie.as_str()],
        vec![key.as_str()],
        vec![&cookie, "X-Boathook-Session:"],
        vec![&cookie, &with_cookie_as_key],
        vec![&cookie, &other_key],
    ] {
        let lines = [&session[..], &forged].concat();
        for (method, path) in [
            ("GET", "/api/v1/fleets"),
            ("HEAD", "/api/v1/fleets"),
            ("GET", "/api/v1/openapi.json"),
            ("GET", "/metrics"),
            ("POST", "/api/v1/backup"),
            ("POST", "/api/v1/session/links"),
            ("POST", "/api/v1/fleets"),
            ("DELETE", "/api/v1/session"),
        ] {
            let mut connection = Connection::open(server.admin()).unwrap();
            let lines = lines.join("\r\n");
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\n{lines}\r\nContent-Length: 0\r\n\r\n",
                server.admin()
            );
            connection.send(request.as_bytes()).unwrap();
            assert_eq!(connection.answer_head().unwrap().status, 401, "{method} {path}");
        }
    }
    // The owner is still signed in.
    let both = [cookie.as_str(), &key, SAME_ORIGIN];
    send(&server, "GET", "/api/v1/fleets", &both, "").expect(200);
    assert!(!server.log().contains(secret));
}

#[test]
fn the_key_of_a_session_is_no_header_of_a_test_run() {
    let server = Server::start();
    let (cookie, key) = session(&server);
    let fleet = server.api().apply(&json!({"name": "f", "vessels": {"v": {"run": "env"}}}));
    let path = format!("/api/v1/fleets/{fleet}/test");
    let lines = [cookie.as_str(), &key, SAME_ORIGIN, "X-Kept: yes"];
    let run = send(&server, "POST", &path, &lines, "").expect(201).data();
    let run = run["fleet_run_id"].as_str().unwrap();
    let ended = server.api().wait_status(run, "Success");
    let kept = server.api().get(&format!("/api/v1/runs/{run}/webhook-parameters")).text();
    let output = server.api().output(&ended, "v");
    for text in [kept, output] {
        assert!(text.contains("X-Kept"), "{text}");
        assert!(!text.contains("X-Boathook-Session") && !text.contains(&key[20..]));
    }
}

#[test]
fn signing_in_takes_the_token_and_patience_with_wrong_ones() {
    let server = Server::start();
    let token = server.token();
    let proof = json!({"token": token}).to_string();
    let post = |headers: &[&str]| send(&server, "POST", "/api/v1/session", headers, &proof).status;
    assert_eq!(post(&["Sec-Fetch-Site: cross-site"]), 403);
    assert_eq!(post(&[]), 403);
    assert_eq!(post(&[SAME_ORIGIN, "Host: rebound.example"]), 403);
    assert_eq!(sign_in(&server, &json!({})).status, 422);
    for _ in 0..10 {
        assert_eq!(sign_in(&server, &json!({"token": "a guess"})).status, 403);
    }
    let link = || {
        let link = server.api().call("POST", "/api/v1/session/links", None).expect(201).data();
        link["path"].as_str().unwrap().split_once('=').unwrap().1.to_owned()
    };
    let (used, unused) = (link(), link());
    for wrong in [json!({"token": "another guess"}), json!({"link": "another guess"})] {
        let answer = sign_in(&server, &wrong);
        assert_eq!(answer.status, 429);
        assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() <= 61);
        let waits = answer.headers.iter().filter(|(name, _)| name == "retry-after");
        assert_eq!(waits.count(), 1);
    }
    // Right ones from the same address are taken.
    assert_eq!(sign_in(&server, &json!({"token": token})).status, 201);
    assert_eq!(sign_in(&server, &json!({"link": used})).status, 201);
    assert_eq!(sign_in(&server, &json!({"link": used})).status, 429);
    assert_eq!(sign_in(&server, &json!({"link": unused})).status, 201);
    assert_eq!(sign_in(&server, &json!({"token": "another guess"})).status, 429);
    // The API goes on as before.
    server.api().get("/api/v1/projects").expect(200);
    assert!(!server.log().contains("a guess"));
}

#[test]
fn a_link_opens_the_pages_once() {
    let server = Server::start();
    let (code, url, advice) = finish(server.cli(&["open"]));
    assert_eq!(code, 0, "{advice}");
    let (page, secret) = url.trim().split_once("#link=").unwrap();
    assert_eq!(page, format!("http://{}/sign-in", server.admin()));
    assert!(advice.contains("works once"));
    assert_eq!(sign_in(&server, &json!({"link": secret})).status, 201);
    let again = sign_in(&server, &json!({"link": secret}));
    assert_eq!(again.status, 403);
    assert!(again.error().contains("boathook open"), "{}", again.error());
    assert!(!server.log().contains(secret));
}

#[test]
fn pages_are_served_to_names_that_are_ours() {
    let server = Server::builder().setting("admin_hosts", "boat.example.com").start();
    let page = |headers: &[&str]| send(&server, "GET", "/", headers, "");
    for host in ["Host: localhost:9", "Host: boat.example.com", "Host: 192.0.2.1"] {
        let answer = page(&[host]).expect(200);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
    let refused = page(&["Host: rebound.example"]).expect(403);
    assert!(refused.text().contains("admin_hosts"), "{}", refused.text());
    let etag = format!("If-None-Match: {}", page(&[]).header("etag").unwrap());
    assert!(page(&[&etag]).expect(304).body.is_empty());
    // Nothing of it is on the other listener.
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(exchange(server.hooks(), request).unwrap().status, 405);
}

#[test]
fn the_overview_counts_what_there_is() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "f", "vessels": {"v": {"command": ["true"]}}}));
    for _ in 0..10 {
        api.wait_ended(&api.start(&fleet));
    }
    let overview = api.get("/api/v1/overview").expect(200).data();
    assert_eq!(overview["accepted_last_minute"], 10);
    assert_eq!((&overview["healthy"], &overview["runs_waiting"]), (&json!(true), &json!(0)));
    assert!(overview["disk_free_bytes"].as_u64().unwrap() > 0);
    let counts = json!({"total": 1, "failing": 0, "running": 0, "waiting": 0, "no_webhook": 1});
    assert_eq!(overview["fleets"], counts);
    let fleets = api.get("/api/v1/overview/fleets?state=no_webhook").expect(200).data();
    assert_eq!(fleets[0]["latest"].as_array().unwrap().len(), 5);
    assert_eq!(fleets[0]["latest"][0]["status"], "Success");
    let failing = api.get("/api/v1/overview/fleets?state=failing").expect(200).data();
    assert_eq!(failing, json!([]));
    // What went wrong last is what the log says; the mistakes of clients are not the server's.
    assert_eq!(overview["last_problem"], Value::Null);
    sign_in(&server, &json!({"token": "wrong"}));
    assert!(server.log().contains("failed sign-in"));
    assert_eq!(api.get("/api/v1/overview").data()["last_problem"], Value::Null);
    let odd = Server::builder().variable("BOATHOOK_WORKRES", "3").start();
    let problem = odd.api().get("/api/v1/overview").data()["last_problem"].clone();
    assert_eq!(problem["level"], "WARN");
    assert!(problem["message"].as_str().unwrap().contains("BOATHOOK_WORKRES"), "{problem}");
}

#[test]
fn a_check_finds_errors_and_changes_nothing() {
    let server = Server::start();
    let api = server.api();
    let check = |text: &str| {
        let content = ("application/yaml", text.as_bytes().to_vec());
        api.call("POST", "/api/v1/fleets/check", Some(content)).expect(200).data()
    };
    let found = check("name: f\nvessels:\n  v: {command: [\"true\"], x: 1}\n");
    assert_eq!(found["error"]["line"], 3, "{found}");
    assert_eq!(check("name: [")["error"]["path"], "", "syntax");
    let valid = check(
        "name: f\nvessels: {v: {run: \"true\"}, w: {run: \"true\"}}\nconnections: {v: {w: ERRORED}}\n",
    );
    assert_eq!(valid["definition"]["connections"][0]["condition"], "ERRORED");
    assert_eq!(api.get("/api/v1/fleets").data(), json!([]));
}

#[test]
fn output_comes_in_parts_that_follow_each_other() {
    let server = Server::builder().setting("max_output_bytes", "2MiB").start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "f", "vessels": {"v": {"run": "seq 1 600000"}}}));
    let ended = api.wait_ended(&api.start(&fleet));
    let (mut offset, mut received, mut gaps) = (0, 0, 0);
    loop {
        let answer = api.output_answer(&ended, "v", &format!("?part=true&offset={offset}"));
        let number = |name| answer.header(name).unwrap().parse::<u64>().unwrap();
        assert!(answer.body.len() < 3 << 20);
        let begins_at = number("x-output-offset");
        gaps += u32::from(begins_at > offset);
        received += answer.body.len();
        assert_eq!(number("x-output-next"), begins_at + answer.body.len() as u64);
        offset = number("x-output-next");
        if answer.header("x-output-ended") == Some("true") {
            break;
        }
        assert!(!answer.body.is_empty(), "an ended output says so");
    }
    assert_eq!(gaps, 1, "what the cap left out is one gap");
    assert!(received <= (2 << 20) + 4096 && offset > 3 << 20, "{received} of {offset}");
}
