//! A change of one row as bytes: put or removed, the key, and the value if it is put.

use std::io::{self, Read};

const REMOVED: u8 = 0;
const PUT: u8 = 1;

/// A change of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowChange<'a> {
    /// The full key, with the byte of its table.
    pub key: &'a [u8],
    /// `None`: the row is removed.
    pub value: Option<&'a [u8]>,
}

/// Adds a change to `out`. The format limits keys to 64 KiB and values to 4 GiB, far above any row.
pub fn write_change(out: &mut Vec<u8>, change: RowChange<'_>) {
    let RowChange { key, value } = change;
    debug_assert!(u16::try_from(key.len()).is_ok(), "a key is too long");
    out.push(if value.is_some() { PUT } else { REMOVED });
    out.extend_from_slice(&(key.len() as u16).to_le_bytes());
    out.extend_from_slice(key);
    if let Some(value) = value {
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(value);
    }
}

/// Copies the next change from `source` to the end of `out`, as [`write_change`] wrote it. `false` at
/// the end of `source`.
///
/// # Errors
/// When `source` cannot be read, or ends within a change.
pub fn read_change(source: &mut impl Read, out: &mut Vec<u8>) -> io::Result<bool> {
    let mut head = [0; 3];
    if source.read(&mut head[..1])? == 0 {
        return Ok(false);
    }
    source.read_exact(&mut head[1..])?;
    out.extend_from_slice(&head);
    copy(source, u64::from(u16::from_le_bytes([head[1], head[2]])), out)?;
    if head[0] == PUT {
        let mut length = [0; 4];
        source.read_exact(&mut length)?;
        out.extend_from_slice(&length);
        copy(source, u64::from(u32::from_le_bytes(length)), out)?;
    }
    Ok(true)
}

fn copy(source: &mut impl Read, length: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let copied = source.take(length).read_to_end(out)?;
    if copied as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Iterates over consecutive changes.
#[derive(Clone, Copy, Debug)]
pub struct RowChanges<'a>(&'a [u8]);

impl<'a> RowChanges<'a> {
    /// The changes in `bytes`, as [`write_change`] wrote them.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn take_change(&mut self) -> Option<RowChange<'a>> {
        let is_put = self.take(1)? == [PUT];
        let length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        let key = self.take(usize::from(length))?;
        let value = match is_put {
            true => {
                let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
                Some(self.take(usize::try_from(length).ok()?)?)
            }
            false => None,
        };
        Some(RowChange { key, value })
    }
}

impl<'a> Iterator for RowChanges<'a> {
    /// `Err`: the rest is no change. The digest was right, so its writer was wrong.
    type Item = Result<RowChange<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let change = self.take_change();
        if change.is_none() {
            self.0 = &[];
        }
        Some(change.ok_or("a row in it cannot be understood"))
    }
}
