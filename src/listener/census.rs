//! Who is connected: how many in all and from one address, which connection gives way when places
//! run out, and which of them can be sent home when the listener stops.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Origin;
use super::eviction::{Activity, Crowd, Snapshot, State};
use crate::model::limits;
use crate::model::network::{sender_of, site_of};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Census(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    people: Mutex<People>,
    changed: Condvar,
    /// Times are counted from here.
    begin: Instant,
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
    /// Connections that were given up and have not ended yet.
    given_up: usize,
    by_address: HashMap<IpAddr, usize>,
    by_site: HashMap<IpAddr, usize>,
    guests: HashMap<u64, Arc<Guest>>,
    number: u64,
}

/// Somebody who is connected.
#[derive(Debug)]
struct Guest {
    stream: Arc<TcpStream>,
    state: State,
    /// The client's address and its site; `None` for a proxy's.
    networks: Option<(IpAddr, IpAddr)>,
    is_reserved: bool,
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
            begin: Instant::now(),
            is_closing: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// A seat for the connection `stream` from `address`. When all places are taken, the connection
    /// that is worth least gives way to it.
    pub(super) fn seat(
        &self,
        stream: &Arc<TcpStream>,
        address: IpAddr,
        origin: Origin,
    ) -> Result<Seat, NoSeat> {
        let Limits { per_address, reserved, .. } = self.0.limits;
        let (sender, site) = (sender_of(address), site_of(address));
        let mut people = self.people();
        let here = people.by_address.get(&sender).copied().unwrap_or(0);
        if origin == Origin::Stranger && here >= per_address {
            return Err(NoSeat::TooManyFromAddress);
        }
        let is_reserved;
        (people, is_reserved) = self.make_room(people);
        if is_reserved && people.reserved >= reserved {
            return Err(NoSeat::Full);
        }
        *(if is_reserved { &mut people.reserved } else { &mut people.regular }) += 1;
        let networks = (origin != Origin::Proxy).then_some((sender, site));
        if networks.is_some() {
            *people.by_address.entry(sender).or_default() += 1;
            *people.by_site.entry(site).or_default() += 1;
        }
        people.number += 1;
        let number = people.number;
        let (stream, state) = (Arc::clone(stream), State::new(self.now()));
        let guest = Arc::new(Guest { stream, state, networks, is_reserved });
        people.guests.insert(number, Arc::clone(&guest));
        let presence = Presence { census: self.clone(), guest };
        Ok(Seat { number, presence })
    }

    /// Makes room for one more connection, and tells whether there is only a reserved place for it.
    /// Connections that were given up end within moments; when too many of them have not, this waits
    /// for one.
    fn make_room<'a>(
        &'a self,
        mut people: MutexGuard<'a, People>,
    ) -> (MutexGuard<'a, People>, bool) {
        let deadline = Instant::now() + limits::ACCEPT_RETRY;
        while people.regular >= self.0.limits.connections {
            let left = deadline.saturating_duration_since(Instant::now());
            if people.given_up < limits::GIVEN_UP_CONNECTIONS {
                if !people.give_one_up(self.now()) {
                    return (people, true);
                }
            } else if left.is_zero() {
                return (people, true);
            } else {
                people = self.wait(people, left);
            }
        }
        (people, false)
    }

    /// The open connections.
    #[cfg(test)]
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
            if guest.state.snapshot().activity.is_waiting() {
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

    /// Nanoseconds since the census began.
    fn now(&self) -> u64 {
        u64::try_from(self.0.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl People {
    /// Gives up the connection that is worth least, at `now`. Returns whether there was one.
    fn give_one_up(&mut self, now: u64) -> bool {
        // Each round, the state of some connection has changed meanwhile.
        for _ in 0..limits::GIVEN_UP_CONNECTIONS {
            let Some((guest, seen)) = self.least() else { return false };
            if seen.activity == Activity::Idle && guest.has_unread() {
                // Its thread has not noticed yet: a request must not be lost that has come.
                guest.state.hear(now);
                continue;
            }
            if guest.state.give_up(seen) {
                let is_sending = seen.activity == Activity::Answering;
                // What has come already can still be read.
                let how = if is_sending { Shutdown::Both } else { Shutdown::Read };
                let _ = guest.stream.shutdown(how);
                self.regular -= 1;
                self.given_up += 1;
                return true;
            }
        }
        false
    }

    /// The first connection in the order in which they are given up.
    fn least(&self) -> Option<(Arc<Guest>, Snapshot)> {
        let regular = self.guests.values().filter(|guest| !guest.is_reserved);
        let ranked = regular.filter_map(|guest| {
            let seen = guest.state.snapshot();
            Some((seen.rank(|| self.crowd(guest))?, guest, seen))
        });
        let least = ranked.min_by(|(rank, ..), (other, ..)| rank.cmp(other));
        least.map(|(_, guest, seen)| (Arc::clone(guest), seen))
    }

    fn crowd(&self, guest: &Guest) -> Option<Crowd> {
        let (address, site) = guest.networks?;
        let count = |counts: &HashMap<IpAddr, usize>, key| counts.get(&key).copied().unwrap_or(0);
        Some(Crowd { site: count(&self.by_site, site), address: count(&self.by_address, address) })
    }
}

impl Guest {
    /// Whether anything has come that nobody has read.
    fn has_unread(&self) -> bool {
        rustix::io::ioctl_fionread(&*self.stream).is_ok_and(|bytes| bytes > 0)
    }
}

/// The place of one connection, until dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    presence: Presence,
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
        self.presence.guest.is_reserved
    }

    /// Whether the connection has given way to another one: what is under way is its last.
    pub(super) fn is_given_up(&self) -> bool {
        self.presence.guest.state.snapshot().activity == Activity::GivenUp
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
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

    /// Says what the connection does from now on.
    pub(super) fn enter(&self, activity: Activity) {
        self.guest.state.enter(activity, self.census.now());
        // Either this is seen by whoever sends the idle home, or their order is seen here.
        if activity.is_waiting() && self.census.0.is_closed.load(Ordering::SeqCst) {
            let _ = self.guest.stream.shutdown(Shutdown::Read);
        }
    }

    /// Says that something has come from the client.
    pub(super) fn hear(&self) {
        self.guest.state.hear(self.census.now());
    }

    /// Says that a request with a valid token has come.
    pub(super) fn show_token(&self) {
        self.guest.state.show_token(self.census.now());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (census, guest) = (&self.presence.census, &self.presence.guest);
        let mut people = census.people();
        // Nobody is given up without this lock.
        *match (self.is_given_up(), guest.is_reserved) {
            (true, _) => &mut people.given_up,
            (false, true) => &mut people.reserved,
            (false, false) => &mut people.regular,
        } -= 1;
        if let Some((address, site)) = guest.networks {
            leave(&mut people.by_address, address);
            leave(&mut people.by_site, site);
        }
        people.guests.remove(&self.number);
        drop(people);
        census.0.changed.notify_all();
    }
}

/// Counts one less.
fn leave(counts: &mut HashMap<IpAddr, usize>, key: IpAddr) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A connection: the server's end and the client's.
    fn pair() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(listener.accept().unwrap().0), client)
    }

    fn seat(census: &Census, stream: &Arc<TcpStream>, address: &str) -> Result<Seat, NoSeat> {
        census.seat(stream, address.parse().unwrap(), Origin::Stranger)
    }

    #[test]
    fn seats_are_limited_and_given_back() {
        let census = Census::new(Limits { connections: 3, per_address: 2, reserved: 1 });
        let (stream, _client) = pair();
        let seat = |address: &str, origin| -> Result<Seat, NoSeat> {
            let seat = census.seat(&stream, address.parse().unwrap(), origin)?;
            // So that it does not give way.
            seat.presence().show_token();
            Ok(seat)
        };
        let first = seat("192.0.2.1", Origin::Stranger).unwrap();
        let second = seat("::ffff:192.0.2.1", Origin::Stranger).unwrap();
        let refused = seat("192.0.2.1", Origin::Stranger).unwrap_err();
        assert_eq!(refused, NoSeat::TooManyFromAddress);
        let third = seat("192.0.2.1", Origin::Proxy).unwrap();
        assert!(!third.is_reserved());
        let fourth = seat("2001:db8::1", Origin::Stranger).unwrap();
        assert!(fourth.is_reserved());
        assert_eq!(seat("2001:db8::1", Origin::Stranger).unwrap_err(), NoSeat::Full);
        drop(first);
        assert!(!seat("192.0.2.1", Origin::Stranger).unwrap().is_reserved());
        drop((second, third, fourth));
        assert_eq!(census.await_empty(Duration::ZERO), 0);
        let people = census.people();
        assert!(people.by_address.is_empty() && people.by_site.is_empty());
    }

    #[test]
    fn the_longest_idle_connection_gives_way_and_sees_a_plain_end() {
        let census = Census::new(Limits { connections: 2, per_address: 9, reserved: 1 });
        let ((stream, mut client), (other, _client)) = (pair(), pair());
        let first = seat(&census, &stream, "192.0.2.1").unwrap();
        let second = seat(&census, &other, "192.0.2.2").unwrap();
        first.presence().enter(Activity::Idle);
        second.presence().enter(Activity::Idle);
        let newcomer = seat(&census, &pair().0, "192.0.2.3").unwrap();
        assert!(first.is_given_up() && !second.is_given_up() && !newcomer.is_reserved());
        assert_eq!(first.presence().stream().read(&mut [0]).unwrap(), 0);
        drop((first, stream));
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "no reset");
        let people = census.people();
        assert_eq!((people.regular, people.given_up, people.reserved), (2, 0, 0));
    }

    #[test]
    fn a_connection_whose_request_has_come_is_not_idle() {
        let census = Census::new(Limits { connections: 2, per_address: 9, reserved: 1 });
        let ((first, mut client), (second, _client)) = (pair(), pair());
        let first = seat(&census, &first, "192.0.2.1").unwrap();
        let second = seat(&census, &second, "192.0.2.2").unwrap();
        first.presence().enter(Activity::Idle);
        second.presence().enter(Activity::Idle);
        client.write_all(b"P").unwrap();
        while !first.presence().guest.has_unread() {
            std::thread::yield_now();
        }
        let _newcomer = seat(&census, &pair().0, "192.0.2.3").unwrap();
        assert!(!first.is_given_up() && second.is_given_up());
    }

    #[test]
    fn the_largest_site_gives_way_among_pending_heads() {
        let census = Census::new(Limits { connections: 5, per_address: 9, reserved: 1 });
        let (stream, _client) = pair();
        let addresses =
            ["192.0.2.1", "192.0.2.1", "2001:db8:7:1::1", "2001:db8:7:2::1", "2001:db8:7:3::1"];
        let seats = addresses.map(|address| seat(&census, &stream, address).unwrap());
        let _newcomer = seat(&census, &pair().0, "192.0.2.3").unwrap();
        let given_up = seats.each_ref().map(Seat::is_given_up);
        assert_eq!(given_up, [false, false, true, false, false]);
    }
}
