//! Real processes: the surroundings of a vessel, its end, and the end of its process group.

mod cleanups;
mod code;
mod directories;
mod rate;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use rustix::process::{Pid, Signal};
use sha2::{Digest, Sha256};

use super::*;
use crate::model::clock::Timestamp;
use crate::model::confinement::Confinement;
use crate::model::environment::Environment;
use crate::model::fleet::Program;
use crate::model::ids::RunIds;
use crate::model::runner::Runner;
use crate::runner::output::Kept;
use crate::runner::{Payload, parameter_file_names};

const GRACE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Request {
    headers: Option<Vec<u8>>,
    body: Vec<u8>,
}

impl Payload for Request {
    fn headers_json(&self) -> Option<&[u8]> {
        self.headers.as_deref()
    }

    fn body_bytes(&self) -> u64 {
        self.body.len() as u64
    }

    fn open_body(&self) -> Box<dyn Read + Send + '_> {
        Box::new(self.body.as_slice())
    }
}

/// A launcher in a directory of its own, and an attempt.
struct Fixture {
    root: tempfile::TempDir,
    launcher: ProcessLauncher,
    run: RunId,
    program: Program,
    environment: Environment,
    working_directory: Option<String>,
    runner: Option<Runner>,
    cleans_first: bool,
    secrets: Vec<String>,
    request: Request,
    runtime_cutoff: Duration,
    stop: StopSignal,
    output: Arc<LiveOutput>,
}

impl Fixture {
    fn new(kill_grace: Duration) -> Self {
        let root = tempfile::tempdir().unwrap();
        let defaults = Settings::defaults(root.path().to_owned());
        let settings = Settings { kill_grace, max_output_bytes: 100_000, ..defaults };
        let output_dir = root.path().join("output");
        let launcher =
            ProcessLauncher::new(Arc::new(settings), output_dir, VesselLimits::default());
        Self {
            launcher: launcher.unwrap(),
            run: RunIds::after(None).next(Timestamp::from_millis(1_700_000_000_000), 1),
            program: Program::Script(String::new()),
            environment: Environment::from_iter([("PATH", "/usr/bin:/bin")]),
            working_directory: None,
            runner: None,
            cleans_first: false,
            secrets: Vec::new(),
            request: Request::default(),
            runtime_cutoff: Duration::ZERO,
            stop: StopSignal::new().unwrap(),
            output: Arc::default(),
            root,
        }
    }

    fn launch(&self) -> Ended {
        self.with_launch(|launch| self.launcher.launch(launch, &self.stop, &self.output))
    }

    fn clean_up(&self, output: &LiveOutput) {
        self.with_launch(|launch| self.launcher.clean_up(launch, output));
    }

    fn with_launch<T>(&self, act: impl FnOnce(&Launch<'_>) -> T) -> T {
        act(&Launch {
            run: self.run,
            vessel_run: self.run.vessel_run(0),
            attempt: 1,
            program: &self.program,
            working_directory: self.working_directory.as_deref(),
            runner: self.runner.as_ref(),
            cleans_first: self.cleans_first,
            user: None,
            confinement: &Confinement::default(),
            environment: &self.environment,
            references: &[],
            secrets: &self.secrets,
            payload: &self.request,
            runtime_cutoff: self.runtime_cutoff,
            may_answer: false,
            expects_directory: false,
            notices: &[],
        })
    }

    /// The end and the output of `script`.
    fn script(&mut self, script: &str) -> (HowEnded, String) {
        self.program = Program::Script(script.to_owned());
        self.end()
    }

    fn command(&mut self, command: &[&str]) -> (HowEnded, String) {
        self.program = Program::command(command.iter().copied());
        self.end()
    }

    fn end(&mut self) -> (HowEnded, String) {
        self.output = Arc::default();
        let ended = self.launch();
        let text = match ended.output.kept {
            Kept::Nothing => String::new(),
            Kept::Inline(bytes) => String::from_utf8(bytes).unwrap(),
            Kept::File => panic!("output went to a file"),
        };
        (ended.how, text)
    }

    fn work(&self) -> PathBuf {
        self.launcher.directory(self.run)
    }

    fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.root.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Launches `script`, and calls `act` when the vessel has written `word`.
    fn launch_and(&mut self, script: &str, word: &str, act: impl FnOnce(&Self)) -> Ended {
        self.program = Program::Script(script.to_owned());
        self.output = Arc::default();
        std::thread::scope(|scope| {
            let launching = scope.spawn(|| self.launch());
            let mut seen = String::new();
            while !seen.contains(word) {
                let chunk = self.output.read(seen.len() as u64, PATIENCE).unwrap();
                assert!(!chunk.bytes.is_empty(), "ended without `{word}`: {seen}");
                seen.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
            }
            act(self);
            launching.join().unwrap()
        })
    }
}

/// Whether the process has ended; a zombie has.
fn is_gone(pid: &str) -> bool {
    match fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")),
        Err(_) => true,
    }
}

fn not_started(ended: &(HowEnded, String)) -> &str {
    let (HowEnded::NotStarted(reason), output) = ended else { panic!("{ended:?}") };
    assert_eq!(*output, format!("boathook: {reason}\n"));
    reason
}

#[test]
fn exit_codes_and_signals_are_distinguished() {
    let mut fixture = Fixture::new(GRACE);
    assert_eq!(fixture.script("exit 0"), (HowEnded::Exited(0), String::new()));
    assert_eq!(fixture.script("exit 255").0, HowEnded::Exited(255));
    assert_eq!(fixture.script("kill -9 $$").0, HowEnded::Signaled(9));
    assert_eq!(fixture.script("kill -TERM $$").0, HowEnded::Signaled(15));
}

#[test]
fn programs_get_their_arguments_environment_and_directory() {
    let mut fixture = Fixture::new(GRACE);
    fixture.environment.set("GREETING", "ahoy");
    let (how, text) = fixture.command(&["env"]);
    assert_eq!((how, text.as_str()), (HowEnded::Exited(0), "PATH=/usr/bin:/bin\nGREETING=ahoy\n"));
    let (_, text) = fixture.script("pwd; umask >/dev/null; cat /proc/self/cmdline | tr '\\0' ' '");
    assert!(text.starts_with(&format!("{}\n", fixture.work().display())), "{text}");
    assert_eq!(fixture.work().metadata().unwrap().mode() & 0o777, 0o700);
    let tool = fixture.file("tool", b"#!/bin/sh\necho \"$0 $1\"\n", 0o755);
    fixture.working_directory = Some(fixture.root.path().display().to_string());
    assert_eq!(
        fixture.command(&["./tool", "a b"]).1,
        format!("{}/./tool a b\n", fixture.root.path().display())
    );
    fixture.environment.replace("PATH", &format!("/nowhere:{}", fixture.root.path().display()));
    assert_eq!(fixture.command(&["tool", ""]).1, format!("{} \n", tool.display()));
}

#[test]
fn the_body_arrives_byte_for_byte() {
    let mut fixture = Fixture::new(GRACE);
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> =
        (0..1u32 << 18).flat_map(|word| (word ^ word << 13).to_le_bytes()).collect();
    for body in [every_byte, vec![0], vec![b'x'; 65_536], vec![b'y'; 65_537], large] {
        let expected = data_encoding::HEXLOWER.encode(&Sha256::digest(&body));
        fixture.request = Request { headers: Some(b"{}".to_vec()), body };
        let (headers, body) = parameter_file_names(fixture.run);
        let (how, text) = fixture.script(&format!("sha256sum; sha256sum < {body}; cat {headers}"));
        assert_eq!(how, HowEnded::Exited(0), "{text}");
        assert_eq!(text, format!("{expected}  -\n{expected}  -\n{{}}"));
    }
    fixture.request = Request::default();
    assert_eq!(fixture.script("cat; readlink /proc/self/fd/0").1, "/dev/null\n");
}

#[test]
fn a_vessel_need_not_read_its_input() {
    let mut fixture = Fixture::new(GRACE);
    fixture.request.body = vec![b'x'; 1 << 20];
    assert_eq!(fixture.script("echo done").1, "done\n");
    assert_eq!(fixture.script("exec <&-; sleep 0.1; echo done").1, "done\n");
    assert_eq!(fixture.script("head -c 3; echo done").1, "xxxdone\n");
}

/// A body that can be read once, for its file, and then fails in the middle.
struct FailingBody {
    was_opened: AtomicBool,
}

impl Payload for FailingBody {
    fn headers_json(&self) -> Option<&[u8]> {
        None
    }

    fn body_bytes(&self) -> u64 {
        1 << 20
    }

    fn open_body(&self) -> Box<dyn Read + Send + '_> {
        let bytes = if self.was_opened.swap(true, SeqCst) { 300_000 } else { 1 << 20 };
        Box::new(io::repeat(b'x').take(bytes))
    }
}

#[test]
fn a_vessel_with_half_a_body_is_not_started() {
    let fixture = Fixture::new(GRACE);
    for was_opened in [false, true] {
        let launch = Launch {
            run: fixture.run,
            vessel_run: fixture.run.vessel_run(0),
            attempt: 1,
            program: &Program::Script("cat > /dev/null; echo whole".to_owned()),
            working_directory: None,
            runner: None,
            cleans_first: false,
            user: None,
            confinement: &Confinement::default(),
            environment: &fixture.environment,
            references: &[],
            secrets: &[],
            payload: &FailingBody { was_opened: AtomicBool::new(was_opened) },
            runtime_cutoff: Duration::ZERO,
            may_answer: false,
            expects_directory: false,
            notices: &[],
        };
        let ended = fixture.launcher.launch(&launch, &fixture.stop, &LiveOutput::default());
        assert!(matches!(ended.how, HowEnded::NotStarted(_)), "{ended:?}");
        let Kept::Inline(output) = ended.output.kept else { panic!("no reason") };
        assert!(output.starts_with(b"boathook: "), "{}", String::from_utf8_lossy(&output));
    }
}

#[test]
fn both_streams_arrive_in_order() {
    let mut fixture = Fixture::new(GRACE);
    let script = "i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); echo $i >&2; i=$((i+1)); done";
    let expected: String = (0..400).map(|line| format!("{line}\n")).collect();
    assert_eq!(fixture.script(script), (HowEnded::Exited(0), expected));
}

#[test]
fn head_and_tail_of_endless_output_are_kept() {
    let mut fixture = Fixture::new(GRACE);
    fixture.program = Program::Script("echo start; head -c 6000000 /dev/zero; echo end".to_owned());
    let ended = fixture.launch();
    assert_eq!(ended.how, HowEnded::Exited(0));
    fixture.output.finish();
    assert_eq!(ended.output.bytes, 6_000_010);
    assert!(matches!(ended.output.kept, Kept::File));
    assert!(fixture.output.read(0, PATIENCE).unwrap().bytes.starts_with(b"start\n\0"));
    let tail = fixture.output.read(50_000, PATIENCE).unwrap();
    assert_eq!(tail.offset, 6_000_010 - 50_000);
    assert!(tail.ended && tail.bytes.ends_with(b"\0end\n"));
}

#[test]
fn followers_see_output_before_the_vessel_ends() {
    let mut fixture = Fixture::new(GRACE);
    // The vessel waits for a file that the test makes when it has seen the output.
    let script = "echo ready; while [ ! -e go ]; do sleep 0.01; done; echo gone";
    let ended = fixture.launch_and(script, "ready", |fixture| {
        fs::write(fixture.work().join("go"), "").unwrap();
    });
    assert_eq!(ended.how, HowEnded::Exited(0));
    assert_eq!(ended.output.bytes, 11);
}

#[test]
fn background_processes_end_with_their_vessel() {
    let mut fixture = Fixture::new(GRACE);
    let (how, pid) = fixture.script("sleep 1000 & echo $!");
    assert_eq!(how, HowEnded::Exited(0));
    assert!(is_gone(&pid), "{pid}");
    // Processes that ignore SIGTERM, are stopped, or were forked twice.
    let mut fixture = Fixture::new(SHORT);
    let (_, pids) = fixture.script(
        "(trap '' TERM; : > deaf; while :; do sleep 1000; done) & echo $!; \
         (sleep 1000 & echo $!); sleep 1000 & echo $!; kill -STOP $!; \
         while [ ! -e deaf ]; do sleep 0.01; done",
    );
    for pid in pids.lines() {
        assert!(is_gone(pid), "{pid}");
    }
    assert_eq!(pids.lines().count(), 3, "{pids}");
}

#[test]
fn a_process_outside_of_the_group_that_holds_the_pipe_delays_nothing() {
    let mut fixture = Fixture::new(GRACE);
    let (how, pid) = fixture.script(
        "setsid sh -c 'echo $$; : > up; exec sleep 1000' & \
         while [ ! -e up ]; do sleep 0.01; done; exit 3",
    );
    assert_eq!(how, HowEnded::Exited(3));
    assert!(!is_gone(&pid), "it left the group: {pid}");
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    // A process that writes forever gets SIGPIPE and delays nothing.
    fixture.program = Program::Script(
        "setsid sh -c ': > up; exec yes' & while [ ! -e up ]; do sleep 0.01; done; exit 4".into(),
    );
    fixture.launcher.wipe_directory(fixture.run);
    fixture.output = Arc::default();
    assert_eq!(fixture.launch().how, HowEnded::Exited(4));
}

#[test]
fn a_stop_ends_the_vessel_by_sigterm() {
    let mut fixture = Fixture::new(GRACE);
    let ended = fixture.launch_and("sleep 1000 & echo $!; wait", "\n", |fixture| {
        fixture.stop.raise(Stop::Requested);
    });
    assert_eq!(ended.how, HowEnded::Signaled(15));
    let Kept::Inline(pid) = ended.output.kept else { panic!() };
    assert!(is_gone(std::str::from_utf8(&pid).unwrap()));
    fixture.stop.reset();
    let polite = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let ended = fixture.launch_and(polite, "ready", |fixture| fixture.stop.raise(Stop::Requested));
    assert_eq!(ended.how, HowEnded::Exited(7));
    fixture.stop.reset();
    let ended = fixture.launch_and(polite, "ready", |fixture| fixture.stop.raise(Stop::Abandon));
    assert_eq!(ended.how, HowEnded::Abandoned);
    // The stop is still raised: the next attempt does not start.
    assert_eq!(fixture.script("echo started"), (HowEnded::Abandoned, String::new()));
}

#[test]
fn a_vessel_that_ignores_sigterm_is_killed_after_the_grace() {
    let mut fixture = Fixture::new(SHORT);
    let deaf = "trap '' TERM; echo ready; while :; do sleep 1000; done";
    let ended = fixture.launch_and(deaf, "ready", |fixture| fixture.stop.raise(Stop::Requested));
    assert_eq!(ended.how, HowEnded::Signaled(9));
}

#[test]
fn a_vessel_ends_at_its_cutoff() {
    let mut fixture = Fixture::new(SHORT);
    fixture.runtime_cutoff = SHORT;
    assert_eq!(fixture.script("exec sleep 1000").0, HowEnded::CutOff);
    // A vessel that writes without a pause as well.
    fixture.program = Program::Script("trap '' TERM; while :; do echo y; done".to_owned());
    fixture.output = Arc::default();
    assert_eq!(fixture.launch().how, HowEnded::CutOff);
    fixture.runtime_cutoff = PATIENCE;
    assert_eq!(fixture.script("exit 4").0, HowEnded::Exited(4));
}

#[test]
fn a_program_that_cannot_start_has_a_reason() {
    let mut fixture = Fixture::new(GRACE);
    fixture.working_directory = Some(fixture.root.path().display().to_string());
    fixture.file("plain", b"echo hi\n", 0o644);
    fixture.file("no-line", b"echo hi\n", 0o755);
    fixture.file("empty", b"", 0o755);
    fixture.file("crlf", b"#!/bin/sh\r\necho hi\r\n", 0o755);
    fixture.file("bad", b"#!/no/such/interpreter -x\n", 0o755);
    fs::create_dir(fixture.root.path().join("folder")).unwrap();
    symlink("nowhere", fixture.root.path().join("dangling")).unwrap();
    for (command, parts) in [
        ("no-such-program", &["`no-such-program` was not found in PATH (/usr/bin:/bin)"][..]),
        ("./missing", &["/missing: No such file or directory"]),
        ("./plain/x", &["Not a directory"]),
        ("./plain", &["Permission denied", "not executable: chmod +x"]),
        ("./folder", &["Permission denied", "is a directory"]),
        ("./dangling", &["No such file", "link to something that is not there"]),
        ("./no-line", &["Exec format error", "`#!/bin/sh`"]),
        ("./empty", &["Exec format error", "the file is empty"]),
        ("./crlf", &["No such file", "CR LF"]),
        ("./bad", &["No such file", "interpreter `/no/such/interpreter`"]),
        ("", &["command is empty"]),
        ("./nul\0", &["NUL byte"]),
    ] {
        let ended = fixture.command(&[command]);
        let reason = not_started(&ended);
        for part in parts {
            assert!(reason.contains(part), "{command:?}: {reason}");
        }
    }
    fixture.environment.replace("PATH", &fixture.root.path().display().to_string());
    assert!(not_started(&fixture.command(&["plain"])).contains("not executable: chmod +x"));
    fixture.working_directory = Some("/no/such/directory".to_owned());
    let ended = fixture.script("echo hi");
    assert!(not_started(&ended).contains("working directory /no/such/directory: No such file"));
}

#[test]
fn the_reason_for_a_large_environment_has_its_size() {
    let mut fixture = Fixture::new(GRACE);
    fixture.environment.set("BIG", "x".repeat(140_000));
    let ended = fixture.script("echo hi");
    let reason = not_started(&ended);
    assert!(reason.contains("Argument list too long"), "{reason}");
    assert!(reason.contains("140005") && reason.contains("SHIPYARD_WEBHOOK_BODY_FILE"), "{reason}");
}

#[test]
fn without_a_work_directory_the_start_is_postponed() {
    let mut fixture = Fixture::new(GRACE);
    fs::remove_dir(fixture.root.path().join("work")).unwrap();
    assert_eq!(fixture.script("exit 0").0, HowEnded::Exited(0), "made again");
    fs::remove_dir_all(fixture.root.path().join("work")).unwrap();
    fs::write(fixture.root.path().join("work"), "in the way").unwrap();
    let (how, output) = fixture.script("exit 0");
    let HowEnded::Postponed(Shortage { reason, has_started: false }) = how else {
        panic!("{how:?}")
    };
    assert!(reason.starts_with("cannot make "), "{reason}");
    assert_eq!(output, format!("boathook: {reason}\n"));
}
