//! What the server and the command line say: each message names its own cause and what to do.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::certificate::Certificate;
use crate::harness::server::{BOATHOOK, finish};
use crate::harness::{Server, ServerBuilder, redacted};

/// `serve` on ports of its own and a directory in `scratch`, with further arguments and variables;
/// it must fail: what it says.
#[track_caller]
fn refused(scratch: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(BOATHOOK);
    command.env_clear().arg("serve").arg("--data-dir").arg(scratch.join("data"));
    let listen = |flag: &str| arguments.contains(&flag) || variables.iter().any(|it| it.0 == flag);
    for flag in ["--hooks-listen", "--admin-listen"] {
        if !listen(flag) {
            command.args([flag, "127.0.0.1:0"]);
        }
    }
    command.args(arguments).envs(variables.iter().copied());
    let (code, stdout, stderr) = finish(command);
    assert!(code != 0 && stdout.is_empty(), "{arguments:?}: {stderr}");
    stderr
}

#[test]
fn each_failure_to_bind_has_its_own_advice() {
    let scratch = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let said = refused(scratch.path(), &["--hooks-listen", &taken], &[]);
    assert!(said.contains("another process listens there") && said.contains("ss -ltnp"), "{said}");
    let said = refused(scratch.path(), &["--admin-listen", "192.0.2.7:9001"], &[]);
    assert!(said.contains("no address of this machine") && said.contains("admin_listen"), "{said}");
    assert!(!said.contains("another"), "{said}");

    // As an unprivileged user: root may listen anywhere.
    let start = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let start: u16 = fs::read_to_string(start).unwrap().trim().parse().unwrap();
    if !rustix::process::geteuid().is_root() || start <= 81 {
        eprintln!("skipped: needs root and privileged ports");
        return;
    }
    let mut command = Command::new("setpriv");
    command.env_clear().args(["--bounding-set=-net_bind_service", BOATHOOK, "serve"]);
    command.arg("--data-dir").arg(scratch.path().join("data"));
    command.args(["--hooks-listen", "127.0.0.1:81", "--admin-listen", "127.0.0.1:0"]);
    let (code, _, said) = finish(command);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("CAP_NET_BIND_SERVICE") && !said.contains("another process"), "{said}");
}

#[test]
fn an_empty_variable_is_unset() {
    let names =
        ["WORKERS", "PUBLIC_URL", "SMTP", "KEEP_RUNS", "CONFIG", "LOG", "SECRETS_DIR", "URL"];
    let empty = names
        .into_iter()
        .fold(Server::builder(), |builder, name| builder.variable(&format!("BOATHOOK_{name}"), ""));
    let server = empty.start();
    let mut list = server.cli(&["fleet", "list"]);
    let (code, _, said) = finish({
        list.env("BOATHOOK_URL", "").env("BOATHOOK_TOKEN", "");
        list
    });
    assert_eq!(code, 0, "{said}");
    assert!(!server.log().contains("is no setting"), "{}", server.log_tail());
}

#[test]
fn a_misspelt_variable_is_named_at_the_start_and_by_doctor() {
    let mut server = Server::builder()
        .variable("BOATHOOK_WORKRES", "kept-to-itself")
        .variable("BOATHOOK_SERVICE_HOST", "10.0.0.1")
        .variable("BOATHOOK_PORT_9000_TCP_ADDR", "10.0.0.1")
        .start();
    let log = server.log();
    assert!(log.contains("BOATHOOK_WORKRES is no setting"), "{log}");
    assert!(log.contains("did you mean BOATHOOK_WORKERS?"), "{log}");
    assert!(!log.contains("kept-to-itself") && log.matches("is no setting").count() == 1, "{log}");
    let doctor = |server: &Server| {
        let mut doctor = server.cli(&["doctor", "--json"]);
        doctor.env("BOATHOOK_LOGG", "x");
        finish(doctor).1
    };
    assert!(doctor(&server).contains("BOATHOOK_WORKRES"), "{}", doctor(&server));
    server.stop();
    let alone = doctor(&server);
    assert!(alone.contains("BOATHOOK_LOGG") && alone.contains("BOATHOOK_LOG?"), "{alone}");
}

#[test]
fn variables_of_vessels_are_no_misspelt_settings() {
    let server = Server::start();
    let scratch = server.scratch().join("inner");
    let script = format!(
        "timeout 20 {BOATHOOK} serve --data-dir {} --hooks-listen 127.0.0.1:0 --admin-listen \
         192.0.2.7:9 2>&1; env | grep -c ^BOATHOOK_",
        scratch.display()
    );
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "inner", "vessels": {"v": {"run": script}},
    }));
    let run = hook.post(server.hooks(), &[("Content-Type", "text/plain")], b"hello");
    server.api().wait_status(&run, "Success");
    let (_, output, _) = finish(server.cli(&["runs", "logs", &run]));
    assert!(output.contains("cannot listen") && !output.contains("is no setting"), "{output}");
}

#[test]
fn numbers_are_refused_in_words() {
    let scratch = tempfile::tempdir().unwrap();
    for (value, setting) in [("0", "workers"), ("-1", "max_followers"), ("many", "max_connections")]
    {
        let variable = format!("BOATHOOK_{}", setting.to_uppercase());
        let said = refused(scratch.path(), &[], &[(&variable, value)]);
        assert!(said.contains("a whole number from 1"), "{said}");
        let flag = format!("--{}", setting.replace('_', "-"));
        assert!(said.contains(&variable) && !said.contains(&flag), "{said}");
        let config = scratch.path().join("boathook.toml");
        let toml = if value == "many" { "\"many\"" } else { value };
        fs::write(&config, format!("{setting} = {toml}\n")).unwrap();
        let said = refused(scratch.path(), &["--config", config.to_str().unwrap()], &[]);
        assert!(said.contains("a whole number from 1") && said.contains(setting), "{said}");
    }
    for arguments in [["runs", "list", "--limit", "0"], ["fleet", "revert", "x", "none"]] {
        let mut command = Command::new(BOATHOOK);
        command.args(arguments);
        let (code, _, said) = finish(command);
        assert!(code == 2 && said.contains("a whole number from 1"), "{said}");
    }
}

#[test]
fn a_certificate_of_version_1_is_not_taken_for_a_wrong_key() {
    let scratch = tempfile::tempdir().unwrap();
    let made = Certificate::make(scratch.path(), "first");
    let old = scratch.path().join("old.pem");
    let script = format!(
        "openssl req -new -key {key} -subj /CN=old | openssl x509 -req -signkey {key} -out {old}",
        key = made.key.display(),
        old = old.display()
    );
    // Without extensions, which only version 3 has.
    let mut openssl = Command::new("sh");
    openssl.args(["-c", &script]);
    let (code, _, said) = finish(openssl);
    assert_eq!(code, 0, "{said}");
    let key = made.key.to_str().unwrap();
    let said =
        refused(scratch.path(), &["--tls-cert", old.to_str().unwrap(), "--tls-key", key], &[]);
    assert!(said.contains("version 1") && !said.contains("does not go with"), "{said}");
    assert!(!said.contains("UnsupportedCertVersion"), "in words alone: {said}");
    let cert = made.certificate.to_str().unwrap();
    let said = refused(scratch.path(), &["--tls-cert", cert, "--tls-key", cert], &[]);
    assert!(said.contains("there is no private key in"), "{said}");
}

/// A server whose standard error is what JOURNAL_STREAM names.
fn journaling() -> ServerBuilder {
    Server::builder().after_shell("export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)")
}

#[test]
fn lines_for_the_journal_have_a_priority_and_no_time() {
    let mut server = journaling().variable("BOATHOOK_WORKRES", "3").start();
    server.stop();
    let log = server.log();
    assert!(log.contains("<4>WARN  BOATHOOK_WORKRES"), "{log}");
    assert!(log.contains("<6>INFO  ready"), "{log}");
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
    let year = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().starts_with("20");
    assert!(!log.lines().any(year), "{log}");

    // What ends a start has its priority as well.
    let mut again = journaling().setting("workers", "0").not_started();
    assert!(again.try_start_again().is_err());
    let log = again.log();
    assert!(!log.is_empty() && log.lines().all(|line| line.starts_with("<3>")), "{log}");

    // Standard error that is not the journal stays as it is.
    let server = Server::builder().variable("JOURNAL_STREAM", "1:1").start();
    assert!(server.log().starts_with("20"), "{}", server.log_tail());
}

#[test]
fn lines_of_runs_past_the_journals_rate_are_counted() {
    const RUNS: usize = 1100;
    let mut server = journaling().start();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "many", "vessels": {"v": {"command": ["true"]}},
    }));
    for _ in 0..RUNS {
        hook.post(server.hooks(), &[], b"");
    }
    server.wait_all_ended();
    server.stop();
    let log = server.log();
    let written = log.lines().filter(|line| line.starts_with("<6>INFO  run ended")).count();
    let counted = |line: &str| -> Option<usize> {
        let text = line.strip_prefix("<6>INFO  ")?;
        text.strip_suffix(" lines were counted and not logged: run ended")?.parse().ok()
    };
    let counted: usize = log.lines().filter_map(counted).sum();
    assert_eq!(written + counted, RUNS, "{}", redacted(&server.log_tail()));
    // A slow machine takes several intervals.
    assert!(counted > 0 || written == RUNS, "{written}");
    assert!(log.contains("<6>INFO  stopped"), "{}", server.log_tail());
}

#[test]
fn logs_show_the_attempt_that_is_asked_for() {
    let server = Server::start();
    let api = server.api();
    let run = api.start(&api.apply(&json!({
        "name": "thrice", "vessels": {"v": {
            "run": "echo this is $BOATHOOK_ATTEMPT; exit 1",
            "guardrails": {"retry_count": 2, "retry_wait": "0s"},
        }},
    })));
    api.wait_status(&run, "Errored");
    let logs = |arguments: &[&str]| {
        finish(server.cli(&[&["runs", "logs", run.as_str()], arguments].concat()))
    };
    assert_eq!(logs(&[]).1, "this is 3\n");
    for attempt in ["1", "2", "3"] {
        assert_eq!(logs(&["--attempt", attempt]).1, format!("this is {attempt}\n"));
    }
    let json: serde_json::Value =
        serde_json::from_str(&logs(&["--attempt", "2", "--json"]).1).unwrap();
    assert_eq!((&json[0]["attempt"], &json[0]["output"]), (&json!(2), &json!("this is 2\n")));
    let (code, _, said) = logs(&["--attempt", "4"]);
    assert!(code == 1 && said.contains("no attempt 4") && said.contains("v: 3"), "{said}");
    let (code, _, said) = logs(&["--attempt", "0"]);
    assert!(code == 2 && said.contains("a whole number from 1"), "{said}");
}

#[test]
fn a_socket_that_is_handed_over_is_mentioned_to_those_who_asked_for_another() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().hooks_socket(listener.try_clone().unwrap()).start();
    let expected =
        format!("on the socket unit's {address}; `hooks_listen` (127.0.0.1:0) is ignored");
    assert!(server.log().contains(&expected), "{}", server.log_tail());

    // Without the setting there is nothing to say; the admin listener ends this server.
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "exec 3<&0 0</dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"", BOATHOOK])
        .args(["serve", "--admin-listen", "192.0.2.7:9", "--data-dir"])
        .arg(scratch.path().join("data"))
        .env_clear()
        .envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "hooks")])
        .stdin(std::os::fd::OwnedFd::from(listener));
    let (code, _, said) = finish(command);
    assert!(code == 1 && said.contains("cannot listen on 192.0.2.7:9"), "{said}");
    assert!(!said.contains("socket unit's") && !said.contains("is ignored"), "{said}");
}

#[test]
fn after_a_reboot_the_log_says_that_the_machine_was_booted() {
    let tried = Command::new("unshare").args(["-m", "true"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        println!("SKIPPED: this test makes mount namespaces, which only root may do: not tested");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let boot_id = scratch.path().join("boot_id");
    fs::write(&boot_id, "11111111-1111-4111-8111-111111111111\n").unwrap();
    let shell = format!(
        "exec unshare -m sh -c 'mount --bind {} /proc/sys/kernel/random/boot_id; exec \"$0\" \"$@\"' \
         \"$0\" \"$@\"",
        boot_id.display()
    );
    let mut server = Server::builder().setting("shutdown_grace", "0s").after_shell(&shell).start();
    let api = server.api();
    let run = api.start(&api.apply(&json!({
        "name": "long", "vessels": {"v": {
            "run": "echo attempt $BOATHOOK_ATTEMPT; [ $BOATHOOK_ATTEMPT = 2 ] || sleep 1000",
        }},
    })));
    server.wait_until("it runs", || api.run(&run)["status"] == "Running");
    server.wait_until("it writes", || api.output(&api.run(&run), "v").contains("attempt 1"));
    server.stop();
    fs::write(&boot_id, "22222222-2222-4222-8222-222222222222\n").unwrap();
    server.start_again();
    let api = server.api();
    let ended = api.wait_status(&run, "Success");
    let log = api.output(&ended, "v");
    assert!(log.contains("the machine was booted since the server stopped"), "{log}");
    assert!(!log.contains("is gone") && log.contains("attempt 2"), "{log}");
}

#[test]
fn output_that_is_left_out_cuts_no_character() {
    let server = Server::builder().setting("max_output_bytes", "70001").start();
    let api = server.api();
    // Three bytes a character and no line breaks: the halves of the limit fall inside one.
    let script = "yes € | head -n 200000 | tr -d '\\n'";
    let run = api.start(&api.apply(&json!({"name": "much", "vessels": {"v": {"run": script}}})));
    let run = api.wait_status(&run, "Success");
    let output = api.output_answer(&run, "v", "").body;
    let text = String::from_utf8(output).expect("whole characters");
    assert!(text.contains("bytes left out]") && text.starts_with('€'), "{}", text.len());
    assert!(text.chars().filter(|letter| *letter == '€').count() > 23_000, "{}", text.len());
}

#[test]
fn a_receiver_whose_certificate_is_an_authoritys_is_told_of_in_words() {
    let scratch = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(scratch.path(), "authority");
    let receiver = Server::builder()
        .setting("tls_cert", certificate.certificate.to_str().unwrap())
        .setting("tls_key", certificate.key.to_str().unwrap())
        .start();
    let host = receiver.hooks().replace("127.0.0.1", "localhost");
    let server = Server::builder()
        .variable("SSL_CERT_FILE", certificate.certificate.as_os_str())
        .setting("notify_hosts", &host)
        .start();
    let api = server.api();
    let url = format!("https://{host}/hooks/x");
    let run = api.start(&api.apply(&json!({
        "name": "told", "vessels": {"v": {"command": ["true"]}},
        "notify": [{"on": "SUCCESS", "url": url, "format": "slack"}],
    })));
    let mut problem = String::new();
    server.wait_until("it has failed", || {
        let found = api.run(&run)["notifications"][0]["problem"].clone();
        problem = found.as_str().unwrap_or_default().to_owned();
        !problem.is_empty()
    });
    assert!(problem.contains("CA:TRUE") && !problem.contains("Error("), "{problem}");
}
