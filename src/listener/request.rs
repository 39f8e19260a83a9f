//! A complete request, as a handler gets it: the head, the client and a body that can be read more
//! than once.

use std::borrow::Cow;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Instant;

use super::body::Body;
use super::handler::{Admitted, WebhookTarget};
use super::head::Head;
use crate::model::access::Principal;
use crate::model::request::RequestHead;

/// A request whose head is valid and whose body has arrived whole.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// The path as it was sent, escapes included.
    pub path: String,
    /// Without the question mark; empty when there was none.
    pub query: String,
    /// Names as received, values as bytes.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The client: the peer, or the address that a trusted proxy gives.
    pub remote_addr: SocketAddr,
    /// The webhook that it was admitted to.
    pub webhook: Option<WebhookTarget>,
    /// Whose it is, where requests are authenticated.
    pub principal: Option<Principal>,
    /// When the last byte had arrived.
    pub received_at: Instant,
    pub body: Body,
}

impl Request {
    pub(super) fn new(head: Head, admitted: Admitted, body: Body) -> Self {
        let Head { method, path, query, headers, .. } = head;
        let (Admitted { remote_addr, webhook, principal, .. }, received_at) =
            (admitted, Instant::now());
        Self { method, path, query, headers, remote_addr, webhook, principal, received_at, body }
    }

    /// The first value of the header called `name`, in whatever case it was sent.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// All of the body, in memory.
    ///
    /// # Errors
    /// When the file that holds it cannot be read.
    pub fn body_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The head as it is stored beside the body, without the headers called `withheld`.
    pub fn stored_head(&self, withheld: &[&str]) -> RequestHead {
        let mut head = RequestHead {
            query: self.query.clone(),
            remote_addr: self.remote_addr.ip().to_canonical().to_string(),
            ..RequestHead::default()
        };
        for (name, value) in &self.headers {
            if !withheld.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                head.push_header(name, header_text(value).into_owned());
            }
        }
        head
    }
}

/// The value of a header as text: UTF-8, or else Latin-1, in which each byte is the character of its
/// number. So no value loses a byte.
fn header_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_keeps_what_is_not_withheld() {
        let request = Request {
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
            webhook: None,
            principal: None,
            received_at: Instant::now(),
            body: Body::empty(),
        };
        assert_eq!(request.header("X-GITHUB-EVENT"), Some(&b"push"[..]));
        let head = request.stored_head(&["Authorization"]);
        assert_eq!(head.query, "a=%20b");
        assert_eq!(head.remote_addr, "192.0.2.1");
        assert_eq!(head.headers.len(), 1);
        assert_eq!(head.headers["X-Github-Event"], ["push", "caf\u{e9}", "caf\u{e9}"]);
    }
}
