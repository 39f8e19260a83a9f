//! A model of intake at internet scale: hosts that accept into a shared log, and Boathooks that each run
//! their share of the fleets. It backs docs/decisions/0017-intake-at-internet-scale.md with figures:
//!
//!     cargo test --test it scale_model -- --nocapture
//!
//! Time goes in ticks of 10 ms. Requests of one tick at one host are one batch: the model counts, and moves
//! nothing.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use fastrand::Rng;

const HOSTS: usize = 10;
const PER_SECOND: f64 = 100_000.0;
const TICKS_PER_SECOND: u64 = 100;
const SECONDS: u64 = 120;
/// Requests that one host holds while the log has not confirmed them; beyond, senders get 503.
const UNCONFIRMED_MAX: u64 = 20_000;
/// What one host takes in a second, and one Boathook consumes.
const HOST_PER_SECOND: u64 = 20_000;
const CONSUMER_PER_SECOND: u64 = 14_000;
/// How long senders still go to a host that is gone, and how long its share of the log waits for another.
const NOTICED_AFTER: u64 = TICKS_PER_SECOND;
const LEASE: u64 = 10 * TICKS_PER_SECOND;
/// How often a consumer notes how far it has come.
const NOTE_EVERY: u64 = TICKS_PER_SECOND;
/// When senders try again: doubling from 1 s.
const RETRIES: u32 = 6;

#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    host_is_lost: bool,
    log_is_slow: bool,
}

/// Requests that came in one tick, and how often they were sent before.
#[derive(Clone, Copy)]
struct Batch {
    sent_at: u64,
    tries: u32,
    count: u64,
}

/// What will be sent again: how many, by their time and by how often they were sent before.
type Again = BTreeMap<(u64, u32), u64>;

#[derive(Default)]
struct Figures {
    sent: u64,
    answered: u64,
    refused: u64,
    broken: u64,
    given_up: u64,
    appended: u64,
    consumed: u64,
    repeated: u64,
    latencies: Vec<(u64, u64)>,
    lag_max: u64,
}

impl Figures {
    /// The time to the 201, in ms, that this part of what was answered stayed below.
    fn latency(&mut self, part: f64) -> u64 {
        self.latencies.sort_unstable();
        let all: u64 = self.latencies.iter().map(|(_, count)| count).sum();
        let mut left = (all as f64 * part) as u64;
        for (ticks, count) in &self.latencies {
            if left < *count {
                return ticks * 1000 / TICKS_PER_SECOND;
            }
            left -= count;
        }
        0
    }
}

/// A time between 20 s and 50 s, in ticks.
fn is_disturbed(tick: u64) -> bool {
    (20 * TICKS_PER_SECOND..50 * TICKS_PER_SECOND).contains(&tick)
}

fn simulate(scenario: Scenario, seed: u64) -> Figures {
    let mut random = Rng::with_seed(seed);
    let mut figures = Figures::default();
    let mut unconfirmed: Vec<VecDeque<(u64, Batch)>> = vec![VecDeque::new(); HOSTS];
    let mut again = Again::new();
    // By host: what its share of the log holds, and what it has consumed since its last note.
    let (mut backlog, mut unnoted) = (vec![0_u64; HOSTS], vec![0_u64; HOSTS]);
    for tick in 0..(SECONDS + 200) * TICKS_PER_SECOND {
        let is_lost = |host: usize| scenario.host_is_lost && host == 0 && is_disturbed(tick);
        let since = tick.saturating_sub(20 * TICKS_PER_SECOND);
        // 1. A host that is lost takes what the log has not confirmed with it: no 201 was sent.
        if scenario.host_is_lost && tick == 20 * TICKS_PER_SECOND {
            for (_, batch) in unconfirmed[0].drain(..) {
                figures.broken += batch.count;
                retry(batch, tick, &mut again, &mut figures, &mut random);
            }
            // Its share is read again from its last note.
            figures.repeated += unnoted[0];
            backlog[0] += std::mem::take(&mut unnoted[0]);
        }
        // 2. Senders send, and send again.
        let mut arriving: Vec<Batch> = Vec::new();
        if tick < SECONDS * TICKS_PER_SECOND {
            let mean = PER_SECOND / TICKS_PER_SECOND as f64;
            let count = (mean * (0.8 + 0.4 * random.f64())) as u64;
            figures.sent += count;
            arriving.push(Batch { sent_at: tick, tries: 0, count });
        }
        let later = again.split_off(&(tick + 1, 0));
        let due = std::mem::replace(&mut again, later).into_iter();
        arriving.extend(due.map(|((_, tries), count)| Batch { sent_at: tick, tries, count }));
        for batch in arriving {
            let reachable = (0..HOSTS).filter(|host| !is_lost(*host) || since < NOTICED_AFTER);
            let reachable: Vec<usize> = reachable.collect();
            for (place, host) in reachable.iter().enumerate() {
                let share = |n: usize| batch.count * n as u64 / reachable.len() as u64;
                let part = Batch { count: share(place + 1) - share(place), ..batch };
                let held: u64 = unconfirmed[*host].iter().map(|(_, batch)| batch.count).sum();
                if is_lost(*host) {
                    figures.broken += part.count;
                    retry(part, tick, &mut again, &mut figures, &mut random);
                } else if held + part.count > UNCONFIRMED_MAX
                    || part.count > HOST_PER_SECOND / TICKS_PER_SECOND
                {
                    figures.refused += part.count;
                    retry(part, tick, &mut again, &mut figures, &mut random);
                } else {
                    // 3. The log confirms after a while: some replicas have it on their disks.
                    let slow = scenario.log_is_slow && is_disturbed(tick);
                    let wait = if slow { random.u64(100..300) } else { random.u64(1..4) };
                    unconfirmed[*host].push_back((tick + wait, part));
                }
            }
        }
        // 4. What is confirmed is answered with 201, in the order of the log.
        for (host, waiting) in unconfirmed.iter_mut().enumerate() {
            while let Some((_, batch)) = waiting.front().copied().filter(|(at, _)| *at <= tick) {
                waiting.pop_front();
                figures.answered += batch.count;
                figures.appended += batch.count;
                figures.latencies.push((tick - batch.sent_at, batch.count));
                // Its fleet may be any Boathook's.
                let owner = (host + random.usize(..HOSTS)) % HOSTS;
                backlog[owner] += batch.count;
            }
        }
        // 5. Each Boathook consumes its share; another one takes over that of a lost host.
        for host in 0..HOSTS {
            if is_lost(host) && since < LEASE {
                continue;
            }
            let consumed = backlog[host].min(CONSUMER_PER_SECOND / TICKS_PER_SECOND);
            backlog[host] -= consumed;
            figures.consumed += consumed;
            unnoted[host] += consumed;
            if tick.is_multiple_of(NOTE_EVERY) {
                unnoted[host] = 0;
            }
        }
        figures.lag_max = figures.lag_max.max(backlog.iter().max().copied().unwrap_or_default());
    }
    assert_eq!(backlog.iter().sum::<u64>(), 0, "the log is worked off");
    figures
}

fn retry(batch: Batch, tick: u64, again: &mut Again, figures: &mut Figures, random: &mut Rng) {
    if batch.count == 0 {
        return;
    }
    if batch.tries == RETRIES {
        figures.given_up += batch.count;
        return;
    }
    // Spread, so that what was refused together does not come back together.
    let wait = TICKS_PER_SECOND << batch.tries;
    for part in 0..8 {
        let count = batch.count * (part + 1) / 8 - batch.count * part / 8;
        let at = tick + wait / 2 + random.u64(..wait);
        *again.entry((at, batch.tries + 1)).or_default() += count;
    }
}

#[test]
fn what_was_answered_with_201_is_run_whatever_host_is_lost() {
    let scenario = |name, host_is_lost, log_is_slow| Scenario { name, host_is_lost, log_is_slow };
    let mut table = String::from(
        "| scenario | 201 | 503 | broken off | given up | p50 | p99 | read twice | longest wait in the log |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for scenario in [
        scenario("all is well", false, false),
        scenario("a host is lost for 30 s", true, false),
        scenario("the log takes 1 to 3 s for 30 s", false, true),
        scenario("both at once", true, true),
    ] {
        let mut figures = simulate(scenario, 7);
        // No promise is broken: each 201 is in the log, and what is in the log is run.
        assert_eq!(figures.appended, figures.answered, "{}", scenario.name);
        assert_eq!(figures.consumed, figures.appended + figures.repeated, "{}", scenario.name);
        assert_eq!(figures.sent, figures.answered + figures.given_up, "{}", scenario.name);
        let lag = figures.lag_max / CONSUMER_PER_SECOND;
        let (p50, p99) = (figures.latency(0.5), figures.latency(0.99));
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {p50} ms | {p99} ms | {} | {lag} s |",
            scenario.name,
            figures.answered,
            figures.refused,
            figures.broken,
            figures.given_up,
            figures.repeated
        );
    }
    println!("{table}");
}
