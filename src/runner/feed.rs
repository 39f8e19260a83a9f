//! A vessel's standard input: the body, written as fast as the vessel reads it.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Bytes of one read from or write to a vessel: the capacity of a pipe (pipe(7)).
pub(super) const PIPE_BUFFER_BYTES: usize = 64 * 1024;

/// A body on its way into a vessel.
pub(super) struct Feed<'a> {
    /// `None` when the body has ended or the vessel has closed its input.
    pipe: Option<OwnedFd>,
    body: Box<dyn Read + Send + 'a>,
    /// Bytes that are left in `body`.
    bytes_left: u64,
    buffer: Vec<u8>,
    written: usize,
    is_paused: bool,
}

impl<'a> Feed<'a> {
    /// A pipe for `body` of `bytes` bytes: the vessel's end, and the feed of the other end.
    /// `buffer` holds the first bytes of the body if they were read before.
    pub fn new(
        body: Box<dyn Read + Send + 'a>,
        bytes: u64,
        buffer: Vec<u8>,
    ) -> io::Result<(PipeReader, Self)> {
        let (reader, writer): (PipeReader, PipeWriter) = io::pipe()?;
        let pipe = OwnedFd::from(writer);
        // Only on this end: the vessel gets a blocking pipe.
        rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        let bytes_left = bytes.saturating_sub(buffer.len() as u64);
        Ok((
            reader,
            Self { pipe: Some(pipe), body, bytes_left, buffer, written: 0, is_paused: false },
        ))
    }

    /// The descriptor to poll for room; `None` when nothing is left to write.
    pub fn wants(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| !self.is_paused).map(AsFd::as_fd)
    }

    /// Stops feeding, and keeps the input open.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Writes up to one buffer without waiting.
    ///
    /// # Errors
    /// When the body cannot be read. The vessel must not take the part for the whole.
    pub fn pump(&mut self) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        debug_assert!(self.written <= self.buffer.len());
        if self.written == self.buffer.len() {
            self.written = 0;
            read_slice(&mut *self.body, &mut self.bytes_left, &mut self.buffer)?;
        }
        match rustix::io::write(pipe, &self.buffer[self.written..]) {
            Ok(bytes) => self.written += bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            // EPIPE: the vessel does not read the rest.
            Err(_) => self.pipe = None,
        }
        if self.written == self.buffer.len() && self.bytes_left == 0 {
            self.pipe = None;
        }
        Ok(())
    }
}

/// Reads up to one buffer of a body that has `bytes_left` left.
///
/// # Errors
/// Those of `body`; `UnexpectedEof` when it ends early.
pub(super) fn read_slice(
    body: &mut (dyn Read + Send + '_),
    bytes_left: &mut u64,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let wanted = (*bytes_left).min(PIPE_BUFFER_BYTES as u64);
    buffer.clear();
    buffer.reserve_exact(wanted as usize);
    if body.take(wanted).read_to_end(buffer)? as u64 != wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    *bytes_left -= wanted;
    Ok(())
}
