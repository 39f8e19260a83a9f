//! The counters of a listener.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::metrics::{self, Counter};
use crate::model::refusal::Reason;

/// See the module.
#[derive(Debug)]
pub struct Counters {
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that found no place.
    pub turned_away: Counter,
    /// Connections that were given up for others.
    pub given_up: Counter,
    /// Connections that the system would not let us accept.
    pub accept_errors: Counter,
    /// Requests whose head was valid.
    pub requests: Counter,
    /// Requests that the listener or its handler refused.
    pub refused: metrics::Counters<Reason>,
    open: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            turned_away: Counter::default(),
            given_up: Counter::default(),
            accept_errors: Counter::default(),
            requests: Counter::default(),
            refused: metrics::Counters::of(&Reason::COUNTED),
            open: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// Connections that are being served.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn connection_opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connection_closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
