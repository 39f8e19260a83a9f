//! A vessel's process group ends with the vessel.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::{Journal, Server, processes, wait_until};

/// Scripts that are hard to end. Each of their processes writes a line to the journal when it runs.
const STUBBORN: [(&str, &str); 3] = [
    (
        "ignores SIGTERM",
        "trap '' TERM; echo up >> $JOURNAL; echo up >> $JOURNAL; while :; do sleep 1000; done",
    ),
    (
        "double-forks",
        "( ( trap '' TERM; echo up >> $JOURNAL; exec sleep 100000 ) & ) & wait
         echo up >> $JOURNAL; exec sleep 100000",
    ),
    (
        "leaves a child behind",
        "sh -c 'echo up >> $JOURNAL; exec sleep 100000' & echo up >> $JOURNAL; exec sleep 100000",
    ),
];

/// A fleet whose vessel runs `script` in its first attempt. Later attempts report whether a process
/// of the first is left.
fn stubborn_fleet(name: &str, script: &str, journal: &Journal, guardrails: &Value) -> Value {
    let script = format!(
        r#"
if [ "$BOATHOOK_ATTEMPT" -gt 1 ]; then
    for environment in /proc/[0-9]*/environ; do
        if tr '\0' '\n' < "$environment" 2>/dev/null | grep -qx "LEFTOVER_OF=$SHIPYARD_LOG_ID"; then
            echo "still there: $environment" >> $JOURNAL
        fi
    done
    exit 0
fi
export LEFTOVER_OF=$SHIPYARD_LOG_ID
{script}
"#
    );
    json!({"name": name, "vessels": {"v": {
        "run": script,
        "environment": {"JOURNAL": journal.path()},
        "guardrails": guardrails,
    }}})
}

/// Waits until both processes of the stubborn vessel run.
fn wait_both_up(journal: &Journal) {
    wait_until("both processes are up", || journal.lines().len() >= 2);
}

fn processes_of(run: &str) -> Vec<i32> {
    processes::with_environment(&format!("SHIPYARD_FLEET_LOG_ID={run}"))
}

#[test]
fn background_processes_end_with_their_vessel() {
    let server = Server::start();
    let api = server.api();
    let journal = server.journal("journal");
    // The children hold the pipe of the output open, and one of them ignores SIGTERM.
    let script = format!(
        "sleep 100000 & sh -c 'trap \"\" TERM; echo up >> {journal}; exec sleep 100000' &
         ( ( sleep 100000 ) & ) &
         while [ ! -s {journal} ]; do sleep 0.02; done; echo done"
    );
    let run = api.start(&api.apply(&json!({"name": "leaves", "vessels": {"v": {"run": script}}})));
    let ended = api.wait_status(&run, "Success");
    assert_eq!(processes_of(&run), Vec::<i32>::new(), "the run has ended, its processes have not");
    assert_eq!(api.output(&ended, "v"), "done\n");
}

#[test]
fn a_stop_ends_the_whole_group() {
    let server = Server::start();
    let api = server.api();
    for (name, script) in STUBBORN {
        let journal = server.journal(name.split(' ').next().unwrap());
        let fleet = api.apply(&stubborn_fleet(name, script, &journal, &json!({})));
        let run = api.start(&fleet);
        wait_both_up(&journal);
        assert!(!processes_of(&run).is_empty(), "{name}: the processes are found at all");
        api.call("POST", &format!("/api/v1/runs/{run}/stop"), None).expect(200);
        api.wait_status(&run, "Terminated");
        assert_eq!(processes_of(&run), Vec::<i32>::new(), "{name}");
    }
}

#[test]
fn a_cutoff_ends_the_whole_group() {
    let server = Server::start();
    let api = server.api();
    for (name, script) in STUBBORN {
        let journal = server.journal(name.split(' ').next().unwrap());
        // Long enough for the processes to start on a busy machine; otherwise the vessel is
        // retried.
        let guardrails = json!({"runtime_cutoff": "5s"});
        let run = api.start(&api.apply(&stubborn_fleet(name, script, &journal, &guardrails)));
        wait_both_up(&journal);
        api.wait_status(&run, "Errored");
        assert_eq!(processes_of(&run), Vec::<i32>::new(), "{name}");
    }
}

#[test]
fn leftovers_of_a_killed_server_end_before_their_run_goes_on() {
    for (name, script) in STUBBORN {
        let mut server = Server::start();
        let journal = server.journal("journal");
        let api = server.api();
        let run = api.start(&api.apply(&stubborn_fleet(name, script, &journal, &json!({}))));
        wait_both_up(&journal);
        server.kill();
        let left = processes_of(&run);
        assert!(
            left.len() >= 2 || name == "ignores SIGTERM",
            "{name}: {left:?} outlive the server"
        );
        server.start_again();
        let ended = server.api().wait_status(&run, "Success");
        assert_eq!(vessel_of(&ended, "v")["attempt"], 2, "{name}");
        assert_eq!(journal.lines(), ["up", "up"], "{name}");
        assert_eq!(processes_of(&run), Vec::<i32>::new(), "{name}");
    }
}

#[test]
fn an_orderly_stop_ends_the_whole_group() {
    for (name, script) in STUBBORN {
        let mut server = Server::builder().setting("shutdown_grace", "1s").start();
        let journal = server.journal("journal");
        let api = server.api();
        let run = api.start(&api.apply(&stubborn_fleet(name, script, &journal, &json!({}))));
        wait_both_up(&journal);
        server.stop();
        assert_eq!(processes_of(&run), Vec::<i32>::new(), "{name}");
        server.start_again();
        server.api().wait_status(&run, "Success");
        assert_eq!(journal.lines(), ["up", "up"], "{name}");
    }
}

#[test]
fn a_restart_spares_the_processes_of_other_servers() {
    let mut server = Server::start();
    let other = Server::start();
    let journal = other.journal("journal");
    let script = format!("echo up >> {journal}; exec sleep 100000");
    let definition = json!({"name": "other", "vessels": {"v": {"run": script}}});
    let run = other.api().start(&other.api().apply(&definition));
    journal.wait_for_line("up");
    let before = processes_of(&run);
    assert!(!before.is_empty());
    server.crash_and_restart();
    assert_eq!(processes_of(&run), before);
    assert!(Path::new(&format!("/proc/{}", before[0])).exists());
}
