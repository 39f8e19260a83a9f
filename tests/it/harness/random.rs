//! Random choices that a seed repeats (splitmix64).

use std::time::{SystemTime, UNIX_EPOCH};

/// A seeded source of random numbers.
pub struct Random(u64);

impl Random {
    /// The source that `seed` determines.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed for this test: from BOATHOOK_TEST_SEED, else another one every time. Printed, so that
    /// the output of a failing test tells it.
    pub fn seed(test: &str) -> u64 {
        let seed = std::env::var("BOATHOOK_TEST_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                now.as_nanos() as u64
            });
        println!("{test}: repeat with BOATHOOK_TEST_SEED={seed}");
        seed
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound`, exclusive.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}
