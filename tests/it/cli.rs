//! The verbs of the binary: what goes to stdout, what to stderr, and with which exit status.

use std::fs;
use std::path::Path;
use std::process::Command;

use boathook::internals::limits::CLIENT_VERSIONS_PAGE;
use serde_json::{Value, json};

use crate::harness::server::{BOATHOOK, finish};
use crate::harness::{Hook, Server, redacted};

const FLEET: &str = "\
name: shown
vessels:
  greet: {run: \"echo hello; cat\"}
  after: {command: [echo, done]}
connections:
  greet: {after: SUCCESS}
";

/// Runs a verb that must end with 0: (stdout, stderr).
#[track_caller]
fn succeed(server: &Server, arguments: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = finish(server.cli(arguments));
    assert_eq!(code, 0, "{arguments:?}: {}", redacted(&stderr));
    (stdout, stderr)
}

/// Runs a verb that must end with `code`; its stderr.
#[track_caller]
fn fail(server: &Server, arguments: &[&str], code: i32) -> String {
    let (actual, _, stderr) = finish(server.cli(arguments));
    assert_eq!(actual, code, "{arguments:?}: {}", redacted(&stderr));
    assert!(!stderr.trim().is_empty(), "{arguments:?} fails without a word");
    stderr
}

fn json_of(server: &Server, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let (stdout, _) = succeed(server, &arguments);
    serde_json::from_str(&stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error} in {}", redacted(&stdout)))
}

fn fleet_file(server: &Server, name: &str, content: &str) -> String {
    let path = server.scratch().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn from_fleet_file_to_finished_run() {
    let server = Server::start();
    let file = fleet_file(&server, "fleet.yaml", FLEET);
    let (_, hint) = succeed(&server, &["fleet", "apply", &file]);
    assert!(hint.contains("webhook add"), "says what to do next: {hint}");

    let (url, hint) = succeed(&server, &["webhook", "add", "shown"]);
    assert!(url.starts_with("http://") && url.ends_with('\n') && url.lines().count() == 1);
    assert!(hint.contains("curl"), "{}", redacted(&hint));
    let hook = Hook::from_url(url.trim_end());
    let (shown, _) = succeed(&server, &["webhook", "show", "shown"]);
    assert!(shown == url, "the URL can be copied again");
    fail(&server, &["webhook", "add", "shown"], 1);

    let run = hook.post(server.hooks(), &[], b"from outside\n");
    server.api().wait_status(&run, "Success");
    let (log, _) = succeed(&server, &["runs", "logs", &run, "--vessel", "greet"]);
    assert_eq!(log, "hello\nfrom outside\n");
    let (log, _) = succeed(&server, &["runs", "logs", &run]);
    for line in ["hello", "from outside", "done"] {
        assert!(log.contains(line), "{line:?} in {log:?}");
    }
    let (body, _) = succeed(&server, &["runs", "body", &run]);
    assert_eq!(body, "from outside\n");
    let (shown, _) = succeed(&server, &["runs", "show", &run]);
    assert!(shown.contains("Success") && shown.contains("greet"), "{shown}");
    let (list, _) = succeed(&server, &["runs", "list"]);
    assert!(list.contains("shown") && list.contains("Success"), "{list}");
    assert!(!list.contains('\u{1b}'), "colours are for terminals");

    let (new, _) = succeed(&server, &["webhook", "replace", "shown"]);
    let new = Hook::from_url(new.trim_end());
    assert_eq!(hook.try_post(server.hooks(), &[], b"").unwrap().status, 400);
    new.post(server.hooks(), &[], b"");
    succeed(&server, &["webhook", "remove", "shown"]);
    assert_eq!(new.try_post(server.hooks(), &[], b"").unwrap().status, 400);
    succeed(&server, &["fleet", "delete", "shown"]);
    fail(&server, &["fleet", "show", "shown"], 1);
}

#[test]
fn scripts_get_json() {
    let server = Server::start();
    let file = fleet_file(&server, "fleet.yaml", FLEET);
    json_of(&server, &["fleet", "apply", &file]);
    let fleets = json_of(&server, &["fleet", "list"]);
    assert_eq!(fleets[0]["name"], "shown", "{fleets}");
    let id = fleets[0]["id"].as_str().unwrap();
    assert_eq!(json_of(&server, &["fleet", "show", "default/shown"])["id"], id);
    assert_eq!(json_of(&server, &["fleet", "show", id])["name"], "shown");

    let run = json_of(&server, &["run", "shown"])["fleet_run_id"].as_str().unwrap().to_owned();
    server.api().wait_status(&run, "Success");
    assert_eq!(json_of(&server, &["runs", "show", &run])["status"], "Success");
    // A unique part at either end will do.
    let (head, tail) = (&run[..18], &run[24..]);
    assert_eq!(json_of(&server, &["runs", "show", head])["id"], run.as_str());
    assert_eq!(json_of(&server, &["runs", "show", tail])["id"], run.as_str());
    let runs = json_of(&server, &["runs", "list", "--status", "Success", "--limit", "5"]);
    assert_eq!(runs[0]["id"], run.as_str(), "{runs}");
    let none = json_of(&server, &["runs", "list", "--status", "Errored"]);
    assert_eq!(none, json!([]));
}

#[test]
fn a_fleet_as_yaml_applies_unchanged() {
    let server = Server::start();
    let file = fleet_file(&server, "fleet.yaml", FLEET);
    succeed(&server, &["fleet", "apply", &file]);
    let (yaml, _) = succeed(&server, &["fleet", "show", "shown", "--yaml"]);
    let again = fleet_file(&server, "again.yaml", &yaml);
    succeed(&server, &["fleet", "apply", &again]);
    assert_eq!(json_of(&server, &["fleet", "show", "shown"])["version"], 1);

    // From stdin, and all files of a directory.
    let mut from_stdin = server.cli(&["fleet", "apply", "-"]);
    from_stdin.stdin(fs::File::open(&again).unwrap());
    assert_eq!(finish(from_stdin).0, 0);
    let directory = server.scratch().join("fleets");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("b.yaml"), FLEET.replace("shown", "second")).unwrap();
    fs::write(directory.join("c.yml"), FLEET.replace("shown", "third")).unwrap();
    succeed(&server, &["fleet", "apply", directory.to_str().unwrap()]);
    assert_eq!(json_of(&server, &["fleet", "list"]).as_array().unwrap().len(), 3);
}

#[test]
fn versions_can_be_listed_compared_and_reverted() {
    let server = Server::start();
    let file = fleet_file(&server, "one.yaml", FLEET);
    succeed(&server, &["fleet", "apply", &file]);
    let file = fleet_file(&server, "two.yaml", &FLEET.replace("hello", "good morning"));
    succeed(&server, &["fleet", "apply", &file]);
    let versions = json_of(&server, &["fleet", "versions", "shown"]);
    assert_eq!(versions.as_array().unwrap().len(), 2, "{versions}");
    let (diff, _) = succeed(&server, &["fleet", "diff", "shown", "1", "2"]);
    assert!(diff.contains("hello") && diff.contains("good morning"), "{diff}");
    // With one number, against what is current.
    let (same, _) = succeed(&server, &["fleet", "diff", "shown", "1"]);
    assert_eq!(same, diff);
    fail(&server, &["fleet", "diff", "shown", "1", "3"], 1);
    fail(&server, &["fleet", "revert", "shown", "3"], 1);
    succeed(&server, &["fleet", "revert", "shown", "1"]);
    assert_eq!(json_of(&server, &["fleet", "show", "shown"])["version"], 3);
    let (nothing, said) = succeed(&server, &["fleet", "diff", "shown", "1"]);
    assert_eq!(nothing, "", "the content of version 1 again");
    assert!(said.contains("are the same"), "{said}");
}

#[test]
fn all_versions_are_listed() {
    let server = Server::start();
    for (name, text) in [("a.yaml", FLEET.to_owned()), ("b.yaml", FLEET.replace("hello", "hi"))] {
        succeed(&server, &["fleet", "apply", &fleet_file(&server, name, &text)]);
    }
    let api = server.api();
    let fleet = json_of(&server, &["fleet", "show", "shown"])["id"].as_str().unwrap().to_owned();
    let versions = CLIENT_VERSIONS_PAGE * 2 + 1;
    for version in 3..=versions {
        // By turns, for what changes nothing makes no version.
        let earlier = 2 - version % 2;
        let path = format!("/api/v1/fleets/{fleet}/versions/{earlier}/revert");
        api.call("POST", &path, None).expect(201);
    }
    let listed = json_of(&server, &["fleet", "versions", "shown"]);
    let numbers: Vec<_> =
        listed.as_array().unwrap().iter().map(|it| it["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=versions as u64).rev().collect::<Vec<_>>());
    let (table, _) = succeed(&server, &["fleet", "versions", "shown"]);
    assert_eq!(table.lines().count(), versions + 1, "{table}");
}

#[test]
fn following_a_run_ends_with_its_status() {
    let server = Server::start();
    let fleets = "\
name: works
vessels: {v: {run: \"echo works; cat\"}}
---
name: fails
vessels: {v: {run: 'echo fails >&2; exit 9'}}
---
name: hangs
vessels: {v: {run: 'echo hangs; exec sleep 100000'}}
";
    let mut files: Vec<String> = Vec::new();
    for (number, fleet) in fleets.split("---\n").enumerate() {
        files.push(fleet_file(&server, &format!("{number}.yaml"), fleet));
    }
    let mut arguments = vec!["fleet", "apply"];
    arguments.extend(files.iter().map(String::as_str));
    succeed(&server, &arguments);

    let body = fleet_file(&server, "body", "a body\n");
    let (code, stdout, stderr) =
        finish(server.cli(&["run", "works", "--body", &body, "--header", "X-A: b", "--follow"]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("works\na body\n"), "{stdout:?}");
    let runs = json_of(&server, &["runs", "list", "--fleet", "works"]);
    assert_eq!(runs[0]["trigger"], "webhook", "with a body it starts as a webhook would");

    let (code, stdout, _) = finish(server.cli(&["run", "fails", "--follow"]));
    assert_eq!(code, 3, "Errored");
    assert!(stdout.contains("fails"), "{stdout:?}");
    let runs = json_of(&server, &["runs", "list", "--fleet", "fails"]);
    assert_eq!(runs[0]["trigger"], "on_demand");
    let run = runs[0]["id"].as_str().unwrap();
    assert_eq!(finish(server.cli(&["runs", "logs", run, "--follow"])).0, 3);

    let run = json_of(&server, &["run", "hangs"])["fleet_run_id"].as_str().unwrap().to_owned();
    let mut follower = server.cli(&["runs", "logs", &run, "--follow"]);
    follower.stdout(std::process::Stdio::piped());
    let mut follower = follower.spawn().unwrap();
    let mut output = follower.stdout.take().unwrap();
    crate::harness::server::read_until(&mut output, "hangs");
    succeed(&server, &["runs", "stop", &run]);
    assert_eq!(follower.wait().unwrap().code(), Some(4), "Terminated");
}

#[test]
fn the_status_says_whether_the_server_accepts() {
    let server = Server::start();
    let (text, _) = succeed(&server, &["status"]);
    assert!(text.starts_with("state     accepting\n"), "{text}");
    assert_eq!(json_of(&server, &["status"])["healthy"], true);
    let full = Server::builder().setting("min_free_bytes", "1000000GiB").start();
    let (code, text, _) = finish(full.cli(&["status"]));
    assert_eq!(code, 1);
    assert!(text.starts_with("state     refusing: "), "{text}");
}

#[test]
fn the_log_of_the_latest_run_needs_no_id() {
    let server = Server::start();
    for (name, script) in [("good", "seq 5"), ("bad", "echo wrong; exit 3"), ("worse", "exit 4")] {
        server.api().apply(&json!({"name": name, "vessels": {"v": {"run": script}}}));
    }
    assert!(fail(&server, &["runs", "logs", "--latest"], 1).contains("there is no such run"));
    for name in ["good", "bad", "good"] {
        finish(server.cli(&["run", name, "--follow"]));
    }
    let logs = |flags: &[&str]| succeed(&server, &[&["runs", "logs", "--latest"], flags].concat());
    let (log, said) = logs(&["--tail", "2"]);
    assert_eq!(log, "4\n5\n");
    assert!(said.starts_with("good: run ") && said.contains("Success"), "{said}");
    assert_eq!(logs(&["--failed"]).0, "wrong\n");
    assert_eq!(logs(&["--fleet", "bad"]).0, "wrong\n");
    assert_eq!(json_of(&server, &["runs", "logs", "--latest", "--tail", "1"])[0]["output"], "5\n");
    let message = fail(&server, &["runs", "logs", "--latest", "--fleet", "good", "--failed"], 1);
    assert!(message.contains("there is no such run"), "{message}");
    let follow = ["runs", "logs", "--latest", "--failed", "--follow"];
    assert_eq!(finish(server.cli(&follow)).0, 3);
}

#[test]
fn one_attempt_is_followed_to_its_end() {
    let server = Server::start();
    let gate = server.scratch().join("gate");
    let wait = format!("until [ -e {} ]; do sleep 0.1; done", gate.display());
    let script = format!(
        "echo begins $BOATHOOK_ATTEMPT; [ $BOATHOOK_ATTEMPT = 1 ] || {wait}; \
         echo ends $BOATHOOK_ATTEMPT; [ $BOATHOOK_ATTEMPT = 3 ]"
    );
    let fleet = json!({"name": "retries", "vessels": {
        "v": {"run": script, "guardrails": {"retry_count": 2, "retry_wait": "1s"}},
        "then": {"run": "echo then"},
    }, "connections": {"v": {"then": "SUCCESS"}}});
    server.api().apply(&fleet);
    let run = json_of(&server, &["run", "retries"])["fleet_run_id"].as_str().unwrap().to_owned();
    let follow = |attempt: &str| {
        let mut follower = server.cli(&["runs", "logs", &run, "--vessel", "v", "--follow"]);
        follower.args(["--attempt", attempt]);
        follower.stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    let read_to_end = |follower: std::process::Child, code: i32, expected: &str| {
        let output = follower.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert_eq!(output.status.code(), Some(code));
    };
    // Before it begins, and while others follow.
    let third = follow("3");
    let mut second = follow("2");
    let mut output = second.stdout.take().unwrap();
    crate::harness::server::read_until(&mut output, "begins 2");
    second.stdout = Some(output);
    fs::write(&gate, "").unwrap();
    read_to_end(third, 0, "begins 3\nends 3\n");
    let output = second.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).trim().ends_with("ends 2"));
    server.api().wait_status(&run, "Success");
    read_to_end(follow("1"), 0, "begins 1\nends 1\n");
    read_to_end(follow("2"), 0, "begins 2\nends 2\n");
    assert!(
        fail(&server, &["runs", "logs", &run, "--attempt", "4", "--follow"], 1).contains("v: 3")
    );
}

#[test]
fn mistakes_are_told_apart_by_exit_status() {
    let server = Server::start();
    for usage in [&["no-such-verb"][..], &["serve", "--no-such-flag"], &["runs", "show"], &[]] {
        fail(&server, usage, 2);
    }
    fail(&server, &["fleet", "show", "nobody"], 1);
    fail(&server, &["run", "nobody"], 1);
    fail(&server, &["runs", "show", "00000000-0000-0000-0000-000000000000"], 1);
    fail(&server, &["fleet", "apply", "/no/such/file.yaml"], 1);
    let bad = fleet_file(&server, "bad.yaml", "name: x\nvessels:\n  v: {comand: [a]}\n");
    let said = fail(&server, &["fleet", "apply", &bad], 1);
    assert!(said.contains("line 3") && said.contains("comand"), "{said}");
    assert!(said.contains("bad.yaml"), "{said}");

    // No server there.
    let empty = tempfile::tempdir().unwrap();
    let mut command = server.cli(&["fleet", "list"]);
    command.env("BOATHOOK_DATA_DIR", empty.path());
    let (code, _, stderr) = finish(command);
    assert_eq!(code, 1, "{stderr}");
    let mut command = server.cli(&["fleet", "list"]);
    command.env("BOATHOOK_URL", "http://127.0.0.1:1");
    let (code, _, stderr) = finish(command);
    assert_eq!(code, 1);
    assert!(!stderr.contains(&server.token()));
}

#[test]
fn the_server_is_found_by_url_and_token() {
    let server = Server::start();
    let url = format!("http://{}", server.admin());
    let token_file = server.data_dir().join("admin.token");
    let clean = |arguments: &[&str]| {
        let mut command = server.cli(arguments);
        command.env_remove("BOATHOOK_DATA_DIR");
        command
    };
    let token_file = token_file.to_str().unwrap();
    let arguments = ["--url", &url, "--token-file", token_file];
    let (code, _, stderr) = finish(clean(&[&["fleet", "list"], &arguments[..]].concat()));
    assert_eq!(code, 0, "{stderr}");
    let mut command = clean(&["fleet", "list"]);
    command.env("BOATHOOK_URL", &url).env("BOATHOOK_TOKEN", server.token());
    let (code, _, stderr) = finish(command);
    assert_eq!(code, 0, "{stderr}");
    let data_dir = server.data_dir().to_str().unwrap();
    let (code, _, stderr) = finish(clean(&["fleet", "list", "--data-dir", data_dir]));
    assert_eq!(code, 0, "{stderr}");
    let mut command = clean(&["fleet", "list"]);
    command.env("BOATHOOK_URL", &url).env("BOATHOOK_TOKEN", "wrong");
    assert_eq!(finish(command).0, 1);
}

#[test]
fn the_demo_runs_to_its_end() {
    let home = tempfile::tempdir().unwrap();
    let mut demo = Command::new(BOATHOOK);
    demo.args(["demo", "--exit"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home.path());
    let (code, stdout, stderr) = finish(demo);
    assert_eq!(code, 0, "{}", redacted(&stderr));
    assert!(stdout.contains("fleet_run_id"), "shows the 201: {}", redacted(&stdout));
    assert!(stdout.contains("Success"), "shows the result: {}", redacted(&stdout));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "leaves nothing in the home");
}

/// `serve` on `data_dir`, which must fail: what it said.
fn refused_to_serve(data_dir: &Path) -> String {
    let mut command = Command::new(BOATHOOK);
    command
        .args(["serve", "--hooks-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(data_dir);
    let (code, stdout, stderr) = finish(command);
    assert_eq!(code, 1, "{stderr}");
    assert_eq!(stdout, "", "not ready");
    stderr
}

#[test]
fn a_second_server_on_the_same_data_directory_is_refused() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "first", "vessels": {"v": {"command": ["true"]}},
    }));
    let token = server.token();
    let said = refused_to_serve(server.data_dir());
    assert!(said.contains("in use") && said.contains(&server.pid().to_string()), "{said}");
    assert!(server.token() == token, "the token is untouched");
    let run = hook.post(server.hooks(), &[], b"");
    server.api().wait_status(&run, "Success");
}

#[test]
fn a_data_directory_of_a_newer_schema_is_refused_and_left_alone() {
    let mut server = Server::start();
    let run = server.api().start(&server.api().apply(&json!({
        "name": "kept", "vessels": {"v": {"command": ["true"]}},
    })));
    server.api().wait_status(&run, "Success");
    server.stop();
    let schema = server.data_dir().join("schema");
    let ours = fs::read_to_string(&schema).unwrap();
    fs::write(&schema, "1000000\n").unwrap();
    let database = server.data_dir().join("db");
    let before = crate::harness::sha256(&fs::read(database.join("db")).unwrap());
    let said = refused_to_serve(server.data_dir());
    assert!(said.contains("schema") && said.contains("newer"), "{said}");
    assert_eq!(crate::harness::sha256(&fs::read(database.join("db")).unwrap()), before);
    fs::write(&schema, ours).unwrap();
    server.start_again();
    server.api().wait_status(&run, "Success");
}

#[test]
fn a_home_becomes_a_data_directory_and_a_directory_of_others_does_not() {
    let mut server = Server::builder().not_started();
    let data_dir = server.data_dir().to_owned();
    fs::create_dir_all(data_dir.join(".ssh")).unwrap();
    let others = data_dir.join("notes.txt");
    fs::write(&others, "not ours").unwrap();
    let said = refused_to_serve(&data_dir);
    assert!(said.contains("neither empty nor a data directory"), "{said}");
    assert!(!data_dir.join("db").exists());
    fs::remove_file(others).unwrap();
    server.start_again();
    assert!(data_dir.join(".ssh").is_dir());
}

#[test]
fn wrong_settings_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("boathook.toml");
    fs::write(&config, "max_body_bytse = 5\n").unwrap();
    let mut command = Command::new(BOATHOOK);
    command
        .args(["serve", "--hooks-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .arg("--config")
        .arg(config);
    let (code, stdout, stderr) = finish(command);
    assert_ne!(code, 0);
    assert_eq!(stdout, "");
    assert!(stderr.contains("max_body_bytse"), "{stderr}");
}

#[test]
fn the_allocator_goes_by_our_settings() {
    let mut version = Command::new(BOATHOOK);
    version.arg("--version").env("_RJEM_MALLOC_CONF", "stats_print:true");
    let (code, _, statistics) = finish(version);
    assert_eq!(code, 0, "{statistics}");
    for setting in [
        "opt.narenas: 8\n",
        "opt.thp: \"never\"",
        "opt.dirty_decay_ms: 1000 ",
        "opt.tcache_max: 4096\n",
        "opt.tcache_nslots_small_max: 32\n",
    ] {
        assert!(statistics.contains(setting), "{setting}: {statistics}");
    }
}
