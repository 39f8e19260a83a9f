//! What is committed while a backup reads the tables. Reading takes long, and rows change meanwhile:
//! some are read before and some after. Whoever then applies all the changes that were committed
//! since the reading began, in their order, has the database as it is after the last of them.
//!
//! The committer notes each group before it applies it, in a file without a name. It never waits for
//! the receiver of the backup, and a file that cannot be written ends the backup, not the server.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::limits::CHANGE_LOG_BYTES_MAX;
use crate::store::backup::copy::BackupError;

/// Notes changes while somebody records.
#[derive(Debug, Default)]
pub struct ChangeLog(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Recording {
        file: File,
        bytes: u64,
    },
    /// All that was needed is recorded.
    Ended,
    /// It was recording, and cannot go on.
    Failed(BackupError),
}

/// A backup that is being made: there is one at a time, until it is dropped. Records at first.
#[derive(Debug)]
pub struct Recording(Arc<ChangeLog>);

impl ChangeLog {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can be left half done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to record into a file in `directory`. A group that is being committed may be missing.
    ///
    /// # Errors
    /// When somebody records already, or there can be no file.
    pub fn record(self: &Arc<Self>, directory: &Path) -> Result<Recording, BackupError> {
        let mut state = self.state();
        if !matches!(*state, State::Idle) {
            return Err(BackupError::Busy);
        }
        let file = tempfile::tempfile_in(directory).map_err(BackupError::ChangeLog)?;
        *state = State::Recording { file, bytes: 0 };
        Ok(Recording(Arc::clone(self)))
    }

    /// Whether changes are to be noted.
    pub fn is_recording(&self) -> bool {
        matches!(*self.state(), State::Recording { .. })
    }

    /// Notes the `changes` of a group that is about to be applied.
    pub fn note(&self, changes: &[u8]) {
        let mut state = self.state();
        let State::Recording { file, bytes } = &mut *state else { return };
        *bytes += changes.len() as u64;
        if *bytes > CHANGE_LOG_BYTES_MAX {
            *state = State::Failed(BackupError::TooSlow);
        } else if let Err(error) = file.write_all(changes) {
            *state = State::Failed(BackupError::ChangeLog(error));
        }
    }
}

impl Recording {
    /// Whether all was noted so far.
    ///
    /// # Errors
    /// When it was not, and why.
    pub fn check(&self) -> Result<(), BackupError> {
        let mut state = self.0.state();
        match std::mem::replace(&mut *state, State::Ended) {
            State::Failed(error) => Err(error),
            other => {
                *state = other;
                Ok(())
            }
        }
    }

    /// Records no more. All the groups that were noted, to be read from the beginning; some of them
    /// may not be durable yet.
    ///
    /// # Errors
    /// When not all were.
    pub fn end(&self) -> Result<File, BackupError> {
        match std::mem::replace(&mut *self.0.state(), State::Ended) {
            State::Recording { mut file, .. } => {
                file.rewind().map_err(BackupError::ChangeLog)?;
                Ok(file)
            }
            State::Failed(error) => Err(error),
            State::Idle | State::Ended => {
                Err(BackupError::ChangeLog(io::ErrorKind::NotFound.into()))
            }
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        *self.0.state() = State::Idle;
    }
}
