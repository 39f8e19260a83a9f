//! Many slow connections: the listener keeps them within their limits, serves good senders meanwhile,
//! and holds nothing of them when they have ended.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use boathook::internals::limits::REJECTED_CONNECTIONS;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use serde_json::json;

use crate::harness::http::{exchange, post_request};
use crate::harness::processes::{Holdings, memory};
use crate::harness::{Connection, Hook, PATIENCE, Server, wait_for};

const MIB: u64 = 1024 * 1024;

/// How a slow connection holds a server up, in equal shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Sends a head, byte by byte.
    SlowHead,
    /// Sends a body, byte by byte.
    SlowBody,
    Silent,
    /// Sends one request after the other and reads no answer.
    NeverReads,
}

const HABITS: [Habit; 4] = [Habit::SlowHead, Habit::SlowBody, Habit::Silent, Habit::NeverReads];

/// The connections that never read and send until nothing more is taken; the others send a few
/// requests. All of them would only measure this machine's memory for sockets.
const INSATIABLE: usize = 10;

/// Slow connections.
struct SlowClients(Vec<(Habit, TcpStream)>);

impl SlowClients {
    fn connect(address: &str, hook: &Hook, size: usize) -> Self {
        let target = hook.target();
        let health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5);
        let body = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n");
        let clients = (0..size).map(|number| {
            let habit = HABITS[number % HABITS.len()];
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.set_nonblocking(true).unwrap();
            let begin = match habit {
                Habit::SlowHead => format!("POST {target} HTTP/1.1\r\nX-Slow: ").into_bytes(),
                Habit::SlowBody => body.clone().into_bytes(),
                Habit::Silent => Vec::new(),
                Habit::NeverReads => health.clone(),
            };
            let _ = stream.write_all(&begin);
            if habit == Habit::NeverReads && number < INSATIABLE * HABITS.len() {
                while stream.write(&health).is_ok() {}
            }
            (habit, stream)
        });
        Self(clients.collect())
    }

    /// Sends a byte more from each that trickles, until told to stop.
    fn trickle(&mut self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            for (habit, stream) in &mut self.0 {
                if matches!(habit, Habit::SlowHead | Habit::SlowBody) {
                    let _ = stream.write(b"x");
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// How many have been left by the server, which takes no part of them for ever.
    fn ended(&mut self) -> usize {
        let mut buffer = [0; 64 * 1024];
        let mut has_ended = |stream: &mut TcpStream| loop {
            match stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        };
        self.0.iter_mut().filter_map(|(_, stream)| has_ended(stream).then_some(())).count()
    }
}

/// How long each of `count` posts took, every second one on a new connection. All are accepted.
fn latencies(server: &Server, hook: &Hook, count: usize) -> Vec<Duration> {
    let request = post_request(&hook.target(), &[], b"{\"good\":true}");
    let mut kept = Connection::open(server.hooks()).unwrap();
    let mut times: Vec<Duration> = (0..count)
        .map(|number| {
            let begin = Instant::now();
            if number % 2 == 0 {
                exchange(server.hooks(), &request).unwrap().expect(201);
            } else {
                kept.send(&request).unwrap();
                kept.answer().unwrap().expect(201);
            }
            begin.elapsed()
        })
        .collect();
    times.sort();
    times
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// Makes room for the descriptors of many connections in this process.
fn raise_own_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

fn waiting_fleet() -> serde_json::Value {
    json!({"name": "wait", "vessels": {"wait": {"command": ["/bin/sleep", "1000"]}}})
}

/// `size` slow connections while a good sender posts `count` times, quietly and then beside it. Returns the
/// two lists of its latencies.
fn beside_slow_clients(size: usize, count: usize, timeout: &str) -> (Vec<Duration>, Vec<Duration>) {
    raise_own_limit();
    let server = Server::builder()
        .setting("workers", "1")
        .setting("max_connections", &(size + 200).to_string())
        .setting("head_timeout", timeout)
        .setting("body_timeout", timeout)
        .setting("idle_timeout", timeout)
        .setting("write_timeout", "2s")
        .start();
    let (_, hook) = server.fleet_with_webhook(&waiting_fleet());
    let alone = latencies(&server, &hook, count);
    let quiet = Holdings::quiet(server.pid());

    let mut slow = SlowClients::connect(server.hooks(), &hook, size);
    let is_over = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        scope.spawn(|| slow.trickle(&is_over));
        let beside = latencies(&server, &hook, count);
        let held = Holdings::of(server.pid());
        println!("while {size} hold it up: {held:?}");
        assert!(held.connections > size / 10, "the slow connections have ended too early");
        is_over.store(true, Ordering::SeqCst);
        beside
    });
    // Each comes to its end although it stays: within its deadline, and the time to be told.
    server.wait_until("the slow connections have ended", || slow.ended() == size);
    quiet.await_again(server.pid());
    let (now, most) = memory(server.pid());
    println!("{size} connections: {} MiB at most, {} MiB after", most / MIB, now / MIB);
    assert!(most < 150 * MIB, "{} MiB", most / MIB);
    let all = server.api().all_runs().len();
    assert_eq!(all, 2 * count, "what was not sent to its end is no run");
    (alone, beside)
}

fn print(what: &str, sorted: &[Duration]) {
    let [median, most] = [50, 99].map(|percent| percentile(sorted, percent));
    println!("{what}: median {median:?}, p99 {most:?}, worst {:?}", sorted[sorted.len() - 1]);
}

#[test]
fn a_good_sender_is_served_beside_two_thousand_slow_ones() {
    let (alone, beside) = beside_slow_clients(2000, 100, "8s");
    print("alone", &alone);
    print("beside slow connections", &beside);
    // A request that had to wait for one of the slow connections would have waited for its deadline.
    let most = percentile(&alone, 99) + Duration::from_secs(3);
    assert!(percentile(&beside, 90) < most, "{:?}", percentile(&beside, 90));
}

/// Measures the same: with a release build, on a quiet machine.
#[test]
#[ignore = "measures; run it by hand"]
fn latency_beside_two_thousand_slow_ones() {
    let (alone, beside) = beside_slow_clients(2000, 4000, "20s");
    print("alone", &alone);
    print("beside slow connections", &beside);
}

/// A server that is told to stop does not wait for clients that will never be done.
#[test]
fn a_server_stops_beside_slow_connections() {
    let mut server = Server::builder().setting("shutdown_grace", "0s").start();
    let (_, hook) = server.fleet_with_webhook(&waiting_fleet());
    let mut slow = SlowClients::connect(server.hooks(), &hook, 200);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| slow.trickle(&is_over));
        server.stop();
        is_over.store(true, Ordering::SeqCst);
    });
}

/// More connections than there are descriptors: who finds no place is told so or waits in the
/// kernel, and service returns without a hand on it.
#[test]
fn a_server_survives_running_out_of_descriptors() {
    let server = Server::builder()
        .setting("workers", "2")
        .setting("head_timeout", "3s")
        .setting("idle_timeout", "3s")
        .after_shell("ulimit -n 256")
        .start();
    let (_, hook) = server.fleet_with_webhook(&waiting_fleet());
    let quiet = Holdings::quiet(server.pid());
    for _ in 0..2 {
        let clients: Vec<TcpStream> =
            (0..1000).map(|_| TcpStream::connect(server.hooks()).unwrap()).collect();
        let request = post_request(&hook.target(), &[], b"x");
        // Beside connections that stay: they lose their places at their deadline.
        let accepted = wait_for(|| {
            let answer = exchange(server.hooks(), &request).ok()?;
            (answer.status == 201).then_some(())
        });
        assert!(accepted.is_some(), "service does not return\n{}", server.log_tail());
        drop(clients);
        quiet.await_again(server.pid());
    }
    exchange(server.admin(), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().expect(200);
}

/// The listener's own budget is cautious, so the test uses up the descriptors: the
/// limit is lowered below what is open already.
#[test]
fn accepting_goes_on_when_there_are_descriptors_again() {
    let server = Server::builder().setting("workers", "2").start();
    let (_, hook) = server.fleet_with_webhook(&waiting_fleet());
    let request = post_request(&hook.target(), &[], b"x");
    exchange(server.hooks(), &request).unwrap().expect(201);
    let pid = Pid::from_raw(server.pid());
    let few = Rlimit {
        current: Some(Holdings::of(server.pid()).descriptors as u64 + 1),
        ..getrlimit(Resource::Nofile)
    };
    let normal = prlimit(pid, Resource::Nofile, few).unwrap();
    let clients: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(server.hooks()).unwrap()).collect();
    server.wait_until("accepting fails", || server.log().contains("cannot accept connections"));
    // Connections without a place are told so as long as it lasts.
    let refused = wait_for(|| {
        let answer = exchange(server.hooks(), &request).ok()?;
        (answer.status == 503).then_some(answer)
    });
    assert!(refused.expect("a refusal").header("retry-after").is_some());
    prlimit(pid, Resource::Nofile, normal).unwrap();
    drop(clients);
    let accepted = wait_for(|| {
        let answer = exchange(server.hooks(), &request).ok()?;
        (answer.status == 201).then_some(())
    });
    assert!(accepted.is_some(), "service does not return\n{}", server.log_tail());
}

/// Loopback is not counted, so this machine talks to itself over an address of its network.
#[test]
fn one_address_does_not_take_all_places() {
    let Some(own) = own_address() else {
        println!("this machine has no address but loopback: nothing to see here");
        return;
    };
    let server = Server::builder()
        .hooks_listen("0.0.0.0:0")
        .setting("max_connections_per_ip", "5")
        .setting("max_connections", "50")
        .start();
    let (_, hook) = server.fleet_with_webhook(&waiting_fleet());
    let port = server.hooks().rsplit_once(':').unwrap().1.to_owned();
    let (there, loopback) = (format!("{own}:{port}"), format!("127.0.0.1:{port}"));
    let request = post_request(&hook.target(), &[], b"x");
    let mut held: Vec<Connection> = (0..5).map(|_| Connection::open(&there).unwrap()).collect();
    for connection in &mut held {
        connection.send(&request).unwrap();
        connection.answer().unwrap().expect(201);
    }
    let mut more = Connection::open(&there).unwrap();
    let answer = more.answer().unwrap().expect(429);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(more.read_to_end().is_empty());
    let mut others: Vec<Connection> =
        (0..20).map(|_| Connection::open(&loopback).unwrap()).collect();
    for connection in &mut others {
        connection.send(&request).unwrap();
        connection.answer().unwrap().expect(201);
    }
    drop(held);
    let accepted = wait_for(|| {
        let answer = exchange(&there, &request).ok()?;
        (answer.status == 201).then_some(())
    });
    assert!(accepted.is_some(), "places are not given back");
}

/// Most senders send all before they read. Were their connections just closed, they would fail at
/// sending and never come to the answer.
#[test]
fn a_rejected_client_can_read_its_refusal() {
    let Some(own) = own_address() else {
        println!("this machine has no address but loopback: nothing to see here");
        return;
    };
    let server =
        Server::builder().hooks_listen("0.0.0.0:0").setting("max_connections_per_ip", "1").start();
    let port = server.hooks().rsplit_once(':').unwrap().1.to_owned();
    let there = format!("{own}:{port}");
    let mut first = Connection::open(&there).unwrap();
    first.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    first.answer().unwrap().expect(200);
    // tiny_http accepts the announcements' connection of a listener some time after the server is
    // ready, but before an answer.
    server.api().get("/api/v1/organization").expect(200);
    let before = Holdings::of(server.pid());
    let request = post_request("/hooks/x", &[], &[b'x'; 20_000]);
    for _ in 0..REJECTED_CONNECTIONS * 2 {
        let mut more = TcpStream::connect(&there).unwrap();
        more.set_read_timeout(Some(PATIENCE)).unwrap();
        // It has been turned away by now.
        more.peek(&mut [0]).unwrap();
        for part in request.chunks(1000) {
            more.write_all(part).expect("all can be sent");
        }
        let mut answer = String::new();
        more.read_to_string(&mut answer).expect("the answer, and an end without a reset");
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    }
    server.wait_until("their descriptors are given back", || {
        Holdings::of(server.pid()).descriptors <= before.descriptors
    });
}

/// An address of this machine that is not loopback. Nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(ELSEWHERE).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}
