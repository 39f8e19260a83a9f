//! What clients and proxies may do with HTTP, on both listeners: methods, headers and trailers.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::http::{exchange, post_request};
use crate::harness::{Answer, Connection, Server, description};

fn cat_fleet() -> Value {
    json!({"name": "cat", "vessels": {"cat": {"command": ["cat"]}}})
}

/// Sends a request without a body to the admin listener, with the token: the head of the answer, and
/// what follows it until the server closes the connection.
fn head_and_rest(server: &Server, method: &str, path: &str) -> (Answer, Vec<u8>) {
    let mut connection = Connection::open(server.admin()).unwrap();
    let token = server.token();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    );
    connection.send(request.as_bytes()).unwrap();
    let head = connection.answer_head().unwrap();
    (head, connection.read_to_end())
}

#[test]
fn head_answers_like_get_without_a_body_wherever_get_does() {
    let server = Server::start();
    let api = server.api();
    let (fleet, hook) = server.fleet_with_webhook(&cat_fleet());
    let run = hook.post(server.hooks(), &[], b"sent");
    let run = api.wait_status(&run, "Success");
    let (run_id, vessel) = (run["id"].as_str().unwrap(), run["vessels"][0]["id"].as_str().unwrap());
    let project = run["project_id"].as_str().unwrap();
    let organization = api.get("/api/v1/organization").data()["id"].as_str().unwrap().to_owned();
    let deliveries = api.get("/api/v1/deliveries").expect(200).data();
    let delivery = deliveries[0]["id"].as_str().unwrap();
    let pages = ["/", "/new", "/fleets/x", "/runs/x", "/sign-in"];
    let fixed = pages.map(|path| ("/page", path.to_owned()));
    let described = description::paths("get").into_iter().map(|path| {
        let filled = path.replace("{project}", project).replace("{fleet}", &fleet);
        let filled = filled.replace("{run}", run_id).replace("{vessel_run}", vessel);
        let filled = filled.replace("{delivery}", delivery).replace("{org}", &organization);
        let query = if path.ends_with("/proof") {
            "?nonce=".to_owned() + &"0".repeat(64)
        } else {
            String::new()
        };
        (path, filled.replace("{version}", "1") + &query)
    });
    for (path, target) in fixed.into_iter().chain(described) {
        assert!(!target.contains('{'), "{target}");
        let (get, body) = head_and_rest(&server, "GET", &target);
        let (head, rest) = head_and_rest(&server, "HEAD", &target);
        assert_eq!((get.status, body.is_empty()), (200, false), "{path}");
        assert_eq!((head.status, rest.len()), (200, 0), "{path}");
        let names = |answer: &Answer| -> Vec<String> {
            answer.headers.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&head), names(&get), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    assert_eq!(head_and_rest(&server, "HEAD", "/api/v1/fleets/x").0.status, 404);
    let (refused, rest) = head_and_rest(&server, "HEAD", &format!("/api/v1/runs/{run_id}/stop"));
    assert_eq!((refused.status, refused.header("allow"), rest.len()), (405, Some("POST"), 0));
    let (refused, _) = head_and_rest(&server, "PUT", "/api/v1/runs");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn health_answers_head_on_both_listeners() {
    let server = Server::start();
    for address in [server.hooks(), server.admin()] {
        let mut connection = Connection::open(address).unwrap();
        // The second answer would begin with the body of the first, if that had one.
        for method in ["HEAD", "HEAD"] {
            let request = format!("{method} /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
            connection.send(request.as_bytes()).unwrap();
            let answer = connection.answer_head().unwrap();
            assert_eq!((answer.status, answer.header("content-length")), (200, Some("2")));
        }
    }
}

#[test]
fn a_fleet_file_comes_in_any_type_of_yaml_or_without_one() {
    let server = Server::start();
    let send = |content_type: &str, body: &str| {
        let token = server.token();
        let request = format!(
            "POST /api/v1/fleets/check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             {content_type}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(server.admin(), request.as_bytes()).unwrap()
    };
    let yaml = "name: typed\nvessels: {v: {command: [cat]}}\n";
    let json = r#"{"name": "typed", "vessels": {"v": {"command": ["cat"]}}}"#;
    for kind in
        ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml; charset=utf-8"]
    {
        let checked = send(&format!("Content-Type: {kind}\r\n"), yaml).expect(200).data();
        assert_eq!(checked["definition"]["vessels"][0]["name"], "v", "{kind}");
    }
    for body in [yaml, json] {
        assert!(send("", body).expect(200).data()["definition"].is_object(), "{body}");
    }
    let refused = send("Content-Type: application/x-www-form-urlencoded\r\n", yaml).expect(415);
    assert!(refused.error().contains("send application/yaml"), "{}", refused.error());
}

#[test]
fn a_slash_at_the_end_of_a_webhook_url_is_tolerated_once() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    for (end, status) in [("/", 201), ("/?a=b", 201), ("//", 400), ("/x", 400), ("/%2f", 400)] {
        let target = format!("{}{end}", hook.target());
        let answer = exchange(server.hooks(), &post_request(&target, &[], b"{}")).unwrap();
        assert_eq!(answer.status, status, "{end}");
    }
    assert_eq!(server.api().all_runs().len(), 2);
}

#[test]
fn a_header_value_that_is_not_utf_8_is_read_as_latin_1() {
    let server = Server::start();
    let script = "cat \"$SHIPYARD_WEBHOOK_HEADERS_FILE\"";
    let fleet = json!({"name": "headers", "vessels": {"v": {"run": script}}});
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n", hook.target());
    let request = [head.as_bytes(), b"X-Latin: caf\xe9\r\nX-Utf: caf\xc3\xa9\r\n\r\n"].concat();
    let answer = exchange(server.hooks(), &request).unwrap().expect(201).data();
    let run = server.api().wait_status(answer["fleet_run_id"].as_str().unwrap(), "Success");
    let headers: Value = serde_json::from_str(&server.api().output(&run, "v")).unwrap();
    assert_eq!(headers["X-Latin"], json!(["caf\u{e9}"]));
    assert_eq!(headers["X-Utf"], json!(["caf\u{e9}"]));
}

#[test]
fn a_trailer_without_a_colon_is_refused() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&cat_fleet());
    for (trailers, status) in
        [("", 201), ("X-Sum: 1\r\n", 201), ("X-Sum\r\n", 400), ("GET / HTTP/1.1\r\n", 400)]
    {
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n{trailers}\r\n",
            hook.target()
        );
        assert_eq!(exchange(server.hooks(), request.as_bytes()).unwrap().status, status);
    }
    assert_eq!(server.api().all_runs().len(), 2);
}

#[test]
fn a_burst_of_connections_waits_to_be_accepted() {
    const BURST: usize = 300;
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    if allowed.trim().parse::<usize>().unwrap() < BURST {
        println!("skipped: net.core.somaxconn is {allowed}");
        return;
    }
    let server = Server::start();
    // A server that stands still accepts nothing: all that connects is in the backlog.
    server.signal(Signal::STOP);
    for address in [server.hooks(), server.admin()] {
        let address: SocketAddr = address.parse().unwrap();
        let connect = |at| {
            TcpStream::connect_timeout(&address, Duration::from_secs(5))
                .unwrap_or_else(|error| panic!("connection {at}: {error}"))
        };
        drop((0..BURST).map(connect).collect::<Vec<_>>());
    }
    server.signal(Signal::CONT);
}
