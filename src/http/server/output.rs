//! Writes answers, over the writer that tiny_http hands out: its own chunked encoder holds back up
//! to 8 KiB, so that output could not be followed through it.

use std::io::{self, Write};
use std::sync::atomic::Ordering;

use super::Shared;
use crate::gate::{Line, reply};
use crate::http::message::{Answer, Body, Stream};

/// Writes `answer`; to HEAD, its head alone.
///
/// # Errors
/// When it is not complete: the stream has failed, the server is stopping, or nobody waits for it.
pub(super) fn write(
    shared: &Shared,
    writer: &mut dyn Write,
    answer: Answer,
    is_head: bool,
    line: &Line,
) -> io::Result<()> {
    match answer.body {
        Body::Bytes(bytes) => {
            let length = Some(bytes.len() as u64);
            let mut message = head(answer.status, &answer.headers, length);
            if !is_head {
                message.extend_from_slice(&bytes);
            }
            writer.write_all(&message)?;
            writer.flush()
        }
        Body::Stream(stream) => {
            let head = head(answer.status, &answer.headers, stream.length);
            writer.write_all(&head)?;
            writer.flush()?;
            if is_head {
                return Ok(());
            }
            let stopping = &shared.stopping;
            write_stream(writer, stream, &|| stopping.load(Ordering::SeqCst) || line.is_cut())
        }
    }
}

/// Answers a request that nothing waits behind.
pub(super) fn write_greeting(mut writer: Box<dyn Write + Send>) {
    let written = writer.write_all(&head(404, &[], Some(0))).and_then(|()| writer.flush());
    if let Err(error) = written {
        log::debug!(error:% = error; "a new connection from the gate has ended");
    }
}

fn head(status: u16, headers: &[(&'static str, String)], length: Option<u64>) -> Vec<u8> {
    let mut head = reply::head(status, headers, length);
    head.extend_from_slice(b"\r\n");
    head
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
