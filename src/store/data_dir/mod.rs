//! The data directory: who holds it, which schema it has, and that its files are private and on
//! the disk before anything is promised.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::model::limits::{DATABASE_CACHE_BYTES, DATABASE_SEGMENT_BYTES, LOCK_WAIT};
use crate::store::StorageError;

mod restore_mark;

/// The schema this program reads and writes. A file beside the database tells it, so that a
/// database of another schema is left untouched.
pub const SCHEMA: u32 = 4;
const SCHEMA_FILE: &str = "schema";
/// How often a lock that another process holds is tried again.
const LOCK_POLL: Duration = Duration::from_millis(50);
const LOCK_FILE: &str = "boathook.lock";
/// What may be in a directory before its first start: the settings, what file systems put into their
/// root and, all of it hidden, what makes it the home of the server's user (`.ssh`, `.gitconfig`).
const ALWAYS_ALLOWED: [&str; 3] = [LOCK_FILE, "boathook.toml", "lost+found"];
const DATABASE_DIRECTORY: &str = "db";
/// Where it is until it is whole.
const UNFINISHED_DATABASE: &str = "db.new";
/// Where output is that is too long for the database.
pub const OUTPUT_DIRECTORY: &str = "output";
/// There while a backup is being restored: see [`restore_mark`].
const RESTORE_FILE: &str = "restore";

/// Why a directory cannot be a data directory.
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

/// A data directory that is ours alone.
pub struct DataDirectory {
    path: PathBuf,
    /// What the database in it has: the present one, or one to migrate from.
    schema: u32,
    /// Locked until it is closed.
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory when it is missing, locks it and checks its schema. A directory that is
    /// in use or of a newer schema is left as it is.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        recognise(path)?;
        make_private_directory(path)?;
        let lock = lock(path)?;
        // A restore may have begun in it, and be over, while the lock was waited for.
        recognise(path)?;
        let schema = check_schema(path)?;
        Ok(Self { path: path.to_owned(), schema, _lock: lock })
    }

    /// Takes over a directory that has a database of the present schema, and leaves everything else
    /// as it is.
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

    /// The schema of the database, when it is an older one.
    pub(super) fn older_schema(&self) -> Option<u32> {
        (self.schema < SCHEMA).then_some(self.schema)
    }

    /// Records, durably, that the database has the present schema.
    pub(super) fn record_schema(&self) -> Result<(), StorageError> {
        let path = self.path.join(SCHEMA_FILE);
        write_private_file(&path, &format!("{SCHEMA}\n")).map_err(|source| StorageError::File {
            action: "cannot write",
            path,
            source,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn database_path(&self) -> PathBuf {
        self.path.join(DATABASE_DIRECTORY)
    }

    /// Creates the database beside its place and moves it there once all of it is on the disk: one
    /// that a power cut left half made would never open again.
    fn create_database(&self) -> Result<(), StorageError> {
        let (unfinished, path) = (self.path.join(UNFINISHED_DATABASE), self.database_path());
        if path.exists() {
            return Ok(());
        }
        let failed = |source| StorageError::File {
            action: "cannot create",
            path: unfinished.clone(),
            source,
        };
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(failed)?;
        }
        let database = open_sled(&unfinished)?;
        database.flush()?;
        drop(database);
        sync_entries(&unfinished).map_err(failed)?;
        File::open(&unfinished).and_then(|it| it.sync_all()).map_err(failed)?;
        fs::rename(&unfinished, &path).map_err(failed)?;
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(failed)
    }

    pub(super) fn open_database(&self) -> Result<sled::Db, StorageError> {
        self.create_database()?;
        let path = self.database_path();
        remove_unfinished_snapshots(&path).map_err(|source| StorageError::File {
            action: "cannot clean",
            path: path.clone(),
            source,
        })?;
        // A server that was killed may have left writes in the kernel's cache alone. sled is about to
        // write a snapshot that rests on them, and a power cut must not take the one without the other.
        let log = path.join("db");
        File::open(&log).and_then(|log| log.sync_all()).map_err(|source| StorageError::File {
            action: "cannot sync",
            path: log.clone(),
            source,
        })?;
        open_sled(&path)
    }

    /// A handle of our own on the database's file, for the sync that sled leaves out. sled locks
    /// the file with flock, which a second handle does not mind.
    pub(super) fn open_database_file(&self) -> Result<File, StorageError> {
        let path = self.database_path().join("db");
        File::open(&path).map_err(|source| StorageError::File {
            action: "cannot open",
            path,
            source,
        })
    }

    /// Syncs what sled never does (its `conf`, the directories) and makes its files private.
    pub(super) fn sync_database(&self) -> Result<(), StorageError> {
        let database = self.database_path();
        for path in [database.join("db"), database.join("conf"), database, self.path.clone()] {
            let private = if path.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(&path, Permissions::from_mode(private))
                .and_then(|()| File::open(&path)?.sync_all())
                .map_err(|source| StorageError::File { action: "cannot sync", path, source })?;
        }
        // Rows are kept too small for this; if it happens all the same, power cuts are not survived.
        let blobs = self.database_path().join("blobs");
        if fs::read_dir(&blobs).is_ok_and(|mut entries| entries.next().is_some()) {
            log::error!(path:% = blobs.display(); "the database has blob files, which are never synced; please report this");
        }
        Ok(())
    }
}

/// Checks, before anything is touched, that `path` is missing, empty or a data directory that this
/// program can serve from. Whoever names another directory by mistake keeps it as it is.
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
        Err(source) => {
            return Err(DirectoryError::File {
                action: "cannot read",
                path: path.to_owned(),
                source,
            });
        }
    };
    if entries.flatten().any(|entry| is_foreign(&entry)) {
        return Err(DirectoryError::NotOurs { path: path.to_owned() });
    }
    Ok(())
}

/// Syncs every file in `directory`, but not the directory itself.
fn sync_entries(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        File::open(entry?.path())?.sync_all()?;
    }
    Ok(())
}

/// Whether an entry of a directory is something else than what a start or a restore that was cut
/// short may have left, or what an operator puts there first.
fn is_foreign(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    let may_be_there = ALWAYS_ALLOWED.contains(&&*name)
        || name.starts_with('.')
        || [SCHEMA_FILE, RESTORE_FILE].iter().any(|prefix| name.starts_with(prefix));
    !may_be_there
}

/// Makes `path`, for us alone, and its parents when they are missing; each new entry is synced.
///
/// # Errors
/// When a directory cannot be made, or something else is in its place.
fn make_private_directory(path: &Path) -> Result<(), DirectoryError> {
    let failed = |action| {
        let path = path.to_owned();
        move |source| DirectoryError::File { action, path, source }
    };
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
        // Who made the directory has seen to its place in one that we may not read.
        Err(error) if was_there && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(failed("cannot sync the directory above")),
    }
}

/// Writes `content` to `path` so that after a crash the file holds either what it held or all of
/// `content`: a temporary file, synced, renamed, and the directory synced. Mode 0600.
///
/// # Errors
/// When any of these steps fails.
pub fn write_private_file(path: &Path, content: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Opens sled at `path`. Its threads may hold on to its lock for a moment after it was closed.
fn open_sled(path: &Path) -> Result<sled::Db, StorageError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let opened = sled::Config::new()
            .path(path)
            .cache_capacity(DATABASE_CACHE_BYTES)
            .segment_size(DATABASE_SEGMENT_BYTES)
            // The flusher writes without syncing: see `database`.
            .flush_every_ms(None)
            .open();
        match opened {
            Ok(database) => return Ok(database),
            Err(sled::Error::Io(error))
                if error.to_string().contains("acquire lock") && Instant::now() < deadline =>
            {
                std::thread::sleep(LOCK_POLL);
            }
            Err(error) => return Err(StorageError::Open { path: path.to_owned(), error }),
        }
    }
}

/// Whether a process holds the lock of the data directory; `None` when the lock cannot be read. This
/// takes the lock for a moment. A server that starts meanwhile tries again.
pub fn is_data_directory_in_use(directory: &Path) -> Option<bool> {
    let file = File::open(directory.join(LOCK_FILE)).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Some(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Some(true),
        Err(_) => None,
    }
}

/// Locks the directory. A server that is just ending gets a moment to let go.
fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK_FILE);
    let failed =
        |source| DirectoryError::File { action: "cannot lock", path: path.clone(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_POLL);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = (&file).take(20).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "unknown".to_owned(),
                    holder => holder.to_owned(),
                };
                return Err(DirectoryError::InUse { path: directory.to_owned(), holder });
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
    // Who holds it is for the message above only; it need not survive anything.
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

/// The schema of the database in `directory`; a directory without one gets the present one.
fn check_schema(directory: &Path) -> Result<u32, DirectoryError> {
    let path = directory.join(SCHEMA_FILE);
    let content = match fs::read_to_string(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return write_private_file(&path, &format!("{SCHEMA}\n"))
                .map(|()| SCHEMA)
                .map_err(|source| DirectoryError::File { action: "cannot write", path, source });
        }
        Err(source) => return Err(DirectoryError::File { action: "cannot read", path, source }),
    };
    match content.trim().parse::<u32>() {
        Ok(found @ 1..=SCHEMA) => Ok(found),
        Ok(found) if found > SCHEMA => {
            Err(DirectoryError::NewerSchema { path: directory.to_owned(), found })
        }
        _ => Err(DirectoryError::UnreadableSchema { path, content }),
    }
}

/// sled may take a snapshot that a kill interrupted for a whole one.
fn remove_unfinished_snapshots(database: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(database) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
