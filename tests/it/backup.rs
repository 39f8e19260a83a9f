//! Backups of a running server and their restore. A backup holds every acknowledged run, and an
//! incomplete file is refused.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use boathook::internals::Timestamp;
use boathook::internals::backup::{Header, Writer, verify};
use serde_json::{Value, json};

use crate::harness::api::{is_final, vessel_of};
use crate::harness::http::post_request;
use crate::harness::server::{back_up, finish, restore_command, restored};
use crate::harness::{Connection, Finally, Hook, Random, Server, assert_error, sha256, wait_until};

fn fleet_of(script: &str, name: &str) -> Value {
    json!({"name": name, "vessels": {
        "first": {"run": script}, "second": {"command": ["echo", "done"]},
    }, "connections": {"first": {"second": "SUCCESS"}}})
}

#[test]
fn a_restored_server_has_the_runs_and_webhooks_of_the_first() {
    let mut server = Server::start();
    let script = "cat; head -c 200000 /dev/zero | tr '\\0' x; [ \"$(wc -c < \"$SHIPYARD_WEBHOOK_BODY_FILE\")\" != 5 ]";
    let (fleet, hook) = server.fleet_with_webhook(&fleet_of(script, "kept"));
    let large = vec![b'y'; 700_000];
    let bodies: [&[u8]; 3] = [b"one", b"three", &large];
    let runs = bodies.map(|body| hook.post(server.hooks(), &[("X-Mine", "7")], body));
    let before = runs.each_ref().map(|run| server.api().wait_ended(run));
    let outputs = before.each_ref().map(|run| server.api().output(run, "first"));
    let backup = back_up(&server, "whole.backup");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&backup).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds the URLs of webhooks");
    let (old_hooks, old_token) = (server.hooks().to_owned(), server.token());
    server.stop();

    let mut server = restored(&backup, &[]);
    server.start_again();
    let api = server.api();
    assert_ne!(server.token(), old_token, "a restored server makes a token of its own");
    for (index, run) in runs.iter().enumerate() {
        assert_eq!(api.run(run), before[index], "nothing about it is another");
        assert_eq!(api.get(&format!("/api/v1/runs/{run}/body")).expect(200).body, bodies[index]);
        assert!(api.output(&before[index], "first") == outputs[index]);
        let parameters = api.get(&format!("/api/v1/runs/{run}/webhook-parameters")).expect(200);
        assert_eq!(parameters.data()["headers"]["X-Mine"], json!(["7"]));
    }
    let versions = api.get(&format!("/api/v1/fleets/{fleet}/versions")).expect(200).data();
    assert_eq!(versions.as_array().unwrap().len(), 1);
    let next = hook.post(server.hooks(), &[], b"after");
    assert!(next > runs[2], "run ids go on increasing");
    api.wait_ended(&next);
    assert_ne!(server.hooks(), old_hooks);
    // The restored server makes backups, too.
    back_up(&server, "again.backup");
}

#[test]
fn a_restore_terminates_unfinished_runs_without_notifications() {
    let mut server = Server::builder().setting("workers", "1").start();
    let journal = server.journal("journal");
    let notify =
        json!([{"on": ["TERMINATED"], "url": "http://127.0.0.1:9/none", "secret": "none"}]);
    let mut fleet = fleet_of(&format!("echo began >> {journal}; exec sleep 100000"), "long");
    fleet["notify"] = notify;
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let running = hook.post(server.hooks(), &[], b"");
    journal.wait_for_line("began");
    let waiting = hook.post(server.hooks(), &[], b"waits");
    let backup = back_up(&server, "unfinished.backup");

    // The first server goes on beside the restored one, which leaves its vessels alone.
    let mut copy = restored(&backup, &[]);
    copy.start_again();
    let api = copy.api();
    for run in [&running, &waiting] {
        let ended = api.wait_status(run, "Terminated");
        let reason = ended["reason"].as_str().unwrap();
        assert!(reason.contains("had not ended in the backup of 20"), "{reason}");
        for vessel in ["first", "second"] {
            assert_eq!(vessel_of(&ended, vessel)["status"], "Terminated", "{ended:#}");
        }
        assert_eq!(ended.get("notifications"), None, "{ended:#}");
    }
    assert_eq!(api.get(&format!("/api/v1/runs/{waiting}/body")).expect(200).body, b"waits");
    assert_eq!(journal.lines(), ["began"], "nothing has started");
    assert_eq!(server.api().run(&running)["status"], "Running");
    // It happens once.
    copy.stop();
    copy.start_again();
    copy.api().wait_status(&running, "Terminated");
    server.kill();
}

#[test]
fn resume_runs_restarts_unfinished_runs_except_those_at_most_once() {
    let server = Server::builder().setting("workers", "4").start();
    let journal = server.journal("journal");
    let script = |name: &str| {
        let go_on = format!("[ -e {journal}.go ] && exit 0");
        format!("echo {name} $BOATHOOK_ATTEMPT >> {journal}; {go_on}; exec sleep 100000")
    };
    let api = server.api();
    let twice = api.start(&api.apply(&fleet_of(&script("twice"), "twice")));
    let mut fleet = fleet_of(&script("once"), "once");
    fleet["delivery"] = json!("at_most_once");
    fleet["concurrency"] = json!(1);
    let fleet = api.apply(&fleet);
    let once = api.start(&fleet);
    journal.wait_for_line("once 1");
    journal.wait_for_line("twice 1");
    let once_waiting = api.start(&fleet);
    let backup = back_up(&server, "unfinished.backup");
    fs::write(format!("{journal}.go"), "").unwrap();

    let mut copy = restored(&backup, &["--resume-runs"]);
    copy.start_again();
    let api = copy.api();
    let ended = api.wait_status(&twice, "Success");
    assert_eq!(vessel_of(&ended, "first")["attempt"], 2);
    let log = api.output(&ended, "first");
    assert!(log.contains("backup") && log.contains("starts again"), "{log}");
    for run in [&once, &once_waiting] {
        let ended = api.wait_status(run, "Errored");
        let reason = ended["reason"].as_str().unwrap();
        assert!(reason.contains("at_most_once") && reason.contains("backup"), "{reason}");
        assert_eq!(vessel_of(&ended, "second")["status"], "Incomplete");
    }
    assert_eq!(journal.lines().iter().filter(|line| line.starts_with("once")).count(), 1);
}

/// Senders that note the acknowledged runs.
fn send(
    hook: &Hook,
    address: &str,
    sender: usize,
    done: &AtomicBool,
    books: &Mutex<BTreeMap<String, String>>,
) {
    let mut random = Random::seeded(sender as u64 + 1);
    for number in 0.. {
        if done.load(Ordering::SeqCst) {
            return;
        }
        let length = if random.one_in(20) { 400_000 } else { random.below(3000) };
        let mut body = format!("{sender} {number} ").into_bytes();
        body.resize(body.len() + length, b'z');
        let run = hook.post(address, &[], &body);
        books.lock().unwrap().insert(run, sha256(&body));
    }
}

#[test]
fn backups_under_load_hold_every_acknowledged_run_whole() {
    let server = Server::builder().setting("workers", "4").start();
    let (_, hook) = server.fleet_with_webhook(&fleet_of("true", "busy"));
    let (books, done) = (Mutex::default(), AtomicBool::new(false));
    let backups = thread::scope(|scope| {
        let finally = Finally(|| done.store(true, Ordering::SeqCst));
        for sender in 0..4 {
            let (hook, books, done, address) = (&hook, &books, &done, server.hooks());
            scope.spawn(move || send(hook, address, sender, done, books));
        }
        let backups = [200, 500, 800].map(|runs| {
            wait_until("much is stored", || books.lock().unwrap().len() >= runs);
            let acknowledged = books.lock().unwrap().clone();
            (acknowledged, back_up(&server, &format!("{runs}.backup")))
        });
        drop(finally);
        backups
    });
    for (acknowledged, backup) in backups {
        let mut copy = restored(&backup, &[]);
        copy.start_again();
        let api = copy.api();
        let runs = api.all_runs();
        let by_id: BTreeMap<_, _> =
            runs.iter().map(|run| (run["id"].as_str().unwrap(), run)).collect();
        for (run, digest) in &acknowledged {
            assert!(by_id.contains_key(run.as_str()), "{run} was acknowledged before the backup");
            let body = api.get(&format!("/api/v1/runs/{run}/body")).expect(200).body;
            assert_eq!(&sha256(&body), digest);
        }
        for run in runs {
            assert!(is_final(&run), "{run:#}");
            let statuses = ["first", "second"].map(|it| vessel_of(&run, it)["status"].clone());
            match run["status"].as_str() {
                Some("Success") => assert_eq!(statuses, ["Success", "Success"], "{run:#}"),
                Some("Terminated") => assert!(statuses.contains(&json!("Terminated")), "{run:#}"),
                _ => panic!("{run:#}"),
            }
            let body = format!("/api/v1/runs/{}/body", run["id"].as_str().unwrap());
            let length = api.get(&body).expect(200).body.len();
            assert!(length > 0, "each has a body");
        }
        assert_eq!(copy.log().matches("ERROR").count(), 0, "{}", copy.log_tail());
    }
}

#[test]
fn a_damaged_or_cut_backup_is_refused_with_nothing_changed() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&fleet_of("head -c 100000 /dev/zero", "small"));
    let run = hook.post(server.hooks(), &[], b"body");
    server.api().wait_status(&run, "Success");
    let whole = fs::read(back_up(&server, "whole.backup")).unwrap();
    let (damaged, target) = (server.scratch().join("damaged"), server.scratch().join("target"));
    let mut random = Random::seeded(Random::seed("damaged backups"));
    for round in 0..60 {
        let at = if round < 20 { round * 3 } else { random.below(whole.len()) };
        let mut bytes = whole.clone();
        match round % 2 {
            0 => bytes[at] ^= 1 << random.below(8),
            _ => bytes.truncate(at),
        }
        fs::write(&damaged, &bytes).unwrap();
        for verify in [true, false] {
            let mut restore = restore_command(&damaged, &target);
            restore.args(verify.then_some("--verify"));
            let (code, said, problem) = finish(restore);
            assert_eq!(code, 1, "{round} {at}: {said}");
            assert!(problem.contains("damaged:") && said.is_empty(), "{problem}");
        }
        assert!(!target.exists(), "nothing was made: {round} {at}");
    }
    fs::write(&damaged, &whole).unwrap();
    assert_eq!(finish(restore_command(&damaged, &target)).0, 0);
    // A restore never overwrites: neither a running server's directory nor any other content.
    let occupied = server.scratch().join("occupied");
    fs::create_dir(&occupied).unwrap();
    fs::write(occupied.join("precious"), "").unwrap();
    for data_dir in [target.as_path(), server.data_dir(), &occupied] {
        let (code, _, problem) = finish(restore_command(&damaged, data_dir));
        assert_eq!(code, 1);
        assert!(problem.contains("not empty") && problem.contains("--data-dir"), "{problem}");
    }
    assert!(occupied.join("precious").exists());
    assert_eq!(fs::read_dir(&occupied).unwrap().count(), 1);
    server.api().run(&run);
    // Settings may be there already.
    let prepared = server.scratch().join("prepared");
    fs::create_dir(&prepared).unwrap();
    fs::write(prepared.join("boathook.toml"), "workers = 3\n").unwrap();
    assert_eq!(finish(restore_command(&damaged, &prepared)).0, 0);
    assert!(prepared.join("boathook.toml").exists());
}

#[test]
fn a_backup_of_a_newer_version_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let backup = scratch.path().join("newer.backup");
    let mut bytes = Vec::new();
    let newer = Header { version: "99.0.0".to_owned(), ..Header::new(99, Timestamp::default(), 0) };
    Writer::begin(&mut bytes, &newer).unwrap().finish().unwrap();
    fs::write(&backup, bytes).unwrap();
    let target = scratch.path().join("target");
    let (code, _, problem) = finish(restore_command(&backup, &target));
    assert_eq!(code, 1);
    assert!(problem.contains("99.0.0") && problem.contains("schema 99"), "{problem}");
    assert!(!target.exists());
}

#[test]
fn a_killed_restore_can_be_repeated() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&fleet_of("cat > /dev/null", "large"));
    let body = vec![b'q'; 8 << 20];
    let runs: Vec<_> = (0..3).map(|_| hook.post(server.hooks(), &[], &body)).collect();
    runs.iter().for_each(|run| drop(server.api().wait_status(run, "Success")));
    let backup = back_up(&server, "large.backup");

    let mut copy = Server::builder().not_started();
    let mark = copy.data_dir().join("restore");
    for _ in 0..3 {
        let mut restore = restore_command(&backup, copy.data_dir());
        let mut restore = restore.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("it has begun", || mark.exists() || restore.try_wait().unwrap().is_some());
        restore.kill().unwrap();
        restore.wait().unwrap();
        assert!(mark.exists(), "killed too late to be a test");
        assert!(copy.try_start_again().is_err());
        assert!(copy.log().contains("run `boathook restore` again"), "{}", copy.log_tail());
    }
    let (code, _, problem) = finish(restore_command(&backup, copy.data_dir()));
    assert_eq!(code, 0, "{problem}");
    assert!(!mark.exists());
    copy.start_again();
    for run in &runs {
        let stored = copy.api().get(&format!("/api/v1/runs/{run}/body")).expect(200).body;
        assert!(stored == body);
    }
}

/// A client that reads the first line of a backup's head, and then stops.
fn begin_and_stop_reading(server: &Server) -> Connection {
    let mut client = Connection::open(server.admin()).unwrap();
    let token = format!("Bearer {}", server.token());
    client.send(&post_request("/api/v1/backup", &[("Authorization", &token)], b"")).unwrap();
    let status = client.line().unwrap();
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    client
}

#[test]
fn a_receiver_that_stops_reading_delays_no_commit_and_is_given_up() {
    let server = Server::builder().setting("write_timeout", "2s").start();
    let (_, hook) = server.fleet_with_webhook(&fleet_of("true", "beside"));
    // More than the buffers between server and client hold.
    let body = vec![b'w'; 20 << 20];
    let run = hook.post(server.hooks(), &[], &body);
    server.api().wait_status(&run, "Success");
    for gives_up in [true, false] {
        let client = begin_and_stop_reading(&server);
        assert_error(&server.api().post("/api/v1/backup", &json!({})), 409);
        for _ in 0..50 {
            hook.post(server.hooks(), &[], b"meanwhile");
        }
        // One client hangs up. The server gives the other one up.
        let client = (!gives_up).then_some(client);
        server.wait_until("another backup can be made", || {
            let path = server.scratch().join("another.backup");
            finish(server.cli(&["backup", path.to_str().unwrap()])).0 == 0
        });
        drop(client);
    }
    assert_eq!(server.log().matches("a backup ended early").count(), 2, "{}", server.log_tail());
}

#[test]
fn a_backup_follows_links_and_fills_pipes() {
    let server = Server::start();
    let at = |name: &str| server.scratch().join(name);
    fs::write(at("kept.backup"), "the last one").unwrap();
    symlink("kept.backup", at("link")).unwrap();
    symlink("missing", at("dangling")).unwrap();
    back_up(&server, "link");
    assert!(at("link").is_symlink());
    let kept = fs::read(at("kept.backup")).unwrap();
    assert!(verify(&kept[..]).is_ok());
    let (code, _, said) = finish(server.cli(&["backup", at("dangling").to_str().unwrap()]));
    assert!(code == 1 && said.contains("a link to what is not there"), "{said}");

    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let reader = thread::spawn({
        let pipe = at("pipe");
        move || fs::read(pipe).unwrap()
    });
    back_up(&server, "pipe");
    assert!(verify(&reader.join().unwrap()[..]).is_ok());
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn standard_output_gets_the_backup_and_nothing_else() {
    let server = Server::start();
    let out = server.scratch().join("out");
    symlink("/dev/stdout", server.scratch().join("link")).unwrap();
    assert!(Command::new("mkfifo").arg(server.scratch().join("fifo")).status().unwrap().success());
    for script in [
        "\"$0\" backup - > out",
        "\"$0\" backup - --json > out",
        "\"$0\" backup /dev/stdout > out",
        "\"$0\" backup /dev/stdout >> out",
        "\"$0\" backup /dev/stdout | cat > out",
        "\"$0\" backup /dev/stdout --json | cat > out",
        "\"$0\" backup /dev/fd/1 | cat > out",
        "\"$0\" backup /proc/self/fd/1 > out",
        "\"$0\" backup link | cat > out",
        "\"$0\" backup out > out",
        "\"$0\" backup /dev/fd/3 3> out",
        "\"$0\" backup /dev/fd/3 3>> out",
        "\"$0\" backup /dev/fd/3 3>&1 | cat > out",
        "cat fifo > out & \"$0\" backup fifo && wait",
        // Messages would follow the backup.
        "\"$0\" backup - > out 2>&1",
        "\"$0\" backup /dev/stderr 2> out",
    ] {
        fs::write(&out, "").unwrap();
        let (code, stdout, said) = finish(server.shell(script));
        assert_eq!((code, stdout.as_str()), (0, ""), "{script}: {said}");
        let bytes = fs::read(&out).unwrap();
        let verified = verify(&bytes[..]).unwrap_or_else(|error| panic!("{script}: {error}"));
        assert_eq!(verified.bytes, bytes.len() as u64, "{script}");
        if !script.contains("2>") {
            assert!(said.contains("backed up: "), "{script}: {said}");
        }
    }
    let (code, _, said) = finish(server.shell("\"$0\" backup /dev/full"));
    assert!(code == 1 && said.contains("cannot write to /dev/full"), "{said}");
    // The server may still hold the backup that was given up before.
    server.wait_until("the next backup begins, and cannot be written", || {
        let (code, _, said) = finish(server.shell("\"$0\" backup - > /dev/full"));
        assert_eq!(code, 1, "{said}");
        let is_refused = said.contains("a backup is being made already");
        assert!(is_refused || said.contains("cannot write to standard output"), "{said}");
        !is_refused
    });
}

#[test]
fn a_backup_is_restored_from_a_stream() {
    let server = Server::start();
    let (fleet, _) = server.fleet_with_webhook(&fleet_of("true", "kept"));
    back_up(&server, "b");
    let entries = || fs::read_dir(server.scratch()).unwrap().count();
    for (number, script) in [
        "cat b | \"$0\" restore - --data-dir new",
        "\"$0\" restore - --data-dir new < b",
        "(head -c 0; \"$0\" restore - --data-dir new) < b",
        "cat b | \"$0\" restore /dev/stdin --data-dir new/deep/er",
        "\"$0\" backup - | \"$0\" restore - --data-dir new",
    ]
    .iter()
    .enumerate()
    {
        let before = entries();
        let (code, stdout, said) = finish(server.shell(script));
        assert_eq!(code, 0, "{script}: {said}");
        assert!(stdout.contains("webhooks      1"), "{stdout}");
        assert_eq!(entries(), before + 1, "{script}: nothing but the data directory");
        let moved = server.scratch().join(format!("moved-{number}"));
        fs::rename(server.scratch().join("new"), &moved).unwrap();
        if number == 0 {
            let mut server = Server::builder().data_dir(&moved).not_started();
            server.start_again();
            server.api().get(&format!("/api/v1/fleets/{fleet}")).expect(200);
        }
    }
    for script in ["cat b | \"$0\" restore --verify -", "\"$0\" restore --verify - < b"] {
        let (code, stdout, said) = finish(server.shell(script));
        assert_eq!(code, 0, "{said}");
        assert!(stdout.starts_with("standard input is whole"), "{stdout}");
    }
    let before = entries();
    for script in [
        "head -c 500 b | \"$0\" restore - --data-dir new",
        "(cat b; echo b) | \"$0\" restore - --data-dir new",
        "\"$0\" restore - --data-dir new < /dev/null",
        "head -c 500 b | \"$0\" restore --verify -",
    ] {
        let (code, _, said) = finish(server.shell(script));
        assert!(code == 1 && said.contains("standard input"), "{script}: {said}");
        assert_eq!(entries(), before, "{script}");
    }
}

#[test]
fn an_interrupted_backup_leaves_nothing_behind() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&fleet_of("true", "large"));
    hook.post(server.hooks(), &[], &vec![b'w'; 20 << 20]);
    let directory = server.scratch().join("backups");
    fs::create_dir(&directory).unwrap();
    // A standard output without a reader holds it up, and so does a pipe as its file.
    let path = directory.join("kept.backup");
    fs::write(&path, "the last one").unwrap();
    let spawn = || -> Child {
        let mut command = server.cli(&["backup", path.to_str().unwrap()]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut child = spawn();
    wait_until("it has begun", || {
        fs::read_dir(&directory).unwrap().count() == 2 || child.try_wait().unwrap().is_some()
    });
    let pid = rustix::process::Pid::from_child(&child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    let status = child.wait().unwrap();
    let left: Vec<_> = fs::read_dir(&directory).unwrap().flatten().map(|it| it.path()).collect();
    assert_eq!(left, std::slice::from_ref(&path));
    if !status.success() {
        assert_eq!(fs::read(&path).unwrap(), b"the last one");
    }
    // Once the server has given up the first backup, the next one goes to standard output.
    server.wait_until("another backup can be made", || {
        let output = server.cli(&["backup", "-"]).output().unwrap();
        fs::write(&path, &output.stdout).unwrap();
        output.status.success()
    });
    let (code, said, _) = finish(server.cli(&["restore", "--verify", path.to_str().unwrap()]));
    assert!(code == 0 && said.contains("is whole"), "{said}");
}
