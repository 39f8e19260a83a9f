//! The file format of backups. A reader notices every missing and every altered byte. This module
//! knows neither databases nor the meaning of rows.
//!
//! ```text
//! "boathook backup\n"
//! kind (1 byte), length (4, little-endian), content, SHA-256 (32)     one frame, repeated
//! ```
//!
//! The first frame is the header, the last one holds the totals. Each digest covers the one before it,
//! so that no frame can be left out, repeated, moved or taken from another file. The digests protect
//! against disks and cut connections, not against forgers, who can compute them as well.

use std::io;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::clock::Timestamp;

pub(super) mod change;
mod reader;
mod writer;

pub use change::{RowChange, read_change, write_change};
pub use reader::{Frame, Reader};
pub use writer::Writer;

/// The first bytes of every backup.
const MAGIC: &[u8; 16] = b"boathook backup\n";
/// The format that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// Bytes from which on a frame is written: few digests, and little memory.
pub const FRAME_BYTES: usize = 256 * 1024;
/// Greatest length of a frame, in bytes. A damaged length costs no more memory than this.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes of a frame's kind and length.
const FRAME_HEAD_BYTES: usize = 5;
const DIGEST_BYTES: usize = 32;

/// The content of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// [`Header`] as JSON.
    Header = b'H',
    /// Changes of rows, in their order.
    Rows = b'R',
    /// The beginning of a file: its length (8 bytes, little-endian) and its name.
    File = b'F',
    /// The next bytes of that file.
    Data = b'D',
    /// [`Totals`] as JSON. Nothing follows.
    End = b'E',
    /// The reason why the server gave the backup up. Nothing follows.
    Abandoned = b'X',
}

impl Kind {
    fn of_byte(byte: u8) -> Option<Self> {
        use Kind as K;
        let all = [K::Header, K::Rows, K::File, K::Data, K::End, K::Abandoned];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The origin of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Format of the file.
    pub format: u32,
    /// Schema of the rows.
    pub schema: u32,
    /// Version of the program that made it.
    pub version: String,
    pub created_at: Timestamp,
    /// Estimated length in bytes. The rows may need far less than the size of the database.
    pub bytes_expected: u64,
}

impl Header {
    /// The header of a backup that this program makes.
    pub fn new(schema: u32, created_at: Timestamp, bytes_expected: u64) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, schema, version, created_at, bytes_expected }
    }
}

/// How much a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Changes of rows: more than rows if some changed during the backup.
    pub row_changes: u64,
    pub files: u64,
    /// Bytes of all files.
    pub file_bytes: u64,
}

/// Why a file cannot be read as a backup.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("this is not a backup of Boathook")]
    NotOne,
    #[error(
        "it was made by a newer version ({version}, format {format}; this program knows up to {FORMAT}); restore it with that version"
    )]
    NewerFormat { version: String, format: u32 },
    #[error("it is damaged at byte {at}: {what}; use another copy, or another backup")]
    Damaged { at: u64, what: &'static str },
    #[error("it ends at byte {at}, before its end: the copy was cut short; use another one")]
    Incomplete { at: u64 },
    #[error("the server gave it up: {0}")]
    Abandoned(String),
    #[error("{0}")]
    Read(#[from] io::Error),
}

/// The digest of a frame whose predecessor has the digest `before`.
fn digest(before: &[u8; DIGEST_BYTES], head: &[u8], content: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new().chain_update(before).chain_update(head).chain_update(content).finalize().into()
}

#[cfg(test)]
mod tests;
