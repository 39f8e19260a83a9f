//! Text that people write and programs save: fleet files, overrides, settings, tokens, secrets,
//! certificates. An editor may put a byte order mark in front of it or save it as UTF-16. The mark
//! is no part of the text, and UTF-16 is refused by name.

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
    #[error("it is UTF-16, not UTF-8; save it as UTF-8, or convert it: iconv -f UTF-16 -t UTF-8")]
    Utf16,
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
/// When they are UTF-16.
pub fn without_mark(mut bytes: Vec<u8>) -> Result<Vec<u8>, NotText> {
    if is_utf16(&bytes) {
        return Err(NotText::Utf16);
    }
    if bytes.starts_with(MARK.as_bytes()) {
        bytes.drain(..MARK.len());
    }
    Ok(bytes)
}

/// `bytes` as text, without a leading byte order mark.
///
/// # Errors
/// When they are UTF-16, or not UTF-8.
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
/// When it cannot be read; of the kind `InvalidData` when it is UTF-16.
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

/// Whether `bytes` have the byte order mark of UTF-16 (or UTF-32), or begin with two ASCII
/// characters in either form. A file of zeros, which a power cut can leave, is not UTF-16.
fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 0, 0xfe, 0xff, ..] => true,
        [a, b, c, d, ..] if bytes.len().is_multiple_of(2) => {
            let is_zero = [a, b, c, d].map(|byte| *byte == 0);
            is_zero == [false, true, false, true] || is_zero == [true, false, true, false]
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, with_mark: bool, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = with_mark.then_some(0xfeff);
        mark.into_iter().chain(text.encode_utf16()).flat_map(to_bytes).collect()
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
        for with_mark in [true, false] {
            for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
                let bytes = utf16("name: x\n", with_mark, to_bytes);
                assert_eq!(decode(bytes), Err(NotText::Utf16), "{with_mark}");
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
