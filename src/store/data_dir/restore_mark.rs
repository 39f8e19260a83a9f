//! A data directory while a backup is restored into it. A file marks it until the restore is durable.
//! Servers refuse a marked directory, and another restore begins anew.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use super::{
    DataDirectory, DirectoryError, LOCK_FILE, OUTPUT_DIRECTORY, RESTORE_FILE, SCHEMA, SCHEMA_FILE,
    is_foreign, lock, make_private_directory,
};
use crate::os::private_file::{self, absent_is_fine};
use crate::store::StorageError;
use crate::store::sled::files::{self, DATABASE_DIRECTORY, UNFINISHED_DATABASE};

/// Content of the mark, for an administrator.
const MARK: &str = "A backup is being restored into this directory, or was and did not come to its \
                    end.\nRun `boathook restore` again.\n";

impl DataDirectory {
    /// Makes the directory when it is missing, locks it and marks it. Leaves a directory with content
    /// untouched, unless the content is of an interrupted restore.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn open_for_restore(path: &Path) -> Result<Self, DirectoryError> {
        check_vacant(path)?;
        make_private_directory(path)?;
        let lock = lock(path)?;
        // Another process may have restored into it while this one waited for the lock.
        check_vacant(path)?;
        let directory = Self { path: path.to_owned(), schema: SCHEMA, _lock: lock };
        private_file::write(&path.join(RESTORE_FILE), MARK.as_bytes())
            .and_then(|()| directory.remove_content())
            .map_err(DirectoryError::file("cannot write into", path))?;
        Ok(directory)
    }

    /// Makes the restored files durable and removes the mark.
    ///
    /// # Errors
    /// When one of these steps fails; the mark stays then.
    pub(in crate::store) fn end_restore(&self, schema: u32) -> Result<(), StorageError> {
        files::sync_and_make_private(&self.path)?;
        files::sync_all(&self.path)
            .and_then(|()| {
                private_file::write(&self.path.join(SCHEMA_FILE), format!("{schema}\n").as_bytes())
            })
            .and_then(|()| self.give_to_owner())
            .and_then(|()| self.remove_mark())
            .map_err(StorageError::file("cannot complete", &self.path))
    }

    /// Removes the restored files, then the mark.
    ///
    /// # Errors
    /// When a file cannot be removed; the mark stays then.
    pub(in crate::store) fn undo_restore(&self) -> io::Result<()> {
        self.remove_content()?;
        self.remove_mark()
    }

    fn remove_content(&self) -> io::Result<()> {
        for name in [DATABASE_DIRECTORY, UNFINISHED_DATABASE, OUTPUT_DIRECTORY] {
            absent_is_fine(fs::remove_dir_all(self.path.join(name)))?;
        }
        absent_is_fine(fs::remove_file(self.path.join(SCHEMA_FILE)))
    }

    fn remove_mark(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        absent_is_fine(fs::remove_file(self.path.join(RESTORE_FILE)))?;
        File::open(&self.path)?.sync_all()
    }

    /// Gives files that root has restored to the owner of the directory, as whom the server runs.
    fn give_to_owner(&self) -> io::Result<()> {
        let owner = fs::metadata(&self.path)?;
        let (uid, gid) = (owner.uid(), owner.gid());
        if !rustix::process::geteuid().is_root() || uid == 0 {
            return Ok(());
        }
        let names = [DATABASE_DIRECTORY, OUTPUT_DIRECTORY, SCHEMA_FILE, LOCK_FILE];
        let mut paths: Vec<_> = names.iter().map(|name| self.path.join(name)).collect();
        while let Some(path) = paths.pop() {
            let found = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => found?,
            };
            if found.is_dir() {
                for entry in fs::read_dir(&path)? {
                    paths.push(entry?.path());
                }
            }
            lchown(&path, Some(uid), Some(gid))?;
        }
        Ok(())
    }
}

/// Checks that a restore into `path` overwrites nothing.
fn check_vacant(path: &Path) -> Result<(), DirectoryError> {
    if path.join(RESTORE_FILE).exists() {
        return Ok(());
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DirectoryError::file("cannot read", path)(error)),
    };
    let occupies = |entry: fs::DirEntry| entry.file_name() == SCHEMA_FILE || is_foreign(&entry);
    if entries.flatten().any(occupies) {
        return Err(DirectoryError::Occupied { path: path.to_owned() });
    }
    Ok(())
}
