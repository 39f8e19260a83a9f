//! A vessel's standard input: the body, written as fast as the vessel reads it and never faster.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Bytes that are read from or written to a vessel at a time: what a pipe holds (pipe(7)).
pub(super) const PIPE_BUFFER_BYTES: usize = 64 * 1024;

/// A body on its way into a vessel.
pub(super) struct Feed<'a> {
    /// `None` when the body has ended or nobody reads it any more.
    pipe: Option<OwnedFd>,
    body: Box<dyn Read + Send + 'a>,
    /// Bytes that `body` has still to give.
    bytes_left: u64,
    buffer: Vec<u8>,
    written: usize,
    is_paused: bool,
}

impl<'a> Feed<'a> {
    /// A pipe for `body` of `bytes` bytes: the end for the vessel, and what feeds the other.
    /// `buffer` holds the first bytes of the body when they were read before.
    pub fn new(
        body: Box<dyn Read + Send + 'a>,
        bytes: u64,
        buffer: Vec<u8>,
    ) -> io::Result<(PipeReader, Self)> {
        let (reader, writer): (PipeReader, PipeWriter) = io::pipe()?;
        let pipe = OwnedFd::from(writer);
        // Only our end: the vessel gets a pipe like any other.
        rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        let bytes_left = bytes.saturating_sub(buffer.len() as u64);
        Ok((
            reader,
            Self { pipe: Some(pipe), body, bytes_left, buffer, written: 0, is_paused: false },
        ))
    }

    /// What to wait for to be writable; `None` when nothing is left to write.
    pub fn wants(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| !self.is_paused).map(AsFd::as_fd)
    }

    /// Stops feeding without telling the vessel that its input has ended.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Writes what the pipe takes without waiting, up to one buffer.
    ///
    /// # Errors
    /// When the body cannot be read: the vessel must not take what it got for the whole.
    pub fn pump(&mut self) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        if self.written == self.buffer.len() {
            self.written = 0;
            read_slice(&mut *self.body, &mut self.bytes_left, &mut self.buffer)?;
        }
        match rustix::io::write(pipe, &self.buffer[self.written..]) {
            Ok(bytes) => self.written += bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            // EPIPE: the vessel does not care for the rest, which is its right.
            Err(_) => self.pipe = None,
        }
        if self.written == self.buffer.len() && self.bytes_left == 0 {
            self.pipe = None;
        }
        Ok(())
    }
}

/// Reads the next bytes of a body of which `bytes_left` are left, as many as fit in a buffer.
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
