//! One connection, from its first byte to its last: requests one after the other, each answered
//! before the next is looked at.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::census::Seat;
use super::eviction::Activity;
use super::head::{Framing, Head};
use super::inbox::Inbox;
use super::links::Place;
use super::passage::{Link, Parcel};
use super::relay::{self, Failure, Form};
use super::reply::{Persistence, Reply};
use super::reserve::is_of_reserve;
use super::scan::Scanner;
use super::shortcut::{Shortcut, Waited};
use super::socket::Transport;
use super::{Body, Pass, Reason, Refusal, Shared, Verdict, receive};
use crate::model::limits;

/// See the module.
pub(super) struct Connection<'a> {
    pub(super) shared: &'a Shared,
    pub(super) seat: &'a Seat,
    pub(super) peer: SocketAddr,
    pub(super) transport: Box<dyn Transport>,
    pub(super) inbox: Inbox,
    /// Nothing was asked yet.
    pub(super) is_fresh: bool,
    /// Something has come that was not read yet.
    pub(super) is_heard: bool,
    /// The answer that is due must not have a body.
    pub(super) is_head: bool,
}

/// Why a connection ends.
pub(super) enum End {
    /// There is nobody to answer, or nothing to say.
    Silent,
    /// With this answer.
    Refused(Refusal),
    /// It has been answered. What the client was sending meanwhile may still be on its way.
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
                self.shared.counters.refused.count(refusal.reason);
                let reply = self.shared.admission.refuse(refusal.status(), refusal.why);
                if self.shared.refusals.admit(refusal.status(), refusal.why) {
                    log::info!(
                        listener = self.shared.name, request = reply.id(),
                        status = refusal.status(), reason = refusal.why, remote_addr:% = self.peer;
                        "request refused"
                    );
                }
                self.seat.presence().enter(Activity::Answering);
                if self.send(&reply, Persistence::Closed).is_ok() {
                    self.linger();
                }
            }
        }
    }

    fn serve_one(&mut self) -> Result<(), End> {
        let head = self.read_head()?;
        self.shared.counters.requests.count();
        let pass = match self.shared.admission.admit(&head, self.peer) {
            Verdict::Response(reply) => return self.answer_unread(&head, &reply),
            Verdict::Pass(pass) if self.seat.is_reserved() && !pass.is_urgent => {
                return Err(no_place().into());
            }
            Verdict::Pass(pass) => pass,
        };
        if pass.has_token {
            self.seat.presence().show_token();
        }
        let body = receive::receive(self, &head, pass)?;
        self.inbox.shrink();
        self.seat.presence().enter(Activity::Serving);
        self.hand_over(head, pass, body)
    }

    /// The next head. On a connection that is kept there may be nothing to read for a while; as soon
    /// as there is, the head's own deadline counts.
    fn read_head(&mut self) -> Result<Head, End> {
        let mut scanner = Scanner::new();
        if !self.inbox.filled().is_empty() {
            self.seat.presence().hear();
        }
        let mut deadline = self.head_deadline(self.inbox.filled().is_empty());
        let mut scanned = 0;
        loop {
            let fresh = self.inbox.filled().get(scanned..).unwrap_or_default();
            let found = scanner.scan(fresh);
            let line = self.inbox.filled().get(scanner.begin()..).unwrap_or_default();
            self.is_head = line.starts_with(b"HEAD ");
            if let Some(end) = found? {
                let head =
                    Head::parse(self.inbox.filled().get(..end).unwrap_or_default(), &scanner);
                self.inbox.consume(end);
                self.is_fresh = false;
                return Ok(head?);
            }
            scanned = self.inbox.filled().len();
            let is_idle = scanned == 0;
            if is_idle && !std::mem::take(&mut self.is_heard) {
                self.await_client();
            }
            self.transport.socket().read_until(deadline);
            match self.inbox.fill(&mut self.transport) {
                Ok(0) | Err(_) if self.seat.is_given_up() => {
                    let has_begun = scanner.has_begun();
                    return Err(if has_begun { no_place().into() } else { End::Silent });
                }
                Ok(0) if scanner.has_begun() => {
                    return Err(Refusal::new(Reason::Malformed, "the head is not complete").into());
                }
                Ok(0) => return Err(End::Silent),
                Ok(_) if is_idle && !self.is_fresh => deadline = self.head_deadline(false),
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

    /// From here on the connection waits for its client.
    fn await_client(&mut self) {
        let presence = self.seat.presence();
        presence.enter(if self.is_fresh { Activity::Silent } else { Activity::Idle });
        self.transport.socket().announce_to(presence.clone());
    }

    fn head_deadline(&self, is_idle: bool) -> Instant {
        let settings = &self.shared.settings;
        Instant::now()
            + match (self.seat.is_reserved(), is_idle && !self.is_fresh) {
                (true, _) => limits::RESERVED_TIME_MAX.min(settings.head_timeout),
                (false, true) => settings.idle_timeout,
                (false, false) => settings.head_timeout,
            }
    }

    /// Answers a request of which only the head was looked at. A small body is skipped, so that the
    /// connection can be kept.
    fn answer_unread(&mut self, head: &Head, reply: &Reply) -> Result<(), End> {
        let unread = match head.framing {
            Framing::Length(length) if length <= limits::SKIPPED_BODY_BYTES_MAX => Some(length),
            _ => None,
        };
        // Whoever waits for `100 Continue` may send the body or not (RFC 9110 10.1.1).
        let unread = unread.filter(|length| *length == 0 || !head.expects_continue);
        let is_kept = head.keeps_alive && unread.is_some();
        let persistence = persistence(self.shared, self.seat, head.is_old, is_kept);
        self.seat.presence().enter(Activity::Answering);
        self.send(reply, persistence)?;
        match unread {
            Some(length) if persistence != Persistence::Closed => self.skip(length),
            _ => Err(End::Answered),
        }
    }

    /// Hands a complete request to the handlers and sees to its answer.
    fn hand_over(&mut self, head: Head, pass: Pass, body: Body) -> Result<(), End> {
        let (shared, seat) = (self.shared, self.seat);
        let received_at = Instant::now();
        let Head { keeps_alive, is_old, .. } = head;
        let form = Form {
            is_head: self.is_head,
            is_old,
            persistence: &|| persistence(shared, seat, is_old, keeps_alive),
        };
        let (place, link) = shared.links.take()?;
        let line = link.line();
        let parcel = Parcel {
            head,
            remote_addr: pass.remote_addr,
            body,
            received_at,
            line: Arc::clone(&line),
            shortcut: None,
        };
        let outlook = (form.persistence)();
        let may_be_short = self.transport.is_plain() && self.inbox.filled().is_empty();
        if outlook == Persistence::Closed || !may_be_short {
            link.forward(parcel).map_err(|_| failed())?;
            return self.relay((place, link), form);
        }
        let presence = seat.presence().clone();
        let shortcut = Shortcut::new(presence, self.is_head, outlook, (place, link));
        let parcel = Parcel { shortcut: Some(Arc::clone(&shortcut)), ..parcel };
        shortcut.forward(parcel).map_err(|_| failed())?;
        match shortcut.wait(line, shared.settings.idle_timeout)? {
            Waited::Written => {
                self.is_heard = true;
                Ok(())
            }
            Waited::Idle => Err(End::Silent),
            Waited::Begun(rest) => Ok(self.transport.write_all(&rest)?),
            Waited::Relay(place, link) => self.relay((place, link), form),
        }
    }

    /// Relays the answer that comes over a link.
    fn relay(&mut self, link: (Place, Link), form: Form<'_>) -> Result<(), End> {
        match relay::relay(link, &mut *self.transport, form) {
            Ok(Persistence::Closed) => Err(End::Answered),
            Ok(_) => Ok(()),
            Err(Failure::NoAnswer) => Err(failed().into()),
            Err(Failure::Incomplete) => {
                if form.is_old {
                    // The end of the connection would look like the end of the answer.
                    self.transport.socket().reset_on_close();
                }
                Err(End::Silent)
            }
            Err(Failure::Gone(error)) => Err(error.into()),
        }
    }

    fn send(&mut self, reply: &Reply, persistence: Persistence) -> io::Result<()> {
        self.transport.write_all(&reply.to_bytes(persistence, self.is_head))?;
        self.transport.flush()
    }

    /// Reads `length` bytes and drops them.
    fn skip(&mut self, length: u64) -> Result<(), End> {
        let mut left = length;
        self.transport.socket().read_until(Instant::now() + limits::LINGER_TIME_MAX);
        loop {
            let here = left.min(self.inbox.filled().len() as u64);
            self.inbox.consume(here as usize);
            left -= here;
            if left == 0 {
                return Ok(());
            }
            if self.inbox.fill(&mut self.transport)? == 0 {
                return Err(End::Silent);
            }
        }
    }

    /// Ends a connection whose client may still be sending: closed at once, it would be reset, and
    /// the client would lose the answer before it has read it.
    fn linger(&mut self) {
        let is_brief = self.seat.is_reserved() || self.seat.is_given_up();
        let time = if is_brief { limits::RESERVED_TIME_MAX } else { limits::LINGER_TIME_MAX };
        let mut left = self.shared.settings.drain_bytes_max;
        if self.transport.finish().is_err() {
            return;
        }
        self.seat.presence().enter(Activity::Lingering);
        self.transport.socket().read_until(Instant::now() + time);
        while left > 0 {
            self.inbox.consume(usize::MAX);
            match self.inbox.fill(&mut self.transport) {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read as u64),
            }
        }
    }
}

/// What becomes of a connection whose client, of HTTP/1.0 if it `is_old`, has one more request.
fn persistence(shared: &Shared, seat: &Seat, is_old: bool, is_kept: bool) -> Persistence {
    let is_last =
        seat.is_reserved() || seat.is_given_up() || is_of_reserve() || shared.census.is_closing();
    match is_kept && !is_last {
        false => Persistence::Closed,
        true if is_old => Persistence::KeptOld,
        true => Persistence::Kept,
    }
}

/// The refusal of a connection that has no place, or had to leave it to another one.
pub(super) fn no_place() -> Refusal {
    Refusal::new(Reason::TooManyConnections, "there are too many connections; try again later")
}

fn failed() -> Refusal {
    Refusal::new(Reason::Failed, "the server failed at this request; its log says more")
}
