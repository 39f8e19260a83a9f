//! The finished runs of every fleet: their number, their bytes, and which of them are kept no longer. A
//! state machine that takes the time as an argument; the entries are in the database.
//!
//! A run enters the history when its end is recorded and its notifications are settled. Entries are
//! numbered in that order and leave from the oldest on. So the first and the last entry tell how many
//! there are and, by the sums in them, their bytes.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::model::change::{Change, HistoryEntry};
use crate::model::clock::Timestamp;
use crate::model::ids::FleetId;
use crate::model::retention::Retention;
use crate::model::run::RunRecord;

/// A run may outlive its age by this much, so that runs that fall due within a minute go together.
const SWEEP_SLACK_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct History {
    /// The rule of fleets without one of their own, and of deleted fleets.
    rule: Retention,
    own_rules: HashMap<FleetId, Retention>,
    /// Fleets with entries.
    fleets: BTreeMap<FleetId, Past>,
}

/// The entries of one fleet.
#[derive(Debug, Default)]
struct Past {
    /// The number of the oldest entry.
    first: u64,
    /// The number of the next one.
    next: u64,
    /// When the oldest entry was made; `None` until the sweeper has read it.
    since: Option<Timestamp>,
    bytes: u64,
    /// The `bytes_before` of the next entry.
    bytes_before: u64,
}

/// Number and bytes of finished runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistorySize {
    pub runs: u64,
    /// Bytes of payloads and output.
    pub bytes: u64,
}

impl History {
    pub fn new(rule: Retention) -> Self {
        Self { rule, own_rules: HashMap::new(), fleets: BTreeMap::new() }
    }

    /// Reloads the history of a fleet from its oldest and its latest entry.
    pub fn reload(
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

    /// Sets the rules of fleets that have their own.
    pub fn set_rules(&mut self, own_rules: HashMap<FleetId, Retention>) {
        self.own_rules = own_rules;
    }

    /// Enters a finished run without undelivered notifications.
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

    /// Whether the latest entry may have changed the next due time.
    pub fn is_news(&self, fleet: FleetId) -> bool {
        self.fleets
            .get(&fleet)
            .is_some_and(|past| past.len() == 1 || self.rule(fleet).has_excess(past))
    }

    /// The time until a run is due; zero if one is.
    pub fn next_due(&self, now: Timestamp) -> Option<Duration> {
        self.fleets.iter().filter_map(|(fleet, past)| self.rule(*fleet).wait(past, now)).min()
    }

    /// A fleet with a due run.
    pub fn due_fleet(&self, now: Timestamp) -> Option<FleetId> {
        let is_due = |fleet, past| self.rule(fleet).wait(past, now) == Some(Duration::ZERO);
        self.fleets.iter().find(|(fleet, past)| is_due(**fleet, past)).map(|(fleet, _)| *fleet)
    }

    /// Takes the due runs out of `found`, the oldest stored entries of `fleet`. The runs are gone when
    /// the changes are durable.
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
            // Unreadable entries leave gaps.
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

    /// Number and bytes of all finished runs.
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
    /// Whether there are more entries than the rule keeps.
    fn has_excess(self, past: &Past) -> bool {
        self.count().is_some_and(|count| past.len() > count)
    }

    /// Whether the age of an entry is over.
    fn is_over(self, since: Timestamp, now: Timestamp) -> bool {
        self.age().is_some_and(|age| since.plus(age) <= now)
    }

    /// The time until a run of `past` is due.
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
        // Runs that fall due soon afterwards are removed with it.
        let slack = (age / 60).min(SWEEP_SLACK_MAX);
        Some(since.plus(age).plus(slack).since(now))
    }
}

#[cfg(test)]
mod tests;
