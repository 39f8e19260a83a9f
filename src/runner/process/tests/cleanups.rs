//! Runners and their cleanups: the words before the program's own, and which ends are cleaned up.

use super::*;

impl Fixture {
    /// A runner whose cleanup writes `cleaned`, and then does `more`.
    fn with_cleanup(more: &str) -> Self {
        let mut fixture = Self::new(GRACE);
        let script = format!("echo cleaned $0 $(pwd); {more}");
        let cleanup = ["sh", "-c", &script, "${NAME}"].map(str::to_owned).to_vec();
        fixture.environment.set("NAME", "job");
        fixture.runner = Some(Runner { cleanup, ..Runner::default() });
        fixture
    }

    fn cleaned(&self) -> String {
        format!("cleaned job {}\n", self.work().display())
    }
}

/// How often the cleanup has run.
fn count(log: &str) -> usize {
    log.matches("cleaned job").count()
}

#[test]
fn words_of_a_runner_go_before_the_programs_own() {
    let mut fixture = Fixture::new(GRACE);
    fixture.environment.set("WHO", "a b");
    let command = ["env", "X=1", "Y=${WHO}", "Z=${NOPE}$WHO"].map(str::to_owned).to_vec();
    fixture.runner = Some(Runner { command, ..Runner::default() });
    let expected = (HowEnded::Exited(0), "1|a b|${NOPE}$WHO\n".to_owned());
    assert_eq!(fixture.script("echo \"$X|$Y|$Z\""), expected);
    let words = ["sh", "-c", "echo \"$X|$Y|$Z\""];
    assert_eq!(fixture.command(&words), expected);
    let (how, log) = fixture.command(&["no-such-program"]);
    // `env` looks for it, and says so.
    assert!(how == HowEnded::Exited(127) && log.contains("no-such-program"), "{how:?}: {log}");
    fixture.runner = Some(Runner { command: vec!["no-such-runner".into()], ..Runner::default() });
    let (how, log) = fixture.script("true");
    assert!(
        matches!(how, HowEnded::NotStarted(_)) && log.contains("`no-such-runner` was not found")
    );
}

#[test]
fn an_end_of_the_programs_own_is_not_cleaned_up() {
    let mut fixture = Fixture::with_cleanup("");
    for (script, how) in [("exit 0", HowEnded::Exited(0)), ("exit 143", HowEnded::Exited(143))] {
        assert_eq!(fixture.script(script), (how, String::new()));
    }
}

#[test]
fn a_signal_a_cutoff_and_a_stop_are_cleaned_up_in_the_vessels_directory() {
    let mut fixture = Fixture::with_cleanup("");
    let (how, log) = fixture.script("kill -9 $$");
    assert_eq!(how, HowEnded::Signaled(9));
    assert!(log.ends_with(&fixture.cleaned()), "{log}");
    fixture.runtime_cutoff = SHORT;
    let (how, log) = fixture.script("trap 'exit 0' TERM; sleep 1000 & wait");
    assert_eq!(how, HowEnded::CutOff);
    assert!(log.ends_with(&fixture.cleaned()), "{log}");
    fixture.runtime_cutoff = Duration::ZERO;
    for stop in [Stop::Requested, Stop::Abandon] {
        let script = "trap 'exit 0' TERM; echo up; sleep 1000 & wait";
        let ended = fixture.launch_and(script, "up", |fixture| fixture.stop.raise(stop));
        let Kept::Inline(log) = ended.output.kept else { panic!("no log") };
        let log = String::from_utf8(log).unwrap();
        assert!(log.ends_with(&fixture.cleaned()) && count(&log) == 1, "{stop:?}: {log}");
        fixture.stop.reset();
    }
}

#[test]
fn an_attempt_that_may_follow_another_is_cleaned_up_before() {
    let mut fixture = Fixture::with_cleanup("exit 3");
    fixture.cleans_first = true;
    let (how, log) = fixture.script("echo started");
    assert_eq!(how, HowEnded::Exited(0));
    let (before, after) = log.split_once("boathook: the cleanup ended with exit code 3\n").unwrap();
    assert!(before.ends_with(&fixture.cleaned()) && after == "started\n", "{log}");
}

#[test]
fn a_cleanup_that_does_not_end_keeps_the_next_attempt_from_starting() {
    let mut fixture = Fixture::with_cleanup("exec sleep 1000");
    fixture.runner.as_mut().unwrap().cleanup_timeout = SHORT;
    fixture.cleans_first = true;
    let (how, log) = fixture.script("echo started");
    let HowEnded::NotStarted(reason) = how else { panic!("{how:?}") };
    assert!(reason.contains("an earlier attempt may still be running"), "{reason}");
    assert!(reason.contains("did not end within 50ms"), "{reason}");
    assert!(!log.contains("started\n"), "{log}");
    // After an attempt it is a line in the log.
    fixture.cleans_first = false;
    let (how, log) = fixture.script("kill -9 $$");
    assert_eq!(how, HowEnded::Signaled(9));
    assert!(log.ends_with("the cleanup failed: it did not end within 50ms (`cleanup_timeout`)\n"));
}

#[test]
fn a_stop_waits_for_a_cleanup_that_has_begun() {
    let mut fixture = Fixture::with_cleanup("cat fifo");
    fixture.cleans_first = true;
    fs::create_dir_all(fixture.work()).unwrap();
    let fifo = fixture.work().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let ended = fixture.launch_and("echo started", "cleaned", |fixture| {
        fixture.stop.raise(Stop::Requested);
        fs::write(&fifo, "to its end\n").unwrap();
    });
    assert!(matches!(ended.how, HowEnded::NotStarted(_)), "{ended:?}");
    let Kept::Inline(log) = ended.output.kept else { panic!("no log") };
    let log = String::from_utf8(log).unwrap();
    assert!(log.contains("to its end\n") && !log.contains("\nstarted\n"), "{log}");
}

#[test]
fn the_cleanup_of_an_interrupted_attempt_continues_its_log() {
    let fixture = Fixture::with_cleanup("");
    let output_dir = fixture.root.path().join("output");
    let vessel_run = fixture.run.vessel_run(0);
    // What the server that crashed had kept.
    let written = LiveOutput::default();
    written.begin(&output_dir, vessel_run, 1, 100_000);
    written.append(&vec![b'x'; 70_000]);
    written.append(b"\n");
    drop(written);
    for _ in 0..2 {
        let output = LiveOutput::default();
        output.resume(&output_dir, vessel_run, 1, 100_000).unwrap();
        fixture.clean_up(&output);
        output.keep();
    }
    let stored = crate::runner::output::StoredOutput::open(&output_dir, vessel_run, 1).unwrap();
    let mut log = String::new();
    loop {
        let chunk = stored.read(log.len() as u64).unwrap();
        log += std::str::from_utf8(&chunk.bytes).unwrap();
        if chunk.ended {
            break;
        }
    }
    assert!(log.starts_with(&("x".repeat(70_000) + "\nboathook: ")), "{}", &log[70_000..]);
    assert_eq!(count(&log), 2, "{}", &log[70_000..]);
    // Without a file before there is one afterwards.
    let output = LiveOutput::default();
    output.resume(&output_dir, vessel_run, 2, 100_000).unwrap();
    fixture.clean_up(&output);
    output.keep();
    assert!(crate::runner::output::has_output(&output_dir, vessel_run, 2));
}

#[test]
fn a_retired_directory_counts_as_gone_until_it_is_wiped() {
    let fixture = Fixture::with_cleanup("");
    let (launcher, run) = (&fixture.launcher, fixture.run);
    fs::create_dir_all(fixture.work()).unwrap();
    assert!(launcher.has_directory(run));
    launcher.retire_directory(run);
    assert!(!launcher.has_directory(run) && fixture.work().is_dir());
    // It is not what a run is.
    launcher.sweep_directories(&|_| false);
    launcher.wipe_retired(run);
    assert!(!fixture.work().exists());
    fs::create_dir_all(fixture.work()).unwrap();
    assert!(launcher.has_directory(run), "a new directory is there again");
}
