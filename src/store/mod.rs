//! Everything durable, and the only room that knows sled. One thread writes ([`commit`]), any thread
//! reads ([`read`]). Rows are small and versioned ([`codec`]). Payloads, outputs and definitions are
//! cut into chunks of one row each ([`chunks`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::model::change::Change;

mod audit;
mod backlog;
pub mod backup;
mod chunks;
mod codec;
mod commit;
mod commit_queue;
mod data_dir;
mod deliveries;
mod events;
pub mod faults;
mod free_space;
mod history;
mod keys;
mod migrate;
mod read;
mod sled;
mod statistics;
mod tables;
mod verify;

pub use self::sled::DATABASE_CACHE_BYTES;
pub use chunks::ChunkReader;
pub use commit::{CommitInstruments, PendingCommit};
pub use data_dir::{
    DataDirectory, DirectoryError, OUTPUT_DIRECTORY, SCHEMA, is_data_directory_in_use,
};
pub use free_space::{DISK_BYTES_PER_BYTE, FreeSpace};
pub use verify::{VerifyCallbacks, VerifyProgress, VerifyReport, verify_directory};

use self::sled::database::Database;
use self::sled::files;
use codec::CodecError;
use commit::Committer;
use faults::{Faults, NoFaults};

/// The open database.
pub struct Store {
    database: Arc<Database>,
    committer: Committer,
    /// Holds the lock on the data directory.
    directory: DataDirectory,
}

/// Why the database does not open, or cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("the database in {path} does not open: {}", explain(.error))]
    Open { path: PathBuf, error: ::sled::Error },
    #[error("{action} {path}: {source}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the database cannot be read: {}", explain(.0))]
    Read(::sled::Error),
    #[error(
        "a row of `{table}` is damaged: {reason}; restore a backup, or move it away to start anew"
    )]
    Damaged { table: &'static str, reason: String },
    #[error(
        "the database cannot be brought to the present schema: {0}; start again to go on with it"
    )]
    Migrate(String),
    #[error("the rows of a backup cannot be written: {0}")]
    Restore(String),
    #[error("{path} has too little free disk space for it")]
    NoRoom { path: PathBuf },
}

impl From<::sled::Error> for StorageError {
    fn from(error: ::sled::Error) -> Self {
        Self::Read(error)
    }
}

impl StorageError {
    /// Turns an error of the file system into one that says what failed at `path`.
    fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { action, path: path.clone(), source }
    }
}

/// The text of an error for a person. sled reports a wrong checksum as corruption.
fn explain(error: &::sled::Error) -> String {
    match error {
        ::sled::Error::Corruption { .. } => {
            "its file is damaged; look at the disk (dmesg, smartctl), then restore a backup".into()
        }
        error => error.to_string(),
    }
}

fn damaged(table: &'static str, error: &CodecError) -> StorageError {
    StorageError::Damaged { table, reason: error.to_string() }
}

/// Why a data directory cannot be served from.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Store(#[from] StorageError),
}

/// Opens the data directory and its database, and starts the committer.
///
/// # Errors
/// When the directory cannot be used (see [`DirectoryError`]) or the database does not open.
pub fn open(data_dir: &Path) -> Result<(Store, JoinHandle<()>), OpenError> {
    let directory = DataDirectory::open(data_dir)?;
    Ok(Store::open_with(directory, Box::new(NoFaults))?)
}

impl Store {
    /// Opens the database in `directory`, makes one when there is none, and starts the committer,
    /// which runs until the process ends. `faults` may disturb each commit.
    ///
    /// # Errors
    /// When files cannot be opened, locked or synced.
    pub fn open_with(
        directory: DataDirectory,
        faults: Box<dyn Faults>,
    ) -> Result<(Self, JoinHandle<()>), StorageError> {
        let database = Database::open(directory.path())?;
        files::sync_and_make_private(directory.path())?;
        if let Some(older) = directory.older_schema() {
            migrate::migrate(&database, older)?;
            directory.record_schema()?;
        }
        let database = Arc::new(database);
        let (committer, thread) = Committer::start(Arc::clone(&database), faults)
            .map_err(StorageError::file("cannot start the committer for", directory.path()))?;
        Ok((Self { database, committer, directory }, thread))
    }

    /// The directory of output files.
    pub fn output_dir(&self) -> PathBuf {
        self.directory.path().join(OUTPUT_DIRECTORY)
    }

    /// Hands `changes` to the committer as an urgent commit. See [`Committer::send`] on order.
    pub fn commit(&self, changes: Vec<Change>) -> PendingCommit {
        self.committer.send(changes)
    }

    /// Hands `changes` to the committer as a delayed commit. See [`Committer::send_delayed`].
    pub fn commit_delayed(&self, changes: Vec<Change>) -> PendingCommit {
        self.committer.send_delayed(changes)
    }

    /// Hands `changes` to the committer beside other `senders`. See [`Committer::send_among`].
    pub fn commit_among(&self, senders: usize, changes: Vec<Change>) -> PendingCommit {
        self.committer.send_among(senders, changes)
    }

    /// Whether an empty commit is durable `within` this time.
    pub fn commits(&self, within: Duration) -> bool {
        self.committer.commits(within)
    }

    /// The measurements of the committer.
    pub fn commit_instruments(&self) -> &CommitInstruments {
        self.committer.instruments()
    }

    /// A watch over the free space where the database is. See [`FreeSpace::new`].
    pub fn watch_space(&self, floor_bytes: u64, promised: Arc<AtomicU64>) -> FreeSpace {
        FreeSpace::new(self.directory.path().to_owned(), floor_bytes, promised)
    }

    /// Returns once all rows that can be read now are durable. See [`Committer::confirm`].
    pub fn confirm(&self) {
        self.committer.confirm();
    }

    /// Whether the commit under way takes no suspiciously long time.
    pub fn is_responsive(&self) -> bool {
        self.committer.is_responsive()
    }

    /// Bytes of the disk that the database takes up; `None` when the system does not tell.
    pub fn bytes(&self) -> Option<u64> {
        self.database.bytes()
    }
}
