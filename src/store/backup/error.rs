//! Why a backup is not made.

use std::io;

use crate::model::size::format_size;
use crate::store::StorageError;

/// Why a backup is not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("a backup is being made already; try again when it is done")]
    Busy,
    #[error("the changes of other commits cannot be kept beside the database: {0}")]
    ChangeLog(io::Error),
    #[error(
        "other commits changed more than {} while its receiver took the rest; make it where it is taken faster, or when less is going on",
        format_size(*.bytes_max)
    )]
    TooSlow { bytes_max: u64 },
    #[error("too little disk space is left on the server to go on with it")]
    DiskFull,
    #[error(transparent)]
    Store(#[from] StorageError),
    #[error("an output file cannot be read: {0}")]
    Output(io::Error),
    #[error("its receiver does not take it: {0}")]
    Receiver(io::Error),
}
