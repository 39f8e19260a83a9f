//! Sockets that are handed over: which is which, what cannot be used, and restarts under load that
//! no client notices.

use std::collections::HashSet;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::harness::api::true_fleet;
use crate::harness::http::{Connection, post_request};
use crate::harness::server::finish;
use crate::harness::{Finally, Hook, Server, ServerBuilder, python_directory, redacted};

/// Opens sockets as descriptors from 3 on and starts the server with them: `tcp`, `udp`, `file`,
/// or `idle`, which is a TCP socket that does not listen.
const HAND_OVER: &str = r#"
import os, socket, sys
kinds, names, server = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
held = []
for kind in kinds:
    if kind == "file":
        held.append(open("/dev/null"))
        continue
    held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM))
    held[-1].bind(("127.0.0.1", 0))
    if kind == "tcp":
        held[-1].listen(4096)
        print("port", held[-1].getsockname()[1], file=sys.stderr, flush=True)
# Out of the way first: one of them may be where another one goes.
for index, one in enumerate(held):
    os.dup2(one.fileno(), 100 + index)
for index in range(len(held)):
    os.dup2(100 + index, 3 + index)
os.closerange(3 + len(held), 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kinds)))
if names:
    os.environ["LISTEN_FDNAMES"] = names
os.execv(server[0], server)
"#;

fn handed_over(kinds: &str, names: &str) -> ServerBuilder {
    let python = Path::new(&python_directory()).join("python3");
    Server::builder().variable("HAND_OVER", HAND_OVER).after_shell(&format!(
        "exec {} -c \"$HAND_OVER\" '{kinds}' '{names}' \"$0\" \"$@\"",
        python.display()
    ))
}

/// The ports of the `count` sockets that were handed over, in order.
fn ports(server: &Server, count: usize) -> Vec<String> {
    let mut ports = Vec::new();
    server.wait_until("the ports are told", || {
        let log = server.log();
        ports = log.lines().filter_map(|it| it.strip_prefix("port ").map(str::to_owned)).collect();
        ports.len() == count
    });
    ports
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

#[test]
fn sockets_go_by_name_else_by_order() {
    for (names, is_crossed) in [("", false), ("admin:hooks", true), ("a.socket:b.socket", false)] {
        let mut server = handed_over("tcp,tcp", names).start();
        let ports = ports(&server, 2);
        let (hooks, admin) = if is_crossed { (1, 0) } else { (0, 1) };
        assert_eq!(port(server.hooks()), ports[hooks], "{names}");
        assert_eq!(port(server.admin()), ports[admin], "{names}");
        let (_, hook) = server.fleet_with_webhook(&true_fleet("handed"));
        hook.post(server.hooks(), &[], b"{}");
        server.stop();
    }
    let server = handed_over("tcp", "admin").start();
    assert_eq!([port(server.admin())], *ports(&server, 1));
    assert_ne!(port(server.hooks()), port(server.admin()), "bound as usual");
}

#[test]
fn what_cannot_be_used_is_refused_with_what_to_do() {
    for (kinds, names, expected) in [
        ("tcp,tcp,tcp", "", "LISTEN_FDS hands over 3 sockets"),
        ("tcp,tcp", "hooks:hooks", "FileDescriptorName="),
        ("tcp,tcp", "hooks:x", "LISTEN_FDNAMES is"),
        ("tcp,udp", "", "handed over for admin is no listening TCP socket"),
        ("file", "", "handed over for hooks is no listening TCP socket"),
        ("idle", "", "does not listen"),
    ] {
        let mut server = handed_over(kinds, names).not_started();
        assert!(server.try_start_again().is_err(), "{kinds} {names}");
        server.wait_until("it has said why", || server.log().contains(expected));
    }
}

#[test]
fn vessels_get_neither_the_sockets_nor_their_variables() {
    let server = handed_over("tcp,tcp", "hooks:admin").start();
    let script = "env | grep ^LISTEN_; readlink /proc/self/fd/* | grep -c socket: ; true";
    let fleet = server.api().apply(&json!({"name": "nosy", "vessels": {"v": {"run": script}}}));
    let run = server.api().start(&fleet);
    let run = server.api().wait_status(&run, "Success");
    assert_eq!(server.api().output(&run, "v"), "0\n");
    // For another process they are not, and the server does not take them.
    let mut other =
        Server::builder().variable("LISTEN_FDS", "2").variable("LISTEN_PID", "1").start();
    other.stop();
}

#[test]
fn the_socket_units_are_sound() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("SKIPPED: systemd-analyze is not installed");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let mut analyze = Command::new("systemd-analyze");
    // The manual comes with the package.
    analyze.args(["verify", "--man=no"]);
    for unit in ["boathook.service", "boathook-hooks.socket", "boathook-admin.socket"] {
        let text = std::fs::read_to_string(source.join(unit)).unwrap();
        let text = text.replace("/usr/bin/boathook", env!("CARGO_BIN_EXE_boathook"));
        std::fs::write(scratch.path().join(unit), text).unwrap();
        analyze.arg(scratch.path().join(unit));
    }
    let (code, stdout, stderr) = finish(analyze);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""));
}

/// How a sender treats its connections.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    OnePerRequest,
    KeepAlive,
}

/// POSTs until told to stop; the ids of the runs that were accepted. Everything but a 201 is a
/// failure, except that a connection which was closed while it was idle is opened anew (RFC 9112
/// 9.3.1).
fn send(
    hook: &Hook,
    address: &str,
    manner: Manner,
    stop: &AtomicBool,
) -> Result<Vec<String>, String> {
    let request = post_request(&hook.target(), &[], b"{}");
    let mut accepted = Vec::new();
    let mut kept: Option<Connection> = None;
    while !stop.load(Ordering::Relaxed) {
        let was_kept = kept.is_some();
        let connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(address).map_err(|error| format!("connecting: {error}"))?,
        };
        let (answer, open) = match connection.exchange(&request) {
            Ok(exchanged) => exchanged,
            Err(error) if was_kept && was_closed(&error) => continue,
            Err(error) => return Err(format!("after {} posts: {error}", accepted.len())),
        };
        if answer.status != 201 {
            return Err(format!("{}: {}", answer.status, redacted(&answer.text())));
        }
        accepted.push(answer.data()["fleet_run_id"].as_str().unwrap().to_owned());
        kept = open.filter(|_| manner == Manner::KeepAlive);
    }
    Ok(accepted)
}

fn was_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

#[test]
fn restarts_under_load_lose_no_request_and_refuse_no_connection() {
    const RESTARTS: usize = 4;
    const POSTS_BETWEEN: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut server = Server::builder().hooks_socket(listener).setting("workers", "2").start();
    assert_eq!(server.hooks(), address);
    let (_, hook) = server.fleet_with_webhook(&true_fleet("steady"));
    let stop = AtomicBool::new(false);
    let manners = [Manner::OnePerRequest, Manner::KeepAlive].repeat(2);
    let results = std::thread::scope(|scope| {
        let finally = Finally(|| stop.store(true, Ordering::Relaxed));
        let senders: Vec<_> = manners
            .iter()
            .map(|manner| {
                let (hook, address, stop) = (&hook, &address, &stop);
                scope.spawn(move || send(hook, address, *manner, stop))
            })
            .collect();
        for _ in 0..RESTARTS {
            let target = server.api().all_runs().len() + POSTS_BETWEEN;
            server.wait_until("the load goes on", || {
                senders.iter().all(|sender| sender.is_finished())
                    || server.api().all_runs().len() >= target
            });
            server.stop();
            server.start_again();
        }
        drop(finally);
        senders.into_iter().map(|sender| sender.join().unwrap()).collect::<Vec<_>>()
    });
    let mut accepted = HashSet::new();
    for result in results {
        match result {
            Ok(runs) => accepted.extend(runs),
            Err(error) => panic!("{error}\n{}", server.log_tail()),
        }
    }
    let known: HashSet<String> =
        server.api().all_runs().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect();
    assert!(accepted.len() >= RESTARTS * POSTS_BETWEEN);
    assert_eq!(accepted.difference(&known).count(), 0, "nothing acknowledged is missing");
    assert_eq!(known.len(), accepted.len(), "nothing was accepted without an answer");
}
