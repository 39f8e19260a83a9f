//! Connections that give way when places run out: attackers of several addresses that take all
//! places keep neither a sender nor the owner out.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use boathook::internals::defaults::MAX_CONNECTIONS;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::harness::addresses::{connect_from, in_own_network};
use crate::harness::api::true_fleet;
use crate::harness::http::{exchange, post_request};
use crate::harness::{Connection, Hook, PATIENCE, Server, ServerBuilder};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// What a connection does before it holds its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// It asks for the health, reads the answer, and stays.
    Idle,
    Silent,
    PartOfHead,
    /// It has one request after the other sent and reads nothing.
    NeverReads,
}

const HOLDS: [Hold; 4] = [Hold::Idle, Hold::Silent, Hold::PartOfHead, Hold::NeverReads];

/// Makes room for the descriptors of many connections in this process.
fn raise_own_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// A server whose deadlines end no connection during a test.
fn patient() -> ServerBuilder {
    let timeouts = ["head_timeout", "body_timeout", "idle_timeout", "write_timeout"];
    timeouts.into_iter().fold(Server::builder(), |server, name| server.setting(name, "10m"))
}

/// The addresses 127.0.0.`first` and those that follow.
fn loopback(first: u8, count: u8) -> Vec<IpAddr> {
    (first..first + count).map(|last| IpAddr::from([127, 0, 0, last])).collect()
}

fn occupy_one(from: IpAddr, address: &str, hold: Hold) -> TcpStream {
    let mut stream = connect_from(from, address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match hold {
        Hold::Idle => {
            stream.write_all(HEALTH).unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            let mut rest = [0; 1024];
            while !rest.windows(2).any(|word| word == b"ok") {
                assert!(stream.read(&mut rest).unwrap() > 0);
            }
        }
        Hold::Silent => {}
        Hold::PartOfHead => stream.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ").unwrap(),
        Hold::NeverReads => {
            stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            let many = HEALTH.repeat(1000);
            while stream.write_all(&many).is_ok() {}
        }
    }
    stream
}

/// Takes `count` places at `address`, from each of `from` in turn.
fn occupy(address: &str, from: &[IpAddr], count: usize, hold: Hold) -> Vec<TcpStream> {
    (0..count).map(|number| occupy_one(from[number % from.len()], address, hold)).collect()
}

/// Whether the server has left the connection in order: an end, and no reset.
fn has_ended(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match read {
        Ok(0) => true,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
            false
        }
        Ok(_) => panic!("an answer without a request"),
    }
}

/// Checks that a sender and the owner get what they want, each several times on new connections.
fn assert_served(server: &Server, hook: &Hook) {
    for _ in 0..20 {
        hook.post(server.hooks(), &[], b"{}");
        server.api().get("/api/v1/fleets").expect(200);
    }
}

#[test]
fn strangers_that_hold_all_places_keep_neither_a_sender_nor_the_owner_out() {
    raise_own_limit();
    for hold in HOLDS {
        let places = if hold == Hold::Idle { MAX_CONNECTIONS } else { 64 };
        let server = patient().setting("max_connections", &places.to_string()).start();
        let (_, hook) = server.fleet_with_webhook(&true_fleet("fleet"));
        let hooks = occupy(server.hooks(), &loopback(2, 8), places, hold);
        let admin = occupy(server.admin(), &loopback(2, 8), places, hold);
        println!("{hold:?}");
        assert_served(&server, &hook);
        drop((hooks, admin));
    }
}

/// As `own_network` has them: eight IPv4 addresses and eight /64s of one /48, none of them loopback.
fn own_addresses() -> (Vec<IpAddr>, Vec<IpAddr>) {
    let v4 = (1..=8).map(|last| IpAddr::from([10, 9, 9, last])).collect();
    let v6 = (1..=8).map(|subnet| IpAddr::from([0xfd00, 1, 2, subnet, 0, 0, 0, 1])).collect();
    (v4, v6)
}

#[test]
fn eight_addresses_with_all_they_may_have_keep_no_sender_out() {
    let (v4, v6) = own_addresses();
    let senders: [IpAddr; 2] = ["10.8.8.1", "fd00:9:9:9::1"].map(|it| it.parse().unwrap());
    let all: Vec<String> = v4.iter().chain(&v6).chain(&senders).map(ToString::to_string).collect();
    let name = "evictions::eight_addresses_with_all_they_may_have_keep_no_sender_out";
    if !in_own_network(name, &all) {
        return;
    }
    raise_own_limit();
    for (listen, attackers, sender) in [("0.0.0.0:0", v4, senders[0]), ("[::]:0", v6, senders[1])] {
        let server = patient().hooks_listen(listen).start();
        let (_, hook) = server.fleet_with_webhook(&true_fleet("fleet"));
        let port = server.hooks().rsplit_once(':').unwrap().1;
        let there = SocketAddr::new(sender, port.parse().unwrap()).to_string();
        for hold in [Hold::Idle, Hold::Silent] {
            let mut held = occupy(&there, &attackers, MAX_CONNECTIONS, hold);
            for _ in 0..20 {
                hook.post(&there, &[], b"{}");
            }
            let ended = held.iter_mut().filter_map(|it| has_ended(it).then_some(())).count();
            assert!((1..=100).contains(&ended), "{ended} gave way");
            drop(held);
            server.wait_until("the places are free", || {
                crate::harness::processes::Holdings::of(server.pid()).connections <= 1
            });
        }
    }
}

/// One place after the other is needed: the order in which they are given up.
#[test]
fn the_longest_idle_stranger_gives_way_first_and_a_known_sender_last() {
    // A connection is idle a moment after its client has the answer: on a busy machine the second one may
    // become so first.
    assert!((0..5).any(|_| the_longest_idle_gives_way_first()), "another one went first each time");
}

fn the_longest_idle_gives_way_first() -> bool {
    let server = patient().setting("max_connections", "4").start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("fleet"));
    let post = post_request(&hook.target(), &[], b"{}");
    let from: IpAddr = [127, 0, 0, 2].into();
    let mut known = Connection::open(server.hooks()).unwrap();
    known.send(&post).unwrap();
    known.answer().unwrap().expect(201);
    let mut pending = occupy_one(from, server.hooks(), Hold::PartOfHead);
    let mut idle = occupy(server.hooks(), &[from], 2, Hold::Idle);
    let mut newcomers = Vec::new();
    let mut expect = |ended: &mut dyn FnMut() -> bool, what: &str| {
        newcomers.push(occupy_one([127, 0, 0, 3].into(), server.hooks(), Hold::Silent));
        server.wait_until(what, &mut *ended);
    };
    let [first, second] = &mut idle[..] else { panic!("two are idle") };
    let (mut is_first, mut is_second) = (false, false);
    let mut one_ended = || {
        (is_first, is_second) = (has_ended(first), has_ended(second));
        is_first || is_second
    };
    expect(&mut one_ended, "an idle one gives way");
    assert!(!has_ended(&mut pending));
    if is_second {
        return false;
    }
    expect(&mut || has_ended(&mut idle[1]), "the other idle one gives way");
    // The sender's place comes before those whose requests are arriving; it takes it again.
    known.send(&post).unwrap();
    known.answer().unwrap().expect(201);
    drop(newcomers);
    hook.post(server.hooks(), &[], b"{}");
    true
}

/// A request that is being read, or that a handler has, is never given up.
#[test]
fn an_upload_under_way_is_not_given_up_by_a_flood() {
    let server = patient().setting("max_connections", "8").start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("fleet"));
    let request = post_request(&hook.target(), &[], &[b'x'; 200_000]);
    let (begin, end) = request.split_at(150_000);
    let mut upload = Connection::open(server.hooks()).unwrap();
    upload.send(begin).unwrap();
    server.wait_until("its head is read", || {
        crate::harness::scrape::Scrape::of(&server.api())
            .value(r#"boathook_requests_total{listener="hooks"}"#)
            >= 1.0
    });
    for hold in [Hold::Silent, Hold::Idle, Hold::PartOfHead] {
        drop(occupy(server.hooks(), &loopback(2, 8), 100, hold));
    }
    upload.send(end).unwrap();
    upload.answer().unwrap().expect(201);
}

/// Keep-alive clients that go on while others take all places lose no request: a connection that
/// gave way ends between two requests, and a new one is at once to be had.
#[test]
fn no_request_is_lost_while_places_change_hands() {
    let server = patient().setting("max_connections", "16").start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("fleet"));
    let post = post_request(&hook.target(), &[], b"{}");
    let (accepted, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let address = server.hooks();
    std::thread::scope(|scope| {
        let (is_over, post, accepted) = (&is_over, &post, &accepted);
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                drop(occupy(address, &loopback(2, 8), 20, Hold::Silent));
            }
        });
        let senders: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let mut connection = Connection::open(address).unwrap();
                    for _ in 0..50 {
                        // A client that finds it closed has sent nothing that was read.
                        let answer = connection.send(post).and_then(|()| connection.answer());
                        match answer {
                            Ok(answer) => {
                                assert!(answer.status == 201 || answer.status == 503);
                                if answer.status == 201 {
                                    accepted.fetch_add(1, Ordering::SeqCst);
                                }
                                if answer.header("connection").is_some() {
                                    connection = Connection::open(address).unwrap();
                                }
                            }
                            Err(_) => connection = Connection::open(address).unwrap(),
                        }
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        is_over.store(true, Ordering::SeqCst);
    });
    let accepted = accepted.into_inner();
    println!("{accepted} of 200 accepted");
    assert!(accepted > 100, "{accepted}");
    assert_eq!(server.api().all_runs().len(), accepted, "every run was answered for");
}

/// When all places of the admin listener are taken by requests under way, a client that shows its
/// token has one, and one that shows none gets the short answers.
#[test]
fn a_token_opens_the_reserve_of_the_admin_listener() {
    let server = patient().setting("max_connections", "3").start();
    let api = server.api();
    let sleep = serde_json::json!({"name": "sleep", "vessels": {"v": {"run": "sleep 600"}}});
    let run = api.start(&api.apply(&sleep));
    server.wait_until("it runs", || api.run(&run)["vessels"][0]["status"] == "Running");
    let run = api.run(&run);
    let followers: Vec<_> = (0..3).map(|_| api.follow(&run, "v")).collect();
    exchange(server.admin(), HEALTH).unwrap().expect(200);
    api.get("/api/v1/fleets").expect(200);
    api.post(&format!("/api/v1/runs/{}/stop", run["id"].as_str().unwrap()), &serde_json::json!({}))
        .expect(200);
    drop(followers);
}
