//! Requests and answers as the handlers see them: plain data and a body to read. Owns no I/O.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::listener::{Head, Origin, Pass};
use crate::model::request::RequestHead;

/// A request, complete: the gate has its body.
pub struct Request<'a> {
    pub method: String,
    /// The path as it was sent, escapes included.
    pub path: String,
    /// Without the question mark; empty when there was none.
    pub query: String,
    /// Names as received, values as bytes.
    pub headers: Vec<(String, Vec<u8>)>,
    pub remote_addr: SocketAddr,
    /// When the last of it had come.
    pub received_at: Instant,
    /// Bytes of the body.
    pub length: u64,
    pub body: &'a mut dyn Read,
}

impl Request<'_> {
    /// The first value of the header called `name`, in whatever case it was sent.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// Moves the head out, as it is stored beside the body, without the headers called `withheld`.
    pub fn take_head(&mut self, withheld: &[&str]) -> RequestHead {
        let mut head = RequestHead {
            query: std::mem::take(&mut self.query),
            remote_addr: self.remote_addr.ip().to_canonical().to_string(),
            ..RequestHead::default()
        };
        for (name, value) in std::mem::take(&mut self.headers) {
            if !withheld.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
                head.push_header(&name, into_text(value));
            }
        }
        head
    }
}

/// The value of a header as text: UTF-8, or else Latin-1, in which each byte is the character of its
/// number. So no value loses a byte.
fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect())
}

/// What a handler answers.
pub struct Response {
    pub status: u16,
    /// Without Content-Length, Transfer-Encoding, Connection and Date, which whoever writes the
    /// answer adds.
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

/// The body of an answer.
pub enum Body {
    Bytes(Vec<u8>),
    Stream(Stream),
}

/// A body that is written piece by piece.
pub struct Stream {
    /// Bytes that will be written; `None` when nobody knows yet.
    pub length: Option<u64>,
    /// Whether it may take as long as a vessel runs: it gets a thread of its own then, so that it
    /// keeps no handler from its work.
    pub is_lasting: bool,
    pub write: StreamWriter,
}

/// Writes a body. `flush` sends what was written on its way, and fails when the server is stopping.
pub type StreamWriter = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

impl Response {
    /// An answer of `bytes`.
    pub fn new(status: u16, content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", content_type.to_owned())],
            body: Body::Bytes(bytes.into()),
        }
    }

    /// The same answer with one more header.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What comes of a request.
pub enum Outcome {
    Answered(Response),
    /// The answer has to wait for something that comes to many at once, and in their order. Until
    /// then the request occupies no thread.
    Later(Box<dyn FnOnce() -> Response + Send>),
}

impl From<Response> for Outcome {
    fn from(answer: Response) -> Self {
        Self::Answered(answer)
    }
}

/// Answers requests. One handler is shared by all threads of its listener.
pub trait Handler: Send + Sync {
    /// Decides on a request whose head is complete, before anything of its body is read. Those that
    /// need no handler's attention, like refusals, are answered right away.
    ///
    /// # Errors
    /// The answer to a request that goes no further. It must not be a stream.
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Pass, Response>;

    /// Answers a request that was admitted.
    fn handle(&self, request: &mut Request<'_>) -> Outcome;

    /// The answer, in the form this listener gives its refusals, for a request that no handler
    /// gets to see or that a handler failed at.
    fn refuse(&self, status: u16, message: &str) -> Response;

    /// What `peer` is to this listener.
    fn origin(&self, peer: IpAddr) -> Origin {
        Origin::of(peer)
    }

    /// Whether there is more free disk space than the floor, for bodies that are arriving.
    fn has_disk_space(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_keeps_what_is_not_withheld() {
        let mut body = io::empty();
        let mut request = Request {
            method: "POST".into(),
            path: "/".into(),
            query: "a=%20b".into(),
            headers: vec![
                ("x-gitHub-event".into(), b"push".to_vec()),
                ("X-Github-Event".into(), b"caf\xe9".to_vec()),
                ("X-GITHUB-EVENT".into(), "caf\u{e9}".into()),
                ("authorization".into(), b"Bearer secret".to_vec()),
            ],
            remote_addr: ([192, 0, 2, 1], 7).into(),
            received_at: Instant::now(),
            length: 0,
            body: &mut body,
        };
        assert_eq!(request.header("X-GITHUB-EVENT"), Some(&b"push"[..]));
        let head = request.take_head(&["Authorization"]);
        assert_eq!(head.query, "a=%20b");
        assert_eq!(head.remote_addr, "192.0.2.1");
        assert_eq!(head.headers.len(), 1);
        assert_eq!(head.headers["X-Github-Event"], ["push", "caf\u{e9}", "caf\u{e9}"]);
    }
}
