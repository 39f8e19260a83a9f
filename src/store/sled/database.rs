//! sled, made to survive power cuts, by three rules:
//!
//! 1. A commit is acknowledged after `flush` and then `sync_data` on the database file.
//! 2. When a commit begins, all that was written before it is on the disk. A commit may open several
//!    segments, and the header of each promises that the log up to the commit's beginning is whole.
//! 3. Outside a commit at most one segment is written between two syncs. Nothing reads between a
//!    commit that has opened a segment and its sync.
//!
//! `apply_batch` on the one tree is atomic. Beside the tables, the tree holds the rows of
//! [`compaction`](crate::store::sled::compaction).

use std::fs::File;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use sled::{Batch, Db, IVec, Tree};

use crate::os::fatal;
use crate::store::sled::backpressure::Backpressure;
use crate::store::sled::compaction::{Compaction, NO_TABLE};
use crate::store::sled::{SEGMENT_BYTES, files};
use crate::store::tables::Table;
use crate::store::{StorageError, keys};

/// The open database.
pub struct Database {
    sled: Db,
    /// A second handle on sled's log, for `sync_data`.
    file: File,
    /// Readers share it. A commit holds it alone from the sync of rule 2 until the batch is applied, and
    /// until it is durable when it has opened a segment.
    access: RwLock<()>,
    /// The log's offset up to which it is on the disk.
    synced: AtomicI64,
    upkeep: Mutex<Upkeep>,
}

/// Keeps sled's file small.
struct Upkeep {
    compaction: Compaction,
    backpressure: Backpressure,
}

/// Rows in the order of their keys.
pub struct Rows<'a> {
    database: &'a Database,
    rows: sled::Iter,
    /// Bytes that are left out at the beginning of each key: the table's byte, or none.
    prefix: usize,
}

impl Database {
    /// Opens the database in `data_dir`, and makes one when there is none.
    ///
    /// # Errors
    /// When a file cannot be made, opened or synced.
    pub fn open(data_dir: &Path) -> Result<Self, StorageError> {
        let (sled, file) = files::open(data_dir)?;
        let written = sled.context.pagecache.log.stable_offset();
        let upkeep = Upkeep {
            compaction: Compaction::new(written),
            backpressure: Backpressure::new(written),
        };
        let synced = AtomicI64::new(written);
        Ok(Self { sled, file, access: RwLock::new(()), synced, upkeep: Mutex::new(upkeep) })
    }

    /// A tree of schema 1, for its migration.
    pub fn tree(&self, name: &str) -> sled::Result<Tree> {
        self.sled.open_tree(name)
    }

    /// Drops a tree of schema 1.
    pub fn drop_tree(&self, name: &str) -> sled::Result<()> {
        self.sled.drop_tree(name).map(drop)
    }

    /// The row at `key`.
    pub fn get(&self, table: Table, key: &[u8]) -> sled::Result<Option<IVec>> {
        let key = keys::of_table(table, key);
        self.read(|| self.sled.get(key))
    }

    /// The rows from `start` on and before `end`, or to the end of the table.
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

    /// Every row of every table, by its full key. Rows that change meanwhile are read before or after.
    pub fn everything(&self) -> Rows<'_> {
        Rows { database: self, rows: self.sled.range(..[NO_TABLE]), prefix: 0 }
    }

    /// Bytes of the disk that the database takes up; `None` when the system does not tell.
    pub fn bytes(&self) -> Option<u64> {
        self.file.metadata().ok().map(|file| file.blocks().saturating_mul(512))
    }

    /// Applies a batch as a whole and makes it durable. Without a batch it still syncs the disk.
    ///
    /// # Errors
    /// When sled or the file system fails; the state of the disk is unknown then.
    pub fn commit(&self, batch: impl Into<Option<Batch>>) -> Result<(), String> {
        let batch = batch.into().map(|batch| self.with_compaction(batch)).unwrap_or_default();
        // Rule 2: readers are out from this sync until the batch is in the log.
        let exclusive = self.access.write().unwrap_or_else(PoisonError::into_inner);
        self.sync()?;
        self.sled.apply_batch(batch).map_err(|error| error.to_string())?;
        self.sled.flush().map_err(|error| error.to_string())?;
        // Rule 3: readers wait for the sync only when the commit has opened a segment.
        let _exclusive = self.has_opened_segment().then_some(exclusive);
        // Rule 1.
        self.sync()
    }

    /// `batch` with the rows of compaction, after the delay that backpressure asks for.
    fn with_compaction(&self, mut batch: Batch) -> Batch {
        let mut upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.written();
        upkeep.backpressure.delay(written);
        let (keys, value) = upkeep.compaction.rows(written);
        for key in keys {
            batch.insert(&key, &[value]);
        }
        batch
    }

    /// Runs one step of reading, then syncs if rule 3 asks for it.
    fn read<T>(&self, step: impl FnOnce() -> T) -> T {
        let result = {
            let _shared = self.access.read().unwrap_or_else(PoisonError::into_inner);
            step()
        };
        if self.has_opened_segment() {
            let _exclusive = self.access.write().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = self.sync() {
                fatal::stop(&format!("the database cannot be written: {error}"));
            }
        }
        result
    }

    /// Whether the log has moved into a segment that is not on the disk.
    fn has_opened_segment(&self) -> bool {
        let segment = |offset: i64| offset / SEGMENT_BYTES as i64;
        segment(self.written()) > segment(self.synced.load(Ordering::Acquire))
    }

    /// The log's offset up to which sled has handed it to the kernel.
    fn written(&self) -> i64 {
        self.sled.context.pagecache.log.stable_offset()
    }

    /// Makes all that has been written durable.
    fn sync(&self) -> Result<(), String> {
        self.sled.flush().map_err(|error| error.to_string())?;
        let written = self.written();
        if written > self.synced.load(Ordering::Acquire) {
            self.file.sync_data().map_err(|error| error.to_string())?;
            // A reader and a commit may sync at once; the greater offset holds.
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

    impl Database {
        /// A new database and its directory.
        pub fn in_scratch() -> (Self, tempfile::TempDir) {
            let scratch = tempfile::tempdir().unwrap();
            (Self::open(scratch.path()).unwrap(), scratch)
        }
    }

    /// Runs in all: an hour and a half at ten runs per second.
    const LIVES: u64 = 60_000;
    /// Runs that are kept, except during the surge.
    const KEPT: usize = 1_500;
    const SURGE: std::ops::Range<u64> = 2_000..6_000;
    /// One body in so many is large: its chunks, and the chunks per commit.
    const LARGE_ONE_IN: u64 = 100;
    const LARGE_CHUNKS: u32 = 100;
    const SLICE_CHUNKS: usize = 64;
    const VESSELS: u32 = 2;
    /// Runs that arrive before a run makes its next step.
    const LAG: u64 = 4;
    /// Runs that are removed at a time, and rows per commit of their removal.
    const SWEPT: usize = 32;
    const SWEPT_ROWS: usize = 128;

    /// The rows of runs that are accepted, executed and removed.
    struct Churn<'a> {
        database: &'a Database,
        kept: VecDeque<u64>,
    }

    impl Churn<'_> {
        fn commit(&self, rows: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
            let mut batch = Batch::default();
            for (key, value) in rows {
                match value {
                    Some(value) => batch.insert(key, value),
                    None => batch.remove(key),
                }
            }
            self.database.commit(batch).unwrap();
        }

        fn accept(&self, life: u64) {
            let row = |number| (key(Table::Payloads, life, number), Some(vec![1; 4096]));
            let (mut rows, small) = match chunks(life) {
                1 => (Vec::new(), Some((key(Table::Payloads, life, 0), Some(vec![1; 250])))),
                chunks => ((0..chunks).map(row).collect(), None),
            };
            while rows.len() > SLICE_CHUNKS {
                let rest = rows.split_off(SLICE_CHUNKS);
                self.commit(std::mem::replace(&mut rows, rest));
            }
            rows.extend(small);
            rows.push((key(Table::Runs, life, 0), Some(vec![1; 70])));
            rows.push((key(Table::RunsByFleet, life, 0), Some(Vec::new())));
            rows.push((key(Table::Queue, life, 0), Some(vec![1; 45])));
            self.commit(rows);
        }

        fn claim(&self, life: u64, vessel: u32) {
            self.commit(vec![
                (key(Table::Runs, life, 0), Some(vec![2; 80])),
                (key(Table::Queue, life, 0), Some(vec![2; 45])),
                (key(Table::VesselRuns, life, vessel), Some(vec![2; 60])),
            ]);
        }

        fn settle(&mut self, life: u64, vessel: u32) {
            let mut rows = vec![
                (key(Table::Runs, life, 0), Some(vec![3; 90])),
                (key(Table::VesselRuns, life, vessel), Some(vec![3; 75])),
            ];
            if vessel + 1 == VESSELS {
                rows.push((key(Table::Queue, life, 0), None));
                rows.push((key(Table::History, life, 0), Some(vec![3; 140])));
                self.kept.push_back(life);
            }
            self.commit(rows);
        }

        fn sweep(&mut self) {
            let gone: Vec<u64> = self.kept.drain(..SWEPT).collect();
            let mut rows = Vec::new();
            for &life in &gone {
                for table in [Table::Runs, Table::RunsByFleet, Table::History] {
                    rows.push((key(table, life, 0), None));
                }
                rows.push((key(Table::Removals, life, 0), Some(Vec::new())));
            }
            for life in gone {
                let vessels = (0..VESSELS).map(|vessel| key(Table::VesselRuns, life, vessel));
                let chunks = (0..chunks(life)).map(|chunk| key(Table::Payloads, life, chunk));
                let mark = key(Table::Removals, life, 0);
                rows.extend(vessels.chain(chunks).chain([mark]).map(|key| (key, None)));
            }
            while !rows.is_empty() {
                let rest = rows.split_off(rows.len().min(SWEPT_ROWS));
                self.commit(std::mem::replace(&mut rows, rest));
            }
        }
    }

    /// Numbers that look random and are the same each time.
    fn scattered(life: u64) -> u64 {
        life.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
    }

    fn chunks(life: u64) -> u32 {
        if scattered(life).is_multiple_of(LARGE_ONE_IN) { LARGE_CHUNKS } else { 1 }
    }

    /// Keys as runs have them: run ids begin with their time, keys of tables by fleet with one of five
    /// fleets.
    fn key(table: Table, life: u64, number: u32) -> Vec<u8> {
        let run = u128::from(1_700_000_000_000 + 14 * life) << 80 | u128::from(scattered(life));
        let fleet = [(scattered(life) % 5) as u8; 16];
        let key = match table {
            Table::Queue => life.to_be_bytes().to_vec(),
            Table::History => [&fleet[..], &life.to_be_bytes()].concat(),
            Table::RunsByFleet => [&fleet[..], &run.to_be_bytes()].concat(),
            _ => [&run.to_be_bytes()[..], &number.to_be_bytes()].concat(),
        };
        keys::of_table(table, &key)
    }

    /// After a surge, as many runs are removed as arrive. By hand:
    /// `cargo test --release --lib file_of_a_busy_server -- --ignored --nocapture`. A week at ten runs
    /// per second is `BOATHOOK_CHURN_LIVES=6048000`, best with TMPDIR in memory.
    #[test]
    #[ignore = "takes half a minute"]
    fn the_file_of_a_busy_server_does_not_grow() {
        let lives = std::env::var("BOATHOOK_CHURN_LIVES").ok().and_then(|text| text.parse().ok());
        let lives: u64 = lives.unwrap_or(LIVES);
        let (database, _scratch) = Database::in_scratch();
        let mut churn = Churn { database: &database, kept: VecDeque::new() };
        let mut sizes = Vec::new();
        for life in 0..lives {
            churn.accept(life);
            for vessel in 0..VESSELS {
                let lag = LAG * u64::from(vessel + 1);
                if let Some(life) = life.checked_sub(lag) {
                    churn.claim(life, vessel);
                }
                if let Some(life) = life.checked_sub(lag + LAG) {
                    churn.settle(life, vessel);
                }
            }
            while churn.kept.len() > KEPT + SWEPT && !SURGE.contains(&life) {
                churn.sweep();
            }
            if life.is_multiple_of(lives / 20) {
                sizes.push(database.file.metadata().unwrap().len());
            }
        }
        println!("file in MiB: {:?}", sizes.iter().map(|size| size >> 20).collect::<Vec<_>>());
        let quarter = sizes.len() / 4;
        let most = |sizes: &[u64]| sizes.iter().copied().max().unwrap();
        let (second, last) = (most(&sizes[quarter..2 * quarter]), most(&sizes[3 * quarter..]));
        assert!(last <= second + second / 5, "from {second} to {last} bytes");
    }
}
