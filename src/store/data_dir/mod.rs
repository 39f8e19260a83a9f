//! The data directory: its lock, its schema, and its private files.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::model::variable::SECRETS_DIRECTORY;
use crate::os::{lock_file, private_file};
use crate::store::StorageError;
use crate::store::sled::files::DATABASE_DIRECTORY;

mod restore_mark;

/// The schema that this program reads and writes. A file beside the database holds it, so that this
/// program leaves a database of another schema untouched.
pub const SCHEMA: u32 = 5;
const SCHEMA_FILE: &str = "schema";
/// How long to wait for a lock that an ending process still holds.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Pause between two attempts to take a lock.
pub(super) const LOCK_POLL: Duration = Duration::from_millis(50);
const LOCK_FILE: &str = "boathook.lock";
/// Entries that a directory may have before its first start, beside hidden ones such as `.ssh` of the
/// server's user: the lock, the settings, the secrets and the directory of a file system's root.
const ALWAYS_ALLOWED: [&str; 4] = [LOCK_FILE, "boathook.toml", SECRETS_DIRECTORY, "lost+found"];
/// Holds output files: output that is too long for the database.
pub const OUTPUT_DIRECTORY: &str = "output";
/// The mark of a restore: see [`restore_mark`].
const RESTORE_FILE: &str = "restore";

/// Why a directory cannot be used as a data directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("{action} {path}: {source}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the data directory {path} is in use by process {holder}; stop that server first, or choose another directory with --data-dir"
    )]
    InUse { path: PathBuf, holder: String },
    #[error(
        "the data directory {path} has schema {found}, this program knows up to {SCHEMA}: it was written by a newer version; use that version, or another directory with --data-dir"
    )]
    NewerSchema { path: PathBuf, found: u32 },
    #[error(
        "{path} is neither empty nor a data directory of Boathook (it has no file `schema`); it is left as it is, choose another with --data-dir"
    )]
    NotOurs { path: PathBuf },
    #[error(
        "the data directory {path} has schema {found}, and this program writes {SCHEMA}: the next start of the server brings it up to date"
    )]
    OlderSchema { path: PathBuf, found: u32 },
    #[error("{path} has no database yet: start a server on it, or name another with --data-dir")]
    Empty { path: PathBuf },
    #[error(
        "a restore into {path} has not come to its end; run `boathook restore` again, which begins anew"
    )]
    UnfinishedRestore { path: PathBuf },
    #[error(
        "{path} is not empty: a backup is restored into a new data directory, and never over another one; choose it with --data-dir"
    )]
    Occupied { path: PathBuf },
    #[error(
        "{path} holds {content:?} where the number of a schema should be; restore it from a backup"
    )]
    UnreadableSchema { path: PathBuf, content: String },
}

impl DirectoryError {
    /// Turns an error of the file system into one that says what failed at `path`.
    fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { action, path: path.clone(), source }
    }
}

/// A data directory that this process has locked.
pub struct DataDirectory {
    path: PathBuf,
    /// The schema of its database: the present one, or one to migrate from.
    schema: u32,
    /// Holds the lock while it is open.
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory when it is missing, locks it and checks its schema. Leaves a directory in
    /// use or of a newer schema untouched.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        recognise(path)?;
        make_private_directory(path)?;
        let lock = lock(path)?;
        // Another process may have restored into it while this one waited for the lock.
        recognise(path)?;
        let schema = check_schema(path)?;
        Ok(Self { path: path.to_owned(), schema, _lock: lock })
    }

    /// Locks a directory that has a database of the present schema. Makes nothing.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub(super) fn open_existing(path: &Path) -> Result<Self, DirectoryError> {
        recognise(path)?;
        if !path.join(DATABASE_DIRECTORY).is_dir() || !path.join(SCHEMA_FILE).is_file() {
            return Err(DirectoryError::Empty { path: path.to_owned() });
        }
        let lock = lock(path)?;
        match check_schema(path)? {
            SCHEMA => Ok(Self { path: path.to_owned(), schema: SCHEMA, _lock: lock }),
            found => Err(DirectoryError::OlderSchema { path: path.to_owned(), found }),
        }
    }

    /// The schema of the database if it is an older one.
    pub(super) fn older_schema(&self) -> Option<u32> {
        (self.schema < SCHEMA).then_some(self.schema)
    }

    /// Records durably that the database has the present schema.
    pub(super) fn record_schema(&self) -> Result<(), StorageError> {
        let path = self.path.join(SCHEMA_FILE);
        private_file::write(&path, format!("{SCHEMA}\n").as_bytes())
            .map_err(StorageError::file("cannot write", &path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Checks that `path` is missing, empty or a data directory that this program can serve from, and
/// changes nothing. A directory that an operator names by mistake stays as it is.
fn recognise(path: &Path) -> Result<(), DirectoryError> {
    if path.join(RESTORE_FILE).exists() {
        return Err(DirectoryError::UnfinishedRestore { path: path.to_owned() });
    }
    if path.join(SCHEMA_FILE).is_file() {
        return check_schema(path).map(drop);
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DirectoryError::file("cannot read", path)(error)),
    };
    if entries.flatten().any(|entry| is_foreign(&entry)) {
        return Err(DirectoryError::NotOurs { path: path.to_owned() });
    }
    Ok(())
}

/// Whether an entry of a directory comes neither from an operator's preparation nor from an
/// interrupted start or restore.
fn is_foreign(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    let may_be_there = ALWAYS_ALLOWED.contains(&&*name)
        || name.starts_with('.')
        || [SCHEMA_FILE, RESTORE_FILE].iter().any(|prefix| name.starts_with(prefix));
    !may_be_there
}

/// Makes `path`, with mode 0700, and its parents when they are missing, and syncs each new entry.
///
/// # Errors
/// When a directory cannot be made, or something else is in its place.
fn make_private_directory(path: &Path) -> Result<(), DirectoryError> {
    let failed = |action| DirectoryError::file(action, path);
    let was_there = path.is_dir();
    if !was_there {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(failed("cannot make the directory above"))?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("cannot make the directory")(error));
            }
            _ => {}
        }
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))
        .map_err(failed("cannot make private"))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match File::open(parent).and_then(|parent| parent.sync_all()) {
        // An administrator made the directory within one that the server's user may not read.
        Err(error) if was_there && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(failed("cannot sync the directory above")),
    }
}

/// Whether a process holds the lock of the data directory; `None` when the lock cannot be read. Takes
/// the lock for a moment; a server that starts meanwhile tries again.
pub fn is_data_directory_in_use(directory: &Path) -> Option<bool> {
    let file = File::open(directory.join(LOCK_FILE)).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Some(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Some(true),
        Err(_) => None,
    }
}

/// Locks the directory. Waits up to [`LOCK_WAIT`] for a server that is ending.
fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK_FILE);
    let locked = lock_file::lock(&path, LOCK_WAIT);
    let locked = locked.map_err(DirectoryError::file("cannot lock", &path))?;
    locked.map_err(|holder| DirectoryError::InUse { path: directory.to_owned(), holder })
}

/// The schema of the database in `directory`; a directory without one gets the present one.
fn check_schema(directory: &Path) -> Result<u32, DirectoryError> {
    let path = directory.join(SCHEMA_FILE);
    let content = match fs::read_to_string(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return private_file::write(&path, format!("{SCHEMA}\n").as_bytes())
                .map(|()| SCHEMA)
                .map_err(DirectoryError::file("cannot write", &path));
        }
        Err(error) => return Err(DirectoryError::file("cannot read", &path)(error)),
    };
    match content.trim().parse::<u32>() {
        Ok(found @ 1..=SCHEMA) => Ok(found),
        Ok(found) if found > SCHEMA => {
            Err(DirectoryError::NewerSchema { path: directory.to_owned(), found })
        }
        _ => Err(DirectoryError::UnreadableSchema { path, content }),
    }
}
