//! Copying all rows while others go on to change them. See [`change_log`](crate::store::backup::change_log) for why the copy
//! is nevertheless the database as it was at one moment.

use std::io::{self, BufReader, Write};

use crate::model::ids::RunId;
use crate::model::limits::{BACKUP_FRAME_BYTES, BACKUP_ROWS_PER_CHECK};
use crate::model::size::format_size;
use crate::store::backup::change_log::Recording;
use crate::store::backup::format::{self, RowChange, read_change};
use crate::store::{Storage, StorageError};

/// Why a backup is not made. Those but [`Receiver`](Self::Receiver) are for a person.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("a backup is being made already; try again when it is done")]
    Busy,
    #[error("what is committed meanwhile cannot be kept beside the database: {0}")]
    ChangeLog(io::Error),
    #[error(
        "more than {} were committed while its receiver took the rest; make it where it is taken faster, or when less is going on",
        format_size(crate::model::limits::CHANGE_LOG_BYTES_MAX)
    )]
    TooSlow,
    #[error("too little disk space is left on the server to go on with it")]
    DiskFull,
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("an output file cannot be read: {0}")]
    Output(io::Error),
    #[error("nobody takes it: {0}")]
    Receiver(io::Error),
}

impl Storage {
    /// Begins a backup: from now on, changes are recorded.
    ///
    /// # Errors
    /// When one is being made already, or changes cannot be recorded.
    pub fn begin_backup(&self) -> Result<Recording, BackupError> {
        self.committer.change_log().record(self.directory.path())
    }

    /// Copies all rows to `archive`: what the database holds at some moment before this returns.
    /// All that was durable before `recording` began is in it. Returns the greatest run id that may
    /// be. Every now and then asks whether it `may_go_on`.
    ///
    /// # Errors
    /// When it may not, or rows cannot be read, recorded or written.
    pub fn copy_rows(
        &self,
        recording: &Recording,
        archive: &mut format::Writer<impl Write>,
        may_go_on: &dyn Fn() -> Result<(), BackupError>,
    ) -> Result<Option<RunId>, BackupError> {
        // Half of a group that is not recorded must not be read: those are over now.
        self.committer.send(Vec::new()).wait();
        for (number, row) in (0_u64..).zip(self.database.everything()) {
            let (key, value) = row.map_err(StorageError::Read)?;
            let change = RowChange { key: &key, value: Some(&value) };
            archive.change(change).map_err(BackupError::Receiver)?;
            if number.is_multiple_of(BACKUP_ROWS_PER_CHECK) {
                recording.check()?;
                may_go_on()?;
            }
        }
        let mut change_log = BufReader::with_capacity(BACKUP_FRAME_BYTES, recording.end()?);
        // What was recorded, and may have been read, must be what a crash leaves, too.
        self.committer.send(Vec::new()).wait();
        let last_run = self.last_run()?;
        let mut change = Vec::new();
        while read_change(&mut change_log, &mut change).map_err(BackupError::ChangeLog)? {
            archive.add_change(&change).map_err(BackupError::Receiver)?;
            change.clear();
        }
        Ok(last_run)
    }
}

#[cfg(test)]
mod tests;
