//! What a listener answers, over real sockets.

mod fixture;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use super::*;
use fixture::{Client, Fixture, MIB, TEST_TIMEOUT};

use crate::model::limits::BODY_INLINE_BYTES_MAX;

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for path in ["/a", "/b"] {
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(client.answer(), (200, format!("{path} 0")));
    }
    client.send(
        "POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\
         POST /d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n\
         POST /unknown HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\
         HEAD /e HTTP/1.1\r\nHost: x\r\n\r\nGET /f HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!(client.answer(), (200, "/c 3".to_owned()));
    assert_eq!(client.answer(), (200, "/d 2".to_owned()));
    assert_eq!(client.answer(), (400, "unknown".to_owned()));
    assert_eq!(client.head().0, 200);
    assert_eq!(client.answer(), (200, "/f 0".to_owned()));
    fixture.listener.stop(TEST_TIMEOUT);
}

#[test]
fn responses_that_wait_for_a_commit_occupy_no_handler() {
    let fixture = Fixture::new();
    let (mut first, mut second) = (fixture.connect(), fixture.connect());
    first.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    second.send("GET /later-panic HTTP/1.1\r\nHost: x\r\n\r\n");
    for _ in 0..2 {
        fixture.seen.recv_timeout(TEST_TIMEOUT).unwrap();
    }
    assert!(fixture.is_alive(), "the only handler is free");
    for _ in 0..2 {
        fixture.go_on.send(()).unwrap();
    }
    assert_eq!(first.answer(), (200, "later".to_owned()));
    assert_eq!(second.answer().0, 500);
    assert!(fixture.is_alive());
    fixture.listener.stop(TEST_TIMEOUT);
}

#[test]
fn large_bodies_occupy_no_handler() {
    let fixture = Fixture::new();
    let large = "x".repeat(BODY_INLINE_BYTES_MAX + 1);
    let mut clients = [fixture.connect(), fixture.connect()];
    for (client, path) in clients.iter_mut().zip(["/wait", "/later"]) {
        let length = large.len();
        client.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{large}"
        ));
        fixture.seen.recv_timeout(TEST_TIMEOUT).unwrap();
    }
    assert!(fixture.is_alive());
    let Fixture { listener, go_on, .. } = fixture;
    let stopping = thread::spawn(move || listener.stop(TEST_TIMEOUT));
    for _ in 0..2 {
        go_on.send(()).unwrap();
    }
    let [mut waiting, mut later] = clients;
    assert_eq!(waiting.answer(), (200, "waited".to_owned()));
    assert_eq!(later.answer(), (200, "later".to_owned()));
    stopping.join().unwrap();
}

#[test]
fn stopping_waits_for_responses_under_way() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let Fixture { listener, seen, go_on } = fixture;
    client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    seen.recv_timeout(TEST_TIMEOUT).unwrap();
    let stopping = thread::spawn(move || listener.stop(TEST_TIMEOUT));
    while TcpStream::connect(client.0.get_ref().peer_addr().unwrap()).is_ok() {
        thread::sleep(Duration::from_millis(2));
    }
    assert!(!stopping.is_finished());
    go_on.send(()).unwrap();
    assert_eq!(client.answer(), (200, "later".to_owned()));
    stopping.join().unwrap();
}

#[test]
fn http_1_0_clients_get_responses_of_their_version() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let (_, headers) = client.head();
    assert!(headers.contains(&"Connection: keep-alive".to_owned()), "{headers:?}");
    client.0.read_exact(&mut [0; "/a 0".len()]).unwrap();
    client.send("GET /b HTTP/1.0\r\n\r\n");
    let (_, headers) = client.head();
    assert!(headers.contains(&"Connection: close".to_owned()), "{headers:?}");
    assert_eq!(client.rest(), ("/b 0".to_owned(), true));
}

#[test]
fn a_sender_of_40_mib_reads_its_refusal() {
    let fixture = Fixture::new();
    let length = 40 * MIB;
    let piece = vec![b'x'; MIB as usize];
    for (path, status) in [("/a", 413), ("/unknown", 400)] {
        let mut client = fixture.connect();
        client
            .send(&format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"));
        for _ in 0..40 {
            client.0.get_mut().write_all(&piece).expect("the sender may send to the end");
        }
        let (seen, headers) = client.head();
        assert_eq!(seen, status);
        assert!(headers.contains(&"Connection: close".to_owned()), "{headers:?}");
        assert!(client.rest().1, "the connection was reset");
    }
    assert!(fixture.seen.is_empty(), "a handler saw it");
}

#[test]
fn a_sender_that_waits_is_told_to_go_on_only_when_its_body_is_read() {
    let fixture = Fixture::new();
    for (path, length, status) in [("/a", 40_000_000, 413), ("/unknown", 5, 400)] {
        let mut client = fixture.connect();
        client.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        ));
        assert_eq!(client.head().0, status, "not so much as a 100 Continue comes first");
    }
    let mut client = fixture.connect();
    for framing in ["Content-Length: 7", "Transfer-Encoding: chunked"] {
        client.send(&format!(
            "POST /a HTTP/1.1\r\nHost: x\r\n{framing}\r\nExpect: 100-continue\r\n\r\n"
        ));
        assert_eq!(client.head(), (100, Vec::new()));
        client.send(if framing.starts_with('C') { "1234567" } else { "7\r\n1234567\r\n0\r\n\r\n" });
        assert_eq!(client.answer(), (200, "/a 7".to_owned()));
    }
}

#[test]
fn slow_senders_get_408() {
    let soon = Duration::from_millis(100);
    let fixture = Fixture::with(|settings| {
        settings.head_timeout = soon;
        settings.body_timeout = soon;
        settings.idle_timeout = soon;
    });
    let head = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
    let chunked = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n";
    for sent in ["G", &head[..head.len() - 1], head, &format!("{head}1234"), chunked] {
        let mut client = fixture.connect();
        client.send(sent);
        assert_eq!(client.head().0, 408, "{sent:?}");
    }
    // A connection without a request gets no response.
    let mut client = fixture.connect();
    assert_eq!(client.rest(), (String::new(), true));
    let mut client = fixture.connect();
    client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer().0, 200);
    assert_eq!(client.rest(), (String::new(), true));
    fixture.await_no_connections();
    assert_eq!(fixture.seen.len(), 1, "a handler saw a request that was not complete");
}

#[test]
fn a_body_that_is_cut_short_reaches_no_handler() {
    let fixture = Fixture::new();
    for framing in
        ["Content-Length: 100000\r\n\r\nonly", "Transfer-Encoding: chunked\r\n\r\n4\r\nonly"]
    {
        let mut client = fixture.connect();
        client.send(&format!("POST /a HTTP/1.1\r\nHost: x\r\n{framing}"));
        client.0.get_mut().shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.head().0, 400);
    }
    assert!(fixture.is_alive());
    assert_eq!(fixture.seen.len(), 1);
}

#[test]
fn a_panic_is_answered_and_costs_no_thread() {
    let fixture = Fixture::new();
    for before in ["/a", "/panic", "/b"] {
        let mut client = fixture.connect();
        client.send(&format!("GET {before} HTTP/1.1\r\nHost: x\r\n\r\n"));
        client.answer();
        client.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.answer().0, 500);
    }
    assert!(fixture.is_alive());
}

#[test]
fn streams_are_sent_as_they_come_and_occupy_no_handler() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    let (status, headers) = client.head();
    assert_eq!(status, 200);
    assert!(headers.contains(&"Transfer-Encoding: chunked".to_owned()), "{headers:?}");
    assert_eq!((client.line(), client.line()), ("3".to_owned(), "one".to_owned()));
    assert!(fixture.is_alive(), "the only handler is with the stream");
    fixture.go_on.send(()).unwrap();
    assert_eq!((client.line(), client.line()), ("3".to_owned(), "two".to_owned()));
    assert_eq!((client.line(), client.line()), ("0".to_owned(), String::new()));
    client.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer(), (200, "/next 0".to_owned()));

    // What HTTP/1.0 is streamed ends with the connection.
    let mut old = fixture.connect();
    old.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let (_, headers) = old.head();
    assert!(headers.contains(&"Connection: close".to_owned()), "{headers:?}");
    assert!(!headers.iter().any(|line| line.starts_with("Transfer-Encoding")), "{headers:?}");
    fixture.go_on.send(()).unwrap();
    assert_eq!(old.rest(), ("onetwo".to_owned(), true));
}

#[test]
fn a_response_that_fails_does_not_look_complete() {
    let fixture = Fixture::new();
    // More often than there are permits.
    for _ in 0..5 {
        let mut client = fixture.connect();
        client.send("GET /short HTTP/1.1\r\nHost: x\r\n\r\n");
        let (_, headers) = client.head();
        assert!(headers.contains(&"Content-Length: 1000".to_owned()), "{headers:?}");
        fixture.go_on.send(()).unwrap();
        assert!(client.rest().0.starts_with("one"));
    }
    assert!(fixture.is_alive());
}

#[test]
fn a_client_that_no_longer_follows_is_noticed() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.head().0, 200);
    drop(client);
    fixture.await_no_connections();
}

#[test]
fn a_full_listener_still_answers_health_checks() {
    let fixture = Fixture::with(|settings| settings.max_connections = 1);
    let mut first = fixture.connect();
    // A request under way does not give way.
    first.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    fixture.seen.recv_timeout(TEST_TIMEOUT).unwrap();

    for (path, status) in [("/health", 200), ("/unknown", 400), ("/a", 503)] {
        let mut client = fixture.connect();
        // A client that has to ask the server for its proof first asks twice, and no more often.
        let mut has_ended = false;
        for asked in 1..=2 {
            client.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let (seen, headers) = client.head();
            assert_eq!(seen, status, "{path}");
            has_ended = headers.contains(&"Connection: close".to_owned());
            assert_eq!(has_ended, asked == 2 || status == 503, "{headers:?}");
            if has_ended {
                break;
            }
            let length = headers.iter().find_map(|line| line.strip_prefix("Content-Length: "));
            let mut body = vec![0; length.expect("a length").parse().unwrap()];
            client.0.read_exact(&mut body).unwrap();
        }
        assert!(has_ended);
    }

    // A silent connection loses its reserved place soon. While all are held, a newcomer gets 503.
    let mut holders: Vec<Client> = (0..RESERVED_CONNECTIONS).map(|_| fixture.connect()).collect();
    // A client that gets one of these places after all is closed without a word.
    let refused = (0..1000).any(|_| fixture.connect().line().contains(" 503 "));
    assert!(refused);
    holders.iter_mut().for_each(|holder| drop(holder.rest()));
    fixture.go_on.send(()).unwrap();
    assert_eq!(first.answer(), (200, "waited".to_owned()));
    first.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(first.answer().0, 200);
    drop(first);
    fixture.await_no_connections();
    assert!(fixture.is_alive());
}

#[test]
fn requests_wait_for_a_handler_in_order() {
    let fixture = Fixture::new();
    let mut busy: Vec<Client> = (0..5).map(|_| fixture.connect()).collect();
    for client in &mut busy {
        client.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    fixture.seen.recv_timeout(TEST_TIMEOUT).unwrap();
    let mut health = fixture.connect();
    health.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(health.answer().0, 200, "health needs no handler");
    for client in &mut busy {
        fixture.go_on.send(()).unwrap();
        assert!(client.0.get_ref().peer_addr().is_ok());
    }
    for client in &mut busy {
        assert_eq!(client.answer(), (200, "waited".to_owned()));
    }
}

#[test]
fn clients_that_read_no_responses_take_no_handler() {
    let fixture = Fixture::new();
    let request = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(12 * 1024));
    // One more than there are permits. Each sends until nothing more is taken from it, since nothing
    // more can be sent to it.
    let mut clients: Vec<Client> = (0..4).map(|_| fixture.connect()).collect();
    for client in &mut clients {
        client.0.get_ref().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        while client.0.get_mut().write_all(request.as_bytes()).is_ok() {}
    }
    for _ in 0..3 {
        assert!(fixture.is_alive());
    }
}

#[test]
fn responses_arrive_whole_whenever_they_are_read() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let path = format!("/{}", "a".repeat(12 * 1024));
    let mut sent = 0;
    // One after the other, until an answer finds no room and the next request is not looked at.
    while sent == 0 || fixture.seen.recv_timeout(Duration::from_millis(300)).is_ok() {
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        sent += 1;
    }
    assert!(fixture.is_alive());
    for _ in 0..sent {
        assert_eq!(client.answer(), (200, format!("{path} 0")));
    }
}

#[test]
fn stopping_answers_what_is_under_way_and_ends_the_rest() {
    let fixture = Fixture::new();
    let mut follower = fixture.connect();
    follower.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(follower.head().0, 200);
    let mut idle = fixture.connect();
    idle.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(idle.answer().0, 200);
    let mut client = fixture.connect();
    client.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    while fixture.seen.recv_timeout(TEST_TIMEOUT).unwrap().path != "/wait" {}

    let Fixture { listener, go_on, .. } = fixture;
    let address = listener.address();
    let stopper = thread::spawn(move || listener.stop(TEST_TIMEOUT));
    // The stream ends without its last chunk, so that it does not look complete.
    assert_eq!((follower.line(), follower.line()), ("3".to_owned(), "one".to_owned()));
    assert_eq!(follower.rest().0, "");
    assert_eq!(idle.rest(), (String::new(), true));
    go_on.send(()).unwrap();
    let (status, headers) = client.head();
    assert_eq!(status, 200);
    assert!(headers.contains(&"Connection: close".to_owned()), "{headers:?}");
    assert_eq!(client.rest(), ("waited".to_owned(), true));
    stopper.join().unwrap();
    assert!(TcpStream::connect(address).is_err());
}
