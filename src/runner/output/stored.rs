//! Output files of attempts that have ended or were interrupted: their names, their reading and
//! their removal.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{Header, OutputFile};
use super::{CHUNK_BYTES_MAX, OutputChunk};
use crate::model::ids::VesselRunId;
use crate::model::output_name::output_name;

/// The file of an attempt's output.
pub(super) fn output_path(directory: &Path, vessel_run: VesselRunId, attempt: u32) -> PathBuf {
    directory.join(output_name(vessel_run, attempt))
}

/// Whether the file of an attempt's output exists.
pub fn has_output(directory: &Path, vessel_run: VesselRunId, attempt: u32) -> bool {
    output_path(directory, vessel_run, attempt).symlink_metadata().is_ok()
}

/// Removes the file of an attempt's output. Returns whether there was one. The removal is durable
/// after [`sync_output_directory`].
///
/// # Errors
/// When the file is there and cannot be removed.
pub fn remove_output(directory: &Path, vessel_run: VesselRunId, attempt: u32) -> io::Result<bool> {
    match std::fs::remove_file(output_path(directory, vessel_run, attempt)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the removals from `directory` durable.
///
/// # Errors
/// When the directory cannot be synced.
pub fn sync_output_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The complete output file of an attempt.
#[derive(Debug)]
pub struct StoredOutput {
    file: OutputFile,
    total: u64,
    notice: Vec<u8>,
}

impl StoredOutput {
    /// Opens the file of an attempt's output.
    ///
    /// # Errors
    /// `NotFound` when the attempt left no file; `InvalidData` when the file is not one of ours.
    pub fn open(directory: &Path, vessel_run: VesselRunId, attempt: u32) -> io::Result<Self> {
        let (file, Header { total, notice }) =
            OutputFile::open(&output_path(directory, vessel_run, attempt))?;
        Ok(Self { file, total, notice })
    }

    /// Bytes that the attempt wrote, kept or not.
    pub fn bytes(&self) -> u64 {
        self.total + self.notice.len() as u64
    }

    /// Reads from `offset`, at most [`CHUNK_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, offset: u64) -> io::Result<OutputChunk> {
        if offset >= self.total {
            debug_assert!(self.notice.len() <= CHUNK_BYTES_MAX);
            let notice = OutputChunk::of_whole(&self.notice, offset - self.total);
            return Ok(OutputChunk { offset, ..notice });
        }
        let (offset, bytes) = self.file.read(self.total, offset)?;
        let ended = offset + bytes.len() as u64 == self.bytes();
        Ok(OutputChunk { offset, bytes, ended })
    }
}
