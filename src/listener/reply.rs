//! Answers on the wire: status line, headers and framing, as the gate writes its own and as the
//! handlers write theirs.

use std::io::Write;

use jiff::fmt::rfc2822::DateTimePrinter;

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Without Content-Length, Transfer-Encoding, Connection and Date.
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// What becomes of the connection after an answer, as the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1 keeps connections without a word.
    Kept,
    /// An HTTP/1.0 client that asked for it must be told.
    KeptOld,
    Closed,
}

impl Persistence {
    /// The header that says so, with its line end.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Kept => "",
            Self::KeptOld => "Connection: keep-alive\r\n",
            Self::Closed => "Connection: close\r\n",
        }
    }
}

impl Reply {
    /// The id that the client may quote; empty without one.
    pub(super) fn id(&self) -> &str {
        let mut headers = self.headers.iter();
        headers.find(|(name, _)| *name == "X-Request-Id").map_or("", |(_, id)| id.as_str())
    }

    /// The bytes of the answer; to HEAD, the head alone is the answer.
    pub fn to_bytes(&self, persistence: Persistence, is_head: bool) -> Vec<u8> {
        let mut bytes = head(self.status, &self.headers, Some(self.body.len() as u64));
        bytes.extend_from_slice(persistence.header().as_bytes());
        bytes.extend_from_slice(b"\r\n");
        if !is_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// The head of an answer, but for the empty line at its end. Its body has `length` bytes or, for
/// `None`, comes in chunks. A 304 has none, and would tell the length of what it stands for
/// (RFC 9110 8.6).
pub fn head(status: u16, headers: &[(&'static str, String)], length: Option<u64>) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    // A Vec takes whatever is written.
    let _ = write!(head, "HTTP/1.1 {status} {}\r\n", reason(status));
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
        _ if status == 304 => Ok(()),
        Some(length) => write!(head, "Content-Length: {length}\r\n"),
        None => write!(head, "Transfer-Encoding: chunked\r\n"),
    };
    head
}

/// The words for a status (RFC 9110 15); nobody may depend on them.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_tells_its_length_and_what_becomes_of_the_connection() {
        let reply =
            Reply { status: 503, headers: vec![("Retry-After", "5".into())], body: b"no".into() };
        let text =
            |persistence, is_head| String::from_utf8(reply.to_bytes(persistence, is_head)).unwrap();
        let kept = text(Persistence::Kept, false);
        assert!(kept.starts_with("HTTP/1.1 503 Service Unavailable\r\nDate: "), "{kept}");
        assert!(kept.ends_with("\r\nRetry-After: 5\r\nContent-Length: 2\r\n\r\nno"), "{kept}");
        assert!(text(Persistence::Closed, true).ends_with("2\r\nConnection: close\r\n\r\n"));
        assert!(text(Persistence::KeptOld, true).ends_with("2\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_has_not_changed_has_no_length_of_its_own() {
        let reply = Reply { status: 304, headers: Vec::new(), body: Vec::new() };
        let text = String::from_utf8(reply.to_bytes(Persistence::Kept, false)).unwrap();
        assert!(!text.contains("Content-Length") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_header_cannot_become_two() {
        let headers = [("X-A", "1\r\nX-B: 2".into()), ("X-C", "3".into())];
        let head = String::from_utf8(head(200, &headers, None)).unwrap();
        assert!(!head.contains("X-B") && head.contains("X-C: 3\r\n"), "{head}");
        assert!(head.ends_with("Transfer-Encoding: chunked\r\n"));
    }
}
