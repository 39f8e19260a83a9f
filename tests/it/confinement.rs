//! Vessels that run as another user or within limits: their rights and limits, and the same start
//! errors as for other vessels.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::{Api, Server, assert_error, processes};

/// A user of every system, without files and rights.
const USER: &str = "nobody";

/// Whether this test can run. Prints that it skips.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: only root can run vessels as others");
    }
    is_root
}

/// A server whose vessels may run as these `users` and reach their work directories.
fn start(users: &str) -> Server {
    // Groups of the server that vessels must not keep.
    let groups = "exec setpriv --groups 4,24 \"$0\" \"$@\"";
    let builder = Server::builder().after_shell(groups).setting("allowed_users", users);
    let mut server = builder.not_started();
    fs::set_permissions(server.scratch(), fs::Permissions::from_mode(0o711)).unwrap();
    server.start_again();
    server
}

fn run_fleet(api: &Api, fleet: &Value) -> Value {
    let run = api.start(&api.apply(fleet));
    api.wait_ended(&run)
}

fn reason_of(run: &Value, vessel: &str) -> String {
    assert_eq!(run["status"], "Errored", "{run:#}");
    vessel_of(run, vessel)["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_vessel_runs_as_its_user_and_owns_its_files() {
    if !is_root() {
        return;
    }
    let server = start(USER);
    let api = server.api();
    let script = r#"
        set -e
        echo "id $(id -u) $(id -g) $(id -G) $USER"
        stat -c '%U %a %F' "$HOME" "$SHIPYARD_WEBHOOK_BODY_FILE" "$SHIPYARD_WEBHOOK_HEADERS_FILE"
        [ "$(pwd)" = "$HOME" ] && cat "$SHIPYARD_WEBHOOK_BODY_FILE" && echo
        read -r _ _ _ _ group session terminal _ < /proc/self/stat
        echo "session $((session - group)) terminal $terminal"
        cat /dev/stdin > /dev/stderr && echo > /dev/stdout
        grep -E 'CapEff|CapPrm|CapAmb' /proc/self/status
        echo mine > made && mkdir -p deep/er && chmod 0 deep/er
    "#;
    let fleet = json!({"name": "theirs", "user": USER, "vessels": {
        "first": {"run": script}, "second": {"run": "cat made; chmod 0 ."},
        "third": {"run": "id -un"},
    }, "connections": {"first": {"second": "SUCCESS"}, "second": {"third": "SUCCESS"}}});
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let run = hook.post(server.hooks(), &[], b"the body");
    let run = api.wait_status(&run, "Success");
    let (uid, gid, groups) = ids(USER);
    let none = "0000000000000000";
    assert_eq!(
        api.output(&run, "first"),
        format!(
            "id {uid} {gid} {groups} {USER}\n{USER} 700 directory\n{USER} 600 regular file\n\
             {USER} 600 regular file\nthe body\nsession 0 terminal 0\nthe body\n\
             CapPrm:\t{none}\nCapEff:\t{none}\nCapAmb:\t{none}\n"
        )
    );
    assert_eq!(api.output(&run, "second"), "mine\n");
    assert_eq!(api.output(&run, "third"), format!("{USER}\n"));
    let work = server.data_dir().join("work");
    server.wait_until("the directory is gone", || fs::read_dir(&work).unwrap().count() == 0);
}

/// The capabilities that `boathook help security` names, in setpriv's words.
const CAPABILITIES: &str = "+setuid,+setgid,+chown,+dac_override,+fowner,+kill";

/// A server that is not root but `USER`, started by this shell command.
fn start_as_user(command: &str) -> Server {
    let builder = Server::builder().after_shell(command).setting("allowed_users", "daemon");
    let mut server = builder.not_started();
    fs::set_permissions(server.scratch(), fs::Permissions::from_mode(0o711)).unwrap();
    fs::create_dir(server.data_dir()).unwrap();
    let (uid, gid, _) = ids(USER);
    let owner = (uid.parse().ok(), gid.parse().ok());
    std::os::unix::fs::chown(server.data_dir(), owner.0, owner.1).unwrap();
    server.start_again();
    server
}

#[test]
fn a_server_with_ambient_capabilities_runs_vessels_as_others() {
    if !is_root() {
        return;
    }
    let server = start_as_user(&format!(
        "exec setpriv --reuid {USER} --regid nogroup --clear-groups --inh-caps {CAPABILITIES} \
         --ambient-caps {CAPABILITIES} --bounding-set {CAPABILITIES} \"$0\" \"$@\""
    ));
    let api = server.api();
    let show = "id -un; grep -E 'CapEff|CapPrm|CapAmb' /proc/self/status";
    let script = format!("{show}; touch made");
    let fleet = json!({"name": "theirs", "user": "daemon", "vessels": {"first": {"run": script},
        "second": {"run": "stat -c %U made; sleep 1000"}},
        "connections": {"first": {"second": "SUCCESS"}}});
    let run = api.start(&api.apply(&fleet));
    let (none, words) = ("0000000000000000", ["CapPrm", "CapEff", "CapAmb"]);
    let expected: String = words.iter().map(|word| format!("{word}:\t{none}\n")).collect();
    let path = format!("/api/v1/runs/{run}");
    server.wait_until("the second vessel runs", || {
        api.output(&api.get(&path).data(), "second") == "daemon\n"
    });
    // It can be signalled, and what it made be removed.
    api.call("POST", &format!("{path}/stop"), None).expect(200);
    let run = api.wait_status(&run, "Terminated");
    assert_eq!(api.output(&run, "first"), format!("daemon\n{expected}"));
    let work = server.data_dir().join("work");
    server.wait_until("the directory is gone", || fs::read_dir(&work).unwrap().count() == 0);
    // A vessel of the server's own user has no capability either, plain or by way of the shim.
    let own = json!({"name": "own", "vessels": {
        "plain": {"run": show}, "limited": {"run": show, "limits": {"open_files": 100}},
    }});
    let run = api.wait_status(&api.start(&api.apply(&own)), "Success");
    for vessel in ["plain", "limited"] {
        assert_eq!(api.output(&run, vessel), format!("{USER}\n{expected}"), "{vessel}");
    }
}

#[test]
fn a_fleet_whose_user_the_server_cannot_become_is_refused() {
    if !is_root() {
        return;
    }
    let refusal = |server: &Server| {
        let fleet = b"name: refused\nvessels: {v: {run: id}}\nuser: daemon\n".to_vec();
        let content = Some(("application/yaml", fleet));
        let answer = server.api().call("PUT", "/api/v1/fleets?by=name", content);
        assert_error(&answer, 422);
        answer.error()
    };
    // Without capabilities, and with some of them.
    let server = start_as_user(&format!(
        "exec setpriv --reuid {USER} --regid nogroup --clear-groups --inh-caps +setuid,+setgid \
         --ambient-caps +setuid,+setgid \"$0\" \"$@\""
    ));
    let message = refusal(&server);
    assert!(
        message.contains("lacks CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_KILL"),
        "{message}"
    );
    assert!(message.contains("AmbientCapabilities="), "{message}");
    drop(server);
    // With all of them, in a namespace that has no other user.
    let unshare = "unshare --user --map-root-user";
    let status = std::process::Command::new("sh").args(["-c", &format!("{unshare} true")]).status();
    if !status.is_ok_and(|status| status.success()) {
        println!("skipped in part: user namespaces are not to be had");
        return;
    }
    let command = format!("exec {unshare} \"$0\" \"$@\"");
    let builder = Server::builder().after_shell(&command).setting("allowed_users", "daemon");
    let server = builder.start();
    let message = refusal(&server);
    assert!(message.contains("cannot become another user"), "{message}");
    assert!(message.contains("SystemCallFilter=@setuid capset"), "{message}");
}

/// uid, gid and groups of a user, as id(1) tells.
fn ids(user: &str) -> (String, String, String) {
    let id = |flag| {
        let output = std::process::Command::new("id").args([flag, user]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    (id("-u"), id("-g"), id("-G"))
}

#[test]
fn users_are_refused_unless_the_operator_allows_them() {
    let yaml = |user: &str| {
        format!("name: refused\nvessels: {{v: {{run: id}}}}\nuser: {user}\n").into_bytes()
    };
    let apply = |server: &Server, user: &str| {
        let content = Some(("application/yaml", yaml(user)));
        server.api().call("PUT", "/api/v1/fleets?by=name", content)
    };
    let server = Server::start();
    for user in ["root", USER] {
        let answer = apply(&server, user);
        assert_error(&answer, 422);
        let message = answer.error();
        assert!(message.contains("line 3, column 7: user: "), "{message}");
        assert!(message.contains("`allowed_users`"), "{message}");
    }
    if !is_root() {
        return;
    }
    let mut server = start("nobody, no-such-user");
    let answer = apply(&server, "no-such-user");
    assert_error(&answer, 422);
    assert!(answer.error().contains("there is no user `no-such-user`"), "{}", answer.error());
    let fleet = server.api().apply_yaml(&String::from_utf8(yaml(USER)).unwrap());
    // The operator may withdraw a user after the fleet was applied.
    server.stop();
    let data = server.data_dir().to_owned();
    let server = Server::builder().data_dir(&data).start();
    let api = server.api();
    let run = api.wait_ended(&api.start(&fleet));
    let reason = reason_of(&run, "v");
    assert!(reason.starts_with("user: the operator does not let vessels run as"), "{reason}");
    assert!(api.output(&run, "v").contains(&reason));
}

#[test]
fn a_directory_that_the_user_may_not_enter_is_named() {
    if !is_root() {
        return;
    }
    let mut server = Server::builder().setting("allowed_users", USER).not_started();
    fs::set_permissions(server.scratch(), fs::Permissions::from_mode(0o700)).unwrap();
    server.start_again();
    let fleet = json!({"name": "far", "user": USER, "vessels": {"v": {"command": ["true"]}}});
    let reason = reason_of(&run_fleet(&server.api(), &fleet), "v");
    let expected = format!(
        "Permission denied: the user `{USER}` may not enter {0}: let others pass through it (chmod \
         o+x {0})",
        server.scratch().display()
    );
    assert!(reason.contains(&expected), "{reason}");
    assert!(server.log().contains("cannot reach their work directories"));
}

#[test]
fn a_vessel_of_another_user_reads_no_file_of_the_server() {
    if !is_root() {
        return;
    }
    let server = start(USER);
    let data = server.data_dir().display();
    let script = format!(
        "cat {data}/admin.token; ls {data}; ls {data}/db; ls {data}/output; cat {data}/schema
         ls {data}/work; find {data}/* -readable; cat /proc/$PPID/environ; true"
    );
    let fleet = json!({"name": "curious", "user": USER, "vessels": {"v": {"run": script}}});
    let run = run_fleet(&server.api(), &fleet);
    assert_eq!(run["status"], "Success");
    let output = server.api().output(&run, "v");
    for line in output.lines() {
        assert!(line.contains("denied") || line.contains("No such file"), "{line}");
    }
    for entry in fs::read_dir(server.data_dir()).unwrap().flatten() {
        let mode = entry.metadata().unwrap().mode() & 0o777;
        let expected = if entry.file_name() == "work" { 0o011 } else { 0 };
        assert_eq!(mode & 0o077, expected, "{:?} {mode:o}", entry.file_name());
    }
}

#[test]
fn links_that_a_vessel_plants_are_not_followed() {
    if !is_root() {
        return;
    }
    let server = start(USER);
    let api = server.api();
    let victim = server.scratch().join("victim");
    let treasure = server.scratch().join("treasure");
    fs::write(&victim, "untouched").unwrap();
    fs::create_dir(&treasure).unwrap();
    fs::write(treasure.join("coin"), "gold").unwrap();
    let plant = format!(
        "for file in \"$SHIPYARD_WEBHOOK_BODY_FILE\" \"$SHIPYARD_WEBHOOK_HEADERS_FILE\"; do
            rm \"$file\" && ln -s {} \"$file\"
         done
         ln -s {} treasure; mkdir -p a/b && ln -s {} a/b/treasure",
        victim.display(),
        treasure.display(),
        treasure.display(),
    );
    let fleet = json!({"name": "planted", "user": USER, "vessels": {
        "plant": {"run": plant},
        "next": {"run": "stat -c '%U %F' $SHIPYARD_WEBHOOK_BODY_FILE; cat $SHIPYARD_WEBHOOK_BODY_FILE"},
    }, "connections": {"plant": {"next": "SUCCESS"}}});
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let run = api.wait_status(&hook.post(server.hooks(), &[], b"body"), "Success");
    assert_eq!(api.output(&run, "next"), format!("{USER} regular file\nbody"));
    let work = server.data_dir().join("work");
    server.wait_until("the directory is gone", || fs::read_dir(&work).unwrap().count() == 0);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(fs::metadata(&victim).unwrap().uid(), 0);
    assert_eq!(fs::read_to_string(treasure.join("coin")).unwrap(), "gold");
}

#[test]
fn processes_of_another_user_end_after_a_crash() {
    if !is_root() {
        return;
    }
    let mut server = start(USER);
    let fleet = json!({"name": "left", "user": USER, "vessels": {
        "v": {"run": "[ $BOATHOOK_ATTEMPT = 1 ] || exit 0; trap '' TERM; sleep 100000 & wait; wait"},
    }});
    let api = server.api();
    let run = api.start(&api.apply(&fleet));
    let mark = format!("SHIPYARD_FLEET_LOG_ID={run}");
    server.wait_until("it runs", || processes::with_environment(&mark).len() == 2);
    server.crash_and_restart();
    let ended = server.api().wait_status(&run, "Success");
    assert_eq!(vessel_of(&ended, "v")["attempt"], 2);
    assert_eq!(processes::with_environment(&mark), Vec::<i32>::new());
}

#[test]
fn a_vessel_gets_the_limits_of_its_fleet() {
    let server = Server::start();
    let api = server.api();
    let vessel = json!({
        "command": ["sh", "-c", "cat /proc/self/limits; nice; umask"],
        "limits": {"memory": "512MiB", "cpu_time": "1m", "open_files": 64, "processes": 4000,
                   "file_size": "1MiB"},
        "nice": 5, "umask": "077",
    });
    let run = run_fleet(&api, &json!({"name": "limited", "vessels": {"v": vessel}}));
    let output = api.output(&run, "v");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for (name, soft, hard) in [
        ("Max address space", "536870912", "536870912"),
        ("Max cpu time", "60", "65"),
        ("Max open files", "64", "64"),
        ("Max processes", "4000", "4000"),
        ("Max file size", "1048576", "1048576"),
    ] {
        let line = output.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        assert_eq!(words(line)[..2], [soft, hard], "{name}");
    }
    let rest: Vec<&str> = output.lines().rev().take(2).collect();
    assert_eq!(rest, ["0077", "5"], "{output}");
}

#[test]
fn a_vessel_over_a_limit_ends_by_the_signal_of_the_limit() {
    let server = Server::start();
    let api = server.api();
    for (name, limits, script, signal) in [
        ("file", json!({"file_size": "4KiB"}), "exec head -c 8192 /dev/zero > $HOME/large", 25),
        ("cpu", json!({"cpu_time": "1s"}), "while :; do :; done", 24),
    ] {
        let vessel = json!({"run": script, "limits": limits});
        let run = run_fleet(&api, &json!({"name": name, "vessels": {"v": vessel}}));
        assert_eq!(vessel_of(&run, "v")["signal"], signal, "{name}: {run:#}");
    }
    let fixed = "ulimit -Sn 256; ulimit -Hn 256";
    let server = Server::builder().after_shell(fixed).start();
    if rustix::thread::capabilities(None)
        .is_ok_and(|it| it.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE))
    {
        return;
    }
    let vessel = json!({"command": ["true"], "limits": {"open_files": 512}});
    let run = run_fleet(&server.api(), &json!({"name": "above", "vessels": {"v": vessel}}));
    let reason = reason_of(&run, "v");
    assert!(reason.starts_with("limits.open_files: Operation not permitted: "), "{reason}");
}

/// Start errors have the same text with and without the shim.
#[test]
fn start_errors_are_the_same_with_and_without_the_shim() {
    let server = Server::builder().after_shell("ulimit -s 2048").start();
    let api = server.api();
    let here = server.scratch();
    let file = |name: &str, mode: u32, content: &str| {
        let path = here.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let large: serde_json::Map<String, Value> =
        (0..8).map(|n| (format!("LARGE_{n}"), Value::from("x".repeat(100_000)))).collect();
    for (name, vessel) in [
        ("missing", json!({"command": ["/no/such/program"]})),
        ("not executable", json!({"command": [file("a", 0o644, "#!/bin/sh\n")]})),
        ("directory", json!({"command": ["/usr"]})),
        ("bad shebang", json!({"command": [file("b", 0o755, "#!/no/such/interpreter\n")]})),
        ("no format", json!({"command": [file("c", 0o755, "\u{1}\u{2} neither\n")]})),
        ("no directory", json!({"command": ["true"], "working_directory": "/no/such"})),
        ("too large", json!({"command": ["true"], "environment": large})),
    ] {
        let mut reasons = Vec::new();
        for umask in [None, Some("022")] {
            let mut vessel = vessel.clone();
            if let Some(umask) = umask {
                vessel["umask"] = umask.into();
            }
            let run = run_fleet(&api, &json!({"name": name, "vessels": {"v": vessel}}));
            assert_eq!(vessel_of(&run, "v")["exit_code"], Value::Null, "{name}");
            let reason = reason_of(&run, "v");
            assert!(api.output(&run, "v").contains(&reason), "{name}");
            // Sizes differ by the length of a timestamp.
            reasons.push(reason.replace(|letter: char| letter.is_ascii_digit(), ""));
        }
        assert_eq!(reasons[0], reasons[1], "{name}");
    }
}

/// The dynamic loader of the privileged shim must not see the vessel's environment, which arrives
/// complete.
#[test]
fn the_shim_passes_the_environment_on_unchanged() {
    let server = Server::start();
    let api = server.api();
    let environment = json!({
        "LD_DEBUG": "files", "LD_LIBRARY_PATH": "/no/such", "EMPTY": "", "UNICODE": "é=ü\n",
        "x": "1", "_under": "2",
    });
    let fleet = json!({"name": "environment", "vessels": {
        "direct": {"command": ["env", "-0"], "environment": environment},
        "shim": {"command": ["env", "-0"], "environment": environment, "umask": "022"},
    }});
    let run = run_fleet(&api, &fleet);
    let variables = |vessel: &str| {
        let output = api.output(&run, vessel);
        assert!(output.contains("/env") || output.contains("libc.so"), "LD_DEBUG shows something");
        assert!(!output.to_lowercase().contains("boathook:"), "{output}");
        assert!(!output.contains("target/") && !output.contains("libgcc_s"), "{output}");
        let mine = |variable: &&str| {
            let differs = ["SHIPYARD_", "BOATHOOK_"].iter().any(|it| variable.starts_with(it));
            variable.contains('=') && !differs && !variable.contains(":\t")
        };
        let mut variables: Vec<String> =
            output.split('\0').filter(mine).map(str::to_owned).collect();
        variables.sort();
        variables
    };
    assert_eq!(variables("direct"), variables("shim"));
    assert!(variables("shim").contains(&"UNICODE=é=ü\n".to_owned()));
    let names = |vessel: &str| {
        let output = api.output(&run, vessel);
        output.matches("SHIPYARD_").count() + output.matches("BOATHOOK_").count()
    };
    assert_eq!(names("direct"), names("shim"));
}

#[test]
fn vessels_inherit_neither_descriptors_nor_ignored_signals() {
    /// Signals 32 and 33, which the C library reserves.
    const RESERVED: u64 = 0b11 << 31;
    let commands = "exec 7</dev/null 9>/dev/null; trap '' QUIT USR1 CHLD TSTP";
    let server = Server::builder().after_shell(commands).start();
    let api = server.api();
    let mut vessels = serde_json::Map::new();
    for (name, umask) in [("direct", Value::Null), ("shim", json!("022"))] {
        for (what, command) in [
            ("descriptors", json!(["ls", "/proc/self/fd"])),
            ("signals", json!(["grep", "-E", "SigIgn|SigBlk", "/proc/self/status"])),
        ] {
            let mut vessel = json!({"command": command});
            if !umask.is_null() {
                vessel["umask"] = umask.clone();
            }
            vessels.insert(format!("{name} {what}"), vessel);
        }
    }
    let run = run_fleet(&api, &json!({"name": "inherited", "vessels": vessels}));
    for name in ["direct", "shim"] {
        // The last one is the directory that ls reads.
        assert_eq!(api.output(&run, &format!("{name} descriptors")), "0\n1\n2\n3\n", "{name}");
        for line in api.output(&run, &format!("{name} signals")).lines() {
            let (_, mask) = line.split_once(":\t").unwrap();
            let mask = u64::from_str_radix(mask, 16).unwrap();
            assert_eq!(mask & !RESERVED, 0, "{name}: {line}");
        }
    }
}
