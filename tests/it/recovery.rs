//! What happens to runs that the end of the server interrupts: where they go on, how often they
//! are tried, and what an orderly stop does differently.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::{Hook, Journal, Server};

/// Notes `name attempt` in the journal.
fn note(name: &str, journal: &Journal) -> String {
    format!("echo \"{name} $BOATHOOK_ATTEMPT\" >> {journal}\n")
}

/// Vessels a, b, c in a row. `a` leaves a file; the first attempt of `b` alters the request's
/// body file and hangs, later ones print what they find.
fn three_vessels(journal: &Journal) -> Value {
    let b = format!(
        "{}
if [ \"$BOATHOOK_ATTEMPT\" = 1 ]; then
    echo altered > \"$SHIPYARD_WEBHOOK_BODY_FILE\"; pwd > {journal}.directory
    echo altered >> {journal}; exec sleep 100000
fi
cat made-by-a; cat; cat \"$SHIPYARD_WEBHOOK_BODY_FILE\"",
        note("b", journal)
    );
    json!({
        "name": "three",
        "vessels": {
            "a": {"run": format!("{} echo from-a > made-by-a", note("a", journal))},
            "b": {"run": b},
            "c": {"run": note("c", journal)},
        },
        "connections": {"a": {"b": "SUCCESS"}, "b": {"c": "SUCCESS"}},
    })
}

/// A run of [`three_vessels`] that hangs in its second vessel.
fn start_three(server: &Server, journal: &Journal) -> String {
    let (_, hook) = server.fleet_with_webhook(&three_vessels(journal));
    let run = hook.post(server.hooks(), &[], b"as sent\n");
    journal.wait_for_line("altered");
    run
}

#[test]
fn a_crashed_run_goes_on_at_the_first_vessel_without_a_recorded_end() {
    let mut server = Server::start();
    let journal = server.journal("journal");
    let run = start_three(&server, &journal);
    server.crash_and_restart();
    let api = server.api();
    let ended = api.wait_status(&run, "Success");
    assert_eq!(journal.lines(), ["a 1", "b 1", "altered", "b 2", "c 1"]);
    assert_eq!(vessel_of(&ended, "a")["attempt"], 1);
    assert_eq!(vessel_of(&ended, "b")["attempt"], 2);
    assert_eq!(vessel_of(&ended, "c")["attempt"], 1);
    // The directory was still there; the body came from the database all the same.
    assert!(api.output(&ended, "b").ends_with("from-a\nas sent\nas sent\n"));
}

#[test]
fn a_run_whose_directory_is_gone_starts_again_and_says_so() {
    let mut server = Server::start();
    let journal = server.journal("journal");
    let run = start_three(&server, &journal);
    let directory = fs::read_to_string(format!("{journal}.directory")).unwrap();
    let directory = PathBuf::from(directory.trim_end());
    server.kill();
    fs::remove_dir_all(&directory).unwrap();
    server.start_again();
    let api = server.api();
    let ended = api.wait_status(&run, "Success");
    assert_eq!(journal.lines(), ["a 1", "b 1", "altered", "a 2", "b 2", "c 1"]);
    assert!(api.output(&ended, "b").ends_with("from-a\nas sent\nas sent\n"));
    let log = api.output(&ended, "a");
    assert!(log.contains("directory"), "the run's log says why it starts again: {log:?}");
}

#[test]
fn crashes_do_not_use_up_retries() {
    let mut server = Server::start();
    let journal = server.journal("journal");
    // The first attempt is killed by the crash, the second fails by itself, the third works.
    let script = format!(
        "{}case $BOATHOOK_ATTEMPT in 1) exec sleep 100000;; 2) exit 1;; esac",
        note("v", &journal)
    );
    let api = server.api();
    let fleet = api.apply(&json!({
        "name": "retried", "vessels": {"v": {"run": script, "guardrails": {"retry_count": 1}}},
    }));
    let run = api.start(&fleet);
    journal.wait_for_line("v 1");
    server.crash_and_restart();
    let ended = server.api().wait_status(&run, "Success");
    assert_eq!(journal.lines(), ["v 1", "v 2", "v 3"]);
    assert_eq!(vessel_of(&ended, "v")["attempt"], 3);
}

#[test]
fn a_retry_that_waits_is_still_due_after_a_crash() {
    let mut server = Server::start();
    let journal = server.journal("journal");
    let api = server.api();
    let script = format!("{}[ $BOATHOOK_ATTEMPT -ge 2 ]", note("v", &journal));
    let guardrails = json!({"retry_count": 1, "retry_wait": "3s"});
    let fleet = api.apply(&json!({
        "name": "due", "vessels": {"v": {"run": script, "guardrails": guardrails}},
    }));
    let run = api.start(&fleet);
    journal.wait_for_line("v 1");
    server.wait_until("the vessel waits for its retry", || {
        vessel_of(&api.run(&run), "v")["status"] != "Running"
    });
    server.crash_and_restart();
    server.api().wait_status(&run, "Success");
    assert_eq!(journal.lines(), ["v 1", "v 2"]);
}

#[test]
fn a_run_that_kills_the_server_is_given_up_without_its_neighbours() {
    const CRASH_ATTEMPTS_MAX: usize = 3;
    let mut server = Server::start();
    let journal = server.journal("journal");
    let poison = format!(
        "{}while ! grep -q neighbour {journal}; do sleep 0.02; done; kill -9 $PPID; sleep 100000",
        note("poison", &journal)
    );
    let neighbour = format!(
        "{}if [ $BOATHOOK_ATTEMPT = 1 ]; then exec sleep 100000; fi",
        note("neighbour", &journal)
    );
    let api = server.api();
    let poison = api.apply(&json!({"name": "poison", "vessels": {"v": {"run": poison}}}));
    let neighbour = api.apply(&json!({"name": "neighbour", "vessels": {"v": {"run": neighbour}}}));
    let run = api.start(&poison);
    let beside = api.start(&neighbour);

    for crash in 1..=CRASH_ATTEMPTS_MAX {
        let status = server.wait_exit();
        assert!(status.code().is_none(), "crash {crash}: {status}");
        server.start_again();
    }
    let api = server.api();
    let ended = api.wait_status(&run, "Errored");
    let reason = ended["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("crash"), "{ended:#}");
    let poisoned = journal.lines().iter().filter(|line| line.starts_with("poison")).count();
    assert_eq!(poisoned, CRASH_ATTEMPTS_MAX);

    let ended = api.wait_status(&beside, "Success");
    assert_eq!(vessel_of(&ended, "v")["attempt"], 2, "one crash and then its turn alone");
}

#[test]
fn an_orderly_stop_counts_as_no_crash() {
    let mut server = Server::builder()
        .setting("shutdown_grace", "1s")
        .setting("max_crash_attempts", "1")
        .start();
    let journal = server.journal("journal");
    let gate = server.scratch().join("gate");
    let script = format!("{}[ -e {} ] || exec sleep 100000", note("v", &journal), gate.display());
    let fleet =
        server.api().apply(&json!({"name": "interrupted", "vessels": {"v": {"run": script}}}));
    let run = server.api().start(&fleet);
    for attempt in 1..=3 {
        journal.wait_for_line(&format!("v {attempt}"));
        server.stop();
        server.start_again();
    }
    journal.wait_for_line("v 4");
    server.stop();
    fs::write(gate, "").unwrap();
    server.start_again();
    let ended = server.api().wait_status(&run, "Success");
    assert_eq!(vessel_of(&ended, "v")["attempt"], 5);
}

#[test]
fn a_stopping_server_accepts_until_its_vessels_have_finished() {
    let mut server = Server::builder().setting("shutdown_grace", "10m").start();
    let journal = server.journal("journal");
    let gate = server.scratch().join("gate");
    let script =
        format!("{}while [ ! -e {} ]; do sleep 0.02; done", note("v", &journal), gate.display());
    let vessels = json!({"v": {"run": script}, "w": {"run": note("w", &journal)}});
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "finishing", "vessels": vessels, "connections": {"v": {"w": "SUCCESS"}},
    }));
    let first = hook.post(server.hooks(), &[], b"first");
    journal.wait_for_line("v 1");
    signal_and_wait_until_noticed(&server, Signal::TERM);
    let second = hook.post(server.hooks(), &[], b"second");
    fs::write(gate, "").unwrap();
    assert_eq!(server.wait_exit().code(), Some(0), "{}", server.log_tail());
    assert_eq!(journal.lines(), ["v 1"], "a stopping server starts nothing");

    server.start_again();
    let api = server.api();
    api.wait_status(&first, "Success");
    api.wait_status(&second, "Success");
    let mut lines = journal.lines();
    lines.sort();
    assert_eq!(lines, ["v 1", "v 1", "w 1", "w 1"]);
}

#[test]
fn a_second_signal_skips_the_grace() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::builder().setting("shutdown_grace", "10m").start();
        let journal = server.journal("journal");
        let script = format!("{}exec sleep 100000", note("v", &journal));
        let fleet =
            server.api().apply(&json!({"name": "hangs", "vessels": {"v": {"run": script}}}));
        server.api().start(&fleet);
        journal.wait_for_line("v 1");
        signal_and_wait_until_noticed(&server, signal);
        server.signal(signal);
        assert_eq!(server.wait_exit().code(), Some(0), "{}", server.log_tail());
    }
}

/// Sends a signal and waits until the log says something about it: a second one that comes
/// before the first was taken would be lost.
fn signal_and_wait_until_noticed(server: &Server, signal: Signal) {
    let before = server.log().len();
    server.signal(signal);
    server.wait_until("the log mentions the stop", || {
        server.log()[before..].to_lowercase().contains("stop")
    });
}

#[test]
fn at_most_once_ends_an_interrupted_run() {
    let mut server = Server::builder().setting("shutdown_grace", "1s").start();
    let journal = server.journal("journal");
    let script = format!("{}exec sleep 100000", note("v", &journal));
    let definition = json!({
        "name": "once",
        "delivery": "at_most_once",
        "vessels": {"v": {"run": script}, "w": {"run": note("w", &journal)}},
        "connections": {"v": {"w": "COMPLETED"}},
    });
    let (_, hook) = server.fleet_with_webhook(&definition);
    let crashed = hook.post(server.hooks(), &[], b"");
    journal.wait_for_line("v 1");
    server.crash_and_restart();
    check_interrupted(&server, &crashed, &journal);

    fs::remove_file(journal.path()).unwrap();
    let stopped = hook.post(server.hooks(), &[], b"");
    journal.wait_for_line("v 1");
    server.stop();
    server.start_again();
    check_interrupted(&server, &stopped, &journal);

    let api = server.api();
    let mut retried = definition;
    retried["vessels"]["v"]["guardrails"] = json!({"retry_count": 1});
    let answer = api.put("/api/v1/fleets?by=name", &retried);
    assert!(matches!(answer.status, 400 | 422), "{}", answer.status);
    assert!(answer.error().contains("retry_count"), "{}", answer.error());
}

fn check_interrupted(server: &Server, run: &str, journal: &Journal) {
    let ended = server.api().wait_status(run, "Errored");
    let vessel = vessel_of(&ended, "v");
    assert_eq!((&vessel["status"], &vessel["attempt"]), (&json!("Errored"), &json!(1)));
    let reason = format!("{} {}", ended["reason"], vessel["reason"]);
    assert!(reason.contains("at_most_once") || reason.contains("interrupt"), "{reason}");
    let starts = journal.lines().iter().filter(|line| line.starts_with("v ")).count();
    assert_eq!(starts, 1);
}

#[test]
fn queued_runs_and_webhooks_survive_a_crash() {
    let mut server = Server::builder().setting("workers", "1").start();
    let journal = server.journal("journal");
    let gate = server.scratch().join("gate");
    let script = format!(
        "read -r body; echo $body >> {journal}; while [ ! -e {} ]; do sleep 0.02; done",
        gate.display()
    );
    let (_, hook): (String, Hook) =
        server.fleet_with_webhook(&json!({"name": "queued", "vessels": {"v": {"run": script}}}));
    let runs: Vec<String> = (0..20)
        .map(|number| hook.post(server.hooks(), &[], format!("{number}\n").as_bytes()))
        .collect();
    journal.wait_for_line("0");
    server.crash_and_restart();
    fs::write(gate, "").unwrap();
    let api = server.api();
    for run in &runs {
        api.wait_status(run, "Success");
    }
    // First come, first served; the interrupted one may go before or after the others.
    let mut started: Vec<String> = journal.lines();
    assert_eq!(started.remove(0), "0");
    let rest: Vec<String> = started.into_iter().filter(|line| line != "0").collect();
    let expected: Vec<String> = (1..20).map(|number| number.to_string()).collect();
    assert_eq!(rest, expected);
    hook.post(server.hooks(), &[], b"");
}

/// What ignores SIGTERM is killed after the grace. Only starting vessels waits for that.
#[test]
fn a_crashed_server_accepts_at_once_while_leftovers_end() {
    let mut server = Server::builder().setting("kill_grace", "5s").start();
    let journal = server.journal("journal");
    let script = format!(
        "trap '' TERM; echo $BOATHOOK_ATTEMPT $$ >> {journal}; \
         while [ $BOATHOOK_ATTEMPT = 1 ]; do sleep 0.1; done"
    );
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "stubborn", "concurrency": 1, "vessels": {"v": {"run": script}},
    }));
    let first = hook.post(server.hooks(), &[], b"first");
    server.wait_until("the vessel runs", || journal.lines().len() == 1);
    let leftover = journal.lines()[0].split(' ').nth(1).unwrap().to_owned();
    let is_left = || std::path::Path::new("/proc").join(&leftover).exists();
    let mut others = Vec::new();
    // The second crash comes while the leftover of the first one is still there.
    for _ in 0..2 {
        server.crash_and_restart();
        others.push(hook.post(server.hooks(), &[], b"meanwhile"));
        assert!(is_left(), "it took until the leftovers had ended");
        assert_eq!(journal.lines().len(), 1, "nothing starts beside a leftover");
    }
    let api = server.api();
    server.wait_until("the leftover is gone", || !is_left());
    let ended = api.wait_status(&first, "Success");
    assert_eq!(vessel_of(&ended, "v")["attempt"], 2, "{ended:#}");
    assert_eq!(server.log().matches("ended what a crashed server had left running").count(), 1);
    // The others are at their first attempt, which does not end by itself.
    for run in others {
        api.call("POST", &format!("/api/v1/runs/{run}/stop"), None).expect(200);
        api.wait_status(&run, "Terminated");
    }
}
