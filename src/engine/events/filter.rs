//! A Bloom filter over the digests of remembered events: it says of most new events that they are new,
//! so that their accept reads nothing from the disk.

/// Bits of the smallest filter: 16 KiB.
const BITS_MIN: u64 = 1 << 17;
/// Bits of the largest filter: 2 MiB. A million events read one row in seventy in vain, three million
/// one in four.
const BITS_MAX: u64 = 1 << 24;
/// Bits for each event of a new filter, which may take up twice as many events.
const BITS_PER_EVENT: u64 = 32;
/// Bits per event below which a larger filter is wanted. One new event in 24 is read in vain there.
const BITS_PER_EVENT_MIN: u64 = 8;
/// Bits set by each event.
const HASHES: u64 = 4;

/// See the module.
#[derive(Debug)]
pub struct Filter {
    words: Vec<u64>,
    entries: u64,
}

impl Filter {
    /// An empty filter for about `entries` events.
    pub fn for_entries(entries: u64) -> Self {
        let bits = entries.saturating_mul(BITS_PER_EVENT).clamp(BITS_MIN, BITS_MAX);
        let words = bits.next_power_of_two() / 64;
        Self { words: vec![0; usize::try_from(words).unwrap_or(1)], entries: 0 }
    }

    /// Enters a digest.
    pub fn insert(&mut self, digest: [u8; 16]) {
        self.entries += 1;
        for bit in bits_of(digest) {
            let (word, mask) = self.place(bit);
            self.words[word] |= mask;
        }
    }

    /// Whether the digest may have been entered; false only if it was not.
    pub fn may_have(&self, digest: [u8; 16]) -> bool {
        bits_of(digest).into_iter().all(|bit| {
            let (word, mask) = self.place(bit);
            self.words[word] & mask != 0
        })
    }

    /// Digests entered so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether a larger filter would save reads.
    pub fn is_crowded(&self) -> bool {
        let bits = self.words.len() as u64 * 64;
        bits < BITS_MAX && self.entries * BITS_PER_EVENT_MIN > bits
    }

    /// The index of a bit's word, and its mask. The number of words is a power of two.
    fn place(&self, bit: u64) -> (usize, u64) {
        ((bit / 64) as usize & (self.words.len() - 1), 1 << (bit % 64))
    }
}

/// Two halves of a digest make any number of hashes.
fn bits_of(digest: [u8; 16]) -> [u64; HASHES as usize] {
    let bits = u128::from_be_bytes(digest);
    let (first, second) = (bits as u64, (bits >> 64) as u64 | 1);
    let mut hashes = [0; HASHES as usize];
    for (number, hash) in (0..).zip(&mut hashes) {
        *hash = first.wrapping_add(second.wrapping_mul(number));
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(random: &mut fastrand::Rng) -> [u8; 16] {
        random.u128(..).to_be_bytes()
    }

    #[test]
    fn what_was_entered_is_found_and_little_else() {
        let mut random = fastrand::Rng::with_seed(1);
        for entries in [10_u64, 3_000, 100_000] {
            let mut filter = Filter::for_entries(entries);
            let entered: Vec<_> = (0..entries).map(|_| digest(&mut random)).collect();
            entered.iter().for_each(|digest| filter.insert(*digest));
            assert!(entered.iter().all(|digest| filter.may_have(*digest)));
            let found = (0..100_000).filter(|_| filter.may_have(digest(&mut random))).count();
            assert!(found < 1_000, "{found} of 100,000 others in a filter of {entries}");
            assert!(!filter.is_crowded());
        }
    }

    #[test]
    fn a_filter_is_crowded_before_it_is_useless() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut filter = Filter::for_entries(0);
        while !filter.is_crowded() {
            filter.insert(digest(&mut random));
        }
        let found = (0..10_000).filter(|_| filter.may_have(digest(&mut random))).count();
        assert!(found < 1_000, "{found} of 10,000 others");
        assert!(Filter::for_entries(u64::MAX).words.len() as u64 * 64 == BITS_MAX);
    }
}
