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
//! without the reads (hence writes) that a transaction across trees makes before it begins. Beside
//! them are the rows of [`compaction`](crate::store::sled::compaction), which mean nothing.

use std::fs::File;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use sled::{Batch, Db, IVec};

use crate::model::limits::DATABASE_SEGMENT_BYTES;
use crate::os::fatal;
use crate::store::keys;
use crate::store::sled::backpressure::Backpressure;
use crate::store::sled::compaction::{Compaction, NO_TABLE};
use crate::store::tables::Table;

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
    tidying: Mutex<Tidying>,
}

/// What keeps sled's file small.
struct Tidying {
    compaction: Compaction,
    backpressure: Backpressure,
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
        let written = synced.load(Ordering::Relaxed);
        let (compaction, backpressure) = (Compaction::new(written), Backpressure::new(written));
        let tidying = Mutex::new(Tidying { compaction, backpressure });
        Self { sled, file, gate: RwLock::new(()), synced, tidying }
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
        Rows { database: self, rows: self.sled.range(..[NO_TABLE]), prefix: 0 }
    }

    /// Bytes of the disk that the database takes up; `None` when the system does not tell.
    pub fn bytes(&self) -> Option<u64> {
        self.file.metadata().ok().map(|file| file.blocks().saturating_mul(512))
    }

    /// Applies a batch as a whole and makes it durable. With none, the disk has to prove itself all
    /// the same.
    ///
    /// # Errors
    /// When sled or the file system fails; what the disk holds is unknown then.
    pub fn commit(&self, batch: impl Into<Option<Batch>>) -> Result<(), String> {
        let batch = batch.into().map(|batch| self.tidied(batch)).unwrap_or_default();
        let exclusive = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.sync()?;
        self.sled.apply_batch(batch).map_err(|error| error.to_string())?;
        self.sled.flush().map_err(|error| error.to_string())?;
        // Readers wait for the sync only when the commit has opened a segment: they must not open
        // another one while that is not on the disk.
        let _exclusive = self.has_opened_segment().then_some(exclusive);
        self.sync()
    }

    /// `batch`, with what sled needs to tidy up, when it is not too far behind with that.
    fn tidied(&self, mut batch: Batch) -> Batch {
        let mut tidying = self.tidying.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.written();
        tidying.backpressure.keep_up(written);
        let (keys, value) = tidying.compaction.rows(written);
        for key in keys {
            batch.insert(&key, &[value]);
        }
        batch
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
    use crate::store::DataDirectory;

    impl Database {
        /// A new one, and the directory that it lies in.
        pub fn in_scratch() -> (Self, tempfile::TempDir) {
            let scratch = tempfile::tempdir().unwrap();
            let directory = DataDirectory::open(scratch.path()).unwrap();
            let sled = directory.open_database().unwrap();
            (Self::new(sled, directory.open_database_file().unwrap()), scratch)
        }
    }

    /// Lives in all, and those that are kept; for a while far more are.
    /// An hour and a half at ten runs per second.
    const LIVES: u64 = 60_000;
    const KEPT: usize = 1_500;
    const SURGE: std::ops::Range<u64> = 2_000..6_000;
    /// One body in so many is of so many chunks, each commit of which brings this many.
    const LARGE_ONE_IN: u64 = 100;
    const LARGE_CHUNKS: u32 = 100;
    const SLICE_CHUNKS: usize = 64;
    const VESSELS: u32 = 2;
    /// Runs that are begun before one gets on.
    const LAG: u64 = 4;
    /// Runs that are removed at a time, and rows of them.
    const SWEPT: usize = 32;
    const SWEPT_ROWS: usize = 128;

    /// Runs that come, get on and go, as far as a database sees of them.
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

    /// Numbers as if by chance, the same each time.
    fn scattered(life: u64) -> u64 {
        life.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
    }

    fn chunks(life: u64) -> u32 {
        if scattered(life).is_multiple_of(LARGE_ONE_IN) { LARGE_CHUNKS } else { 1 }
    }

    /// Keys as runs have them: their ids begin with their time, those of tables by fleet with one of
    /// five fleets.
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

    /// How the file fares when as much goes as comes, after a time when more came. By hand:
    /// `cargo test --release --lib file_of_a_busy_server -- --ignored --nocapture`. A week at ten runs
    /// per second is `BOATHOOK_CHURN_LIVES=6048000`, best with TMPDIR in memory.
    #[test]
    #[ignore = "takes half a minute"]
    fn the_file_of_a_busy_server_stays_as_it_is() {
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
