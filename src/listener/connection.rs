//! One connection, from its first byte to its last: requests one after the other, each answered
//! before the next is looked at.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use super::answer::{self, Client, Event, Filled};
use super::connections::Place;
use super::eviction::Activity;
use super::handler::{Admitted, Committed, Held};
use super::head::{Framing, Head};
use super::read_buffer::ReadBuffer;
use super::request::Request;
use super::reserve::is_reserve_thread;
use super::response::{self, Persistence, Response};
use super::scan::Scanner;
use super::socket::Transport;
use super::stream::{self, ClientWatch};
use super::{Body, DRAIN_BYTES_MAX, Shared, receive};
use crate::model::refusal::{Reason, Refusal};

/// How long a connection on a reserved place may take, for its head and for its end.
pub(super) const RESERVED_TIME_MAX: Duration = Duration::from_secs(1);
/// Bytes of the body of a refused request that are read so that its connection can be kept.
const SKIPPED_BODY_BYTES_MAX: u64 = 64 * 1024;
/// How long a refused body is read to its end: a slower sender gets a reset.
const LINGER_TIME_MAX: Duration = Duration::from_secs(10);

/// Requests of a connection that is served on a reserved place or thread: the command line asks the
/// server to prove itself before it asks for anything else.
const CONSTRAINED_REQUESTS_MAX: u64 = 2;

/// See the module.
pub(super) struct Connection<'a> {
    pub(super) shared: &'a Shared,
    pub(super) place: &'a Place,
    pub(super) peer: SocketAddr,
    pub(super) transport: Box<dyn Transport>,
    pub(super) read_buffer: ReadBuffer,
    /// The terms of the request under way, once it is admitted.
    pub(super) admitted: Option<Admitted>,
    /// Requests whose heads have been read.
    pub(super) requests: u64,
    /// The client has sent bytes that were not read yet.
    pub(super) is_heard: bool,
    /// The answer that is due must not have a body.
    pub(super) is_head: bool,
}

/// Why a connection ends.
pub(super) enum End {
    /// Without a response: the client has gone, or has asked nothing.
    Silent,
    /// With this refusal.
    Refused(Refusal),
    /// After a response. Bytes that the client was sending meanwhile may still be on their way.
    Answered,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        log::debug!(error:% = error; "a connection has ended");
        Self::Silent
    }
}

impl Connection<'_> {
    /// Serves requests until the connection ends.
    pub(super) fn serve(mut self) {
        let end = loop {
            if let Err(end) = self.serve_one() {
                break end;
            }
        };
        match end {
            End::Silent => {}
            End::Answered => self.linger(),
            End::Refused(refusal) => {
                let response = self.refused(refusal);
                self.place.handle().enter(Activity::Answering);
                if self.send(&response, Persistence::Closed).is_ok() {
                    self.linger();
                }
            }
        }
    }

    /// Counts and logs a refusal of the listener's own. Returns the response.
    fn refused(&self, refusal: Refusal) -> Response {
        let Shared { name, counters, handler, refusals, .. } = self.shared;
        counters.refused.count(refusal.reason);
        let (status, reason) = (refusal.status(), refusal.message.clone());
        let response = handler.refuse(refusal, self.admitted.as_ref());
        if refusals.admit(status, &reason) {
            let remote_addr = self.admitted.map_or(self.peer, |admitted| admitted.remote_addr);
            log::info!(
                listener = *name, request = response.id(), status, reason = &*reason, remote_addr:%;
                "request refused"
            );
        }
        response
    }

    fn serve_one(&mut self) -> Result<(), End> {
        self.admitted = None;
        let head = self.read_head()?;
        self.shared.counters.requests.count();
        let admitted = match self.shared.handler.admit(&head, self.peer) {
            Err(response) => return self.answer_unread(&head, &response),
            Ok(admitted) if self.place.is_reserved() && !admitted.is_urgent => {
                return Err(no_place().into());
            }
            Ok(admitted) => admitted,
        };
        self.admitted = Some(admitted);
        if admitted.has_token {
            self.place.handle().note_token();
        }
        let body = receive::receive(self, &head, admitted)?;
        self.read_buffer.shrink();
        self.place.handle().enter(Activity::Serving);
        self.hand_over(head, admitted, body)
    }

    /// The next head. On a connection that is kept there may be nothing to read for a while; as soon
    /// as there is, the head's own deadline counts.
    fn read_head(&mut self) -> Result<Head, End> {
        let mut scanner = Scanner::new();
        if !self.read_buffer.filled().is_empty() {
            self.place.handle().note_bytes();
        }
        let mut deadline = self.head_deadline(self.read_buffer.filled().is_empty());
        let mut scanned = 0;
        loop {
            let fresh = self.read_buffer.filled().get(scanned..).unwrap_or_default();
            let found = scanner.scan(fresh);
            let line = self.read_buffer.filled().get(scanner.begin()..).unwrap_or_default();
            self.is_head = line.starts_with(b"HEAD ");
            if let Some(end) = found? {
                let head =
                    Head::parse(self.read_buffer.filled().get(..end).unwrap_or_default(), &scanner);
                self.read_buffer.consume(end);
                self.requests += 1;
                return Ok(head?);
            }
            scanned = self.read_buffer.filled().len();
            let is_idle = scanned == 0;
            if is_idle && !std::mem::take(&mut self.is_heard) {
                self.await_client();
            }
            self.transport.socket().read_until(deadline);
            match self.read_buffer.fill(&mut self.transport) {
                Ok(0) | Err(_) if self.place.is_given_up() => {
                    let has_begun = scanner.has_begun();
                    return Err(if has_begun { no_place().into() } else { End::Silent });
                }
                Ok(0) if scanner.has_begun() => {
                    return Err(Refusal::new(Reason::Malformed, "the head is not complete").into());
                }
                Ok(0) => return Err(End::Silent),
                Ok(_) if is_idle && self.requests > 0 => deadline = self.head_deadline(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut && scanner.has_begun() => {
                    return Err(Refusal::new(Reason::TimedOut, "the head took too long").into());
                }
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    return Err(Refusal::new(
                        Reason::Malformed,
                        "this listener speaks TLS; use https",
                    )
                    .into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Marks the connection as waiting for its client.
    fn await_client(&mut self) {
        let handle = self.place.handle();
        handle.enter(if self.requests == 0 { Activity::Silent } else { Activity::Idle });
        self.transport.socket().tell_of_bytes(handle.clone());
    }

    fn head_deadline(&self, is_idle: bool) -> Instant {
        let head_timeout = self.shared.settings.head_timeout;
        Instant::now()
            + match (self.is_constrained(), is_idle && self.requests > 0) {
                (true, _) => RESERVED_TIME_MAX.min(head_timeout),
                (false, true) => self.idle_timeout(),
                (false, false) => head_timeout,
            }
    }

    /// How long the client may be silent between requests.
    fn idle_timeout(&self) -> Duration {
        let idle_timeout = self.shared.settings.idle_timeout;
        match self.is_constrained() {
            true => RESERVED_TIME_MAX.min(idle_timeout),
            false => idle_timeout,
        }
    }

    /// Answers a request by its head alone. A small body is skipped, so that the connection can be kept.
    fn answer_unread(&mut self, head: &Head, response: &Response) -> Result<(), End> {
        let unread = match head.framing {
            Framing::Length(length) if length <= SKIPPED_BODY_BYTES_MAX => Some(length),
            _ => None,
        };
        // A client that waits for `100 Continue` may send the body or not (RFC 9110 10.1.1).
        let unread = unread.filter(|length| *length == 0 || !head.expects_continue);
        let is_kept = head.keeps_alive && unread.is_some();
        let persistence = self.persistence(Terms { is_old: head.is_old, keeps_alive: is_kept });
        self.place.handle().enter(Activity::Answering);
        self.send(response, persistence)?;
        match unread {
            Some(length) if persistence.is_kept() => self.skip(length),
            _ => Err(End::Answered),
        }
    }

    /// Hands a complete request to the handlers, and writes its response.
    fn hand_over(&mut self, head: Head, admitted: Admitted, body: Body) -> Result<(), End> {
        let shared = self.shared;
        let terms = Terms { is_old: head.is_old, keeps_alive: head.keeps_alive };
        let permit = shared.permits.take()?;
        // 1. The request goes to the table, with a slot for its response.
        let persistence = self.persistence(terms);
        let may_send = self.transport.is_plain()
            && self.read_buffer.filled().is_empty()
            && persistence.is_kept();
        let handle = self.place.handle().clone();
        let client = Client { handle, is_head: self.is_head, persistence, may_send };
        let (answer, slot) = answer::slot(client, permit);
        shared.handoff.submit(Request::new(head, admitted, body), slot);
        // 2. A handler fills the slot, or sends a small response itself.
        let (filled, permit) = match answer.wait(self.idle_timeout())? {
            Event::Sent => {
                self.is_heard = true;
                return Ok(());
            }
            Event::Idle => return Err(End::Silent),
            Event::Filled(filled, permit) => (filled, permit),
        };
        // 3. This thread writes everything else.
        let committed = match filled {
            Filled::Rest(bytes) => {
                drop(permit);
                return Ok(self.transport.write_all(&bytes)?);
            }
            Filled::Response(response) => Some(response.into()),
            Filled::Held(held) => Some(Committed::Held(held)),
            Filled::Work(work) => catch_unwind(AssertUnwindSafe(work)).ok(),
            Filled::Nothing => None,
        };
        let mut permit = Some(permit);
        let response = match committed {
            Some(Committed::Response(response)) => Some(response),
            Some(Committed::Held(held)) => {
                // Other requests go on meanwhile.
                permit = None;
                self.hold(held)
            }
            None => None,
        };
        let response = response.unwrap_or_else(|| {
            self.refused(Refusal::failed("the server failed at this request; its log says more"))
        });
        // A client that is slow to take a large response holds its permit: that bounds the memory of
        // all of them. A small one keeps no other request waiting.
        let _permit = permit.filter(|_| !response.is_small());
        self.respond(response, terms)
    }

    /// Waits until a held response is made; `None` when that fails.
    fn hold(&mut self, held: Held) -> Option<Response> {
        let mut client = ClientWatch::default();
        // A reserved place or thread waits for nothing: the response is made as if its client had gone.
        let is_constrained = self.is_constrained();
        let socket = self.transport.socket();
        let mut is_gone = || is_constrained || client.check(socket).is_err();
        catch_unwind(AssertUnwindSafe(|| held(&mut is_gone))).ok()
    }

    /// Writes a response, its body included.
    fn respond(&mut self, response: Response, terms: Terms) -> Result<(), End> {
        let is_unbounded =
            matches!(&response.body, response::Body::Stream(stream) if stream.length.is_none());
        let persistence = match self.persistence(terms) {
            _ if is_unbounded && terms.is_old => Persistence::ClosedOld,
            persistence => persistence,
        };
        self.send(&response, persistence)?;
        if let response::Body::Stream(stream) = response.body
            && !self.is_head
        {
            let connections = &self.shared.connections;
            let is_chunked = is_unbounded && !terms.is_old;
            let is_stopping = || connections.is_closing();
            if let Err(error) =
                stream::write(&mut *self.transport, stream, is_chunked, &is_stopping)
            {
                log::debug!(listener = self.shared.name, error:% = error; "a stream ended early");
                if terms.is_old {
                    // The end of the connection would look like the end of the response.
                    self.transport.socket().reset_on_close();
                }
                return Err(End::Silent);
            }
        }
        if persistence.is_kept() { Ok(()) } else { Err(End::Answered) }
    }

    /// What becomes of the connection after the next response.
    fn persistence(&self, terms: Terms) -> Persistence {
        let is_last = self.place.is_given_up()
            || self.shared.connections.is_closing()
            || (self.is_constrained() && self.requests >= CONSTRAINED_REQUESTS_MAX);
        match terms.keeps_alive && !is_last {
            false => Persistence::Closed,
            true if terms.is_old => Persistence::KeptOld,
            true => Persistence::Kept,
        }
    }

    /// Whether it is served on one of the few places or threads that are kept for when all others are
    /// taken.
    fn is_constrained(&self) -> bool {
        self.place.is_reserved() || is_reserve_thread()
    }

    fn send(&mut self, response: &Response, persistence: Persistence) -> io::Result<()> {
        // A reserved place or thread is soon wanted by another client.
        if response.is_refusal() && !self.is_constrained() {
            thread::sleep(self.shared.pace.pause());
        }
        self.transport.write_all(&response.to_bytes(persistence, self.is_head))?;
        self.transport.flush()
    }

    /// Reads `length` bytes and drops them.
    fn skip(&mut self, length: u64) -> Result<(), End> {
        let mut left = length;
        self.transport.socket().read_until(Instant::now() + LINGER_TIME_MAX);
        loop {
            let here = left.min(self.read_buffer.filled().len() as u64);
            self.read_buffer.consume(here as usize);
            left -= here;
            if left == 0 {
                return Ok(());
            }
            if self.read_buffer.fill(&mut self.transport)? == 0 {
                return Err(End::Silent);
            }
        }
    }

    /// Ends a connection whose client may still be sending: closed at once, it would be reset, and
    /// the client would lose the answer before it has read it.
    fn linger(&mut self) {
        let is_brief = self.place.is_reserved() || self.place.is_given_up();
        let time = if is_brief { RESERVED_TIME_MAX } else { LINGER_TIME_MAX };
        let mut left = self.shared.settings.max_body_bytes.saturating_add(DRAIN_BYTES_MAX);
        if self.transport.finish().is_err() {
            return;
        }
        self.place.handle().enter(Activity::Lingering);
        self.transport.socket().read_until(Instant::now() + time);
        while left > 0 {
            self.read_buffer.consume(usize::MAX);
            match self.read_buffer.fill(&mut self.transport) {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read as u64),
            }
        }
    }
}

/// What the head of a request says about its response.
#[derive(Clone, Copy)]
struct Terms {
    /// The client speaks HTTP/1.0.
    is_old: bool,
    /// It asks for the connection to stay open.
    keeps_alive: bool,
}

/// The refusal of a connection that has no place, or had to leave it to another one.
pub(super) fn no_place() -> Refusal {
    Refusal::new(Reason::TooManyConnections, "there are too many connections; try again later")
}
