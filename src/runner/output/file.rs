//! The layout of an output file: a header that counts the bytes written, a head, and a ring that
//! keeps the tail.
//!
//! ```text
//! 0      magic, bytes written, size of head, size of tail, length of notice, notice
//! 4096   head: the first bytes of the output
//! + head ring: the bytes after the head, the oldest overwritten first
//! ```
//!
//! Bytes are written before the header counts them, so that a killed server loses none. The ring
//! exceeds the tail by one write: a write in flight never overwrites bytes that the header counts
//! as kept.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use super::CHUNK_BYTES_MAX;
use crate::model::text::{without_cut_end, without_cut_start};

const MAGIC: u64 = u64::from_le_bytes(*b"BHOUT\0\0\x01");
/// A page. It reserves the room of the notice, which may be written when the disk is full.
const HEADER_BYTES: u64 = 4096;
const FIELDS_BYTES: usize = 40;
const TOTAL_AT: u64 = 8;
const NOTICE_LENGTH_AT: u64 = 32;
const NOTICE_BYTES_MAX: usize = 512;
/// Bytes of one write into the ring, by which the ring exceeds the tail.
const WRITE_BYTES_MAX: u64 = 64 * 1024;

/// The sizes of head and tail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    head: u64,
    tail: u64,
}

/// An output file, open for reading and writing.
#[derive(Debug)]
pub(super) struct OutputFile {
    file: File,
    layout: Layout,
}

/// The counts in the header of a file.
pub(super) struct Header {
    pub total: u64,
    pub notice: Vec<u8>,
}

/// A run of kept bytes: `bytes` from `offset` of the output, at `position` in the file.
struct Extent {
    offset: u64,
    bytes: u64,
    position: u64,
}

impl Layout {
    fn with_cap(bytes_max: u64) -> Self {
        let head = bytes_max / 2;
        Self { head, tail: bytes_max - head }
    }

    fn ring(&self) -> u64 {
        self.tail.saturating_add(WRITE_BYTES_MAX)
    }

    /// The position of the byte at `offset`, and how many bytes can follow in one piece.
    fn slot(&self, offset: u64) -> (u64, u64) {
        if offset < self.head {
            return (HEADER_BYTES + offset, self.head - offset);
        }
        let in_ring = (offset - self.head) % self.ring();
        (HEADER_BYTES + self.head + in_ring, self.ring() - in_ring)
    }

    /// The kept bytes at or after `offset` of an output of `total` bytes.
    fn find(&self, total: u64, offset: u64) -> Extent {
        let offset = match offset < self.head {
            true => offset,
            false => offset.max(total.saturating_sub(self.tail)),
        };
        let (position, room) = self.slot(offset);
        Extent { offset, bytes: total.saturating_sub(offset).min(room), position }
    }

    /// Whether an output of `total` bytes has left the byte at `offset` in place.
    pub fn still_holds(&self, total: u64, offset: u64) -> bool {
        offset < self.head || total - offset.min(total) <= self.ring()
    }

    /// The offset in the middle of the tail kept of `total` bytes.
    pub fn middle_of_tail(&self, total: u64) -> u64 {
        total.saturating_sub(self.tail / 2)
    }
}

impl OutputFile {
    /// Makes the file, mode 0600, and its directory where that is missing.
    pub fn create(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = match open_new(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = path.parent().unwrap_or(Path::new("."));
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                open_new(path)?
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // A database restored from a backup may count an attempt for a second time.
                std::fs::remove_file(path)?;
                open_new(path)?
            }
            result => result?,
        };
        let layout = Layout::with_cap(bytes_max);
        let mut header = [0; HEADER_BYTES as usize];
        header[..8].copy_from_slice(&MAGIC.to_le_bytes());
        header[16..24].copy_from_slice(&layout.head.to_le_bytes());
        header[24..32].copy_from_slice(&layout.tail.to_le_bytes());
        if let Err(error) = file.write_all_at(&header, 0) {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Self { file, layout })
    }

    /// Opens a file of an earlier attempt. A file that a power loss has emptied is an empty output.
    pub fn open(path: &Path) -> io::Result<(Self, Header)> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length < HEADER_BYTES {
            let layout = Layout::with_cap(0);
            return Ok((Self { file, layout }, Header { total: 0, notice: Vec::new() }));
        }
        let mut fields = [0; FIELDS_BYTES];
        file.read_exact_at(&mut fields, 0)?;
        let [magic, total, head, tail, notice] = numbers(&fields);
        if magic != MAGIC {
            let reason = "not an output file of this version of boathook";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let mut notice = vec![0; (notice as usize).min(NOTICE_BYTES_MAX)];
        file.read_exact_at(&mut notice, FIELDS_BYTES as u64)?;
        let layout = Layout { head, tail };
        // After a power loss the header may be on disk and not all of what it counts.
        let held = length - HEADER_BYTES;
        let held_max = total.min(layout.head.saturating_add(layout.ring()));
        let total = if held < held_max { held } else { total };
        Ok((Self { file, layout }, Header { total, notice }))
    }

    /// Opens the file of an earlier attempt to continue it; `None` when there is none, or a power
    /// loss has emptied it.
    pub fn reopen(path: &Path) -> io::Result<Option<(Self, Header)>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if file.metadata()?.len() < HEADER_BYTES {
            return Ok(None);
        }
        let (Self { layout, .. }, header) = Self::open(path)?;
        Ok(Some((Self { file, layout }, header)))
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Writes `bytes` after the `total` bytes written so far and counts them in `total` and in the
    /// header. After an error `total` counts what was kept.
    pub fn append(&self, total: &mut u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (position, room) = self.layout.slot(*total);
            let fits = room.min(WRITE_BYTES_MAX).min(bytes.len() as u64) as usize;
            debug_assert!(fits > 0);
            let (now, later) = bytes.split_at(fits);
            self.file.write_all_at(now, position)?;
            let counted = *total + fits as u64;
            self.file.write_all_at(&counted.to_le_bytes(), TOTAL_AT)?;
            *total = counted;
            bytes = later;
        }
        Ok(())
    }

    /// Writes `notice` into the header, cut to the room there. When that fails, only current
    /// followers see it.
    pub fn write_notice(&self, notice: &mut Vec<u8>) {
        if notice.len() > NOTICE_BYTES_MAX {
            notice.truncate(without_cut_end(&notice[..NOTICE_BYTES_MAX]).len());
        }
        let mut bytes = (notice.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(notice);
        if let Err(error) = self.file.write_all_at(&bytes, NOTICE_LENGTH_AT) {
            log::error!(error:%; "the notice about dropped output could not be written");
        }
    }

    /// At most [`CHUNK_BYTES_MAX`] bytes kept at or after `offset`, and their offset. No character
    /// is cut at the gap between head and tail.
    pub fn read(&self, total: u64, offset: u64) -> io::Result<(u64, Vec<u8>)> {
        let extent = self.layout.find(total, offset);
        let mut bytes = vec![0; extent.bytes.min(CHUNK_BYTES_MAX as u64) as usize];
        self.file.read_exact_at(&mut bytes, extent.position)?;
        let head = self.layout.head;
        if total.saturating_sub(self.layout.tail) <= head {
            return Ok((extent.offset, bytes));
        }
        if extent.offset > offset {
            let whole = without_cut_start(&bytes);
            let skipped = (bytes.len() - whole.len()) as u64;
            return Ok((extent.offset + skipped, whole.to_vec()));
        }
        if extent.offset < head && extent.offset + bytes.len() as u64 == head {
            bytes.truncate(without_cut_end(&bytes).len());
            if bytes.is_empty() {
                return self.read(total, head);
            }
        }
        Ok((extent.offset, bytes))
    }

    /// Makes the file durable, its name in `directory` included.
    pub fn sync(&self, directory: Option<&Path>) -> io::Result<()> {
        self.file.sync_data()?;
        directory.map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

fn numbers(fields: &[u8; FIELDS_BYTES]) -> [u64; FIELDS_BYTES / 8] {
    let mut numbers = [0; FIELDS_BYTES / 8];
    for (number, bytes) in numbers.iter_mut().zip(fields.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*bytes);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_holds_every_byte_that_the_layout_claims() {
        let directory = tempfile::tempdir().unwrap();
        let file = OutputFile::create(&directory.path().join("output"), 1000).unwrap();
        let byte = |at: u64| (at / 251 + at) as u8;
        let mut total = 0;
        for piece in [700, 65_000, 65_536, 1, 140_000, 9] {
            let bytes: Vec<u8> = (total..total + piece).map(byte).collect();
            file.append(&mut total, &bytes).unwrap();
            let mut held = 0;
            for at in (0..total).filter(|at| file.layout.still_holds(total, *at)) {
                let mut found = [0];
                file.file.read_exact_at(&mut found, file.layout.slot(at).0).unwrap();
                assert_eq!(found, [byte(at)], "at {at} of {total}");
                held += 1;
            }
            assert_eq!(held, total.min(500 + 500 + WRITE_BYTES_MAX));
        }
    }
}
