//! Restoring a backup into a new data directory, without a server. What is left to do with it, the
//! first server on that directory does: bringing an older schema to the present one, and ending or
//! resuming the runs that had not ended.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::model::change::{RestoredFrom, ServerRecord};
use crate::model::ids::InstanceId;
use crate::model::limits::BACKUP_FRAME_BYTES;
use crate::model::output_name::parse_output_name;
pub use crate::store::RestoredRows;
use crate::store::backup::format::{FormatError, Frame, Header, Reader, Totals};
use crate::store::{OUTPUT_DIRECTORY, OpenError, Restoration, SCHEMA, StorageError};

/// Why a backup is not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Archive(#[from] FormatError),
    #[error(
        "it was made by a newer version ({version}, schema {schema}; this program knows up to {SCHEMA}); restore it with that version"
    )]
    NewerSchema { version: String, schema: u32 },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{action} {path}: {source}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

/// A backup that is whole.
#[derive(Clone, Debug)]
pub struct VerifiedBackup {
    pub header: Header,
    pub totals: Totals,
    /// Of the backup itself.
    pub bytes: u64,
}

/// Reads all of a backup.
///
/// # Errors
/// When it is damaged, not whole, or of a newer version.
pub fn verify(source: impl Read) -> Result<VerifiedBackup, RestoreError> {
    let mut archive = open(source)?;
    while let Some(frame) = archive.next_frame()? {
        if let Frame::File { name, .. } = frame {
            check_name(name)?;
        }
    }
    let (header, totals) = (archive.header().clone(), archive.totals());
    Ok(VerifiedBackup { header, totals, bytes: archive.position() })
}

/// Verifies a backup and, only then, restores it into `data_dir`, which must be empty or missing.
/// When that fails half-way, what was restored is removed again.
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
    match fill(source, &mut restoration, data_dir) {
        Ok(()) => {
            let header = &verified.header;
            let server = ServerRecord {
                // Not that of the server whose backup it is: it may run yet, and its vessels are its
                // own.
                instance: InstanceId::random(),
                boot_id: String::new(),
                stopped_cleanly: true,
                restored: Some(RestoredFrom { created_at: header.created_at, resume_runs }),
            };
            let restored = restoration.finish(&server, header.schema)?;
            Ok((verified, restored))
        }
        Err(error) => {
            // The mark in the directory stays where this fails, and says the same as the error.
            let _ = restoration.undo();
            Err(error)
        }
    }
}

fn open<R: Read>(source: R) -> Result<Reader<BufReader<R>>, RestoreError> {
    let archive = Reader::open(BufReader::with_capacity(BACKUP_FRAME_BYTES, source))?;
    let Header { schema, version, .. } = archive.header();
    if *schema > SCHEMA {
        return Err(RestoreError::NewerSchema { version: version.clone(), schema: *schema });
    }
    Ok(archive)
}

/// Files go where the output files of attempts go, and nowhere else, whatever a backup says.
fn check_name(name: &str) -> Result<(), RestoreError> {
    let what = "it holds a file that is no vessel's output";
    let error = FormatError::Damaged { at: 0, what };
    parse_output_name(name).map(drop).ok_or(RestoreError::Archive(error))
}

fn fill(
    source: impl Read,
    restoration: &mut Restoration,
    data_dir: &Path,
) -> Result<(), RestoreError> {
    let directory = data_dir.join(OUTPUT_DIRECTORY);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::File { action: "cannot write", path, source }
    };
    DirBuilder::new().mode(0o700).create(&directory).map_err(failed(&directory))?;
    let mut archive = open(source)?;
    let mut file: Option<(PathBuf, File)> = None;
    while let Some(frame) = archive.next_frame()? {
        match frame {
            Frame::Rows(changes) => {
                for change in changes.flatten() {
                    restoration.change(change)?;
                }
            }
            Frame::File { name, .. } => {
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
    rustix::fs::syncfs(&opened).map_err(io::Error::from).map_err(failed(&directory))
}
