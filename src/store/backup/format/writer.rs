//! Writes a backup frame by frame.

use std::io::{self, Write};

use serde::Serialize;

use super::change::{RowChange, write_change};
use super::{DIGEST_BYTES, FRAME_BYTES, FRAME_HEAD_BYTES, Header, Kind, MAGIC, Totals, digest};

/// Writes a backup to `W`, and flushes `W` after each frame. Every method fails when `W` does.
pub struct Writer<W> {
    out: W,
    /// The digest of the last frame.
    last: [u8; DIGEST_BYTES],
    /// The frame of rows so far, with room for its head. Empty when no frame is open.
    rows: Vec<u8>,
    totals: Totals,
}

impl<W: Write> Writer<W> {
    /// Begins a backup.
    pub fn begin(mut out: W, header: &Header) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        let rows = Vec::with_capacity(FRAME_BYTES);
        let mut writer = Self { out, last: [0; DIGEST_BYTES], rows, totals: Totals::default() };
        writer.json(Kind::Header, header)?;
        Ok(writer)
    }

    /// Adds a change of a row.
    pub fn change(&mut self, change: RowChange<'_>) -> io::Result<()> {
        write_change(self.open_rows(), change);
        self.count_change()
    }

    /// Adds a change that [`write_change`] has written.
    pub fn add_change(&mut self, change: &[u8]) -> io::Result<()> {
        self.open_rows().extend_from_slice(change);
        self.count_change()
    }

    /// The open frame of rows.
    fn open_rows(&mut self) -> &mut Vec<u8> {
        if self.rows.is_empty() {
            self.rows.resize(FRAME_HEAD_BYTES, 0);
        }
        &mut self.rows
    }

    fn count_change(&mut self) -> io::Result<()> {
        self.totals.row_changes += 1;
        if self.rows.len() >= FRAME_BYTES { self.end_rows() } else { Ok(()) }
    }

    /// Writes the rows so far.
    fn end_rows(&mut self) -> io::Result<()> {
        if self.rows.len() > FRAME_HEAD_BYTES {
            let mut rows = std::mem::take(&mut self.rows);
            self.frame(Kind::Rows, &mut rows)?;
            self.rows = rows;
        }
        self.rows.clear();
        Ok(())
    }

    /// Begins a file called `name` of `length` bytes.
    pub fn file(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.end_rows()?;
        self.totals.files += 1;
        self.totals.file_bytes += length;
        self.frame_of(Kind::File, &[&length.to_le_bytes(), name.as_bytes()])
    }

    /// Adds the next bytes of the file: at most [`FRAME_BYTES`].
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.frame_of(Kind::Data, &[bytes])
    }

    /// Completes the backup.
    pub fn finish(mut self) -> io::Result<Totals> {
        self.end_rows()?;
        let totals = self.totals;
        self.json(Kind::End, &totals)?;
        Ok(totals)
    }

    /// Ends an incomplete backup with the reason for its reader.
    pub fn abandon(mut self, why: &str) -> io::Result<()> {
        self.frame_of(Kind::Abandoned, &[why.as_bytes()])
    }

    fn json(&mut self, kind: Kind, value: &impl Serialize) -> io::Result<()> {
        self.frame_of(kind, &[&serde_json::to_vec(value)?])
    }

    fn frame_of(&mut self, kind: Kind, content: &[&[u8]]) -> io::Result<()> {
        let mut frame = vec![0; FRAME_HEAD_BYTES];
        content.iter().for_each(|piece| frame.extend_from_slice(piece));
        self.frame(kind, &mut frame)
    }

    /// Writes `frame`, which begins with room for its head.
    fn frame(&mut self, kind: Kind, frame: &mut Vec<u8>) -> io::Result<()> {
        let length = u32::try_from(frame.len() - FRAME_HEAD_BYTES).map_err(io::Error::other)?;
        frame[0] = kind as u8;
        frame[1..FRAME_HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
        let (head, content) = frame.split_at(FRAME_HEAD_BYTES);
        self.last = digest(&self.last, head, content);
        frame.extend_from_slice(&self.last);
        self.out.write_all(frame)?;
        self.out.flush()
    }
}
