//! Processes that a vessel starts in other groups or sessions: a stop, a cutoff, a retry and the
//! start after a crash end them. When the vessel ends by itself they live on, and its log names
//! them.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::{Api, Journal, Server, processes, wait_until};

/// A command that writes its process id and ignores SIGTERM.
const STRAY: &str = "trap \"\" TERM; echo $$ >> $JOURNAL; exec sleep 100000";

/// A command that tests whether the process with the written id runs.
const IS_ALIVE: &str = "grep -q '^State:.[^ZX]' /proc/$(head -n 1 $JOURNAL)/status 2> /dev/null";

/// The escape by su, which itself ends with the vessel's group and ends its session then.
const BY_SU: &str = "another user";

/// Escapes from the vessel's process group. `$JOURNAL` gets the id of the process that has left.
/// `@` stands for the command that it runs.
const ESCAPES: [(&str, &str); 8] = [
    ("setsid", "setsid @ &"),
    ("timeout", "timeout 10000 @ &"),
    ("set -m", r#"bash -c 'set -m; "$0" -c "$1" & wait' sh "$stray" &"#),
    (
        "start_new_session",
        "python3 -c 'import subprocess, sys
subprocess.Popen(sys.argv[1:], start_new_session=True).wait()' @ &",
    ),
    ("double fork", "(setsid @ &)"),
    ("cleaned environment", "env -i JOURNAL=$JOURNAL setsid @ &"),
    ("cleaned environment, double fork", "(env -i JOURNAL=$JOURNAL setsid @ > /dev/null 2>&1 &)"),
    (BY_SU, "su -s /bin/sh nobody -c 'trap \"\" TERM; echo $$; exec sleep 100000' >> $JOURNAL &"),
];

/// The escapes that this machine offers.
fn escapes() -> impl Iterator<Item = (&'static str, String)> {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: only root becomes another user");
    }
    let known = ESCAPES.into_iter().filter(move |(name, _)| is_root || *name != BY_SU);
    // A variable avoids quotes within quotes.
    known.map(|(name, way)| {
        (name, format!("stray='{STRAY}'\n{}", way.replace('@', "sh -c \"$stray\"")))
    })
}

/// A process that has left a vessel's group. The end of the test kills it.
struct Stray {
    journal: Journal,
}

impl Stray {
    /// The process of a vessel that writes to this journal.
    fn of(server: &Server, name: &str) -> Self {
        let name = name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        Self { journal: server.journal(&format!("stray-{name}")) }
    }

    fn pid(&self) -> i32 {
        wait_until("the stray process is up", || !self.journal.lines().is_empty());
        self.journal.lines()[0].parse().unwrap()
    }

    fn lives(&self) -> bool {
        lives(self.pid())
    }

    fn environment(&self) -> Value {
        json!({"JOURNAL": self.journal.path()})
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        let pids: Vec<i32> = self.journal.lines().iter().filter_map(|it| it.parse().ok()).collect();
        processes::kill(&pids);
    }
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

fn start(api: &Api, name: &str, vessel: &Value) -> String {
    api.start(&api.apply(&json!({"name": name, "vessels": {"v": vessel}})))
}

fn stop(api: &Api, run: &str) {
    api.call("POST", &format!("/api/v1/runs/{run}/stop"), None).expect(200);
}

/// A vessel that leaves its group by `escape` and goes on.
fn endless(escape: &str, stray: &Stray) -> Value {
    json!({
        "run": format!("{escape}\nwhile :; do sleep 1000; done"),
        "environment": stray.environment(),
    })
}

#[test]
fn a_stop_ends_processes_that_left_the_group() {
    let server = Server::start();
    let api = server.api();
    let started: Vec<_> = escapes()
        .map(|(name, escape)| {
            let stray = Stray::of(&server, name);
            let run = start(&api, name, &endless(&escape, &stray));
            (name, stray, run)
        })
        .collect();
    for (name, stray, run) in started {
        assert!(stray.lives(), "{name}");
        stop(&api, &run);
        let ended = api.wait_status(&run, "Terminated");
        assert!(!stray.lives(), "{name}: the run has ended, and its process has not");
        let log = api.output(&ended, "v");
        assert!(!log.contains("boathook:"), "{name}: {log}");
    }
}

#[test]
fn a_cutoff_ends_processes_that_left_the_group() {
    let server = Server::start();
    let api = server.api();
    let started: Vec<_> = escapes()
        .map(|(name, escape)| {
            let stray = Stray::of(&server, name);
            let mut vessel = endless(&escape, &stray);
            // Long enough for the processes to start on a busy machine.
            vessel["guardrails"] = json!({"runtime_cutoff": "8s"});
            let run = start(&api, name, &vessel);
            (name, stray, run)
        })
        .collect();
    for (name, stray, run) in started {
        let pid = stray.pid();
        api.wait_status(&run, "Errored");
        assert!(!lives(pid), "{name}");
    }
}

#[test]
fn a_retry_starts_after_all_processes_of_the_last_attempt_ended() {
    let server = Server::start();
    let api = server.api();
    let started: Vec<_> = escapes()
        .map(|(name, escape)| {
            let stray = Stray::of(&server, name);
            // The first attempt ends by itself and leaves a daemon; the second looks for it.
            let script = format!(
                "if [ $BOATHOOK_ATTEMPT = 2 ]; then
                     {IS_ALIVE} && echo alive
                     exit 0
                 fi
                 {escape}
                 while [ ! -s $JOURNAL ]; do sleep 0.02; done
                 exit 1"
            );
            let guardrails = json!({"retry_count": 1, "retry_wait": "1s"});
            let vessel = json!({
                "run": script, "environment": stray.environment(), "guardrails": guardrails,
            });
            let run = start(&api, name, &vessel);
            (name, stray, run)
        })
        .collect();
    for (name, stray, run) in started {
        let ended = api.wait_status(&run, "Success");
        assert!(!stray.lives(), "{name}");
        if name == BY_SU {
            continue;
        }
        let first = api.output_answer(&ended, "v", "?attempt=1").text();
        assert!(first.starts_with("boathook: left running"), "{name}: {first}");
        let second = api.output_answer(&ended, "v", "?attempt=2").text();
        let lines: Vec<&str> = second.lines().collect();
        assert!(
            matches!(lines[..], [line] if line.starts_with("boathook: ended ")),
            "{name}: {second}"
        );
    }
}

#[test]
fn a_daemon_lives_on_after_a_normal_end_and_the_log_says_so() {
    let server = Server::start();
    let api = server.api();
    for (name, escape) in escapes().filter(|(name, _)| *name != BY_SU) {
        let stray = Stray::of(&server, name);
        let first = format!("{escape}\nwhile [ ! -s $JOURNAL ]; do sleep 0.02; done; echo done");
        let fleet = api.apply(&json!({
            "name": name,
            "vessels": {
                "v": {"run": first, "environment": stray.environment()},
                "w": {"run": "echo up; while :; do sleep 1000; done"},
            },
            "connections": {"v": {"w": "SUCCESS"}},
        }));
        let run = api.start(&fleet);
        let up = || api.run(&run);
        server
            .wait_until("the second vessel runs", || vessel_of(&up(), "w")["status"] == "Running");
        let log = api.output(&up(), "v");
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "done"), "{name}: {log}");
        assert!(lines[1].starts_with("boathook: left running"), "{name}: {log}");
        // A stop spares the processes of another vessel.
        stop(&api, &run);
        api.wait_status(&run, "Terminated");
        assert!(stray.lives(), "{name}");
    }
}

#[test]
fn an_orderly_stop_of_the_server_ends_processes_that_left_the_group() {
    let mut server = Server::builder().setting("shutdown_grace", "1s").start();
    let api = server.api();
    let strays: Vec<_> = escapes()
        .map(|(name, escape)| {
            let stray = Stray::of(&server, name);
            start(&api, name, &endless(&escape, &stray));
            (name, stray)
        })
        .collect();
    for (name, stray) in &strays {
        assert!(stray.lives(), "{name}");
    }
    server.stop();
    for (name, stray) in &strays {
        assert!(!stray.lives(), "{name}");
    }
}

#[test]
fn after_a_crash_processes_that_left_the_group_end_before_their_run_goes_on() {
    let mut server = Server::start();
    let api = server.api();
    let started: Vec<_> = escapes()
        .map(|(name, escape)| {
            let stray = Stray::of(&server, name);
            let script = format!(
                "if [ $BOATHOOK_ATTEMPT = 2 ]; then
                     {IS_ALIVE} && echo alive
                     exit 0
                 fi
                 {escape}
                 while :; do sleep 1000; done"
            );
            let vessel = json!({"run": script, "environment": stray.environment()});
            let run = start(&api, name, &vessel);
            (name, stray, run)
        })
        .collect();
    for (name, stray, _) in &started {
        assert!(stray.lives(), "{name}");
    }
    server.crash_and_restart();
    let api = server.api();
    for (name, stray, run) in &started {
        let ended = api.wait_status(run, "Success");
        assert!(!stray.lives(), "{name}");
        assert!(!api.output(&ended, "v").contains("alive"), "{name}");
    }
}

#[test]
fn runs_of_concurrency_one_never_overlap_after_a_stop() {
    let server = Server::start();
    let api = server.api();
    for (name, escape) in escapes() {
        let stray = Stray::of(&server, name);
        let script = format!(
            "if [ -s $JOURNAL ]; then {IS_ALIVE} && echo overlap; exit 0; fi
             {escape}
             while :; do sleep 1000; done"
        );
        let vessel = json!({"run": script, "environment": stray.environment()});
        let definition = json!({"name": name, "concurrency": 1, "vessels": {"v": vessel}});
        let fleet = api.apply(&definition);
        let (first, second) = (api.start(&fleet), api.start(&fleet));
        assert!(stray.lives(), "{name}");
        stop(&api, &first);
        let second = api.wait_status(&second, "Success");
        assert!(!api.output(&second, "v").contains("overlap"), "{name}");
    }
}

#[test]
fn leftovers_of_a_crash_get_sigterm_once() {
    let mut server = Server::builder().setting("kill_grace", "60s").start();
    let api = server.api();
    let journal = server.journal("journal");
    // A leader with twenty children, whose cleanup takes a moment and must not get a second
    // SIGTERM.
    let script = format!(
        "[ $BOATHOOK_ATTEMPT = 1 ] || exit 0
         n=0; while [ $n -lt 20 ]; do sleep 100000 & n=$((n + 1)); done
         count() {{ echo TERM >> {journal}; [ -n \"$busy\" ] && return; busy=1
             n=0; while [ $n -lt 30 ]; do sleep 0.02; n=$((n + 1)); done
             echo cleaned >> {journal}; exit; }}
         # The server that read the output is gone: to write to it would be the end.
         exec > /dev/null 2>&1
         trap count TERM; echo up >> {journal}; while :; do sleep 0.02; done"
    );
    let run = start(&api, "polite", &json!({"run": script}));
    journal.wait_for_line("up");
    server.crash_and_restart();
    server.api().wait_status(&run, "Success");
    assert_eq!(journal.lines(), ["up", "TERM", "cleaned"]);
}

/// Children of the process `pid`, zombies included.
fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let lists: String = lists.collect();
    lists.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Starts vessels that leave orphans beside vessels whose exit codes count.
fn check_reaping(server: &Server, pid: i32) {
    let api = server.api();
    let orphans = "n=0; while [ $n -lt 100 ]; do (setsid sleep 0.05 &); n=$((n + 1)); done; exit 7";
    let fleet = api.apply(&json!({"name": "churn", "vessels": {"v": {"run": orphans}}}));
    let runs: Vec<String> = (0..8).map(|_| api.start(&fleet)).collect();
    for run in runs {
        let ended = api.wait_status(&run, "Errored");
        assert_eq!(vessel_of(&ended, "v")["exit_code"], 7);
    }
    server.wait_until("every orphan is reaped", || children(pid).is_empty());
    // A daemon that ends long after its vessel.
    let stray = Stray::of(server, "daemon");
    let script =
        format!("(setsid sh -c '{STRAY}' &) ; while [ ! -s $JOURNAL ]; do sleep 0.02; done");
    let run = start(&api, "daemon", &json!({"run": script, "environment": stray.environment()}));
    api.wait_status(&run, "Success");
    let daemon = children(pid);
    assert_eq!(daemon.len(), 1, "the daemon is the server's child");
    processes::kill(&daemon);
    server.wait_until("the daemon is reaped", || children(pid).is_empty());
}

#[test]
fn orphans_are_reaped_and_exit_codes_are_kept() {
    let server = Server::start();
    check_reaping(&server, server.pid());
}

#[test]
fn as_process_1_orphans_are_reaped_and_exit_codes_are_kept() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root makes a PID namespace");
        return;
    }
    let namespace = "exec unshare --pid --fork --kill-child --mount-proc \"$0\" \"$@\"";
    let mut server = Server::builder().after_shell(namespace).start();
    let process_1 = children(server.pid())[0];
    check_reaping(&server, process_1);
    // unshare does not pass the signal on.
    rustix::process::kill_process(rustix::process::Pid::from_raw(process_1).unwrap(), Signal::TERM)
        .unwrap();
    assert_eq!(server.wait_exit().code(), Some(0));
}
