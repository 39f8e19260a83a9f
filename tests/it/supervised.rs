//! Under a service manager: what it is told (sd_notify(3)), the watchdog, and the credential that
//! sets the admin token. The manager is a socket of the test's own.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::api::true_fleet;
use crate::harness::certificate::Certificate;
use crate::harness::scrape::Scrape;
use crate::harness::{PATIENCE, Server, ServerBuilder, shared_library};

/// The interval that the watchdog is asked for.
const INTERVAL: Duration = Duration::from_millis(400);
/// How long a watchdog that is not fed is looked at: so many intervals that it would have been.
const SILENCE: Duration = Duration::from_millis(4_000);

/// Takes what a server tells.
struct Manager {
    directory: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { directory, socket }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server that is told where to tell.
    fn server(&self) -> ServerBuilder {
        Server::builder().variable("NOTIFY_SOCKET", self.path("notify"))
    }

    /// The same with a watchdog.
    fn watched(&self) -> ServerBuilder {
        self.server().variable("WATCHDOG_USEC", INTERVAL.as_micros().to_string())
    }

    /// The next message; `None` when none comes `within`.
    fn next(&self, within: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut message = [0; 4096];
        match self.socket.recv(&mut message) {
            Ok(length) => {
                let text = String::from_utf8(message[..length].to_vec()).unwrap();
                Some(text.lines().map(str::to_owned).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The messages up to the first with this line.
    #[track_caller]
    fn until(&self, line: &str) -> Vec<Vec<String>> {
        let mut messages = Vec::new();
        loop {
            let Some(message) = self.next(PATIENCE) else {
                panic!("waited in vain for {line} after {messages:?}");
            };
            let is_last = message.iter().any(|it| it == line);
            messages.push(message);
            if is_last {
                return messages;
            }
        }
    }

    /// What is there already.
    fn drain(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 4096]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }
}

fn has(messages: &[Vec<String>], line: &str) -> bool {
    messages.iter().flatten().any(|it| it == line)
}

fn has_watchdog_thread(server: &Server) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    let name = |thread: &Path| fs::read_to_string(thread.join("comm")).unwrap_or_default();
    threads.map(|thread| name(&thread.path())).any(|name| name.trim() == "watchdog")
}

#[test]
fn a_life_is_told_from_its_beginning_to_its_end() {
    let manager = Manager::new();
    let mut server = manager.server().start();
    let starting = manager.until("READY=1");
    let ready = starting.last().unwrap();
    assert!(!has(&starting[..starting.len() - 1], "READY=1") && starting.len() > 1, "{starting:?}");
    let status =
        format!("STATUS=Webhooks at http://{}, admin at http://{}", server.hooks(), server.admin());
    assert_eq!(ready, &["READY=1", &status]);
    assert!(!has_watchdog_thread(&server), "nobody has asked for it");

    server.signal(Signal::HUP);
    let reloading = manager.until("RELOADING=1");
    assert!(reloading[0].iter().any(|line| line.starts_with("MONOTONIC_USEC=")), "{reloading:?}");
    assert_eq!(manager.until("READY=1").last(), Some(ready));

    // Vessels can neither speak in its name nor read what it was given.
    let server_with = |server: &Server| {
        let script = "env | grep -E '^(NOTIFY|WATCHDOG|CREDENTIALS|LISTEN)'; true";
        let nosy = json!({"name": "nosy", "vessels": {"v": {"run": script}}});
        let run = server.api().start(&server.api().apply(&nosy));
        let run = server.api().wait_status(&run, "Success");
        server.api().output(&run, "v")
    };
    assert_eq!(server_with(&server), "");

    let slow = json!({"name": "slow", "vessels": {"v": {"run": "exec sleep 600"}}});
    let run = server.api().start(&server.api().apply(&slow));
    server.wait_until("it runs", || server.api().run(&run)["status"] == "Running");
    server.signal(Signal::TERM);
    let stopping = manager.until("STOPPING=1");
    assert_eq!(stopping.len(), 1, "{stopping:?}");
    server.stop();
    while let Some(message) = manager.next(Duration::from_millis(1)) {
        assert!(!message.iter().any(|line| line == "READY=1"), "{message:?}");
    }
}

#[test]
fn the_watchdog_is_fed_wherever_the_server_listens() {
    let scratch = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(scratch.path(), "watched");
    let tls = |builder: ServerBuilder| {
        builder
            .setting("tls_cert", certificate.certificate.to_str().unwrap())
            .setting("tls_key", certificate.key.to_str().unwrap())
    };
    let handed_over =
        |builder: ServerBuilder| builder.hooks_socket(TcpListener::bind("0.0.0.0:0").unwrap());
    let listening =
        |address: &'static str| move |builder: ServerBuilder| builder.hooks_listen(address);
    // More than any disk has: nothing is accepted, and all is well.
    let full = |builder: ServerBuilder| builder.setting("min_free_bytes", "1000000GiB");
    type Arrange<'a> = &'a dyn Fn(ServerBuilder) -> ServerBuilder;
    let arrangements: [(&str, Arrange<'_>); 6] = [
        ("as usual", &listening("127.0.0.1:0")),
        ("everywhere", &listening("0.0.0.0:0")),
        ("everywhere, IPv6 too", &listening("[::]:0")),
        ("TLS", &tls),
        ("a socket that was handed over", &handed_over),
        ("a full disk", &full),
    ];
    for (what, arrange) in arrangements {
        let manager = Manager::new();
        let mut server = arrange(manager.watched()).start();
        let mut told = manager.until("WATCHDOG=1");
        told.extend(manager.until("WATCHDOG=1"));
        assert!(has(&told, "READY=1") || has(&manager.until("READY=1"), "READY=1"), "{what}");
        assert!(has_watchdog_thread(&server));
        // It has asked its listener, and been answered.
        let scrape = Scrape::of(&server.api());
        let asked = scrape.value(r#"boathook_requests_total{listener="hooks"}"#);
        assert!(asked >= 1.0, "{what}: {}", server.log_tail());
        let is_accepting = scrape.value("boathook_accepting") == 1.0;
        assert_eq!(is_accepting, what != "a full disk");
        server.stop();
        assert!(!server.log().contains("cannot reach"), "{what}: {}", server.log_tail());
    }
    // Meant for another process.
    let manager = Manager::new();
    let server = manager.watched().variable("WATCHDOG_PID", "1").start();
    manager.until("READY=1");
    assert!(!has_watchdog_thread(&server));
}

/// Lets every sync hang for as long as there is a file.
const HANGING: &str = r#"
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int fdatasync(int fd) {
    const char *hang = getenv("HANG_WHILE");
    while (hang && access(hang, F_OK) == 0)
        usleep(1000);
    return syscall(SYS_fdatasync, fd);
}
"#;

#[test]
fn a_disk_that_hangs_starves_the_watchdog() {
    let manager = Manager::new();
    let hang = manager.path("hang");
    let source = manager.path("hang.c");
    fs::write(&source, HANGING).unwrap();
    let library = shared_library(&source, manager.directory.path());
    let server = manager
        .watched()
        .variable("LD_PRELOAD", AsRef::<OsStr>::as_ref(&library))
        .variable("HANG_WHILE", AsRef::<OsStr>::as_ref(&hang))
        .start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("stuck"));
    manager.until("WATCHDOG=1");
    fs::write(&hang, "").unwrap();
    let hooks = server.hooks().to_owned();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| hook.try_post(&hooks, &[], b"{}").unwrap().status);
        server.wait_until("it has noticed", || {
            server.log().contains("the database makes no commits")
        });
        manager.drain();
        assert_eq!(manager.next(SILENCE), None, "{}", server.log_tail());
        fs::remove_file(&hang).unwrap();
        assert_eq!(waiting.join().unwrap(), 201);
    });
    manager.until("WATCHDOG=1");
}

#[test]
fn the_admin_token_can_be_a_credential() {
    let credentials = tempfile::tempdir().unwrap();
    let credential = credentials.path().join("admin.token");
    let token = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY";
    let data = tempfile::tempdir().unwrap();
    let started = |with_credentials: bool| {
        let builder = Server::builder().data_dir(&data.path().join("data"));
        match with_credentials {
            true => builder.variable("CREDENTIALS_DIRECTORY", credentials.path().as_os_str()),
            false => builder,
        }
    };
    // Without one in the directory the server makes a token.
    let mut server = started(true).start();
    let own = server.token();
    server.stop();
    fs::write(&credential, format!("{token}\n")).unwrap();
    let mut server = started(true).start();
    let status = |server: &Server, token: &str| {
        server.api().with_token(token).get("/api/v1/organization").status
    };
    assert_eq!([status(&server, token), status(&server, &own)], [200, 401]);
    assert_eq!(server.token(), token, "where clients look for it");
    server.stop();
    // It stays when the credential goes.
    let mut server = started(false).start();
    assert_eq!(status(&server, token), 200);
    server.stop();
    // What is no token is refused, and not shown.
    fs::write(&credential, "correct horse battery staple").unwrap();
    let mut server = started(true).not_started();
    assert!(server.try_start_again().is_err());
    server.wait_until("it says why", || server.log().contains("is no token; make one with"));
    assert!(!server.log().contains("battery"));
}
