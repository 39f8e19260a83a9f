//! Which connection is given up when places run out: the state of each, and the order among them.
//! Decides; [`connections`](super::connections) does what follows.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It is new, and nothing has come from its client yet.
    Silent,
    /// It waits for the client's next request.
    Idle,
    /// Its last response was written; further bytes of its client are dropped.
    Lingering,
    /// Its client is sending a request.
    Receiving,
    /// The listener sends a response of its own.
    Answering,
    /// A request with a valid token, or one that a handler has, is under way.
    Serving,
    /// It was given up, and ends.
    GivenUp,
}

impl Activity {
    const ALL: [Self; 7] = [
        Self::Silent,
        Self::Idle,
        Self::Lingering,
        Self::Receiving,
        Self::Answering,
        Self::Serving,
        Self::GivenUp,
    ];

    /// Whether no request is under way: the connection waits for one.
    pub(super) fn is_waiting(self) -> bool {
        matches!(self, Self::Silent | Self::Idle | Self::Lingering)
    }
}

/// What is known of a connection at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) activity: Activity,
    /// Whether any of its requests had a valid token.
    pub(super) has_token: bool,
    /// When the activity began, in nanoseconds after a moment that all connections share: enough bits
    /// for 36 years.
    pub(super) since: u64,
}

/// The place of a connection in the order in which connections are given up; the least goes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    class: u8,
    has_token: bool,
    is_proxy: bool,
    network: Reverse<NetworkCounts>,
    since: u64,
}

/// Connections of the site (an IPv6 /48) that an address belongs to, and of the address itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NetworkCounts {
    pub(super) site: usize,
    pub(super) address: usize,
}

impl Snapshot {
    /// The place of the connection in the order; `None` when it must not be given up. `counts` tells
    /// how many connections its address has, `None` for a proxy, whose connections are those of many
    /// clients.
    ///
    /// Idle connections go first, the longest idle before others; then those that only drain; then
    /// those whose requests are arriving, of the address with most connections first; then those
    /// whose clients do not take their answers. In each class, connections that have never shown a
    /// valid token go before others.
    pub(super) fn rank(self, counts: impl FnOnce() -> Option<NetworkCounts>) -> Option<Rank> {
        let class = match self.activity {
            Activity::Idle => 0,
            Activity::Lingering => 1,
            Activity::Silent | Activity::Receiving => 2,
            Activity::Answering if !self.has_token => 3,
            Activity::Answering | Activity::Serving | Activity::GivenUp => return None,
        };
        let mut rank = Rank {
            class,
            has_token: self.has_token,
            is_proxy: false,
            network: Reverse(NetworkCounts::default()),
            since: self.since,
        };
        if class >= 2 {
            let counts = counts();
            rank.is_proxy = counts.is_none();
            rank.network = Reverse(counts.unwrap_or_default());
        }
        Some(rank)
    }

    fn from_word(word: u64) -> Self {
        let activity = Activity::ALL.get((word & ACTIVITY_BITS) as usize);
        Self {
            activity: activity.copied().unwrap_or(Activity::GivenUp),
            has_token: word & TOKEN_BIT != 0,
            since: word >> SINCE_SHIFT,
        }
    }

    fn to_word(self) -> u64 {
        let token = if self.has_token { TOKEN_BIT } else { 0 };
        self.since << SINCE_SHIFT | token | self.activity as u64
    }
}

const ACTIVITY_BITS: u64 = 0b0111;
const TOKEN_BIT: u64 = 0b1000;
const SINCE_SHIFT: u32 = 4;

/// The state of one connection: its thread changes it without a lock, and an eviction sees all of it at
/// once.
#[derive(Debug)]
pub(super) struct State(AtomicU64);

impl State {
    /// A connection that was accepted at `now`.
    pub(super) fn new(now: u64) -> Self {
        let state = Snapshot { activity: Activity::Silent, has_token: false, since: now };
        Self(AtomicU64::new(state.to_word()))
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::from_word(self.0.load(Ordering::SeqCst))
    }

    /// The connection does something else from `now` on. A connection that was given up stays so.
    pub(super) fn enter(&self, activity: Activity, now: u64) {
        self.update(|state| Snapshot { activity, since: now, ..state });
    }

    /// Something has come from its client at `now`. A silent client is receiving from then on.
    pub(super) fn note_bytes(&self, now: u64) {
        self.update(|state| {
            let since = if state.activity == Activity::Silent { state.since } else { now };
            Snapshot { activity: Activity::Receiving, since, ..state }
        });
    }

    /// A request with a valid token has come at `now`, and is under way.
    pub(super) fn note_token(&self, now: u64) {
        self.update(|_| Snapshot { activity: Activity::Serving, has_token: true, since: now });
    }

    /// Gives the connection up if it is still as it was `seen`.
    pub(super) fn give_up(&self, seen: Snapshot) -> bool {
        let given_up = Snapshot { activity: Activity::GivenUp, ..seen };
        let (seen, given_up) = (seen.to_word(), given_up.to_word());
        self.0.compare_exchange(seen, given_up, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn update(&self, change: impl Fn(Snapshot) -> Snapshot) {
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
            let state = Snapshot::from_word(word);
            (state.activity != Activity::GivenUp).then(|| change(state).to_word())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(activity: Activity, since: u64) -> Snapshot {
        Snapshot { activity, has_token: false, since }
    }

    fn with_token(activity: Activity, since: u64) -> Snapshot {
        Snapshot { has_token: true, ..at(activity, since) }
    }

    /// Checks that the connections, each with its counts, are given up in this order.
    fn assert_order(connections: &[(Snapshot, Option<NetworkCounts>)]) {
        let ranks: Vec<Rank> = connections
            .iter()
            .map(|(state, counts)| state.rank(|| *counts).expect("it may be given up"))
            .collect();
        for (at, pair) in ranks.windows(2).enumerate() {
            assert!(pair[0] < pair[1], "{:?} before {:?}", connections[at], connections[at + 1]);
        }
    }

    fn counts(site: usize, address: usize) -> Option<NetworkCounts> {
        Some(NetworkCounts { site, address })
    }

    #[test]
    fn idle_connections_go_before_requests_that_arrive_and_strangers_before_known_senders() {
        assert_order(&[
            (at(Activity::Idle, 5), counts(1, 1)),
            (at(Activity::Idle, 6), counts(9, 9)),
            (with_token(Activity::Idle, 1), counts(9, 9)),
            (with_token(Activity::Idle, 2), None),
            (at(Activity::Lingering, 1), counts(1, 1)),
            (at(Activity::Receiving, 3), counts(1, 1)),
            (with_token(Activity::Receiving, 1), counts(9, 9)),
            (at(Activity::Answering, 1), counts(9, 9)),
        ]);
    }

    #[test]
    fn of_requests_that_arrive_those_of_the_largest_site_and_address_go_first() {
        assert_order(&[
            (at(Activity::Silent, 7), counts(300, 2)),
            (at(Activity::Receiving, 1), counts(128, 128)),
            (at(Activity::Silent, 2), counts(128, 128)),
            (at(Activity::Receiving, 1), counts(128, 20)),
            (at(Activity::Receiving, 1), counts(3, 3)),
            (at(Activity::Receiving, 0), None),
        ]);
    }

    #[test]
    fn a_connection_with_a_request_under_way_is_not_given_up() {
        for state in [
            at(Activity::Serving, 0),
            with_token(Activity::Serving, 0),
            with_token(Activity::Answering, 0),
            at(Activity::GivenUp, 0),
        ] {
            assert_eq!(state.rank(|| counts(9, 9)), None, "{state:?}");
        }
    }

    #[test]
    fn a_state_that_has_changed_is_not_given_up_and_one_that_was_stays_so() {
        let state = State::new(1);
        let seen = state.snapshot();
        state.note_bytes(5);
        assert_eq!(state.snapshot(), at(Activity::Receiving, 1), "pending since it was accepted");
        assert!(!state.give_up(seen));
        state.note_token(6);
        state.enter(Activity::Idle, 7);
        state.note_bytes(8);
        state.enter(Activity::Idle, 9);
        let seen = state.snapshot();
        assert_eq!(seen, with_token(Activity::Idle, 9));
        assert!(state.give_up(seen));
        state.note_bytes(10);
        state.note_token(11);
        assert_eq!(state.snapshot().activity, Activity::GivenUp);
    }
}
