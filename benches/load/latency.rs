//! From the POST to the vessel's first instruction on an idle server, against a bare spawn.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::client::{Connection, post};
use crate::server::Server;
use crate::{millis, percentile};

const TRIES: usize = 200;

/// Prints the time at which it runs, in nanoseconds.
const PROGRAM: [&str; 2] = ["/bin/date", "+%s%N"];

pub fn run() {
    let server = Server::start("latency", &[]);
    let (fleet, path) = server.fleet("date", &PROGRAM);
    let mut connection = Connection::open(server.hooks);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        let sent = now();
        let (status, _) = connection.exchange(&post(&path, "", b"{}"));
        assert_eq!(status, 201);
        server.await_drained(&fleet);
        let newest = server.api("GET", &format!("/api/v1/runs?fleet={fleet}&limit=1"), "");
        let vessel = newest[0]["vessels"][0]["id"].as_str().expect("an id").to_owned();
        ours.push(printed(&server.output(&vessel)) - sent);
        let spawned = now();
        let output = Command::new(PROGRAM[0]).arg(PROGRAM[1]).output().expect("it runs");
        bare.push(printed(&output.stdout) - spawned);
    }
    let (ours, bare) = (percentile(&mut ours, 50), percentile(&mut bare, 50));
    println!(
        "POST to first instruction    {:.2} ms   bare spawn {:.2} ms   difference {:.2} ms   (under 3)",
        millis(ours),
        millis(bare),
        millis(ours.saturating_sub(bare))
    );
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

fn printed(output: &[u8]) -> Duration {
    let text = String::from_utf8_lossy(output);
    Duration::from_nanos(text.trim().parse().expect("nanoseconds"))
}

impl Server {
    /// The output of a vessel run.
    fn output(&self, vessel_run: &str) -> Vec<u8> {
        self.raw("GET", &format!("/api/v1/vessel-runs/{vessel_run}/output"))
    }
}
