//! Reads the queue at a start. A million rows lie in some hundred thousand nodes, each spread over
//! several places of the log. One thread per processor reads and decodes spans of the queue, while the
//! caller takes the entries.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::vec;

use crossbeam_channel::{Receiver, Sender, bounded, never};

use crate::model::change::QueueEntry;
use crate::os::threads;
use crate::store::sled::database::Database;
use crate::store::tables::Table;
use crate::store::{StorageError, codec, damaged, keys};

/// Sequence numbers of one span: worth the switch between threads, and little memory beside the runs.
const BACKLOG_SPAN: u64 = 8192;

type Entry = Result<QueueEntry, StorageError>;

/// The unfinished runs in the order of acceptance.
pub struct Backlog {
    readers: Vec<JoinHandle<()>>,
    spans: Receiver<Span>,
    /// Spans whose turn has not come, by number.
    early: BTreeMap<u64, Vec<Entry>>,
    /// The number of the next span.
    next: u64,
    /// Entries of the present span.
    read: vec::IntoIter<Entry>,
}

/// A range of sequence numbers of the queue.
struct Span {
    number: u64,
    entries: Vec<Entry>,
}

/// Where the next span begins.
#[derive(Default)]
struct Cursor {
    number: u64,
    /// The first sequence number that no thread has claimed.
    sequence: u64,
}

impl Backlog {
    /// Starts the threads that read.
    pub fn new(database: &Arc<Database>) -> Self {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let (sender, spans) = bounded(count);
        let cursor = Arc::<Mutex<Cursor>>::default();
        let spawn = |number| {
            let (database, cursor) = (Arc::clone(database), Arc::clone(&cursor));
            let sender = sender.clone();
            let reader = move || read_spans(&database, &cursor, &sender);
            threads::vital(format!("backlog-{number}")).spawn(reader)
        };
        let readers: Result<Vec<_>, _> = (0..count).map(spawn).collect();
        let (readers, failed) = match readers {
            Ok(readers) => (readers, Vec::new()),
            Err(error) => (Vec::new(), vec![Err(sled::Error::from(error).into())]),
        };
        let read = failed.into_iter();
        Self { readers, spans, early: BTreeMap::new(), next: 0, read }
    }

    /// The next span. `None` at the end.
    fn next_span(&mut self) -> Option<Vec<Entry>> {
        loop {
            if let Some(entries) = self.early.remove(&self.next) {
                self.next += 1;
                return Some(entries);
            }
            let Ok(span) = self.spans.recv() else { break };
            self.early.insert(span.number, span.entries);
        }
        // All readers have ended. A panic of one of them is passed on.
        for reader in self.readers.drain(..) {
            reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        None
    }
}

impl Iterator for Backlog {
    type Item = Entry;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.read.next() {
                return Some(entry);
            }
            self.read = self.next_span()?.into_iter();
        }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        // Without a receiver, each reader ends after its present span.
        self.spans = never();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

fn read_spans(database: &Database, cursor: &Mutex<Cursor>, spans: &Sender<Span>) {
    while let Some((number, start)) = claim_span(database, cursor) {
        let entries = match start {
            Ok(start) => read_span(database, start),
            Err(error) => vec![Err(error.into())],
        };
        if spans.send(Span { number, entries }).is_err() {
            return;
        }
    }
}

/// Claims the next span: its number and its first sequence number. `None` at the end.
fn claim_span(
    database: &Database,
    cursor: &Mutex<Cursor>,
) -> Option<(u64, Result<u64, sled::Error>)> {
    let mut cursor = cursor.lock().unwrap_or_else(PoisonError::into_inner);
    // Sequence numbers have wide gaps where a run has waited for its retry for days.
    let rest = keys::sequence(cursor.sequence);
    let first = database.range(Table::Queue, &rest, None).next()?;
    let start = first.map(|(key, _)| keys::sequence_in(&key).unwrap_or(cursor.sequence));
    let number = cursor.number;
    cursor.number += 1;
    cursor.sequence = match start {
        Ok(start) => start.saturating_add(BACKLOG_SPAN),
        Err(_) => u64::MAX,
    };
    Some((number, start))
}

fn read_span(database: &Database, start: u64) -> Vec<Entry> {
    let end = keys::sequence(start.saturating_add(BACKLOG_SPAN));
    let rows = database.range(Table::Queue, &keys::sequence(start), Some(&end));
    rows.map(|row| codec::decode(&row?.1).map_err(|error| damaged("queue", &error))).collect()
}

#[cfg(test)]
mod tests {
    use crate::model::change::{Change, QueueEntry};
    use crate::model::clock::Timestamp;
    use crate::model::ids::{FleetId, RunIds};
    use crate::model::run::{PayloadSize, Trigger};
    use crate::store;

    use super::BACKLOG_SPAN;

    #[test]
    fn the_queue_reads_back_in_order_across_gaps_and_spans() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _committer) = store::open(directory.path()).unwrap();
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
                queued_at: None,
                replay_of: None,
                arrival: None,
            })
        });
        store.commit(changes.to_vec()).wait();
        let read: Vec<u64> = store.queue().map(|entry| entry.unwrap().sequence).collect();
        assert_eq!(read, sequences);
    }
}
