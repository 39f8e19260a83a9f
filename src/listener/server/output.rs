//! Writes answers that come piece by piece, over the writer that tiny_http hands out: its own chunked
//! encoder holds back up to 8 KiB, so that output could not be followed through it.

use std::io::{self, Write};

use crate::listener::Reply;
use crate::listener::message::Stream;
use crate::listener::reply::Persistence;

/// Writes `head`, to which its last line is still missing, and after it `stream`; to HEAD, the head
/// alone.
///
/// # Errors
/// When it is not complete: the stream has failed, or `is_over` says that it is of no use any more.
pub(super) fn write(
    writer: &mut dyn Write,
    head: &[u8],
    stream: Stream,
    is_head: bool,
    is_over: &dyn Fn() -> bool,
) -> io::Result<()> {
    writer.write_all(&[head, b"\r\n"].concat())?;
    writer.flush()?;
    match is_head {
        true => Ok(()),
        false => write_stream(writer, stream, is_over),
    }
}

/// Answers a request that nothing waits behind.
pub(super) fn write_greeting(mut writer: Box<dyn Write + Send>) {
    let greeting = Reply { status: 404, headers: Vec::new(), body: Vec::new() };
    let bytes = greeting.to_bytes(Persistence::Kept, false);
    if let Err(error) = writer.write_all(&bytes).and_then(|()| writer.flush()) {
        log::debug!(error:% = error; "a new connection from the gate has ended");
    }
}

fn write_stream(
    writer: &mut dyn Write,
    stream: Stream,
    is_over: &dyn Fn() -> bool,
) -> io::Result<()> {
    let is_chunked = stream.length.is_none();
    let mut body = BodyWriter { writer, is_chunked, is_over };
    (stream.write)(&mut body)?;
    if is_chunked {
        writer.write_all(b"0\r\n\r\n")?;
    }
    writer.flush()
}

/// Sends each write as a chunk (or as it is), and fails once it is of no use any more.
struct BodyWriter<'a> {
    writer: &'a mut dyn Write,
    is_chunked: bool,
    is_over: &'a dyn Fn() -> bool,
}

impl Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A chunk of no bytes would be the last.
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.is_chunked {
            write!(self.writer, "{:x}\r\n", bytes.len())?;
            self.writer.write_all(bytes)?;
            self.writer.write_all(b"\r\n")?;
        } else {
            self.writer.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if (self.is_over)() {
            return Err(io::Error::other("the client has gone or the server is stopping"));
        }
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed(stream: Stream) -> String {
        let mut written = Vec::new();
        let _ = write_stream(&mut written, stream, &|| false);
        String::from_utf8(written).unwrap()
    }

    fn two_writes(length: Option<u64>) -> Stream {
        let write = Box::new(|out: &mut dyn Write| {
            out.write_all(b"one")?;
            out.write_all(b"")?;
            out.write_all(b"two")
        });
        Stream { length, is_lasting: false, write }
    }

    #[test]
    fn streams_are_framed() {
        assert_eq!(streamed(two_writes(None)), "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
        assert_eq!(streamed(two_writes(Some(6))), "onetwo");
    }

    #[test]
    fn a_stream_that_fails_does_not_look_complete() {
        let write = Box::new(|out: &mut dyn Write| {
            out.write_all(b"one")?;
            Err(io::Error::other("the disk is gone"))
        });
        let stream = Stream { length: None, is_lasting: false, write };
        assert_eq!(streamed(stream), "3\r\none\r\n");
    }

    #[test]
    fn a_stream_ends_when_it_is_of_no_use() {
        let write = Box::new(|out: &mut dyn Write| out.flush());
        let stream = Stream { length: None, is_lasting: true, write };
        assert!(write_stream(&mut Vec::new(), stream, &|| true).is_err());
    }
}
