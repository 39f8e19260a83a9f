//! The events that are remembered, so that each is run once however often it is delivered. A state
//! machine that takes the time as an argument; it decides under the lock of the runs.
//!
//! An event has a row for each of its keys, written in the commit of its run and again when the run
//! ends without success. In memory are the events of unfinished runs, a filter over all others, and the
//! keys whose rows were written lately. Rows are read without the lock: a decision that needs them
//! asks for them by a [`ReadMark`] and is made again. A read that began before a row was decided
//! may have missed it, so such a decision asks once more. A row that was decided before the read may
//! wait for its commit: then the mark of the read says that the reader waits for the commit, too.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::event::{ArrivalRecord, EventEntry, EventKey, EventMemory};
use crate::model::ids::{FleetId, RunId};
use crate::model::limits::CLOCK_STEP_MAX;
use crate::model::run::{RunRecord, Status};

mod filter;
mod pass;
mod read;

use filter::Filter;

/// Keys of rows that were written lately. A reader that has missed more of them reads again.
const WRITTEN_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Events {
    /// Unfinished runs by the keys of their events.
    open: BTreeMap<EventKey, RunId>,
    /// The digests of all rows; `None` until a first pass has seen every row.
    filter: Option<Filter>,
    /// The filter of the pass that is under way.
    next_filter: Option<Filter>,
    /// Keys of the rows that were written last, the latest at the end.
    written: VecDeque<EventKey>,
    /// Rows written since the start.
    writes: u64,
    /// How many of these the database has for certain.
    readable: u64,
    /// A fleet was deleted, or the filter is crowded.
    is_pass_due: bool,
}

/// A moment among the writes of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadMark {
    /// Rows written before it.
    writes: u64,
    /// A row to be read may wait for its commit. The reader waits for an empty commit before it reads.
    pub awaits_commit: bool,
}

/// What was found in the database of an event.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The moment before the read.
    pub mark: ReadMark,
    /// The row of each key that has one.
    pub entries: Vec<EventEntry>,
    /// A row of the same id and another body.
    pub other_body: Option<EventEntry>,
}

/// What is to become of a request with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Run {
        /// The first run of the event, which ended without success.
        first_run: Option<RunId>,
        /// The id came before with another body.
        is_id_reused: bool,
    },
    /// It is a duplicate of this run.
    Duplicate(RunId),
}

impl Events {
    /// Enters the event of an unfinished run that the last server has left.
    pub fn reload(&mut self, fleet: FleetId, run: RunId, arrival: &ArrivalRecord) {
        for key in arrival.keys(fleet) {
            self.open.insert(key, run);
        }
    }

    /// Decides on a request with an event of these keys: that of its id first.
    ///
    /// # Errors
    /// The mark after which the rows of the keys have to be read first.
    pub fn decide(
        &mut self,
        keys: &[EventKey],
        window: Duration,
        stored: Option<&StoredEvent>,
        now: Timestamp,
    ) -> Result<Decision, ReadMark> {
        let new = |is_id_reused| Decision::Run { first_run: None, is_id_reused };
        let Some(of_id) = keys.first() else { return Ok(new(false)) };
        if let Some(run) = keys.iter().find_map(|key| self.open.get(key)) {
            return Ok(Decision::Duplicate(*run));
        }
        stored.iter().for_each(|stored| self.note_read(stored.mark));
        let is_reused_by_open = self.has_other_body(of_id);
        let stored = match stored {
            Some(stored) if !self.has_written(keys, stored.mark.writes) => stored,
            None if !self.may_have(keys) => return Ok(new(is_reused_by_open)),
            _ => return Err(self.mark(keys)),
        };
        let is_remembered = |entry: &&EventEntry| entry.is_within(window, now);
        let is_id_reused =
            is_reused_by_open || stored.other_body.as_ref().is_some_and(|it| is_remembered(&it));
        let remembered = || stored.entries.iter().filter(is_remembered);
        if let Some(entry) = remembered().find(|entry| !entry.has_failed) {
            return Ok(Decision::Duplicate(entry.run));
        }
        let first_run = remembered().map(|entry| entry.first_run).min();
        Ok(Decision::Run { first_run, is_id_reused })
    }

    /// Remembers the event of a run that is accepted at `now`, in the commit of the run.
    pub fn enter(
        &mut self,
        fleet: FleetId,
        run: RunId,
        arrival: &ArrivalRecord,
        now: Timestamp,
    ) -> Vec<Change> {
        let Some(memory) = arrival.memory else { return Vec::new() };
        let first_run = arrival.first_run.unwrap_or(run);
        let keys = arrival.keys(fleet).into_iter();
        keys.map(|key| {
            self.open.insert(key, run);
            for filter in self.filter.iter_mut().chain(&mut self.next_filter) {
                filter.insert(key.digest);
                self.is_pass_due |= filter.is_crowded();
            }
            self.put(key, entry(run, first_run, memory, now, false))
        })
        .collect()
    }

    /// Takes note of the end of a run, in the commit of the end. After an end without success a delivery
    /// of the event runs again.
    pub fn close(&mut self, run: &RunRecord) -> Vec<Change> {
        if run.arrival.is_none() {
            return Vec::new();
        }
        let arrival = run.arrival();
        let Some(memory) = arrival.memory else { return Vec::new() };
        let first_run = arrival.first_run.unwrap_or(run.id);
        let mut changes = Vec::new();
        for key in arrival.keys(run.fleet_id) {
            let is_latest = self.open.get(&key) == Some(&run.id);
            debug_assert!(is_latest, "the event of {} is not that of an unfinished run", run.id);
            if is_latest {
                self.open.remove(&key);
                if run.status != Status::Success {
                    let entry = entry(run.id, first_run, memory, run.queued_at, true);
                    changes.push(self.put(key, entry));
                }
            }
        }
        changes
    }

    /// Whether a pass over all rows is due before its time.
    pub fn is_pass_due(&self) -> bool {
        self.is_pass_due
    }

    /// Asks for a pass over all rows.
    pub fn ask_for_pass(&mut self) {
        self.is_pass_due = true;
    }

    fn put(&mut self, key: EventKey, entry: EventEntry) -> Change {
        if self.written.len() == WRITTEN_MAX {
            self.written.pop_front();
        }
        self.written.push_back(key);
        self.writes += 1;
        Change::PutEvent { key, entry }
    }

    /// The present moment among the writes of rows, before a read of the rows of `keys`.
    fn mark(&self, keys: &[EventKey]) -> ReadMark {
        let awaits_commit = self.has_written(keys, self.readable);
        ReadMark { writes: self.writes, awaits_commit }
    }

    /// Takes note of a read after `mark`.
    fn note_read(&mut self, mark: ReadMark) {
        if mark.awaits_commit {
            self.readable = self.readable.max(mark.writes);
        }
    }

    /// Whether a row of one of the keys, or of the id with another body, was or may have been written
    /// after the first `writes`.
    fn has_written(&self, keys: &[EventKey], writes: u64) -> bool {
        let since = usize::try_from(self.writes.saturating_sub(writes)).unwrap_or(usize::MAX);
        let is_one = |written: &EventKey| {
            keys.iter().any(|key| (key.fleet, key.digest) == (written.fleet, written.digest))
        };
        since > self.written.len() || self.written.iter().rev().take(since).any(is_one)
    }

    /// Whether there may be a row with the digest of one of the keys.
    fn may_have(&self, keys: &[EventKey]) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| keys.iter().any(|key| filter.may_have(key.digest)))
    }

    /// Whether an unfinished run has the id of `key` with another body.
    fn has_other_body(&self, key: &EventKey) -> bool {
        let is_same_id = |other: &EventKey| (other.fleet, other.digest) == (key.fleet, key.digest);
        self.open.range(key..).next().is_some_and(|(other, _)| is_same_id(other))
            || self.open.range(..key).next_back().is_some_and(|(other, _)| is_same_id(other))
    }
}

fn entry(
    run: RunId,
    first_run: RunId,
    memory: EventMemory,
    since: Timestamp,
    has_failed: bool,
) -> EventEntry {
    EventEntry { run, first_run, since, window_seconds: memory.window_seconds, has_failed }
}

#[cfg(test)]
mod tests;
