//! The short way of an answer. Whoever has a small one, whole, writes it to the client itself, and
//! the connection's thread is not woken for it: it next hears of the client's next request. That
//! spares one hand-over of five. Such requests hardly ever need their links for more than a place
//! among those under way, so they may be announced over a lane, which spares most of another.
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
use super::eviction::Activity;
use super::links::Place;
use super::passage::{Line, Link, Parcel};
use super::reply::{Persistence, Reply};
use crate::model::limits;

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
    /// A way to the client that is present, whose request holds `link`.
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
        let mut state = self.state();
        let forwarded = match &mut *state {
            State::Open(_, link) => link.announce(parcel),
            // Nobody knows of it yet.
            _ => Err(io::ErrorKind::NotConnected.into()),
        };
        if forwarded.is_err() {
            // Whatever the link could bring now is not an answer to this.
            *state = State::Closed;
        }
        forwarded
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
                State::Written(_) if heard.client => {
                    self.presence.hear();
                    return Ok(Waited::Written);
                }
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
    /// Sends `reply`, without waiting for anything. The link that the request holds must be free of it
    /// by now.
    pub fn send(mut self, reply: &Reply) {
        let Shortcut { presence, is_head, persistence, .. } = self.shortcut;
        let mut bytes = reply.to_bytes(*persistence, *is_head);
        let State::Open(place, link) = std::mem::replace(&mut *self.state, State::Closed) else {
            return;
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // Why it cannot be sent is found out by whoever sends the rest.
        let sent = rustix::net::send(presence.stream(), &bytes, flags).unwrap_or(0);
        if sent == bytes.len() {
            *self.state = State::Written(Instant::now());
            presence.enter(Activity::Idle);
            place.give_back(link);
        } else {
            // The loss of the link wakes the connection's thread. So few clients leave so many
            // answers unread that a new link is no matter.
            *self.state = State::Begun(bytes.split_off(sent));
        }
    }
}

#[cfg(test)]
mod tests;
