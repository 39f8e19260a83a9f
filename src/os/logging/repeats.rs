//! Bounds the log lines about refused requests, since strangers choose the number of requests. The first
//! refusals of each reason get a line each; the others are counted, and the count is logged.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often trouble that does not end is logged.
pub const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Refusals of one reason that a listener logs in [`LOG_INTERVAL`], each on a line: enough to see what
/// happens.
pub const REFUSALS_LOGGED_MAX: u64 = 20;

/// Reasons that are counted apart: several times as many as exist.
const REFUSAL_REASONS_MAX: usize = 64;

/// Counts the refusals of one listener by reason.
#[derive(Debug)]
pub struct Repeats {
    listener: &'static str,
    counts: Mutex<Counts>,
}

/// Since `begun`, by status and reason.
#[derive(Debug, Default)]
struct Counts {
    begun: Option<Instant>,
    by_reason: BTreeMap<(u16, String), u64>,
}

/// Refusals of one status and reason that were not logged.
type Unlogged = ((u16, String), u64);

impl Repeats {
    /// No refusals yet. `listener` is a name for the log.
    pub fn new(listener: &'static str) -> Self {
        Self { listener, counts: Mutex::default() }
    }

    /// Counts a refusal, and logs the counts of the last interval when that is over. Returns whether the
    /// refusal gets a line of its own.
    pub fn admit(&self, status: u16, reason: &str) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, unlogged) = counts.add(Instant::now(), status, reason);
        drop(counts);
        let listener = self.listener;
        for ((status, reason), requests) in unlogged {
            log::info!(listener, requests, status, reason = reason.as_str(); "requests refused that were not logged");
        }
        if count == REFUSALS_LOGGED_MAX + 1 {
            let seconds = LOG_INTERVAL.as_secs();
            log::info!(listener, status, reason, seconds; "more such refusals are counted for a while, not logged");
        }
        count <= REFUSALS_LOGGED_MAX
    }
}

impl Counts {
    /// Counts a refusal. Returns its number among those of its reason, and, when an interval is over,
    /// the refusals of that interval that were not logged.
    fn add(&mut self, now: Instant, status: u16, reason: &str) -> (u64, Vec<Unlogged>) {
        let mut unlogged = Vec::new();
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= LOG_INTERVAL) {
            unlogged = std::mem::take(&mut self.by_reason)
                .into_iter()
                .map(|(reason, count)| (reason, count.saturating_sub(REFUSALS_LOGGED_MAX)))
                .filter(|(_, count)| *count > 0)
                .collect();
            self.begun = Some(now);
        }
        let mut key = (status, reason.to_owned());
        if self.by_reason.len() >= REFUSAL_REASONS_MAX && !self.by_reason.contains_key(&key) {
            key = (status, "others".to_owned());
        }
        let count = self.by_reason.entry(key).or_default();
        *count += 1;
        (*count, unlogged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusals_of_each_reason_are_logged_and_the_others_counted() {
        let (mut counts, begin) = (Counts::default(), Instant::now());
        for number in 1..=REFUSALS_LOGGED_MAX + 7 {
            assert_eq!(counts.add(begin, 400, "unknown"), (number, vec![]));
        }
        assert_eq!(counts.add(begin, 413, "unknown"), (1, vec![]));
        let later = begin + LOG_INTERVAL;
        let unlogged = vec![((400, "unknown".to_owned()), 7)];
        assert_eq!(counts.add(later, 413, "large"), (1, unlogged));
        assert_eq!(counts.add(later, 400, "unknown"), (1, vec![]));
    }

    #[test]
    fn reasons_are_limited() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        for number in 0..REFUSAL_REASONS_MAX {
            assert_eq!(counts.add(now, 400, &number.to_string()).0, 1);
        }
        assert_eq!(counts.add(now, 400, "new").0, 1);
        assert_eq!(counts.add(now, 400, "newer").0, 2);
        assert_eq!(counts.add(now, 400, "0").0, 2);
        assert_eq!(counts.by_reason.len(), REFUSAL_REASONS_MAX + 1);
    }
}
