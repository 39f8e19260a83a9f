//! Reads chunked values from any byte on, with one chunk in memory.

use std::io::{self, Read};
use std::sync::Arc;

use sled::IVec;

use crate::model::limits::ROW_BYTES_MAX;
use crate::store::StorageError;
use crate::store::keys;
use crate::store::sled::database::Database;
use crate::store::tables::Table;

/// A part of a chunked value.
pub struct ChunkReader {
    database: Arc<Database>,
    table: Table,
    /// The key of a chunk, without its number.
    prefix: Vec<u8>,
    position: u64,
    end: u64,
    /// The chunk that was read last, and its number.
    current: Option<(u32, IVec)>,
}

impl ChunkReader {
    pub(super) fn new(
        database: Arc<Database>,
        table: Table,
        prefix: Vec<u8>,
        offset: u64,
        length: u64,
    ) -> Self {
        let end = offset.saturating_add(length);
        Self { database, table, prefix, position: offset, end, current: None }
    }

    /// Another part of the same value. It takes over the chunk that was read last.
    pub fn part(&self, offset: u64, length: u64) -> Self {
        Self {
            database: Arc::clone(&self.database),
            table: self.table,
            prefix: self.prefix.clone(),
            position: offset,
            end: offset.saturating_add(length),
            current: self.current.clone(),
        }
    }

    fn chunk(&mut self, number: u32) -> io::Result<&IVec> {
        if !matches!(&self.current, Some((current, _)) if *current == number) {
            let mut key = Vec::with_capacity(self.prefix.len() + keys::CHUNK_BYTES);
            key.extend_from_slice(&self.prefix);
            key.extend_from_slice(&number.to_be_bytes());
            let row = self.database.get(self.table, &key).map_err(StorageError::from);
            let row = row.map_err(io::Error::other)?;
            let row = row.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("chunk {number} is missing"))
            })?;
            self.current = Some((number, row));
        }
        match &self.current {
            Some((_, row)) => Ok(row),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.end || buffer.is_empty() {
            return Ok(0);
        }
        let row_bytes = ROW_BYTES_MAX as u64;
        let number = u32::try_from(self.position / row_bytes).map_err(io::Error::other)?;
        let within = (self.position % row_bytes) as usize;
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let row = self.chunk(number)?;
        let Some(bytes) = row.get(within..).filter(|bytes| !bytes.is_empty()) else {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("chunk {number} ends early"),
            ));
        };
        let count = bytes.len().min(left).min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.position += count as u64;
        Ok(count)
    }
}
