//! A pass over all rows of events: removes those whose window is over or whose fleet is gone, and fills
//! a new filter with the others.

use super::*;

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Judgement {
    Stays,
    Goes,
    /// A clock that was ahead has written it: it would be remembered for too long.
    IsAhead,
}

impl Events {
    /// Begins a pass. Rows that were decided before this mark have to be readable before the first read.
    pub fn begin_pass(&mut self) -> ReadMark {
        self.is_pass_due = false;
        let entries = self.filter.as_ref().map_or(0, Filter::entries);
        self.next_filter = Some(Filter::for_entries(entries));
        ReadMark { writes: self.writes, awaits_commit: true }
    }

    /// The moment before the read of some rows.
    pub fn begin_read(&self) -> ReadMark {
        self.mark(&[])
    }

    /// Judges rows that were read after `mark`. Returns the changes that remove the rows that go.
    pub fn sweep(
        &mut self,
        rows: Vec<(EventKey, EventEntry)>,
        mark: ReadMark,
        has_fleet: impl Fn(FleetId) -> bool,
        now: Timestamp,
    ) -> Vec<Change> {
        self.note_read(mark);
        let seen = self.readable.min(mark.writes);
        // All of them first: a row that is written below says nothing of those that were read.
        let judge =
            |(key, row): &(EventKey, EventEntry)| self.judge(key, row, seen, &has_fleet, now);
        let judgements: Vec<Judgement> = rows.iter().map(judge).collect();
        let mut changes = Vec::new();
        for ((key, row), judgement) in rows.into_iter().zip(judgements) {
            match judgement {
                Judgement::Stays => {}
                Judgement::Goes => {
                    changes.push(Change::RemoveEvent(key));
                    continue;
                }
                Judgement::IsAhead => {
                    let row = EventEntry { since: now, ..row };
                    changes.push(self.put(key, row));
                }
            }
            if let Some(filter) = &mut self.next_filter {
                filter.insert(key.digest);
            }
        }
        changes
    }

    /// The read has seen the first `seen` writes for certain. A row that was written later may be
    /// another one than was read.
    fn judge(
        &self,
        key: &EventKey,
        row: &EventEntry,
        seen: u64,
        has_fleet: &impl Fn(FleetId) -> bool,
        now: Timestamp,
    ) -> Judgement {
        if self.open.contains_key(key) || self.has_written(&[*key], seen) {
            return Judgement::Stays;
        }
        let window = Duration::from_secs(row.window_seconds);
        if !has_fleet(key.fleet) || !row.is_within(window, now) {
            return Judgement::Goes;
        }
        if row.since > now.plus(CLOCK_STEP_MAX) { Judgement::IsAhead } else { Judgement::Stays }
    }

    /// Ends a pass that has seen every row.
    pub fn end_pass(&mut self) {
        if let Some(filter) = self.next_filter.take() {
            self.is_pass_due |= filter.is_crowded();
            self.filter = Some(filter);
        }
    }
}
