//! Reads a backup frame by frame. Each frame is checked before it is handed out. The end of the
//! backup tells whether it is complete.

use std::io::{self, Read};

use serde::de::DeserializeOwned;

use super::change::RowChanges;
use super::{
    DIGEST_BYTES, FORMAT, FRAME_BYTES_MAX, FRAME_HEAD_BYTES, FormatError, Header, Kind, MAGIC,
    Totals, digest,
};
use crate::model::clock::Timestamp;

/// Reads a backup from `R`.
pub struct Reader<R> {
    source: R,
    header: Header,
    /// Bytes read so far.
    at: u64,
    /// Digest of the last frame.
    last: [u8; DIGEST_BYTES],
    /// Content of the last frame.
    content: Vec<u8>,
    /// Bytes of the present file that follow.
    file_left: u64,
    /// Totals of the frames so far.
    totals: Totals,
    has_ended: bool,
}

/// A piece of a backup.
#[derive(Debug)]
pub enum Frame<'a> {
    /// Changes of rows, in their order.
    Rows(RowChanges<'a>),
    /// The beginning of a file.
    File { name: &'a str },
    /// The next bytes of the file.
    Data(&'a [u8]),
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When this program does not understand it.
    pub fn open(mut source: R) -> Result<Self, FormatError> {
        let mut magic = [0; MAGIC.len()];
        match source.read_exact(&mut magic) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(FormatError::NotOne);
            }
            read => read?,
        }
        if magic != *MAGIC {
            return Err(FormatError::NotOne);
        }
        let mut reader = Self {
            source,
            header: Header::new(0, Timestamp::default(), 0),
            at: MAGIC.len() as u64,
            last: [0; DIGEST_BYTES],
            content: Vec::new(),
            file_left: 0,
            totals: Totals::default(),
            has_ended: false,
        };
        let kind = reader.frame()?;
        if kind != Kind::Header {
            return Err(reader.damaged("it has no header"));
        }
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
            version: String,
        }
        let Format { format, version } = reader.json()?;
        if format > FORMAT {
            return Err(FormatError::NewerFormat { version, format });
        }
        reader.header = reader.json()?;
        Ok(reader)
    }

    /// The origin of the backup.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Totals of the frames so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next piece; `None` at the end of a complete backup.
    ///
    /// # Errors
    /// When the backup is damaged or incomplete.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FormatError> {
        if self.has_ended {
            return Ok(None);
        }
        let kind = self.frame()?;
        if self.file_left > 0 && !matches!(kind, Kind::Data | Kind::Abandoned) {
            return Err(self.damaged("a file in it ends early"));
        }
        match kind {
            Kind::Rows => {
                let changes = RowChanges::of(&self.content);
                for change in changes {
                    change.map_err(|what| FormatError::Damaged { at: self.at, what })?;
                    self.totals.row_changes += 1;
                }
                Ok(Some(Frame::Rows(changes)))
            }
            Kind::File => {
                let at = self.at;
                let damaged = |what| FormatError::Damaged { at, what };
                let (length, name) =
                    self.content.split_first_chunk().ok_or(damaged("a file has no name"))?;
                let length = u64::from_le_bytes(*length);
                let name = str::from_utf8(name).map_err(|_| damaged("a file has no name"))?;
                self.file_left = length;
                self.totals.files += 1;
                self.totals.file_bytes = self.totals.file_bytes.saturating_add(length);
                Ok(Some(Frame::File { name }))
            }
            Kind::Data => match self.file_left.checked_sub(self.content.len() as u64) {
                Some(left) => {
                    self.file_left = left;
                    Ok(Some(Frame::Data(&self.content)))
                }
                None => Err(self.damaged("a file in it goes on after its end")),
            },
            Kind::End => {
                if self.json::<Totals>()? != self.totals {
                    return Err(self.damaged("it does not hold as much as it says"));
                }
                if self.source.read(&mut [0])? > 0 {
                    return Err(self.damaged("something follows its end"));
                }
                self.has_ended = true;
                Ok(None)
            }
            Kind::Abandoned => {
                let why = String::from_utf8_lossy(&self.content).into_owned();
                Err(FormatError::Abandoned(why))
            }
            Kind::Header => Err(self.damaged("it has two headers")),
        }
    }

    /// Reads the next frame into `content` and checks it.
    fn frame(&mut self) -> Result<Kind, FormatError> {
        let mut head = [0; FRAME_HEAD_BYTES];
        self.read(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        // The length is needed to find the digest that protects it.
        if length > FRAME_BYTES_MAX {
            return Err(self.damaged("a piece of it is too long"));
        }
        let mut content = std::mem::take(&mut self.content);
        content.resize(length, 0);
        self.read(&mut content)?;
        let mut found = [0; DIGEST_BYTES];
        self.read(&mut found)?;
        self.last = digest(&self.last, &head, &content);
        self.content = content;
        if found != self.last {
            return Err(self.damaged("its checksum is wrong"));
        }
        Kind::of_byte(kind).ok_or_else(|| self.damaged("it holds something unknown"))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), FormatError> {
        match self.source.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(FormatError::Incomplete { at: self.at })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, FormatError> {
        let what = "a part of it cannot be understood";
        serde_json::from_slice(&self.content)
            .map_err(|_| FormatError::Damaged { at: self.at, what })
    }

    fn damaged(&self, what: &'static str) -> FormatError {
        FormatError::Damaged { at: self.at, what }
    }
}
