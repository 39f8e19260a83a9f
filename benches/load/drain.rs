//! Runs finished per second while a queue drains, claims and settles durable, against a bare loop
//! that spawns `/bin/true` and waits for it with the same number of threads.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{body, load, post};
use crate::median;
use crate::server::Server;

const RUNS: usize = 4_000;
/// The default on two cores.
pub const WORKERS: usize = 8;
const WORK_DIR: &str = "/dev/shm/boathook-bench";
const ROUNDS: usize = 3;

pub fn run() {
    measure("disk", WORKERS, &[], 0.30);
    measure("tmpfs", WORKERS, &["--work-dir", WORK_DIR], 0.65);
    measure("tmpfs", 2 * WORKERS, &["--work-dir", WORK_DIR], 0.65);
    let _ = std::fs::remove_dir_all(WORK_DIR);
}

fn measure(work_dir: &str, workers: usize, arguments: &[&str], wanted: f64) {
    let what = format!("{workers} workers, {work_dir}");
    let fleet = json!({"name": "true", "vessels": {"main": {"command": ["/bin/true"]}}});
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let before = bare_loop(workers);
        let drained = drained("drain", workers, arguments, &fleet, RUNS);
        let bare = f64::midpoint(before, bare_loop(workers));
        println!("{what:<28} {drained:>6.0}/s   bare loop {bare:>6.0}/s   {:.2}", drained / bare);
        ratios.push(drained / bare);
    }
    println!(
        "ratio (median of {ROUNDS})          {:.2}   (at least {wanted})",
        median(&mut ratios)
    );
}

fn bare_loop(threads: usize) -> f64 {
    let left = AtomicUsize::new(RUNS);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let take = |left: usize| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    let status = Command::new("/bin/true").status().expect("it runs");
                    assert!(status.success());
                }
            });
        }
    });
    RUNS as f64 / begin.elapsed().as_secs_f64()
}

/// Runs of `fleet` finished per second while a queue of so many drains.
pub fn drained(
    directory: &str,
    workers: usize,
    arguments: &[&str],
    fleet: &Value,
    runs: usize,
) -> f64 {
    let server = Server::start(
        directory,
        &[&["--workers", workers.to_string().as_str()], arguments].concat(),
    );
    let (fleet, path) = server.add_fleet(fleet);
    let hold = server.hold_workers(workers);
    let request = post(&path, "", &body());
    load(server.hooks, &request, 201, Duration::MAX, runs);
    let begin = Instant::now();
    drop(hold);
    server.await_drained(&fleet);
    let upper_bound = begin.elapsed();
    let elapsed = span(&server, &fleet).min(upper_bound);
    runs as f64 / elapsed.as_secs_f64()
}

/// From the first start to the last end, as the server recorded them.
fn span(server: &Server, fleet: &str) -> Duration {
    let at = |run: &Value, key: &str| {
        run[key].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time")
    };
    let mut cursor = String::new();
    let (mut first, mut last) = (jiff::Timestamp::MAX, jiff::Timestamp::MIN);
    loop {
        let page = format!("/api/v1/runs?fleet={fleet}&limit=1000{cursor}");
        let page = server.api("GET", &page, "");
        let runs = page.as_array().expect("a list");
        for run in runs {
            assert_eq!(run["status"], "Success");
            first = first.min(at(run, "started_at"));
            last = last.max(at(run, "ended_at"));
        }
        match runs.last() {
            Some(run) => cursor = format!("&before={}", run["id"].as_str().expect("an id")),
            None => break,
        }
    }
    Duration::from_millis(
        u64::try_from(last.as_millisecond() - first.as_millisecond()).expect("positive"),
    )
}
