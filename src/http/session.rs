//! Who has signed in to the pages of the admin listener: sessions, the one-time links that open
//! them, and the brake on guessing. All of it is in memory: a restart signs everybody out.
//!
//! Knows no requests: what a cookie or a body says comes in as text, the time as an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::webhook::{Token, TokenHash};
use crate::limits;

/// See the module. Secrets are kept by their hashes, as the comparison of these tells nothing.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<TokenHash, Session>,
    /// Links that nobody has followed, and when they were made.
    links: HashMap<TokenHash, Instant>,
    failures: HashMap<IpAddr, Failures>,
}

#[derive(Debug)]
struct Session {
    opened_at: Instant,
    used_at: Instant,
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used_at) < limits::SESSION_IDLE_MAX
            && now.saturating_duration_since(self.opened_at) < limits::SESSION_AGE_MAX
    }
}

/// Wrong tokens from one address.
#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Failures {
    fn are_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= limits::SIGN_IN_WINDOW
    }
}

impl Sessions {
    /// Opens a session; the secret that its cookie carries. With as many open as may be, the one
    /// that was used least recently ends.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn open(&self, now: Instant) -> Result<Token, getrandom::Error> {
        let secret = Token::random()?;
        let mut state = self.lock();
        state.sessions.retain(|_, session| session.is_alive(now));
        if state.sessions.len() >= limits::SESSIONS_MAX {
            let oldest = state.sessions.iter().min_by_key(|(_, session)| session.used_at);
            if let Some(hash) = oldest.map(|(hash, _)| *hash) {
                state.sessions.remove(&hash);
            }
        }
        state.sessions.insert(secret.hash(), Session { opened_at: now, used_at: now });
        Ok(secret)
    }

    /// Whether `secret` is that of an open session. Notes the use.
    pub fn admits(&self, secret: &str, now: Instant) -> bool {
        let Some(secret) = Token::parse(secret) else { return false };
        let mut state = self.lock();
        match state.sessions.get_mut(&secret.hash()) {
            Some(session) if session.is_alive(now) => {
                session.used_at = now;
                true
            }
            _ => false,
        }
    }

    /// Ends the session of this secret, if there is one.
    pub fn close(&self, secret: &str) {
        if let Some(secret) = Token::parse(secret) {
            self.lock().sessions.remove(&secret.hash());
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
        if state.links.len() >= limits::SIGN_IN_LINKS_MAX {
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

    /// How long `address` has to wait before it may try to sign in; `None`: not at all.
    pub fn wait_of(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let state = self.lock();
        let failures = state.failures.get(&address)?;
        let is_over = failures.are_over(now) || failures.count < limits::SIGN_IN_FAILURES_MAX;
        let passed = now.saturating_duration_since(failures.since);
        (!is_over).then(|| limits::SIGN_IN_WINDOW.saturating_sub(passed))
    }

    /// Notes a wrong token from `address`.
    pub fn note_failure(&self, address: IpAddr, now: Instant) {
        let mut state = self.lock();
        state.failures.retain(|_, failures| !failures.are_over(now));
        // Beyond this it is somebody with a network of addresses, whom no count per address stops;
        // the token's 256 bits do.
        if state.failures.len() < limits::SIGN_IN_ADDRESSES_MAX {
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
    now.saturating_duration_since(made_at) < limits::SIGN_IN_LINK_AGE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn sessions_end_when_idle_when_old_and_when_closed() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let secret = sessions.open(start).unwrap();
        let secret = secret.reveal();
        assert!(!sessions.admits(&secret.to_lowercase(), start) && !sessions.admits("", start));
        let mut now = start;
        // Used often enough, it lasts until it is old.
        while now.duration_since(start) < limits::SESSION_AGE_MAX {
            assert!(sessions.admits(secret, now));
            now += limits::SESSION_IDLE_MAX - SECOND;
        }
        assert!(!sessions.admits(secret, start + limits::SESSION_AGE_MAX));

        let idle = sessions.open(start).unwrap();
        assert!(!sessions.admits(idle.reveal(), start + limits::SESSION_IDLE_MAX));
        let closed = sessions.open(start).unwrap();
        sessions.close(closed.reveal());
        assert!(!sessions.admits(closed.reveal(), start));
    }

    #[test]
    fn the_least_recently_used_session_makes_room() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let first = sessions.open(start).unwrap();
        let second = sessions.open(start + SECOND).unwrap();
        assert!(sessions.admits(first.reveal(), start + 2 * SECOND));
        for _ in 2..=limits::SESSIONS_MAX {
            sessions.open(start + 3 * SECOND).unwrap();
        }
        assert!(sessions.admits(first.reveal(), start + 4 * SECOND));
        assert!(!sessions.admits(second.reveal(), start + 4 * SECOND));
    }

    #[test]
    fn a_link_works_once_and_for_a_short_time() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let link = sessions.make_link(start).unwrap();
        assert!(sessions.redeem_link(link.reveal(), start + SECOND));
        assert!(!sessions.redeem_link(link.reveal(), start + SECOND));
        let late = sessions.make_link(start).unwrap();
        assert!(!sessions.redeem_link(late.reveal(), start + limits::SIGN_IN_LINK_AGE_MAX));
        // A link is no session, and a session no link.
        let link = sessions.make_link(start).unwrap();
        assert!(!sessions.admits(link.reveal(), start));
        let session = sessions.open(start).unwrap();
        assert!(!sessions.redeem_link(session.reveal(), start));
    }

    #[test]
    fn links_are_few() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let first = sessions.make_link(start).unwrap();
        for _ in 0..limits::SIGN_IN_LINKS_MAX {
            sessions.make_link(start + SECOND).unwrap();
        }
        assert!(!sessions.redeem_link(first.reveal(), start + SECOND));
    }

    #[test]
    fn whoever_guesses_has_to_wait_and_others_do_not() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let guesser = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..limits::SIGN_IN_FAILURES_MAX {
            assert_eq!(sessions.wait_of(guesser, start), None);
            sessions.note_failure(guesser, start);
        }
        assert_eq!(
            sessions.wait_of(guesser, start + SECOND),
            Some(limits::SIGN_IN_WINDOW - SECOND)
        );
        assert_eq!(sessions.wait_of([192, 0, 2, 2].into(), start), None);
        assert_eq!(sessions.wait_of(guesser, start + limits::SIGN_IN_WINDOW), None);
    }
}
