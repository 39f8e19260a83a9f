//! Restores a backup into a new data directory, without a server. The first server on that
//! directory migrates an older schema, and resumes or ends the runs that had not ended.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sled::Batch;

use crate::model::change::{RestoredFrom, ServerRecord};
use crate::model::fleet::Fleet;
use crate::model::ids::InstanceId;
use crate::model::limits::SLICE_BYTES;
use crate::model::output_name::parse_output_name;
use crate::model::variable::SecretName;
use crate::store::backup::format::{
    FRAME_BYTES, FormatError, Frame, Header, Reader, RowChange, Totals,
};
use crate::store::data_dir::DataDirectory;
use crate::store::read::readable;
use crate::store::sled::database::Database;
use crate::store::tables::{META_SERVER, Table};
use crate::store::{
    OUTPUT_DIRECTORY, OpenError, SCHEMA, StorageError, codec, damaged, free_space, keys,
};

/// Free bytes below which a restore gives up, because a full disk can hang the database: several times
/// the size of one commit.
const FREE_BYTES_MIN: u64 = 16 << 20;

/// Why a backup is not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(
        "it was made by a newer version ({version}, schema {schema}; this program knows up to {SCHEMA}); restore it with that version"
    )]
    NewerSchema { version: String, schema: u32 },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StorageError),
}

/// A backup that was read to its end.
#[derive(Clone, Debug)]
pub struct VerifiedBackup {
    pub header: Header,
    pub totals: Totals,
    /// Length of the backup.
    pub bytes: u64,
}

/// Numbers of restored rows, and what a backup does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredRows {
    pub fleets: u64,
    pub webhooks: u64,
    pub runs: u64,
    /// Runs among them that had not ended.
    pub unfinished: u64,
    /// The secrets that the current versions of the fleets name.
    pub secrets: BTreeSet<SecretName>,
}

/// Reads a backup to its end.
///
/// # Errors
/// When it is damaged, incomplete, or of a newer version.
pub fn verify(source: impl Read) -> Result<VerifiedBackup, RestoreError> {
    let mut backup = open(source)?;
    while let Some(frame) = backup.next_frame()? {
        if let Frame::File { name } = frame {
            check_name(name)?;
        }
    }
    let (header, totals) = (backup.header().clone(), backup.totals());
    Ok(VerifiedBackup { header, totals, bytes: backup.position() })
}

/// Verifies a backup, and then restores it into `data_dir`, which must be empty or missing. A restore
/// that fails removes the restored files.
///
/// # Errors
/// When the backup cannot be restored, or the directory cannot take it.
pub fn restore(
    source: &mut (impl Read + Seek),
    data_dir: &Path,
    resume_runs: bool,
) -> Result<(VerifiedBackup, RestoredRows), RestoreError> {
    let verified = verify(&mut *source)?;
    source.rewind().map_err(FormatError::Read)?;
    let mut restoration = Restoration::begin(data_dir)?;
    if let Err(error) = fill(source, &mut restoration, data_dir) {
        // If this fails, the mark stays in the directory, and the error to report is the first one.
        let _ = restoration.undo();
        return Err(error);
    }
    let Header { created_at, schema, .. } = verified.header;
    let server = ServerRecord {
        // The backup's server may still run, and its vessels carry its instance.
        instance: InstanceId::random(),
        boot_id: String::new(),
        stopped_cleanly: true,
        restored: Some(RestoredFrom { created_at, resume_runs }),
    };
    let restored = restoration.finish(&server, schema)?;
    Ok((verified, restored))
}

fn open<R: Read>(source: R) -> Result<Reader<BufReader<R>>, RestoreError> {
    let backup = Reader::open(BufReader::with_capacity(FRAME_BYTES, source))?;
    let Header { schema, version, .. } = backup.header();
    if *schema > SCHEMA {
        return Err(RestoreError::NewerSchema { version: version.clone(), schema: *schema });
    }
    Ok(backup)
}

/// Checks that a file is the output of an attempt: a backup writes nowhere else.
fn check_name(name: &str) -> Result<(), FormatError> {
    let what = "it holds a file that is no vessel's output";
    parse_output_name(name).map(drop).ok_or(FormatError::Damaged { at: 0, what })
}

/// Writes the rows and files of a backup.
fn fill(
    source: impl Read,
    restoration: &mut Restoration,
    data_dir: &Path,
) -> Result<(), RestoreError> {
    let directory = data_dir.join(OUTPUT_DIRECTORY);
    let failed = |path: &Path| StorageError::file("cannot write", path);
    DirBuilder::new().mode(0o700).create(&directory).map_err(failed(&directory))?;
    let mut backup = open(source)?;
    let mut file: Option<(PathBuf, File)> = None;
    while let Some(frame) = backup.next_frame()? {
        match frame {
            Frame::Rows(changes) => {
                for change in changes.flatten() {
                    restoration.change(change)?;
                }
            }
            Frame::File { name } => {
                check_name(name)?;
                let path = directory.join(name);
                let created =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                let created = created.map_err(failed(&path))?;
                file = Some((path, created));
            }
            Frame::Data(bytes) => {
                if let Some((path, file)) = &mut file {
                    file.write_all(bytes).map_err(failed(path))?;
                }
            }
        }
    }
    // One sync for all files: there may be many.
    let opened = File::open(&directory).map_err(failed(&directory))?;
    rustix::fs::syncfs(&opened).map_err(io::Error::from).map_err(failed(&directory))?;
    Ok(())
}

/// A database that is being restored. A mark keeps servers out of its directory until it is durable.
pub(super) struct Restoration {
    directory: DataDirectory,
    database: Database,
    /// Changes that are not committed yet, and their bytes.
    batch: Batch,
    batch_bytes: usize,
}

impl Restoration {
    /// Begins in the directory at `path`, and makes it when it is missing.
    ///
    /// # Errors
    /// When the directory has content that is not of an interrupted restore, or cannot be written.
    pub(super) fn begin(path: &Path) -> Result<Self, OpenError> {
        let directory = DataDirectory::open_for_restore(path)?;
        let database = Database::open(directory.path())?;
        Ok(Self { directory, database, batch: Batch::default(), batch_bytes: 0 })
    }

    /// Changes a row.
    ///
    /// # Errors
    /// When it cannot be written, or the disk is nearly full.
    pub(super) fn change(&mut self, change: RowChange<'_>) -> Result<(), StorageError> {
        let RowChange { key, value } = change;
        self.batch_bytes += key.len() + value.map_or(0, <[u8]>::len);
        match value {
            Some(value) => self.batch.insert(key, value),
            None => self.batch.remove(key),
        }
        if self.batch_bytes >= SLICE_BYTES { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        let path = self.directory.path();
        let failed = StorageError::file("cannot look at the free space of", path);
        if !free_space::has_room(path, FREE_BYTES_MIN).map_err(failed)? {
            return Err(StorageError::NoRoom { path: path.to_owned() });
        }
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.database.commit(batch).map_err(StorageError::Restore)
    }

    /// Adds `server` for the first server to find, and ends the restore of rows of `schema`. From now on
    /// servers may open the directory.
    ///
    /// # Errors
    /// When a row or file cannot be written or read back.
    pub(super) fn finish(
        mut self,
        server: &ServerRecord,
        schema: u32,
    ) -> Result<RestoredRows, StorageError> {
        let row = codec::encode(server).map_err(|error| damaged("meta", &error))?;
        let key = keys::of_table(Table::Meta, META_SERVER);
        self.change(RowChange { key: &key, value: Some(&row) })?;
        self.commit()?;
        let restored = RestoredRows {
            fleets: self.count(Table::Fleets)?,
            webhooks: self.count(Table::Webhooks)?,
            runs: self.count(Table::Runs)?,
            unfinished: self.count(Table::Queue)?,
            secrets: self.secrets()?,
        };
        let Self { directory, database, .. } = self;
        drop(database);
        directory.end_restore(schema)?;
        Ok(restored)
    }

    fn count(&self, table: Table) -> Result<u64, StorageError> {
        let mut rows = self.database.all(table);
        Ok(rows.try_fold(0, |count, row| row.map(|_| count + 1))?)
    }

    /// The secrets that fleets name. A fleet that this program cannot read yet names none: the first
    /// start migrates it.
    fn secrets(&self) -> Result<BTreeSet<SecretName>, StorageError> {
        let mut secrets = BTreeSet::new();
        for row in self.database.all(Table::Fleets) {
            let (_, row) = row?;
            let Some(fleet) = readable::<Fleet>("fleets", &row) else { continue };
            let key = [fleet.id.as_bytes().as_slice(), &fleet.version.to_be_bytes()].concat();
            let mut version = Vec::new();
            for chunk in self.database.prefixed(Table::FleetVersions, &key) {
                version.extend_from_slice(&chunk?.1);
            }
            if let Ok(version) = codec::decode_fleet_version(&version) {
                secrets
                    .extend(version.definition.secret_uses().map(|used| used.secret.into_owned()));
            }
        }
        Ok(secrets)
    }

    /// Removes the restored files. The directory is as empty as before.
    ///
    /// # Errors
    /// When a file cannot be removed. The mark stays then.
    fn undo(self) -> Result<(), StorageError> {
        let Self { directory, database, .. } = self;
        drop(database);
        let failed = StorageError::file("cannot clean", directory.path());
        directory.undo_restore().map_err(failed)
    }
}
