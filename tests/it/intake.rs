//! The webhook listener: what is accepted, what is refused, and what each answer looks like.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use rustix::process::{Pid, getpriority_process};
use serde_json::json;
use uuid::Uuid;

use crate::harness::http::{exchange, post_request};
use crate::harness::server::finish;
use crate::harness::{Answer, Connection, Hook, Server};

const MIB: usize = 1024 * 1024;

fn cat_fleet() -> serde_json::Value {
    json!({"name": "cat", "vessels": {"cat": {"command": ["cat"]}}})
}

/// Fails unless `answer` is a refusal with `status`: the one body, its id a UUID and repeated in
/// `X-Request-Id`.
#[track_caller]
fn assert_refusal(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", crate::harness::redacted(&answer.text()));
    let id = answer.header("x-request-id").expect("X-Request-Id");
    assert!(Uuid::try_parse(id).is_ok(), "{id}");
    assert_eq!(answer.text(), format!(r#"{{"request":{{"id":"{id}"}},"data":null}}"#));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn an_accepted_post_is_answered_with_the_ids_of_its_run() {
    let server = Server::start();
    let api = server.api();
    let (fleet, hook) = server.fleet_with_webhook(&cat_fleet());
    let answer = hook.try_post(server.hooks(), &[], b"{}").unwrap().expect(201);

    let id = answer.header("x-request-id").expect("X-Request-Id").to_owned();
    let data = answer.data();
    let run = api.run(data["fleet_run_id"].as_str().unwrap());
    let organization = api.get("/api/v1/organization").expect(200).data();
    let expected = format!(
        r#"{{"request":{{"id":"{id}"}},"data":{{"fleet_id":"{fleet}","project_id":{},"org_id":{},"fleet_run_id":{}}}}}"#,
        run["project_id"], organization["id"], run["id"]
    );
    assert_eq!(answer.text(), expected);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    for text in [&id, &fleet, run["project_id"].as_str().unwrap(), run["id"].as_str().unwrap()] {
        assert!(Uuid::try_parse(text).is_ok(), "{text}");
    }
    assert_eq!(run["fleet_id"], fleet.as_str());
    assert_eq!(run["trigger"], "webhook");
    assert!(!server.has_more_stdout(), "serve prints one line to stdout");
}

#[test]
fn every_wrong_url_gets_the_same_answer() {
    let server = Server::start();
    let api = server.api();
    let (fleet, replaced) = server.fleet_with_webhook(&cat_fleet());
    let path = format!("/api/v1/fleets/{fleet}/webhook/replace");
    let answer = api.post(&path, &json!({"grace_seconds": 0}));
    let answer = if answer.status == 201 { answer } else { answer.expect(200) };
    let removed = Hook::from_url(answer.data()["url"].as_str().unwrap());
    api.delete(&format!("/api/v1/fleets/{fleet}/webhook")).expect(200);

    let long = format!("/hooks/{}", "a".repeat(10 * 1024));
    let unknown = format!("/hooks/{}", "A".repeat(43));
    let (replaced, removed) = (replaced.target(), removed.target());
    let targets = [
        unknown.as_str(),
        &replaced,
        &removed,
        &long,
        "/",
        "/hooks",
        "/hooks/",
        "/hooks//",
        "/hooks/a/b",
        "/hooks/%00",
        "/hooks/%2e%2e%2fhealthz",
        "/hooks/../healthz",
        "/hooks/'\"<>;|$(id)",
        "/hooks/?a=b",
        "/healthz",
        "/api/v1/fleets",
        "/metrics",
    ];
    let mut header_names = BTreeSet::new();
    for target in targets {
        let answer = exchange(server.hooks(), &post_request(target, &[], b"{}")).unwrap();
        assert_refusal(&answer, 400);
        let names: Vec<String> = answer.headers.into_iter().map(|(name, _)| name).collect();
        header_names.insert(names);
    }
    assert_eq!(header_names.len(), 1, "the refusals differ: {header_names:?}");
    assert_eq!(api.all_runs().len(), 0);
}

#[test]
fn other_methods_are_not_allowed() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let target = hook.target();
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for target in [target.as_str(), "/", "/hooks/unknown"] {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            let answer = exchange(server.hooks(), request.as_bytes()).unwrap();
            assert_refusal(&answer, 405);
            assert_eq!(answer.header("allow"), Some("POST"), "{method}");
        }
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let request = format!("{method} /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        for address in [server.hooks(), server.admin()] {
            let answer = exchange(address, request.as_bytes()).unwrap().expect(405);
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method}");
        }
    }

    let mut connection = Connection::open(server.hooks()).unwrap();
    connection.send(format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let answer = connection.answer_head().unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(server.api().all_runs().len(), 0);
}

#[test]
fn health_is_told_without_a_token() {
    let server = Server::start();
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = exchange(server.hooks(), request.as_bytes()).unwrap().expect(200);
    assert_eq!(answer.text().trim_end(), "ok");
    let answer = exchange(server.admin(), request.as_bytes()).unwrap().expect(200);
    assert_eq!(answer.text().trim_end(), "ok");
}

#[test]
fn a_post_without_length_has_an_empty_body() {
    let server = Server::start();
    let api = server.api();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());

    // What `curl -X POST URL` sends.
    let request = format!("POST {} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n", hook.target());
    let answer = exchange(server.hooks(), request.as_bytes()).unwrap().expect(201);
    let mut runs = vec![answer.data()["fleet_run_id"].as_str().unwrap().to_owned()];

    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "-X", "POST", "--config", "-"]);
    let url = format!("url = \"http://{}{}\"\n", server.hooks(), hook.target());
    let config = server.scratch().join("curl.config");
    std::fs::write(&config, url).unwrap();
    curl.stdin(std::fs::File::open(config).unwrap());
    let (code, stdout, stderr) = finish(curl);
    assert_eq!(code, 0, "{stderr}");
    let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    runs.push(answer["data"]["fleet_run_id"].as_str().unwrap().to_owned());

    for run in runs {
        let ended = api.wait_status(&run, "Success");
        assert_eq!(api.output(&ended, "cat"), "");
        let body = api.get(&format!("/api/v1/runs/{run}/body")).expect(200);
        assert!(body.body.is_empty());
    }
}

#[test]
fn the_query_string_reaches_the_vessel() {
    let server = Server::start();
    let api = server.api();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "query",
        "vessels": {"show": {"run": "printf %s \"$BOATHOOK_WEBHOOK_QUERY\""}},
    }));
    let target = format!("{}?a=1&b=%20x;$(id)", hook.target());
    let answer = exchange(server.hooks(), &post_request(&target, &[], b"")).unwrap().expect(201);
    let run = api.wait_status(answer.data()["fleet_run_id"].as_str().unwrap(), "Success");
    assert_eq!(api.output(&run, "show"), "a=1&b=%20x;$(id)");
}

#[test]
fn one_connection_carries_many_requests() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let mut connection = Connection::open(server.hooks()).unwrap();
    let mut runs = BTreeSet::new();
    let mut accepted = |answer: Answer| {
        let run = answer.expect(201).data()["fleet_run_id"].as_str().unwrap().to_owned();
        assert!(runs.insert(run), "a run was answered twice");
    };
    for body in ["one", "", "three"] {
        connection.send(&post_request(&hook.target(), &[], body.as_bytes())).unwrap();
        accepted(connection.answer().unwrap());
    }
    // A refusal ends no connection either, and requests may come in one go.
    connection.send(&post_request("/hooks/unknown", &[], b"some body")).unwrap();
    assert_refusal(&connection.answer().unwrap(), 400);
    let pair = [post_request(&hook.target(), &[], b"4"), post_request(&hook.target(), &[], b"5")];
    connection.send(&pair.concat()).unwrap();
    accepted(connection.answer().unwrap());
    accepted(connection.answer().unwrap());
    assert_eq!(runs.len(), 5);
    assert_eq!(server.api().all_runs().len(), 5);
}

#[test]
fn a_chunked_body_arrives_whole_and_other_codings_are_refused() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let send = |framing: &str| {
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            hook.target()
        );
        exchange(server.hooks(), request.as_bytes()).unwrap()
    };
    assert_refusal(&send("transfer-encoding: gzip, chunked"), 501);
    assert_eq!(server.api().all_runs().len(), 0);
    let answer = send("Transfer-Encoding: chunked").expect(201);
    let data = answer.data();
    let run = data["fleet_run_id"].as_str().unwrap();
    let body = server.api().get(&format!("/api/v1/runs/{run}/body")).expect(200);
    assert_eq!(body.body, b"hello");
}

#[test]
fn a_body_over_the_limit_is_refused_while_it_is_being_sent() {
    let server = Server::builder().setting("max_body_bytes", "1000000").start();
    let api = server.api();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let body = vec![b'x'; 40 * MIB];

    // A client that reads only when all is sent must not run into a reset.
    let request = post_request(&hook.target(), &[], &body);
    assert_refusal(&exchange(server.hooks(), &request).unwrap(), 413);

    assert_eq!(api.all_runs().len(), 0, "nothing of it is kept");
    let run = hook.post(server.hooks(), &[], &body[..1_000_000]);
    api.wait_status(&run, "Success");
    let answer = hook.try_post(server.hooks(), &[], &body[..1_000_001]).unwrap();
    assert_refusal(&answer, 413);
}

#[test]
fn a_sender_that_goes_away_leaves_no_run() {
    let mut server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let target = hook.target();
    let head = |framing: &str| format!("POST {target} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
    let part = |framing: &str, sent: usize| [head(framing).as_bytes(), &vec![b'x'; sent]].concat();
    let broken = [
        part("Content-Length: 100", 0),
        part("Content-Length: 100", 99),
        part("Content-Length: 20000000", 5_000_000),
        [head("Transfer-Encoding: chunked").as_bytes(), b"5\r\nhello\r\n"].concat(),
        [head("Transfer-Encoding: chunked").as_bytes(), b"5\r\nhe"].concat(),
    ];
    for request in &broken {
        // Half closed, so that whatever the server says, its end is seen.
        let mut connection = Connection::open(server.hooks()).unwrap();
        connection.send(request).unwrap();
        connection.finish_sending().unwrap();
        let answer = connection.read_to_end();
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 201"), "{} bytes were accepted", request.len());

        let mut connection = Connection::open(server.hooks()).unwrap();
        connection.send(request).unwrap();
        drop(connection);
    }
    // An orderly stop answers what is in flight, so after it all of them have been dealt with.
    server.stop();
    server.start_again();
    assert_eq!(server.api().all_runs().len(), 0);

    // A large body, part of which may be on disk already when the server dies.
    let mut connection = Connection::open(server.hooks()).unwrap();
    connection.send(&part("Content-Length: 20000000", 15_000_000)).unwrap();
    server.crash_and_restart();
    drop(connection);
    let api = server.api();
    assert_eq!(api.all_runs().len(), 0);
    let run = hook.post(server.hooks(), &[], b"whole");
    let run = api.wait_status(&run, "Success");
    assert_eq!(api.output(&run, "cat"), "whole");
    assert_eq!(api.all_runs().len(), 1);
}

#[test]
fn a_full_queue_is_refused_until_there_is_room() {
    let server = Server::builder().setting("max_queued_runs", "3").setting("workers", "1").start();
    let api = server.api();
    let gate = server.scratch().join("gate");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", gate.display());
    let (_, hook) =
        server.fleet_with_webhook(&json!({"name": "wait", "vessels": {"wait": {"run": wait}}}));
    let mut accepted = Vec::new();
    // One may have left the queue for the worker already.
    let refusal = (0..6).find_map(|_| {
        let answer = hook.try_post(server.hooks(), &[], b"x").unwrap();
        if answer.status == 201 {
            accepted.push(answer.data()["fleet_run_id"].as_str().unwrap().to_owned());
            return None;
        }
        Some(answer)
    });
    let refusal = refusal.expect("a full queue is refused");
    assert_refusal(&refusal, 503);
    let seconds: u32 = refusal.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
    assert!(accepted.len() >= 3, "{}", accepted.len());

    std::fs::write(gate, "").unwrap();
    for run in &accepted {
        api.wait_status(run, "Success");
    }
    hook.post(server.hooks(), &[], b"x");
}

/// Niceness of the threads of `pid`, by their names.
fn niceness(pid: i32) -> Vec<(String, i32)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |thread: fs::DirEntry| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        let id = Pid::from_raw(thread.file_name().to_str()?.parse().ok()?);
        Some((name.trim_end().to_owned(), getpriority_process(id).ok()?))
    };
    threads.flatten().filter_map(of_thread).collect()
}

#[test]
fn accepting_goes_before_running() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&json!({"name": "nice", "vessels": {
        "v": {"command": ["nice"]},
    }}));
    let run = server.api().wait_ended(&hook.post(server.hooks(), &[], b""));
    let threads = niceness(server.pid());
    let of = |prefix: &str| -> Vec<i32> {
        let named = threads.iter().filter(|(name, _)| name.starts_with(prefix));
        named.map(|(_, nice)| *nice).collect()
    };
    let own = niceness(std::process::id() as i32)[0].1;
    assert_eq!(server.api().output(&run, "v").trim(), own.to_string());
    assert!(of("worker-").iter().all(|nice| *nice == own) && !of("worker-").is_empty());
    if of("committer") == [own] {
        println!("not checked: it takes a privilege");
        return;
    }
    for name in ["committer", "hooks-"] {
        let nice = of(name);
        assert!(!nice.is_empty() && nice.iter().all(|it| *it < own), "{name}: {threads:?}");
    }
}
