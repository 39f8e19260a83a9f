//! The rule by which holders share a budget: of bodies, the queue and the disk.

/// The share of a holder (an address, a fleet) is at most this many times the rest of the budget. With
/// three, a single holder gets three quarters.
pub const SHARE_OF_REST: u64 = 3;

/// Whether a holder of `held` may take `more` of a budget while `left` is free. Several holders get less
/// each, and a newcomer always finds something left.
pub fn may_hold(held: u64, more: u64, left: u64) -> bool {
    more <= left && held.saturating_add(more) <= left.saturating_mul(SHARE_OF_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of each of `holders` in `budget`, and the rest, after all have taken in turn.
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
    fn greedy_holders_get_equal_shares_and_leave_some() {
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
