//! Writes answers, over the writer that tiny_http hands out: its own chunked encoder holds back up
//! to 8 KiB, so that output could not be followed through it.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::fmt::rfc2822::DateTimePrinter;

use super::Shared;
use crate::http::message::{Answer, Body, Stream};

/// What the request asks of the form of its answer.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// To HEAD the head alone is the answer.
    pub(super) is_head: bool,
    /// HTTP/1.0 knows no chunks.
    pub(super) can_chunk: bool,
    /// An HTTP/1.0 client that asked to keep the connection must be told that it was.
    pub(super) keeps_old: bool,
    /// The connection is of no use after this answer.
    pub(super) closes: bool,
}

impl Form {
    pub(super) fn of(exchange: &tiny_http::Request) -> Self {
        let can_chunk = *exchange.http_version() >= (1, 1);
        let connection = exchange
            .headers()
            .iter()
            .find(|header| header.field.equiv("Connection"))
            .map(|header| header.value.as_str().to_ascii_lowercase())
            .unwrap_or_default();
        let keeps_old = !can_chunk && connection.contains("keep-alive");
        Self {
            is_head: *exchange.method() == tiny_http::Method::Head,
            can_chunk,
            keeps_old,
            closes: connection.contains("close") || (!can_chunk && !keeps_old),
        }
    }
}

/// Writes `answer`.
pub(super) fn write(
    shared: &Shared,
    mut writer: Box<dyn Write + Send>,
    answer: Answer,
    form: Form,
) {
    let written = match answer.body {
        Body::Bytes(bytes) => {
            write_bytes(&mut writer, answer.status, &answer.headers, &bytes, form)
        }
        Body::Stream(stream) => write_stream(
            &mut writer,
            (answer.status, &answer.headers),
            stream,
            form,
            &shared.stopping,
        ),
    };
    if let Err(error) = written {
        log::debug!(listener = shared.name, error:% = error; "an answer ended early");
    }
}

/// Writes an answer of `bytes` at once.
pub(super) fn write_bytes(
    writer: &mut dyn Write,
    status: u16,
    headers: &[(&'static str, String)],
    bytes: &[u8],
    form: Form,
) -> io::Result<()> {
    let mut message = head(status, headers, Some(bytes.len() as u64), form).into_bytes();
    if !form.is_head {
        message.extend_from_slice(bytes);
    }
    writer.write_all(&message)?;
    writer.flush()
}

fn write_stream(
    writer: &mut dyn Write,
    (status, headers): (u16, &[(&'static str, String)]),
    stream: Stream,
    form: Form,
    stopping: &AtomicBool,
) -> io::Result<()> {
    if stream.length.is_none() && !form.can_chunk {
        // Handlers send an HTTP/1.0 client nothing that lasts, so this is as bounded as what
        // they have to send.
        let mut bytes = Vec::new();
        (stream.write)(&mut bytes)?;
        return write_bytes(writer, status, headers, &bytes, form);
    }
    writer.write_all(head(status, headers, stream.length, form).as_bytes())?;
    writer.flush()?;
    if form.is_head {
        return Ok(());
    }
    let is_chunked = stream.length.is_none();
    let mut body = BodyWriter { writer: &mut *writer, is_chunked, stopping, failed: false };
    let written = (stream.write)(&mut body);
    let is_connected = !body.failed;
    match written {
        Ok(()) if is_chunked => writer.write_all(b"0\r\n\r\n")?,
        Ok(()) => {}
        Err(error) => {
            // The connection cannot be closed from here. What is no chunk tells the client that
            // the answer is not complete.
            if is_chunked && is_connected {
                writer.write_all(b"!\r\n")?;
                writer.flush()?;
            }
            return Err(error);
        }
    }
    writer.flush()
}

/// The head of an answer whose body has `length` bytes, or comes in chunks.
fn head(
    status: u16,
    headers: &[(&'static str, String)],
    length: Option<u64>,
    form: Form,
) -> String {
    let reason = tiny_http::StatusCode(status).default_reason_phrase();
    let mut head = String::with_capacity(256);
    let _ = write!(head, "HTTP/1.1 {status} {reason}\r\n");
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now()) {
        let _ = write!(head, "Date: {date}\r\n");
    }
    for (name, value) in headers {
        // Nothing from outside becomes a header; should it ever, it must not become two.
        if !value.bytes().any(|byte| byte.is_ascii_control()) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    let _ = match length {
        Some(length) => write!(head, "Content-Length: {length}\r\n"),
        None => write!(head, "Transfer-Encoding: chunked\r\n"),
    };
    if form.closes {
        head.push_str("Connection: close\r\n");
    } else if form.keeps_old {
        head.push_str("Connection: keep-alive\r\n");
    }
    head.push_str("\r\n");
    head
}

/// Sends each write as a chunk (or as it is), and fails once the server is stopping.
struct BodyWriter<'a> {
    writer: &'a mut dyn Write,
    is_chunked: bool,
    stopping: &'a AtomicBool,
    /// Whether the connection itself has failed.
    failed: bool,
}

impl BodyWriter<'_> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_chunked {
            write!(self.writer, "{:x}\r\n", bytes.len())?;
            self.writer.write_all(bytes)?;
            self.writer.write_all(b"\r\n")
        } else {
            self.writer.write_all(bytes)
        }
    }
}

impl Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A chunk of no bytes would be the last.
        if bytes.is_empty() {
            return Ok(0);
        }
        let sent = self.send(bytes);
        self.failed |= sent.is_err();
        sent.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(io::Error::other("the server is stopping"));
        }
        let flushed = self.writer.flush();
        self.failed |= flushed.is_err();
        flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Form = Form { is_head: false, can_chunk: true, keeps_old: false, closes: false };

    fn streamed(stream: Stream, form: Form) -> String {
        let mut written = Vec::new();
        let _ = write_stream(&mut written, (200, &[]), stream, form, &AtomicBool::new(false));
        let text = String::from_utf8(written).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let framing = head.lines().last().unwrap();
        format!("{framing}|{body}")
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
    fn streams_are_framed_as_the_client_understands() {
        assert_eq!(
            streamed(two_writes(None), FORM),
            "Transfer-Encoding: chunked|3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        );
        assert_eq!(streamed(two_writes(Some(6)), FORM), "Content-Length: 6|onetwo");
        let old = Form { can_chunk: false, ..FORM };
        assert_eq!(streamed(two_writes(None), old), "Content-Length: 6|onetwo");
    }

    #[test]
    fn a_stream_that_fails_does_not_look_complete() {
        let write = Box::new(|out: &mut dyn Write| {
            out.write_all(b"one")?;
            Err(io::Error::other("the disk is gone"))
        });
        let stream = Stream { length: None, is_lasting: false, write };
        assert_eq!(streamed(stream, FORM), "Transfer-Encoding: chunked|3\r\none\r\n!\r\n");
    }

    #[test]
    fn a_header_cannot_become_two() {
        let head = head(200, &[("X-A", "1\r\nX-B: 2".into()), ("X-C", "3".into())], Some(0), FORM);
        assert!(!head.contains("X-B") && head.contains("X-C: 3\r\n"));
    }
}
