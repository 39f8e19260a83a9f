//! A data directory while a backup is restored into it. A file marks it until all is on the disk: no
//! server opens it meanwhile, and another restore begins anew.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use super::{
    DATABASE_DIRECTORY, DataDirectory, DirectoryError, LOCK_FILE, OUTPUT_DIRECTORY, RESTORE_FILE,
    SCHEMA, SCHEMA_FILE, UNFINISHED_DATABASE, is_foreign, lock, make_private_directory,
    sync_entries, write_private_file,
};
use crate::store::StorageError;

/// What the mark says to whoever looks into it.
const MARK: &str = "A backup is being restored into this directory, or was and did not come to its \
                    end.\nRun `boathook restore` again.\n";

impl DataDirectory {
    /// Makes the directory when it is missing, locks it and marks it. One that has anything in it
    /// is left as it is, unless an earlier restore that did not come to its end has left it.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn open_for_restore(path: &Path) -> Result<Self, DirectoryError> {
        check_vacant(path)?;
        make_private_directory(path)?;
        let lock = lock(path)?;
        // Somebody else may have restored into it meanwhile.
        check_vacant(path)?;
        let directory = Self { path: path.to_owned(), schema: SCHEMA, _lock: lock };
        let failed = |source| DirectoryError::File {
            action: "cannot write into",
            path: path.to_owned(),
            source,
        };
        write_private_file(&path.join(RESTORE_FILE), MARK).map_err(failed)?;
        directory.remove_content().map_err(failed)?;
        Ok(directory)
    }

    /// Makes all that was restored durable and takes the mark away.
    ///
    /// # Errors
    /// When that fails; the mark stays then.
    pub(in crate::store) fn end_restore(&self, schema: u32) -> Result<(), StorageError> {
        let failed = |source| StorageError::File {
            action: "cannot complete",
            path: self.path.clone(),
            source,
        };
        self.sync_database()?;
        sync_entries(&self.database_path()).map_err(failed)?;
        let schema_file = self.path.join(SCHEMA_FILE);
        write_private_file(&schema_file, &format!("{schema}\n")).map_err(failed)?;
        self.hand_over().map_err(failed)?;
        self.remove_mark().map_err(failed)
    }

    /// Removes what was restored, and the mark.
    ///
    /// # Errors
    /// When something cannot be removed; the mark stays then.
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

    /// Gives what root has restored to the user whose directory it is: the server runs as that one.
    fn hand_over(&self) -> io::Result<()> {
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

/// Checks that nothing would be lost by restoring into `path`.
fn check_vacant(path: &Path) -> Result<(), DirectoryError> {
    if path.join(RESTORE_FILE).exists() {
        return Ok(());
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            let path = path.to_owned();
            return Err(DirectoryError::File { action: "cannot read", path, source });
        }
    };
    let occupies = |entry: fs::DirEntry| entry.file_name() == SCHEMA_FILE || is_foreign(&entry);
    if entries.flatten().any(occupies) {
        return Err(DirectoryError::Occupied { path: path.to_owned() });
    }
    Ok(())
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
