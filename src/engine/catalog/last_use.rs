//! When a webhook or a token was last used: noted at each use under a shared lock, and stored once in a while.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::model::clock::Timestamp;

/// The stored time of a last use is at most this old while few are in use.
const STORED_STEP: Duration = Duration::from_secs(60);

/// See the module. Milliseconds; `i64::MIN` for never.
#[derive(Debug)]
pub(super) struct LastUse {
    latest: AtomicI64,
    stored: AtomicI64,
}

impl LastUse {
    /// The last use as it is stored.
    pub fn new(stored: Option<Timestamp>) -> Self {
        let millis = stored.map_or(i64::MIN, Timestamp::as_millis);
        Self { latest: millis.into(), stored: millis.into() }
    }

    /// `None`: it was never used.
    pub fn latest(&self) -> Option<Timestamp> {
        let millis = self.latest.load(Ordering::Relaxed);
        (millis != i64::MIN).then(|| Timestamp::from_millis(millis))
    }

    /// Notes a use. Returns whether the caller stores it: when the stored time is too old and `may_store`
    /// agrees, for one of the threads that use it at once.
    pub fn note(&self, now: Timestamp, may_store: impl FnOnce() -> bool) -> bool {
        let millis = now.as_millis();
        self.latest.store(millis, Ordering::Relaxed);
        let stored = self.stored.load(Ordering::Relaxed);
        let step = i64::try_from(STORED_STEP.as_millis()).unwrap_or(i64::MAX);
        let is_behind = millis.abs_diff(stored) >= step.unsigned_abs();
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        is_behind
            && may_store()
            && self.stored.compare_exchange(stored, millis, success, failure).is_ok()
    }
}
