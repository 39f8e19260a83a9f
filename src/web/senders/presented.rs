//! A request as the verifier sees it, and the texts in its head.

use std::borrow::Cow;
use std::io::Read;

use super::form;
use crate::listener::Body;

/// Bytes of a header that has anything to do with verification: many times the longest that providers send.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

/// A body that can be read from its beginning, again and again.
pub trait Reread {
    /// A reader at the first byte.
    fn open(&self) -> Box<dyn Read + '_>;
}

impl Reread for Body {
    fn open(&self) -> Box<dyn Read + '_> {
        Box::new(self.reader())
    }
}

impl Reread for Vec<u8> {
    fn open(&self) -> Box<dyn Read + '_> {
        Box::new(self.as_slice())
    }
}

/// A request.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// Without the question mark; empty when there was none.
    pub query: &'a str,
    /// Names as received.
    pub headers: &'a [(String, Vec<u8>)],
    pub body: &'a dyn Reread,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    Missing,
    Empty,
    Twice,
    TooLong,
}

impl Unusable {
    /// What an operator is told of the header or parameter `name`.
    pub fn describe(self, name: &str) -> String {
        match self {
            Self::Missing => format!("{name} is missing"),
            Self::Empty => format!("{name} is empty, as of a sender without a secret"),
            Self::Twice => format!("{name} comes twice"),
            Self::TooLong => format!("{name} is longer than {HEADER_BYTES_MAX} bytes"),
        }
    }
}

impl<'a> Presented<'a> {
    /// The only value of the header called `name`.
    ///
    /// # Errors
    /// When it is missing, empty, there twice or too long.
    pub fn header(&self, name: &str) -> Result<&'a [u8], Unusable> {
        let mut values = self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        let (_, value) = values.next().ok_or(Unusable::Missing)?;
        match value.len() {
            _ if values.next().is_some() => Err(Unusable::Twice),
            0 => Err(Unusable::Empty),
            length if length > HEADER_BYTES_MAX => Err(Unusable::TooLong),
            _ => Ok(value),
        }
    }

    /// Whether there is a header called `name`.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name))
    }

    /// The only value of the parameter `name` of the query, decoded.
    ///
    /// # Errors
    /// When it is missing, empty or there twice.
    pub fn parameter(&self, name: &str) -> Result<Vec<u8>, Unusable> {
        let mut values =
            form::pairs(self.query.as_bytes()).filter(|(given, _)| given == name.as_bytes());
        let (_, value) = values.next().ok_or(Unusable::Missing)?;
        match value.len() {
            _ if values.next().is_some() => Err(Unusable::Twice),
            0 => Err(Unusable::Empty),
            _ => Ok(value),
        }
    }

    /// The text of the header called `name`, for an event's id or type; `None` when it cannot be used.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.header(name).ok().map(String::from_utf8_lossy)
    }

    /// Whether the body is a form.
    pub fn is_form(&self) -> bool {
        self.header("Content-Type").is_ok_and(|value| {
            let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
            essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
        })
    }
}
