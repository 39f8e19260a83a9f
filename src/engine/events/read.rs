//! Reads rows of events, and lets the sweeper pass over them.

use std::collections::HashSet;

use super::{ReadMark, StoredEvent};
use crate::engine::{Engine, Phase};
use crate::model::event::{EventEntry, EventKey};
use crate::model::ids::FleetId;

/// Rows of one step of a pass: the longest that it holds the lock of the runs, some ten microseconds.
const STEP_ROWS: usize = 128;

impl Engine {
    /// The rows of these keys, read after `mark`.
    pub(in crate::engine) fn stored_event(&self, keys: &[EventKey], mark: ReadMark) -> StoredEvent {
        self.await_rows(mark);
        let entries = keys.iter().filter_map(|key| self.store.event(key)).collect();
        let other_body = keys.first().and_then(|key| self.store.event_of_other_body(key));
        StoredEvent { mark, entries, other_body }
    }

    /// Waits until the database has all rows that a read after `mark` has to see.
    fn await_rows(&self, mark: ReadMark) {
        if mark.awaits_commit {
            self.store.commit(Vec::new()).wait();
        }
    }

    /// Passes over all remembered events: removes those whose window is over or whose fleet is gone.
    /// One step of the sweeper.
    pub fn sweep_events(&self) {
        let began = self.decisions().events.begin_pass();
        // Rows that were decided before the new filter was there are readable from now on.
        self.await_rows(began);
        self.decisions().events.note_read(began);
        let mut after = None;
        loop {
            let mark = self.decisions().events.begin_read();
            self.await_rows(mark);
            let rows: Vec<(EventKey, EventEntry)> =
                self.store.events_after(after).take(STEP_ROWS).collect();
            let Some((last, _)) = rows.last() else { break };
            after = Some(*last);
            if !self.sweep_rows(rows, mark) {
                return;
            }
        }
        self.decisions().events.end_pass();
    }

    /// Makes one step of a pass durable; false once the engine drains.
    fn sweep_rows(&self, rows: Vec<(EventKey, EventEntry)>, mark: ReadMark) -> bool {
        // After the read: a fleet with a row that is not there now was deleted.
        let catalog = self.catalog();
        let named = rows.iter().map(|(key, _)| key.fleet);
        let fleets: HashSet<FleetId> = named.filter(|fleet| catalog.has_fleet(*fleet)).collect();
        drop(catalog);
        let mut decisions = self.decisions();
        if decisions.phase != Phase::Serving {
            return false;
        }
        let has_fleet = |fleet| fleets.contains(&fleet);
        let changes = decisions.events.sweep(rows, mark, has_fleet, self.clock.now());
        if !changes.is_empty() {
            let commit = self.store.commit(changes);
            drop(decisions);
            commit.wait();
        }
        true
    }
}
