//! The life of a vessel: start, output, retries, cutoffs, work directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::server::read_until;
use crate::harness::{Api, Server};

fn run_vessel(api: &Api, name: &str, vessel: &Value) -> Value {
    let run = api.start(&api.apply(&json!({"name": name, "vessels": {"v": vessel}})));
    api.wait_ended(&run)
}

fn script(directory: &Path, name: &str, mode: u32, content: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_program_that_cannot_be_started_says_why() {
    // The kernel allows arguments and environment a quarter of the stack's limit.
    let server = Server::builder().after_shell("ulimit -s 2048").start();
    let api = server.api();
    let here = server.scratch();
    let not_executable = script(here, "not-executable", 0o644, "#!/bin/sh\n");
    let bad_shebang = script(here, "bad-shebang", 0o755, "#!/no/such/interpreter\n");
    let no_format = script(here, "no-format", 0o755, "\u{1}\u{2} neither script nor program\n");
    let large: serde_json::Map<String, Value> =
        (0..8).map(|n| (format!("LARGE_{n}"), Value::from("x".repeat(100_000)))).collect();
    let cases = [
        ("missing", json!({"command": ["/no/such/program"]}), "No such file or directory"),
        ("missing in PATH", json!({"command": ["no-such-program-anywhere"]}), "not found"),
        ("not executable", json!({"command": [not_executable]}), "Permission denied"),
        ("directory", json!({"command": ["/usr"]}), "Permission denied"),
        ("bad shebang", json!({"command": [bad_shebang]}), "No such file or directory"),
        ("no format", json!({"command": [no_format]}), "Exec format error"),
        (
            "no directory",
            json!({"command": ["true"], "working_directory": "/no/such/directory"}),
            "No such file or directory",
        ),
        ("too large", json!({"command": ["true"], "environment": large}), "Argument list too long"),
    ];
    for (name, vessel, reason) in cases {
        let run = run_vessel(&api, name, &vessel);
        assert_eq!(run["status"], "Errored", "{name}: {run:#}");
        let vessel = vessel_of(&run, "v");
        assert_eq!(vessel["status"], "Errored", "{name}");
        assert!(vessel["exit_code"].is_null(), "{name}: {vessel:#}");
        let log = api.output(&run, "v");
        let said = vessel["reason"].as_str().unwrap_or_default();
        let matches = |text: &str| text.to_lowercase().contains(&reason.to_lowercase());
        assert!(matches(&log), "{name}: log {log:?}");
        assert!(matches(said), "{name}: reason {said:?}");
    }
    // The log of a program that starts has no such line.
    let run = run_vessel(&api, "works", &json!({"command": ["true"]}));
    assert_eq!((run["status"].as_str(), api.output(&run, "v").as_str()), (Some("Success"), ""));
}

#[test]
fn exit_codes_and_signals_are_reported() {
    let server = Server::start();
    let api = server.api();
    for code in [1, 2, 127, 255] {
        let vessel = json!({"run": format!("exit {code}")});
        let run = run_vessel(&api, &format!("exit {code}"), &vessel);
        let vessel = vessel_of(&run, "v");
        assert_eq!((&vessel["exit_code"], &vessel["status"]), (&json!(code), &json!("Errored")));
        assert!(vessel["signal"].is_null(), "{vessel:#}");
    }
    let run = run_vessel(&api, "signal", &json!({"run": "kill -SEGV $$"}));
    let vessel = vessel_of(&run, "v");
    assert_eq!((&vessel["signal"], &vessel["status"]), (&json!(11), &json!("Errored")));
    assert!(vessel["exit_code"].is_null(), "{vessel:#}");
}

#[test]
fn output_can_be_followed_while_it_is_written() {
    let server = Server::start();
    let api = server.api();
    let gate = server.scratch().join("gate");
    let script = format!(
        "echo first; while [ ! -e {} ]; do sleep 0.02; done; echo last >&2",
        gate.display()
    );
    let run = api.start(&api.apply(&json!({"name": "live", "vessels": {"v": {"run": script}}})));
    server.wait_until("the vessel runs", || vessel_of(&api.run(&run), "v")["status"] == "Running");
    let view = api.run(&run);
    let mut follower = api.follow(&view, "v");
    assert_eq!(read_until(&mut follower, "first\n"), "first\n");
    // Without `follow` the response is the output so far.
    assert_eq!(api.output(&view, "v"), "first\n");
    fs::write(gate, "").unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut follower, &mut rest).unwrap();
    assert_eq!(rest, "last\n");
    api.wait_status(&run, "Success");
}

#[test]
fn output_is_kept_in_order_and_served_from_any_offset() {
    let server = Server::start();
    let api = server.api();
    let script = "i=0; while [ $i -lt 300 ]; do echo out$i; echo err$i >&2; i=$((i+1)); done";
    let run = run_vessel(&api, "order", &json!({"run": script}));
    let expected: String = (0..300).map(|i| format!("out{i}\nerr{i}\n")).collect();
    assert_eq!(api.output(&run, "v"), expected);

    let answer = api.output_answer(&run, "v", "?offset=5");
    assert_eq!(answer.text(), expected[5..]);
    assert_eq!(answer.header("x-output-offset"), Some("5"));
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let answer = api.output_answer(&run, "v", &format!("?offset={}", expected.len()));
    assert_eq!(answer.text(), "");
}

#[test]
fn output_of_any_bytes_and_sizes_survives_a_restart() {
    let mut server = Server::start();
    let api = server.api();
    let random = server.scratch().join("random");
    let bytes = crate::harness::Random::seeded(3).bytes(700_000);
    fs::write(&random, &bytes).unwrap();
    let small = run_vessel(&api, "small", &json!({"run": "printf 'a\\000b\\377'"}));
    let large = run_vessel(&api, "large", &json!({"command": ["cat", random]}));
    server.crash_and_restart();
    let api = server.api();
    assert_eq!(api.output_answer(&small, "v", "").body, b"a\0b\xff");
    assert!(api.output_answer(&large, "v", "").body == bytes, "the output differs");
}

#[test]
fn output_is_capped_and_never_stalls_its_vessel() {
    const WRITTEN: usize = 200_000_000;
    const KEPT: usize = 10 << 20;
    let server = Server::start();
    let api = server.api();
    let script = format!("echo start; head -c {WRITTEN} /dev/zero | tr '\\0' x; echo; echo end");
    let run = run_vessel(&api, "loud", &json!({"run": script}));
    assert_eq!(run["status"], "Success", "{run:#}");
    let left_out = "start\n".len() + WRITTEN + "\nend\n".len() - KEPT;
    let notice = format!("\n[boathook: {left_out} bytes left out]\n");
    let kept = api.output_answer(&run, "v", "").body;
    assert_eq!(kept.len(), KEPT + notice.len());
    assert!(kept.starts_with(b"start\nxxxx") && kept.ends_with(b"xxxx\nend\n"));
    assert_eq!(&kept[KEPT / 2..KEPT / 2 + notice.len()], notice.as_bytes());
    // The tail is found from its own offset and from any offset in the gap.
    let tail = api.output_answer(&run, "v", &format!("?offset={}", KEPT));
    assert_eq!(tail.header("x-output-offset"), Some(&*(left_out + KEPT / 2).to_string()));
    assert_eq!(tail.body.len(), KEPT / 2);
    let id = vessel_of(&run, "v")["id"].as_str().unwrap();
    let file = server.data_dir().join("output").join(format!("{id}.1"));
    let taken = fs::metadata(file).unwrap().len() as usize;
    assert!((KEPT..KEPT + (128 << 10)).contains(&taken), "{taken} bytes on the disk");
    let overview = api.get("/api/v1/overview").expect(200).data();
    let history = overview["history_bytes"].as_u64().unwrap() as usize;
    assert!((KEPT..KEPT + 1000).contains(&history), "{history} bytes of history");
}

#[test]
fn a_vessel_is_retried_retry_count_times() {
    let server = Server::start();
    let api = server.api();
    let journal = server.journal("journal");
    let script =
        format!("echo attempt $BOATHOOK_ATTEMPT | tee -a {journal}; [ $BOATHOOK_ATTEMPT -ge 3 ]");
    let retries = |count: u32| json!({"retry_count": count, "retry_wait": "0s"});

    let run = run_vessel(&api, "third", &json!({"run": script, "guardrails": retries(5)}));
    assert_eq!(run["status"], "Success", "{run:#}");
    assert_eq!(vessel_of(&run, "v")["attempt"], 3);
    assert_eq!(journal.lines(), ["attempt 1", "attempt 2", "attempt 3"]);
    // Each attempt keeps its own output.
    assert_eq!(api.output(&run, "v"), "attempt 3\n");
    assert_eq!(api.output_answer(&run, "v", "?attempt=1").text(), "attempt 1\n");

    fs::remove_file(journal.path()).unwrap();
    let run = run_vessel(&api, "never", &json!({"run": script, "guardrails": retries(1)}));
    assert_eq!(run["status"], "Errored", "{run:#}");
    assert_eq!(vessel_of(&run, "v")["attempt"], 2);
    assert_eq!(journal.lines(), ["attempt 1", "attempt 2"]);
}

#[test]
fn excluded_exit_codes_are_not_retried() {
    let server = Server::start();
    let api = server.api();
    for (code, attempts) in [(1, 3), (2, 1), (3, 1), (4, 1), (5, 1), (6, 3)] {
        let vessel = json!({
            "run": format!("exit {code}"),
            "guardrails": {"retry_count": 2, "exclude_exit_code_ranges": [2, "3-5"]},
        });
        let run = run_vessel(&api, &format!("exits {code}"), &vessel);
        assert_eq!(run["status"], "Errored");
        assert_eq!(vessel_of(&run, "v")["attempt"], attempts, "exit code {code}");
    }
}

#[test]
fn an_end_by_a_signal_counts_as_128_and_its_number_for_excluded_exit_codes() {
    let server = Server::start();
    let api = server.api();
    for (signal, excluded, attempts) in [
        ("KILL", json!([137]), 1),
        ("KILL", json!(["129-136"]), 2),
        ("TERM", json!(["140-150"]), 1),
    ] {
        let vessel = json!({
            "run": format!("kill -{signal} $$"),
            "guardrails": {"retry_count": 1, "exclude_exit_code_ranges": excluded},
        });
        let run = run_vessel(&api, &format!("{signal} {excluded}"), &vessel);
        assert_eq!(run["status"], "Errored");
        assert_eq!(vessel_of(&run, "v")["attempt"], attempts, "{signal}, excluded {excluded}");
    }
}

#[test]
fn the_log_says_that_a_work_directory_was_gone_between_two_vessels_or_attempts() {
    let server = Server::start();
    let api = server.api();
    let removes = "cd /; rm -r $HOME";
    let fleet = api.apply(&json!({
        "name": "gone",
        "vessels": {
            "first": {"run": "echo kept > file"},
            "second": {"run": format!("cat file; {removes}")},
            "third": {
                "run": format!("[ $BOATHOOK_ATTEMPT = 2 ] || {{ {removes}; exit 1; }}; ls"),
                "guardrails": {"retry_count": 1},
            },
            "fourth": {"run": "ls"},
        },
        "connections": {
            "first": {"second": "SUCCESS"}, "second": {"third": "SUCCESS"},
            "third": {"fourth": "SUCCESS"},
        },
    }));
    let run = api.wait_status(&api.start(&fleet), "Success");
    assert_eq!(api.output(&run, "first"), "");
    assert_eq!(api.output(&run, "second"), "kept\n");
    for attempt in [1, 2] {
        let log = api.output_answer(&run, "third", &format!("?attempt={attempt}")).text();
        let lines: Vec<&str> = log.lines().collect();
        assert!(
            matches!(lines[..], [line] if line.starts_with("boathook: the work directory of this run was gone")),
            "{log}"
        );
    }
    assert_eq!(api.output(&run, "fourth"), "");
}

#[test]
fn user_is_the_number_of_a_user_without_a_name() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root becomes another user");
        return;
    }
    let becomes = "exec setpriv --reuid 54321 --regid 54321 --clear-groups \"$0\" \"$@\"";
    let mut server = Server::builder().after_shell(becomes).not_started();
    fs::set_permissions(server.scratch(), fs::Permissions::from_mode(0o777)).unwrap();
    server.start_again();
    let api = server.api();
    let run = run_vessel(&api, "number", &json!({"run": "echo $USER"}));
    assert_eq!(api.output(&run, "v"), "54321\n");
}

#[test]
fn a_retry_waits_its_time_and_can_be_stopped_meanwhile() {
    let server = Server::start();
    let api = server.api();
    let vessel =
        json!({"command": ["false"], "guardrails": {"retry_count": 3, "retry_wait": "1h"}});
    let run = api.start(&api.apply(&json!({"name": "patient", "vessels": {"v": vessel}})));
    server.wait_until("the vessel waits for its retry", || {
        vessel_of(&api.run(&run), "v")["status"] == "Retrying"
    });
    api.call("POST", &format!("/api/v1/runs/{run}/stop"), None).expect(200);
    let ended = api.wait_status(&run, "Terminated");
    assert_eq!(vessel_of(&ended, "v")["attempt"], 1);
}

#[test]
fn a_run_is_retrying_while_it_waits_and_while_it_runs_again() {
    let server = Server::start();
    let api = server.api();
    let (journal, gate) = (server.journal("journal"), server.scratch().join("gate"));
    let script = format!(
        "[ $BOATHOOK_ATTEMPT = 2 ] || exit 1
        echo again >> {journal}; while [ ! -e {} ]; do sleep 0.02; done",
        gate.display()
    );
    let guardrails =
        json!({"retry_count": 2, "retry_wait": "0m1s500ms", "retry_backoff": "exponential"});
    let vessel = json!({"run": script, "guardrails": guardrails});
    let run = api.start(&api.apply(&json!({"name": "retrying", "vessels": {"v": vessel}})));
    let both = |run: &Value| (run["status"].clone(), vessel_of(run, "v")["status"].clone());
    let retrying = (json!("Retrying"), json!("Retrying"));
    server.wait_until("the vessel waits for its retry", || both(&api.run(&run)) == retrying);
    journal.wait_for_line("again");
    assert_eq!(both(&api.run(&run)), retrying);
    let listed = api.get("/api/v1/runs?status=Retrying").expect(200).data();
    assert_eq!(listed[0]["id"], run.as_str());
    fs::write(gate, "").unwrap();
    let ended = api.wait_status(&run, "Success");
    assert_eq!(both(&ended), (json!("Success"), json!("Success")));
}

#[test]
fn a_vessel_over_its_cutoff_is_ended_and_retried() {
    let server = Server::start();
    let api = server.api();
    let guardrails = json!({"runtime_cutoff": "1s", "retry_count": 1});
    let vessel = json!({"run": "echo started; exec sleep 100000", "guardrails": guardrails});
    let run = run_vessel(&api, "cut", &vessel);
    let vessel = vessel_of(&run, "v");
    assert_eq!(vessel["status"], "Errored", "{vessel:#}");
    assert_eq!(vessel["attempt"], 2);
    let reason = vessel["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("runtime_cutoff") || reason.contains("cutoff"), "{reason:?}");
    assert!(api.output(&run, "v").starts_with("started\n"));
}

#[test]
fn the_work_directory_is_shared_within_a_run_and_wiped_afterwards() {
    let server = Server::start();
    let api = server.api();
    let journal = server.journal("journal");
    // Hard to remove: read-only directories, a link out, a name that is no UTF-8.
    let outside = server.scratch().join("outside");
    fs::write(&outside, "keep me").unwrap();
    let first = format!(
        "mkdir -p deep/er; echo kept > deep/er/file; ln -s {} link; ln -s / root; \
         touch \"$(printf 'odd\\377name')\"; chmod 500 deep/er deep",
        outside.display()
    );
    let fleet = api.apply(&json!({
        "name": "shared",
        "vessels": {
            "first": {"run": first},
            "second": {"run": format!("cat deep/er/file; pwd >> {journal}")},
        },
        "connections": {"first": {"second": "SUCCESS"}},
    }));
    for _ in 0..2 {
        let run = api.wait_status(&api.start(&fleet), "Success");
        assert_eq!(api.output(&run, "second"), "kept\n");
    }
    let directories = journal.lines();
    assert_eq!(directories.len(), 2);
    assert_ne!(directories[0], directories[1], "every run has its own");
    for directory in directories {
        server.wait_until("the directory is wiped", || !Path::new(&directory).exists());
    }
    assert_eq!(fs::read_to_string(outside).unwrap(), "keep me");
}

#[test]
fn work_directories_are_kept_when_asked_for() {
    for (setting, after_success, after_failure) in
        [("always", true, true), ("on_failure", false, true), ("never", false, false)]
    {
        let server = Server::builder().setting("keep_workdir", setting).start();
        let api = server.api();
        for (exit, kept) in [(0, after_success), (1, after_failure)] {
            let vessel = json!({"run": format!("echo x > made-here; pwd; exit {exit}")});
            let run = run_vessel(&api, &format!("exits {exit}"), &vessel);
            let directory = PathBuf::from(api.output(&run, "v").trim_end());
            if kept {
                assert!(directory.join("made-here").exists(), "{setting}, exit {exit}");
            } else {
                server.wait_until("the directory is wiped", || !directory.exists());
            }
        }
    }
}

#[test]
fn a_program_is_looked_up_as_the_contract_demands() {
    let server = Server::start();
    let api = server.api();
    let here = server.scratch();
    script(here, "tool", 0o755, "#!/bin/sh\necho \"tool $0 $1\"\n");
    let cases = [
        ("in PATH", json!({"command": ["tool", "a b"], "environment": {"PATH": here}})),
        ("in its directory", json!({"command": ["./tool", "a b"], "working_directory": here})),
        ("absolute", json!({"command": [here.join("tool"), "a b"]})),
    ];
    for (name, vessel) in cases {
        let run = run_vessel(&api, name, &vessel);
        assert_eq!(run["status"], "Success", "{name}: {run:#} {}", api.output(&run, "v"));
        let output = api.output(&run, "v");
        assert!(output.starts_with("tool ") && output.ends_with(" a b\n"), "{name}: {output}");
    }
}
