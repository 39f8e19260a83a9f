//! `boathook doctor`: its findings on servers and machines with faults, and its part in explaining
//! a sandbox to vessels that fail in it. The tests make sandboxes with namespaces, as systemd does.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::disk::SmallDisk;
use crate::harness::receiver::Receiver;
use crate::harness::server::finish;
use crate::harness::{Server, ServerBuilder, assert_error, python_directory, redacted};

/// The line in the log of a vessel that failed in the service's sandbox.
const SANDBOX_LINE: &str = "boathook: the sandbox of the service may forbid this: `boathook doctor` \
                            tells what it keeps from vessels, and how to allow it\n";

/// The findings of one examination.
struct Report {
    code: i32,
    findings: Vec<Value>,
}

impl Report {
    #[track_caller]
    fn of(server: &Server) -> Self {
        Self::from(server.cli(&["doctor", "--json"]))
    }

    #[track_caller]
    fn from(command: Command) -> Self {
        let (code, stdout, stderr) = finish(command);
        let findings = serde_json::from_str(&stdout);
        let findings = findings.unwrap_or_else(|error| panic!("{error}: {stdout} {stderr}"));
        Self { code, findings }
    }

    /// The only finding of `check`.
    #[track_caller]
    fn only(&self, check: &str) -> &Value {
        match self.all(check).as_slice() {
            [finding] => finding,
            others => panic!("not one finding of {check}: {others:#?}"),
        }
    }

    fn all(&self, check: &str) -> Vec<&Value> {
        self.findings.iter().filter(|finding| finding["check"] == check).collect()
    }

    /// A finding of `check` whose text contains `needle`: its level and its remedy.
    #[track_caller]
    fn about(&self, check: &str, needle: &str) -> (String, String) {
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or("").to_owned();
        let found = self.all(check).into_iter().find(|it| text(it, "what").contains(needle));
        let found = found.unwrap_or_else(|| panic!("no {needle:?}: {:#?}", self.all(check)));
        (text(found, "level"), text(found, "remedy"))
    }
}

fn apply(server: &Server, vessels: Value) {
    server.api().apply(&json!({"name": "site", "vessels": vessels}));
}

fn write(path: &Path, content: &str, mode: u32) -> PathBuf {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_owned()
}

/// A server that believes to be a service, in a mount namespace in which `commands` have run.
/// `None`, with a message, where namespaces cannot be made.
fn sandboxed(builder: ServerBuilder, commands: &str) -> Option<Server> {
    let tried = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "x", "/mnt"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: this test makes mount namespaces, which only root may do: not tested");
        return None;
    }
    let inner = format!("set -e; {commands}\nexec \"$0\" \"$@\"");
    let shell = format!("exec unshare -m sh -c '{inner}' \"$0\" \"$@\"");
    let builder = builder.variable("INVOCATION_ID", "0123").after_shell(&shell);
    Some(builder.start())
}

#[test]
fn a_good_server_gets_no_problems_and_exit_status_zero() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&json!({"name": "site", "vessels": {
        "build": {"command": ["true"]}, "say": {"run": "cat"},
    }}));
    for length in [0, 3, 300_000] {
        let run = hook.post(server.hooks(), &[], &vec![b'x'; length]);
        server.api().wait_status(&run, "Success");
    }
    let report = Report::of(&server);
    let problems: Vec<_> = report.findings.iter().filter(|it| it["level"] == "problem").collect();
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!(report.code, 0);
    assert_eq!(report.only("fleets")["what"], "2 vessels, which can start");
    let database = report.only("database")["what"].as_str().unwrap();
    assert!(database.starts_with("whole: 3 runs, "), "{database}");
    for check in ["server", "hooks", "data-dir", "file-system", "space", "sync", "clock", "admin"] {
        assert_eq!(report.only(check)["level"], "ok", "{check}");
    }
    // Senders on other machines cannot use a loopback address: a warning.
    assert_eq!(report.only("senders")["level"], "warning");

    let (code, shown, _) = finish(server.cli(&["doctor"]));
    assert_eq!(code, 0);
    assert!(!shown.contains('\u{1b}'), "colours are for terminals");
    let line = shown.lines().find(|line| line.starts_with("fleets")).unwrap();
    assert_eq!(line, "fleets         ok       2 vessels, which can start");
    assert!(!shown.contains(&server.token()) && redacted(&shown) == shown, "no secrets");
}

#[test]
fn start_errors_of_vessels_are_found_before_a_run() {
    let files = tempfile::tempdir().unwrap();
    let [place, secrets] = ["place", "secrets"].map(|name| files.path().join(name));
    fs::create_dir(&place).unwrap();
    fs::create_dir(&secrets).unwrap();
    write(&secrets.join("OPEN"), "the-secret-value\n", 0o644);
    let crlf = write(&place.join("crlf.sh"), "#!/bin/sh\r\ntrue\r\n", 0o755);
    let closed = write(&place.join("closed.sh"), "#!/bin/sh\n", 0o644);
    let lost = write(&place.join("lost.sh"), "#!/no/such/interpreter\n", 0o755);
    let asks = write(&place.join("asks.sh"), "#!/usr/bin/env no-such-interpreter\n", 0o755);
    let server = Server::builder().setting("secrets_dir", secrets.to_str().unwrap()).start();
    let gone = place.join("gone");
    apply(
        &server,
        json!({
            "bare": {"command": ["no-such-program"]},
            "crlf": {"command": [crlf]},
            "closed": {"command": [closed]},
            "lost": {"command": [lost]},
            "asks": {"command": [asks]},
            "homeless": {"command": ["true"], "working_directory": gone},
            "later": {"command": ["./made-by-an-earlier-vessel"]},
            "keyed": {"command": ["true"], "environment": {
                "A": {"secret": "MISSING"}, "B": {"secret": "OPEN"},
            }},
        }),
    );
    let report = Report::of(&server);
    assert_eq!(report.code, 1);
    for (vessel, needle, remedy) in [
        ("bare", "`no-such-program` was not found in PATH", "install it"),
        ("crlf", "CR LF", "Unix line ends"),
        ("closed", "it is not executable", "chmod +x"),
        ("lost", "`/no/such/interpreter` (first line of the file) is missing", "install it"),
        ("asks", "its first line asks for no-such-interpreter", "install it"),
        ("homeless", "site, homeless: working directory", "make it"),
    ] {
        let (level, advice) = report.about("fleets", &format!("site, {vessel}: "));
        assert!(report.about("fleets", needle).1.contains(remedy), "{vessel}: {advice}");
        assert_eq!(level, "problem", "{vessel}");
    }
    assert_eq!(report.all("fleets").len(), 6, "{:#?}", report.all("fleets"));
    assert_eq!(report.about("secrets", "`MISSING`, which site, keyed needs").0, "problem");
    assert_eq!(report.about("secrets", "`OPEN`: everybody may read").0, "warning");
    let text = format!("{:?}", report.findings);
    assert!(!text.contains("the-secret-value"), "names only");

    // The start error of a run has the text of the finding.
    let run = server.api().start(&server.api().apply(&json!({"name": "late", "vessels": {
        "crlf": {"command": [place.join("crlf.sh")]},
    }})));
    let run = server.api().wait_ended(&run);
    let reason = run["vessels"][0]["reason"].as_str().unwrap();
    let (_, advice) = report.about("fleets", reason.rsplit_once(": ").unwrap().0);
    assert!(reason.ends_with(&advice), "{reason} and {advice}");
}

#[test]
fn vessels_of_other_users_are_judged_by_the_rights_of_these_users() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can run vessels as others: not tested");
        return;
    }
    let server = Server::builder().setting("allowed_users", "nobody").start();
    let closed = server.scratch().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(server.scratch(), fs::Permissions::from_mode(0o755)).unwrap();
    let open = server.scratch().join("open");
    fs::create_dir(&open).unwrap();
    let script = write(&open.join("theirs"), "#!/bin/sh\n", 0o700);
    let unread = write(&open.join("unread"), "#!/somebody/elses\n", 0o711);
    server.api().apply(&json!({"name": "site", "user": "nobody", "vessels": {
        "barred": {"command": ["true"], "working_directory": closed},
        "reader": {"command": ["true"], "working_directory": open},
        "denied": {"command": [script]},
        "unread": {"command": [unread]},
    }}));
    let report = Report::of(&server);
    let (level, _) = report.about("fleets", "the user `nobody` may not enter");
    assert_eq!(level, "problem");
    assert_eq!(report.about("fleets", "site, reader: working directory").0, "warning");
    assert_eq!(report.about("fleets", "the user `nobody` may not execute").0, "problem");
    // A finding quotes no file that the vessel's user may not read.
    assert!(!format!("{:?}", report.findings).contains("somebody"), "{:#?}", report.findings);
}

#[test]
fn doctor_explains_the_sandbox_that_a_vessels_log_names() {
    let directory = tempfile::tempdir().unwrap();
    let inaccessible = directory.path().join("systemd/inaccessible/dir");
    fs::create_dir_all(&inaccessible).unwrap();
    let commands = format!(
        "mount -t tmpfs x /srv; mkdir /srv/site; mount -o remount,ro /srv; mount --bind {} /home",
        inaccessible.display()
    );
    let Some(server) = sandboxed(Server::builder(), &commands) else { return };
    apply(
        &server,
        json!({
            "deploy": {"run": "echo x > /srv/site/index.html", "working_directory": "/srv/site"},
            "home": {"command": ["true"], "working_directory": "/home/somebody/site"},
            "key": {"run": "ssh -F none -i /home/somebody/.ssh/id -p 9 -oBatchMode=yes 127.0.0.1"},
            "write": {"run": "test -e /srv/site && date > /srv/site/date 2> /dev/null"},
            "read": {"run": "cat /srv/site/page > /dev/null 2>/tmp/log"},
            "enter": {"run": "cd /srv/site && echo x > index.html"},
        }),
    );
    let report = Report::of(&server);
    for (vessel, line) in [
        ("key", "ProtectHome=read-only"),
        ("write", "ReadWritePaths=/srv/site"),
        ("enter", "ReadWritePaths=/srv/site"),
    ] {
        let (level, remedy) = report.about("fleets", &format!("site, {vessel}: "));
        assert_eq!(level, "warning");
        assert!(remedy.ends_with(&format!("\n[Service]\n{line}")), "{remedy}");
    }
    assert!(!report.all("fleets").iter().any(|it| it["what"].as_str().unwrap().contains("read:")));
    let (level, remedy) = report.about("fleets", "site, deploy: working directory /srv/site");
    assert_eq!(level, "warning");
    assert!(remedy.ends_with("\n[Service]\nReadWritePaths=/srv/site"), "{remedy}");
    let (level, remedy) = report.about("fleets", "hides what is in /home (ProtectHome=)");
    assert_eq!(level, "problem");
    assert!(remedy.contains("systemctl edit boathook"), "{remedy}");
    assert!(remedy.ends_with("\n[Service]\nProtectHome=read-only"), "{remedy}");

    let api = server.api();
    let run = api.wait_ended(&api.start(&api.apply(&json!({
        "name": "deploy", "vessels": {"deploy": {"run": "echo x > /srv/site/index.html"}},
    }))));
    let log = api.output(&run, "deploy");
    assert!(log.contains("ead-only file system"), "{log}");
    assert!(log.ends_with(SANDBOX_LINE), "{log}");
    let remedy = "let it with a drop-in: `systemctl edit boathook`, then `systemctl restart \
                  boathook`\n[Service]\nReadWritePaths=/srv/site";
    let what = "/srv/site/index.html: /srv/site is read-only in the service's sandbox";
    let report = Report::of(&server);
    assert_eq!(report.about("fleets", &format!("deploy, deploy: {what}")).1, remedy);

    // A path may be relative to the directory that the script enters.
    let run = api.wait_ended(&api.start(&api.apply(&json!({
        "name": "gone", "vessels": {"v": {"run": "cd /srv/site && echo x > index.html"}},
    }))));
    assert!(api.output(&run, "v").ends_with(SANDBOX_LINE), "{}", api.output(&run, "v"));
    assert_eq!(Report::of(&server).about("fleets", "gone, v: /srv/site: ").1, remedy);

    // A start that fails over a hidden path, and a program that may not read one.
    let run = api.wait_ended(&api.start(&api.apply(&json!({"name": "home", "vessels": {
        "home": {"command": ["true"], "working_directory": "/home/somebody/site"},
        "key": {"run": "echo 'Load key /home/somebody/.ssh/id: Permission denied' >&2; exit 255"},
    }}))));
    let report = Report::of(&server);
    for vessel in ["home", "key"] {
        let log = api.output(&run, vessel);
        assert!(log.ends_with(SANDBOX_LINE), "{vessel}: {log}");
        let (_, remedy) = report.about("fleets", &format!("home, {vessel}: "));
        assert!(remedy.ends_with("ProtectHome=read-only"), "{vessel}: {remedy}");
    }
    let walls = report.only("sandbox")["what"].as_str().unwrap();
    assert!(walls.contains("hides what is in /home (ProtectHome=)"), "{walls}");
}

#[test]
fn doctor_explains_denied_privileges_and_compilers() {
    // As PR_SET_MDWE and PR_SET_NO_NEW_PRIVS of prctl(2): python has no other way to either.
    let deny = "import ctypes, os, sys; prctl = ctypes.CDLL(None).prctl; \
                done = prctl(65, 1, 0, 0, 0) or prctl(38, 1, 0, 0, 0); \
                os.execv(sys.argv[1], sys.argv[1:]) if done == 0 else sys.exit(77)";
    let python = python_directory();
    let tried = Command::new(format!("{python}/python3")).args(["-c", deny, "/bin/true"]).status();
    if tried.unwrap().code() == Some(77) {
        println!("SKIPPED: this kernel has no PR_SET_MDWE: not tested");
        return;
    }
    let shell = format!("exec {python}/python3 -c '{deny}' \"$0\" \"$@\"");
    let builder = Server::builder().after_shell(&shell).variable("INVOCATION_ID", "0123");
    let server = builder.start();
    let setuid = write(&server.scratch().join("rise"), "#!/bin/sh\n", 0o4755);
    apply(
        &server,
        json!({
            "script": {"run": "test -e /x && sudo systemctl restart site"},
            "program": {"command": [setuid]},
            "page": {"command": ["node", "build.js"]},
        }),
    );
    let report = Report::of(&server);
    let (level, remedy) = report.about("fleets", "site, script: sudo: no program");
    assert_eq!(level, "warning", "it may never come to it");
    assert!(remedy.contains("\n[Service]\nNoNewPrivileges=no\n"), "{remedy}");
    assert_eq!(report.about("fleets", "site, program: ").0, "problem");
    assert_eq!(report.only("sandbox")["level"], "ok");
    if Path::new("/usr/bin/node").exists() {
        let (level, remedy) = report.about("fleets", "site, page: node: no program");
        assert_eq!(level, "problem");
        assert!(remedy.ends_with("\n[Service]\nMemoryDenyWriteExecute=no"), "{remedy}");
        let api = server.api();
        let run = api.wait_ended(&api.start(&api.apply(&json!({
            "name": "page", "vessels": {"page": {"command": ["node", "-e", "1"]}},
        }))));
        let log = api.output(&run, "page");
        assert!(log.ends_with(SANDBOX_LINE), "{log}");
    }
}

/// Executes its arguments under a filter that refuses capset(2) and unshare(2) with EPERM, as
/// SystemCallFilter= and RestrictNamespaces= do. Exits with 77 on machines whose call numbers it
/// lacks.
const FILTERED: &str = r#"
import ctypes, os, struct, sys
numbers = {"x86_64": (126, 272), "aarch64": (91, 97)}.get(os.uname().machine)
if not numbers:
    sys.exit(77)
step = lambda *fields: struct.pack("HBBI", *fields)
code = step(0x20, 0, 0, 0)
for number in numbers:
    code += step(0x15, 0, 1, number) + step(0x06, 0, 0, 0x00050001)
code += step(0x06, 0, 0, 0x7fff0000)
held = ctypes.create_string_buffer(code)
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program = Program(len(code) // 8, ctypes.addressof(held))
prctl = ctypes.CDLL(None).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn doctor_explains_filtered_system_calls() {
    let python = format!("{}/python3", python_directory());
    let tried = Command::new(&python).args(["-c", FILTERED, "/bin/true"]).status();
    if tried.unwrap().code() == Some(77) {
        println!("SKIPPED: no filter of system calls is to be had here: not tested");
        return;
    }
    let shell = format!("exec {python} -c \"$FILTERED\" \"$0\" \"$@\"");
    let builder = Server::builder().after_shell(&shell).variable("FILTERED", FILTERED);
    let server = builder.variable("INVOCATION_ID", "0123").start();
    let silent = write(&server.scratch().join("ip"), "#!/bin/sh\nexit 1\n", 0o755);
    let fleet = json!({"name": "site", "vessels": {
        "make": {"run": "unshare --user true"},
        "rise": {"run": "sudo true; echo 'sudo: no new privileges' >&2; exit 1"},
        "ping": {"run": "ping --help > /dev/null; echo 'ping: cap_set_proc: Operation not permitted' >&2; exit 2"},
        "ip": {"command": [silent, "address"]},
        "fails": {"run": "exit 1"},
    }});
    let api = server.api();
    let id = api.apply(&fleet);
    let report = Report::of(&server);
    let walls = report.only("sandbox")["what"].as_str().unwrap().to_owned();
    assert!(walls.contains("RestrictNamespaces") && walls.contains("bwrap"), "{walls}");
    let (level, remedy) = report.about("fleets", "site, make: unshare: no program");
    assert_eq!(level, "warning", "it may never come to it");
    assert!(remedy.ends_with("\n[Service]\nRestrictNamespaces=no"), "{remedy}");

    assert!(walls.contains("SystemCallFilter") && walls.contains("ping"), "{walls}");
    for vessel in ["ping", "ip"] {
        let (level, remedy) = report.about("fleets", &format!("site, {vessel}: "));
        assert_eq!(level, "warning", "{vessel}");
        assert!(remedy.ends_with("\n[Service]\nSystemCallFilter=capset"), "{vessel}: {remedy}");
    }
    // The drop-in for sudo can be pasted: each assignment is a line.
    let (_, remedy) = report.about("fleets", "site, rise: sudo: ");
    let (_, drop_in) = remedy.split_once("\n[Service]\n").unwrap_or_else(|| panic!("{remedy}"));
    assert!(drop_in.lines().count() > 10, "{remedy}");
    assert!(drop_in.lines().all(|line| line.contains('=') && !line.contains(' ')), "{remedy}");

    // The log names the doctor when a program reports that an operation is forbidden.
    let run = api.wait_ended(&api.start(&id));
    for vessel in ["make", "ping", "rise"] {
        let log = api.output(&run, vessel);
        assert!(log.ends_with(SANDBOX_LINE), "{vessel}: {log}");
    }
    for vessel in ["ip", "fails"] {
        assert_eq!(api.output(&run, vessel), "", "{vessel}");
    }
}

#[test]
fn listeners_are_tried_and_a_public_url_followed() {
    let elsewhere = Receiver::start(|_| Some("502 Bad Gateway\r\n".to_owned()));
    let url = format!("http://{}", elsewhere.address);
    let server = Server::builder().setting("public_url", &url).start();
    let report = Report::of(&server);
    let (level, remedy) = report.about("public-url", "answers 502");
    assert_eq!(level, "problem");
    assert!(remedy.contains(server.hooks()), "{remedy}");

    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://localhost:{}", socket.local_addr().unwrap().port());
    let server = Server::builder().setting("public_url", &url).hooks_socket(socket).start();
    let report = Report::of(&server);
    assert_eq!(report.only("public-url")["level"], "ok", "{:#?}", report.all("public-url"));
    assert_eq!(report.only("proxies")["level"], "ok");

    // A peer sends X-Forwarded-For, and the operator has not trusted it.
    let forwarded = [("X-Forwarded-For", "203.0.113.7")];
    let (_, hook) =
        server.fleet_with_webhook(&json!({"name": "a", "vessels": {"b": {"run": ":"}}}));
    hook.post(server.hooks(), &forwarded, b"");
    let (level, remedy) = Report::of(&server).about("proxies", "127.0.0.1 says for whom");
    assert_eq!(level, "warning");
    assert!(remedy.contains("trusted_proxies = [\"127.0.0.1\"]"), "{remedy}");
}

#[test]
fn directories_unfit_for_a_database_are_problems() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let server = disk.server().setting("min_free_bytes", "40MiB").start();
    let mode = |mode| {
        fs::set_permissions(server.data_dir(), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o755);
    let report = Report::of(&server);
    mode(0o700);
    assert_eq!(report.code, 1);
    assert_eq!(report.about("file-system", "in memory").0, "problem");
    assert_eq!(report.about("data-dir", "has mode 0755").0, "problem");
    assert_eq!(report.about("space", "below 40.0 MiB").0, "warning");
}

#[test]
fn damage_is_found_with_and_without_a_running_server() {
    let mut server = Server::start();
    let vessels = json!({"talk": {"run": "head -c 100000 /dev/zero | tr \\\\0 x"}});
    let (_, hook) = server.fleet_with_webhook(&json!({"name": "site", "vessels": vessels}));
    let run = hook.post(server.hooks(), &[], b"hello");
    server.api().wait_status(&run, "Success");
    let output = fs::read_dir(server.data_dir().join("output")).unwrap().next().unwrap().unwrap();
    fs::remove_file(output.path()).unwrap();
    let expected = "the file of its output is missing";
    assert_eq!(Report::of(&server).about("database", expected).0, "problem");

    // A stopped server leaves the file with its address.
    server.stop();
    let report = Report::of(&server);
    assert_eq!(report.code, 1);
    assert_eq!(report.about("server", "nothing answers").0, "problem");
    assert_eq!(report.about("database", expected).0, "problem");
    assert_eq!(report.about("data-dir", "alone").0, "ok");

    // sled's checksums detect a torn page of the log.
    let log = server.data_dir().join("db/db");
    let mut bytes = fs::read(&log).unwrap();
    let at = find(&bytes, b"X-Request").or_else(|| find(&bytes, b"\"headers\"")).unwrap();
    bytes[at] ^= 0xff;
    fs::write(&log, &bytes).unwrap();
    let report = Report::of(&server);
    assert_ne!(report.all("database")[0]["level"], "ok", "{:#?}", report.all("database"));
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

#[test]
fn without_a_server_the_settings_and_addresses_are_tried() {
    let mut server = Server::start();
    server.stop();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let settings = server.data_dir().join("boathook.toml");
    fs::write(&settings, format!("hooks_listen = \"{address}\"\nadmin_listen = \"127.0.0.1:0\"\n"))
        .unwrap();
    let report = Report::of(&server);
    assert_eq!(report.about("hooks", "no server could listen on").0, "problem");
    assert_eq!(report.only("admin")["level"], "ok");
    assert_eq!(report.only("database")["level"], "ok");
    fs::write(&settings, "wrokers = 3\n").unwrap();
    assert_eq!(Report::of(&server).about("settings", "wrokers").0, "problem");

    let before = fs::read_dir(server.data_dir()).unwrap().count();
    let nothing = server.scratch().join("nothing");
    let (code, _, stderr) =
        finish(server.cli(&["doctor", "--data-dir", nothing.to_str().unwrap()]));
    assert!(code == 1 && stderr.contains("boathook serve"), "{stderr}");
    assert!(!nothing.exists() && fs::read_dir(server.data_dir()).unwrap().count() == before);
}

#[test]
fn a_database_of_another_user_is_not_touched() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root may look into the directories of others: not tested");
        return;
    }
    let mut server = Server::start();
    server.stop();
    std::os::unix::fs::chown(server.data_dir(), Some(65534), None).unwrap();
    let listed = || {
        let entries = fs::read_dir(server.data_dir().join("db")).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let before = listed();
    let report = Report::of(&server);
    let (level, remedy) = report.about("database", "belongs to nobody");
    assert_eq!(level, "warning");
    assert!(remedy.starts_with("sudo -u nobody boathook doctor --data-dir "), "{remedy}");
    assert_eq!(listed(), before);
}

#[test]
fn the_doctor_of_the_api_takes_a_token() {
    let server = Server::start();
    let (api, stranger) = (server.api(), server.api().with_token("wrong"));
    for path in ["/api/v1/doctor", "/api/v1/doctor/database"] {
        assert_error(&stranger.get(path), 401);
    }
    let findings = api.get("/api/v1/doctor").expect(200).data();
    assert!(findings.as_array().unwrap().iter().any(|it| it["check"] == "clock"), "{findings}");
    let text = api.get("/api/v1/doctor/database").expect(200).text();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["findings"][0]["check"], "database", "{text}");
}

#[test]
fn a_webhook_says_when_no_sender_can_reach_it() {
    for (public_url, expected) in [
        (None, Some("only this machine can reach 127.0.0.1")),
        (Some("http://0.0.0.0:9000"), Some("only this machine can reach 0.0.0.0")),
        (Some("http://10.1.2.3:9000"), Some("only its own network can reach 10.1.2.3")),
        (Some("http://boat.lan"), Some("only its own network can reach boat.lan")),
        (Some("https://hooks.example.com"), None),
    ] {
        let builder = Server::builder();
        let server = match public_url {
            Some(url) => builder.setting("public_url", url).start(),
            None => builder.start(),
        };
        apply(&server, json!({"only": {"run": ":"}}));
        let (code, _, advice) = finish(server.cli(&["webhook", "add", "site"]));
        assert_eq!(code, 0);
        let warning = advice.lines().find(|line| line.starts_with("warning:"));
        match expected {
            Some(expected) => assert!(warning.unwrap().contains(expected), "{warning:?}"),
            None => assert_eq!(warning, None),
        }
    }
}

/// The command line of a user with a fresh installation.
#[test]
fn the_command_line_finds_the_service_of_the_package() {
    let builder = Server::builder().data_dir(Path::new("/var/lib/boathook"));
    let Some(server) = sandboxed(builder, "mount -t tmpfs x /var/lib") else { return };
    // Other users must be able to execute it.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("boathook");
    fs::copy(crate::harness::server::BOATHOOK, &program).unwrap();
    let run = |as_user: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &server.pid().to_string(), "-m", "--"]).args(as_user);
        command.arg(&program).args(["fleet", "list"]);
        finish({
            command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/bin").env("HOME", "/nonexistent");
            command
        })
    };
    let (code, _, stderr) = run(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    // Root finds the service's directory by itself.
    let line = format!("\n    sudo {} fleet list\n", program.display());
    assert!(code == 1 && stderr.contains(&line), "{stderr}");
    let (code, _, stderr) = run(&[]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_machine_without_time_zones_knows_utc_and_says_what_to_install() {
    let hide = "for place in /usr/share/zoneinfo /usr/share/lib/zoneinfo /etc/zoneinfo; do \
                [ ! -e $place ] || mount -t tmpfs none $place; done";
    let Some(server) = sandboxed(Server::builder(), hide) else { return };
    let api = server.api();
    let project = |name: &str, time_zone: &str| {
        api.post("/api/v1/projects", &json!({"name": name, "time_zone": time_zone}))
    };
    for (name, time_zone) in [("a", "UTC"), ("b", "Etc/UTC"), ("c", "utc")] {
        project(name, time_zone).expect(201);
    }
    let message = project("d", "Europe/Berlin").expect(422).text();
    assert!(message.contains("tzdata") && message.contains("Europe/Berlin"), "{message}");
    let (level, remedy) = Report::of(&server).about("time zones", "no time zone database");
    assert_eq!((level.as_str(), remedy.as_str()), ("warning", "install the package tzdata"));
}

#[test]
fn a_project_whose_time_zone_is_gone_is_a_problem_and_can_still_be_renamed() {
    let mut server = Server::start();
    let project = json!({"name": "berlin", "time_zone": "Europe/Berlin"});
    let created = server.api().post("/api/v1/projects", &project).expect(201).data();
    assert_eq!(Report::of(&server).only("time zones")["level"], "ok");
    server.stop();
    let hide = "for place in /usr/share/zoneinfo /usr/share/lib/zoneinfo /etc/zoneinfo; do \
                [ ! -e $place ] || mount -t tmpfs none $place; done";
    let builder = Server::builder().data_dir(server.data_dir());
    let Some(without) = sandboxed(builder, hide) else { return };
    let (level, remedy) = Report::of(&without).about("time zones", "the project berlin");
    assert_eq!((level.as_str(), remedy.as_str()), ("problem", "install the package tzdata"));
    let path = format!("/api/v1/projects/{}", created["id"].as_str().unwrap());
    without.api().put(&path, &json!({"name": "spree"})).expect(200);
}
