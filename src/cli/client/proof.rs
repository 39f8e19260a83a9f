//! Asks the program at the other end of a connection to prove that it holds the token. This is the first
//! request on the connection, written and read without ureq.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::ANSWER_TIMEOUT;
use crate::cli::locate::AdminToken;
use crate::model::server_proof::{self, Nonce, Proof, TokenHint};

/// Time for an answer while no server holds the data directory. The service manager may listen for a
/// server that it is about to start.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Interval at which the client looks at the data directory while it waits for the answer.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of an answer: several times the length of a proof.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
/// Headers of an answer: twice as many as a server sends.
const HEADERS_MAX: usize = 32;

/// What a server has to prove.
#[derive(Debug)]
pub(super) struct Question {
    /// Without a slash at its end.
    pub url: String,
    /// The token that it must hold.
    pub token: AdminToken,
    /// Whether the server has recorded the URL itself. A URL that the user gives may lead to a tunnel.
    pub is_address_known: bool,
}

/// Why a connection is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unproved {
    #[error("it does not prove that it holds the token")]
    Wrong,
    #[error(
        "it cannot prove that it holds the token; a server of an older version cannot either, until \
         it is started anew"
    )]
    Unable,
    #[error("it does not know it. The token was revoked, has expired, or is of another server")]
    UnknownToken,
    #[error("it passes requests on to a server that listens on {0}")]
    Elsewhere(SocketAddr),
    #[error("it does not answer")]
    Silent,
    #[error("the server cannot take this in just now ({0}); try again in a while")]
    Busy(u16),
    #[error("it closes the connection: {0}")]
    Closed(#[from] io::Error),
}

impl Question {
    /// Asks over `stream`. `is_stopped` tells whether no server holds the data directory.
    ///
    /// # Errors
    /// When the connection must not be used; see [`Unproved`].
    pub(super) fn ask(
        &self,
        stream: &TcpStream,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(), Unproved> {
        let nonce = Nonce::random().map_err(|error| io::Error::other(error.to_string()))?;
        let place = self.url.trim_start_matches("http://");
        let (host, prefix) = place.split_at(place.find('/').unwrap_or(place.len()));
        let request = format!(
            "GET {prefix}{}?nonce={}&hint={} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: boathook/{}\r\n\r\n",
            server_proof::PATH,
            nonce.to_hex(),
            TokenHint::of_text(self.token.reveal()).to_hex(),
            env!("CARGO_PKG_VERSION"),
        );
        (&*stream).write_all(request.as_bytes())?;
        let answer = read_answer(stream, is_stopped)?;
        let proof = match answer {
            Answer { status: 200, closes: false, body } => parse(&body).ok_or(Unproved::Wrong)?,
            Answer { status: 429 | 503, .. } => return Err(Unproved::Busy(answer.status)),
            Answer { status: 200, closes: true, .. } => return Err(Unproved::Busy(503)),
            // A server of an older version knows no hints, or no proofs.
            Answer { status: 400 | 401 | 404, .. } => return Err(Unproved::Unable),
            Answer { status: 403, .. } => return Err(Unproved::UnknownToken),
            Answer { .. } => return Err(Unproved::Wrong),
        };
        if !proof.holds(self.token.reveal(), nonce) {
            return Err(Unproved::Wrong);
        }
        if self.is_address_known && !proof.is_of(stream.peer_addr()?) {
            return Err(Unproved::Elsewhere(proof.address));
        }
        Ok(())
    }
}

struct Answer {
    status: u16,
    /// Whether the connection takes no further request.
    closes: bool,
    body: Vec<u8>,
}

fn parse(body: &[u8]) -> Option<Proof> {
    #[derive(Deserialize)]
    struct Envelope {
        data: Proof,
    }
    serde_json::from_slice::<Envelope>(body).ok().map(|envelope| envelope.data)
}

fn read_answer(mut stream: &TcpStream, is_stopped: &dyn Fn() -> bool) -> Result<Answer, Unproved> {
    let asked_at = Instant::now();
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    stream.set_read_timeout(Some(POLL_INTERVAL))?;
    loop {
        if let Some(answer) = complete(&bytes)? {
            return Ok(answer);
        }
        if asked_at.elapsed() >= ANSWER_TIMEOUT
            || (asked_at.elapsed() >= SILENCE_MAX && is_stopped())
        {
            return Err(Unproved::Silent);
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => {}
                _ => return Err(error.into()),
            },
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(Unproved::Wrong);
        }
    }
}

/// The answer that `bytes` are; `None` while more of it has to come.
fn complete(bytes: &[u8]) -> Result<Option<Answer>, Unproved> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let begin = match head.parse(bytes) {
        Ok(httparse::Status::Complete(begin)) => begin,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Unproved::Wrong),
    };
    let header = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let length = header("Content-Length").and_then(|length| length.parse::<usize>().ok());
    let body = bytes.get(begin..).unwrap_or_default();
    match length {
        Some(length) if body.len() < length => Ok(None),
        // Further bytes would count as the answer to the next request.
        Some(length) if body.len() == length => Ok(Some(Answer {
            status: head.code.unwrap_or_default(),
            closes: header("Connection").is_some_and(|it| it.eq_ignore_ascii_case("close")),
            body: body.to_owned(),
        })),
        _ => Err(Unproved::Wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_answers_of_known_length_count() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        for partial in ["", "HTTP/1.1 200", head, &format!("{head}o")] {
            assert!(complete(partial.as_bytes()).unwrap().is_none(), "{partial}");
        }
        let answer = complete(format!("{head}ok").as_bytes()).unwrap().unwrap();
        assert_eq!((answer.status, answer.closes, &*answer.body), (200, false, &b"ok"[..]));
        let closing = "HTTP/1.1 503 x\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n";
        assert!(complete(closing.as_bytes()).unwrap().unwrap().closes);
        for wrong in [
            &format!("{head}okHTTP/1.1"),
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert!(complete(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
