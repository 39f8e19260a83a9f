//! Places for what only so many may do at a time: taken one by one, given back when dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
#[derive(Debug)]
pub(super) struct Places {
    taken: Arc<AtomicUsize>,
    max: usize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Places {
    /// So many.
    pub(super) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// How many there are, taken or not.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// One that is free, if any is.
    pub(super) fn take(&self) -> Option<Place> {
        let admitted = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |taken| {
            (taken < self.max).then_some(taken + 1)
        });
        admitted.is_ok().then(|| Place(Arc::clone(&self.taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
