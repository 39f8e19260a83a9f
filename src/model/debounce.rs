//! Waiting for more requests of a key before a run starts: the `debounce` of a fleet.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::duration::millis;

/// Longest `wait`: a run that waits longer is better started by a schedule.
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest `max_wait`. Every key has at most one run that waits so long.
pub const MAX_WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// `max_wait` in multiples of `wait`, where a file does not say it.
pub const MAX_WAIT_FACTOR: u32 = 10;

/// How long a run waits for more requests of its key. The newest of them runs, the others end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debounce {
    /// Without another request for this long, the newest one runs.
    #[serde(with = "millis")]
    pub wait: Duration,
    /// It runs at the latest this long after the first one.
    #[serde(with = "millis")]
    pub max_wait: Duration,
}

/// Until when a run waits for more requests of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// When the first of these requests came.
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Debounce {
    /// The hold of a request that comes at `now`. The first request of its key came at `since`.
    pub fn hold(self, since: Timestamp, now: Timestamp) -> Hold {
        let since = since.min(now);
        Hold { since, until: now.plus(self.wait).min(since.plus(self.max_wait)) }
    }

    /// `hold` by a clock that may have stepped back to `now`. Such a step never makes it longer than
    /// `wait` from `now` on.
    pub fn clamped(self, hold: Hold, now: Timestamp) -> Hold {
        Hold { since: hold.since.min(now), until: hold.until.min(now.plus(self.wait)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_ends_after_the_wait_and_at_the_latest_after_max_wait() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let debounce =
            Debounce { wait: Duration::from_secs(10), max_wait: Duration::from_secs(25) };
        let first = debounce.hold(at(100), at(100));
        assert_eq!((first.since, first.until), (at(100), at(110)));
        assert_eq!(debounce.hold(first.since, at(109)).until, at(119));
        assert_eq!(debounce.hold(first.since, at(118)).until, at(125));
        assert_eq!(debounce.hold(first.since, at(130)).until, at(125), "it is overdue");
        // The clock steps back.
        assert_eq!(debounce.hold(at(5_000), at(100)), first);
        let ahead = debounce.hold(at(5_000), at(5_000));
        assert_eq!(debounce.clamped(ahead, at(100)), first);
        assert_eq!(debounce.clamped(first, at(105)), first);
    }
}
