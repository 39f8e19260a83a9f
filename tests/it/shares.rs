//! Budgets are shared: what one address, one webhook or one fleet takes leaves something for others.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::thread;

use serde_json::json;

use crate::harness::addresses::connect_from;
use crate::harness::api::true_fleet;
use crate::harness::disk::SmallDisk;
use crate::harness::http::post_request;
use crate::harness::scrape::Scrape;
use crate::harness::{Connection, Hook, Server, shared_library};

const MIB: usize = 1 << 20;

/// Begins an upload of `length` bytes from the address `from`, of which `sent` are sent at once.
fn upload(server: &Server, hook: &Hook, from: [u8; 4], length: usize, sent: usize) -> TcpStream {
    let mut stream = connect_from(IpAddr::from(from), server.hooks()).unwrap();
    let target = hook.target();
    let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // A client that is refused in the middle may be unable to send the rest.
    let _ = stream.write_all(&vec![b'x'; sent]);
    stream
}

/// Waits until the server has read the heads of `count` requests.
fn await_heads(server: &Server, count: usize) {
    server.wait_until("all heads are read", || {
        let metrics = Scrape::of(&server.api());
        metrics.value(r#"boathook_requests_total{listener="hooks"}"#) >= count as f64
    });
}

fn waiting_fleet(name: &str) -> serde_json::Value {
    json!({"name": name, "concurrency": 1, "vessels": {"v": {"command": ["/bin/sleep", "600"]}}})
}

#[test]
fn silent_uploads_of_one_address_take_no_budget_and_are_cut_soon() {
    let server = Server::builder().setting("max_inflight_body_bytes", "64MiB").start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("fleet"));
    let uploads: Vec<TcpStream> =
        (0..61).map(|_| upload(&server, &hook, [127, 0, 0, 2], 20 * MIB, 0)).collect();
    await_heads(&server, uploads.len());
    hook.post(server.hooks(), &[], &vec![b'x'; 20 * MIB]);
    // Long before `body_timeout`, which is a minute.
    let begin = std::time::Instant::now();
    server.wait_until("they are cut", || {
        let metrics = Scrape::of(&server.api());
        let refused = r#"boathook_requests_refused_total{listener="hooks",reason="timed_out"}"#;
        metrics.value(refused) == 61.0
    });
    assert!(begin.elapsed().as_secs() < 50, "{:?}", begin.elapsed());
}

/// Delays the first byte that goes to a file without a name, as a busy disk does.
const SLOW_DISK: &str = r#"
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t write(int fd, const void *bytes, size_t length) {
    struct stat it;
    if (length > 1000 && fstat(fd, &it) == 0 && S_ISREG(it.st_mode) && !it.st_nlink && !it.st_size)
        sleep(7);
    return syscall(SYS_write, fd, bytes, length);
}
"#;

/// The sender's pace allows for five seconds.
#[test]
fn a_slow_disk_of_the_server_is_not_the_senders_delay() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("slow_disk.c");
    std::fs::write(&source, SLOW_DISK).unwrap();
    let library = shared_library(&source, directory.path());
    let server = Server::builder().variable("LD_PRELOAD", library.as_os_str()).start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("fleet"));
    let (head, tail) = (3 * MIB, MIB);
    let mut stream = upload(&server, &hook, [127, 0, 0, 2], head + tail, head);
    stream.write_all(&vec![b'x'; tail]).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
}

#[test]
fn uploads_of_one_address_or_one_webhook_leave_room_for_others() {
    let server = Server::builder()
        .setting("max_inflight_body_bytes", "8MiB")
        .setting("body_timeout", "10m")
        .start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("one"));
    let (_, other) = server.fleet_with_webhook(&true_fleet("other"));
    let from: [fn(u8) -> [u8; 4]; 2] = [|_| [127, 0, 0, 2], |number| [127, 0, 0, 2 + number]];
    for from in from {
        // Each lacks its last byte.
        let uploads: Vec<TcpStream> =
            (0..20).map(|number| upload(&server, &hook, from(number), MIB, MIB - 1)).collect();
        let large = post_request(&hook.target(), &[], &vec![b'x'; MIB]);
        let status = |request: &[u8]| {
            let mut connection = Connection::open(server.hooks()).unwrap();
            let _ = connection.send(request);
            connection.answer().unwrap().status
        };
        server.wait_until("the webhook has its share", || status(&large) == 503);
        other.post(server.hooks(), &[], &vec![b'x'; MIB]);
        hook.post(server.hooks(), &[], b"small");
        drop(uploads);
        server.wait_until("the share is given back", || status(&large) == 201);
    }
}

#[test]
fn a_fleet_that_is_behind_does_not_fill_the_queue_for_others() {
    let server = Server::builder().setting("max_queued_runs", "40").setting("workers", "2").start();
    let (_, hook) = server.fleet_with_webhook(&waiting_fleet("behind"));
    let (_, other) = server.fleet_with_webhook(&true_fleet("other"));
    let mut accepted = 0;
    let refusal = loop {
        let answer = hook.try_post(server.hooks(), &[], b"x").unwrap();
        if answer.status != 201 {
            break answer.expect(503);
        }
        accepted += 1;
        assert!(accepted < 40, "it fills the queue");
    };
    assert!(refusal.header("retry-after").is_some());
    assert!(accepted >= 30, "one alone has three quarters: {accepted}");
    for _ in 0..20 {
        let run = other.post(server.hooks(), &[], b"x");
        server.api().wait_status(&run, "Success");
    }
    let metrics = Scrape::of(&server.api());
    let refused = r#"boathook_requests_refused_total{listener="hooks",reason="fleet_queue_full"}"#;
    assert_eq!((metrics.value(refused), metrics.value("boathook_accepting")), (1.0, 1.0));
}

#[test]
fn a_fleet_that_is_behind_does_not_fill_the_disk_for_others() {
    let (small, large) = (MIB / 16, 5_000_000);
    for (bytes, senders) in [(small, 1), (large, 1), (large, 4)] {
        let Some(disk) = SmallDisk::mount(300) else { return };
        fill_its_share(&disk, bytes, senders);
    }
}

/// Lets as many senders fill a fleet's share of the disk with bodies of `bytes` bytes. Then another fleet
/// gets one.
fn fill_its_share(disk: &SmallDisk, bytes: usize, senders: usize) {
    let server = disk.server().setting("min_free_bytes", "200MiB").setting("workers", "2").start();
    let (_, hook) = server.fleet_with_webhook(&waiting_fleet("behind"));
    let (_, other) = server.fleet_with_webhook(&true_fleet("other"));
    let (body, address) = (vec![b'x'; bytes], server.hooks());
    let send = || {
        let accepted = (0..4096).take_while(|_| {
            let answer = hook.try_post(address, &[], &body).unwrap();
            assert!(matches!(answer.status, 201 | 503), "{}", answer.text());
            answer.status == 201
        });
        accepted.count()
    };
    let mut accepted: usize = thread::scope(|scope| {
        let senders: Vec<_> = (0..senders).map(|_| scope.spawn(send)).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    // All of several at once may be refused for what is on its way together.
    accepted += send();
    let mib = accepted * bytes / MIB;
    println!("{accepted} of {bytes} bytes from {senders} senders: {mib} MiB");
    assert!(mib >= 20, "its share is larger");
    let metrics = Scrape::of(&server.api());
    let refused = r#"boathook_requests_refused_total{listener="hooks",reason="fleet_disk_full"}"#;
    assert!(metrics.value(refused) >= 1.0, "it was refused for its share");
    let run = other.post(server.hooks(), &[], &body);
    server.api().wait_status(&run, "Success");
}
