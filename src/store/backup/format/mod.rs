//! The file of a backup: what it looks like, and that nothing can be missing from it or altered in it
//! without being noticed. Knows nothing of databases and what the rows in it mean.
//!
//! ```text
//! "boathook backup\n"
//! kind (1 byte), length (4, little-endian), content, SHA-256 (32)     a frame, and so on
//! ```
//!
//! The first frame is the header, the last one says how much there was. Each digest covers the one
//! before it: no frame can be left out, repeated, moved or taken from another file. It protects
//! against disks and cut connections, not against forgers, who could reckon digests as well.

use std::io;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::clock::Timestamp;

mod change;
mod reader;
mod writer;

pub use change::{RowChange, RowChanges, read_change, write_change};
pub use reader::{Frame, Reader};
pub use writer::Writer;

/// What every backup begins with.
const MAGIC: &[u8; 16] = b"boathook backup\n";
/// The format that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// Bytes of a frame's kind and length.
const FRAME_HEAD_BYTES: usize = 5;
const DIGEST_BYTES: usize = 32;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// [`Header`] as JSON.
    Header = b'H',
    /// Changes of rows, to be applied in their order.
    Rows = b'R',
    /// A file begins: its length (8 bytes, little-endian) and its name.
    File = b'F',
    /// More of that file.
    Data = b'D',
    /// [`Totals`] as JSON. Nothing follows.
    End = b'E',
    /// The server has given up, and why. Nothing follows.
    Abandoned = b'X',
}

impl Kind {
    fn of_byte(byte: u8) -> Option<Self> {
        use Kind as K;
        let all = [K::Header, K::Rows, K::File, K::Data, K::End, K::Abandoned];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Where a backup comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Of the file.
    pub format: u32,
    /// Of the database whose rows are in it.
    pub schema: u32,
    /// Of the program that made it.
    pub version: String,
    pub created_at: Timestamp,
    /// About how many bytes it will have; the database may have far fewer rows than its size says.
    pub bytes_expected: u64,
}

impl Header {
    /// The header of a backup that this program makes.
    pub fn new(schema: u32, created_at: Timestamp, bytes_expected: u64) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, schema, version, created_at, bytes_expected }
    }
}

/// How much is in a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Changes of rows: more than there are rows if some changed while the backup was made.
    pub row_changes: u64,
    pub files: u64,
    /// Bytes of the contents of all files.
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

/// The digest of a frame that follows the one with the digest `before`.
fn digest(before: &[u8; DIGEST_BYTES], head: &[u8], content: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new().chain_update(before).chain_update(head).chain_update(content).finalize().into()
}

#[cfg(test)]
mod tests;
