//! The output of vessels: [`LiveOutput`] of an attempt that runs, [`StoredOutput`] in the file of
//! an attempt that has ended or was interrupted. This module neither reads the vessel's pipe nor
//! knows the database, which holds small outputs.
//!
//! Offsets count the bytes of the log: those of the vessel, after `redact` has masked its secrets,
//! and the lines of Boathook. Of an output that exceeds its cap, the first and the last half of the
//! cap are kept. The `offset` of a chunk is larger than the requested one where bytes in between
//! are gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::ids::VesselRunId;

mod file;
mod redact;
mod stored;

use file::{Header, OutputFile};
use redact::Redactor;
use stored::output_path;
pub use stored::{StoredOutput, has_output, remove_output, sync_output_directory};

/// Bytes of one chunk, which a reader holds in memory.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Output up to this size is stored in the commit that settles the vessel. Larger output moves to a
/// file.
const OUTPUT_INLINE_BYTES_MAX: usize = 64 * 1024;
/// Output of a vessel that runs longer moves to a file, so that a crash does not take it along.
const OUTPUT_INLINE_TIME_MAX: Duration = Duration::from_secs(1);

/// The output of one attempt, shared by the worker that captures it and its followers.
///
/// It begins in memory. [`LiveOutput::begin`] gives it a file to move to when it grows.
#[derive(Default)]
pub struct LiveOutput {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    place: Option<Place>,
    redactor: Redactor,
    /// The whole output until it moves to `file`.
    inline: Vec<u8>,
    file: Option<Arc<OutputFile>>,
    /// Bytes written so far.
    total: u64,
    /// The line after the last byte kept, which says why nothing more is kept.
    notice: Option<Vec<u8>>,
    /// No file could be made when it was due. The next attempt follows when memory is full.
    early_file_failed: bool,
    ends_line: bool,
    ended: bool,
    /// Readers that wait for a change. Without any, waking them costs no system call.
    waiting: usize,
}

/// The file to which the output moves, and its bounds.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    bytes_max: u64,
    file_due_at: Instant,
}

/// The output of an attempt that has ended.
#[derive(Debug, Default)]
pub struct CapturedOutput {
    /// Bytes that the attempt wrote, kept or not.
    pub bytes: u64,
    /// Bytes that are kept.
    pub kept_bytes: u64,
    pub kept: Kept,
}

/// Where the kept part of captured output is.
#[derive(Debug, Default)]
pub enum Kept {
    #[default]
    Nothing,
    /// Goes into the commit that settles the vessel.
    Inline(Vec<u8>),
    /// In a file, synced.
    File,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputChunk {
    /// The offset of the first byte. Larger than the requested one where the cap left bytes out.
    pub offset: u64,
    /// At most [`CHUNK_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// Whether these bytes are the last.
    pub ended: bool,
}

impl OutputChunk {
    /// The chunk at `offset` of a complete output.
    pub fn of_whole(output: &[u8], offset: u64) -> Self {
        let rest = usize::try_from(offset).ok().and_then(|at| output.get(at..)).unwrap_or_default();
        let bytes = &rest[..rest.len().min(CHUNK_BYTES_MAX)];
        Self { offset, bytes: bytes.to_vec(), ended: bytes.len() == rest.len() }
    }

    /// The offset of the next chunk.
    #[cfg(test)]
    pub fn next_offset(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl LiveOutput {
    /// Gives the output a file below `directory` to move to, and a cap of `bytes_max` bytes kept.
    ///
    /// Without this, output beyond [`OUTPUT_INLINE_BYTES_MAX`] is dropped.
    pub fn begin(&self, directory: &Path, vessel_run: VesselRunId, attempt: u32, bytes_max: u64) {
        let path = output_path(directory, vessel_run, attempt);
        let file_due_at = Instant::now() + OUTPUT_INLINE_TIME_MAX;
        self.lock().place = Some(Place { path, bytes_max, file_due_at });
    }

    /// Continues the output of an attempt that an earlier server has left. It goes to the attempt's
    /// file, which may exist, with [`LiveOutput::keep`].
    ///
    /// # Errors
    /// When the file is there and cannot be written to.
    pub fn resume(
        &self,
        directory: &Path,
        vessel_run: VesselRunId,
        attempt: u32,
        bytes_max: u64,
    ) -> io::Result<()> {
        let path = output_path(directory, vessel_run, attempt);
        let reopened = OutputFile::reopen(&path)?;
        let mut state = self.lock();
        state.place = Some(Place { path, bytes_max, file_due_at: Instant::now() });
        if let Some((file, Header { total, notice })) = reopened {
            let last = file.read(total, total.saturating_sub(1))?.1;
            state.ends_line = last.ends_with(b"\n");
            state.file = Some(Arc::new(file));
            state.total = total;
            state.notice = Some(notice).filter(|notice| !notice.is_empty());
        }
        Ok(())
    }

    /// Keeps the output in the attempt's file, synced. An empty output needs none.
    pub fn keep(&self) {
        let mut state = self.lock();
        state.end_stream();
        if !state.inline.is_empty()
            && let Err(error) = state.move_to_file()
        {
            let path = state.shown_path();
            log::warn!(path, error:%; "output is dropped: its file could not be made");
        }
        drop(state);
        self.capture();
    }

    /// Masks `secrets` in everything that is appended from now on.
    pub fn hide(&self, secrets: &[String]) {
        self.lock().redactor = Redactor::new(secrets);
    }

    /// `text` with the same secrets masked.
    pub fn without_secrets(&self, text: &str) -> String {
        self.lock().without_secrets(text)
    }

    /// Appends bytes of the vessel. Bytes that cannot be kept are dropped, and a notice says so.
    pub fn append(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.redactor.is_idle() {
            state.append(bytes);
        } else {
            let mut shown = Vec::with_capacity(bytes.len());
            state.redactor.push(bytes, &mut shown);
            state.append(&shown);
        }
        self.wake(&state);
    }

    /// Appends a line of Boathook, after a line end.
    pub fn append_line(&self, line: &str) {
        let mut state = self.lock();
        let line = state.without_secrets(line);
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if state.total > 0 && !state.ends_line {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        state.append(&bytes);
        self.wake(&state);
    }

    /// Moves the output to its file when the attempt has run for [`OUTPUT_INLINE_TIME_MAX`] and has
    /// written something. Returns the time of the next call, unless bytes arrive before.
    pub fn move_when_due(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        if state.file.is_some() || state.early_file_failed || state.inline.is_empty() {
            return None;
        }
        let due_at = state.place.as_ref()?.file_due_at;
        if now < due_at {
            return Some(due_at);
        }
        if let Err(error) = state.move_to_file() {
            let path = state.shown_path();
            log::warn!(path, error:%; "output stays in memory: its file could not be made");
            state.early_file_failed = true;
        }
        None
    }

    /// Marks the end for readers: the attempt is settled.
    pub fn finish(&self) {
        let mut state = self.lock();
        state.ended = true;
        self.wake(&state);
    }

    /// The output of the vessel, which has ended. A file is synced.
    pub fn capture(&self) -> CapturedOutput {
        let mut state = self.lock();
        state.end_stream();
        self.wake(&state);
        let bytes = state.end();
        let Some(file) = state.file.clone() else {
            let kept = match state.inline.as_slice() {
                [] => Kept::Nothing,
                inline => Kept::Inline(inline.to_vec()),
            };
            return CapturedOutput { bytes, kept_bytes: bytes, kept };
        };
        let kept_bytes = bytes.min(state.place.as_ref().map_or(bytes, |place| place.bytes_max));
        // Readers must not wait for the disk.
        let path = state.place.as_ref().map(|place| place.path.clone());
        drop(state);
        if let Err(error) = file.sync(path.as_deref().and_then(Path::parent)) {
            log::error!(path:?, error:%; "output could not be synced: a power loss may take it");
        }
        CapturedOutput { bytes, kept_bytes, kept: Kept::File }
    }

    /// Reads from `offset`, and waits up to `wait` for bytes or the end. The chunk is empty when
    /// neither came.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, offset: u64, wait: Duration) -> io::Result<OutputChunk> {
        let deadline = Instant::now().checked_add(wait);
        let mut state = self.lock();
        let mut from = offset;
        loop {
            if offset < state.total
                && let Some(file) = state.file.clone()
            {
                let total = state.total;
                // The worker must not wait for a reader. So the file is read without the lock, and
                // the bytes count only if the ring has not overwritten them meanwhile.
                drop(state);
                let (offset, bytes) = file.read(total, from)?;
                state = self.lock();
                if file.layout().still_holds(state.total, offset) {
                    let ended = state.ended && offset + bytes.len() as u64 == state.end();
                    return Ok(OutputChunk { offset, bytes, ended });
                }
                // The oldest bytes are overwritten first: the next read begins further on.
                from = file.layout().middle_of_tail(state.total);
                continue;
            }
            if offset < state.end() || state.ended {
                return Ok(state.read_memory(offset));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(OutputChunk { offset, bytes: Vec::new(), ended: false });
            }
            state.waiting += 1;
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let woken = self.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.waiting -= 1;
        }
    }

    /// The last `bytes_max` bytes, up to a chunk; none when they cannot be read.
    pub fn end_of(&self, bytes_max: usize) -> Vec<u8> {
        let end = self.lock().end();
        let read = self.read(end.saturating_sub(bytes_max as u64), Duration::ZERO);
        read.map_or_else(|_| Vec::new(), |chunk| chunk.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, state: &State) {
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }
}

impl State {
    /// Appends the bytes that the redactor still holds: no further byte can make them a secret.
    fn end_stream(&mut self) {
        let mut held = Vec::new();
        self.redactor.finish(&mut held);
        self.append(&held);
    }

    fn without_secrets(&mut self, text: &str) -> String {
        self.end_stream();
        if self.redactor.is_idle() {
            return text.to_owned();
        }
        let mut shown = Vec::with_capacity(text.len());
        self.redactor.push(text.as_bytes(), &mut shown);
        self.redactor.finish(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    }

    fn append(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        if self.notice.is_some() {
            return;
        }
        debug_assert!(self.file.is_none() || self.inline.is_empty());
        self.ends_line = *last == b'\n';
        let result = match &self.file {
            None if self.inline.len() + bytes.len() <= self.inline_bytes_max() => {
                self.inline.extend_from_slice(bytes);
                self.total += bytes.len() as u64;
                return;
            }
            None => self.move_to_file(),
            Some(_) => Ok(()),
        };
        let result = result.and_then(|()| match &self.file {
            Some(file) => file.append(&mut self.total, bytes),
            None => Ok(()),
        });
        if let Err(error) = result {
            self.give_up(&error);
        }
    }

    fn inline_bytes_max(&self) -> usize {
        let cap = self.place.as_ref().map_or(u64::MAX, |place| place.bytes_max);
        usize::try_from(cap).unwrap_or(usize::MAX).min(OUTPUT_INLINE_BYTES_MAX)
    }

    fn move_to_file(&mut self) -> io::Result<()> {
        let Some(place) = &self.place else {
            return Err(io::Error::other("this attempt has no output file"));
        };
        let file = OutputFile::create(&place.path, place.bytes_max)?;
        let mut total = 0;
        if let Err(error) = file.append(&mut total, &self.inline) {
            // Memory still holds the whole output; half a file would contradict it.
            let _ = std::fs::remove_file(&place.path);
            return Err(error);
        }
        self.inline = Vec::new();
        self.file = Some(Arc::new(file));
        Ok(())
    }

    /// Drops further bytes: a full disk must not stop the vessel.
    fn give_up(&mut self, error: &io::Error) {
        // Without a place, only what fits in memory was wanted.
        if self.place.is_some() {
            let path = self.shown_path();
            log::error!(path, error:%; "output is dropped: its file cannot be written");
        }
        let mut notice = Vec::new();
        if !self.inline.is_empty() || self.file.is_some() {
            notice.push(b'\n');
        }
        notice.extend_from_slice(
            format!("boathook: output after this could not be kept: {error}\n").as_bytes(),
        );
        match &self.file {
            Some(file) => file.write_notice(&mut notice),
            None => {
                self.inline.extend_from_slice(&notice);
                self.total += notice.len() as u64;
                notice.clear();
            }
        }
        self.notice = Some(notice);
    }

    fn shown_path(&self) -> String {
        self.place.as_ref().map_or_else(String::new, |place| place.path.display().to_string())
    }

    /// The offset after the last byte.
    fn end(&self) -> u64 {
        self.total + self.notice.as_ref().map_or(0, |notice| notice.len() as u64)
    }

    /// The chunk at `offset` of the bytes in memory: the whole output or, beside a file, the
    /// notice.
    fn read_memory(&self, offset: u64) -> OutputChunk {
        let (held, start) = match (&self.file, &self.notice) {
            (None, _) => (self.inline.as_slice(), 0),
            (Some(_), Some(notice)) => (notice.as_slice(), self.total),
            (Some(_), None) => (&[][..], self.total),
        };
        let mut chunk = OutputChunk::of_whole(held, offset.saturating_sub(start));
        chunk.offset = offset;
        chunk.ended &= self.ended;
        chunk
    }
}

#[cfg(test)]
mod tests;
