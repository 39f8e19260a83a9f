//! Bodies of requests that are arriving or wait for a handler: small ones in memory, large ones in
//! a file that has no name, all of them under two budgets that both listeners share. What is taken
//! from a budget is given back when the body is dropped, whatever becomes of it.

use std::fs::File;
use std::io::{self, BufWriter, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Reason, Refusal};
use crate::limits::BODY_INLINE_BYTES_MAX;

/// Where bodies may be kept, and how much of them.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    memory: Arc<Budget>,
    disk: Arc<Budget>,
}

impl Spool {
    /// Keeps up to `memory_bytes` of small bodies, and up to `disk_bytes` of large ones in files in
    /// `directory`.
    pub fn new(directory: PathBuf, memory_bytes: u64, disk_bytes: u64) -> Self {
        Self {
            directory,
            memory: Arc::new(Budget::new(memory_bytes)),
            disk: Arc::new(Budget::new(disk_bytes)),
        }
    }

    /// Where the files are; private to this server.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes on disk that bodies have been promised, written or not: what was written is copied into
    /// the database before it goes.
    pub fn promised_on_disk(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.disk.used)
    }

    /// Begins to take in a body that will have `length` bytes, for which there will be room then;
    /// or, for `None`, nobody knows how many.
    ///
    /// # Errors
    /// 503 when the budgets are exhausted or no file can be had.
    pub fn draft(&self, length: Option<u64>) -> Result<Draft<'_>, Refusal> {
        let mut draft = Draft {
            spool: self,
            memory: Vec::new(),
            file: None,
            length: 0,
            space: Reservation::none(&self.memory),
        };
        match length {
            Some(length) if length > BODY_INLINE_BYTES_MAX as u64 => {
                draft.move_to_file(length)?;
            }
            Some(length) => draft.reserve(length)?,
            None => {}
        }
        Ok(draft)
    }
}

/// A body that is arriving.
#[derive(Debug)]
pub struct Draft<'a> {
    spool: &'a Spool,
    memory: Vec<u8>,
    /// Buffered: a body may come in chunks of a byte each.
    file: Option<BufWriter<File>>,
    length: u64,
    space: Reservation,
}

impl Draft<'_> {
    /// How much has arrived.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds what has arrived.
    ///
    /// # Errors
    /// 503 when there is no room for it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let length = self.length + bytes.len() as u64;
        if self.file.is_none() && length > BODY_INLINE_BYTES_MAX as u64 {
            self.move_to_file(length)?;
        }
        self.reserve(length)?;
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(no_room)?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.length = length;
        Ok(())
    }

    /// The body, complete.
    ///
    /// # Errors
    /// 503 when there is no room for the last of it, or it cannot be read back.
    pub fn finish(self) -> Result<Body, Refusal> {
        let content = match self.file {
            Some(file) => {
                let mut file = file.into_inner().map_err(|it| no_room(it.into_error()))?;
                file.rewind().map_err(no_room)?;
                Content::File(file)
            }
            None => Content::Memory(Cursor::new(self.memory)),
        };
        Ok(Body { content, length: self.length, _space: self.space })
    }

    fn reserve(&mut self, length: u64) -> Result<(), Refusal> {
        if self.space.grow_to(length) { Ok(()) } else { Err(exhausted()) }
    }

    /// Goes on in a file, in which there is room for `length` bytes.
    fn move_to_file(&mut self, length: u64) -> Result<(), Refusal> {
        let mut space = Reservation::none(&self.spool.disk);
        if !space.grow_to(length) {
            return Err(exhausted());
        }
        // O_TMPFILE: it has no name, so nothing is left of it after a crash either.
        let file = tempfile::tempfile_in(&self.spool.directory).map_err(no_room)?;
        let mut file = BufWriter::new(file);
        file.write_all(&self.memory).map_err(no_room)?;
        self.memory = Vec::new();
        self.file = Some(file);
        self.space = space;
        Ok(())
    }
}

fn exhausted() -> Refusal {
    Refusal::new(Reason::NoRoomForBody, "too many bodies are arriving at once; try again later")
}

fn no_room(error: io::Error) -> Refusal {
    log::warn!(error:% = error; "a large body cannot be kept in the data directory");
    Refusal::new(Reason::NoRoomForBody, "there is no room for the body; try again later")
}

/// A complete body, to read once.
#[derive(Debug)]
pub struct Body {
    content: Content,
    length: u64,
    _space: Reservation,
}

#[derive(Debug)]
enum Content {
    Memory(Cursor<Vec<u8>>),
    File(File),
}

impl Body {
    /// Its bytes, read or not.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.content {
            Content::Memory(bytes) => bytes.read(buffer),
            Content::File(file) => file.read(buffer),
        }
    }
}

/// Bytes that may be in use at once.
#[derive(Debug)]
struct Budget {
    max: u64,
    used: Arc<AtomicU64>,
}

impl Budget {
    fn new(max: u64) -> Self {
        Self { max, used: Arc::default() }
    }

    fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// A share of a budget; given back when dropped.
#[derive(Debug)]
struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    fn none(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Takes what is missing to `bytes`. Returns whether there was that much.
    fn grow_to(&mut self, bytes: u64) -> bool {
        let missing = bytes.saturating_sub(self.bytes);
        if missing > 0 && !self.budget.take(missing) {
            return false;
        }
        self.bytes += missing;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INLINE: u64 = BODY_INLINE_BYTES_MAX as u64;

    fn used(spool: &Spool) -> (u64, u64) {
        (spool.memory.used.load(Ordering::Relaxed), spool.disk.used.load(Ordering::Relaxed))
    }

    fn spool(memory: u64, disk: u64) -> Spool {
        Spool::new(std::env::temp_dir(), memory, disk)
    }

    fn read(mut body: Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, body.length());
        bytes
    }

    #[test]
    fn small_bodies_stay_in_memory_and_large_ones_do_not() {
        let spool = spool(INLINE, 1 << 20);
        let bytes: Vec<u8> = (0..INLINE + 1).map(|at| at as u8).collect();
        for announced in [true, false] {
            let (small, large) = (&bytes[..INLINE as usize], &bytes[..]);
            for (bytes, expected) in [(small, (INLINE, 0)), (large, (0, INLINE + 1))] {
                let mut draft = spool.draft(announced.then_some(bytes.len() as u64)).unwrap();
                for piece in bytes.chunks(1000) {
                    draft.push(piece).unwrap();
                }
                let body = draft.finish().unwrap();
                assert_eq!(used(&spool), expected);
                assert!(read(body) == bytes);
                assert_eq!(used(&spool), (0, 0));
            }
        }
        assert_eq!(read(spool.draft(Some(0)).unwrap().finish().unwrap()), b"");
    }

    #[test]
    fn what_was_announced_is_reserved_and_given_back() {
        let spool = spool(100, INLINE * 2);
        let first = spool.draft(Some(60)).unwrap();
        assert_eq!(spool.draft(Some(41)).unwrap_err().status(), 503);
        let mut growing = spool.draft(None).unwrap();
        growing.push(&[0; 40]).unwrap();
        assert_eq!(growing.push(&[0]).unwrap_err().status(), 503);
        drop(first);
        growing.push(&[0]).unwrap();
        let large = spool.draft(Some(INLINE + 1)).unwrap();
        assert_eq!(spool.draft(Some(INLINE)).unwrap_err().status(), 503);
        assert_eq!(spool.draft(Some(INLINE + 1)).unwrap_err().status(), 503);
        assert_eq!(spool.draft(Some(u64::MAX)).unwrap_err().status(), 503);
        drop((large, growing));
        assert_eq!(used(&spool), (0, 0));
    }

    #[test]
    fn a_directory_that_is_gone_is_no_room() {
        let spool = Spool::new("/nowhere".into(), INLINE, 1 << 20);
        assert_eq!(spool.draft(Some(INLINE + 1)).unwrap_err().status(), 503);
        assert_eq!(used(&spool), (0, 0));
    }
}
