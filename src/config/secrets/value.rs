//! The value of a secret: the content of its file without what editors add.

use std::fmt;

use crate::model::limits::{ARGUMENT_BYTES_MAX, REDACTED_BYTES_MIN};
use crate::os::text_file::{MARK, NotText, without_mark};

/// The present value of a secret. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(super) fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a content is no value. Never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    #[error(
        "it is longer than the {ARGUMENT_BYTES_MAX} bytes that fit in a variable: let the program \
         read the file itself"
    )]
    TooLong,
    #[error("it contains a NUL, which no variable can hold; encode it, in base64 for example")]
    Nul,
    #[error("it is not text in UTF-8: encode it, in base64 for example")]
    NotUtf8,
    #[error(transparent)]
    NotText(NotText),
    #[error("it is empty; a secret has at least one byte beside a line end")]
    Empty,
}

/// Bytes that editors may add to a value of `bytes_max` bytes, and one that tells whether it is longer.
pub(super) const fn read_max(bytes_max: usize) -> u64 {
    (MARK.len() + bytes_max + "\r\n".len() + 1) as u64
}

/// The value that a file with `content` holds, of at most `bytes_max` bytes. A byte order mark at the
/// beginning and one line end (LF or CRLF) at the end are no part of it. May be empty.
///
/// # Errors
/// When no variable can hold it.
pub(super) fn value_of(content: Vec<u8>, bytes_max: usize) -> Result<String, InvalidValue> {
    let mut bytes = without_mark(content).map_err(InvalidValue::NotText)?;
    if let Some(line) = bytes.strip_suffix(b"\n") {
        bytes.truncate(line.strip_suffix(b"\r").unwrap_or(line).len());
    }
    if bytes.len() > bytes_max {
        return Err(InvalidValue::TooLong);
    }
    if bytes.contains(&0) {
        return Err(InvalidValue::Nul);
    }
    String::from_utf8(bytes).map_err(|_| InvalidValue::NotUtf8)
}

/// Adds `value` to `forms`, the text of its file with a byte order mark, each line of it, and each
/// of these without the blanks around it. Forms that are too short to be told from other text are
/// left to the redactor.
pub(super) fn add_forms(value: &str, forms: &mut Vec<String>) {
    forms.push(value.to_owned());
    if value.len() >= REDACTED_BYTES_MIN {
        forms.push(format!("{MARK}{value}"));
    }
    let parts = std::iter::once(value).chain(value.split(['\r', '\n']));
    for part in parts.flat_map(|part| [part, part.trim()]) {
        if part.len() >= REDACTED_BYTES_MIN && part.len() < value.len() {
            forms.push(part.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_loses_a_mark_and_one_line_end() {
        for (content, value) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\r", "a\r"),
            ("a\n\r\n", "a\n"),
            ("a \r\n", "a "),
            ("\u{feff}a\r\n", "a"),
            ("\u{feff}", ""),
            ("a\n\n", "a\n"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(value_of(content.into(), 2).as_deref(), Ok(value), "{content:?}");
        }
    }

    #[test]
    fn a_content_that_no_variable_can_hold_is_refused() {
        for (content, error) in [
            (&b"abc"[..], InvalidValue::TooLong),
            (b"a\0", InvalidValue::Nul),
            (b"\xff", InvalidValue::NotUtf8),
            (b"\xff\xfea\0", InvalidValue::NotText(NotText::OtherEncoding("UTF-16"))),
        ] {
            assert_eq!(value_of(content.into(), 2), Err(error), "{content:?}");
        }
    }

    #[test]
    fn debug_output_has_no_value() {
        assert_eq!(format!("{:?}", Secret::new("opensesame".to_owned())), "Secret(…)");
    }

    #[test]
    fn lines_and_trimmed_forms_are_secret_as_well() {
        let mut forms = Vec::new();
        add_forms("  a secret \r\nwith lines\nshort", &mut forms);
        let expected = [
            "  a secret \r\nwith lines\nshort",
            "\u{feff}  a secret \r\nwith lines\nshort",
            "a secret \r\nwith lines\nshort",
            "  a secret ",
            "a secret",
            "with lines",
            "with lines",
        ];
        assert_eq!(forms, expected);
        forms.clear();
        add_forms("long enough", &mut forms);
        assert_eq!(forms, ["long enough", "\u{feff}long enough"]);
    }
}
