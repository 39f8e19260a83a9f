//! A fleet with a filter, a key and two values of the request against the same fleet without: durable
//! 201s per second, and runs finished per second while a queue drains.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{body, load, post};
use crate::drain::{WORKERS, drained};
use crate::median;
use crate::server::Server;

const TIME: Duration = Duration::from_secs(6);
const RUNS: usize = 3_000;
const ROUNDS: usize = 3;

pub fn run() {
    let plain = json!({"name": "plain", "vessels": {"main": {"command": ["/bin/true", "a"]}}});
    let value = json!({"expr": "body.ref"});
    let with_values = json!({"name": "values", "vessels": {"main": {
        "command": ["/bin/true", value], "environment": {"SITE": {"expr": "body.repository.full_name"}},
    }}});
    let mut with_filter = with_values.clone();
    with_filter["webhook"] = json!({"when": "body.ref == \"refs/heads/main\""});
    // One key, and a limit that nothing meets.
    let mut with_key = with_filter.clone();
    with_key["concurrency_key"] = json!("body.ref");
    with_key["concurrency"] = json!(1_000_000);
    compare("accept", "a filter, two values", [&plain, &with_filter], accepted);
    compare("accept", "these and a key", [&plain, &with_key], accepted);
    let drain = |fleet: &Value| drained("expressions", WORKERS, &[], fleet, RUNS);
    compare("drain", "a filter, two values", [&plain, &with_filter], drain);
    compare("drain", "these and a key", [&plain, &with_key], drain);
}

fn compare(rate: &str, what: &str, fleets: [&Value; 2], measure: impl Fn(&Value) -> f64) {
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let [without, with] = fleets.map(&measure);
            println!("{rate}: {what:<22} {with:>6.0}/s   without {without:>6.0}/s");
            with / without
        })
        .collect();
    println!("ratio (median of {ROUNDS})          {:.2}   (at least 0.8)", median(&mut ratios));
}

/// Runs accepted per second.
fn accepted(fleet: &Value) -> f64 {
    let server = Server::start("expressions", &[]);
    let (_, path) = server.add_fleet(fleet);
    load(server.hooks, &post(&path, "", &body()), 201, TIME, usize::MAX).rate
}
