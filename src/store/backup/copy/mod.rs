//! Copies all rows into a backup while commits go on.

use std::io::{BufReader, Write};

use crate::model::ids::RunId;
use crate::store::backup::change_log::Recording;
use crate::store::backup::error::BackupError;
use crate::store::backup::format::{self, FRAME_BYTES, RowChange, read_change};
use crate::store::{StorageError, Store};

/// Rows between two checks whether the backup may go on.
const ROWS_PER_CHECK: u64 = 1024;

impl Store {
    /// Begins a backup: from now on the committer notes its changes.
    ///
    /// # Errors
    /// When another backup is under way, or changes cannot be noted.
    pub fn begin_backup(&self) -> Result<Recording, BackupError> {
        self.committer.change_log().record(self.directory.path())
    }

    /// Copies all rows to `backup`: the database as it is at some moment before this returns, with
    /// all that was durable before `recording` began. Returns the greatest run id that the copy may
    /// hold. Calls `may_go_on` every [`ROWS_PER_CHECK`] rows.
    ///
    /// # Errors
    /// The error of `may_go_on`, or when rows cannot be read, noted or written.
    pub fn copy_rows(
        &self,
        recording: &Recording,
        backup: &mut format::Writer<impl Write>,
        may_go_on: &dyn Fn() -> Result<(), BackupError>,
    ) -> Result<Option<RunId>, BackupError> {
        // A commit under way may have begun before the recording. Wait for its end, so that no row
        // of it is read without the others.
        self.commit(Vec::new()).wait();
        for (number, row) in (0_u64..).zip(self.database.everything()) {
            let (key, value) = row.map_err(StorageError::Read)?;
            let change = RowChange { key: &key, value: Some(&value) };
            backup.change(change).map_err(BackupError::Receiver)?;
            if number.is_multiple_of(ROWS_PER_CHECK) {
                recording.check()?;
                may_go_on()?;
            }
        }
        let mut changes = BufReader::with_capacity(FRAME_BYTES, recording.end()?);
        // A noted change may have been read before it was durable: wait until a crash keeps it.
        self.commit(Vec::new()).wait();
        let last_run = self.last_run()?;
        let mut change = Vec::new();
        while read_change(&mut changes, &mut change).map_err(BackupError::ChangeLog)? {
            backup.add_change(&change).map_err(BackupError::Receiver)?;
            change.clear();
        }
        Ok(last_run)
    }
}

#[cfg(test)]
mod tests;
