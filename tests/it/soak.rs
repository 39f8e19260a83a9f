//! A day of mixed load in fast motion: runs that succeed, fail, retry, write much and bring large
//! bodies; replays, retention and backups beside them; the server is killed in every round and
//! stopped in order in some, behind a socket that outlives it. Nothing may be lost, and what the
//! server holds must not grow.
//!
//! Two minutes by default. A day's worth of runs (86,400), each round a minute:
//!
//! ```text
//! BOATHOOK_SOAK_MINUTES=20 cargo test --release --test it soak -- --nocapture
//! ```

mod load;
mod watch;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::api::is_final;
use crate::harness::server::{back_up, finish, restored};
use crate::harness::{Finally, Journal, Random, Server};

use load::{Books, Fleets};
use watch::Watch;

/// Rounds of a day, whatever its length.
const ROUNDS: usize = 20;
/// Every so many rounds the server is stopped in order as well, half-way through.
const ROUNDS_PER_STOP: usize = 4;
/// Every so many rounds a backup is made and verified.
const ROUNDS_PER_BACKUP: usize = 5;
/// Runs of each fleet that are kept: what retention removes is most of a day.
const RUNS_KEPT: usize = 300;
const KEPT_MAX: usize = load::FLEETS * RUNS_KEPT;

#[test]
fn a_day_of_mixed_load_loses_nothing_and_leaves_nothing_behind() {
    let minutes = std::env::var("BOATHOOK_SOAK_MINUTES");
    let minutes: u64 = minutes.map_or(2, |text| text.parse().expect("a number of minutes"));
    let round = Duration::from_secs(minutes * 60) / ROUNDS as u32;
    let mut random = Random::seeded(Random::seed("soak"));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut server = Server::builder()
        .hooks_socket(listener)
        .setting("keep_runs", &format!("{RUNS_KEPT} runs"))
        // The rounds are shorter than those of a machine that crashes.
        .setting("max_crash_attempts", "100000")
        .start();
    let journal = server.journal("journal");
    let fleets = Fleets::apply(&server, &journal);
    let books = Books::new(Instant::now() + round * ROUNDS as u32);
    let mut watch = Watch::default();
    let mut backup = None;

    std::thread::scope(|scope| {
        let _finally = Finally(|| books.end());
        for sender in 0..load::SENDERS {
            let (books, fleets, address) = (&books, &fleets, &address);
            let random = Random::seeded(random.next());
            scope.spawn(move || load::send(books, fleets, address, sender, random));
        }
        for number in 1..=ROUNDS {
            let end = Instant::now() + round;
            let half = end - round / 2;
            replay_until(half, &server, &books, &mut random);
            if number.is_multiple_of(ROUNDS_PER_STOP) {
                server.stop();
                server.start_again();
            }
            if number.is_multiple_of(ROUNDS_PER_BACKUP) {
                backup = Some(back_up_and_verify(&server));
            }
            replay_until(end, &server, &books, &mut random);
            watch.look(number, &server, &books, &journal);
            server.crash_and_restart();
        }
    });

    println!("{watch}");
    let mut runs = server.wait_all_ended();
    // What removes runs rests between its steps.
    server.wait_until("no more runs are kept than may be", || {
        runs = server.api().all_runs();
        runs.len() <= KEPT_MAX
    });
    check_books(&books, &journal, &runs);
    check_restored(&backup.expect("there are rounds with a backup"), &fleets);
    watch.check();
    server.stop();
}

/// Replays one of the latest runs now and then.
fn replay_until(end: Instant, server: &Server, books: &Books, random: &mut Random) {
    while Instant::now() < end {
        if let Some((run, expected)) = books.any_recent(random) {
            let path = format!("/api/v1/runs/{run}/replay");
            let answer = server.api().call("POST", &path, None);
            // What retention has taken, or has not ended yet, cannot be replayed.
            if answer.status == 201 {
                let replay = answer.data()["fleet_run_id"].as_str().unwrap().to_owned();
                books.acknowledged(replay, expected);
            } else {
                assert!(matches!(answer.status, 404 | 409), "{}", answer.error());
            }
        }
        let pause = Duration::from_millis(100 + random.below(200) as u64);
        std::thread::sleep(pause.min(end.saturating_duration_since(Instant::now())));
    }
}

/// Makes a backup in place of the last one, and looks whether it is whole.
fn back_up_and_verify(server: &Server) -> PathBuf {
    const NAME: &str = "latest.backup";
    let _ = std::fs::remove_file(server.scratch().join(NAME));
    let backup = back_up(server, NAME);
    let (code, stdout, stderr) =
        finish(server.cli(&["restore", "--verify", backup.to_str().unwrap()]));
    assert_eq!(code, 0, "{stdout}{stderr}\n{}", server.log_tail());
    backup
}

/// Every run that was acknowledged has done its work, and those that are kept have ended as they
/// had to.
fn check_books(books: &Books, journal: &Journal, runs: &[Value]) {
    let done = load::read_journal(journal);
    let acknowledged = books.take();
    println!(
        "{} acknowledged, {} done, {} kept, {} connections broken by kills",
        acknowledged.len(),
        done.len(),
        runs.len(),
        books.broken()
    );
    let lost: Vec<_> = acknowledged.keys().filter(|run| !done.contains_key(*run)).collect();
    assert!(lost.is_empty(), "{} acknowledged runs never ran, {:?} ...", lost.len(), lost.first());
    for (run, expected) in &acknowledged {
        assert_eq!(&done[run].content, &expected.content, "run {run} got the body of another");
    }
    // A kill leaves at most what its workers were at; all else runs once.
    let repeated = done.values().filter(|it| it.times > 1).count();
    assert!(repeated <= ROUNDS * load::WORKERS_MAX, "{repeated} runs did their work twice");
    assert!(books.broken() <= ROUNDS * load::SENDERS, "only kills break connections");
    for run in runs {
        if let Some(expected) = acknowledged.get(run["id"].as_str().unwrap()) {
            assert_eq!(run["status"], expected.status, "{run:#}");
        }
    }
}

/// The last backup makes a server that answers on the same URLs and has nothing left to do.
fn check_restored(backup: &Path, fleets: &Fleets) {
    let mut restored = restored(backup, &[]);
    restored.start_again();
    let runs = restored.api().all_runs();
    assert!(!runs.is_empty() && runs.iter().all(is_final), "a restored server has nothing to do");
    let run = fleets.any_hook().post(restored.hooks(), &[], b"restored");
    restored.api().wait_ended(&run);
}
