//! Making a database of the rows in a backup, in a directory that has none. Until all of it is on
//! the disk, a mark in the directory keeps servers from it.

use std::path::Path;

use sled::Batch;

use crate::model::change::ServerRecord;
use crate::model::limits::{RESTORE_FREE_BYTES_MIN, SLICE_BYTES};
use crate::store::backup::format::RowChange;
use crate::store::data_dir::DataDirectory;
use crate::store::sled::database::Database;
use crate::store::tables::{META_SERVER, Table};
use crate::store::{OpenError, StorageError, codec, free_space, keys};

/// A database that is being restored.
pub struct Restoration {
    directory: DataDirectory,
    database: Database,
    /// What is not committed yet.
    batch: Batch,
    batch_bytes: usize,
}

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoredRows {
    pub fleets: u64,
    pub webhooks: u64,
    pub runs: u64,
    /// Of those, the ones that had not ended.
    pub unfinished: u64,
}

impl Restoration {
    /// Begins in the directory at `path`, which is made when it is missing.
    ///
    /// # Errors
    /// When there is anything in it but what an earlier attempt left, or it cannot be written.
    pub fn begin(path: &Path) -> Result<Self, OpenError> {
        let directory = DataDirectory::open_for_restore(path)?;
        let sled = directory.open_database()?;
        let file = directory.open_database_file()?;
        let database = Database::new(sled, file);
        Ok(Self { directory, database, batch: Batch::default(), batch_bytes: 0 })
    }

    /// Changes a row.
    ///
    /// # Errors
    /// When it cannot be written, or the disk is nearly full.
    pub fn change(&mut self, change: RowChange<'_>) -> Result<(), StorageError> {
        let RowChange { key, value } = change;
        self.batch_bytes += key.len() + value.map_or(0, <[u8]>::len);
        match value {
            Some(value) => self.batch.insert(key, value),
            None => self.batch.remove(key),
        }
        if self.batch_bytes >= SLICE_BYTES { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        // A disk that is full can hang the database for ever: see `space`.
        let path = self.directory.path();
        let file = |source| StorageError::File {
            action: "cannot look at the free space of",
            path: path.to_owned(),
            source,
        };
        if !free_space::has_room(path, RESTORE_FREE_BYTES_MIN).map_err(file)? {
            return Err(StorageError::NoRoom { path: path.to_owned() });
        }
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.database.commit(batch).map_err(StorageError::Restore)
    }

    /// Ends it: the database, whose rows are of `schema`, is a server's from now on. `server` is
    /// what that finds.
    ///
    /// # Errors
    /// When something cannot be written or read back.
    pub fn finish(
        mut self,
        server: &ServerRecord,
        schema: u32,
    ) -> Result<RestoredRows, StorageError> {
        let row = codec::encode(server).map_err(|error| crate::store::damaged("meta", &error))?;
        let key = keys::of_table(Table::Meta, META_SERVER);
        self.change(RowChange { key: &key, value: Some(&row) })?;
        self.commit()?;
        let restored = RestoredRows {
            fleets: self.count(Table::Fleets)?,
            webhooks: self.count(Table::Webhooks)?,
            runs: self.count(Table::Runs)?,
            unfinished: self.count(Table::Queue)?,
        };
        let Self { directory, database, .. } = self;
        drop(database);
        directory.end_restore(schema)?;
        Ok(restored)
    }

    fn count(&self, table: Table) -> Result<u64, StorageError> {
        let mut rows = self.database.all(table);
        Ok(rows.try_fold(0, |count, row| row.map(|_| count + 1))?)
    }

    /// Removes what was restored so far: the directory is as empty as it was.
    ///
    /// # Errors
    /// When something cannot be removed. The mark stays then.
    pub fn undo(self) -> Result<(), StorageError> {
        let Self { directory, database, .. } = self;
        drop(database);
        directory.undo_restore().map_err(|source| StorageError::File {
            action: "cannot clean",
            path: directory.path().to_owned(),
            source,
        })
    }
}
