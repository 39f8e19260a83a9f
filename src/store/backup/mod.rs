//! Backups: the file format, the rows and changes that go into it, and the way back into a data
//! directory. A backup holds the rows as they are read and then the changes that the committer made
//! meanwhile: sled has no snapshots.

pub mod change_log;
pub mod copy;
pub mod format;
pub mod restore;
pub mod restore_rows;
