//! The listener from outside: the requests that reach a vessel, and those that it refuses.

use std::io::{Read, Write};
use std::net::TcpStream;

use boathook::internals::limits::REFUSALS_LOGGED_MAX;
use serde_json::json;

use crate::harness::http::exchange;
use crate::harness::scrape::Scrape;
use crate::harness::{Answer, Connection, Hook, PATIENCE, Server, wait_for};

const MIB: usize = 1024 * 1024;

fn cat_fleet() -> serde_json::Value {
    json!({"name": "cat", "vessels": {"cat": {"command": ["cat"]}}})
}

/// A POST to `hook` with `headers` (each with its line end) and `body` as they are.
fn raw(hook: &Hook, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\n{headers}\r\n", hook.target());
    [head.as_bytes(), body].concat()
}

/// The run that `answer`, a 201, is about.
#[track_caller]
fn accepted(answer: Answer) -> String {
    answer.expect(201).data()["fleet_run_id"].as_str().unwrap().to_owned()
}

/// Waits until there is room for another connection.
#[track_caller]
fn await_accepting(server: &Server, hook: &Hook) {
    let accepts = wait_for(|| {
        let answer = exchange(server.hooks(), &raw(hook, "", b"")).ok()?;
        (answer.status == 201).then_some(())
    });
    assert!(accepts.is_some(), "no room for another connection");
}

/// `body` in chunks of up to `size` bytes.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x};note=\"x\"\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\nX-Trailer: dropped\r\n\r\n");
    bytes
}

#[test]
fn chunked_bodies_come_back_byte_for_byte() {
    let server = Server::builder().setting("max_body_bytes", "1000000").start();
    let api = server.api();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let bytes: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
    for (length, size) in [(0, 1), (5, 2), (100_000, 7_777), (1_000_000, 65_536)] {
        let body = chunked(&bytes[..length], size);
        let request = raw(&hook, "Transfer-Encoding: chunked\r\n", &body);
        let run = accepted(exchange(server.hooks(), &request).unwrap());
        api.wait_status(&run, "Success");
        let body = api.get(&format!("/api/v1/runs/{run}/body")).expect(200);
        assert!(body.body == bytes[..length], "{length} bytes by {size}");
    }
    let too_many = chunked(&[bytes, vec![0]].concat(), 65_536);
    let request = raw(&hook, "Transfer-Encoding: chunked\r\n", &too_many);
    exchange(server.hooks(), &request).unwrap().expect(413);
    for (framing, status) in [
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
    ] {
        exchange(server.hooks(), &raw(&hook, framing, b"0\r\n\r\n")).unwrap().expect(status);
    }
}

#[test]
fn header_values_of_any_bytes_reach_the_vessel() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "headers",
        "vessels": {"show": {"run": "cat \"$SHIPYARD_WEBHOOK_HEADERS_FILE\""}},
    }));
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nX-Utf8: ", hook.target());
    let request = [head.as_bytes(), "café".as_bytes(), b"\r\nX-Latin1: caf\xe9\r\n\r\n"].concat();
    let run = accepted(exchange(server.hooks(), &request).unwrap());
    let api = server.api();
    let run = api.wait_status(&run, "Success");
    let headers: serde_json::Value = serde_json::from_str(&api.output(&run, "show")).unwrap();
    let text = headers.to_string();
    assert_eq!(text.matches("café").count(), 2, "{text}");
    assert!(!text.contains('\u{fffd}'), "{text}");
}

#[test]
fn a_sender_that_expects_100_continue_gets_it() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let expects = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let mut stream = TcpStream::connect(server.hooks()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&raw(&hook, expects, b"")).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 201");

    let nobody = Hook::from_url(&format!("http://x/hooks/{}", "A".repeat(43)));
    let mut stream = TcpStream::connect(server.hooks()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&raw(&nobody, expects, b"")).unwrap();
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 400", "and no 100 before it");
}

#[test]
fn a_head_that_cannot_become_valid_is_refused_at_once() {
    let server = Server::start();
    // TLS on a plain port: the beginning of a ClientHello.
    let mut connection = Connection::open(server.hooks()).unwrap();
    connection.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    assert_eq!(connection.answer().unwrap().expect(400).header("connection"), Some("close"));
    assert!(connection.read_to_end().is_empty());

    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let unended = format!("POST {} HTTP/1.1\r\nHost: x\r\nX-A: b\r\n folded", hook.target());
    exchange(server.hooks(), unended.as_bytes()).unwrap().expect(400);
    exchange(server.admin(), b"GET / HTTP/2.0").unwrap().expect(505);
    let long = format!("POST /hooks/{}", "a".repeat(20_000));
    exchange(server.hooks(), long.as_bytes()).unwrap().expect(414);
}

#[test]
fn a_slow_sender_gets_408_and_its_connection_ends() {
    let server = Server::builder()
        .setting("head_timeout", "1s")
        .setting("body_timeout", "1s")
        .setting("idle_timeout", "1s")
        .start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let head = raw(&hook, "Content-Length: 5\r\n", b"");
    for sent in [&head[..head.len() - 2], &head[..]] {
        let answer = exchange(server.hooks(), sent).unwrap().expect(408);
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let mut idle = Connection::open(server.hooks()).unwrap();
    idle.send(&raw(&hook, "", b"")).unwrap();
    accepted(idle.answer().unwrap());
    assert!(idle.read_to_end().is_empty());
    assert_eq!(server.api().all_runs().len(), 1);
}

#[test]
fn a_full_server_still_answers_health_checks() {
    let server = Server::builder().setting("max_connections", "4").start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    // A request that is arriving does not give way.
    let request = raw(&hook, "Content-Length: 3\r\n", b"abc");
    let (begin, end) = request.split_at(request.len() - 1);
    let mut held: Vec<Connection> =
        (0..4).map(|_| Connection::open(server.hooks()).unwrap()).collect();
    for connection in &mut held {
        connection.send(health).unwrap();
        connection.answer().unwrap().expect(200);
        connection.send(begin).unwrap();
    }
    server.wait_until("their heads are read", || {
        let requests = r#"boathook_requests_total{listener="hooks"}"#;
        Scrape::of(&server.api()).value(requests) == 8.0
    });
    exchange(server.hooks(), health).unwrap().expect(200);
    let refused = exchange(server.hooks(), &raw(&hook, "", b"")).unwrap().expect(503);
    assert!(refused.header("retry-after").is_some());
    // Connections with a place are served.
    for connection in &mut held {
        connection.send(end).unwrap();
        accepted(connection.answer().unwrap());
    }
    drop(held);
    await_accepting(&server, &hook);
}

#[test]
fn silent_connections_leave_descriptors_for_vessels() {
    let server = Server::builder()
        .setting("workers", "4")
        .setting("head_timeout", "60s")
        .after_shell("ulimit -n 256")
        .start();
    let api = server.api();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "limit", "vessels": {"show": {"run": "ulimit -n; cat"}},
    }));
    let run = hook.post(server.hooks(), &[], &vec![b'x'; 2 * MIB]);
    // None of these connections sends a byte.
    let clients: Vec<TcpStream> =
        (0..400).map(|_| TcpStream::connect(server.hooks()).unwrap()).collect();
    let run = api.wait_status(&run, "Success");
    assert!(api.output(&run, "show").starts_with("256\nxxx"));
    drop(clients);
    await_accepting(&server, &hook);
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
}

#[test]
fn arriving_bodies_share_a_budget() {
    let server = Server::builder().setting("max_inflight_body_bytes", "1MiB").start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let mut first = TcpStream::connect(server.hooks()).unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    let expects = "Content-Length: 1000000\r\nExpect: 100-continue\r\n";
    first.write_all(&raw(&hook, expects, b"")).unwrap();
    // Told to go on, it may have as much as there is.
    first.read_exact(&mut [0; 25]).unwrap();
    first.write_all(&[b'x'; 999_999]).unwrap();
    let second = || {
        let request = raw(&hook, "Content-Length: 100000\r\n", &[b'x'; 100_000]);
        exchange(server.hooks(), &request).unwrap()
    };
    // A head alone takes nothing of the budget that the first body is still filling.
    let is_full = || {
        let mut probe = TcpStream::connect(server.hooks()).unwrap();
        let expects = "Content-Length: 100000\r\nExpect: 100-continue\r\n";
        probe.write_all(&raw(&hook, expects, b"")).unwrap();
        let mut status = [0; 12];
        probe.read_exact(&mut status).unwrap();
        status == *b"HTTP/1.1 503"
    };
    server.wait_until("the budget is used up", is_full);
    assert!(second().expect(503).header("retry-after").is_some());
    accepted(exchange(server.hooks(), &raw(&hook, "Content-Length: 3\r\n", b"abc")).unwrap());
    drop(first);
    let given_back = wait_for(|| (second().status == 201).then_some(()));
    assert!(given_back.is_some(), "the share was not given back");
}

#[test]
fn a_connection_without_keep_alive_ends_after_its_response() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    let request = format!("POST {} HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", hook.target());
    let mut connection = Connection::open(server.hooks()).unwrap();
    connection.send(request.as_bytes()).unwrap();
    let answer = connection.answer().unwrap();
    assert_eq!(answer.header("connection"), Some("close"));
    accepted(answer);
    assert!(connection.read_to_end().is_empty());
    exchange(server.hooks(), b"GET /healthz HTTP/1.0\r\n\r\n").unwrap().expect(200);
}

/// Whatever is wrong with it: the client would take a body for the beginning of the next answer.
#[test]
fn a_refused_head_gets_no_body() {
    let server = Server::start();
    for request in [
        "HEAD / HTTP/2.0\r\n\r\n".to_owned(),
        "\r\nHEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n".to_owned(),
        format!("HEAD /{} HTTP/1.1\r\n", "a".repeat(20_000)),
        "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
    ] {
        let mut connection = Connection::open(server.hooks()).unwrap();
        connection.send(request.as_bytes()).unwrap();
        connection.finish_sending().unwrap();
        let answer = String::from_utf8(connection.read_to_end()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 4") || head.starts_with("HTTP/1.1 5"), "{head}");
        assert!(head.contains("\r\nContent-Length: "), "{head}");
        assert_eq!(body, "", "{head}");
    }
}

/// Strangers do not decide how much is logged; what is logged can be found by what they were told.
#[test]
fn refusals_are_logged_with_their_ids_up_to_a_limit() {
    let server = Server::start();
    let logged = |what: &str| server.log().matches(what).count();
    let (unknown, malformed) =
        ("POST /hooks/x HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost : x\r\n\r\n");
    for (request, line) in [(unknown, "webhook refused"), (malformed, "request refused")] {
        let first = exchange(server.hooks(), request.as_bytes()).unwrap().expect(400);
        let id = first.header("x-request-id").unwrap().to_owned();
        server.wait_until("it is logged", || server.log().contains(&format!("{line} ")));
        let log = server.log();
        let logged = log.lines().find(|logged| logged.contains(line)).unwrap();
        assert!(logged.contains(&format!("request={id} ")), "{logged}");
        for _ in 0..2 * REFUSALS_LOGGED_MAX {
            exchange(server.hooks(), request.as_bytes()).unwrap().expect(400);
        }
    }
    let lines = |what: &str| logged(what) as u64;
    server.wait_until("it says that there are more", || lines("more such refusals") == 2);
    for line in ["webhook refused", "request refused"] {
        assert_eq!(lines(line), REFUSALS_LOGGED_MAX, "{line}");
    }
}
