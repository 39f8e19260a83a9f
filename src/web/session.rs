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

use crate::model::webhook::{Token, TokenHash};

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
    /// Unused links, and when they were made.
    links: HashMap<TokenHash, Instant>,
    failures: HashMap<IpAddr, Failures>,
}

#[derive(Debug)]
struct Session {
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
    pub fn open(&self, now: Instant) -> Result<Opened, getrandom::Error> {
        let (cookie, key) = (Token::random()?, Token::random()?);
        let mut state = self.lock();
        state.sessions.retain(|_, session| session.is_alive(now));
        if state.sessions.len() >= SESSIONS_MAX {
            let oldest = state.sessions.iter().min_by_key(|(_, session)| session.used_at);
            if let Some(hash) = oldest.map(|(hash, _)| *hash) {
                state.sessions.remove(&hash);
            }
        }
        let session = Session { key: key.hash(), opened_at: now, used_at: now };
        state.sessions.insert(cookie.hash(), session);
        Ok(Opened { cookie, key })
    }

    /// Whether `cookie` and `key` are those of one open session. Notes the use.
    pub fn admits(&self, cookie: &str, key: &str, now: Instant) -> bool {
        let (Some(cookie), Some(key)) = (Token::parse(cookie), Token::parse(key)) else {
            return false;
        };
        let mut state = self.lock();
        match state.sessions.get_mut(&cookie.hash()) {
            Some(session) if session.is_alive(now) && session.key == key.hash() => {
                session.used_at = now;
                true
            }
            _ => false,
        }
    }

    /// Ends the session of this cookie, if there is one.
    pub fn close(&self, cookie: &str) {
        if let Some(cookie) = Token::parse(cookie) {
            self.lock().sessions.remove(&cookie.hash());
        }
    }

    /// Makes a link that signs in once; its secret. With as many pending as may be, the oldest
    /// one no longer works.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn make_link(&self, now: Instant) -> Result<Token, getrandom::Error> {
        let secret = Token::random()?;
        let mut state = self.lock();
        state.links.retain(|_, made_at| is_fresh(*made_at, now));
        if state.links.len() >= SIGN_IN_LINKS_MAX {
            let oldest = state.links.iter().min_by_key(|(_, made_at)| **made_at);
            if let Some(hash) = oldest.map(|(hash, _)| *hash) {
                state.links.remove(&hash);
            }
        }
        state.links.insert(secret.hash(), now);
        Ok(secret)
    }

    /// Whether `secret` is that of a fresh link, which it no longer is afterwards.
    pub fn redeem_link(&self, secret: &str, now: Instant) -> bool {
        let Some(secret) = Token::parse(secret) else { return false };
        let made_at = self.lock().links.remove(&secret.hash());
        made_at.is_some_and(|made_at| is_fresh(made_at, now))
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
        let opened = sessions.open(start).unwrap();
        let admits = |opened: &Opened, now| {
            sessions.admits(opened.cookie.reveal(), opened.key.reveal(), now)
        };
        let mut now = start;
        // Used often enough, it lasts until it is old.
        while now.duration_since(start) < SESSION_AGE_MAX {
            assert!(admits(&opened, now));
            now += SESSION_IDLE_MAX - SECOND;
        }
        assert!(!admits(&opened, start + SESSION_AGE_MAX));

        let idle = sessions.open(start).unwrap();
        assert!(!admits(&idle, start + SESSION_IDLE_MAX));
        let closed = sessions.open(start).unwrap();
        sessions.close(closed.cookie.reveal());
        assert!(!admits(&closed, start));
    }

    #[test]
    fn a_session_takes_both_of_its_secrets() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let (one, other) = (sessions.open(start).unwrap(), sessions.open(start).unwrap());
        let (cookie, key) = (one.cookie.reveal(), one.key.reveal());
        assert!(sessions.admits(cookie, key, start));
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
            assert!(!sessions.admits(cookie, key, start));
        }
    }

    #[test]
    fn the_least_recently_used_session_makes_room() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let first = sessions.open(start).unwrap();
        let second = sessions.open(start + SECOND).unwrap();
        let admits = |opened: &Opened, now| {
            sessions.admits(opened.cookie.reveal(), opened.key.reveal(), now)
        };
        assert!(admits(&first, start + 2 * SECOND));
        for _ in 2..=SESSIONS_MAX {
            sessions.open(start + 3 * SECOND).unwrap();
        }
        assert!(admits(&first, start + 4 * SECOND));
        assert!(!admits(&second, start + 4 * SECOND));
    }

    #[test]
    fn a_link_works_once_and_for_a_short_time() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let link = sessions.make_link(start).unwrap();
        assert!(sessions.redeem_link(link.reveal(), start + SECOND));
        assert!(!sessions.redeem_link(link.reveal(), start + SECOND));
        let late = sessions.make_link(start).unwrap();
        assert!(!sessions.redeem_link(late.reveal(), start + SIGN_IN_LINK_AGE_MAX));
        // A link is no session, and a session no link.
        let link = sessions.make_link(start).unwrap();
        assert!(!sessions.admits(link.reveal(), link.reveal(), start));
        let session = sessions.open(start).unwrap();
        assert!(!sessions.redeem_link(session.cookie.reveal(), start));
        assert!(!sessions.redeem_link(session.key.reveal(), start));
    }

    #[test]
    fn links_are_few() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let first = sessions.make_link(start).unwrap();
        for _ in 0..SIGN_IN_LINKS_MAX {
            sessions.make_link(start + SECOND).unwrap();
        }
        assert!(!sessions.redeem_link(first.reveal(), start + SECOND));
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
