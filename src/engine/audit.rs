//! Keeps the audit: a ring of entries for each class, a year long at most. The answer to a request waits
//! until its entry is durable, so what was acknowledged is in the audit.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::engine::Engine;
use crate::model::audit::{AuditClass, AuditEntry};
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::RequestId;

/// Entries of each class: one every ten minutes for a year, and some 15 MB.
const ENTRIES_MAX: usize = 50_000;
/// How long an entry is kept.
const AGE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Old entries that make room for one new one, so that the ring shrinks again after a long idle time.
const REMOVED_AT_ONCE: usize = 16;
/// Entries that are read to fill one page of a filtered list, as for runs.
const SCANNED_MAX: usize = 50_000;

/// The state of the two rings.
#[derive(Default)]
pub(super) struct Audit(Mutex<[Ring; 2]>);

#[derive(Default)]
struct Ring {
    /// `None`: not counted since the start.
    count: Option<usize>,
    /// The last entry that was removed. Its removal may be on its way to the disk.
    removed: Option<RequestId>,
}

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Those of the token of this name.
    pub by: Option<String>,
    /// Done at this time or later.
    pub since: Option<Timestamp>,
    /// Before the entry of this id.
    pub before: Option<RequestId>,
    pub limit: usize,
}

/// One page of the audit, the latest first.
#[derive(Clone, Debug, Default)]
pub struct AuditPage {
    pub entries: Vec<AuditEntry>,
    /// The `before` of the next page, if there may be one.
    pub next_before: Option<RequestId>,
}

impl Engine {
    /// Adds an entry, and waits until it is durable.
    pub fn audit(&self, entry: AuditEntry) {
        let class = entry.class;
        let oldest_kept = self.clock.now().minus(AGE_MAX);
        let mut rings = self.audit.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = &mut rings[class as usize];
        let stored = || self.store.audit_after(class, None).count();
        let count = ring.count.unwrap_or_else(stored) + 1;
        let oldest = self.store.audit_after(class, ring.removed);
        let gone = making_room(oldest, count, oldest_kept);
        ring.count = Some(count - gone.len());
        ring.removed = gone.last().copied().or(ring.removed);
        let mut changes = vec![Change::PutAudit(entry)];
        changes.extend(gone.into_iter().map(|id| Change::RemoveAudit { class, id }));
        // The lock keeps the commits in the order of the decisions.
        let commit = self.store.commit(changes);
        drop(rings);
        commit.wait();
    }

    /// The entries that `filter` matches, the latest first.
    pub fn audited(&self, filter: &AuditFilter) -> AuditPage {
        let oldest_kept = self.clock.now().minus(AGE_MAX);
        let since = filter.since.map_or(oldest_kept, |since| since.max(oldest_kept));
        let first = RequestId::first_at(since);
        let [changes, operations] =
            AuditClass::ALL.map(|class| self.store.audit_before(class, filter.before).peekable());
        let (mut changes, mut operations) = (changes, operations);
        let entries = std::iter::from_fn(|| match (changes.peek(), operations.peek()) {
            (Some(change), Some(operation)) if change.id < operation.id => operations.next(),
            (Some(_), _) => changes.next(),
            (None, _) => operations.next(),
        });
        let mut page = AuditPage::default();
        let mut last = None;
        for (scanned, entry) in entries.take_while(|entry| entry.id >= first).enumerate() {
            if page.entries.len() == filter.limit || scanned == SCANNED_MAX {
                page.next_before = last;
                break;
            }
            last = Some(entry.id);
            if filter.by.as_ref().is_none_or(|by| *by == entry.by) {
                page.entries.push(entry);
            }
        }
        self.store.confirm();
        page
    }
}

/// The entries of a ring of `count` that make room: the oldest ones, which are too many, or from before
/// `oldest_kept`.
fn making_room(
    oldest: impl Iterator<Item = RequestId>,
    count: usize,
    oldest_kept: Timestamp,
) -> Vec<RequestId> {
    let surplus = count.saturating_sub(ENTRIES_MAX);
    let is_due = |(index, id): &(usize, RequestId)| *index < surplus || id.time() < oldest_kept;
    oldest.take(REMOVED_AT_ONCE).enumerate().take_while(is_due).map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_make_room_when_there_are_too_many_or_they_are_too_old() {
        let at = |seconds: i64| Timestamp::from_millis((1_700_000_000 + seconds) * 1000);
        let ids: Vec<RequestId> = (0..100).map(|second| RequestId::arriving(at(second))).collect();
        let removed = |count, oldest_kept| {
            let gone = making_room(ids.iter().copied(), count, oldest_kept);
            assert_eq!(gone, ids[..gone.len()]);
            gone.len()
        };
        assert_eq!(removed(100, at(0)), 0);
        assert_eq!(removed(100, at(3)), 3);
        assert_eq!(removed(ENTRIES_MAX, at(0)), 0);
        assert_eq!(removed(ENTRIES_MAX + 1, at(0)), 1);
        assert_eq!(removed(ENTRIES_MAX + 2, at(1)), 2);
        assert_eq!(removed(ENTRIES_MAX + 2, at(5)), 5);
        assert_eq!(removed(ENTRIES_MAX + 50, at(99)), REMOVED_AT_ONCE);
    }
}
