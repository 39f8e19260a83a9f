//! Decodes bodies that come in chunks (RFC 9112 7.1), piece by piece as they arrive. Extensions and
//! trailers are checked and dropped, under limits. Pure.

use super::scan::is_text;
use crate::model::refusal::{Reason, Refusal};
use crate::model::text::is_token;

/// Bytes of the first line of a chunk: a size, and extensions, which senders hardly use.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Bytes of the trailers of a chunked body, which are dropped.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// What the next byte may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The chunk's size; so many digits of it have come.
    Size(usize),
    /// Spaces between the size and an extension.
    Space,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

/// See the module.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of the current chunk that are still to come.
    remaining: u64,
    /// Bytes of the current chunk's first line, or of all trailers.
    line_bytes: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Digits of a chunk's size: what fits in 64 bits.
const SIZE_DIGITS_MAX: usize = 16;

impl Decoder {
    /// Before the first chunk.
    pub fn new() -> Self {
        Self { state: State::Size(0), remaining: 0, line_bytes: 0 }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of the current chunk that are still to come, as its size announces them.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Takes from the front of `input` up to and including the next piece of the body. Returns how
    /// much it took and that piece, which is empty when it took everything without coming to one,
    /// or when the body is complete.
    ///
    /// # Errors
    /// When this is no chunked body.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<(usize, &'a [u8]), Refusal> {
        let mut used = 0;
        while let Some(&byte) = input.get(used) {
            match self.state {
                State::Done => break,
                State::Data => {
                    let rest = input.get(used..).unwrap_or_default();
                    let length = usize::try_from(self.remaining).unwrap_or(usize::MAX);
                    let piece = rest.get(..length).unwrap_or(rest);
                    self.remaining -= piece.len() as u64;
                    if self.remaining == 0 {
                        self.state = State::DataReturn;
                    }
                    return Ok((used + piece.len(), piece));
                }
                _ => {
                    self.state = self.step(byte)?;
                    used += 1;
                    self.check_limits()?;
                }
            }
        }
        Ok((used, &[]))
    }

    fn check_limits(&mut self) -> Result<(), Refusal> {
        self.line_bytes += 1;
        match self.state {
            State::Data | State::Done => self.line_bytes = 0,
            State::TrailerStart
            | State::TrailerName
            | State::Trailer
            | State::TrailerLineFeed
            | State::LastLineFeed => {
                if self.line_bytes > TRAILER_BYTES_MAX {
                    return Err(Refusal::new(Reason::HeadTooLarge, "the trailers are too large"));
                }
            }
            _ => {
                if self.line_bytes > CHUNK_LINE_BYTES_MAX {
                    return Err(Refusal::new(
                        Reason::Malformed,
                        "a chunk's first line is too long",
                    ));
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        let next = match (self.state, byte) {
            (State::Size(digits), byte) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                self.remaining = self.remaining << 4 | digit;
                State::Size(digits + 1)
            }
            (State::Size(1..), b' ' | b'\t') | (State::Space, b' ' | b'\t') => State::Space,
            (State::Size(1..), b';') | (State::Space, b';') => State::Extension,
            (State::Size(1..) | State::Extension, b'\r') => State::SizeLineFeed,
            (State::Extension, byte) if is_text(byte) => State::Extension,
            (State::SizeLineFeed, b'\n') if self.remaining == 0 => {
                self.line_bytes = 0;
                State::TrailerStart
            }
            (State::SizeLineFeed, b'\n') => State::Data,
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => {
                self.line_bytes = 0;
                State::Size(0)
            }
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::TrailerStart | State::TrailerName, byte) if is_token(byte) => {
                State::TrailerName
            }
            (State::TrailerName, b':') => State::Trailer,
            (State::Trailer, byte) if is_text(byte) => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerLineFeed,
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            (State::LastLineFeed, b'\n') => State::Done,
            _ => {
                return Err(Refusal::new(
                    Reason::Malformed,
                    "the body is not chunked as it claims to be",
                ));
            }
        };
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body in `input` when it arrives `step` bytes at a time, and how much of it was used;
    /// `None` when it is not complete.
    fn decoded(input: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, u16> {
        let mut decoder = Decoder::new();
        let (mut body, mut used) = (Vec::new(), 0);
        for piece in input.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() && !decoder.is_done() {
                let (took, data) = decoder.next(rest).map_err(|refusal| refusal.status())?;
                body.extend_from_slice(data);
                used += took;
                rest = &rest[took..];
            }
        }
        Ok(decoder.is_done().then_some((body, used)))
    }

    #[track_caller]
    fn assert_decoded(input: &[u8], expected: Result<Option<&[u8]>, u16>) {
        for step in [1, 2, 3, 5, input.len().max(1)] {
            let shown = String::from_utf8_lossy(&input[..input.len().min(80)]);
            let seen = decoded(input, step);
            let seen = seen.as_ref().map(|it| it.as_ref().map(|(body, _)| body.as_slice()));
            assert_eq!(seen.map_err(|status| *status), expected, "{shown:?} by {step}");
        }
    }

    #[test]
    fn bodies_are_put_together() {
        for (input, body) in [
            (&b"0\r\n\r\n"[..], &b""[..]),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"5\r\nhello\r\n0006\r\n world\r\n000\r\n\r\n", b"hello world"),
            (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
            (b"a;name=value;\"q\"\r\n0123456789\r\n0;x\r\n\r\n", b"0123456789"),
            (b"1 ; x\r\na\r\n0\r\n\r\n", b"a"),
            (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
            (b"1\r\na\r\n0\r\nX-Sum: 1\r\nY: \xff\r\n\r\n", b"a"),
        ] {
            assert_decoded(input, Ok(Some(body)));
        }
    }

    #[test]
    fn what_follows_the_body_is_left_alone() {
        let input = b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
        let (_, used) = decoded(input, input.len()).unwrap().unwrap();
        assert_eq!(&input[used..], b"GET / HTTP/1.1\r\n");
    }

    #[test]
    fn a_body_that_is_cut_is_not_complete() {
        let whole = b"5\r\nhello\r\n0\r\nX: y\r\n\r\n";
        for end in 0..whole.len() {
            assert_decoded(&whole[..end], Ok(None));
        }
    }

    #[test]
    fn what_is_not_chunked_is_refused() {
        for input in [
            &b"\r\n"[..],
            b";x\r\n",
            b" 5\r\n",
            b"5 \r\n",
            b"-1\r\n",
            b"+5\r\n",
            b"0x5\r\n",
            b"g\r\n",
            b"5\n",
            b"5\rx",
            b"5;x\n",
            b"5;\x00",
            b"5\r\nhelloX",
            b"5\r\nhello\n",
            b"5\r\nhello\rX",
            b"0\r\n\n",
            b"0\r\nX: y\n",
            b"0\r\nX: y\rZ",
            b"0\r\n\rX",
            b"0\r\nX\r\n",
            b"0\r\nX y: z\r\n",
            b"0\r\nX : y\r\n",
            b"0\r\n: y\r\n",
            b"0\r\n folded: y\r\n",
            b"0\r\nX: y\r\n folded\r\n",
            b"0\r\nGET / HTTP/1.1\r\n",
            b"00000000000000005\r\n",
            b"fffffffffffffffff\r\n",
        ] {
            assert_decoded(input, Err(400));
        }
        let long = format!("5;{}", "x".repeat(CHUNK_LINE_BYTES_MAX));
        assert_decoded(long.as_bytes(), Err(400));
        let trailers = format!("0\r\n{}", "X: y\r\n".repeat(TRAILER_BYTES_MAX));
        assert_decoded(trailers.as_bytes(), Err(431));
    }

    #[test]
    fn the_largest_size_is_understood() {
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(b"ffffffffffffffff\r\n"), Ok((18, &b""[..])));
        assert_eq!(decoder.remaining(), u64::MAX);
    }
}
