//! Any bytes: what was sent is what stdin, the file and the API give back.

use std::io::Write;
use std::process::{Command, Stdio};

use boathook::internals::limits::ADMIN_HANDLERS;
use serde_json::{Value, json};

use crate::harness::http::{exchange, post_request};
use crate::harness::{Api, Connection, Hook, Random, Server, sha256};

/// Prints the hash of the body as it came each of the three ways.
const HASHES: &str = r#"
hash() { sha256sum | cut -d' ' -f1; }
echo "stdin $(hash)"
if [ -n "${SHIPYARD_WEBHOOK_BODY_FILE+set}" ]
then echo "file $(hash < "$SHIPYARD_WEBHOOK_BODY_FILE")"
else echo "file absent"
fi
if [ -n "${BOATHOOK_WEBHOOK_BODY+set}" ]
then echo "variable $(printf %s "$BOATHOOK_WEBHOOK_BODY" | hash)"
else echo "variable absent"
fi
"#;

/// What fits in one environment string (execve(2)) beside the variable's name, `=` and NUL.
const VARIABLE_BYTES_MAX: usize = 131_072 - "BOATHOOK_WEBHOOK_BODY=".len() - 1;

fn check(server: &Server, api: &Api, hook: &Hook, content_type: &str, body: &[u8]) {
    let run = hook.post(server.hooks(), &[("Content-Type", content_type)], body);
    let run = api.wait_status(&run, "Success");
    let hash = sha256(body);
    let file = if body.is_empty() { "absent" } else { hash.as_str() };
    let is_text = std::str::from_utf8(body).is_ok_and(|text| !text.contains('\0'));
    let fits = is_text && !body.is_empty() && body.len() <= VARIABLE_BYTES_MAX;
    let variable = if fits { hash.as_str() } else { "absent" };
    let what = format!("{content_type}, {} bytes", body.len());
    let expected = format!("stdin {hash}\nfile {file}\nvariable {variable}\n");
    assert_eq!(api.output(&run, "hashes"), expected, "{what}");

    let id = run["id"].as_str().unwrap();
    let answer = api.get(&format!("/api/v1/runs/{id}/body")).expect(200);
    assert_eq!(answer.body.len(), body.len(), "{what}");
    assert_eq!(sha256(&answer.body), hash, "{what}");
    let disposition = answer.header("content-disposition").unwrap_or_default();
    assert!(disposition.starts_with("attachment"), "{disposition}");
}

fn start() -> (Server, Api, Hook) {
    let server = Server::start();
    let api = server.api();
    let (_, hook) = server
        .fleet_with_webhook(&json!({"name": "hashes", "vessels": {"hashes": {"run": HASHES}}}));
    (server, api, hook)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is installed");
    gzip.stdin.take().unwrap().write_all(bytes).unwrap();
    gzip.wait_with_output().unwrap().stdout
}

#[test]
fn bodies_of_any_kind_come_back_byte_for_byte() {
    let (server, api, hook) = start();
    let every_byte: Vec<u8> = (0..=255).collect();
    let multipart = b"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\
        Content-Type: application/octet-stream\r\n\r\n\x00\xff\r\n--b--\r\n";
    let zipped = gzip(b"{\"compressed\":true}");
    let cases: [(&str, &[u8]); 12] = [
        ("text/plain", b""),
        ("text/plain", b"x"),
        ("text/plain", b"\n\n"),
        ("text/plain", "caf\u{e9} \u{1f6a2}\n".as_bytes()),
        ("application/octet-stream", b"\0"),
        ("application/octet-stream", &every_byte),
        ("text/plain; charset=utf-8", b"not \xff\xfe UTF-8 \xc3"),
        ("multipart/form-data; boundary=b", multipart),
        ("application/x-www-form-urlencoded", b"a=1&b=%20&c=x+y&b=2"),
        ("application/gzip", &zipped),
        ("application/json", br#"{"a": [1, 2.50, "x"], "a": null}"#),
        ("", b"no content type to speak of"),
    ];
    for (content_type, body) in cases {
        check(&server, &api, &hook, content_type, body);
    }
}

#[test]
fn bodies_of_every_size_come_back_byte_for_byte() {
    let (server, api, hook) = start();
    let mut random = Random::seeded(7);
    let around_edges = [
        4_095,
        4_096,
        4_097,
        131_000,
        VARIABLE_BYTES_MAX,
        VARIABLE_BYTES_MAX + 1,
        131_072,
        200_000,
        262_143,
        262_144,
        262_145,
        1_500_000,
    ];
    for length in around_edges {
        check(&server, &api, &hook, "application/octet-stream", &random.bytes(length));
        check(&server, &api, &hook, "text/plain", &vec![b'a'; length]);
    }
}

#[test]
fn the_largest_body_comes_back_byte_for_byte() {
    let (server, api, hook) = start();
    let body = Random::seeded(25).bytes(25 * 1024 * 1024);
    check(&server, &api, &hook, "application/octet-stream", &body);
    let answer = hook.try_post(server.hooks(), &[], &[&body[..], b"x"].concat()).unwrap();
    assert_eq!(answer.status, 413);
}

/// A slow download keeps the thread of its connection, and none of the few handler threads.
#[test]
fn slow_downloads_hold_nobody_up() {
    let (server, api, hook) = start();
    // More than all buffers on the way take in.
    let body = Random::seeded(18).bytes(25 * 1024 * 1024);
    let run = hook.post(server.hooks(), &[], &body);
    let request = format!(
        "GET /api/v1/runs/{run}/body HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: \
         Bearer {}\r\n\r\n",
        server.token()
    );
    let mut slow: Vec<Connection> = (0..2 * ADMIN_HANDLERS)
        .map(|_| {
            let mut connection = Connection::open(server.admin()).unwrap();
            connection.send(request.as_bytes()).unwrap();
            let head = connection.answer_head().unwrap().expect(200);
            assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));
            connection
        })
        .collect();
    api.get(&format!("/api/v1/runs/{run}")).expect(200);
    assert!(slow.pop().unwrap().read_to_end() == body);
}

#[test]
fn a_vessel_need_not_read_its_input() {
    let server = Server::start();
    let api = server.api();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "ignores",
        "vessels": {"ignores": {"command": ["true"]}, "closes": {"run": "exec <&-; echo closed"}},
    }));
    let run = hook.post(server.hooks(), &[], &vec![b'x'; 3_000_000]);
    api.wait_status(&run, "Success");
}

#[test]
fn webhook_parameters_show_headers_and_body() {
    let (server, api, hook) = start();
    let headers = [("Content-Type", "application/json"), ("x-gitHub-event", "push")];
    let target = format!("{}?x=1", hook.target());
    let request = post_request(&target, &headers, br#"{"key":["value"]}"#);
    let data = exchange(server.hooks(), &request).unwrap().expect(201).data();
    let run = data["fleet_run_id"].as_str().unwrap();
    let shown = api.get(&format!("/api/v1/runs/{run}/webhook-parameters")).expect(200).data();
    assert_eq!(shown["headers"]["X-Github-Event"], json!(["push"]), "{shown}");
    assert_eq!(shown["headers"]["Content-Length"], json!(["17"]), "{shown}");
    assert_eq!(shown["headers"]["Host"], Value::Null, "as in the file of the vessel: {shown}");
    assert_eq!(shown["body"], json!({"key": ["value"]}), "{shown}");

    let run = hook.post(server.hooks(), &[], b"plain words");
    let shown = api.get(&format!("/api/v1/runs/{run}/webhook-parameters")).expect(200).data();
    assert_eq!(shown["body"], "plain words", "{shown}");

    let fleet = data["fleet_id"].as_str().unwrap();
    let run = api.start(fleet);
    api.get(&format!("/api/v1/runs/{run}/webhook-parameters")).expect(404);
    let body = api.get(&format!("/api/v1/runs/{run}/body")).expect(200);
    assert!(body.body.is_empty());
}
