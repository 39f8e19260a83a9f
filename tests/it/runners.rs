//! Vessels that run through an engine of their own: the words before theirs, and cleanups, with a stub
//! engine whose jobs live outside of every process of Boathook.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::server::finish;
use crate::harness::{Server, processes, wait_until};

/// How many runs each way to end gets.
const ROUNDS: usize = 3;

fn rounds() -> usize {
    let given = std::env::var("BOATHOOK_TEST_RUNNER_ROUNDS");
    given.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"))
}

/// The stub engine, a process of the test's own.
struct Engine {
    process: Child,
    spool: PathBuf,
}

impl Engine {
    fn start(scratch: &Path) -> Self {
        let spool = scratch.join("engine");
        fs::create_dir(&spool).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/runners/engine.py");
        let process = Command::new("python3").arg(script).arg(&spool).stdin(Stdio::null()).spawn();
        Self { process: process.expect("python3 is installed"), spool }
    }

    /// What has happened: words of [`engine.py`], each with a name.
    fn books(&self) -> Vec<(String, String)> {
        let books = fs::read_to_string(self.spool.join("books")).unwrap_or_default();
        let pairs = books.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(word, name)| (word.to_owned(), name.to_owned())).collect()
    }

    fn count(&self, word: &str, name: &str) -> usize {
        self.books().iter().filter(|(a, b)| a == word && b == name).count()
    }

    fn is_alive(&self, name: &str) -> bool {
        self.count("start", name) > self.count("end", name)
    }

    #[track_caller]
    fn assert_never_two_and_no_directory_gone(&self) {
        let wrong: Vec<_> =
            self.books().into_iter().filter(|(word, _)| word == "two" || word == "gone").collect();
        assert!(wrong.is_empty(), "{wrong:?} of {:?}", self.books());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The two runners of the tests, one of a container engine and one of a batch system whose cancelling
/// returns before the job has ended.
fn runners() -> [(&'static str, Value); 2] {
    let wait = r#"until [ -z "$(squeue --noheader --name "$0")" ]; do sleep 0.05; done"#;
    let cancel = format!(r#"scancel --name "$0"; {wait}"#);
    [
        (
            "docker",
            json!({
                "command": ["docker", "run", "--rm", "--name", "${SHIPYARD_LOG_ID}", "${BOATHOOK_ATTEMPT}"],
                "cleanup": ["docker", "rm", "--force", "${SHIPYARD_LOG_ID}"],
            }),
        ),
        (
            "slurm",
            json!({
                "command": ["sbatch", "--wait", "--job-name", "${SHIPYARD_LOG_ID}", "${BOATHOOK_ATTEMPT}"],
                "cleanup": ["sh", "-c", cancel, "${SHIPYARD_LOG_ID}"],
            }),
        ),
    ]
}

fn fleet(name: &str, runner: &Value, engine: &Engine, guardrails: &Value) -> Value {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/runners");
    json!({
        "name": name,
        "runner": runner,
        "vessels": {"job": {
            "run": "a job of the engine's",
            "environment": {
                "PATH": format!("{}:/usr/bin:/bin", clients.display()),
                "ENGINE": engine.spool.display().to_string(),
            },
            "guardrails": guardrails,
        }},
    })
}

/// The name of a run's job.
fn job_of(server: &Server, run: &str) -> String {
    vessel_of(&server.api().run(run), "job")["id"].as_str().unwrap().to_owned()
}

/// Starts `rounds()` runs of each fleet and waits until the jobs of all are running: their names, by
/// run.
fn start_jobs(server: &Server, engine: &Engine, fleets: &[String]) -> Vec<(String, String)> {
    let runs =
        fleets.iter().flat_map(|fleet| (0..rounds()).map(move |_| server.api().start(fleet)));
    let jobs: Vec<_> = runs.map(|run| (job_of(server, &run), run)).map(|(a, b)| (b, a)).collect();
    server.wait_until("all jobs run", || jobs.iter().all(|(_, job)| engine.is_alive(job)));
    jobs
}

fn server() -> Server {
    Server::builder().setting("workers", "256").start()
}

#[test]
fn a_runner_gives_its_words_to_commands_scripts_and_code() {
    let server = Server::start();
    let shown = "import os; print(os.environ['X'], end='')";
    let fleet = json!({
        "name": "env", "runner": ["env", "X=1"],
        "vessels": {
            "command": {"command": ["sh", "-c", "printf %s \"$X\""]},
            "script": {"run": "printf %s \"$X\""},
            "code": {"source": {
                "type": "CODE", "language": "PYTHON", "file": {"name": "a.py", "content": shown},
            }},
            "without": {"run": "printf %s \"${X-unset}\"", "runner": "none"},
            "own": {"run": "printf %s \"$X\"", "runner": ["env", "X=${SHIPYARD_VESSEL_NAME}"]},
        },
    });
    let id = server.api().apply(&fleet);
    let ended = server.api().wait_status(&server.api().start(&id), "Success");
    let expected =
        [("command", "1"), ("script", "1"), ("code", "1"), ("without", "unset"), ("own", "own")];
    for (vessel, output) in expected {
        assert_eq!(server.api().output(&ended, vessel), output, "{vessel}");
    }
    let shown = server.api().get(&format!("/api/v1/fleets/{id}")).expect(200).data();
    assert_eq!(shown["runner"]["command"], json!(["env", "X=1"]));
    let own = shown["vessels"].as_array().unwrap().iter().find(|it| it["name"] == "without");
    assert_eq!(own.unwrap()["runner"], "none");
}

#[test]
fn named_runners_come_from_the_settings() {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("boathook.toml");
    let settings = "default_runner = \"one\"\n[runners.one]\ncommand = [\"env\", \"X=one\"]\n\
                    [runners.two]\ncommand = [\"no-such-engine\"]\ncleanup = [\"no-such-cleanup\"]\n";
    fs::write(&config, settings).unwrap();
    let mut server = Server::builder().setting("config", config.to_str().unwrap()).start();
    let fleet = |name: &str, runner: Value| json!({"name": name, "runner": runner, "vessels": {"v": {"run": "printf %s \"$X\""}}});
    let usual = server.api().apply(&fleet("usual", Value::Null));
    let ended = server.api().wait_status(&server.api().start(&usual), "Success");
    assert_eq!(server.api().output(&ended, "v"), "one");
    let refused = server.api().put("/api/v1/fleets?by=name", &fleet("x", json!("tow")));
    assert_eq!(refused.status, 422);
    let why = refused.error();
    assert!(
        why.contains("runner: the settings have no runner `tow`; did you mean `two`?"),
        "{why}"
    );
    // Doctor looks for both commands of the runner.
    let two = server.api().apply(&fleet("two", json!("two")));
    let (_, report, _) = finish(server.cli(&["doctor", "--json"]));
    for program in ["no-such-engine", "no-such-cleanup"] {
        assert!(
            report.contains(&format!("default/two, v: `{program}` was not found"))
                || report.contains(&format!("two, v: `{program}` was not found")),
            "{report}"
        );
    }
    // A runner that the settings have no more is named in the vessel's log.
    fs::write(&config, "").unwrap();
    server.stop();
    server.start_again();
    let ended = server.api().wait_status(&server.api().start(&two), "Errored");
    let why = vessel_of(&ended, "v")["reason"].as_str().unwrap().to_owned();
    assert_eq!(
        why,
        "runner: the settings have no runner `two`; the operator adds it to boathook.toml as [runners.two]"
    );
    let ended = server.api().wait_status(&server.api().start(&usual), "Success");
    assert_eq!(server.api().output(&ended, "v"), "");
}

#[test]
fn a_name_without_a_variable_is_a_warning() {
    let server = Server::start();
    let fleet = json!({"name": "w", "vessels": {"v": {
        "run": "true", "runner": {"cleanup": ["echo", "${NOPE}", "${TOKEN}"]},
        "environment": {"TOKEN": {"secret": "T"}},
    }}});
    let applied = server.api().put("/api/v1/fleets?by=name", &fleet).expect(201).data();
    let warnings = applied["warnings"].to_string();
    assert!(warnings.contains("vessels.v.runner: ${NOPE} stays as it is written"), "{warnings}");
    assert!(warnings.contains("vessels.v.runner: the secret `T` becomes part"), "{warnings}");
}

#[test]
fn after_a_cutoff_and_before_a_retry_nothing_of_the_attempt_is_left() {
    let server = server();
    let engine = Engine::start(server.scratch());
    let guardrails = json!({"retry_count": 20, "runtime_cutoff": "4s"});
    let fleets = runners()
        .map(|(name, runner)| server.api().apply(&fleet(name, &runner, &engine, &guardrails)));
    let runs: Vec<String> =
        fleets.iter().flat_map(|fleet| (0..rounds()).map(|_| server.api().start(fleet))).collect();
    for run in runs {
        let ended = server.api().wait_status(&run, "Success");
        let job = job_of(&server, &run);
        let attempt = vessel_of(&ended, "job")["attempt"].as_u64().unwrap();
        // After each attempt that was cut off, and before each but the first.
        let least = 2 * (attempt as usize - 1);
        assert!(attempt > 1 && engine.count("kill", &job) == least, "{:?}", engine.books());
        assert!(!engine.is_alive(&job));
        let first = server.api().output_answer(&ended, "job", "?attempt=1").text();
        assert!(first.contains("boathook: cleanup: "), "{first}");
    }
    engine.assert_never_two_and_no_directory_gone();
}

#[test]
fn a_stop_has_ended_the_job_when_the_run_has_ended() {
    let server = server();
    let engine = Engine::start(server.scratch());
    let fleets = runners()
        .map(|(name, runner)| server.api().apply(&fleet(name, &runner, &engine, &json!({}))));
    let jobs = start_jobs(&server, &engine, &fleets);
    for (run, job) in &jobs {
        server.api().post(&format!("/api/v1/runs/{run}/stop"), &json!({})).expect(200);
        server.api().wait_status(run, "Terminated");
        assert!(!engine.is_alive(job), "{job} lives: {:?}", engine.books());
        assert_eq!(engine.count("kill", job), 1);
    }
    engine.assert_never_two_and_no_directory_gone();
}

/// The clients of `jobs` are killed with the server, or live on.
fn crash(clients_die: bool) {
    let mut server = server();
    let engine = Engine::start(server.scratch());
    let mut fleets = Vec::new();
    for (name, runner) in runners() {
        let again = fleet(&format!("{name}-again"), &runner, &engine, &json!({}));
        fleets.push(server.api().apply(&again));
        let mut once = fleet(&format!("{name}-once"), &runner, &engine, &json!({}));
        once["delivery"] = "at_most_once".into();
        fleets.push(server.api().apply(&once));
    }
    let jobs = start_jobs(&server, &engine, &fleets);
    server.kill();
    if clients_die {
        for (_, job) in &jobs {
            processes::kill(&processes::with_environment(&format!("SHIPYARD_LOG_ID={job}")));
        }
    }
    assert!(jobs.iter().all(|(_, job)| engine.is_alive(job)), "the jobs outlive both");
    server.start_again();
    // Some are stopped before they can start again.
    let stopped: BTreeSet<&String> = jobs.iter().step_by(5).map(|(run, _)| run).collect();
    for run in &stopped {
        server.api().post(&format!("/api/v1/runs/{run}/stop"), &json!({})).expect(200);
    }
    for (run, job) in &jobs {
        let ended = server.api().wait_ended(run);
        let vessel = vessel_of(&ended, "job");
        let work = server.data_dir().join("work").join(run);
        wait_until("its directory is gone", || !work.exists());
        assert!(!engine.is_alive(job), "{job} lives: {:?}", engine.books());
        assert!(engine.count("kill", job) > 0, "{:?}", engine.books());
        match ended["fleet_name"].as_str().unwrap().ends_with("-once") {
            true => {
                assert_eq!((&ended["status"], &vessel["attempt"]), (&json!("Errored"), &json!(1)));
            }
            false if stopped.contains(run) => {}
            false => {
                assert_eq!((&ended["status"], &vessel["attempt"]), (&json!("Success"), &json!(2)));
            }
        }
        let log = server.api().output_answer(&ended, "job", "?attempt=1").text();
        let line = "boathook: the server ended during this attempt\nboathook: cleanup: ";
        assert!(log.contains(line), "{run}: {log}");
    }
    engine.assert_never_two_and_no_directory_gone();
}

#[test]
fn after_a_crash_of_the_server_alone_nothing_is_left_beside_the_next_attempt() {
    crash(false);
}

#[test]
fn after_a_crash_with_the_clients_nothing_is_left_beside_the_next_attempt() {
    crash(true);
}

#[test]
fn an_orderly_stop_leaves_no_job_to_run_beside_the_next_attempt() {
    let mut server =
        Server::builder().setting("workers", "256").setting("shutdown_grace", "0s").start();
    let engine = Engine::start(server.scratch());
    let fleets = runners()
        .map(|(name, runner)| server.api().apply(&fleet(name, &runner, &engine, &json!({}))));
    let jobs = start_jobs(&server, &engine, &fleets);
    server.stop();
    server.start_again();
    for (run, job) in &jobs {
        let ended = server.api().wait_status(run, "Success");
        assert_eq!(vessel_of(&ended, "job")["attempt"], 2);
        assert!(!engine.is_alive(job));
    }
    engine.assert_never_two_and_no_directory_gone();
}

#[test]
fn exit_codes_of_an_engine_alone_are_retried() {
    let server = Server::start();
    let vessel = |code: u32| {
        json!({
            "run": format!("exit {code}"),
            "guardrails": {"retry_count": 1, "retry_on_exit_codes": [111, "240-255"]},
        })
    };
    let fleet =
        json!({"name": "codes", "vessels": {"a": vessel(111), "b": vessel(1), "c": vessel(250)}});
    let run = server.api().start(&server.api().apply(&fleet));
    let ended = server.api().wait_status(&run, "Errored");
    let attempts = ["a", "b", "c"].map(|name| vessel_of(&ended, name)["attempt"].as_u64().unwrap());
    assert_eq!(attempts, [2, 1, 2]);
}
