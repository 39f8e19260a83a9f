//! Backups: making one beside commits, its file format, and restoring it.
//!
//! sled has no snapshots. [`copy`] reads the rows while they change, and the committer notes its
//! changes in the [`change_log`]. The rows with all noted changes applied in their order are the
//! database as it is after the last of them.

pub(super) mod change_log;
mod copy;
mod error;
pub mod format;
pub mod restore;

pub use change_log::Recording;
pub use error::BackupError;
