//! Power cuts. A recorder notes every write and sync of a server. The test rebuilds the disk as it may
//! be after a cut at any moment, and a server on it must know every acknowledged run.

mod churn;
mod disk;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::api::is_final;
use crate::harness::{
    Api, Hook, Random, Server, ServerBuilder, python_directory, redacted, sha256, shared_library,
    wait_for,
};
use disk::{Fate, Recording};

/// Recordings, each with a server of its own: cuts of one recording are looked at one after the
/// other, since the servers on them share an identity and would end each other's vessels.
const RECORDINGS: usize = 2;
/// Cuts by chance, and how often every moment of the first start is cut at, with another fate each
/// time; both times [`thoroughness`].
const CUTS_PER_RECORDING: usize = 60;
const FIRST_START_SWEEPS: usize = 1;
const SENDERS: usize = 4;
/// In each of the two lives of a recorded server.
const POSTS_PER_SENDER: usize = 10;
/// Around the sizes at which payloads and outputs are stored in another way.
const PAYLOAD_BYTES: [usize; 8] = [20, 500, 500, 500, 5_000, 70_000, 262_144, 600_000];

/// `BOATHOOK_TEST_POWERCUTS=10` looks ten times as hard, by hand.
fn thoroughness() -> usize {
    let given = std::env::var("BOATHOOK_TEST_POWERCUTS").ok();
    given.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// The recorder, built once.
fn recorder() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/powercut/record.c");
        shared_library(&source, Path::new(env!("CARGO_TARGET_TMPDIR")))
    })
}

/// A place where a program is recorded.
struct Studio {
    directory: TempDir,
}

impl Studio {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("boathook-powercut-").tempdir().unwrap();
        fs::create_dir(directory.path().join("disk")).unwrap();
        fs::write(directory.path().join("boot-before"), format!("{}\n", uuid::Uuid::new_v4()))
            .unwrap();
        fs::write(directory.path().join("boot-after"), format!("{}\n", uuid::Uuid::new_v4()))
            .unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory that is recorded.
    fn root(&self) -> PathBuf {
        fs::canonicalize(self.path("disk")).unwrap()
    }

    /// Variables for a program to be recorded.
    fn variables(&self) -> [(&'static str, PathBuf); 5] {
        [
            ("LD_PRELOAD", recorder().to_owned()),
            ("RECORD_DIR", self.root()),
            ("RECORD_LOG", self.path("log")),
            ("RECORD_POSITION", self.path("position")),
            ("RECORD_BOOT_ID", self.path("boot-before")),
        ]
    }

    /// How many records there are by now.
    fn position(&self) -> usize {
        let bytes = fs::read(self.path("position")).unwrap();
        u64::from_ne_bytes(bytes.try_into().unwrap()) as usize
    }

    fn recording(&self) -> Recording {
        Recording::read(&self.path("log"), &self.root())
    }
}

fn builder(data_dir: &Path, variables: &[(&str, PathBuf)]) -> ServerBuilder {
    variables.iter().fold(Server::builder().data_dir(data_dir), |builder, (name, value)| {
        builder.variable(name, value.as_os_str())
    })
}

/// Acknowledgements, each with the number of records at its time.
#[derive(Default)]
struct Ledger {
    /// (records, run id, hash of the payload)
    runs: Vec<(usize, String, String)>,
    /// (records, fleet id)
    fleets: Vec<(usize, String)>,
    /// Hash of every payload ever sent, and its length.
    sent: HashMap<String, usize>,
}

/// Two recorded lives of a server, one after the other.
struct Scene {
    studio: Studio,
    recording: Recording,
    ledger: Ledger,
    /// The records made while it started the second time.
    second_start: Range<usize>,
    /// The webhook, and how many records there were when it had been added.
    hook: (usize, Hook),
    fleet: String,
}

fn fleet(name: &str) -> serde_json::Value {
    json!({
        "name": name,
        "vessels": {"copy": {"command": ["cat"]}, "then": {"command": ["true"]}},
        "connections": {"copy": {"then": "SUCCESS"}},
    })
}

fn record(seed: u64) -> Scene {
    let studio = Studio::new();
    let mut server = builder(&studio.root().join("data"), &studio.variables()).start();
    let api = server.api();
    let (fleet_id, hook) = server.fleet_with_webhook(&fleet("recorded"));
    let hooked_at = studio.position();
    let ledger = Mutex::new(Ledger::default());
    for number in 0..6 {
        let id = api.apply(&fleet(&format!("beside {number}")));
        ledger.lock().unwrap().fleets.push((studio.position(), id));
    }
    let post = |server: &Server, seed: u64| {
        send(server, &hook, seed, &studio, &ledger);
        server.wait_all_ended();
    };
    post(&server, seed);
    server.stop();
    let stopped_at = studio.position();
    server.start_again();
    let second_start = stopped_at..studio.position();
    post(&server, !seed);
    server.kill();
    let recording = studio.recording();
    let ledger = ledger.into_inner().unwrap();
    assert!(recording.len() > ledger.runs.len(), "the recorder recorded next to nothing");
    Scene { studio, recording, ledger, second_start, hook: (hooked_at, hook), fleet: fleet_id }
}

/// Posts from several senders at once, and notes the acknowledgements.
fn send(server: &Server, hook: &Hook, seed: u64, studio: &Studio, ledger: &Mutex<Ledger>) {
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let address = server.hooks().to_owned();
            scope.spawn(move || {
                let mut random = Random::seeded(seed ^ (sender as u64 + 1));
                for _ in 0..POSTS_PER_SENDER {
                    let length = PAYLOAD_BYTES[random.below(PAYLOAD_BYTES.len())];
                    let payload = random.bytes(length);
                    let hash = sha256(&payload);
                    ledger.lock().unwrap().sent.insert(hash.clone(), length);
                    let run = hook.post(&address, &[("X-Sender", "s")], &payload);
                    let position = studio.position();
                    ledger.lock().unwrap().runs.push((position, run, hash));
                }
            });
        }
    });
}

impl Scene {
    /// A moment to cut at: right at an acknowledgement, while the server starts on what is there,
    /// when much is waiting for a sync, or anywhere.
    fn cut_point(&self, random: &mut Random) -> usize {
        match random.below(4) {
            0 => self.ledger.runs[random.below(self.ledger.runs.len())].0,
            1 => self.second_start.start + random.below(self.second_start.len() + 1),
            2 => self.recording.cut_with_much_unsynced(random),
            _ => random.below(self.recording.len() + 1),
        }
    }

    /// Starts a server on what the disk may hold after `cut` records, and looks for everything
    /// that was acknowledged by then.
    fn check(&self, cut: usize, random: &mut Random) -> Result<(), String> {
        let contents = Fate::random(random, cut);
        let entries = Fate::random(random, cut);
        let context =
            format!("cut after {cut} of {}, {contents:?}, {entries:?}", self.recording.len());
        let disk = self.studio.path("after");
        self.recording.restore(cut, contents, entries, random, &disk);
        let variables = [
            ("LD_PRELOAD", recorder().to_owned()),
            ("RECORD_BOOT_ID", self.studio.path("boot-after")),
        ];
        let mut server = builder(&disk.join("data"), &variables).not_started();
        let checked = match server.try_start_again() {
            Ok(()) => self.check_server(cut, &server),
            Err(problem) => Err(problem),
        };
        let log = server.log_tail();
        drop(server);
        fs::remove_dir_all(&disk).unwrap();
        checked.map_err(|problem| format!("{context}: {problem}\n{log}"))
    }

    fn check_server(&self, cut: usize, server: &Server) -> Result<(), String> {
        let api = server.api();
        let known = |(position, ..): &&(usize, String, String)| *position <= cut;
        let acknowledged: Vec<_> = self.ledger.runs.iter().filter(known).collect();
        let mut runs = BTreeMap::new();
        let ended = wait_for(|| {
            runs = api
                .all_runs()
                .into_iter()
                .map(|run| (run["id"].as_str().unwrap().to_owned(), run))
                .collect();
            runs.values().all(is_final).then_some(())
        });
        if ended.is_none() {
            return Err(format!("not every run ends: {runs:#?}"));
        }
        for (position, run, _) in &acknowledged {
            if !runs.contains_key(run) {
                return Err(format!("run {run}, acknowledged at {position}, is gone"));
            }
        }
        let mut whole = HashSet::new();
        for (id, run) in &runs {
            if run["status"] != "Success" {
                return Err(format!("run {id} did not end well: {run:#}"));
            }
            let hash = sha256(&api.get(&format!("/api/v1/runs/{id}/body")).expect(200).body);
            let Some(length) = self.ledger.sent.get(&hash) else {
                return Err(format!("run {id} has a body that was not sent"));
            };
            // A notice that the run starts again may come before what the vessel wrote.
            let output = api.output_answer(run, "copy", "").body;
            let written = output.len().checked_sub(*length).map(|start| &output[start..]);
            if written.map(sha256) != Some(hash.clone()) {
                return Err(format!(
                    "run {id}: {} bytes of output do not end with the {length} written",
                    output.len()
                ));
            }
            if !whole.insert(hash) {
                return Err(format!("run {id} has the body of another"));
            }
        }
        for (position, run, hash) in &acknowledged {
            if sha256(&api.get(&format!("/api/v1/runs/{run}/body")).expect(200).body) != *hash {
                return Err(format!("run {run}, acknowledged at {position}: another body"));
            }
        }
        self.check_settings(cut, server, &api)
    }

    /// Fleets and the webhook are as durable as runs.
    fn check_settings(&self, cut: usize, server: &Server, api: &Api) -> Result<(), String> {
        for (position, fleet) in self.ledger.fleets.iter().filter(|(at, _)| *at <= cut) {
            if api.get(&format!("/api/v1/fleets/{fleet}")).status != 200 {
                return Err(format!("fleet {fleet}, acknowledged at {position}, is gone"));
            }
        }
        let (hooked_at, hook) = &self.hook;
        if *hooked_at > cut {
            return Ok(());
        }
        let answer = hook.try_post(server.hooks(), &[], b"after the cut").unwrap();
        if answer.status != 201 {
            return Err(format!(
                "the webhook answers {} {}",
                answer.status,
                redacted(&answer.text())
            ));
        }
        let data = answer.data();
        if data["fleet_id"] != self.fleet.as_str() {
            return Err("the webhook starts another fleet".to_owned());
        }
        let ended = api.wait_ended(data["fleet_run_id"].as_str().unwrap());
        match ended["status"].as_str() {
            Some("Success") => Ok(()),
            _ => Err(format!("a new run does not end well: {ended:#}")),
        }
    }
}

#[test]
fn every_acknowledged_run_survives_a_power_cut() {
    let seed = Random::seed("power cut");
    let checked = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..RECORDINGS {
            let (checked, failures) = (&checked, &failures);
            scope.spawn(move || {
                let seed = seed.wrapping_add(1000 * number as u64);
                let scene = record(seed);
                let mut random = Random::seeded(seed);
                // Every moment of the first start, then moments by chance.
                let first_start =
                    (0..FIRST_START_SWEEPS * thoroughness()).flat_map(|_| 0..=scene.hook.0);
                let by_chance: Vec<usize> = (0..CUTS_PER_RECORDING * thoroughness())
                    .map(|_| scene.cut_point(&mut random))
                    .collect();
                for cut in first_start.chain(by_chance) {
                    if let Err(problem) = scene.check(cut, &mut random) {
                        failures.lock().unwrap().push(problem);
                    }
                    checked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let checked = checked.into_inner();
    assert!(checked >= RECORDINGS * CUTS_PER_RECORDING, "{checked} cuts");
    if let Some(first) = failures.first() {
        panic!("{} of {checked} power cuts went wrong, the first: {first}", failures.len());
    }
}

/// Makes one change of each kind that the recorder must see, in the current directory.
const PROGRAM: &str = r#"
import os
def put(name, data):
    with open(name, "wb", buffering=0) as file:
        file.write(data)
os.mkdir("synced")
put("synced/file", b"a" * 3000)
fd = os.open("synced/file", os.O_RDWR)
os.pwrite(fd, b"B" * 700, 100)
os.fsync(fd)
os.pwrite(fd, b"C" * 700, 200)
os.close(fd)
put("synced/old", b"renamed")
fd = os.open("synced/old", os.O_RDONLY); os.fdatasync(fd); os.close(fd)
os.rename("synced/old", "synced/new")
for name in ["synced", "."]:
    fd = os.open(name, os.O_RDONLY); os.fsync(fd); os.close(fd)
put("gone", b"x"); os.unlink("gone")
put("append", b"12")
fd = os.open("append", os.O_WRONLY | os.O_APPEND)
os.writev(fd, [b"34", b"56"]); os.ftruncate(fd, 5); os.close(fd)
os.unlink("synced/new")
"#;

/// The files below `directory`, by their path within.
fn files_below(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// Checks the recorder and the rebuilt disk, on which the test above rests.
#[test]
fn the_recorder_sees_every_change_of_a_program() {
    let studio = Studio::new();
    let status = Command::new(Path::new(&python_directory()).join("python3"))
        .args(["-c", PROGRAM])
        .current_dir(studio.root())
        .envs(studio.variables())
        .status()
        .expect("python3 is installed");
    assert!(status.success());
    let recording = studio.recording();
    assert_eq!(recording.len(), studio.position());
    let mut random = Random::seeded(1);
    let mut rebuilt = |name: &str, contents, entries| {
        let path = studio.path(name);
        recording.restore(recording.len(), contents, entries, &mut random, &path);
        files_below(&path)
    };

    let kept = rebuilt("kept", Fate::Kept, Fate::Kept);
    assert!(kept == files_below(&studio.root()), "what is kept is what is there");
    let mut expected = [b"a".repeat(100), b"B".repeat(700), b"a".repeat(2200)].concat();
    assert_eq!(kept[Path::new("append")], b"12345"[..]);

    // Changes that no sync covers can be lost: the last write, the removal, the unsynced files.
    let dropped = rebuilt("dropped", Fate::Dropped, Fate::Dropped);
    let names: Vec<&Path> = dropped.keys().map(PathBuf::as_path).collect();
    assert_eq!(names, [Path::new("synced/file"), Path::new("synced/new")]);
    assert!(dropped[Path::new("synced/file")] == expected);
    assert_eq!(dropped[Path::new("synced/new")], b"renamed");

    // Torn at sectors: nothing but the old and the new in the last write's place.
    let torn = rebuilt("torn", Fate::ByChance, Fate::Dropped);
    let torn = &torn[Path::new("synced/file")];
    assert_eq!((&torn[..200], &torn[900..]), (&expected[..200], &expected[900..]));
    for at in 200..900 {
        assert!(torn[at] == expected[at] || torn[at] == b'C', "at {at}");
    }
    expected[200..900].fill(b'C');
    assert!(kept[Path::new("synced/file")] == expected);
}
