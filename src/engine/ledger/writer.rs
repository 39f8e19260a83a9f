//! The writer of the ledger: the one thread that writes deliveries and removes them. It writes what has
//! gathered once in a while, and the more slowly the more there is, so that a flood of refusals takes
//! neither the disk nor time from accepts. Once in a while it passes over all rows: it counts them, and
//! removes those that are too old or whose fleet is gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::recent::Entry;
use crate::engine::Engine;
use crate::model::change::Change;
use crate::model::delivery::{Delivery, KEPT_BYTES_MAX, KEPT_FOR, KEPT_PER_FLEET_MAX, KeptRequest};
use crate::model::ids::{FleetId, RequestId};
use crate::model::limits::{CLOCK_STEP_MAX, SLICE_BYTES};
use crate::os::threads;

/// How long deliveries gather before they are written together.
const GATHERING: Duration = Duration::from_secs(1);
/// Deliveries in one commit: about the rows of one commit of the sweeper.
const BATCH_ENTRIES: usize = 64;
/// The pause of the writer for each delivery that it has written: 40 in a second at most.
const PAUSE_PER_ENTRY: Duration = Duration::from_millis(25);
/// Bytes of requests that are written in a second at most: 1 GB in an hour of a flood.
const BYTES_PER_SECOND: u64 = 256 * 1024;
/// Rows of one step of a pass, and removals in one commit.
const STEP_ROWS: usize = 64;
/// Time between two passes.
const PASS_INTERVAL: Duration = Duration::from_secs(3600);

/// The rows that are stored, as the last pass has counted them and the writer has gone on.
#[derive(Debug, Default)]
pub struct StoredDeliveries {
    fleets: HashMap<FleetId, usize>,
    /// Bytes of kept requests.
    bytes: u64,
}

/// What one commit has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    entries: u32,
    bytes: u64,
}

impl Written {
    fn pause(self) -> Duration {
        let for_bytes = Duration::from_millis(self.bytes * 1000 / BYTES_PER_SECOND);
        (PAUSE_PER_ENTRY * self.entries).max(for_bytes)
    }
}

impl Engine {
    /// Starts the writer of deliveries. It ends once the engine is closed and all is written.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn start_delivery_writer(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let engine = Arc::clone(self);
        threads::vital("deliveries").spawn(move || engine.write_deliveries_when_due())
    }

    fn write_deliveries_when_due(&self) {
        let mut stored = StoredDeliveries::default();
        let mut next_pass = Instant::now();
        loop {
            if self.ledger.take_pass_due() || Instant::now() >= next_pass {
                stored = self.pass_over_deliveries();
                next_pass = Instant::now() + PASS_INTERVAL;
            }
            if !self.ledger.wait_for_work(next_pass) {
                break;
            }
            self.ledger.pause(GATHERING);
            let written = self.write_deliveries(&mut stored);
            self.ledger.pause(written.pause());
        }
        // No request arrives any more.
        while self.write_deliveries(&mut stored) != Written::default() {}
    }

    /// Writes the next deliveries, and removes what the bounds leave no room for.
    pub fn write_deliveries(&self, stored: &mut StoredDeliveries) -> Written {
        if !self.space.is_enough() {
            return Written::default();
        }
        let batch = self.ledger.state().recent.next(BATCH_ENTRIES, SLICE_BYTES);
        let mut written = Written::default();
        let mut changes = Vec::new();
        for entry in &batch {
            written.entries += 1;
            written.bytes += entry.request.len() as u64;
            changes.extend(self.rows_of(entry, stored));
        }
        if !changes.is_empty() {
            self.sweep_step(|| self.store.commit(changes));
        }
        let mut state = self.ledger.state();
        batch.iter().for_each(|entry| state.recent.written(entry));
        drop(state);
        self.trim(stored);
        written
    }

    fn rows_of(&self, entry: &Entry, stored: &mut StoredDeliveries) -> Vec<Change> {
        let delivery = &entry.delivery;
        if entry.is_stored {
            // It was run after all. The rest of its row is up to the writer.
            let row = self.store.delivery(delivery.id);
            let row = row.map(|row| Delivery { run: delivery.run, ..row });
            return row.map(Change::PutDelivery).into_iter().collect();
        }
        stored.add(delivery);
        let mut changes = vec![Change::PutDelivery(delivery.clone())];
        if !entry.request.is_empty() {
            let bytes = entry.request.clone();
            changes.push(Change::PutDeliveryRequest { delivery: delivery.id, bytes });
        }
        changes
    }

    /// Removes the oldest deliveries of fleets that have too many, and the oldest requests while they
    /// take up too much.
    fn trim(&self, stored: &mut StoredDeliveries) {
        while let Some((fleet, excess)) = stored.fleet_with_excess() {
            let oldest = self.store.oldest_deliveries(fleet).take(excess.min(STEP_ROWS));
            let oldest: Vec<Delivery> = oldest.collect();
            if oldest.is_empty() {
                // Unreadable rows were counted.
                stored.fleets.remove(&fleet);
            }
            self.remove_deliveries(&oldest, stored);
        }
        let mut after = None;
        while stored.bytes > KEPT_BYTES_MAX {
            let Some((id, chunks)) = self.store.next_delivery_request(after) else { break };
            after = Some(id);
            self.remove_request(id, chunks, stored);
        }
    }

    fn remove_deliveries(&self, deliveries: &[Delivery], stored: &mut StoredDeliveries) {
        let removal = |it: &Delivery| Change::RemoveDelivery {
            fleet: it.fleet_id,
            delivery: it.id,
            chunks: it.kept.chunks(),
        };
        let changes: Vec<Change> = deliveries.iter().map(removal).collect();
        if !changes.is_empty() {
            self.sweep_step(|| self.store.commit(changes));
        }
        deliveries.iter().for_each(|delivery| stored.remove(delivery));
    }

    /// Removes the request of a delivery, which is `chunks` rows. A damaged delivery stays as it is.
    fn remove_request(&self, id: RequestId, chunks: u32, stored: &mut StoredDeliveries) {
        let mut changes = vec![Change::RemoveDeliveryRequest { delivery: id, chunks }];
        let delivery = self.store.delivery(id);
        let bytes = delivery.as_ref().map_or(0, |it| it.kept.bytes());
        changes.extend(delivery.map(|delivery| {
            Change::PutDelivery(Delivery { kept: KeptRequest::default(), ..delivery })
        }));
        self.sweep_step(|| self.store.commit(changes));
        stored.bytes = stored.bytes.saturating_sub(bytes);
    }

    /// Counts all stored deliveries, and removes those that are too old, that a clock ahead of time has
    /// left, or whose fleet is gone.
    pub fn pass_over_deliveries(&self) -> StoredDeliveries {
        let mut stored = StoredDeliveries::default();
        let mut after: Option<RequestId> = None;
        loop {
            let rows: Vec<Delivery> = self.store.deliveries_after(after).take(STEP_ROWS).collect();
            let Some(last) = rows.last() else { break };
            after = Some(last.id);
            let now = self.clock.now();
            let catalog = self.catalog();
            let named = rows.iter().map(|row| row.fleet_id);
            let fleets: HashSet<FleetId> = named.filter(|it| catalog.has_fleet(*it)).collect();
            drop(catalog);
            let stays = |row: &Delivery| {
                let time = row.id.time();
                fleets.contains(&row.fleet_id)
                    && time.plus(KEPT_FOR) > now
                    && time <= now.plus(CLOCK_STEP_MAX)
            };
            let (kept, gone): (Vec<_>, Vec<_>) = rows.into_iter().partition(stays);
            kept.iter().chain(&gone).for_each(|row| stored.add(row));
            self.remove_deliveries(&gone, &mut stored);
        }
        self.trim(&mut stored);
        stored
    }
}

impl StoredDeliveries {
    fn add(&mut self, delivery: &Delivery) {
        *self.fleets.entry(delivery.fleet_id).or_default() += 1;
        self.bytes += delivery.kept.bytes();
    }

    fn remove(&mut self, delivery: &Delivery) {
        if let Some(count) = self.fleets.get_mut(&delivery.fleet_id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.fleets.remove(&delivery.fleet_id);
            }
        }
        self.bytes = self.bytes.saturating_sub(delivery.kept.bytes());
    }

    /// Counts `bytes` more as taken up.
    #[cfg(test)]
    pub(super) fn take_up(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// A fleet with more than its number of deliveries, and how many more.
    fn fleet_with_excess(&self) -> Option<(FleetId, usize)> {
        let over = self.fleets.iter().find(|(_, count)| **count > KEPT_PER_FLEET_MAX)?;
        Some((*over.0, over.1 - KEPT_PER_FLEET_MAX))
    }
}
