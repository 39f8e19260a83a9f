//! What the server must reach, measured against something else in the same run. Run by hand:
//!
//! ```text
//! cargo bench --bench load                    # all of it, about ten minutes
//! cargo bench --bench load -- accept drain    # some of it
//! ```
//!
//! `accept` needs Debian's `webhook` package for its peer. Machines are noisy: quote the ratios.

mod accept;
mod backlog;
mod client;
mod cost;
mod diamond;
mod drain;
mod expressions;
mod fleets;
mod idle;
mod latency;
mod listener;
mod senders;
mod server;
mod shim;
mod sweep;
mod timing;
mod waiting;

use std::time::Duration;

/// Connections of the load generator.
const CONNECTIONS: usize = 64;

fn main() {
    let known: [(&str, fn()); 17] = [
        ("accept", accept::run),
        ("listener", listener::run),
        ("drain", drain::run),
        ("expressions", expressions::run),
        ("diamond", diamond::run),
        ("fleets", fleets::run),
        ("latency", latency::run),
        ("idle", idle::run),
        ("backlog", backlog::run),
        ("shim", shim::run),
        ("sweep", sweep::run),
        ("senders", senders::accepts),
        ("handshakes", senders::handshakes),
        ("refusals", senders::refusals),
        ("large-verified", senders::large_bodies),
        ("timing", timing::run),
        ("waiting", waiting::run),
    ];
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for name in &chosen {
        assert!(known.iter().any(|(known, _)| known == name), "no such measurement: {name}");
    }
    for (name, run) in known {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            println!("== {name}");
            run();
        }
    }
}

/// The value below which `percent` of the sorted `values` lie.
fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    let place = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(place).copied().unwrap_or_default()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
