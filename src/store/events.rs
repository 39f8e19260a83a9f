//! Reads the rows of remembered events.

use crate::model::event::{EventEntry, EventKey};
use crate::store::Store;
use crate::store::read::{or_stop, readable};
use crate::store::tables::Table;

/// Rows of one id with other bodies that are read. A sender that uses one id for everything has many.
const OTHER_BODIES_READ_MAX: usize = 4;

impl Store {
    /// The remembered event of this key.
    pub fn event(&self, key: &EventKey) -> Option<EventEntry> {
        let row = or_stop(self.database.get(Table::Events, &key.to_bytes()))?;
        readable("events", &row)
    }

    /// A remembered event with the id of `key` and another body: the latest of a few.
    pub fn event_of_other_body(&self, key: &EventKey) -> Option<EventEntry> {
        let key = key.to_bytes();
        let rows = self.database.prefixed(Table::Events, &key[..32]);
        rows.map_while(|row| or_stop(row.map(Some)))
            .filter(|(other, _)| other.as_ref() != key)
            .take(OTHER_BODIES_READ_MAX)
            .filter_map(|(_, row)| readable::<EventEntry>("events", &row))
            .max_by_key(|entry| entry.since)
    }

    /// Remembered events in the order of their keys, after the key `after`.
    pub fn events_after(
        &self,
        after: Option<EventKey>,
    ) -> impl Iterator<Item = (EventKey, EventEntry)> + '_ {
        // No key is longer, so this is the first key behind.
        let start = after.map(|key| [key.to_bytes().as_slice(), &[0]].concat()).unwrap_or_default();
        let rows = self.database.range(Table::Events, &start, None);
        rows.map_while(|row| or_stop(row.map(Some))).filter_map(|(key, row)| {
            Some((EventKey::from_slice(&key)?, readable::<EventEntry>("events", &row)?))
        })
    }
}
