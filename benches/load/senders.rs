//! What verifying senders costs: accepting signed events that are looked up for duplicates, handshakes
//! while others send, and a good sender beside a flood of refusals.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use boathook::internals::senders::{Algorithm, Key, KeyForm};
use serde_json::json;

use crate::client::{Connection, body, load, load_made, post};
use crate::server::Server;
use crate::{median, millis, percentile};

const SECRET: &str = "It's a Secret to Everybody";
const TIME: Duration = Duration::from_secs(8);
const ROUNDS: usize = 3;
/// Connections of the flood, and what it sends at least.
const FLOOD_CONNECTIONS: usize = 16;
const FLOOD_REQUESTS: usize = 100_000;
const LARGE_BYTES: usize = 25 << 20;
const LARGE_BODIES: usize = 9;

/// A server with the secret, and a fleet whose sender has this preset; none: the URL alone.
fn server(name: &str, preset: Option<&str>) -> (Server, String) {
    let server = Server::start(name, &[]);
    server.api("PUT", "/api/v1/secrets/HOOK", SECRET);
    let path = add_fleet(&server, preset);
    (server, path)
}

fn add_fleet(server: &Server, preset: Option<&str>) -> String {
    let verify = preset.map(|preset| json!({"preset": preset, "secret": "HOOK"}));
    let vessels = json!({"main": {"command": ["/bin/true"]}});
    let name = preset.unwrap_or("plain");
    server.add_fleet(&json!({"name": name, "vessels": vessels, "webhook": {"verify": verify}})).1
}

/// The HMAC-SHA-256 of `content` in hex.
fn code(content: &[u8]) -> String {
    let key = Key::new(Algorithm::HmacSha256, KeyForm::Text, SECRET).expect("a key");
    let mut code = key.begin();
    code.update(content);
    code.sign().expect("it signs").iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An event of GitHub's that no other request has.
fn event(path: &str, connection: usize, number: usize) -> Vec<u8> {
    let mut body = body();
    let id = format!("{connection:08}-{number:08}");
    let end = body.len() - 2;
    body[end - id.len()..end].copy_from_slice(id.as_bytes());
    let code = code(&body);
    let headers = format!(
        "X-GitHub-Event: push\r\nX-GitHub-Delivery: {id}\r\nX-Hub-Signature-256: sha256={code}\r\n"
    );
    post(path, &headers, &body)
}

pub fn accepts() {
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let rate = |preset: Option<&str>, name: &str| {
            let (server, path) = server(name, preset);
            let make = |connection, number| Cow::Owned(event(&path, connection, number));
            let mut answered = load_made(server.hooks, make, 201, TIME, usize::MAX);
            answered.report(name);
            answered.rate
        };
        let plain = rate(None, "the URL alone");
        ratios.push(rate(Some("github"), "verified, deduplicated") / plain);
    }
    println!("ratio (median of {ROUNDS})          {:.2}   (at least 0.75)", median(&mut ratios));
}

pub fn handshakes() {
    let (server, handshake) = server("handshakes", Some("slack"));
    let plain = add_fleet(&server, None);
    let is_over = AtomicBool::new(false);
    let mut latencies = thread::scope(|scope| {
        let shaking = scope.spawn(|| {
            let mut connection = Connection::open(server.hooks);
            let mut latencies = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let request = challenge(&handshake);
                let sent = Instant::now();
                let (status, _) = connection.exchange(&request);
                latencies.push(sent.elapsed());
                assert_eq!(status, 200);
                thread::sleep(Duration::from_millis(5));
            }
            latencies
        });
        let mut sent = load(server.hooks, &post(&plain, "", &body()), 201, TIME, usize::MAX);
        is_over.store(true, Ordering::Relaxed);
        sent.report("64 connections beside them");
        shaking.join().expect("handshakes")
    });
    let (p50, p99) = (percentile(&mut latencies, 50), percentile(&mut latencies, 99));
    println!(
        "{} handshakes           p50 {:.2} ms   p99 {:.2} ms   (median under 5)",
        latencies.len(),
        millis(p50),
        millis(p99)
    );
}

/// Slack's question for a URL.
fn challenge(path: &str) -> Vec<u8> {
    let body = r#"{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let code = code(format!("v0:{now}:{body}").as_bytes());
    let headers = format!("X-Slack-Request-Timestamp: {now}\r\nX-Slack-Signature: v0={code}\r\n");
    post(path, &headers, body.as_bytes())
}

/// How much longer a large body takes when it is verified.
pub fn large_bodies() {
    let (server, guarded) = server("large", Some("github"));
    let plain = add_fleet(&server, None);
    let mut connection = Connection::open(server.hooks);
    let [plain, verified] = [plain, guarded].map(|path| {
        let mut latencies: Vec<Duration> = (0..LARGE_BODIES)
            .map(|number| {
                let mut body = vec![b'x'; LARGE_BYTES];
                body[..8].copy_from_slice(format!("{number:08}").as_bytes());
                let code = code(&body);
                let headers = format!("X-Hub-Signature-256: sha256={code}\r\n");
                let request = post(&path, &headers, &body);
                let sent = Instant::now();
                assert_eq!(connection.exchange(&request).0, 201);
                sent.elapsed()
            })
            .collect();
        millis(percentile(&mut latencies, 50))
    });
    println!(
        "25 MiB                       {plain:.0} ms, verified {verified:.0} ms: {:.0} ms more   (under 100)",
        verified - plain
    );
}

pub fn refusals() {
    let (server, guarded) = server("refusals", Some("github"));
    let good = add_fleet(&server, None);
    let mut alone = sequential(&server, &good, &AtomicUsize::new(usize::MAX));
    let before = server.resident_mb();
    let refused = AtomicUsize::new(0);
    let wrong = format!("X-Hub-Signature-256: sha256={}\r\n", code(b"something else"));
    let wrong = post(&guarded, &wrong, &body());
    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    let mut beside = thread::scope(|scope| {
        for _ in 0..FLOOD_CONNECTIONS {
            scope.spawn(|| {
                let mut connection = Connection::open(server.hooks);
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(connection.exchange(&wrong).0, 401);
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let latencies = sequential(&server, &good, &refused);
        is_over.store(true, Ordering::Relaxed);
        latencies
    });
    let rate = refused.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    let p99 = |latencies: &mut Vec<Duration>| millis(percentile(latencies, 99));
    let (alone, beside) = (p99(&mut alone), p99(&mut beside));
    println!(
        "good sender's p99            alone {alone:.2} ms   beside {rate:.0} refusals/s {beside:.2} ms   ratio {:.2}   (at most 2)",
        beside / alone
    );
    println!(
        "resident                     {before:.0} MB before, {:.0} MB after {} refusals",
        server.resident_mb(),
        refused.load(Ordering::Relaxed)
    );
}

/// One request after the other, for [`TIME`], and until `others` have sent theirs.
fn sequential(server: &Server, path: &str, others: &AtomicUsize) -> Vec<Duration> {
    let mut connection = Connection::open(server.hooks);
    let request = post(path, "", &body());
    let (mut latencies, begin) = (Vec::new(), Instant::now());
    while begin.elapsed() < TIME || others.load(Ordering::Relaxed) < FLOOD_REQUESTS {
        let sent = Instant::now();
        assert_eq!(connection.exchange(&request).0, 201);
        latencies.push(sent.elapsed());
    }
    latencies
}
