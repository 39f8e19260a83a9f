//! The fleets of the day, their senders, and the books of the senders.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::http::{Connection, post_request};
use crate::harness::{Hook, Journal, Random, Server, redacted, sha256};

pub const SENDERS: usize = 4;
/// 86,400 runs, a day of one each second, in twenty minutes.
const RUNS_PER_SECOND: u32 = 72;
/// No machine that runs these tests starts more vessels at a time by default.
pub const WORKERS_MAX: usize = 4 * 64;
/// How many of the latest runs may be replayed.
const RECENT: usize = 200;
const LARGE_BODY_BYTES: usize = 400 * 1024;
/// One body in so many is large.
const LARGE_ONE_IN: usize = 100;

/// Name, vessels, connections and final status of each fleet. `DONE` notes that the work is done.
fn definitions(done: &str) -> [(&'static str, &'static str, Value, Value); FLEETS] {
    let good = json!({"run": done});
    let flaky = format!("[ $BOATHOOK_ATTEMPT -gt 1 ] || exit 1; {done}");
    let wordy = format!("head -c 100000 /dev/zero | tr '\\0' x; {done}");
    [
        ("quick", "Success", json!({"v": good}), json!({})),
        (
            "chain",
            "Success",
            json!({"first": {"command": ["true"]}, "second": good}),
            json!({"first": {"second": "SUCCESS"}}),
        ),
        (
            "flaky",
            "Success",
            json!({"v": {"run": flaky, "guardrails": {"retry_count": 2, "retry_wait": "1s"}}}),
            json!({}),
        ),
        (
            "broken",
            "Errored",
            json!({"v": {"run": "exit 3"}, "alarm": good}),
            json!({"v": {"alarm": "ERRORED"}}),
        ),
        ("wordy", "Success", json!({"v": {"run": wordy}}), json!({})),
    ]
}

pub const FLEETS: usize = 5;

/// The fleets and their webhooks.
pub struct Fleets(Vec<(Hook, &'static str)>);

impl Fleets {
    /// Applies them; what their runs have done goes into `journal`.
    pub fn apply(server: &Server, journal: &Journal) -> Self {
        let done = format!(
            "echo \"$SHIPYARD_FLEET_LOG_ID $(sha256sum < \"$SHIPYARD_WEBHOOK_BODY_FILE\")\" >> {journal}"
        );
        let apply = |(name, status, vessels, connections)| {
            let definition = json!({"name": name, "vessels": vessels, "connections": connections});
            (server.fleet_with_webhook(&definition).1, status)
        };
        Self(definitions(&done).into_iter().map(apply).collect())
    }

    pub fn any_hook(&self) -> &Hook {
        &self.0[0].0
    }
}

/// What has to become of a run.
#[derive(Clone)]
pub struct Expected {
    pub status: &'static str,
    /// The SHA-256 of its body.
    pub content: String,
}

/// What the senders know.
pub struct Books {
    begin: Instant,
    end: Instant,
    over: AtomicBool,
    broken: AtomicUsize,
    acknowledged: Mutex<BTreeMap<String, Expected>>,
}

impl Books {
    /// Empty ones, for load until `end`.
    pub fn new(end: Instant) -> Self {
        Self {
            begin: Instant::now(),
            end,
            over: AtomicBool::new(false),
            broken: AtomicUsize::new(0),
            acknowledged: Mutex::default(),
        }
    }

    /// No more load.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub fn acknowledged(&self, run: String, expected: Expected) {
        let earlier = self.acknowledged.lock().unwrap().insert(run, expected);
        assert!(earlier.is_none(), "one run for two requests");
    }

    pub fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// One of the latest runs. Their ids are in the order of their acceptance.
    pub fn any_recent(&self, random: &mut Random) -> Option<(String, Expected)> {
        let books = self.acknowledged.lock().unwrap();
        let place = random.below(RECENT.min(books.len()));
        books.iter().nth_back(place).map(|(run, expected)| (run.clone(), expected.clone()))
    }

    /// Requests that had no answer.
    pub fn broken(&self) -> usize {
        self.broken.load(Ordering::SeqCst)
    }

    /// Everything that was acknowledged.
    pub fn take(&self) -> BTreeMap<String, Expected> {
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

/// Sends at a steady pace until the end; after an interruption, faster until it has caught up.
pub fn send(books: &Books, fleets: &Fleets, address: &str, sender: usize, mut random: Random) {
    let pace = Duration::from_secs(1) / RUNS_PER_SECOND * SENDERS as u32;
    let mut kept: Option<Connection> = None;
    for number in 0.. {
        let due = books.begin + pace * number;
        if due > books.end || books.over.load(Ordering::SeqCst) {
            return;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (hook, status) = &fleets.0[random.below(fleets.0.len())];
        let mut body = format!("{sender}-{number}\n").into_bytes();
        if random.one_in(LARGE_ONE_IN) {
            body.extend(random.bytes(LARGE_BODY_BYTES));
        }
        let request = post_request(&hook.target(), &[], &body);
        let connection = match kept.take() {
            Some(connection) if !random.one_in(10) => Ok(connection),
            _ => Connection::open(address),
        };
        // Whether it was accepted is unknown, and a sender of a webhook would send it again.
        let Ok((answer, open)) = connection.and_then(|it| it.exchange(&request)) else {
            books.broken.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        assert_eq!(answer.status, 201, "{}", redacted(&answer.text()));
        let run = answer.data()["fleet_run_id"].as_str().unwrap().to_owned();
        books.acknowledged(run, Expected { status, content: sha256(&body) });
        kept = open;
    }
}

/// What a run has done, by its own account.
pub struct Done {
    pub times: usize,
    /// The SHA-256 of the body that it got.
    pub content: String,
}

/// What the runs have done, by their ids.
pub fn read_journal(journal: &Journal) -> HashMap<String, Done> {
    let mut done: HashMap<String, Done> = HashMap::new();
    for line in fs::read_to_string(journal.path()).unwrap().lines() {
        // The third is sha256sum's name for standard input.
        let [run, content, "-"] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("a torn line: {line:?}");
        };
        let entry = done.entry(run.to_owned());
        entry.or_insert(Done { times: 0, content: content.to_owned() }).times += 1;
    }
    done
}
