//! What a gate has seen so far, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The statuses that a gate itself answers with.
const STATUSES: [u16; 13] = [400, 401, 403, 405, 408, 413, 414, 429, 431, 500, 501, 503, 505];

/// Grows only.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    turned_away: AtomicU64,
    requests: AtomicU64,
    accept_errors: AtomicU64,
    refused: [AtomicU64; STATUSES.len()],
}

impl Counters {
    /// Connections that were accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that found no place.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Requests whose head was valid.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections that the system would not let us accept.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// Requests that the gate itself refused, by status.
    pub fn refused(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        STATUSES.into_iter().zip(counts)
    }

    pub(super) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status);
        if let Some(count) = place.and_then(|place| self.refused.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_status() {
        let counters = Counters::default();
        counters.count_refused(413);
        counters.count_refused(413);
        counters.count_refused(299);
        let refused: Vec<_> = counters.refused().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [(413, 2)]);
    }
}
