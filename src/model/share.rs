//! How a budget is shared: by one rule for connections' bodies, the queue and the disk.

/// How many times what is left of a budget one holder (an address, a fleet) may have: with three, one
/// alone may have three quarters, and a quarter is left for others.
pub const SHARE_OF_REST: u64 = 3;

/// Whether somebody who holds `held` of a budget may have `more` of it while `left` is free: not more
/// in all than three times what is left. So one alone may have three quarters, several have less each,
/// and something is always left for those who hold little.
pub fn may_hold(held: u64, more: u64, left: u64) -> bool {
    more <= left && held.saturating_add(more) <= left.saturating_mul(SHARE_OF_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of `holders` has of `budget` in the end, if all take one after the other.
    fn shares(budget: u64, holders: usize) -> (Vec<u64>, u64) {
        let (mut held, mut left) = (vec![0; holders], budget);
        loop {
            let before = left;
            for held in &mut held {
                if may_hold(*held, 1, left) {
                    (*held, left) = (*held + 1, left - 1);
                }
            }
            if left == before {
                return (held, left);
            }
        }
    }

    #[test]
    fn greedy_holders_share_alike_and_leave_something() {
        assert_eq!(shares(1000, 1), (vec![750], 250));
        assert_eq!(shares(700, 2), (vec![300, 300], 100));
        let (held, left) = shares(1_000_000, 8);
        assert!(left >= 40_000 && held.iter().all(|held| *held >= 110_000), "{held:?} {left}");
        assert!(may_hold(0, left, left), "a newcomer may have all that is left");
    }

    #[test]
    fn small_budgets_are_used_up() {
        for budget in 1..=3 {
            assert_eq!(shares(budget, 1), (vec![budget], 0));
        }
        assert!(!may_hold(0, 2, 1));
        assert!(may_hold(u64::MAX, 0, u64::MAX) && !may_hold(u64::MAX, 1, 5));
    }
}
