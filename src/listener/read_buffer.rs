//! The bytes that a connection has received and not consumed: the rest of one request and the beginning
//! of the next may come in one piece.

use std::io::{self, Read};

/// Bytes that an idle connection keeps for the next request: most requests fit.
const SMALL: usize = 4096;
/// Bytes that are read at a time from a sender who keeps up.
const LARGE: usize = 64 * 1024;

/// A buffer that grows with what arrives at once, so that a slow sender holds little.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl ReadBuffer {
    /// What is there to take.
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.begin..self.end).unwrap_or_default()
    }

    /// Takes `count` bytes off the front, or all there are.
    pub fn consume(&mut self, count: usize) {
        self.begin = self.end.min(self.begin.saturating_add(count));
    }

    /// Reads once from `source`. Returns how many bytes came; 0 at its end.
    ///
    /// # Errors
    /// When `source` cannot be read.
    pub fn fill(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        self.make_room();
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let read = source.read(room)?;
        self.end += read;
        Ok(read)
    }

    /// Gives back what the last request needed more than most.
    pub fn shrink(&mut self) {
        if self.begin == self.end && self.bytes.len() > SMALL {
            *self = Self::default();
        }
    }

    fn make_room(&mut self) {
        let was_full = self.end == self.bytes.len();
        if self.begin > 0 {
            self.bytes.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        // A client that has filled it has more to send. Beyond LARGE it grows only for a head, which
        // the scanner ends at its limit.
        if was_full && (self.bytes.len() < LARGE || self.end == self.bytes.len()) {
            self.bytes.resize((self.bytes.len() * 2).max(SMALL), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_keeps_unread_bytes_and_grows_as_needed() {
        let mut source: Box<dyn Read> = Box::new(io::repeat(b'x').take(1 << 20));
        let mut read_buffer = ReadBuffer::default();
        assert_eq!(read_buffer.fill(&mut source).unwrap(), SMALL);
        read_buffer.consume(SMALL - 1);
        assert_eq!(read_buffer.filled(), b"x");
        let mut most = 0;
        while read_buffer.fill(&mut source).unwrap() > 0 {
            most = most.max(read_buffer.filled().len());
            read_buffer.consume(usize::MAX);
        }
        assert_eq!(most, LARGE);
        read_buffer.shrink();
        assert_eq!(read_buffer.bytes.len(), 0);

        let mut slow: Box<dyn Read> = Box::new(io::repeat(b'x').take(3));
        assert_eq!(read_buffer.fill(&mut slow).unwrap(), 3);
        assert_eq!(read_buffer.bytes.len(), SMALL);
    }
}
