use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::listener::census::{Census, Limits, Seat};
use crate::listener::passage::tests::{greet_next, parcel};
use crate::listener::{Links, Origin, Passage};

const SHORT: Duration = Duration::from_millis(20);

/// A client, its seat, and the link that its requests would go over.
struct Fixture {
    client: TcpStream,
    census: Census,
    seat: Seat,
    links: Arc<Links>,
    /// The link's other end, once there is one.
    inner: Receiver<UnixStream>,
}

impl Fixture {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let limits = Limits { connections: 1, per_address: 1, reserved: 0 };
        let census = Census::new(limits);
        let address = client.local_addr().unwrap().ip();
        let seat = census.seat(&Arc::new(stream), address, Origin::Local).unwrap();

        let directory = tempfile::tempdir().unwrap();
        let (inner, passage) = Passage::open(directory.path()).unwrap();
        let (greeted, inner_end) = bounded(1);
        // Greets one link; there are no more.
        thread::spawn(move || {
            greeted.send(greet_next(&inner)).unwrap();
        });
        let links = Arc::new(Links::new(passage, 1, 0, Duration::from_secs(30)));
        Self { client, census, seat, links, inner: inner_end }
    }

    fn shortcut(&self) -> (Arc<Shortcut>, Arc<Line>) {
        self.shortcut_for(false, Persistence::Kept)
    }

    fn shortcut_for(&self, is_head: bool, persistence: Persistence) -> (Arc<Shortcut>, Arc<Line>) {
        let (place, link) = self.links.take().expect("the link is free");
        let line = link.line();
        let presence = self.seat.presence().clone();
        (Shortcut::new(presence, is_head, persistence, (place, link)), line)
    }
}

fn reply(bytes: usize) -> Reply {
    Reply { status: 200, headers: Vec::new(), body: vec![b'x'; bytes] }
}

#[test]
fn an_answer_goes_to_the_client_and_its_link_to_the_next() {
    let mut fixture = Fixture::new();
    for _ in 0..2 {
        let (shortcut, line) = fixture.shortcut();
        assert!(shortcut.enter(&reply(limits::SHORTCUT_BYTES_MAX + 1)).is_none());
        let reply = reply(limits::SHORTCUT_BYTES_MAX);
        shortcut.enter(&reply).unwrap().send(&reply);
        assert!(matches!(shortcut.wait(Arc::clone(&line), SHORT), Ok(Waited::Idle)));
        let mut received = vec![0; reply.to_bytes(Persistence::Kept, false).len()];
        fixture.client.read_exact(&mut received).unwrap();
        assert!(received.ends_with(&reply.body));
    }
    let (shortcut, line) = fixture.shortcut();
    shortcut.enter(&reply(1)).unwrap().send(&reply(1));
    fixture.client.write_all(b"P").unwrap();
    assert!(matches!(shortcut.wait(line, SHORT), Ok(Waited::Written)));
}

#[test]
fn an_answer_has_the_form_that_its_request_asked_for() {
    let mut fixture = Fixture::new();
    let (shortcut, _) = fixture.shortcut_for(true, Persistence::KeptOld);
    shortcut.enter(&reply(9)).unwrap().send(&reply(9));
    let mut received = vec![0; reply(9).to_bytes(Persistence::KeptOld, true).len()];
    fixture.client.read_exact(&mut received).unwrap();
    assert!(received.ends_with(b"Content-Length: 9\r\nConnection: keep-alive\r\n\r\n"));
}

#[test]
fn the_last_answers_of_connections_are_relayed() {
    let fixture = Fixture::new();
    let (shortcut, _line) = fixture.shortcut();
    fixture.census.close();
    assert!(shortcut.enter(&reply(1)).is_none());
}

#[test]
fn who_was_answered_is_sent_home_like_others() {
    let mut fixture = Fixture::new();
    let (shortcut, line) = fixture.shortcut();
    let entered = shortcut.enter(&reply(1)).unwrap();
    fixture.census.dismiss_idle();
    entered.send(&reply(1));
    assert!(matches!(shortcut.wait(line, Duration::from_secs(30)), Ok(Waited::Written)));
    assert_eq!(fixture.seat.presence().stream().read(&mut [0]).unwrap(), 0);
    fixture.client.read_exact(&mut [0; 17]).unwrap();
}

#[test]
fn a_request_that_cannot_be_handed_over_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let (shortcut, line) = fixture.shortcut();
    drop(fixture.inner.recv().unwrap());
    let parcel = parcel(&line, Some(&shortcut));
    assert!(shortcut.forward(parcel).is_err());
    assert_eq!((Arc::strong_count(&shortcut), Arc::strong_count(&line)), (1, 1));
}

#[test]
fn who_says_more_before_the_answer_has_it_relayed() {
    let mut fixture = Fixture::new();
    let (shortcut, line) = fixture.shortcut();
    fixture.client.write_all(b"P").unwrap();
    assert!(matches!(shortcut.wait(line, SHORT), Ok(Waited::Relay(..))));
    assert!(shortcut.enter(&reply(1)).is_none());
}

#[test]
fn what_a_client_does_not_take_is_left_to_its_thread() {
    let fixture = Fixture::new();
    while rustix::net::send(fixture.seat.presence().stream(), &[0; 4096], SendFlags::DONTWAIT)
        .is_ok()
    {}
    let (shortcut, line) = fixture.shortcut();
    shortcut.enter(&reply(9)).unwrap().send(&reply(9));
    match shortcut.wait(line, Duration::from_secs(30)) {
        Ok(Waited::Begun(rest)) => assert!(rest.ends_with(&[b'x'; 9])),
        _ => panic!("nobody is told of the rest"),
    }
}
