//! sled, made to survive power cuts. It hands its log to the kernel and leaves it there, so that a
//! disk may keep a later write and lose an earlier one. Three rules make up for that:
//!
//! 1. Nothing is acknowledged before `flush` and then `sync_data` on the database file.
//! 2. When a commit begins, all that was written before it is on the disk. A commit may fill
//!    several segments of the log. The header of each promises that the log up to the commit's
//!    beginning is whole, and sled believes it: where that is not so, nothing since the last start
//!    is recovered. Reading writes too, since sled splits and merges nodes whenever it passes them,
//!    and so does its background flusher, which is therefore switched off.
//! 3. No more than a segment is written between two syncs outside a commit, for the same reason; and
//!    nobody reads between a commit that has opened one and its sync.
//!
//! All tables share one tree, each behind a byte of its own: `apply_batch` of one tree is atomic
//! without the reads (hence writes) that a transaction across trees makes before it begins.

use std::fs::File;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};

use sled::{Batch, Db, IVec};

use crate::fatal;
use crate::limits::DATABASE_SEGMENT_BYTES;
use crate::storage::keys;
use crate::storage::tables::Table;

/// See the module.
pub struct Database {
    sled: Db,
    /// A handle of our own on sled's file, for the sync that sled leaves out.
    file: File,
    /// Shared by those who read, exclusive from the check of rule 2 until the commit is applied, or
    /// durable when it has opened a segment.
    gate: RwLock<()>,
    /// The place in the log up to which it is on the disk.
    synced: AtomicI64,
}

/// Rows of one table, by key without the table's byte; or of all, by key with it.
pub struct Rows<'a> {
    database: &'a Database,
    rows: sled::Iter,
    /// Bytes of the table at the beginning of keys, which are left out.
    prefix: usize,
}

impl Database {
    /// Takes over a database all of which is on the disk.
    pub fn new(sled: Db, file: File) -> Self {
        let synced = AtomicI64::new(sled.context.pagecache.log.stable_offset());
        Self { sled, file, gate: RwLock::new(()), synced }
    }

    /// The row at `key`.
    pub fn get(&self, table: Table, key: &[u8]) -> sled::Result<Option<IVec>> {
        let key = keys::of_table(table, key);
        self.read(|| self.sled.get(key))
    }

    /// The rows from `start` on, up to but without `end`, or to the end of the table.
    pub fn range(&self, table: Table, start: &[u8], end: Option<&[u8]>) -> Rows<'_> {
        let start = keys::of_table(table, start);
        let end = end.map_or_else(|| keys::end_of_table(table), |end| keys::of_table(table, end));
        let range = (Bound::Included(start), Bound::Excluded(end));
        Rows { database: self, rows: self.sled.range::<Vec<u8>, _>(range), prefix: 1 }
    }

    /// The rows whose keys begin with `prefix`.
    pub fn prefixed(&self, table: Table, prefix: &[u8]) -> Rows<'_> {
        let rows = self.sled.scan_prefix(keys::of_table(table, prefix));
        Rows { database: self, rows, prefix: 1 }
    }

    /// Every row of the table.
    pub fn all(&self, table: Table) -> Rows<'_> {
        self.prefixed(table, &[])
    }

    /// Every row there is, by its key in the database. Not as of one moment, if some change.
    pub fn everything(&self) -> Rows<'_> {
        Rows { database: self, rows: self.sled.iter(), prefix: 0 }
    }

    /// Bytes of the disk that the database takes up; `None` when the system does not tell.
    pub fn bytes(&self) -> Option<u64> {
        self.file.metadata().ok().map(|file| file.blocks().saturating_mul(512))
    }

    /// Applies `batch` as a whole and makes it durable.
    ///
    /// # Errors
    /// When sled or the file system fails; what the disk holds is unknown then.
    pub fn commit(&self, batch: Batch) -> Result<(), String> {
        let exclusive = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.sync()?;
        self.sled.apply_batch(batch).map_err(|error| error.to_string())?;
        self.sled.flush().map_err(|error| error.to_string())?;
        // Readers wait for the sync only when the commit has opened a segment: they must not open
        // another one while that is not on the disk.
        let _exclusive = self.has_opened_segment().then_some(exclusive);
        self.sync()
    }

    /// Runs one step of reading, then sees to rule 3.
    fn read<T>(&self, step: impl FnOnce() -> T) -> T {
        let result = {
            let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            step()
        };
        if self.has_opened_segment() {
            let _exclusive = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = self.sync() {
                fatal::stop(&format!("the database cannot be written: {error}"));
            }
        }
        result
    }

    /// Whether the log has moved into a segment that is not on the disk.
    fn has_opened_segment(&self) -> bool {
        let segment = |place: i64| place / DATABASE_SEGMENT_BYTES as i64;
        segment(self.written()) > segment(self.synced.load(Ordering::Acquire))
    }

    /// The place in the log up to which it has been handed to the kernel.
    fn written(&self) -> i64 {
        self.sled.context.pagecache.log.stable_offset()
    }

    /// Makes all that has been written durable, if anything is not yet.
    fn sync(&self) -> Result<(), String> {
        self.sled.flush().map_err(|error| error.to_string())?;
        let written = self.written();
        if written > self.synced.load(Ordering::Acquire) {
            self.file.sync_data().map_err(|error| error.to_string())?;
            // Commits and readers may sync at once: only what is greater tells more.
            self.synced.fetch_max(written, Ordering::AcqRel);
        }
        Ok(())
    }
}

impl Rows<'_> {
    fn step(
        &mut self,
        next: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(IVec, IVec)>>,
    ) -> Option<sled::Result<(IVec, IVec)>> {
        let row = self.database.read(|| next(&mut self.rows))?;
        Some(row.map(|(key, row)| (key.subslice(self.prefix, key.len() - self.prefix), row)))
    }
}

impl Iterator for Rows<'_> {
    type Item = sled::Result<(IVec, IVec)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(sled::Iter::next)
    }
}

impl DoubleEndedIterator for Rows<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(sled::Iter::next_back)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::storage::DataDirectory;

    /// Rows as a run of one vessel writes them, and as it leaves them: their tables, and the bytes of
    /// their values as they change.
    const LIFE: [(Table, &[usize]); 5] = [
        (Table::Runs, &[70, 80, 90]),
        (Table::RunsByFleet, &[0]),
        (Table::Payloads, &[600]),
        (Table::VesselRuns, &[60, 75]),
        (Table::Queue, &[45, 45]),
    ];
    /// Runs whose commits go together, runs that are kept, and runs in all.
    const GROUP: u64 = 10;
    const KEPT: usize = 10_000;
    const LIVES: u64 = 200_000;

    /// How the file fares when as much goes as comes: sled moves what lives in a segment that is
    /// half empty whenever it rewrites a node, so that it needs no flusher for this. By hand:
    /// `cargo test --release --lib file_of_a_busy_server -- --ignored --nocapture`
    #[test]
    #[ignore = "takes half a minute, and a disk"]
    fn the_file_of_a_busy_server_stays_as_it_is() {
        let scratch = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let directory = DataDirectory::open(scratch.path()).unwrap();
        let sled = directory.open_database().unwrap();
        let database = Database::new(sled, directory.open_database_file().unwrap());
        let key = |table, life: u64| {
            // Ids begin with their time: ten runs a second.
            let run = u128::from(1_700_000_000_000 + 100 * life) << 80 | u128::from(life);
            keys::of_table(table, &run.to_be_bytes())
        };
        let (mut kept, mut sizes) = (VecDeque::new(), Vec::new());
        for group in 0..LIVES / GROUP {
            let lives = group * GROUP..(group + 1) * GROUP;
            for step in 0..3 {
                let mut batch = Batch::default();
                for life in lives.clone() {
                    for (table, values) in LIFE {
                        match values.get(step) {
                            Some(length) => {
                                batch.insert(key(table, life), vec![step as u8; *length])
                            }
                            None if table == Table::Queue => batch.remove(key(table, life)),
                            None => {}
                        }
                    }
                }
                database.commit(batch).unwrap();
            }
            kept.extend(lives);
            let mut batch = Batch::default();
            while kept.len() > KEPT
                && let Some(life) = kept.pop_front()
            {
                for (table, _) in LIFE {
                    batch.remove(key(table, life));
                }
            }
            database.commit(batch).unwrap();
            if (group * GROUP).is_multiple_of(LIVES / 20) {
                sizes.push(database.file.metadata().unwrap().len());
            }
        }
        println!("file in MB: {:?}", sizes.iter().map(|size| size >> 20).collect::<Vec<_>>());
        let settled = &sizes[sizes.len() / 4..];
        let (least, most) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
        assert!(*most <= least + least / 5, "from {least} to {most} bytes");
    }
}
