//! The listener and other servers read a request alike: random requests are read by its parsers,
//! by Python's, and by a server, and must be the same requests to all of them.

pub mod grammar;

use std::io::Write;
use std::process::{Command, Stdio};

use boathook::internals::{Framing, Head};
use serde_json::{Value, json};

use crate::fuzzed::oracle::{read_chunks, read_head};
use crate::harness::{Connection, Random, Server, redacted};
use crate::hostile::fill_in;

const HEXLOWER: data_encoding::Encoding = data_encoding::HEXLOWER;

/// A request as the listener reads it.
struct Request {
    head: Head,
    body: Vec<u8>,
    /// Where it ends in the stream it came in.
    end: usize,
}

/// Why reading ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With nothing after the last request.
    Clean,
    /// In the middle of a request.
    Cut,
    Refused(u16),
}

/// The requests of one connection that the listener admits, each with its body.
fn requests(stream: &[u8]) -> (Vec<Request>, End) {
    let (mut read, mut from) = (Vec::new(), 0);
    loop {
        let rest = &stream[from..];
        if rest.chunks(2).all(|pair| pair == b"\r\n") {
            return (read, End::Clean);
        }
        let (end, head) = match read_head(rest, rest.len()) {
            Ok(Some(found)) => found,
            Ok(None) => return (read, End::Cut),
            Err(refusal) => return (read, End::Refused(refusal.status())),
        };
        match read_body(&head, &rest[end..]) {
            Ok(Some((body, length))) => {
                from += end + length;
                read.push(Request { head, body, end: from });
            }
            Ok(None) => return (read, End::Cut),
            Err(status) => return (read, End::Refused(status)),
        }
    }
}

fn read_body(head: &Head, rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, u16> {
    match head.framing {
        Framing::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            Ok(rest.get(..length).map(|body| (body.to_vec(), length)))
        }
        Framing::Chunked => read_chunks(rest, rest.len()).map_err(|refusal| refusal.status()),
    }
}

/// What Python reads of each of `streams`.
fn python_reads(streams: &[Vec<u8>]) -> Vec<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/differential/reference.py");
    let mut python = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut input = Vec::new();
    for stream in streams {
        input.extend_from_slice(&(stream.len() as u32).to_be_bytes());
        input.extend_from_slice(stream);
    }
    let mut stdin = python.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    writer.join().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `request` in the words of Python.
fn in_python(request: &Request, stream: &[u8], from: usize) -> Value {
    let Request { head, body, end } = request;
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| json!([HEXLOWER.encode(name.as_bytes()), HEXLOWER.encode(value)]))
        .collect();
    // Only the listener reads a whole URL.
    let line = String::from_utf8_lossy(&stream[from..]);
    let target = line.trim_start().split(' ').nth(1).unwrap_or_default().to_owned();
    if target.starts_with('/') {
        let question = if target.contains('?') { "?" } else { "" };
        assert_eq!(target, format!("{}{question}{}", head.path, head.query));
    }
    json!({
        "method": head.method,
        "target": target,
        "version": if head.is_old { "HTTP/1.0" } else { "HTTP/1.1" },
        "headers": headers,
        "body": HEXLOWER.encode(body),
        "end": end,
    })
}

#[test]
fn python_reads_the_same_requests() {
    const STREAMS: usize = 6000;
    let mut random = Random::seeded(Random::seed("differential"));
    let streams: Vec<Vec<u8>> =
        (0..STREAMS).map(|_| fill_in(&grammar::stream(&mut random), "/hooks/token")).collect();
    let (mut let_in, mut refused) = (0, 0);
    for (stream, python) in streams.iter().zip(python_reads(&streams)) {
        let (requests, end) = requests(stream);
        let mut from = 0;
        for (at, request) in requests.iter().enumerate() {
            let shown = String::from_utf8_lossy(stream);
            assert_eq!(python[at], in_python(request, stream, from), "request {at} of {shown:?}");
            from = request.end;
        }
        let_in += requests.len();
        refused += usize::from(matches!(end, End::Refused(_)));
    }
    println!("{STREAMS} connections: {let_in} requests let in, {refused} connections refused");
    assert!(let_in > STREAMS / 2 && refused > STREAMS / 10);
}

/// What a server answers to a stream: the statuses, and the bodies of what it accepts.
struct Expected {
    statuses: Vec<u16>,
    bodies: Vec<Vec<u8>>,
}

/// Reads `stream` as a server with the webhook `hook` should.
fn expected(stream: &[u8], hook: &str) -> Expected {
    let (mut statuses, mut bodies, mut rest) = (Vec::new(), Vec::new(), stream);
    loop {
        let (end, head) = match read_head(rest, rest.len()) {
            Ok(Some(found)) => found,
            Ok(None) => {
                let is_nothing = rest.chunks(2).all(|pair| pair == b"\r\n" || pair == b"\r");
                statuses.extend((!is_nothing).then_some(400));
                break;
            }
            Err(refusal) => {
                statuses.push(refusal.status());
                break;
            }
        };
        rest = &rest[end..];
        let body = read_body(&head, rest);
        let is_last = match (head.method.as_str(), head.path.as_str()) {
            ("POST", path) if path == hook => {
                let status = match &body {
                    Ok(Some((body, _))) => {
                        bodies.push(body.clone());
                        201
                    }
                    Ok(None) => match head.framing {
                        Framing::Length(length) if length > 25 << 20 => 413,
                        _ => 400,
                    },
                    Err(status) => *status,
                };
                statuses.push(status);
                status != 201
            }
            (method, path) => {
                statuses.push(match (method, path) {
                    ("GET" | "HEAD", "/healthz") => 200,
                    ("POST", _) => 400,
                    _ => 405,
                });
                // The body is not waited for: it is skipped where its end is known.
                head.framing == Framing::Chunked || (head.has_body() && head.expects_continue)
            }
        };
        match body {
            Ok(Some((_, length))) if !is_last && head.keeps_alive => rest = &rest[length..],
            _ => break,
        }
    }
    Expected { statuses, bodies }
}

#[test]
fn a_server_answers_what_was_asked_and_nothing_else() {
    const STREAMS: usize = 400;
    let mut random = Random::seeded(Random::seed("differential server"));
    let server = Server::builder().setting("workers", "1").start();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "wait", "vessels": {"wait": {"command": ["/bin/sleep", "1000"]}},
    }));
    let api = server.api();
    let mut accepted = 0;
    for _ in 0..STREAMS {
        let stream = fill_in(&grammar::stream(&mut random), &hook.target());
        // The answer to HEAD has no body, which its reader must know.
        if stream.windows(5).any(|bytes| bytes == b"HEAD ") {
            continue;
        }
        let shown = redacted(&String::from_utf8_lossy(&stream).escape_debug().to_string());
        let mut connection = Connection::open(server.hooks()).unwrap();
        let _ = connection.send(&stream);
        let _ = connection.finish_sending();
        let mut answers = Vec::new();
        while let Ok(answer) = connection.answer() {
            answers.push(answer);
        }
        let Expected { statuses, bodies } = expected(&stream, &hook.target());
        let seen: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(seen, statuses, "{shown}");
        let runs = answers.iter().filter(|answer| answer.status == 201);
        let runs: Vec<Value> = runs.map(|answer| answer.data()["fleet_run_id"].clone()).collect();
        assert_eq!(runs.len(), bodies.len(), "{shown}");
        for (run, body) in runs.iter().zip(bodies) {
            let path = format!("/api/v1/runs/{}/body", run.as_str().unwrap());
            assert!(api.get(&path).expect(200).body == body, "{shown}");
        }
        accepted += runs.len();
    }
    println!("{STREAMS} connections: {accepted} runs");
    assert_eq!(api.all_runs().len(), accepted);
    assert!(accepted > STREAMS / 4);
}
