//! Lines about refused requests: strangers decide how many requests there are, but not how long the
//! log gets. Of each reason the first are logged, and then only how many more there were.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::model::limits::{COMPLAINT_INTERVAL, REFUSALS_LOGGED_MAX};

/// Reasons that are told apart then: several times what there are.
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

/// How many refusals were not logged.
type Unlogged = ((u16, String), u64);

impl Repeats {
    /// None yet, of the listener of this name.
    pub fn new(listener: &'static str) -> Self {
        Self { listener, counts: Mutex::default() }
    }

    /// Counts a refusal. Returns whether it gets a line of its own; says itself what others did not.
    pub fn admit(&self, status: u16, reason: &str) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, unlogged) = counts.add(Instant::now(), status, reason);
        drop(counts);
        let listener = self.listener;
        for ((status, reason), requests) in unlogged {
            log::info!(listener, requests, status, reason = reason.as_str(); "requests refused that were not logged");
        }
        if count == REFUSALS_LOGGED_MAX + 1 {
            let seconds = COMPLAINT_INTERVAL.as_secs();
            log::info!(listener, status, reason, seconds; "more such refusals are counted for a while, not logged");
        }
        count <= REFUSALS_LOGGED_MAX
    }
}

impl Counts {
    /// Counts a refusal. Returns the how-manieth of its reason it is, and what was not logged of the
    /// time that it is the first one after.
    fn add(&mut self, now: Instant, status: u16, reason: &str) -> (u64, Vec<Unlogged>) {
        let mut unlogged = Vec::new();
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= COMPLAINT_INTERVAL) {
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
    fn each_reason_has_its_first_lines_and_the_rest_is_a_number() {
        let (mut counts, begin) = (Counts::default(), Instant::now());
        for number in 1..=REFUSALS_LOGGED_MAX + 7 {
            assert_eq!(counts.add(begin, 400, "unknown"), (number, vec![]));
        }
        assert_eq!(counts.add(begin, 413, "unknown"), (1, vec![]));
        let later = begin + COMPLAINT_INTERVAL;
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
