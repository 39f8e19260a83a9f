//! Lets a simulation disturb commits. A server has [`NoFaults`].

use crate::model::change::Change;

/// Disturbs commits. An error ends the process, as an error of the disk does.
pub trait Faults: Send {
    /// Whether each request gets a commit of its own. How many share one depends on the threads' pace.
    fn is_alone(&self) -> bool {
        false
    }

    /// Called before `changes` are written. May change them.
    ///
    /// # Errors
    /// When the disk is to refuse them. None of them is written.
    fn before_write(&mut self, _changes: &mut Vec<Change>) -> Result<(), String> {
        Ok(())
    }

    /// Called when changes are durable, before the waiting threads learn of it.
    ///
    /// # Errors
    /// When the sync is to fail all the same. The changes stay on the disk.
    fn after_sync(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Disturbs nothing.
#[derive(Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}
