//! Whose turn it is among the fleets that have something to start: the highest priority first, and
//! among equals the one that was served longest ago, so that no fleet holds up another by having
//! much to do. Every [`STARTS_PER_FAIR_START`]th start goes to the one served longest ago whatever
//! its priority, so that a low priority waits longer, but not for ever.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::model::ids::FleetId;
use crate::model::limits::STARTS_PER_FAIR_START;

/// See the module. Does not know what a fleet has to start.
#[derive(Debug, Default)]
pub struct Turns {
    fleets: HashMap<FleetId, Place>,
    /// The fleets that wait for a turn, in the order in which they get it.
    by_priority: BTreeSet<(Reverse<i8>, u64, FleetId)>,
    /// The same, by when they were served.
    by_age: BTreeSet<(u64, FleetId)>,
    /// Fleets that have nothing left, by when they were served: who comes back soon must not get
    /// ahead of those who have waited meanwhile.
    gone: BTreeSet<(u64, FleetId)>,
    /// Vessels started so far: the number of a start is its time.
    starts: u64,
}

#[derive(Debug, Default)]
struct Place {
    /// The number of the latest start; 0 for never.
    served: u64,
    /// While it waits for a turn.
    priority: Option<i8>,
}

impl Turns {
    /// Whether any fleet waits for a turn.
    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    /// The fleet whose turn it is.
    pub fn next(&self) -> Option<FleetId> {
        if (self.starts + 1).is_multiple_of(STARTS_PER_FAIR_START) {
            return self.by_age.first().map(|(_, fleet)| *fleet);
        }
        self.by_priority.first().map(|(_, _, fleet)| *fleet)
    }

    /// The fleet waits for a turn at this priority, or for none.
    pub fn set(&mut self, fleet: FleetId, priority: Option<i8>) {
        let place = self.fleets.entry(fleet).or_default();
        self.gone.remove(&(place.served, fleet));
        if place.priority == priority {
            return;
        }
        if let Some(before) = std::mem::replace(&mut place.priority, priority) {
            self.by_priority.remove(&(Reverse(before), place.served, fleet));
            self.by_age.remove(&(place.served, fleet));
        }
        if let Some(priority) = priority {
            self.by_priority.insert((Reverse(priority), place.served, fleet));
            self.by_age.insert((place.served, fleet));
        }
    }

    /// The fleet has nothing left, neither to start nor under way.
    pub fn leave(&mut self, fleet: FleetId) {
        self.set(fleet, None);
        let served = self.fleets.get(&fleet).map_or(0, |place| place.served);
        self.gone.insert((served, fleet));
        self.forget();
    }

    /// A vessel of the fleet has started.
    pub fn served(&mut self, fleet: FleetId) {
        self.starts += 1;
        let place = self.fleets.entry(fleet).or_default();
        let before = std::mem::replace(&mut place.served, self.starts);
        if let Some(priority) = place.priority {
            self.by_priority.remove(&(Reverse(priority), before, fleet));
            self.by_priority.insert((Reverse(priority), self.starts, fleet));
            self.by_age.remove(&(before, fleet));
            self.by_age.insert((self.starts, fleet));
        }
        self.forget();
    }

    /// Forgets those that are gone and would come first anyway if they came back.
    fn forget(&mut self) {
        let longest_ago = self.by_age.first().map_or(u64::MAX, |(served, _)| *served);
        while let Some((served, fleet)) = self.gone.first().copied()
            && served < longest_ago
        {
            self.gone.pop_first();
            self.fleets.remove(&fleet);
        }
    }

    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.fleets.len()
    }
}
