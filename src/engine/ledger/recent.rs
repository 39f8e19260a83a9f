//! The deliveries that are not written yet, in memory: a ring for each fleet. However many requests are
//! refused, it holds a bounded number of them, and the latest of each fleet.

use std::collections::BTreeMap;

use crate::model::delivery::{Delivery, KEPT_PER_FLEET_MAX, KeptRequest};
use crate::model::ids::{FleetId, RequestId, RunId};
use crate::model::share;

/// Deliveries of all fleets. Each takes up to some 1,200 bytes, most 300.
const RECENT_MAX: usize = 4_096;
/// Bytes of their heads and bodies. One fleet holds at most three times what is left.
const RECENT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Recent {
    fleets: BTreeMap<FleetId, Ring>,
    len: usize,
    bytes: u64,
    /// Changes so far, which tell whether an entry is still the one that was written.
    changes: u64,
}

/// The entries of one fleet, the oldest first.
#[derive(Debug, Default)]
struct Ring {
    entries: BTreeMap<RequestId, Entry>,
    bytes: u64,
}

/// A delivery that is to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    pub delivery: Delivery,
    /// Its head and body, as `kept` of the delivery says.
    pub request: Vec<u8>,
    /// Whether the row is there already, and is to be written anew.
    pub is_stored: bool,
    change: u64,
}

impl Recent {
    /// Whether a request of `bytes` bytes may be kept for `fleet`.
    pub fn has_room(&self, fleet: FleetId, bytes: u64) -> bool {
        let held = self.fleets.get(&fleet).map_or(0, |ring| ring.bytes);
        share::may_hold(held, bytes, RECENT_BYTES_MAX.saturating_sub(self.bytes))
    }

    /// Adds a delivery, in the place of the one of this id. The oldest of its fleet goes when it has
    /// its number, the oldest of the fleet with the most when there are too many. A request without
    /// room is not kept.
    pub fn push(&mut self, mut delivery: Delivery, mut request: Vec<u8>, is_stored: bool) {
        let (fleet, id) = (delivery.fleet_id, delivery.id);
        self.remove(fleet, id);
        if self.count(fleet) >= KEPT_PER_FLEET_MAX {
            self.remove_oldest(fleet);
        } else if self.len >= RECENT_MAX {
            let most = self.fleets.iter().max_by_key(|(_, ring)| ring.entries.len());
            if let Some(most) = most.map(|(fleet, _)| *fleet) {
                self.remove_oldest(most);
            }
        }
        if !self.has_room(fleet, request.len() as u64) {
            (delivery.kept, request) = (KeptRequest::default(), Vec::new());
        }
        self.changes += 1;
        let entry = Entry { delivery, request, is_stored, change: self.changes };
        let bytes = entry.request.len() as u64;
        let ring = self.fleets.entry(fleet).or_default();
        ring.entries.insert(id, entry);
        ring.bytes += bytes;
        self.bytes += bytes;
        self.len += 1;
    }

    /// The delivery of this id.
    pub fn get(&self, id: RequestId) -> Option<&Entry> {
        self.fleets.values().find_map(|ring| ring.entries.get(&id))
    }

    /// Names the run that the delivery was run as after all; false when it is not here.
    pub fn set_run(&mut self, id: RequestId, run: RunId) -> bool {
        let found = self.fleets.values_mut().find_map(|ring| ring.entries.get_mut(&id));
        let Some(entry) = found else { return false };
        self.changes += 1;
        entry.delivery.run = Some(run);
        entry.change = self.changes;
        true
    }

    /// The deliveries of `fleet`, or of all fleets, before the id `before`; the latest first.
    pub fn before(&self, fleet: Option<FleetId>, before: Option<RequestId>) -> Vec<Delivery> {
        let rings = self.fleets.iter().filter(|(id, _)| fleet.is_none_or(|fleet| fleet == **id));
        let entries = rings.flat_map(|(_, ring)| ring.entries.values());
        let is_before = |entry: &&Entry| before.is_none_or(|before| entry.delivery.id < before);
        let mut found: Vec<_> =
            entries.filter(is_before).map(|entry| entry.delivery.clone()).collect();
        found.sort_unstable_by_key(|delivery| std::cmp::Reverse(delivery.id));
        found
    }

    /// The next entries to be written, at most `entries_max`, and no more once they have `bytes`
    /// bytes: the oldest of each fleet in turn, so that a flood at one fleet holds no other up.
    pub fn next(&self, entries_max: usize, bytes: usize) -> Vec<Entry> {
        let mut rings: Vec<_> = self.fleets.values().map(|ring| ring.entries.values()).collect();
        let (mut found, mut found_bytes) = (Vec::new(), 0);
        while !rings.is_empty() {
            rings.retain_mut(|ring| {
                if found.len() >= entries_max || found_bytes >= bytes {
                    return false;
                }
                let Some(entry) = ring.next() else { return false };
                found_bytes += entry.request.len();
                found.push(entry.clone());
                true
            });
        }
        found
    }

    /// Takes out an entry that was written, unless it has changed since.
    pub fn written(&mut self, written: &Entry) {
        let (fleet, id) = (written.delivery.fleet_id, written.delivery.id);
        let ring = self.fleets.get_mut(&fleet);
        let Some(entry) = ring.and_then(|ring| ring.entries.get_mut(&id)) else { return };
        if entry.change == written.change {
            self.remove(fleet, id);
        } else {
            entry.is_stored = true;
        }
    }

    /// Drops the deliveries of a fleet.
    pub fn forget(&mut self, fleet: FleetId) {
        if let Some(ring) = self.fleets.remove(&fleet) {
            self.len -= ring.entries.len();
            self.bytes -= ring.bytes;
        }
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn count(&self, fleet: FleetId) -> usize {
        self.fleets.get(&fleet).map_or(0, |ring| ring.entries.len())
    }

    /// Removes the oldest delivery of `fleet`, one with a row only when all have one: such an entry names the
    /// run that a person has asked for.
    fn remove_oldest(&mut self, fleet: FleetId) {
        let Some(ring) = self.fleets.get(&fleet) else { return };
        let unstored = ring.entries.iter().find(|(_, entry)| !entry.is_stored);
        let oldest = unstored.or_else(|| ring.entries.first_key_value()).map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            self.remove(fleet, oldest);
        }
    }

    fn remove(&mut self, fleet: FleetId, id: RequestId) {
        let Some(ring) = self.fleets.get_mut(&fleet) else { return };
        let Some(entry) = ring.entries.remove(&id) else { return };
        let bytes = entry.request.len() as u64;
        ring.bytes -= bytes;
        if ring.entries.is_empty() {
            self.fleets.remove(&fleet);
        }
        self.bytes -= bytes;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;
    use crate::model::delivery::Verdict;
    use crate::model::event::Event;

    fn delivery(fleet: FleetId, millis: i64) -> Delivery {
        let received_at = Timestamp::from_millis(1_700_000_000_000 + millis);
        Delivery {
            id: RequestId::arriving(received_at),
            received_at,
            fleet_id: fleet,
            fleet_name: "site".into(),
            remote_addr: "192.0.2.1".into(),
            event: Event::default(),
            verdict: Verdict::Refused,
            note: None,
            status: 401,
            run: None,
            bytes: 0,
            kept: KeptRequest { head_bytes: 2, body_bytes: Some(8) },
            memory: None,
            verified_by: None,
        }
    }

    fn bytes_of(recent: &Recent) -> u64 {
        let entries = recent.fleets.values().flat_map(|ring| ring.entries.values());
        entries.map(|entry| entry.request.len() as u64).sum()
    }

    #[test]
    fn a_flood_leaves_the_latest_of_each_fleet_within_the_bounds() {
        let mut recent = Recent::default();
        let (quiet, loud) = (FleetId::random(), FleetId::random());
        recent.push(delivery(quiet, 0), vec![1; 10], false);
        let run_after_all = delivery(loud, 0);
        recent.push(run_after_all.clone(), Vec::new(), true);
        for millis in 1..=10_000 {
            recent.push(delivery(loud, millis), vec![1; 200 * 1024], false);
        }
        assert_eq!((recent.count(quiet), recent.count(loud)), (1, KEPT_PER_FLEET_MAX));
        assert!(recent.bytes <= RECENT_BYTES_MAX, "{}", recent.bytes);
        assert_eq!(recent.bytes, bytes_of(&recent));
        assert!(recent.get(run_after_all.id).is_some());
        recent.written(&recent.get(run_after_all.id).unwrap().clone());
        let latest = recent.before(Some(loud), None);
        let ended_at = Timestamp::from_millis(1_700_000_010_000);
        assert_eq!(latest.first().map(|delivery| delivery.received_at), Some(ended_at));
        let older = recent.before(None, Some(latest[997].id));
        assert_eq!(older.len(), 2, "the oldest of the loud fleet and that of the quiet one");

        for fleet in 0..10_000 {
            recent.push(delivery(FleetId::random(), fleet), Vec::new(), false);
        }
        assert_eq!(recent.len, RECENT_MAX);
        recent.forget(loud);
        assert!(recent.count(loud) == 0 && recent.bytes == bytes_of(&recent));
    }

    #[test]
    fn fleets_are_written_in_turn_and_changed_entries_again() {
        let mut recent = Recent::default();
        let (quiet, loud) = (FleetId::random(), FleetId::random());
        (0..50).for_each(|millis| recent.push(delivery(loud, millis), vec![1; 10], false));
        recent.push(delivery(quiet, 60), vec![1; 10], false);
        let batch = recent.next(8, 1_000);
        assert_eq!(batch.len(), 8);
        assert!(batch.iter().any(|entry| entry.delivery.fleet_id == quiet));
        assert_eq!(recent.next(50, 15).len(), 2);

        let changed = batch[0].delivery.clone();
        recent.push(Delivery { status: 201, ..changed.clone() }, vec![1; 10], false);
        batch.iter().for_each(|entry| recent.written(entry));
        assert_eq!(recent.len, 51 - 7);
        let entry = recent.get(changed.id).unwrap();
        assert!(entry.is_stored && entry.delivery.status == 201);
        let entry = entry.clone();
        recent.written(&entry);
        assert!(recent.get(changed.id).is_none());
        assert_eq!(recent.bytes, bytes_of(&recent));
    }
}
