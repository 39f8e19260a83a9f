//! A histogram of durations with buckets that grow with the value: eight to a power of two. A value below
//! 16 ms is exact; a quantile differs from the exact one by a sixteenth at most.

use serde::{Deserialize, Serialize};

/// Buckets to each power of two, as a power of two.
const SPLIT_BITS: u32 = 3;
/// Values from 2^36 ms, two years, on share the last bucket.
const VALUE_MAX: u64 = (1 << 36) - 1;

/// See the module. Its buckets that are not empty, by their numbers, with their counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurationHistogram(Vec<(u16, u32)>);

/// The number of the bucket of a value.
fn bucket(millis: u64) -> u16 {
    let value = millis.min(VALUE_MAX);
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(SPLIT_BITS);
    // Below 2^9: the shift is at most 32, and the value behind it at most 15.
    ((shift << SPLIT_BITS) as u16) + (value >> shift) as u16
}

/// The least value of a bucket, and how many values it has.
fn range(bucket: u16) -> (u64, u64) {
    let bucket = u64::from(bucket);
    let per_power = 1 << SPLIT_BITS;
    let shift = (bucket >> SPLIT_BITS).saturating_sub(1);
    ((bucket - shift * per_power) << shift, 1 << shift)
}

impl DurationHistogram {
    /// Counts one value.
    pub fn observe(&mut self, millis: u64) {
        self.add(bucket(millis), 1);
    }

    /// Counts all that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(bucket, count)| self.add(*bucket, *count));
    }

    fn add(&mut self, bucket: u16, count: u32) {
        match self.0.binary_search_by_key(&bucket, |(number, _)| *number) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(count),
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The value that `percent` of the values do not exceed (nearest rank), in milliseconds: the middle of
    /// its bucket. `None` without values.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.count() * percent).div_ceil(100).max(1);
        let mut counted = 0;
        let found = self.0.iter().find(|(_, count)| {
            counted += u64::from(*count);
            counted >= rank
        });
        found.map(|(bucket, _)| {
            let (least, width) = range(*bucket);
            least + (width - 1) / 2
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        let mut next = 0;
        for number in 0..bucket(u64::MAX) {
            let (least, width) = range(number);
            assert_eq!(least, next, "bucket {number}");
            assert!(width <= least.max(8) / 8, "bucket {number}");
            assert_eq!((bucket(least), bucket(least + width - 1)), (number, number));
            next = least + width;
        }
        assert!(next > VALUE_MAX / 2);
        assert_eq!(bucket(VALUE_MAX + 1), bucket(u64::MAX));
    }

    proptest! {
        #[test]
        fn percentiles_are_a_sixteenth_off_at_most(
            mut values in proptest::collection::vec(
                prop_oneof![0..40_u64, 0..100_000_u64, 0..VALUE_MAX], 1..200,
            ),
            percent in 1..=100_u64,
            cut in 0..200_usize,
        ) {
            let (mut histogram, mut rest) = (DurationHistogram::default(), DurationHistogram::default());
            for (at, value) in values.iter().enumerate() {
                if at < cut { histogram.observe(*value) } else { rest.observe(*value) }
            }
            histogram.merge(&rest);
            values.sort_unstable();
            let rank = (values.len() * percent as usize).div_ceil(100).max(1);
            let exact = values[rank - 1];
            let told = histogram.percentile(percent).unwrap();
            prop_assert!(told.abs_diff(exact) <= exact / 16, "{told} for {exact}");
            prop_assert_eq!(histogram.count(), values.len() as u64);
        }
    }
}
