//! What a run costs beyond its process, while a queue drains, claims and settles durable: against a
//! bare loop of threads that start the same program by posix_spawn and wait for it. The cost of a run
//! is what the machine spends on it ([`crate::cost`]). The rates beside it are those of the clock.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{body, load, post};
use crate::cost::{Cost, Meter};
use crate::median;
use crate::server::Server;

const RUNS: usize = 4_000;
/// Threads of the bare loop, and workers where a bench does not ask for the default.
pub const WORKERS: usize = 8;
const WORK_DIR: &str = "/dev/shm/boathook-bench";
const ROUNDS: usize = 5;
/// What is to be reached: microseconds beyond the bare start at most, or a cost ratio at least.
const WANTED: [(&str, f64, f64); 2] = [("disk", 330.0, 0.70), ("tmpfs", 290.0, 0.72)];

/// A drained queue.
struct Drain {
    per_second: f64,
    cost: Cost,
}

/// A drain beside the mean of the bare loops before and after it.
struct Round {
    ours: Drain,
    bare: Drain,
}

pub fn run() {
    let program = program();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // The default.
    let workers = (4 * cores).max(8);
    println!(
        "{program}, {workers} workers, {RUNS} runs, {ROUNDS} rounds; µs of processor and idle a run"
    );
    let mut rounds = WANTED.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((place, ..), rounds) in WANTED.iter().zip(&mut rounds) {
            let round = measure(place, workers, &program);
            round.report(place);
            rounds.push(round);
        }
    }
    for ((place, beyond, ratio), rounds) in WANTED.iter().zip(&rounds) {
        summarize(place, rounds, *beyond, *ratio);
    }
    let _ = std::fs::remove_dir_all(WORK_DIR);
}

/// The path of a small static program that ends at once; `/bin/true` where there is no compiler.
fn program() -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nothing");
    let source = path.with_extension("c");
    std::fs::write(&source, "int main(void) { return 0; }\n").expect("a file");
    let compiled =
        Command::new("cc").args(["-O2", "-static", "-o"]).arg(&path).arg(&source).status();
    match compiled {
        Ok(status) if status.success() => path.to_str().expect("text").to_owned(),
        _ => "/bin/true".to_owned(),
    }
}

fn measure(place: &str, workers: usize, program: &str) -> Round {
    let fleet = json!({"name": "nothing", "vessels": {"main": {"command": [program]}}});
    let arguments: &[&str] = if place == "tmpfs" { &["--work-dir", WORK_DIR] } else { &[] };
    let before = bare_loop(program);
    let ours = drain("drain", workers, arguments, &fleet, RUNS);
    let after = bare_loop(program);
    let per_second = f64::midpoint(before.per_second, after.per_second);
    Round { ours, bare: Drain { per_second, cost: before.cost.midpoint(after.cost) } }
}

impl Round {
    fn beyond(&self) -> f64 {
        self.ours.cost.total() - self.bare.cost.total()
    }

    fn cost_ratio(&self) -> f64 {
        self.bare.cost.total() / self.ours.cost.total()
    }

    fn wall_ratio(&self) -> f64 {
        self.ours.per_second / self.bare.per_second
    }

    fn report(&self, place: &str) {
        let Self { ours, bare } = self;
        println!(
            "{place:<6} {:>5.0} µs: server {:>4.0}, program {:>4.0}, kernel threads {:>3.0}, idle {:>3.0} (others {:>4.0})   bare {:>5.0} µs (others {:>4.0})   {:>5.0}/s and {:>5.0}/s",
            ours.cost.total(),
            ours.cost.server,
            ours.cost.children,
            ours.cost.kernel,
            ours.cost.idle,
            ours.cost.others,
            bare.cost.total(),
            bare.cost.others,
            ours.per_second,
            bare.per_second,
        );
    }
}

/// Prints medians, with the lowest and the highest of the rounds.
fn summarize(place: &str, rounds: &[Round], beyond_max: f64, ratio_min: f64) {
    let spread = |of: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        let median = median(&mut values);
        (median, values[0], values[values.len() - 1])
    };
    let (beyond, lowest, highest) = spread(Round::beyond);
    println!(
        "{place:<6} beyond a bare start {beyond:>5.0} µs ({lowest:.0} to {highest:.0}; at most {beyond_max:.0})"
    );
    for (what, of, wanted) in [
        ("cost ratio", Round::cost_ratio as fn(&Round) -> f64, Some(ratio_min)),
        ("wall ratio", Round::wall_ratio, None),
    ] {
        let (ratio, lowest, highest) = spread(of);
        let wanted = wanted.map_or(String::new(), |least| format!("; or at least {least:.2}"));
        println!("{place:<6} {what} {ratio:>14.2} ({lowest:.2} to {highest:.2}{wanted})");
    }
}

/// Threads that start the program and wait for it.
fn bare_loop(program: &str) -> Drain {
    let left = AtomicUsize::new(RUNS);
    let (begin, meter) = (Instant::now(), Meter::begin(None));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let take = |left: usize| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    let status = Command::new(program).status().expect("it runs");
                    assert!(status.success());
                }
            });
        }
    });
    let per_second = RUNS as f64 / begin.elapsed().as_secs_f64();
    Drain { per_second, cost: meter.end().each(RUNS) }
}

/// Runs of `fleet` finished per second while a queue of so many drains.
pub fn drained(
    directory: &str,
    workers: usize,
    arguments: &[&str],
    fleet: &Value,
    runs: usize,
) -> f64 {
    drain(directory, workers, arguments, fleet, runs).per_second
}

fn drain(directory: &str, workers: usize, arguments: &[&str], fleet: &Value, runs: usize) -> Drain {
    let server = Server::start(
        directory,
        &[&["--workers", workers.to_string().as_str()], arguments].concat(),
    );
    let (fleet, path) = server.add_fleet(fleet);
    let hold = server.hold_workers(workers);
    let request = post(&path, "", &body());
    load(server.hooks, &request, 201, Duration::MAX, runs);
    let (begin, meter) = (Instant::now(), Meter::begin(Some(server.pid())));
    drop(hold);
    server.await_drained(&fleet);
    let (upper_bound, cost) = (begin.elapsed(), meter.end());
    // Each connection has sent one request more.
    let (elapsed, runs) = span(&server, &fleet);
    Drain {
        per_second: runs as f64 / elapsed.min(upper_bound).as_secs_f64(),
        cost: cost.each(runs),
    }
}

/// From the first start to the last end, as the server recorded them, and the number of runs.
fn span(server: &Server, fleet: &str) -> (Duration, usize) {
    let at = |run: &Value, key: &str| {
        run[key].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time")
    };
    let mut cursor = String::new();
    let (mut first, mut last) = (jiff::Timestamp::MAX, jiff::Timestamp::MIN);
    let mut count = 0;
    loop {
        let page = format!("/api/v1/runs?fleet={fleet}&limit=1000{cursor}");
        let page = server.api("GET", &page, "");
        let runs = page.as_array().expect("a list");
        count += runs.len();
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
    let millis = u64::try_from(last.as_millisecond() - first.as_millisecond()).expect("positive");
    (Duration::from_millis(millis), count)
}
