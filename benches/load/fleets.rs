//! Durable 201s per second with ten thousand fleets, each sent to by its own webhook, against one
//! fleet. The workers are held, so that nothing but accepting is measured.

use std::thread;
use std::time::Duration;

use crate::client::{body, load_mixed, post};
use crate::median;
use crate::server::{Hold, Server};

const FLEETS: usize = 10_000;
const TIME: Duration = Duration::from_secs(4);
const ROUNDS: usize = 5;
const WORKERS: usize = 8;
/// Fleets are added by so many at a time, for each addition waits for the disk.
const ADDERS: usize = 32;

pub fn run() {
    let (one, many) = (Fleets::new("one-fleet", 1), Fleets::new("many-fleets", FLEETS));
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let base = one.accept("one fleet");
        ratios.push(many.accept("10,000 fleets") / base);
    }
    println!("ratio (median of {ROUNDS})          {:.2}   (at least 0.9)", median(&mut ratios));
}

/// A server with fleets, and a request for the webhook of each.
struct Fleets {
    server: Server,
    requests: Vec<Vec<u8>>,
    _hold: Hold,
}

impl Fleets {
    fn new(directory: &str, count: usize) -> Self {
        let server = Server::start(directory, &["--workers", &WORKERS.to_string()]);
        let hold = server.hold_workers(WORKERS);
        let (server_of, body) = (&server, &body());
        let requests = thread::scope(|scope| {
            let adders: Vec<_> = (0..ADDERS)
                .map(|first| {
                    scope.spawn(move || {
                        let numbers = (first..count).step_by(ADDERS);
                        let request = |number| {
                            let name = format!("fleet {number}");
                            let (_, path) = server_of.fleet(&name, &["/bin/true"]);
                            post(&path, "", body)
                        };
                        numbers.map(request).collect::<Vec<_>>()
                    })
                })
                .collect();
            adders.into_iter().flat_map(|adder| adder.join().expect("an adder")).collect()
        });
        Self { server, requests, _hold: hold }
    }

    fn accept(&self, what: &str) -> f64 {
        let mut answered = load_mixed(self.server.hooks, &self.requests, 201, TIME, usize::MAX);
        answered.report(what);
        answered.rate
    }
}
