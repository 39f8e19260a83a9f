//! A million runs that wait: how accepting, memory and restarting bear it.

use std::time::Duration;

use crate::client::{body, load, post};
use crate::server::Server;

const BACKLOG: usize = 1_000_000;
const SAMPLE: usize = 60_000;
const WORKERS: usize = 8;

pub fn run() {
    let workers = WORKERS.to_string();
    let limit = (BACKLOG + 2 * SAMPLE).to_string();
    let arguments = ["--workers", &workers, "--max-queued-runs", &limit, "--shutdown-grace", "0s"];
    let server = Server::start("backlog", &arguments);
    let (_, path) = server.fleet("true", &["/bin/true"]);
    let hold = server.hold_workers(WORKERS);
    let request = post(&path, "", &body());
    let accept = |what: &str, requests: usize| {
        let mut answered = load(server.hooks, &request, 201, Duration::MAX, requests);
        answered.report(what);
        answered.rate
    };
    let empty = accept("empty queue", SAMPLE);
    accept("filling", BACKLOG - SAMPLE);
    let full = accept("1,000,000 waiting", SAMPLE);
    println!("ratio                        {:.2}   (at least 0.8)", full / empty);
    println!("resident {:.0} MB   (under 400)", server.resident_mb());
    drop(hold);
    let server = server.restart();
    println!(
        "ready again after {:.2} s   (under 3), resident {:.0} MB",
        server.ready_after.as_secs_f64(),
        server.resident_mb()
    );
}
