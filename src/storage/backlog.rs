//! Reading the queue at a start. A million rows lie in some hundred thousand nodes, each put
//! together from several places of the log: every processor reads and decodes a share of them.

use std::num::NonZero;
use std::thread;
use std::vec;

use crate::domain::change::QueueEntry;
use crate::limits::BACKLOG_SPAN;
use crate::storage::database::Database;
use crate::storage::tables::Table;
use crate::storage::{StorageError, codec, damaged, keys};

type Entry = Result<QueueEntry, StorageError>;

/// The unfinished runs in the order of acceptance.
pub struct Backlog<'a> {
    database: &'a Database,
    readers: u64,
    /// The first sequence that has not been read.
    next: u64,
    read: vec::IntoIter<Entry>,
}

impl<'a> Backlog<'a> {
    pub fn new(database: &'a Database) -> Self {
        let readers = thread::available_parallelism().map_or(1, NonZero::get) as u64;
        Self { database, readers, next: 0, read: Vec::new().into_iter() }
    }

    /// Reads on, a span of sequences per reader. `None` at the end.
    fn read_on(&mut self) -> Option<Vec<Entry>> {
        // Sequences may have wide gaps: some run may have waited for its retry for days.
        let first = self.database.range(Table::Queue, &keys::sequence(self.next), None).next()?;
        let start = match first.map(|(key, _)| keys::sequence_in(&key)) {
            Ok(sequence) => sequence.unwrap_or(self.next),
            Err(error) => return Some(vec![Err(error.into())]),
        };
        self.next = start.saturating_add(self.readers * BACKLOG_SPAN);
        let database = self.database;
        Some(thread::scope(|scope| {
            let spans = (0..self.readers).map(|number| start.saturating_add(number * BACKLOG_SPAN));
            let readers: Vec<_> =
                spans.map(|start| scope.spawn(move || read_span(database, start))).collect();
            let read = readers.into_iter().map(|reader| {
                reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            read.flatten().collect()
        }))
    }
}

impl Iterator for Backlog<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.read.next() {
                return Some(entry);
            }
            self.read = self.read_on()?.into_iter();
        }
    }
}

fn read_span(database: &Database, start: u64) -> Vec<Entry> {
    let end = keys::sequence(start.saturating_add(BACKLOG_SPAN));
    let rows = database.range(Table::Queue, &keys::sequence(start), Some(&end));
    rows.map(|row| codec::decode(&row?.1).map_err(|error| damaged("queue", &error))).collect()
}

#[cfg(test)]
mod tests {
    use crate::clock::Timestamp;
    use crate::domain::change::{Change, QueueEntry};
    use crate::domain::ids::{FleetId, RunIds};
    use crate::domain::run::{PayloadSize, Trigger};
    use crate::limits::BACKLOG_SPAN;
    use crate::storage;

    #[test]
    fn the_queue_reads_back_in_order_across_gaps_and_spans() {
        let directory = tempfile::tempdir().unwrap();
        let (storage, _committer) = storage::open(directory.path()).unwrap();
        let mut ids = RunIds::after(None);
        let sequences =
            [1, 2, BACKLOG_SPAN, BACKLOG_SPAN + 1, 3 * BACKLOG_SPAN, 1 << 60, u64::MAX - 1];
        let changes = sequences.map(|sequence| {
            Change::PutQueueEntry(QueueEntry {
                sequence,
                run: ids.next(Timestamp::from_millis(1), 0),
                fleet: FleetId::random(),
                version: 1,
                trigger: Trigger::Api,
                payload: PayloadSize::default(),
                started: false,
                replay_of: None,
            })
        });
        storage.commit(changes.to_vec()).wait();
        let read: Vec<u64> = storage.queue().map(|entry| entry.unwrap().sequence).collect();
        assert_eq!(read, sequences);
    }
}
