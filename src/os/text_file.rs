//! Text that people write and programs save: fleet files, overrides, settings, tokens, secrets,
//! certificates. An editor may put a byte order mark in front of it or save it as UTF-16 or UTF-32. The
//! mark is no part of the text, and other encodings are refused by name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The byte order mark, as UTF-8.
pub const MARK: &str = "\u{feff}";
/// The file name that stands for standard input.
pub const STDIN: &str = "-";

/// Why bytes are not text. Never quotes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    #[error("it is {0}, not UTF-8; save it as UTF-8, or convert it: iconv -f {0} -t UTF-8")]
    OtherEncoding(&'static str),
    #[error("it is not UTF-8 (line {line}); save it as UTF-8")]
    NotUtf8 { line: usize },
    #[error("it is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
}

impl From<NotText> for io::Error {
    fn from(error: NotText) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// `bytes` without a leading byte order mark.
///
/// # Errors
/// When they are UTF-16 or UTF-32.
pub fn without_mark(mut bytes: Vec<u8>) -> Result<Vec<u8>, NotText> {
    if let Some(encoding) = other_encoding(&bytes) {
        return Err(NotText::OtherEncoding(encoding));
    }
    if bytes.starts_with(MARK.as_bytes()) {
        bytes.drain(..MARK.len());
    }
    Ok(bytes)
}

/// `bytes` as text, without a leading byte order mark.
///
/// # Errors
/// When they are UTF-16, UTF-32 or otherwise not UTF-8.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotText> {
    String::from_utf8(without_mark(bytes)?).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        NotText::NotUtf8 { line: before.iter().filter(|byte| **byte == b'\n').count() + 1 }
    })
}

/// The text of a file, without a leading byte order mark.
///
/// # Errors
/// When it cannot be read; of the kind `InvalidData` when it is not text.
pub fn read(path: &Path) -> io::Result<String> {
    Ok(decode(fs::read(path)?)?)
}

/// The bytes of a file that may hold other text than UTF-8 (PEM), without a leading byte order
/// mark.
///
/// # Errors
/// When it cannot be read; of the kind `InvalidData` when it is UTF-16 or UTF-32.
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    Ok(without_mark(fs::read(path)?)?)
}

/// The text of a file, or of standard input for [`STDIN`], of up to `bytes_max` bytes.
///
/// # Errors
/// When it cannot be read; of the kind `InvalidData` when it is not text or larger.
pub fn read_argument(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    let limit = bytes_max.saturating_add(MARK.len() as u64 + 1);
    if path == Path::new(STDIN) {
        io::stdin().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    let bytes = without_mark(bytes)?;
    // A cut within a character must not be taken for a damaged file.
    if bytes.len() as u64 > bytes_max {
        return Err(NotText::TooLarge { bytes_max }.into());
    }
    Ok(decode(bytes)?)
}

/// The encoding that `bytes` have the byte order mark of, or in which their first 4 bytes are ASCII
/// characters: UTF-16 or UTF-32. A file of zeros, which a power cut can leave, has none.
fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    let is_zero = |of: [u8; 4]| of.map(|byte| byte == 0);
    let is_multiple_of = |unit| bytes.len().is_multiple_of(unit);
    match *bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] if is_multiple_of(4) => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [a, b, c, d, ..] => match is_zero([a, b, c, d]) {
            [false, true, true, true] | [true, true, true, false] if is_multiple_of(4) => {
                Some("UTF-32")
            }
            [false, true, false, true] | [true, false, true, false] if is_multiple_of(2) => {
                Some("UTF-16")
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    fn utf32(text: &str, to_bytes: fn(u32) -> [u8; 4]) -> Vec<u8> {
        text.chars().map(u32::from).flat_map(to_bytes).collect()
    }

    #[test]
    fn a_leading_mark_is_no_part_of_the_text() {
        for (bytes, text) in [
            ("", ""),
            ("a", "a"),
            ("\u{feff}", ""),
            ("\u{feff}name: ä\r\n", "name: ä\r\n"),
            ("a\u{feff}", "a\u{feff}"),
            ("\u{feff}\u{feff}a", "\u{feff}a"),
            ("\0\0\0\0\0\0", "\0\0\0\0\0\0"),
        ] {
            assert_eq!(decode(bytes.into()).as_deref(), Ok(text), "{bytes:?}");
        }
    }

    #[test]
    fn other_encodings_are_named() {
        for text in ["name: x\n", "\u{feff}name: x\n", "\u{feff}ä"] {
            for bytes in [utf16(text, u16::to_le_bytes), utf16(text, u16::to_be_bytes)] {
                assert_eq!(decode(bytes), Err(NotText::OtherEncoding("UTF-16")), "{text:?}");
            }
            for bytes in [utf32(text, u32::to_le_bytes), utf32(text, u32::to_be_bytes)] {
                assert_eq!(decode(bytes), Err(NotText::OtherEncoding("UTF-32")), "{text:?}");
            }
        }
        assert_eq!(decode(b"a\nb\xe9\n".into()), Err(NotText::NotUtf8 { line: 2 }));
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "\u{feff}12é").unwrap();
        assert_eq!(read(&path).unwrap(), "12é");
        assert_eq!(read_bytes(&path).unwrap(), "12é".as_bytes());
        assert_eq!(read_argument(&path, 4).unwrap(), "12é");
        let error = read_argument(&path, 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("larger than 3 bytes"), "{error}");
    }
}
