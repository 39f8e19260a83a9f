//! Counters and histograms that any thread adds to without a lock or an allocation, and the text format of
//! Prometheus ([`text`]). The code that does something counts it; `web/admin/metrics.rs` gives it its name.

pub mod process;
pub mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds of latencies, in microseconds: from a sync of a fast disk to longer than a sender waits.
pub const LATENCY_BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many by now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter for each kind.
#[derive(Debug)]
pub struct Counters<K: 'static> {
    kinds: &'static [K],
    counters: Box<[Counter]>,
}

impl<K: Copy + PartialEq> Counters<K> {
    /// A counter for each of `kinds`.
    pub fn of(kinds: &'static [K]) -> Self {
        Self { kinds, counters: kinds.iter().map(|_| Counter::default()).collect() }
    }

    /// One more of `kind`. An unknown kind is not counted.
    pub fn count(&self, kind: K) {
        let place = self.kinds.iter().position(|known| *known == kind);
        if let Some(counter) = place.and_then(|place| self.counters.get(place)) {
            counter.count();
        }
    }

    /// Each kind, and how many by now.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        self.kinds.iter().copied().zip(self.counters.iter().map(Counter::get))
    }
}

/// The unit of a [`Histogram`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Whole numbers.
    Count,
    /// Microseconds; Prometheus gets seconds.
    Micros,
}

/// How many observations fell into each range of values.
#[derive(Debug)]
pub struct Histogram {
    unit: Unit,
    /// The largest value of each bucket but the last, ascending.
    bounds: &'static [u64],
    /// Not cumulative: one observation is one addition.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram at one moment, in the form of Prometheus.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    pub unit: Unit,
    /// Each bound, and the number of observations up to it.
    pub buckets: Vec<(u64, u64)>,
    /// All observations.
    pub count: u64,
    pub sum: u64,
}

impl Histogram {
    /// A histogram of whole numbers, with buckets up to each of `bounds`.
    pub fn of_counts(bounds: &'static [u64]) -> Self {
        Self::new(Unit::Count, bounds)
    }

    /// A histogram of durations, with buckets up to each of `bounds`, in microseconds.
    pub fn of_durations(bounds: &'static [u64]) -> Self {
        Self::new(Unit::Micros, bounds)
    }

    fn new(unit: Unit, bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { unit, bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Adds an observation, in the histogram's own unit.
    pub fn observe(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
            self.sum.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// Adds a duration.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// The observations by now. The count is the sum of the buckets, also while threads add.
    pub fn read(&self) -> Reading {
        let mut count = 0;
        let mut cumulative = self.buckets.iter().map(|bucket| {
            count += bucket.load(Ordering::Relaxed);
            count
        });
        let buckets = self.bounds.iter().copied().zip(cumulative.by_ref()).collect();
        cumulative.for_each(drop);
        Reading { unit: self.unit, buckets, count, sum: self.sum.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_equal_to_a_bound_is_in_the_bucket_of_that_bound() {
        let histogram = Histogram::of_counts(&[1, 10]);
        for value in [0, 1, 2, 10, 11, 1_000] {
            histogram.observe(value);
        }
        let expected =
            Reading { unit: Unit::Count, buckets: vec![(1, 2), (10, 4)], count: 6, sum: 1_024 };
        assert_eq!(histogram.read(), expected);
    }

    #[test]
    fn observations_of_several_threads_are_all_counted() {
        let histogram = Histogram::of_durations(&LATENCY_BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..1_000).for_each(|_| histogram.observe_duration(Duration::from_millis(3)));
                });
            }
        });
        let reading = histogram.read();
        assert_eq!((reading.count, reading.sum), (4_000, 12_000_000));
        assert!(reading.buckets.contains(&(2_500, 0)) && reading.buckets.contains(&(5_000, 4_000)));
    }

    #[test]
    fn each_kind_is_counted_for_itself() {
        let counters = Counters::of(&["a", "b"]);
        counters.count("b");
        counters.count("b");
        counters.count("c");
        assert_eq!(counters.iter().collect::<Vec<_>>(), [("a", 0), ("b", 2)]);
    }
}
