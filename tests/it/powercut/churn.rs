//! Power cuts under the database alone. A process commits rows of all sizes and removes them, while
//! threads read, so that the log's segments are filled, rewritten and reused many times. The commits
//! follow from a seed.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use boathook::internals::limits::{ROW_BYTES_MAX, SLICE_BYTES};
use boathook::internals::store::{self, Store};
use boathook::internals::{
    Change, FleetId, PayloadSize, QueueEntry, RunId, RunIds, Timestamp, Trigger,
};

use super::disk::Fate;
use super::{Studio, thoroughness};
use crate::harness::Random;

const RECORDINGS: usize = 2;
const CUTS_PER_RECORDING: usize = 150;
const COMMITS: usize = 250;
/// Runs that wait: old enough to lie in segments that are used again.
const RUNS_KEPT: usize = 120;
const READERS: usize = 2;
/// The seed of the process that commits.
const SEED: &str = "BOATHOOK_TEST_CHURN_SEED";
const DIRECTORY: &str = "BOATHOOK_TEST_CHURN_DIRECTORY";
/// A file: how many records there were when each commit was durable, 8 bytes each.
const DURABLE: &str = "BOATHOOK_TEST_CHURN_DURABLE";

/// Runs that wait, by sequence, with the length and the hash of their payloads.
type Waiting = BTreeMap<u64, (RunId, usize, u64)>;

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// The commits, one after the other.
struct Churn {
    random: Random,
    ids: RunIds,
    sequence: u64,
    waiting: Waiting,
}

impl Churn {
    fn new(seed: u64) -> Self {
        let (random, ids) = (Random::seeded(seed), RunIds::after(None));
        Self { random, ids, sequence: 0, waiting: Waiting::new() }
    }

    fn next_commit(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let runs = if self.random.one_in(8) { 1 + self.random.below(40) } else { 1 };
        for _ in 0..runs {
            let length = match self.random.below(30) {
                0..3 => SLICE_BYTES,
                3..15 => self.random.below(10_000),
                _ => self.random.below(600),
            };
            let bytes = self.random.bytes(length);
            self.sequence += 1;
            let now = Timestamp::from_millis(1_700_000_000_000 + self.sequence as i64);
            let run = self.ids.next(now, self.random.next());
            changes.push(Change::PutQueueEntry(entry(self.sequence, run, length)));
            self.waiting.insert(self.sequence, (run, length, hash(&bytes)));
            changes.push(Change::PutPayload { run, chunk: 0, bytes });
        }
        while self.waiting.len() > RUNS_KEPT {
            let place = self.random.below(RUNS_KEPT / 3);
            let Some(sequence) = self.waiting.keys().nth(place).copied() else { break };
            let Some((run, length, _)) = self.waiting.remove(&sequence) else { break };
            let chunks = length.div_ceil(ROW_BYTES_MAX) as u32;
            changes.push(Change::RemoveQueueEntry { sequence });
            changes.push(Change::RemovePayload { run, chunks: 0..chunks });
        }
        changes
    }
}

fn entry(sequence: u64, run: RunId, length: usize) -> QueueEntry {
    let payload = PayloadSize { head_bytes: 0, body_bytes: length as u64 };
    let fleet = FleetId::from_slice(&[7; 16]).unwrap();
    QueueEntry {
        sequence,
        run,
        fleet,
        version: 1,
        trigger: Trigger::Api,
        payload,
        started: false,
        queued_at: None,
        replay_of: None,
        arrival: None,
    }
}

/// Reads all waiting runs.
fn read(store: &Store) -> Result<Waiting, String> {
    let mut waiting = Waiting::new();
    for entry in store.queue() {
        let entry = entry.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        let mut payload = store.payload(entry.run, 0, entry.payload.body_bytes);
        payload.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        waiting.insert(entry.sequence, (entry.run, bytes.len(), hash(&bytes)));
    }
    Ok(waiting)
}

#[test]
#[ignore = "not a test: the process that the next one records"]
fn commits() {
    let variable = |name| std::env::var(name).unwrap();
    let mut churn = Churn::new(variable(SEED).parse().unwrap());
    let (store, _committer) = store::open(Path::new(&variable(DIRECTORY))).unwrap();
    let store = Arc::new(store);
    for _ in 0..READERS {
        let store = Arc::clone(&store);
        thread::spawn(move || {
            loop {
                // A run that is removed meanwhile cannot be read.
                let _ = read(&store);
                thread::sleep(Duration::from_millis(2));
            }
        });
    }
    let mut durable = fs::File::create(variable(DURABLE)).unwrap();
    for number in 0..COMMITS {
        store.commit(churn.next_commit()).wait();
        durable.write_all(&fs::read(variable("RECORD_POSITION")).unwrap()).unwrap();
        if number % 6 == 0 {
            thread::sleep(Duration::from_millis(30));
        }
    }
    std::process::exit(0);
}

/// Records a process that commits. Returns the number of records at the durability of each commit.
fn record(studio: &Studio, seed: u64) -> Vec<usize> {
    let durable = studio.path("durable");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "powercut::churn::commits"])
        .envs(studio.variables())
        .env(SEED, seed.to_string())
        .env(DIRECTORY, studio.root().join("data"))
        .env(DURABLE, &durable)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let positions = fs::read(durable).unwrap();
    let positions = positions.chunks(8).map(|it| u64::from_ne_bytes(it.try_into().unwrap()));
    positions.map(|position| position as usize).collect()
}

/// The waiting runs after each commit.
fn states(seed: u64) -> Vec<Waiting> {
    let mut churn = Churn::new(seed);
    let after_each = (0..COMMITS).map(|_| {
        churn.next_commit();
        churn.waiting.clone()
    });
    std::iter::once(Waiting::new()).chain(after_each).collect()
}

/// Opens the database on `disk`, which must be in one of `states`.
fn check(disk: &Path, states: &[Waiting]) -> Result<(), String> {
    let (store, _committer) = store::open(&disk.join("data")).map_err(|error| error.to_string())?;
    let found = read(&store)?;
    match states.contains(&found) {
        true => Ok(()),
        false => Err(format!("{} runs that are neither before nor after a commit", found.len())),
    }
}

#[test]
fn commits_survive_a_power_cut_as_a_whole() {
    let first_seed = Random::seed("churn");
    let mut failures = Vec::new();
    for number in 0..RECORDINGS * thoroughness() {
        let seed = first_seed.wrapping_add(number as u64);
        let studio = Studio::new();
        let durable = record(&studio, seed);
        let recording = studio.recording();
        assert!(durable.len() == COMMITS && recording.len() > COMMITS);
        let states = states(seed);
        let mut random = Random::seeded(seed);
        for _ in 0..CUTS_PER_RECORDING {
            let (cut, contents) = if random.one_in(4) {
                let cut = random.below(recording.len() + 1);
                (cut, Fate::random(&mut random, cut))
            } else {
                (recording.cut_with_much_unsynced(&mut random), Fate::ByChance)
            };
            let disk = studio.path("after");
            recording.restore(cut, contents, Fate::Kept, &mut random, &disk);
            // Every durable commit is there. The commit under way may be.
            let durable = durable.iter().filter(|position| **position <= cut).count();
            let states = &states[durable..(durable + 2).min(states.len())];
            // sled panics at some damages.
            let checked = thread::scope(|scope| scope.spawn(|| check(&disk, states)).join());
            match checked {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => failures.push(format!("{contents:?}, cut at {cut}: {problem}")),
                Err(_) => failures.push(format!("{contents:?}, cut at {cut}: a panic")),
            }
            fs::remove_dir_all(&disk).unwrap();
        }
    }
    assert!(failures.is_empty(), "{} power cuts went wrong: {failures:#?}", failures.len());
}
