//! The order of the fleets that have something to start: the highest priority first, then the fleet
//! that was served longest ago. So a fleet with many runs does not hold up another one. Every
//! [`STARTS_PER_FAIR_START`]th start goes to the fleet served longest ago, whatever its priority, so
//! that a low priority does not starve.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::model::ids::FleetId;

/// One in this many vessel starts goes to the fleet that has waited longest, whatever its
/// priority: a low priority delays a fleet and does not starve it.
pub(super) const STARTS_PER_FAIR_START: u64 = 8;

/// See the module. It knows which fleets have something to start, not what.
#[derive(Clone, Debug, Default)]
pub struct Fairness {
    fleets: HashMap<FleetId, FleetTurn>,
    /// The fleets that wait for a turn, the next one first.
    by_priority: BTreeSet<(Reverse<i8>, u64, FleetId)>,
    /// The same fleets by their latest start.
    by_age: BTreeSet<(u64, FleetId)>,
    /// Fleets that have nothing left, by their latest start. A fleet that comes back soon does not
    /// overtake the fleets that have waited meanwhile.
    departed: BTreeSet<(u64, FleetId)>,
    /// Vessels started so far. The number of a start serves as its time.
    starts: u64,
}

#[derive(Clone, Debug, Default)]
struct FleetTurn {
    /// The number of the latest start; 0 for never.
    served: u64,
    /// Its priority while it waits for a turn.
    priority: Option<i8>,
}

impl Fairness {
    /// Whether any fleet waits for a turn.
    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    /// The fleet that starts the next vessel.
    pub fn next(&self) -> Option<FleetId> {
        if (self.starts + 1).is_multiple_of(STARTS_PER_FAIR_START) {
            return self.by_age.first().map(|(_, fleet)| *fleet);
        }
        self.by_priority.first().map(|(_, _, fleet)| *fleet)
    }

    /// Sets the priority at which the fleet waits for a turn; `None` when it has nothing to start.
    pub fn set(&mut self, fleet: FleetId, priority: Option<i8>) {
        let turn = self.fleets.entry(fleet).or_default();
        self.departed.remove(&(turn.served, fleet));
        if turn.priority == priority {
            return;
        }
        if let Some(before) = std::mem::replace(&mut turn.priority, priority) {
            self.by_priority.remove(&(Reverse(before), turn.served, fleet));
            self.by_age.remove(&(turn.served, fleet));
        }
        if let Some(priority) = priority {
            self.by_priority.insert((Reverse(priority), turn.served, fleet));
            self.by_age.insert((turn.served, fleet));
        }
    }

    /// The fleet has no run left, waiting or active.
    pub fn leave(&mut self, fleet: FleetId) {
        self.set(fleet, None);
        let served = self.fleets.get(&fleet).map_or(0, |turn| turn.served);
        self.departed.insert((served, fleet));
        self.forget();
    }

    /// A vessel of the fleet has started.
    pub fn served(&mut self, fleet: FleetId) {
        self.starts += 1;
        let turn = self.fleets.entry(fleet).or_default();
        let before = std::mem::replace(&mut turn.served, self.starts);
        if let Some(priority) = turn.priority {
            self.by_priority.remove(&(Reverse(priority), before, fleet));
            self.by_priority.insert((Reverse(priority), self.starts, fleet));
            self.by_age.remove(&(before, fleet));
            self.by_age.insert((self.starts, fleet));
        }
        self.forget();
    }

    /// Forgets fleets that have nothing left and would come first anyway if they came back.
    fn forget(&mut self) {
        let longest_ago = self.by_age.first().map_or(u64::MAX, |(served, _)| *served);
        while let Some((served, fleet)) = self.departed.first().copied()
            && served < longest_ago
        {
            self.departed.pop_first();
            self.fleets.remove(&fleet);
        }
    }

    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.fleets.len()
    }
}
