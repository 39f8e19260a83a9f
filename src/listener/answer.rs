//! The slot for one response, between the code that makes it and the connection's thread that writes
//! it to the client.
//!
//! The thread that fills the slot never waits for a client. It hands the response over and wakes the
//! connection's thread, with one exception: a small response on a plain connection that stays open is
//! sent by the filling thread itself, without blocking. The connection's thread then sleeps on until
//! its client sends the next request, which spares a wake-up per request (`cargo bench --bench load --
//! accept`). The bytes that the client's socket does not take at once are left to the connection's
//! thread, and so is a refusal, which that thread may have to hold back.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::connections::ConnectionHandle;
use super::eviction::Activity;
use super::handler::{Committed, Held};
use super::permits::{Permit, Waker};
use super::response::{Persistence, Response};

/// The connection's end of a slot.
pub(super) struct Answer {
    slot: Arc<Slot>,
    waker: Arc<Waker>,
    handle: ConnectionHandle,
}

/// The other end. Fills the slot once; dropped before that, it tells of a failure.
pub(super) struct AnswerSlot(Option<Arc<Slot>>);

struct Slot {
    state: Mutex<State>,
    client: Client,
}

/// What a filling thread has to know to send a response itself.
pub(super) struct Client {
    pub(super) handle: ConnectionHandle,
    pub(super) is_head: bool,
    pub(super) persistence: Persistence,
    /// Whether responses are written to the socket as they are, and the connection stays open.
    pub(super) may_send: bool,
}

enum State {
    Empty {
        permit: Permit,
        may_send: bool,
    },
    Filled {
        permit: Permit,
        with: Filled,
    },
    /// The filling thread has sent all of the response.
    Sent(Instant),
    /// The connection's thread has what was in the slot, or has gone.
    Closed,
}

/// What the connection's thread finds in the slot.
pub(super) enum Filled {
    Response(Response),
    /// What is left of a response whose beginning was sent.
    Rest(Vec<u8>),
    /// Makes the response, for as long as that takes.
    Work(Work),
    /// Waits, and makes the response.
    Held(Held),
    /// The filling thread failed.
    Nothing,
}

/// Makes a response on the connection's thread.
pub(super) type Work = Box<dyn FnOnce() -> Committed + Send>;

/// What came first.
pub(super) enum Event {
    /// The response was sent, and the client has more to say or has gone.
    Sent,
    /// The response was sent, and the client has been silent for the idle timeout since.
    Idle,
    /// The permit is held until the response is written.
    Filled(Filled, Permit),
}

/// Makes a slot for the response to `client`; the request holds `permit`.
pub(super) fn slot(client: Client, permit: Permit) -> (Answer, AnswerSlot) {
    let (waker, handle) = (Arc::clone(permit.waker()), client.handle.clone());
    let state = Mutex::new(State::Empty { permit, may_send: client.may_send });
    let slot = Arc::new(Slot { state, client });
    (Answer { slot: Arc::clone(&slot), waker, handle }, AnswerSlot(Some(slot)))
}

impl Answer {
    /// Waits for the response and, if the filling thread has sent it, for the client's next byte.
    /// `idle_timeout` begins with the end of the response.
    ///
    /// # Errors
    /// When the sockets are unusable.
    pub(super) fn wait(self, idle_timeout: Duration) -> io::Result<Event> {
        let (mut watches_client, mut watches_slot) = (self.slot.client.may_send, true);
        let mut left = idle_timeout;
        loop {
            let client_spoke = self.poll(watches_client, watches_slot, left)?;
            let mut state = self.slot.state();
            match std::mem::replace(&mut *state, State::Closed) {
                State::Empty { permit, .. } => {
                    // Once the client has sent more, or has closed its half, the response is this
                    // thread's to write.
                    watches_client &= !client_spoke;
                    *state = State::Empty { permit, may_send: watches_client };
                }
                State::Filled { permit, with } => return Ok(Event::Filled(with, permit)),
                State::Sent(_) if client_spoke => return Ok(Event::Sent),
                State::Sent(at) => {
                    // The permit, and the waker with it, serve another request by now.
                    watches_slot = false;
                    left = idle_timeout.saturating_sub(at.elapsed());
                    if left.is_zero() {
                        return Ok(Event::Idle);
                    }
                    *state = State::Sent(at);
                }
                State::Closed => unreachable!("one thread waits for a slot, once"),
            }
        }
    }

    /// Waits for the client, for the slot, or until `within` has passed. Returns whether the client
    /// has sent something or has gone.
    fn poll(&self, client: bool, slot: bool, within: Duration) -> io::Result<bool> {
        let within = Timespec::try_from(within).map_err(io::Error::other)?;
        let of_client = PollFd::new(self.handle.stream(), PollFlags::IN);
        let of_slot = PollFd::new(self.waker.descriptor(), PollFlags::IN);
        let mut both = [of_client, of_slot];
        let watched = match (client, slot) {
            (true, true) => &mut both[..],
            (true, false) => &mut both[..1],
            (false, _) => &mut both[1..],
        };
        match poll(watched, Some(&within)) {
            Ok(_) => Ok(client && !both[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AnswerSlot {
    /// Fills the slot with `response`.
    pub(super) fn fill(mut self, response: Response) {
        self.fill_once(Filled::Response(response));
    }

    /// Fills the slot with what follows a commit.
    pub(super) fn fill_committed(mut self, committed: Committed) {
        self.fill_once(match committed {
            Committed::Response(response) => Filled::Response(response),
            Committed::Held(held) => Filled::Held(held),
        });
    }

    /// Lets the connection's thread make the response.
    pub(super) fn fill_with_work(mut self, work: Work) {
        self.fill_once(Filled::Work(work));
    }

    /// Does nothing once the slot is filled.
    fn fill_once(&mut self, with: Filled) {
        if let Some(slot) = self.0.take() {
            slot.fill(with);
        }
    }
}

impl Drop for AnswerSlot {
    fn drop(&mut self) {
        self.fill_once(Filled::Nothing);
    }
}

impl Slot {
    /// Does nothing when the connection's thread has gone.
    fn fill(&self, with: Filled) {
        let mut state = self.state();
        *state = match std::mem::replace(&mut *state, State::Closed) {
            State::Empty { permit, may_send } => match self.send(with, may_send) {
                None => {
                    drop(permit);
                    State::Sent(Instant::now())
                }
                Some(with) => {
                    permit.waker().wake();
                    State::Filled { permit, with }
                }
            },
            filled => filled,
        };
    }

    /// Sends a response that may be sent from here, without blocking. Returns what is left for the
    /// connection's thread.
    fn send(&self, with: Filled, may_send: bool) -> Option<Filled> {
        let Client { handle, is_head, persistence, .. } = &self.client;
        let response = match with {
            Filled::Response(response) if may_send && !handle.is_closing() => response,
            with => return Some(with),
        };
        if !response.is_small() || response.is_refusal() {
            return Some(Filled::Response(response));
        }
        let bytes = response.to_bytes(*persistence, *is_head);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // The reason of a failure is found by the connection's thread as it sends the rest.
        let sent = rustix::net::send(handle.stream(), &bytes, flags).unwrap_or(0);
        if sent < bytes.len() {
            return Some(Filled::Rest(bytes[sent..].to_vec()));
        }
        handle.enter(Activity::Idle);
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one assignment.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl fmt::Debug for AnswerSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerSlot(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::super::Origin;
    use super::super::connections::{Connections, Limits, Place};
    use super::super::permits::Permits;
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const TEST_TIMEOUT: Duration = Duration::from_secs(30);

    /// A client, its connection, and one permit.
    struct Fixture {
        client: TcpStream,
        connections: Connections,
        place: Place,
        permits: Arc<Permits>,
    }

    impl Fixture {
        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().unwrap();
            let connections =
                Connections::new(Limits { connections: 1, per_address: 1, reserved: 0 });
            let place = connections
                .take_place(&Arc::new(stream), [192, 0, 2, 1].into(), Origin::Stranger)
                .unwrap();
            Self { client, connections, place, permits: Permits::new(1, 0, TEST_TIMEOUT) }
        }

        fn slot(&self) -> (Answer, AnswerSlot) {
            self.slot_for(false, Persistence::Kept)
        }

        fn slot_for(&self, is_head: bool, persistence: Persistence) -> (Answer, AnswerSlot) {
            let handle = self.place.handle().clone();
            let client = Client { handle, is_head, persistence, may_send: true };
            slot(client, self.permits.take().expect("the permit is free"))
        }
    }

    fn response(bytes: usize) -> Response {
        Response { status: 200, headers: Vec::new(), body: vec![b'x'; bytes].into() }
    }

    fn is_left(event: io::Result<Event>) -> bool {
        matches!(event, Ok(Event::Filled(Filled::Response(_), _)))
    }

    #[test]
    fn a_small_response_is_sent_at_once_and_its_permit_given_back() {
        let mut fixture = Fixture::new();
        for _ in 0..2 {
            let (answer, slot) = fixture.slot();
            let expected = response(9).to_bytes(Persistence::Kept, false);
            slot.fill(response(9));
            assert!(matches!(answer.wait(SHORT), Ok(Event::Idle)));
            let mut received = vec![0; expected.len()];
            fixture.client.read_exact(&mut received).unwrap();
            assert!(received.ends_with(b"\r\n\r\nxxxxxxxxx"));
        }
        let (answer, slot) = fixture.slot();
        slot.fill(response(1));
        fixture.client.write_all(b"P").unwrap();
        assert!(matches!(answer.wait(SHORT), Ok(Event::Sent)));
    }

    #[test]
    fn a_response_has_the_form_that_its_request_asked_for() {
        let mut fixture = Fixture::new();
        let (_answer, slot) = fixture.slot_for(true, Persistence::KeptOld);
        let mut received = vec![0; response(9).to_bytes(Persistence::KeptOld, true).len()];
        slot.fill(response(9));
        fixture.client.read_exact(&mut received).unwrap();
        assert!(received.ends_with(b"Content-Length: 9\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn large_and_last_responses_are_left_to_the_connection() {
        let fixture = Fixture::new();
        let (answer, slot) = fixture.slot();
        slot.fill(response(1 << 20));
        assert!(is_left(answer.wait(TEST_TIMEOUT)));
        let (answer, slot) = fixture.slot();
        fixture.connections.close();
        slot.fill(response(1));
        assert!(is_left(answer.wait(TEST_TIMEOUT)));
    }

    #[test]
    fn a_client_that_was_answered_counts_as_idle() {
        let mut fixture = Fixture::new();
        let (answer, slot) = fixture.slot();
        fixture.connections.end_idle();
        slot.fill(response(1));
        assert!(matches!(answer.wait(TEST_TIMEOUT), Ok(Event::Sent)));
        assert_eq!(fixture.place.handle().stream().read(&mut [0]).unwrap(), 0);
        fixture.client.read_exact(&mut [0; 17]).unwrap();
    }

    #[test]
    fn a_client_that_sends_more_before_the_response_gets_it_from_the_connection_thread() {
        let mut fixture = Fixture::new();
        let (answer, slot) = fixture.slot();
        fixture.client.write_all(b"P").unwrap();
        let shared = Arc::clone(&answer.slot);
        let waiting = std::thread::spawn(move || answer.wait(TEST_TIMEOUT));
        while matches!(*shared.state(), State::Empty { may_send: true, .. }) {
            std::thread::yield_now();
        }
        slot.fill(response(1));
        assert!(is_left(waiting.join().unwrap()));
    }

    #[test]
    fn bytes_that_the_socket_does_not_take_are_left_to_the_connection_thread() {
        let fixture = Fixture::new();
        let stream = fixture.place.handle().stream();
        while rustix::net::send(stream, &[0; 4096], SendFlags::DONTWAIT).is_ok() {}
        let (answer, slot) = fixture.slot();
        slot.fill(response(9));
        match answer.wait(TEST_TIMEOUT) {
            Ok(Event::Filled(Filled::Rest(rest), _)) => assert!(rest.ends_with(&[b'x'; 9])),
            _ => panic!("the connection hears of no rest"),
        }
    }

    #[test]
    fn a_dropped_slot_reports_a_failure() {
        let fixture = Fixture::new();
        let (answer, slot) = fixture.slot();
        drop(slot);
        assert!(matches!(answer.wait(TEST_TIMEOUT), Ok(Event::Filled(Filled::Nothing, _))));
        assert!(fixture.permits.take().is_ok());
    }
}
