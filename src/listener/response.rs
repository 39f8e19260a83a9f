//! The one response type, and its form on the wire: status line, headers, framing, body.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use jiff::fmt::rfc2822::DateTimePrinter;

/// Bytes of the body of a small response. Such a response may wait in memory for its client without a
/// permit.
const SMALL_BODY_BYTES_MAX: usize = 16 * 1024;

/// A response to a request.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Without Content-Length, Transfer-Encoding, Connection and Date, which the connection's thread
    /// adds.
    pub headers: Vec<(HeaderName, String)>,
    pub body: Body,
}

/// The name of a header: one that this program writes, or one that a vessel has written.
pub type HeaderName = Cow<'static, str>;

/// The body of a response.
pub enum Body {
    Bytes(Vec<u8>),
    Stream(Stream),
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Stream(stream) => write!(f, "a stream of {:?} bytes", stream.length),
        }
    }
}

/// A body that the connection's thread writes piece by piece.
pub struct Stream {
    /// The bytes that `write` writes; `None` when their number is not known beforehand.
    pub length: Option<u64>,
    pub write: StreamWriter,
}

/// Writes a body. `flush` sends all that was written, and fails when the client has gone or the server
/// is stopping.
pub type StreamWriter = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// What becomes of the connection after an answer, as the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1 keeps connections without a header.
    Kept,
    /// An HTTP/1.0 client that asked for it must be told.
    KeptOld,
    Closed,
    /// HTTP/1.0 knows no chunks: a body of unknown length ends with the connection.
    ClosedOld,
}

impl Persistence {
    /// Whether the connection stays open.
    pub(super) fn is_kept(self) -> bool {
        matches!(self, Self::Kept | Self::KeptOld)
    }

    /// The header that says so, with its line end.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Kept => "",
            Self::KeptOld => "Connection: keep-alive\r\n",
            Self::Closed | Self::ClosedOld => "Connection: close\r\n",
        }
    }
}

impl Response {
    /// A response whose body is `bytes`.
    pub fn new(status: u16, content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".into(), content_type.to_owned())],
            body: bytes.into().into(),
        }
    }

    /// The same response with one more header.
    pub fn with_header(mut self, name: impl Into<HeaderName>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Whether it is written with one call, as far as its client takes it.
    pub(super) fn is_small(&self) -> bool {
        matches!(&self.body, Body::Bytes(bytes) if bytes.len() <= SMALL_BODY_BYTES_MAX)
    }

    /// Whether it says that the request was wrong.
    pub(super) fn is_refusal(&self) -> bool {
        (400..500).contains(&self.status)
    }

    /// The request id that the client may quote; empty without one.
    pub(super) fn id(&self) -> &str {
        let mut headers = self.headers.iter();
        headers.find(|(name, _)| *name == "X-Request-Id").map_or("", |(_, id)| id.as_str())
    }

    /// All bytes of a response; for a stream, and for HEAD, the head alone.
    pub(super) fn to_bytes(&self, persistence: Persistence, is_head: bool) -> Vec<u8> {
        let (length, body) = match &self.body {
            Body::Bytes(body) => (Some(body.len() as u64), body.as_slice()),
            Body::Stream(stream) => (stream.length, &[][..]),
        };
        let mut bytes = head(self.status, &self.headers, length, persistence);
        if !is_head {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}

/// The head of a response whose body has `length` bytes or, for `None`, comes in chunks or ends with
/// the connection. A 204 has no length, and neither has a 304: it would be the one of the response that the
/// 304 stands for (RFC 9110 8.6).
fn head(
    status: u16,
    headers: &[(HeaderName, String)],
    length: Option<u64>,
    persistence: Persistence,
) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    // A Vec takes whatever is written.
    let _ = write!(head, "HTTP/1.1 {status} {}\r\n", reason(status));
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now()) {
        let _ = write!(head, "Date: {date}\r\n");
    }
    for (name, value) in headers {
        // What a vessel has written was checked; should a check be missing, a header must not become two.
        if !value.bytes().any(|byte| byte.is_ascii_control()) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    let _ = match length {
        _ if matches!(status, 204 | 304) => Ok(()),
        Some(length) => write!(head, "Content-Length: {length}\r\n"),
        None if persistence == Persistence::ClosedOld => Ok(()),
        None => write!(head, "Transfer-Encoding: chunked\r\n"),
    };
    head.extend_from_slice(persistence.header().as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

/// The reason phrase of a status (RFC 9110 15), which carries no meaning for clients.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(response: &Response, persistence: Persistence, is_head: bool) -> String {
        String::from_utf8(response.to_bytes(persistence, is_head)).unwrap()
    }

    fn with_headers(status: u16, headers: Vec<(&'static str, String)>, body: Body) -> Response {
        let headers = headers.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Response { status, headers, body }
    }

    fn stream(length: Option<u64>) -> Body {
        Body::Stream(Stream { length, write: Box::new(|_| Ok(())) })
    }

    #[test]
    fn a_response_tells_its_length_and_what_becomes_of_the_connection() {
        let headers = vec![("Retry-After", "5".into())];
        let response = with_headers(503, headers, Body::Bytes(b"no".into()));
        let kept = text(&response, Persistence::Kept, false);
        assert!(kept.starts_with("HTTP/1.1 503 Service Unavailable\r\nDate: "), "{kept}");
        assert!(kept.ends_with("\r\nRetry-After: 5\r\nContent-Length: 2\r\n\r\nno"), "{kept}");
        let closed = text(&response, Persistence::Closed, true);
        assert!(closed.ends_with("2\r\nConnection: close\r\n\r\n"));
        let old = text(&response, Persistence::KeptOld, true);
        assert!(old.ends_with("2\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn a_304_has_no_length() {
        let text = text(&Response::new(304, "text/plain", ""), Persistence::Kept, false);
        assert!(!text.contains("Content-Length") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_header_cannot_become_two() {
        let headers = vec![("X-A", "1\r\nX-B: 2".into()), ("X-C", "3".into())];
        let head = text(&with_headers(200, headers, stream(None)), Persistence::Kept, false);
        assert!(!head.contains("X-B") && head.contains("X-C: 3\r\n"), "{head}");
        assert!(head.ends_with("Transfer-Encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn a_stream_of_unknown_length_ends_with_an_old_connection() {
        let response = with_headers(200, Vec::new(), stream(None));
        let head = text(&response, Persistence::ClosedOld, false);
        assert!(!head.contains("chunked") && head.contains("Connection: close\r\n"), "{head}");
        let response = with_headers(200, Vec::new(), stream(Some(7)));
        assert!(text(&response, Persistence::Kept, false).contains("Content-Length: 7\r\n"));
    }
}
