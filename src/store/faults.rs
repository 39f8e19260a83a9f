//! Where a simulation comes between the committer and the disk. A server has [`NoFaults`].

use crate::model::change::Change;

/// Decides what becomes of commits. An error ends the process, as one of the disk does.
pub trait Faults: Send {
    /// `changes` are about to be written, and are written as this leaves them.
    ///
    /// # Errors
    /// When the disk is to refuse them: nothing of them is there afterwards.
    fn before_write(&mut self, _changes: &mut Vec<Change>) -> Result<(), String> {
        Ok(())
    }

    /// What was written is durable, and nobody has been told.
    ///
    /// # Errors
    /// When the sync is to have failed all the same: what is on the disk stays there.
    fn after_sync(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A disk that does what it can.
#[derive(Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}
