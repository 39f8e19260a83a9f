//! The simulation: a seed drives the real engine, scheduler and database through a life of submits,
//! ends, failures, stops, edits, clock jumps, crashes at any commit, power losses and restarts, on one
//! thread and a simulated machine. A seed that fails is printed and replays exactly.
//!
//! `BOATHOOK_SIM_SEED` replays one seed, `BOATHOOK_SIM_SEEDS` says how many to try, from
//! `BOATHOOK_SIM_FIRST` on.

mod disk;
mod fleets;
mod life;
mod machine;
mod model;
mod sabotage;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use life::{Died, Life};
use sabotage::Sabotage;

const SEEDS_DEFAULT: u64 = 200;
/// Seeds within which the simulation must notice what was broken on purpose.
const SEEDS_UNTIL_CAUGHT: u64 = 30;

/// A seed that failed, and the last of its steps.
struct Failure {
    seed: u64,
    why: String,
    trace: Vec<String>,
}

/// Lives the life of `seed`.
fn live(seed: u64, sabotage: Option<Sabotage>) -> Result<Life, Failure> {
    boathook::internals::end_with(|_| std::panic::resume_unwind(Box::new(Died)));
    let mut life = Life::new(seed, sabotage);
    let steps = fastrand::Rng::with_seed(!seed).usize(200..1_600);
    match catch_unwind(AssertUnwindSafe(|| life.live(steps))) {
        Ok(()) => Ok(life),
        Err(payload) => Err(Failure { seed, why: message(payload.as_ref()), trace: life.trace }),
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or(payload.downcast_ref::<&str>().copied());
    text.unwrap_or("the server died where it must not").to_owned()
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_lives_by_the_rules() {
    let seed: Option<u64> = setting("BOATHOOK_SIM_SEED");
    let first = seed.or(setting("BOATHOOK_SIM_FIRST")).unwrap_or(0);
    let count = seed.map_or(setting("BOATHOOK_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT), |_| 1);
    let next = AtomicU64::new(first);
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let restarts = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failure.lock().is_ok_and(|it| it.is_none()) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    match live(seed, None) {
                        Ok(life) => {
                            restarts.fetch_add(life.restarts.into(), Ordering::Relaxed);
                        }
                        Err(failed) => {
                            *failure.lock().expect("no thread panics while it holds the lock") =
                                Some(failed)
                        }
                    }
                }
            });
        }
    });
    println!("{count} seeds, {} starts of a server", restarts.into_inner());
    if let Some(Failure { seed, why, trace }) = failure.into_inner().expect("as above") {
        let shown = trace.len().saturating_sub(60);
        panic!(
            "seed {seed}, step {}: {why}\n...\n{}\nreplay it with BOATHOOK_SIM_SEED={seed} cargo test --test sim",
            trace.len(),
            trace[shown..].join("\n"),
        );
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1..6 {
        let (first, again) = (live(seed, None), live(seed, None));
        let trace = |lived: Result<Life, Failure>| match lived {
            Ok(life) => life.trace.clone(),
            Err(failure) => failure.trace,
        };
        let (first, again) = (trace(first), trace(again));
        let differ = first.iter().zip(&again).position(|(one, other)| one != other);
        assert!(
            first == again,
            "seed {seed} took two turns after {} and {} steps; at {differ:?}: {:?}",
            first.len(),
            again.len(),
            differ.map(|at| (&first[at], &again[at])),
        );
    }
}

#[test]
fn every_sabotage_is_noticed() {
    for sabotage in Sabotage::ALL {
        let caught = (0..SEEDS_UNTIL_CAUGHT).find_map(|seed| live(seed, Some(sabotage)).err());
        let Some(Failure { seed, why, .. }) = caught else {
            panic!("{sabotage:?} went unnoticed for {SEEDS_UNTIL_CAUGHT} seeds");
        };
        println!("{sabotage:?}: noticed by seed {seed}: {why}");
    }
}
