//! What a sweep of old runs costs those who are accepted meanwhile: one client alone, beside a sweep,
//! and alone again. On a machine with others on its disk the slowest accepts are the disk's doing:
//! compare what is slowest alone, or have the target directory in memory.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Connection, body, load, post};
use crate::server::Server;
use crate::{millis, percentile};

const RUNS: usize = 30_000;
const KEPT: u64 = 100;
const TIME: Duration = Duration::from_secs(10);

pub fn run() {
    let server = Server::start("sweep", &["--workers", "8", "--keep-runs", "forever"]);
    let mut fleet = json!({"name": "true", "vessels": {"main": {"command": ["/bin/true"]}}});
    let (id, path) = server.add_fleet(&fleet);
    let request = post(&path, "", &body());
    load(server.hooks, &request, 201, Duration::MAX, RUNS);
    server.await_drained(&id);

    let alone = || {
        let begin = Instant::now();
        accepted(&server, &request, &mut || begin.elapsed() < TIME)
    };
    let before = alone();
    fleet["keep_runs"] = json!(format!("{KEPT} runs"));
    server.api("PUT", &format!("/api/v1/fleets/{id}"), &fleet.to_string());
    let (begin, mut looked) = (Instant::now(), Instant::now());
    let beside = accepted(&server, &request, &mut || {
        if looked.elapsed() < Duration::from_millis(200) {
            return true;
        }
        looked = Instant::now();
        let overview = server.api("GET", "/api/v1/overview", "");
        overview["history_runs"].as_u64().expect("a number") > 4 * KEPT
    });
    let swept = begin.elapsed();
    let after = alone();
    report("alone", before);
    report(&format!("beside a sweep of {:.0} s", swept.as_secs_f64()), beside);
    report("alone again", after);
    println!("(the slowest beside the sweep at most 5 ms over the slowest alone)");
}

/// How long each accept of one client takes, for as long as `goes_on`.
fn accepted(server: &Server, request: &[u8], goes_on: &mut dyn FnMut() -> bool) -> Vec<Duration> {
    let mut connection = Connection::open(server.hooks);
    let mut latencies = Vec::new();
    while goes_on() {
        let sent = Instant::now();
        assert_eq!(connection.exchange(request).0, 201);
        latencies.push(sent.elapsed());
    }
    latencies
}

fn report(what: &str, mut latencies: Vec<Duration>) {
    let at = |latencies: &mut Vec<Duration>, percent| millis(percentile(latencies, percent));
    println!(
        "{what:<28} {:>6} accepts   p50 {:>5.2} ms   p99 {:>5.2} ms   slowest {:>6.2} ms",
        latencies.len(),
        at(&mut latencies, 50),
        at(&mut latencies, 99),
        at(&mut latencies, 100),
    );
}
