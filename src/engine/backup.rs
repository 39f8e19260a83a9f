//! Backups of a running server: the rows as of one moment, then the output files. A backup holds no
//! work directories and no admin token: a restored server makes its own.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use crate::engine::{Engine, EngineError};
use crate::model::ids::RunId;
use crate::model::output_name::parse_output_name;
use crate::store::SCHEMA;
use crate::store::backup::format::{FRAME_BYTES, Header, Totals, Writer};
use crate::store::backup::{BackupError, Recording};

/// A backup that has begun. Later commits are in it.
pub struct Backup {
    engine: Arc<Engine>,
    recording: Recording,
    header: Header,
}

impl Engine {
    /// Begins a backup. It ends when the returned value is dropped.
    ///
    /// # Errors
    /// When another backup is being made, or the disk has no room for one.
    pub fn begin_backup(self: &Arc<Self>) -> Result<Backup, EngineError> {
        self.check_space().map_err(|error| EngineError::Overloaded(error.to_string()))?;
        let recording = self.store.begin_backup().map_err(|error| match error {
            BackupError::Busy => EngineError::Conflict(error.to_string()),
            error => EngineError::Overloaded(error.to_string()),
        })?;
        // The size serves only to show progress.
        let bytes = self.store.bytes().unwrap_or(0) + self.output_bytes().unwrap_or(0);
        let header = Header::new(SCHEMA, self.now(), bytes);
        Ok(Backup { engine: Arc::clone(self), recording, header })
    }

    fn check_space(&self) -> Result<(), BackupError> {
        if self.space.is_enough() { Ok(()) } else { Err(BackupError::DiskFull) }
    }

    /// Bytes of all output files.
    fn output_bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(&self.output_dir)? {
            bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
        }
        Ok(bytes)
    }
}

impl Backup {
    /// About how many bytes it will have.
    pub fn estimate(&self) -> u64 {
        self.header.bytes_expected
    }

    /// Writes the backup to `out`.
    ///
    /// # Errors
    /// When a write to `out` fails, or the backup is given up, which is written into `out` and logged.
    pub fn write(self, out: &mut dyn Write) -> io::Result<()> {
        let Self { engine, recording, header } = self;
        let began = Instant::now();
        let mut archive = Writer::begin(out, &header)?;
        let copied = engine
            .store
            .copy_rows(&recording, &mut archive, &|| engine.check_space())
            .and_then(|last_run| copy_output_files(&engine, last_run, &mut archive));
        let ended = match copied {
            Ok(()) => archive.finish(),
            Err(BackupError::Receiver(error)) => Err(error),
            Err(error) => {
                log::error!(error:%; "a backup was given up");
                let why = error.to_string();
                archive.abandon(&why)?;
                // The body ends early, so that a client that does not read frames notices it, too.
                return Err(io::Error::other(why));
            }
        };
        match ended {
            Ok(Totals { row_changes, files, file_bytes }) => {
                let millis = began.elapsed().as_millis() as u64;
                log::info!(row_changes, files, file_bytes, millis; "a backup was made");
                Ok(())
            }
            Err(error) => {
                log::warn!(error:%; "a backup ended early: its receiver is gone");
                Err(error)
            }
        }
    }
}

/// Copies the output files of all runs up to `last_run`, at their present lengths. Only vessels that
/// have not ended still write to theirs.
fn copy_output_files(
    engine: &Engine,
    last_run: Option<RunId>,
    archive: &mut Writer<impl Write>,
) -> Result<(), BackupError> {
    for entry in fs::read_dir(&engine.output_dir).map_err(BackupError::Output)? {
        let entry = entry.map_err(BackupError::Output)?;
        let name = entry.file_name();
        let Some((name, vessel_run)) =
            name.to_str().and_then(|name| Some((name, parse_output_name(name)?.0)))
        else {
            continue;
        };
        if Some(vessel_run.run()) > last_run {
            continue;
        }
        match File::open(entry.path()) {
            Ok(file) => copy_file(name, &file, archive)?,
            // The sweeper has removed its run.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BackupError::Output(error)),
        }
    }
    Ok(())
}

fn copy_file(name: &str, file: &File, archive: &mut Writer<impl Write>) -> Result<(), BackupError> {
    let mut left = file.metadata().map_err(BackupError::Output)?.len();
    archive.file(name, left).map_err(BackupError::Receiver)?;
    let mut piece = Vec::new();
    while left > 0 {
        piece.clear();
        let read = file.take(left.min(FRAME_BYTES as u64)).read_to_end(&mut piece);
        if read.map_err(BackupError::Output)? == 0 {
            return Err(BackupError::Output(io::ErrorKind::UnexpectedEof.into()));
        }
        archive.data(&piece).map_err(BackupError::Receiver)?;
        left -= piece.len() as u64;
    }
    Ok(())
}
