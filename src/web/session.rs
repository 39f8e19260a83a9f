//! Sign-in to the pages of the admin listener: sessions, the one-time links that open them, and the
//! brake on guessing. All of it is in memory: a restart ends every session.
//!
//! A session has two secrets. Browsers send a cookie to every service of the same host, whatever its
//! port, so the cookie alone opens nothing. The key is in the storage of the pages' own origin, which no
//! other service can read.
//!
//! Knows no requests: what a cookie or a body says comes in as text, the time as an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::ids::{SessionId, TokenId};
use crate::model::webhook::{Token, TokenHash};

/// The token that opened a session or made a link; `None`: the admin token.
pub type Owner = Option<TokenId>;

/// How long a session lasts at most.
pub const SESSION_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a one-time link works: as long as it takes to copy it into a browser.
pub const SIGN_IN_LINK_AGE_MAX: Duration = Duration::from_secs(120);

/// Sessions of the pages that are open at a time: more than one person has browsers.
const SESSIONS_MAX: usize = 64;
/// How long an unused session lasts. An open page uses it.
const SESSION_IDLE_MAX: Duration = Duration::from_secs(12 * 3600);
/// One-time links that wait to be followed.
const SIGN_IN_LINKS_MAX: usize = 16;
/// Wrong tokens that one address may send within `SIGN_IN_WINDOW`: typing errors, not guesses.
const SIGN_IN_FAILURES_MAX: u32 = 10;
/// After this long an address's wrong tokens are forgotten.
const SIGN_IN_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose wrong tokens are counted.
const SIGN_IN_ADDRESSES_MAX: usize = 1024;

/// See the module. Secrets are kept by their hashes, as the comparison of these tells nothing.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<TokenHash, Session>,
    /// Unused links.
    links: HashMap<TokenHash, Link>,
    failures: HashMap<IpAddr, Failures>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    owner: Owner,
    key: TokenHash,
    opened_at: Instant,
    used_at: Instant,
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used_at) < SESSION_IDLE_MAX
            && now.saturating_duration_since(self.opened_at) < SESSION_AGE_MAX
    }
}

#[derive(Debug)]
struct Link {
    owner: Owner,
    made_at: Instant,
}

/// An open session, as an admin sees it.
#[derive(Debug)]
pub struct OpenSession {
    pub id: SessionId,
    pub owner: Owner,
    /// Since it was opened.
    pub age: Duration,
    /// Since it was used.
    pub idle: Duration,
    /// Whether the request that asks came with it.
    pub is_own: bool,
}

/// The two secrets of a session that was just opened.
pub struct Opened {
    /// For the browser alone.
    pub cookie: Token,
    /// For the pages, which send it in a header.
    pub key: Token,
}

/// Wrong tokens from one address.
#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Failures {
    fn are_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= SIGN_IN_WINDOW
    }
}

impl Sessions {
    /// Opens a session. With as many open as may be, the one that was used least recently ends.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn open(&self, owner: Owner, now: Instant) -> Result<Opened, getrandom::Error> {
        let (cookie, key) = (Token::random()?, Token::random()?);
        let mut state = self.lock();
        state.sessions.retain(|_, session| session.is_alive(now));
        if state.sessions.len() >= SESSIONS_MAX {
            let oldest = state.sessions.iter().min_by_key(|(_, session)| session.used_at);
            if let Some(hash) = oldest.map(|(hash, _)| *hash) {
                state.sessions.remove(&hash);
            }
        }
        let session = Session {
            id: SessionId::random(),
            owner,
            key: key.hash(),
            opened_at: now,
            used_at: now,
        };
        state.sessions.insert(cookie.hash(), session);
        Ok(Opened { cookie, key })
    }

    /// The owner of the open session that has this `cookie` and this `key`. Notes the use.
    pub fn admits(&self, cookie: &str, key: &str, now: Instant) -> Option<Owner> {
        let (cookie, key) = (Token::parse(cookie)?, Token::parse(key)?);
        let mut state = self.lock();
        let session = state.sessions.get_mut(&cookie.hash())?;
        if !session.is_alive(now) || session.key != key.hash() {
            return None;
        }
        session.used_at = now;
        Some(session.owner)
    }

    /// Ends the session of this cookie, if there is one.
    pub fn close(&self, cookie: &str) {
        if let Some(cookie) = Token::parse(cookie) {
            self.lock().sessions.remove(&cookie.hash());
        }
    }

    /// The open sessions, the latest first. `cookie` is that of the request that asks.
    pub fn list(&self, cookie: Option<&str>, now: Instant) -> Vec<OpenSession> {
        let own = cookie.and_then(Token::parse).map(|cookie| cookie.hash());
        let state = self.lock();
        let alive = state.sessions.iter().filter(|(_, session)| session.is_alive(now));
        let open = alive.map(|(hash, session)| OpenSession {
            id: session.id,
            owner: session.owner,
            age: now.saturating_duration_since(session.opened_at),
            idle: now.saturating_duration_since(session.used_at),
            is_own: own.as_ref() == Some(hash),
        });
        let mut open: Vec<_> = open.collect();
        open.sort_by_key(|session| (session.age, session.id));
        open
    }

    /// Ends the session `id`. Returns its owner; `None` when there is no such session.
    pub fn end(&self, id: SessionId) -> Option<Owner> {
        let mut state = self.lock();
        let found = state.sessions.iter().find(|(_, session)| session.id == id);
        let hash = *found?.0;
        state.sessions.remove(&hash).map(|session| session.owner)
    }

    /// Ends the sessions that a token has opened, and the links that it has made.
    pub fn end_those_of(&self, token: TokenId) {
        let mut state = self.lock();
        state.sessions.retain(|_, session| session.owner != Some(token));
        state.links.retain(|_, link| link.owner != Some(token));
    }

    /// Makes a link that signs in once; its secret. With as many pending as may be, the oldest
    /// one no longer works.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn make_link(&self, owner: Owner, now: Instant) -> Result<Token, getrandom::Error> {
        let secret = Token::random()?;
        let mut state = self.lock();
        state.links.retain(|_, link| is_fresh(link.made_at, now));
        if state.links.len() >= SIGN_IN_LINKS_MAX {
            let oldest = state.links.iter().min_by_key(|(_, link)| link.made_at);
            if let Some(hash) = oldest.map(|(hash, _)| *hash) {
                state.links.remove(&hash);
            }
        }
        state.links.insert(secret.hash(), Link { owner, made_at: now });
        Ok(secret)
    }

    /// The owner of the fresh link with this `secret`. The link does not work again.
    pub fn redeem_link(&self, secret: &str, now: Instant) -> Option<Owner> {
        let link = self.lock().links.remove(&Token::parse(secret)?.hash())?;
        is_fresh(link.made_at, now).then_some(link.owner)
    }

    /// How long wrong tokens from `address` get no other answer than to wait; `None`: not at all.
    pub fn wait_of(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let state = self.lock();
        let failures = state.failures.get(&address)?;
        let is_over = failures.are_over(now) || failures.count < SIGN_IN_FAILURES_MAX;
        let passed = now.saturating_duration_since(failures.since);
        (!is_over).then(|| SIGN_IN_WINDOW.saturating_sub(passed))
    }

    /// Notes a wrong token from `address`.
    pub fn note_failure(&self, address: IpAddr, now: Instant) {
        let mut state = self.lock();
        state.failures.retain(|_, failures| !failures.are_over(now));
        // Beyond this the guesses come from a network of addresses. No count per address stops them;
        // the token's 256 bits do.
        if state.failures.len() < SIGN_IN_ADDRESSES_MAX {
            let failures =
                state.failures.entry(address).or_insert(Failures { since: now, count: 0 });
            failures.count = failures.count.saturating_add(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(made_at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(made_at) < SIGN_IN_LINK_AGE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn sessions_end_when_idle_when_old_and_when_closed() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let opened = sessions.open(None, start).unwrap();
        let admits = |opened: &Opened, now| {
            sessions.admits(opened.cookie.reveal(), opened.key.reveal(), now).is_some()
        };
        let mut now = start;
        // Used often enough, it lasts until it is old.
        while now.duration_since(start) < SESSION_AGE_MAX {
            assert!(admits(&opened, now));
            now += SESSION_IDLE_MAX - SECOND;
        }
        assert!(!admits(&opened, start + SESSION_AGE_MAX));

        let ended = sessions.open(None, start).unwrap();
        let listed = sessions.list(Some(ended.cookie.reveal()), start + SECOND);
        let own = listed.iter().find(|session| session.is_own).unwrap();
        assert_eq!((listed.len(), own.age), (2, SECOND));
        assert_eq!(sessions.end(own.id), Some(None));
        assert_eq!(sessions.end(own.id), None);
        assert!(!admits(&ended, start + SECOND));

        let idle = sessions.open(None, start).unwrap();
        assert!(!admits(&idle, start + SESSION_IDLE_MAX));
        let closed = sessions.open(None, start).unwrap();
        sessions.close(closed.cookie.reveal());
        assert!(!admits(&closed, start));
    }

    #[test]
    fn a_session_takes_both_of_its_secrets() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let (one, other) =
            (sessions.open(None, start).unwrap(), sessions.open(None, start).unwrap());
        let (cookie, key) = (one.cookie.reveal(), one.key.reveal());
        assert_eq!(sessions.admits(cookie, key, start), Some(None));
        for (cookie, key) in [
            (cookie, ""),
            ("", key),
            (cookie, cookie),
            (key, key),
            (key, cookie),
            (cookie, other.key.reveal()),
            (other.cookie.reveal(), key),
            (&cookie.to_lowercase(), key),
            (cookie, &key.to_lowercase()),
        ] {
            assert_eq!(sessions.admits(cookie, key, start), None);
        }
    }

    #[test]
    fn the_least_recently_used_session_makes_room() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let first = sessions.open(None, start).unwrap();
        let second = sessions.open(None, start + SECOND).unwrap();
        let admits = |opened: &Opened, now| {
            sessions.admits(opened.cookie.reveal(), opened.key.reveal(), now).is_some()
        };
        assert!(admits(&first, start + 2 * SECOND));
        for _ in 2..=SESSIONS_MAX {
            sessions.open(None, start + 3 * SECOND).unwrap();
        }
        assert!(admits(&first, start + 4 * SECOND));
        assert!(!admits(&second, start + 4 * SECOND));
    }

    #[test]
    fn a_link_works_once_and_for_a_short_time() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let link = sessions.make_link(None, start).unwrap();
        assert_eq!(sessions.redeem_link(link.reveal(), start + SECOND), Some(None));
        assert_eq!(sessions.redeem_link(link.reveal(), start + SECOND), None);
        let late = sessions.make_link(None, start).unwrap();
        assert_eq!(sessions.redeem_link(late.reveal(), start + SIGN_IN_LINK_AGE_MAX), None);
        // A link is no session, and a session no link.
        let link = sessions.make_link(None, start).unwrap();
        assert_eq!(sessions.admits(link.reveal(), link.reveal(), start), None);
        let session = sessions.open(None, start).unwrap();
        assert_eq!(sessions.redeem_link(session.cookie.reveal(), start), None);
        assert_eq!(sessions.redeem_link(session.key.reveal(), start), None);
    }

    #[test]
    fn the_sessions_and_links_of_a_token_end_with_it_and_no_others() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let (token, other) = (TokenId::random(), TokenId::random());
        let owners = [None, Some(token), Some(other)];
        let opened = owners.map(|owner| sessions.open(owner, start).unwrap());
        let links = owners.map(|owner| sessions.make_link(owner, start).unwrap());
        sessions.end_those_of(token);
        let admitted = opened.map(|it| sessions.admits(it.cookie.reveal(), it.key.reveal(), start));
        assert_eq!(admitted, [Some(None), None, Some(Some(other))]);
        let redeemed = links.map(|link| sessions.redeem_link(link.reveal(), start));
        assert_eq!(redeemed, [Some(None), None, Some(Some(other))]);
    }

    #[test]
    fn links_are_few() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let first = sessions.make_link(None, start).unwrap();
        for _ in 0..SIGN_IN_LINKS_MAX {
            sessions.make_link(None, start + SECOND).unwrap();
        }
        assert_eq!(sessions.redeem_link(first.reveal(), start + SECOND), None);
    }

    #[test]
    fn wrong_tokens_make_their_address_wait_and_no_other() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let guesser = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..SIGN_IN_FAILURES_MAX {
            assert_eq!(sessions.wait_of(guesser, start), None);
            sessions.note_failure(guesser, start);
        }
        assert_eq!(sessions.wait_of(guesser, start + SECOND), Some(SIGN_IN_WINDOW - SECOND));
        assert_eq!(sessions.wait_of([192, 0, 2, 2].into(), start), None);
        assert_eq!(sessions.wait_of(guesser, start + SIGN_IN_WINDOW), None);
    }
}
