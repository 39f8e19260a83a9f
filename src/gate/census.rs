//! Who is connected: how many in all and from one address, and which of them have nothing under
//! way and can be sent home when the listener stops.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::domain::network::sender_of;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Census(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    people: Mutex<People>,
    changed: Condvar,
    /// Answers are the last on their connections.
    is_closing: AtomicBool,
    /// Nobody with nothing under way may stay.
    is_closed: AtomicBool,
}

/// How many may be connected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) per_address: usize,
    /// More that may have a place beyond `connections`, a lesser one.
    pub(super) reserved: usize,
}

#[derive(Debug, Default)]
struct People {
    regular: usize,
    reserved: usize,
    by_address: HashMap<IpAddr, usize>,
    guests: HashMap<u64, Arc<Guest>>,
    number: u64,
}

/// Somebody who is connected.
#[derive(Debug)]
struct Guest {
    stream: Arc<TcpStream>,
    is_idle: AtomicBool,
}

/// Why somebody gets no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSeat {
    Full,
    TooManyFromAddress,
}

impl Census {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner {
            limits,
            people: Mutex::default(),
            changed: Condvar::new(),
            is_closing: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// A seat for the connection `stream`; `counted` is its address if that may have only so many.
    pub(super) fn seat(
        &self,
        stream: &Arc<TcpStream>,
        counted: Option<IpAddr>,
    ) -> Result<Seat, NoSeat> {
        let counted = counted.map(sender_of);
        let Limits { connections, per_address, reserved } = self.0.limits;
        let mut people = self.people();
        let here = counted.and_then(|address| people.by_address.get(&address)).copied();
        if here.unwrap_or(0) >= per_address {
            return Err(NoSeat::TooManyFromAddress);
        }
        let is_reserved = people.regular >= connections;
        if is_reserved && people.reserved >= reserved {
            return Err(NoSeat::Full);
        }
        *(if is_reserved { &mut people.reserved } else { &mut people.regular }) += 1;
        if let Some(address) = counted {
            *people.by_address.entry(address).or_default() += 1;
        }
        people.number += 1;
        let number = people.number;
        let guest = Arc::new(Guest { stream: Arc::clone(stream), is_idle: AtomicBool::new(false) });
        people.guests.insert(number, Arc::clone(&guest));
        let presence = Presence { census: self.clone(), guest };
        Ok(Seat { number, presence, counted, is_reserved })
    }

    /// Everyone who is connected.
    pub(super) fn count(&self) -> usize {
        self.people().guests.len()
    }

    /// From now on answers are the last on their connections.
    pub(super) fn close(&self) {
        self.0.is_closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.0.is_closing.load(Ordering::SeqCst)
    }

    /// Sends home whoever has nothing under way, now and later. What they have sent already is
    /// still read and answered.
    pub(super) fn dismiss_idle(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
        for guest in self.people().guests.values() {
            if guest.is_idle.load(Ordering::SeqCst) {
                let _ = guest.stream.shutdown(Shutdown::Read);
            }
        }
    }

    /// Cuts all connections.
    pub(super) fn dismiss_all(&self) {
        for guest in self.people().guests.values() {
            let _ = guest.stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits until nobody is connected or `within` has passed; how many are left.
    pub(super) fn await_empty(&self, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        let mut people = self.people();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if people.guests.is_empty() || left.is_zero() {
                return people.guests.len();
            }
            people = self.wait(people, left);
        }
    }

    /// Waits until somebody leaves or `within` has passed.
    pub(super) fn await_leave(&self, within: Duration) {
        drop(self.wait(self.people(), within));
    }

    fn wait<'a>(
        &'a self,
        people: MutexGuard<'a, People>,
        within: Duration,
    ) -> MutexGuard<'a, People> {
        self.0.changed.wait_timeout(people, within).unwrap_or_else(|it| it.into_inner()).0
    }

    fn people(&self) -> MutexGuard<'_, People> {
        // Nothing under this lock can be left half done by a panic.
        self.0.people.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The place of one connection, until dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    presence: Presence,
    counted: Option<IpAddr>,
    is_reserved: bool,
}

/// What is known of one connection to whoever answers it, for as long as they like.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    census: Census,
    guest: Arc<Guest>,
}

impl Seat {
    /// Whether it is one of those kept for when all others are taken.
    pub(super) fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Says whether anything is under way.
    pub(super) fn set_idle(&self, is_idle: bool) {
        self.presence.set_idle(is_idle);
    }
}

impl Presence {
    /// The connection.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.guest.stream
    }

    /// Whether its next answer is its last.
    pub(super) fn is_closing(&self) -> bool {
        self.census.is_closing()
    }

    /// Says whether anything is under way.
    pub(super) fn set_idle(&self, is_idle: bool) {
        self.guest.is_idle.store(is_idle, Ordering::SeqCst);
        // Either this is seen by whoever sends the idle home, or their order is seen here.
        if is_idle && self.census.0.is_closed.load(Ordering::SeqCst) {
            let _ = self.guest.stream.shutdown(Shutdown::Read);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let census = &self.presence.census;
        let mut people = census.people();
        *(if self.is_reserved { &mut people.reserved } else { &mut people.regular }) -= 1;
        if let Some(address) = self.counted
            && let Some(count) = people.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                people.by_address.remove(&address);
            }
        }
        people.guests.remove(&self.number);
        drop(people);
        census.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn stream() -> Arc<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap())
    }

    #[test]
    fn seats_are_limited_and_given_back() {
        let census = Census::new(Limits { connections: 3, per_address: 2, reserved: 1 });
        let stream = stream();
        let seat = |address: &str| census.seat(&stream, address.parse().ok());
        let first = seat("192.0.2.1").unwrap();
        let second = seat("::ffff:192.0.2.1").unwrap();
        assert_eq!(seat("192.0.2.1").unwrap_err(), NoSeat::TooManyFromAddress);
        let third = seat("not counted").unwrap();
        assert!(!third.is_reserved());
        let fourth = seat("2001:db8::1").unwrap();
        assert!(fourth.is_reserved());
        assert_eq!(seat("2001:db8::1").unwrap_err(), NoSeat::Full);
        drop(first);
        assert!(!seat("192.0.2.1").unwrap().is_reserved());
        drop((second, third, fourth));
        assert_eq!(census.await_empty(Duration::ZERO), 0);
        assert!(census.people().by_address.is_empty());
    }
}
