//! How values become rows: JSON behind one byte that tells the format's version.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::ROW_BYTES_MAX;

/// The first byte of every JSON row. Another format of the same row gets another letter.
const FORMAT: u8 = b'1';

/// Why a value does not become a row, or a row a value.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("a row of {bytes} bytes is over the limit of {ROW_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("unknown row format {0:?}")]
    UnknownFormat(Option<u8>),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// `value` as one row.
///
/// # Errors
/// When the row would be longer than [`ROW_BYTES_MAX`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let row = encode_long(value)?;
    if row.len() > ROW_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: row.len() });
    }
    Ok(row)
}

/// `value` as bytes of any length, to be cut into chunks.
///
/// # Errors
/// When the value has no JSON form.
pub fn encode_long<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut row = Vec::with_capacity(512);
    row.push(FORMAT);
    serde_json::to_writer(&mut row, value)?;
    Ok(row)
}

/// The value that became `row`.
///
/// # Errors
/// When the row is of another format, or no such value.
pub fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, CodecError> {
    match row.split_first() {
        Some((&FORMAT, json)) => Ok(serde_json::from_slice(json)?),
        other => Err(CodecError::UnknownFormat(other.map(|(format, _)| *format))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_stay_short() {
        let row = encode(&vec!["a", "b"]).unwrap();
        assert_eq!(decode::<Vec<String>>(&row).unwrap(), ["a", "b"]);
        let long = "x".repeat(ROW_BYTES_MAX);
        assert!(matches!(encode(&long), Err(CodecError::TooLong { .. })));
        assert!(matches!(decode::<String>(b"2\"a\""), Err(CodecError::UnknownFormat(Some(b'2')))));
        assert!(matches!(decode::<String>(b""), Err(CodecError::UnknownFormat(None))));
    }
}
