//! Finds the end of a request's head as its bytes come in, looking at each byte once, and refuses
//! at the first byte from which nothing valid can come any more: garbage does not hold a connection
//! until its deadline. Stricter than RFC 9112 where that lets two readers differ: no bare CR or LF,
//! no folded lines, no space before a colon. Pure.

use crate::model::limits;
use crate::model::refusal::{Reason, Refusal};
use crate::model::text::is_token;

/// Bytes of a request line: twice what most servers and proxies take, so that even 10 KB of a
/// wrong token get the answer that every wrong token gets.
pub const REQUEST_LINE_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request: several times what senders and their proxies add.
pub const HEADERS_MAX: usize = 100;

/// What the next byte may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the request line; empty lines may precede it (RFC 9112 2.2).
    Start,
    StartLineFeed,
    Method,
    TargetStart,
    Target,
    /// So many bytes of the version have come.
    Version(usize),
    /// The line has had its CR.
    LineFeed,
    LineStart,
    Name,
    Value,
    /// The empty line has had its CR.
    LastLineFeed,
    Done,
}

/// See the module.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// All that was looked at.
    bytes: usize,
    line_bytes: usize,
    headers: usize,
    /// Where the request line begins.
    begin: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

const VERSION: &[u8] = b"HTTP/1.";

impl Scanner {
    /// Before the first byte of a head.
    pub fn new() -> Self {
        Self { state: State::Start, bytes: 0, line_bytes: 0, headers: 0, begin: 0 }
    }

    /// Looks at `fresh`, which follows what was looked at before. Returns how many bytes the head
    /// has, once it is complete.
    ///
    /// # Errors
    /// When nothing valid can come of it.
    pub fn scan(&mut self, fresh: &[u8]) -> Result<Option<usize>, Refusal> {
        for &byte in fresh {
            self.state = self.step(byte)?;
            self.bytes += 1;
            match self.state {
                State::Done => return Ok(Some(self.bytes)),
                State::Start => self.begin = self.bytes,
                _ => {}
            }
            self.line_bytes += 1;
            self.check_limits()?;
        }
        Ok(None)
    }

    /// Where the request line begins among the bytes looked at.
    pub fn begin(&self) -> usize {
        self.begin
    }

    /// Whether a request has begun: an empty line is none, nor is half of one.
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::Start | State::StartLineFeed)
    }

    fn check_limits(&self) -> Result<(), Refusal> {
        let is_request_line = matches!(
            self.state,
            State::Method | State::TargetStart | State::Target | State::Version(_)
        );
        if is_request_line && self.line_bytes > REQUEST_LINE_BYTES_MAX {
            return Err(Refusal::new(Reason::TargetTooLong, "the request line is too long"));
        }
        if self.bytes > limits::HEAD_BYTES_MAX {
            return Err(Refusal::new(Reason::HeadTooLarge, "the head is too large"));
        }
        if self.headers > HEADERS_MAX {
            return Err(Refusal::new(Reason::HeadTooLarge, "there are too many headers"));
        }
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        let next = match (self.state, byte) {
            (State::Start, b'\r') => State::StartLineFeed,
            (State::StartLineFeed, b'\n') => State::Start,
            (State::Start, byte) if is_token(byte) => {
                self.line_bytes = 0;
                State::Method
            }
            (State::Method, byte) if is_token(byte) => State::Method,
            (State::Method, b' ') => State::TargetStart,
            // A fragment is for the client alone (RFC 9110 7.1), and some readers would drop it.
            (State::TargetStart | State::Target, b'!'..=b'~') if byte != b'#' => State::Target,
            (State::Target, b' ') => State::Version(0),
            (State::Version(had), byte) => return version(had, byte),
            (State::LineFeed, b'\n') => State::LineStart,
            (State::LineStart, b'\r') => State::LastLineFeed,
            (State::LineStart, byte) if is_token(byte) => {
                self.headers += 1;
                State::Name
            }
            (State::LineStart, b' ' | b'\t') => {
                return Err(Refusal::new(Reason::Malformed, "a header is folded over lines"));
            }
            (State::Name, byte) if is_token(byte) => State::Name,
            (State::Name, b':') => State::Value,
            (State::Value, b'\r') => State::LineFeed,
            (State::Value, byte) if is_text(byte) => State::Value,
            (State::LastLineFeed, b'\n') => State::Done,
            (state, byte) => return Err(refusal(state, byte)),
        };
        Ok(next)
    }
}

/// The state after one more byte of a version that has had `had`.
fn version(had: usize, byte: u8) -> Result<State, Refusal> {
    match (had, byte) {
        (8, b'\r') => Ok(State::LineFeed),
        (7, b'0' | b'1') => Ok(State::Version(8)),
        (5 | 7, b'0'..=b'9') if VERSION.get(had) != Some(&byte) => Err(Refusal::new(
            Reason::WrongVersion,
            "only HTTP/1.1 and HTTP/1.0 are understood here",
        )),
        _ if VERSION.get(had) == Some(&byte) => Ok(State::Version(had + 1)),
        _ => Err(Refusal::new(
            Reason::Malformed,
            "the request line does not end in a version of HTTP",
        )),
    }
}

/// Why `byte` cannot come in `state`.
fn refusal(state: State, byte: u8) -> Refusal {
    let why = match (state, byte) {
        (State::Start, 0x16) => "this port speaks plain HTTP and was sent TLS",
        (_, b'\n') => "a line ends in a bare LF",
        (State::StartLineFeed | State::LineFeed | State::LastLineFeed, _) => {
            "a CR is not part of a CRLF"
        }
        (_, b'\r') => "a line ends too early",
        (State::Start | State::Method, _) => "this does not begin like a request",
        (State::TargetStart | State::Target, _) => "the target holds what must be percent-encoded",
        (State::Name, b' ' | b'\t') => "there is a space before a header's colon",
        (State::Value, _) => "a header holds a control character",
        _ => "a header's name holds what no name may",
    };
    Refusal::new(Reason::Malformed, why)
}

/// Whether `byte` may be part of a header's value (RFC 9110 5.5).
pub(super) fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of `bytes` when they arrive `step` at a time.
    fn scanned(bytes: &[u8], step: usize) -> Result<Option<usize>, u16> {
        let mut scanner = Scanner::new();
        for piece in bytes.chunks(step) {
            if let Some(end) = scanner.scan(piece).map_err(|refusal| refusal.status())? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    #[track_caller]
    fn assert_scan(bytes: &[u8], expected: Result<Option<usize>, u16>) {
        for step in [1, 2, 7, bytes.len().max(1)] {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
            assert_eq!(scanned(bytes, step), expected, "{shown:?} by {step}");
        }
    }

    #[test]
    fn heads_end_at_their_empty_line() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "POST /hooks/a?b=c HTTP/1.0\r\nHost: x\r\nX-Empty:\r\nX-Tab:\ta \r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let mut bytes = head.as_bytes().to_vec();
            let end = bytes.len();
            bytes.extend_from_slice(b"POST ");
            assert_scan(&bytes, Ok(Some(end)));
        }
        assert_scan(b"GET / HTTP/1.1\r\nX: \xff\xc3\xa9\r\n\r\n", Ok(Some(26)));
        assert_scan(b"GET / HTTP/1.1\r\nHost: x\r\n", Ok(None));
        assert_scan(b"\r\n", Ok(None));
    }

    #[test]
    fn what_cannot_become_valid_is_refused_at_its_first_wrong_byte() {
        for (bytes, status) in [
            (&b"\x16\x03\x01\x02\x00\x01"[..], 400),
            (b"\x00", 400),
            (b" GET", 400),
            (b"\n", 400),
            (b"G\xc3", 400),
            (b"GET\r", 400),
            (b"GET  ", 400),
            (b"GET\t/", 400),
            (b"GET /\r", 400),
            (b"GET /\xc3", 400),
            (b"GET /a#", 400),
            (b"GET / \x00", 400),
            (b"GET / http", 400),
            (b"GET / x", 400),
            (b"GET /  H", 400),
            (b"GET / HTTP/1.1 ", 400),
            (b"GET / HTTP/1.1\n", 400),
            (b"GET / HTTP/1.1\rX", 400),
            (b"GET / HTTP/1.10", 400),
            (b"GET / HTTP/1.2", 505),
            (b"GET / HTTP/2", 505),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (b"GET / HTTP/0.9", 505),
            (b"GET / HTTP/1.1\r\n folded", 400),
            (b"GET / HTTP/1.1\r\nX: a\r\n\tfolded", 400),
            (b"GET / HTTP/1.1\r\nHost : x", 400),
            (b"GET / HTTP/1.1\r\n: x", 400),
            (b"GET / HTTP/1.1\r\nX\r", 400),
            (b"GET / HTTP/1.1\r\nX: a\n", 400),
            (b"GET / HTTP/1.1\r\nX: a\x00", 400),
            (b"GET / HTTP/1.1\r\nX: a\x7f", 400),
            (b"GET / HTTP/1.1\r\nX: a\rb", 400),
            (b"GET / HTTP/1.1\r\nX(: a", 400),
            (b"GET / HTTP/1.1\r\n\n", 400),
            (b"GET / HTTP/1.1\r\n\rX", 400),
        ] {
            assert_scan(bytes, Err(status));
        }
    }

    #[test]
    fn lengths_are_limited() {
        let line = |bytes: usize| format!("GET /{}", "a".repeat(bytes - 5));
        assert_scan(line(REQUEST_LINE_BYTES_MAX).as_bytes(), Ok(None));
        assert_scan(line(REQUEST_LINE_BYTES_MAX + 2).as_bytes(), Err(414));
        let method = "A".repeat(REQUEST_LINE_BYTES_MAX + 2);
        assert_scan(method.as_bytes(), Err(414));

        let start = "GET / HTTP/1.1\r\n";
        let large = format!("{start}X: {}", "a".repeat(limits::HEAD_BYTES_MAX));
        assert_scan(large.as_bytes(), Err(431));
        let many = format!("{start}{}\r\n", "A:\r\n".repeat(HEADERS_MAX));
        assert_scan(many.as_bytes(), Ok(Some(many.len())));
        let more = format!("{start}{}\r\n", "A:\r\n".repeat(HEADERS_MAX + 1));
        assert_scan(more.as_bytes(), Err(431));
        assert_scan("\r\n".repeat(limits::HEAD_BYTES_MAX).as_bytes(), Err(431));
    }
}
