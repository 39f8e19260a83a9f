//! The connections of a listener: how many in all and from one address, which one gives way when places
//! run out, and which ones end at once when the listener stops.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Origin;
use super::eviction::{Activity, NetworkCounts, Snapshot, State};
use crate::model::limits;
use crate::model::network::{sender_of, site_of};

/// How long to wait for a connection to end when no more can be accepted.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    registry: Mutex<Registry>,
    changed: Condvar,
    /// Times are counted from here.
    begin: Instant,
    /// Answers are the last on their connections.
    is_closing: AtomicBool,
    /// Connections with nothing under way end.
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
struct Registry {
    regular: usize,
    reserved: usize,
    /// Connections that were given up and have not ended yet.
    given_up: usize,
    by_address: HashMap<IpAddr, usize>,
    by_site: HashMap<IpAddr, usize>,
    entries: HashMap<u64, Arc<Entry>>,
    number: u64,
}

/// A connection in the registry.
#[derive(Debug)]
struct Entry {
    stream: Arc<TcpStream>,
    state: State,
    /// The client's address and its site; `None` for a proxy's.
    networks: Option<(IpAddr, IpAddr)>,
    is_reserved: bool,
}

/// Why a connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    Full,
    TooManyFromAddress,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner {
            limits,
            registry: Mutex::default(),
            changed: Condvar::new(),
            begin: Instant::now(),
            is_closing: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// A place for the connection `stream` from `address`. When all places are taken, the connection
    /// that is worth least gives way to it.
    pub(super) fn take_place(
        &self,
        stream: &Arc<TcpStream>,
        address: IpAddr,
        origin: Origin,
    ) -> Result<Place, NoPlace> {
        let Limits { per_address, reserved, .. } = self.0.limits;
        let (sender, site) = (sender_of(address), site_of(address));
        let mut registry = self.registry();
        let here = registry.by_address.get(&sender).copied().unwrap_or(0);
        if origin == Origin::Stranger && here >= per_address {
            return Err(NoPlace::TooManyFromAddress);
        }
        let is_reserved;
        (registry, is_reserved) = self.make_room(registry);
        if is_reserved && registry.reserved >= reserved {
            return Err(NoPlace::Full);
        }
        *(if is_reserved { &mut registry.reserved } else { &mut registry.regular }) += 1;
        let networks = (origin != Origin::Proxy).then_some((sender, site));
        if networks.is_some() {
            *registry.by_address.entry(sender).or_default() += 1;
            *registry.by_site.entry(site).or_default() += 1;
        }
        registry.number += 1;
        let number = registry.number;
        let (stream, state) = (Arc::clone(stream), State::new(self.now()));
        let entry = Arc::new(Entry { stream, state, networks, is_reserved });
        registry.entries.insert(number, Arc::clone(&entry));
        let handle = ConnectionHandle { connections: self.clone(), entry };
        Ok(Place { number, handle })
    }

    /// Makes room for one more connection, and tells whether there is only a reserved place for it.
    /// Connections that were given up end within moments; when too many of them have not, this waits
    /// for one.
    fn make_room<'a>(
        &'a self,
        mut registry: MutexGuard<'a, Registry>,
    ) -> (MutexGuard<'a, Registry>, bool) {
        let deadline = Instant::now() + ACCEPT_RETRY;
        while registry.regular >= self.0.limits.connections {
            let left = deadline.saturating_duration_since(Instant::now());
            if registry.given_up < limits::GIVEN_UP_CONNECTIONS {
                if !registry.give_one_up(self.now()) {
                    return (registry, true);
                }
            } else if left.is_zero() {
                return (registry, true);
            } else {
                registry = self.wait(registry, left);
            }
        }
        (registry, false)
    }

    /// The open connections.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.registry().entries.len()
    }

    /// From now on answers are the last on their connections.
    pub(super) fn close(&self) {
        self.0.is_closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.0.is_closing.load(Ordering::SeqCst)
    }

    /// Waits for the first request of every client that connected within the last `notice`.
    pub(super) fn await_first_requests(&self, notice: Duration) {
        loop {
            let registry = self.registry();
            let snapshots = registry.entries.values().map(|it| it.state.snapshot());
            let silent = snapshots.filter(|it| it.activity == Activity::Silent);
            let Some(since) = silent.map(|it| it.since).max() else { return };
            let age = Duration::from_nanos(self.now().saturating_sub(since));
            let left = notice.saturating_sub(age);
            if left.is_zero() {
                return;
            }
            // Most of these connections end with the response to their first request.
            drop(self.wait(registry, left));
        }
    }

    /// Ends connections with nothing under way, now and later. What they have sent already is still read
    /// and answered.
    pub(super) fn end_idle(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
        for entry in self.registry().entries.values() {
            if entry.state.snapshot().activity.is_waiting() {
                let _ = entry.stream.shutdown(Shutdown::Read);
            }
        }
    }

    /// Cuts all connections.
    pub(super) fn end_all(&self) {
        for entry in self.registry().entries.values() {
            let _ = entry.stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits until all connections have ended or `within` has passed. Returns how many are left.
    pub(super) fn await_empty(&self, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        let mut registry = self.registry();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if registry.entries.is_empty() || left.is_zero() {
                return registry.entries.len();
            }
            registry = self.wait(registry, left);
        }
    }

    /// Waits until a connection ends or `within` has passed.
    pub(super) fn await_end(&self, within: Duration) {
        drop(self.wait(self.registry(), within));
    }

    fn wait<'a>(
        &'a self,
        registry: MutexGuard<'a, Registry>,
        within: Duration,
    ) -> MutexGuard<'a, Registry> {
        self.0.changed.wait_timeout(registry, within).unwrap_or_else(|it| it.into_inner()).0
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Nothing under this lock can be left half done by a panic.
        self.0.registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Nanoseconds since the connections began.
    fn now(&self) -> u64 {
        u64::try_from(self.0.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Registry {
    /// Gives up the connection that is worth least, at `now`. Returns whether there was one.
    fn give_one_up(&mut self, now: u64) -> bool {
        // Each round, the state of some connection has changed meanwhile.
        for _ in 0..limits::GIVEN_UP_CONNECTIONS {
            let Some((entry, seen)) = self.least() else { return false };
            if seen.activity == Activity::Idle && entry.has_unread() {
                // Its thread has not noticed yet: a request must not be lost that has come.
                entry.state.note_bytes(now);
                continue;
            }
            if entry.state.give_up(seen) {
                let is_sending = seen.activity == Activity::Answering;
                // What has come already can still be read.
                let how = if is_sending { Shutdown::Both } else { Shutdown::Read };
                let _ = entry.stream.shutdown(how);
                self.regular -= 1;
                self.given_up += 1;
                return true;
            }
        }
        false
    }

    /// The first connection in the order in which they are given up.
    fn least(&self) -> Option<(Arc<Entry>, Snapshot)> {
        let regular = self.entries.values().filter(|entry| !entry.is_reserved);
        let ranked = regular.filter_map(|entry| {
            let seen = entry.state.snapshot();
            Some((seen.rank(|| self.counts(entry))?, entry, seen))
        });
        let least = ranked.min_by(|(rank, ..), (other, ..)| rank.cmp(other));
        least.map(|(_, entry, seen)| (Arc::clone(entry), seen))
    }

    fn counts(&self, entry: &Entry) -> Option<NetworkCounts> {
        let (address, site) = entry.networks?;
        let count = |counts: &HashMap<IpAddr, usize>, key| counts.get(&key).copied().unwrap_or(0);
        Some(NetworkCounts {
            site: count(&self.by_site, site),
            address: count(&self.by_address, address),
        })
    }
}

impl Entry {
    /// Whether the socket holds unread bytes.
    fn has_unread(&self) -> bool {
        rustix::io::ioctl_fionread(&*self.stream).is_ok_and(|bytes| bytes > 0)
    }
}

/// The place of one connection, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    handle: ConnectionHandle,
}

/// Refers to one connection for the threads that answer its requests. May outlive it.
#[derive(Clone, Debug)]
pub(super) struct ConnectionHandle {
    connections: Connections,
    entry: Arc<Entry>,
}

impl Place {
    /// Whether it is one of those kept for when all others are taken.
    pub(super) fn is_reserved(&self) -> bool {
        self.handle.entry.is_reserved
    }

    /// Whether the connection has given way to another one: the request under way is its last.
    pub(super) fn is_given_up(&self) -> bool {
        self.handle.entry.state.snapshot().activity == Activity::GivenUp
    }

    pub(super) fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }
}

impl ConnectionHandle {
    /// The connection.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.entry.stream
    }

    /// Whether its next answer is its last.
    pub(super) fn is_closing(&self) -> bool {
        self.connections.is_closing()
    }

    /// Says what the connection does from now on.
    pub(super) fn enter(&self, activity: Activity) {
        self.entry.state.enter(activity, self.connections.now());
        // Either `end_idle` sees this state, or this thread sees its flag.
        if activity.is_waiting() && self.connections.0.is_closed.load(Ordering::SeqCst) {
            let _ = self.entry.stream.shutdown(Shutdown::Read);
        }
    }

    /// Says that something has come from the client.
    pub(super) fn note_bytes(&self) {
        self.entry.state.note_bytes(self.connections.now());
    }

    /// Says that a request with a valid token has come.
    pub(super) fn note_token(&self) {
        self.entry.state.note_token(self.connections.now());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (connections, entry) = (&self.handle.connections, &self.handle.entry);
        let mut registry = connections.registry();
        // A connection is given up under this lock alone.
        *match (self.is_given_up(), entry.is_reserved) {
            (true, _) => &mut registry.given_up,
            (false, true) => &mut registry.reserved,
            (false, false) => &mut registry.regular,
        } -= 1;
        if let Some((address, site)) = entry.networks {
            leave(&mut registry.by_address, address);
            leave(&mut registry.by_site, site);
        }
        registry.entries.remove(&self.number);
        drop(registry);
        connections.0.changed.notify_all();
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

    fn place(
        connections: &Connections,
        stream: &Arc<TcpStream>,
        address: &str,
    ) -> Result<Place, NoPlace> {
        connections.take_place(stream, address.parse().unwrap(), Origin::Stranger)
    }

    #[test]
    fn the_end_waits_for_new_clients_that_have_sent_nothing_yet() {
        let connections = Connections::new(Limits { connections: 2, per_address: 2, reserved: 0 });
        let (stream, _client) = pair();
        let [fresh, idle] = [0, 1].map(|_| place(&connections, &stream, "192.0.2.1").unwrap());
        idle.handle().enter(Activity::Receiving);
        idle.handle().enter(Activity::Idle);
        connections.await_first_requests(Duration::ZERO);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| connections.await_first_requests(Duration::MAX));
            connections.await_empty(Duration::from_millis(50));
            assert!(!waiting.is_finished());
            drop(fresh);
            waiting.join().unwrap();
        });
        assert_eq!(connections.await_empty(Duration::ZERO), 1, "the idle one is not waited for");
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let connections = Connections::new(Limits { connections: 3, per_address: 2, reserved: 1 });
        let (stream, _client) = pair();
        let place = |address: &str, origin| -> Result<Place, NoPlace> {
            let place = connections.take_place(&stream, address.parse().unwrap(), origin)?;
            // So that it does not give way.
            place.handle().note_token();
            Ok(place)
        };
        let first = place("192.0.2.1", Origin::Stranger).unwrap();
        let second = place("::ffff:192.0.2.1", Origin::Stranger).unwrap();
        let refused = place("192.0.2.1", Origin::Stranger).unwrap_err();
        assert_eq!(refused, NoPlace::TooManyFromAddress);
        let third = place("192.0.2.1", Origin::Proxy).unwrap();
        assert!(!third.is_reserved());
        let fourth = place("2001:db8::1", Origin::Stranger).unwrap();
        assert!(fourth.is_reserved());
        assert_eq!(place("2001:db8::1", Origin::Stranger).unwrap_err(), NoPlace::Full);
        drop(first);
        assert!(!place("192.0.2.1", Origin::Stranger).unwrap().is_reserved());
        drop((second, third, fourth));
        assert_eq!(connections.await_empty(Duration::ZERO), 0);
        let registry = connections.registry();
        assert!(registry.by_address.is_empty() && registry.by_site.is_empty());
    }

    #[test]
    fn the_longest_idle_connection_gives_way_and_sees_a_plain_end() {
        let connections = Connections::new(Limits { connections: 2, per_address: 9, reserved: 1 });
        let ((stream, mut client), (other, _client)) = (pair(), pair());
        let first = place(&connections, &stream, "192.0.2.1").unwrap();
        let second = place(&connections, &other, "192.0.2.2").unwrap();
        first.handle().enter(Activity::Idle);
        second.handle().enter(Activity::Idle);
        let newcomer = place(&connections, &pair().0, "192.0.2.3").unwrap();
        assert!(first.is_given_up() && !second.is_given_up() && !newcomer.is_reserved());
        assert_eq!(first.handle().stream().read(&mut [0]).unwrap(), 0);
        drop((first, stream));
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "no reset");
        let registry = connections.registry();
        assert_eq!((registry.regular, registry.given_up, registry.reserved), (2, 0, 0));
    }

    #[test]
    fn a_connection_whose_request_has_come_is_not_idle() {
        let connections = Connections::new(Limits { connections: 2, per_address: 9, reserved: 1 });
        let ((first, mut client), (second, _client)) = (pair(), pair());
        let first = place(&connections, &first, "192.0.2.1").unwrap();
        let second = place(&connections, &second, "192.0.2.2").unwrap();
        first.handle().enter(Activity::Idle);
        second.handle().enter(Activity::Idle);
        client.write_all(b"P").unwrap();
        while !first.handle().entry.has_unread() {
            std::thread::yield_now();
        }
        let _newcomer = place(&connections, &pair().0, "192.0.2.3").unwrap();
        assert!(!first.is_given_up() && second.is_given_up());
    }

    #[test]
    fn the_largest_site_gives_way_among_pending_heads() {
        let connections = Connections::new(Limits { connections: 5, per_address: 9, reserved: 1 });
        let (stream, _client) = pair();
        let addresses =
            ["192.0.2.1", "192.0.2.1", "2001:db8:7:1::1", "2001:db8:7:2::1", "2001:db8:7:3::1"];
        let places = addresses.map(|address| place(&connections, &stream, address).unwrap());
        let _newcomer = place(&connections, &pair().0, "192.0.2.3").unwrap();
        let given_up = places.each_ref().map(Place::is_given_up);
        assert_eq!(given_up, [false, false, true, false, false]);
    }
}
