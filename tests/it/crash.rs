//! SIGKILL at random moments under load, with the senders keeping the books: every 201 ends in
//! exactly one finished run, and no vessel whose end was recorded runs again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::is_final;
use crate::harness::{Finally, Hook, Journal, Random, Server};

const ROUNDS: usize = 55;
const SENDERS: usize = 8;
/// What one sender sends in a round at most: keeps the backlog to what the rounds can work off.
const POSTS_PER_ROUND: usize = 6;
/// The longest a server lives after it has become ready.
const LIFE_MS_MAX: usize = 350;
/// The longest a server lives when it is killed on its way up.
const START_MS_MAX: usize = 120;

/// What the senders share: where to send, and what was acknowledged.
#[derive(Default)]
struct Books {
    address: Mutex<(usize, String)>,
    round_begins: Condvar,
    over: AtomicBool,
    refused: AtomicUsize,
    /// Run id by body, for every 201 that was read whole.
    acknowledged: Mutex<BTreeMap<String, String>>,
}

impl Books {
    fn begin_round(&self, round: usize, address: &str) {
        *self.address.lock().unwrap() = (round, address.to_owned());
        self.round_begins.notify_all();
    }

    fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        let _address = self.address.lock().unwrap();
        self.round_begins.notify_all();
    }

    /// Waits for the round after `last`; `None` when there is none.
    fn next_round(&self, last: usize) -> Option<(usize, String)> {
        let mut address = self.address.lock().unwrap();
        loop {
            if self.over.load(Ordering::SeqCst) {
                return None;
            }
            if address.0 > last {
                return Some(address.clone());
            }
            address = self.round_begins.wait(address).unwrap();
        }
    }

    fn send(&self, sender: usize, hook: &Hook, mut random: Random) {
        let (mut round, mut sent) = (0, 0);
        while let Some((this_round, address)) = self.next_round(round) {
            round = this_round;
            for _ in 0..POSTS_PER_ROUND {
                let body = format!("{sender}-{sent}");
                sent += 1;
                // A connection that breaks leaves open whether the run was accepted.
                let Ok(answer) = hook.try_post(&address, &[], format!("{body}\n").as_bytes())
                else {
                    break;
                };
                if answer.status != 201 {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let run = answer.data()["fleet_run_id"].as_str().unwrap().to_owned();
                let previous = self.acknowledged.lock().unwrap().insert(body, run);
                assert_eq!(previous, None);
                std::thread::sleep(Duration::from_millis(random.below(40) as u64));
            }
        }
    }
}

/// `run vessel attempt body`, as the vessels note it.
fn parse(line: &str) -> (&str, &str, u64, &str) {
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words.len(), 4, "a torn line: {line:?}");
    (words[0], words[1], words[2].parse().unwrap(), words[3])
}

/// Runs that the API has shown as ended, with the length of the journal at that time.
type Ended = HashMap<String, usize>;

fn note_ended(server: &Server, journal: &Journal, ended: &mut Ended) {
    let runs = server.api().get("/api/v1/runs?limit=400").expect(200).data();
    let lines = journal.lines().len();
    for run in runs.as_array().unwrap().iter().filter(|run| is_final(run)) {
        ended.entry(run["id"].as_str().unwrap().to_owned()).or_insert(lines);
    }
}

#[test]
fn no_run_is_lost_or_repeated_by_kill_nine() {
    let seed = Random::seed("kill -9");
    let mut random = Random::seeded(seed);
    // A crash interrupts as many runs as there are workers, and these restart one at a time.
    let builder = Server::builder().setting("max_crash_attempts", "100000");
    let mut server = builder.setting("workers", "8").start();
    let journal = server.journal("journal");
    let vessel = |name: &str| {
        let line = format!("$SHIPYARD_FLEET_LOG_ID {name} $BOATHOOK_ATTEMPT $body");
        json!({"run": format!("read -r body; echo \"{line}\" >> {journal}")})
    };
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "two",
        "vessels": {"first": vessel("first"), "second": vessel("second")},
        "connections": {"first": {"second": "SUCCESS"}},
    }));

    let books = Books::default();
    let mut ended = Ended::new();
    std::thread::scope(|scope| {
        let _finally = Finally(|| books.end());
        for sender in 0..SENDERS {
            let (books, hook) = (&books, &hook);
            let random = Random::seeded(seed ^ (sender as u64 + 1));
            scope.spawn(move || books.send(sender, hook, random));
        }
        for round in 1..=ROUNDS {
            books.begin_round(round, server.hooks());
            note_ended(&server, &journal, &mut ended);
            std::thread::sleep(Duration::from_millis(random.below(LIFE_MS_MAX) as u64));
            server.kill();
            if random.one_in(4) {
                let delay = Duration::from_millis(random.below(START_MS_MAX) as u64);
                server.start_and_kill(delay);
            }
            server.start_again();
        }
    });

    let runs = server.wait_all_ended();
    check(&server, &runs, &books, &journal.lines(), &ended);
}

fn check(server: &Server, runs: &[Value], books: &Books, lines: &[String], ended: &Ended) {
    let acknowledged = books.acknowledged.lock().unwrap();
    println!(
        "kill -9: {} acknowledged, {} runs, {} starts of vessels, {} refusals",
        acknowledged.len(),
        runs.len(),
        lines.len(),
        books.refused.load(Ordering::SeqCst)
    );
    assert!(acknowledged.len() > ROUNDS, "the load was no load");

    // Every 201 in exactly one run, which went well.
    let by_id: BTreeMap<&str, &Value> =
        runs.iter().map(|run| (run["id"].as_str().unwrap(), run)).collect();
    assert_eq!(by_id.len(), runs.len(), "a run is listed twice");
    let distinct: BTreeSet<&String> = acknowledged.values().collect();
    assert_eq!(distinct.len(), acknowledged.len(), "one run for two requests");
    for (body, run) in acknowledged.iter() {
        assert!(by_id.contains_key(run.as_str()), "{body}: its run {run} is lost");
    }
    for run in runs {
        assert_eq!(run["status"], "Success", "{run:#}\n{}", server.log_tail());
    }

    // What the vessels noted, run by run.
    let mut starts: BTreeMap<&str, Vec<(usize, &str, u64)>> = BTreeMap::new();
    let mut bodies: BTreeMap<&str, &str> = BTreeMap::new();
    for (position, line) in lines.iter().enumerate() {
        let (run, vessel, attempt, body) = parse(line);
        starts.entry(run).or_default().push((position, vessel, attempt));
        let first = bodies.entry(run).or_insert(body);
        assert_eq!(*first, body, "run {run} got the body of another");
    }
    for (body, run) in acknowledged.iter() {
        assert_eq!(bodies.get(run.as_str()), Some(&body.as_str()), "run {run}");
    }
    let unique_bodies: BTreeSet<&&str> = bodies.values().collect();
    assert_eq!(unique_bodies.len(), bodies.len(), "one request in two runs");
    for (id, run) in &by_id {
        let starts = starts.get(id).unwrap_or_else(|| panic!("no vessel of {id} ever ran"));
        check_starts(id, run, starts);
        if let Some(end) = ended.get(*id) {
            let late = starts.iter().find(|(position, ..)| position >= end);
            assert_eq!(late, None, "run {id} had ended at line {end}");
        }
    }
}

/// Attempts are numbered in the order of their starts, and once the second vessel has started,
/// which takes the recorded end of the first, the first does not run again.
fn check_starts(id: &str, run: &Value, starts: &[(usize, &str, u64)]) {
    let mut last = BTreeMap::new();
    for (_, vessel, attempt) in starts {
        let previous = last.insert(*vessel, *attempt);
        assert!(previous < Some(*attempt), "run {id}, {vessel}: attempts {starts:?}");
        assert!(
            *vessel == "second" || !last.contains_key("second"),
            "run {id}: first after second: {starts:?}"
        );
    }
    for vessel in run["vessels"].as_array().unwrap() {
        let name = vessel["vessel_name"].as_str().unwrap();
        let attempt = vessel["attempt"].as_u64().unwrap();
        let noted = last.get(name).unwrap_or_else(|| panic!("run {id}: {name} never ran"));
        assert_eq!(*noted, attempt, "run {id}, {name}: the last start is the one that ended");
    }
}
