//! The files of the database: making, opening and syncing them.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use crate::store::StorageError;
use crate::store::data_dir::{LOCK_POLL, LOCK_WAIT};
use crate::store::sled::{DATABASE_CACHE_BYTES, SEGMENT_BYTES};

/// The database within the data directory.
pub const DATABASE_DIRECTORY: &str = "db";
/// The database until it is complete.
pub const UNFINISHED_DATABASE: &str = "db.new";

/// Opens the database in `data_dir`, and makes one when there is none. Returns sled and a handle on
/// its log. All of the log is on the disk. sled's `flock` does not exclude the second handle.
///
/// # Errors
/// When a file cannot be made, opened or synced.
pub fn open(data_dir: &Path) -> Result<(sled::Db, File), StorageError> {
    create(data_dir)?;
    let path = data_dir.join(DATABASE_DIRECTORY);
    remove_unfinished_snapshots(&path).map_err(StorageError::file("cannot clean", &path))?;
    let log = log_path(data_dir);
    // A killed server may have left writes in the kernel's cache. sled writes a snapshot as it opens.
    let file = File::open(&log).map_err(StorageError::file("cannot open", &log))?;
    file.sync_all().map_err(StorageError::file("cannot sync", &log))?;
    let sled = open_sled(&path)?;
    sled.flush()?;
    file.sync_all().map_err(StorageError::file("cannot sync", &log))?;
    Ok((sled, file))
}

/// Syncs the log, `conf` and the directories, and makes them private.
///
/// # Errors
/// When one of them cannot be changed or synced.
pub fn sync_and_make_private(data_dir: &Path) -> Result<(), StorageError> {
    let database = data_dir.join(DATABASE_DIRECTORY);
    for path in [log_path(data_dir), database.join("conf"), database.clone(), data_dir.to_owned()] {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .and_then(|()| File::open(&path)?.sync_all())
            .map_err(StorageError::file("cannot sync", &path))?;
    }
    let blobs = database.join("blobs");
    if fs::read_dir(&blobs).is_ok_and(|mut entries| entries.next().is_some()) {
        log::error!(path:% = blobs.display(); "the database has blob files, which are never synced; please report this");
    }
    Ok(())
}

/// Syncs every file of the database in `data_dir`.
///
/// # Errors
/// When a file cannot be opened or synced.
pub fn sync_all(data_dir: &Path) -> io::Result<()> {
    sync_entries(&data_dir.join(DATABASE_DIRECTORY))
}

fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join(DATABASE_DIRECTORY).join("db")
}

/// Makes the database when there is none: under another name, which a rename ends once all of it is
/// on the disk.
fn create(data_dir: &Path) -> Result<(), StorageError> {
    let (unfinished, path) =
        (data_dir.join(UNFINISHED_DATABASE), data_dir.join(DATABASE_DIRECTORY));
    if path.exists() {
        return Ok(());
    }
    let failed = StorageError::file("cannot create", &unfinished);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(&failed)?;
    }
    let database = open_sled(&unfinished)?;
    database.flush()?;
    drop(database);
    sync_entries(&unfinished)
        .and_then(|()| File::open(&unfinished)?.sync_all())
        .and_then(|()| fs::rename(&unfinished, &path))
        .and_then(|()| File::open(data_dir)?.sync_all())
        .map_err(failed)
}

/// Opens sled at `path`, again and again while another holder keeps the lock, up to [`LOCK_WAIT`].
fn open_sled(path: &Path) -> Result<sled::Db, StorageError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let opened = sled::Config::new()
            .path(path)
            .cache_capacity(DATABASE_CACHE_BYTES)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None)
            .open();
        match opened {
            Ok(database) => return Ok(database),
            Err(sled::Error::Io(error))
                if error.to_string().contains("acquire lock") && Instant::now() < deadline =>
            {
                thread::sleep(LOCK_POLL);
            }
            Err(error) => return Err(StorageError::Open { path: path.to_owned(), error }),
        }
    }
}

/// Syncs every file in `directory`, but not the directory itself.
fn sync_entries(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        File::open(entry?.path())?.sync_all()?;
    }
    Ok(())
}

/// Removes the snapshots that sled was writing when its process was killed.
fn remove_unfinished_snapshots(database: &Path) -> io::Result<()> {
    for entry in fs::read_dir(database)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
