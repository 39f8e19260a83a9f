//! The past of every fleet: which of its runs have ended, how many there are and what they take up,
//! and which of them are to be kept no longer. A state machine that takes the time as an argument;
//! the entries themselves are in the database.
//!
//! A run enters it once its end is recorded and everybody has been told. Entries are numbered in
//! that order, and leave it from the oldest on: so the first and the last of them tell their number
//! and, by the sums in them, their bytes.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::model::change::{Change, HistoryEntry};
use crate::model::clock::Timestamp;
use crate::model::ids::FleetId;
use crate::model::limits::SWEEP_SLACK_MAX;
use crate::model::retention::Retention;
use crate::model::run::RunRecord;

/// See the module.
#[derive(Debug)]
pub struct History {
    /// Of fleets that say nothing of their own, and of those that are deleted.
    rule: Retention,
    own_rules: HashMap<FleetId, Retention>,
    /// Fleets of which anything is kept.
    fleets: BTreeMap<FleetId, Past>,
}

/// The entries of one fleet.
#[derive(Debug, Default)]
struct Past {
    /// The number of the oldest entry.
    first: u64,
    /// The number of the next one.
    next: u64,
    /// Since when the oldest is there; `None` until somebody has looked.
    since: Option<Timestamp>,
    bytes: u64,
    /// What the next entry has before it.
    bytes_before: u64,
}

/// How much is kept of runs that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistorySize {
    pub runs: u64,
    /// Payloads and output.
    pub bytes: u64,
}

impl History {
    pub fn new(rule: Retention) -> Self {
        Self { rule, own_rules: HashMap::new(), fleets: BTreeMap::new() }
    }

    /// What a former server has left of a fleet's past: its oldest and its latest entry.
    pub fn restore(
        &mut self,
        fleet: FleetId,
        (first, oldest): (u64, HistoryEntry),
        (last, latest): (u64, HistoryEntry),
    ) {
        let bytes_before = latest.bytes_before.saturating_add(latest.bytes);
        let past = Past {
            first,
            next: last.saturating_add(1),
            since: Some(oldest.since),
            bytes: bytes_before.saturating_sub(oldest.bytes_before),
            bytes_before,
        };
        self.fleets.insert(fleet, past);
    }

    /// What the fleets themselves say of how long their runs are kept.
    pub fn set_rules(&mut self, own_rules: HashMap<FleetId, Retention>) {
        self.own_rules = own_rules;
    }

    /// A run has ended and nobody has to be told any more.
    pub fn enter(&mut self, run: &RunRecord, now: Timestamp) -> Change {
        let past = self.fleets.entry(run.fleet_id).or_default();
        let entry = HistoryEntry {
            run: run.id,
            since: now,
            bytes: run.kept_bytes(),
            bytes_before: past.bytes_before,
        };
        if past.is_empty() {
            past.since = Some(now);
        }
        let number = past.next;
        past.next += 1;
        past.bytes = past.bytes.saturating_add(entry.bytes);
        past.bytes_before = past.bytes_before.saturating_add(entry.bytes);
        Change::PutHistory { fleet: run.fleet_id, number, entry }
    }

    /// Whether what has entered last may have changed when something falls due.
    pub fn is_news(&self, fleet: FleetId) -> bool {
        self.fleets
            .get(&fleet)
            .is_some_and(|past| past.len() == 1 || self.rule(fleet).has_excess(past))
    }

    /// How long until something is due; zero when something is.
    pub fn next_due(&self, now: Timestamp) -> Option<Duration> {
        self.fleets.iter().filter_map(|(fleet, past)| self.rule(*fleet).wait(past, now)).min()
    }

    /// A fleet of which something is due.
    pub fn due_fleet(&self, now: Timestamp) -> Option<FleetId> {
        let is_due = |fleet, past| self.rule(fleet).wait(past, now) == Some(Duration::ZERO);
        self.fleets.iter().find(|(fleet, past)| is_due(**fleet, past)).map(|(fleet, _)| *fleet)
    }

    /// Takes what is due out of `found`, the oldest entries of `fleet` as they are stored. The runs
    /// are there no more once the changes are durable.
    pub fn take_due(
        &mut self,
        fleet: FleetId,
        found: &[(u64, HistoryEntry)],
        now: Timestamp,
    ) -> Vec<Change> {
        let rule = self.rule(fleet);
        let Some(past) = self.fleets.get_mut(&fleet) else { return Vec::new() };
        let mut changes = Vec::new();
        past.since = None;
        for (number, entry) in found {
            // Entries that cannot be read leave gaps.
            past.first = *number;
            past.since = Some(entry.since);
            if rule.has_excess(past) || rule.is_over(entry.since, now) {
                changes.push(Change::RemoveHistory { fleet, number: *number });
                changes.push(Change::BeginRemoval { run: entry.run, fleet });
                past.first = number + 1;
                past.since = None;
                past.bytes = past.bytes.saturating_sub(entry.bytes);
            } else {
                break;
            }
        }
        if past.is_empty() || found.is_empty() {
            self.fleets.remove(&fleet);
        }
        changes
    }

    /// How much there is.
    pub fn size(&self) -> HistorySize {
        self.fleets.values().fold(HistorySize::default(), |size, past| HistorySize {
            runs: size.runs + past.len(),
            bytes: size.bytes.saturating_add(past.bytes),
        })
    }

    fn rule(&self, fleet: FleetId) -> Retention {
        self.own_rules.get(&fleet).copied().unwrap_or(self.rule)
    }
}

/// The first entries in a row, of `history`, that have a time after `now`: with `now` as their time.
/// They come from a clock that was ahead, and nothing is kept until the clock has caught up with them.
pub fn set_right(
    history: impl Iterator<Item = (u64, HistoryEntry)>,
    now: Timestamp,
) -> impl Iterator<Item = (u64, HistoryEntry)> {
    let is_ahead = move |entry: &HistoryEntry| entry.since > now;
    let ahead = history.skip_while(move |(_, entry)| !is_ahead(entry));
    let ahead = ahead.take_while(move |(_, entry)| is_ahead(entry));
    ahead.map(move |(number, entry)| (number, HistoryEntry { since: now, ..entry }))
}

impl Past {
    fn len(&self) -> u64 {
        self.next - self.first
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Retention {
    /// Whether there are more entries than it keeps.
    fn has_excess(self, past: &Past) -> bool {
        self.count().is_some_and(|count| past.len() > count)
    }

    /// Whether the time of an entry is over.
    fn is_over(self, since: Timestamp, now: Timestamp) -> bool {
        self.age().is_some_and(|age| since.plus(age) <= now)
    }

    /// How long until something is due of `past`.
    fn wait(self, past: &Past, now: Timestamp) -> Option<Duration> {
        if past.is_empty() {
            return None;
        }
        if self.has_excess(past) {
            return Some(Duration::ZERO);
        }
        let age = self.age()?;
        let Some(since) = past.since.filter(|since| *since <= now) else {
            return Some(Duration::ZERO);
        };
        if self.is_over(since, now) {
            return Some(Duration::ZERO);
        }
        // What falls due soon afterwards goes with it.
        let slack = (age / 60).min(SWEEP_SLACK_MAX);
        Some(since.plus(age).plus(slack).since(now))
    }
}

#[cfg(test)]
mod tests;
