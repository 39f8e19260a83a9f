use std::thread;

use super::*;
use crate::listener::body::Holders;
use crate::listener::{Scanner, Spool};

/// A request whose answer comes back over `line`, or by a shortcut.
pub fn parcel(line: &Arc<Line>, shortcut: Option<&Arc<Shortcut>>) -> Parcel {
    let bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut scanner = Scanner::new();
    scanner.scan(bytes).unwrap();
    let spool = Arc::new(Spool::new(std::env::temp_dir(), 0, 0));
    let holders = Holders { address: [127, 0, 0, 1].into(), fleet: None };
    Parcel {
        head: Head::parse(bytes, &scanner).unwrap(),
        remote_addr: ([127, 0, 0, 1], 1).into(),
        body: spool.draft(Some(0), holders).unwrap().finish().unwrap(),
        received_at: Instant::now(),
        line: Arc::clone(line),
        shortcut: shortcut.cloned(),
    }
}

/// Greets the next connection, and returns its inner end.
pub fn greet_next(inner: &UnixListener) -> UnixStream {
    let (stream, _) = inner.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(next_target(&stream), GREETING);
    (&stream).write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
    stream
}

/// The path of the next request on `stream`.
fn next_target(mut stream: &UnixStream) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    String::from_utf8(line).unwrap().split(' ').nth(1).unwrap().to_owned()
}

/// A passage with a lane and a link, and the inner ends of both.
fn with_lane() -> (Arc<Passage>, Link, UnixStream, UnixStream) {
    let directory = tempfile::tempdir().unwrap();
    let (inner, passage) = Passage::open(directory.path()).unwrap();
    let greeter = thread::spawn(move || (greet_next(&inner), greet_next(&inner)));
    let patience = Duration::from_secs(30);
    passage.open_lane(patience).unwrap();
    let link = Link::open(&passage, patience).unwrap();
    let (lane, of_link) = greeter.join().unwrap();
    (passage, link, lane, of_link)
}

#[test]
fn requests_come_over_the_lane_and_their_answers_over_their_links() {
    let (passage, mut link, lane, of_link) = with_lane();

    link.announce(parcel(&link.line(), None)).unwrap();
    let target = next_target(&lane);
    let Some(Waiting::Request(parcel)) = passage.claim(&target) else {
        panic!("no request waits");
    };
    assert!(passage.claim(&target).is_none(), "only once");

    let answer = Box::new(|mut writer: Box<dyn Write + Send>| writer.write_all(b"x").unwrap());
    passage.bring(&parcel.line, answer).unwrap();
    assert_eq!(next_target(&of_link), target);
    let Some(Waiting::Response(answer)) = passage.claim(&target) else {
        panic!("no answer waits");
    };
    answer(Box::new(of_link));
    assert_eq!(link.receive().unwrap(), b"x");
}

#[test]
fn without_the_lane_requests_go_over_their_links() {
    let (passage, link, lane, of_link) = with_lane();
    drop(lane);
    for _ in 0..2 {
        link.announce(parcel(&link.line(), None)).unwrap();
        assert!(passage.claim(&next_target(&of_link)).is_some());
    }
}

#[test]
fn what_nobody_waits_for_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let (inner, passage) = Passage::open(directory.path()).unwrap();
    let greeter = thread::spawn(move || greet_next(&inner));
    let link = Link::open(&passage, Duration::from_secs(30)).unwrap();
    let of_link = greeter.join().unwrap();
    let line = link.line();

    // Without a lane, it comes over the link.
    link.announce(parcel(&line, None)).unwrap();
    let target = next_target(&of_link);
    drop(link);
    assert!(passage.claim(&target).is_none());

    let held = Arc::new(());
    let answer = || {
        let held = Arc::clone(&held);
        Box::new(move |_| drop(held))
    };
    assert!(passage.bring(&line, answer()).is_err(), "the line is cut");
    passage.table().entries.insert(line.id, Waiting::Response(answer()));
    passage.close();
    assert!(passage.bring(&line, answer()).is_err(), "nobody claims");
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_socket_without_a_name_is_reached_through_its_descriptor() {
    // Longer than a socket's address may be.
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("d".repeat(200));
    std::fs::create_dir(&directory).unwrap();
    let (listener, passage) = Passage::open(&directory).unwrap();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    let mut near = passage.dial().unwrap();
    let (mut far, _) = listener.accept().unwrap();
    near.write_all(b"x").unwrap();
    far.read_exact(&mut [0]).unwrap();
}

#[test]
fn nothing_is_claimed_that_does_not_wait() {
    let scratch = tempfile::tempdir().unwrap();
    let (_listener, passage) = Passage::open(scratch.path()).unwrap();
    for target in ["", "/", "/0", "/zz", "0", "/00000000000000000000000000000000", "/+1"] {
        assert!(passage.claim(target).is_none(), "{target}");
    }
}
