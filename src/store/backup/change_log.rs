//! The changes that are committed while a backup reads the tables, in a file without a name. The
//! committer notes each group before it applies the group. It never waits for the receiver of the
//! backup. A file that cannot be written ends the backup, not the server.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::backup::error::BackupError;

/// Bytes of the changes during one backup: many minutes of all that one machine accepts. A slower
/// receiver loses its backup.
const CHANGE_LOG_BYTES_MAX: u64 = 4 << 30;

/// Notes changes during a backup.
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
    /// The backup has taken the file.
    Ended,
    /// A change was not noted.
    Failed(BackupError),
}

/// The change log of a backup under way. There is one at a time, until it is dropped.
#[derive(Debug)]
pub struct Recording(Arc<ChangeLog>);

impl ChangeLog {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to record into a file in `directory`. A group whose commit is under way may be missing.
    ///
    /// # Errors
    /// When another recording exists, or the file cannot be made.
    pub fn record(self: &Arc<Self>, directory: &Path) -> Result<Recording, BackupError> {
        let mut state = self.state();
        if !matches!(*state, State::Idle) {
            return Err(BackupError::Busy);
        }
        let file = tempfile::tempfile_in(directory).map_err(BackupError::ChangeLog)?;
        *state = State::Recording { file, bytes: 0 };
        Ok(Recording(Arc::clone(self)))
    }

    /// Whether the committer has to note changes.
    pub fn is_recording(&self) -> bool {
        matches!(*self.state(), State::Recording { .. })
    }

    /// Notes the `changes` of a group that is about to be applied.
    pub fn note(&self, changes: &[u8]) {
        let mut state = self.state();
        let State::Recording { file, bytes } = &mut *state else { return };
        *bytes += changes.len() as u64;
        if *bytes > CHANGE_LOG_BYTES_MAX {
            *state = State::Failed(BackupError::TooSlow { bytes_max: CHANGE_LOG_BYTES_MAX });
        } else if let Err(error) = file.write_all(changes) {
            *state = State::Failed(BackupError::ChangeLog(error));
        }
    }
}

impl Recording {
    /// Checks that every change so far was noted.
    ///
    /// # Errors
    /// When a change was not noted.
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

    /// Ends the recording and returns the noted changes, to be read from the beginning. The last of
    /// them may not be durable yet.
    ///
    /// # Errors
    /// When a change was not noted.
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
