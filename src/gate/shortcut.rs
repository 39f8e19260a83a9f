//! The short way of an answer. Whoever has a small one, whole, writes it to the client itself, and
//! the connection's thread is not woken for it: it next hears of the client's next request. That
//! spares one hand-over of five.
//!
//! It is open only while nothing can be in the way: the connection is plain and will be kept, and
//! its client has sent nothing beyond the request. All other answers are relayed. Nobody waits for a
//! client here: what it does not take at once is left to the connection's thread.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::census::Presence;
use super::links::Place;
use super::passage::{Line, Link, Parcel};
use super::reply::{Persistence, Reply};
use crate::limits;

/// See the module. For one request.
pub struct Shortcut {
    presence: Presence,
    is_head: bool,
    /// Of a connection that is kept.
    persistence: Persistence,
    state: Mutex<State>,
}

/// How far an answer has come.
enum State {
    /// There is none yet. The link has no more to do once there is.
    Open(Place, Link),
    Written(Instant),
    /// Of which the client has not taken this.
    Begun(Vec<u8>),
    Closed,
}

/// What came first.
pub(super) enum Waited {
    /// The answer was written, and the client has something more to say.
    Written,
    /// It was written, and nothing has come for as long as a connection may be idle.
    Idle,
    /// Some of it was written; this is left.
    Begun(Vec<u8>),
    /// It is to be relayed from here.
    Relay(Place, Link),
}

/// Where something has come from.
struct Heard {
    client: bool,
    line: bool,
}

impl Shortcut {
    /// A way to the client that is present, whose request goes over `link`.
    pub(super) fn new(
        presence: Presence,
        is_head: bool,
        persistence: Persistence,
        (place, link): (Place, Link),
    ) -> Arc<Self> {
        let state = Mutex::new(State::Open(place, link));
        Arc::new(Self { presence, is_head, persistence, state })
    }

    /// Hands `parcel` over.
    ///
    /// # Errors
    /// When the handlers cannot be reached.
    pub(super) fn forward(&self, parcel: Parcel) -> io::Result<()> {
        match &mut *self.state() {
            State::Open(_, link) => link.forward(parcel),
            // Nobody knows of it yet.
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Waits until the answer is there and its client has more to say, or the way has to be closed.
    /// `idle_timeout` begins with the answer; what is waited for may take as long as it takes.
    ///
    /// # Errors
    /// When the sockets are unusable.
    pub(super) fn wait(&self, line: Arc<Line>, idle_timeout: Duration) -> io::Result<Waited> {
        let mut line = Some(line);
        let mut left = idle_timeout;
        loop {
            let heard = self.await_either(line.as_deref(), left)?;
            let mut state = self.state();
            match std::mem::replace(&mut *state, State::Closed) {
                State::Written(_) if heard.client => return Ok(Waited::Written),
                State::Written(at) => {
                    left = idle_timeout.saturating_sub(at.elapsed());
                    if left.is_zero() {
                        return Ok(Waited::Idle);
                    }
                    // The link serves others by now.
                    line = None;
                    *state = State::Written(at);
                }
                State::Open(place, link) if heard.client || heard.line => {
                    return Ok(Waited::Relay(place, link));
                }
                State::Open(place, link) => *state = State::Open(place, link),
                State::Begun(rest) => return Ok(Waited::Begun(rest)),
                State::Closed => return Err(io::ErrorKind::NotConnected.into()),
            }
        }
    }

    /// Waits until something has come from the client, over the line, or for `within`.
    fn await_either(&self, line: Option<&Line>, within: Duration) -> io::Result<Heard> {
        let within = Timespec::try_from(within).map_err(io::Error::other)?;
        let client = PollFd::new(self.presence.stream(), PollFlags::IN);
        let mut both =
            [client.clone(), line.map_or(client, |line| PollFd::new(line, PollFlags::IN))];
        let watched = if line.is_some() { &mut both[..] } else { &mut both[..1] };
        match poll(watched, Some(&within)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Heard { client: false, line: false }),
            Err(errno) => return Err(errno.into()),
        }
        let [client, line] = both.map(|events| !events.revents().is_empty());
        Ok(Heard { client, line })
    }

    /// The way, if `reply` may take it.
    pub fn enter(&self, reply: &Reply) -> Option<Entered<'_>> {
        // What is left of an answer stays in memory for as long as its client is slow.
        if reply.body.len() > limits::SHORTCUT_BYTES_MAX || self.presence.is_closing() {
            return None;
        }
        let state = self.state();
        matches!(*state, State::Open(..)).then_some(Entered { shortcut: self, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one assignment.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl fmt::Debug for Shortcut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shortcut(…)")
    }
}

/// The short way, for one answer: nobody closes it meanwhile.
pub struct Entered<'a> {
    shortcut: &'a Shortcut,
    state: MutexGuard<'a, State>,
}

impl Entered<'_> {
    /// Sends `reply`, without waiting for anything. The link that the request came over must be free
    /// of it by now.
    pub fn send(mut self, reply: &Reply) {
        let State::Open(place, link) = std::mem::replace(&mut *self.state, State::Closed) else {
            return;
        };
        let Shortcut { presence, is_head, persistence, .. } = self.shortcut;
        let mut bytes = reply.to_bytes(*persistence, *is_head);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // Why it cannot be sent is found out by whoever sends the rest.
        let sent = rustix::net::send(presence.stream(), &bytes, flags).unwrap_or(0);
        if sent == bytes.len() {
            *self.state = State::Written(Instant::now());
            presence.set_idle(true);
            place.give_back(link);
        } else {
            // The loss of the link wakes the connection's thread.
            *self.state = State::Begun(bytes.split_off(sent));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::super::census::{Census, Limits, Seat};
    use super::super::links::Links;
    use super::super::passage::Passage;
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    /// A client, its seat, and the links that its requests would go over.
    struct Fixture {
        client: TcpStream,
        seat: Seat,
        links: Arc<Links>,
    }

    impl Fixture {
        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().unwrap();
            let limits = Limits { connections: 1, per_address: 1, reserved: 0 };
            let seat = Census::new(limits).seat(&Arc::new(stream), None).unwrap();

            let directory = tempfile::tempdir().unwrap();
            let (inner, passage) = Passage::open(directory.path()).unwrap();
            // Greets one link; there are no more.
            thread::spawn(move || {
                let (mut link, _) = inner.accept().unwrap();
                link.read_exact(&mut [0; "POST / HTTP/1.1\r\n\r\n".len() + 32]).unwrap();
                link.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
                drop(inner);
                let _ = link.read(&mut [0]);
            });
            let links = Arc::new(Links::new(passage, 1, 0, Duration::from_secs(30)));
            Self { client, seat, links }
        }

        fn shortcut(&self) -> (Arc<Shortcut>, Arc<Line>) {
            let (place, link) = self.links.take().expect("the link is free");
            let line = link.line();
            let presence = self.seat.presence().clone();
            (Shortcut::new(presence, false, Persistence::Kept, (place, link)), line)
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
}
