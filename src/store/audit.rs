//! Reads the rows of the audit.

use crate::model::audit::{AuditClass, AuditEntry};
use crate::model::ids::RequestId;
use crate::store::read::{or_stop, readable};
use crate::store::tables::Table;
use crate::store::{Store, keys};

impl Store {
    /// Entries of a class before the id `before`, the latest first.
    pub fn audit_before(
        &self,
        class: AuditClass,
        before: Option<RequestId>,
    ) -> impl Iterator<Item = AuditEntry> + '_ {
        let end = match before {
            Some(id) => keys::audit(class, id),
            None => keys::after(&[class as u8]),
        };
        let rows = self.database.range(Table::Audit, &[class as u8], Some(&end));
        rows.rev()
            .map_while(|row| or_stop(row.map(Some)))
            .filter_map(|(_, row)| readable("audit", &row))
    }

    /// The ids of the entries of a class after the id `after`, the oldest first.
    pub fn audit_after(
        &self,
        class: AuditClass,
        after: Option<RequestId>,
    ) -> impl Iterator<Item = RequestId> + '_ {
        let start = match after {
            // No key is longer, so this is the first key behind.
            Some(id) => [keys::audit(class, id).as_slice(), &[0]].concat(),
            None => vec![class as u8],
        };
        let rows = self.database.range(Table::Audit, &start, Some(&keys::after(&[class as u8])));
        rows.map_while(|row| or_stop(row.map(Some)))
            .filter_map(|(key, _)| RequestId::from_slice(key.get(1..)?))
    }
}
