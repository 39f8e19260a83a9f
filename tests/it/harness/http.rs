//! HTTP by hand, for what no well-behaved client would send, and for exact answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::PATIENCE;

/// An answer, as it came.
pub struct Answer {
    pub status: u16,
    /// In the order in which they came; names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of the header `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("no JSON ({error}) in {}", super::redacted(&self.text()))
        })
    }

    /// The `data` of an answer in the common envelope.
    pub fn data(&self) -> Value {
        self.json()["data"].clone()
    }

    /// Code and message of the error.
    pub fn error(&self) -> String {
        let error = &self.json()["error"];
        format!("{} {}", error["code"], error["message"])
    }

    /// Fails unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "answer: {}", super::redacted(&self.text()));
        self
    }
}

/// Fails unless `answer` is an error of the admin API with `status`.
#[track_caller]
pub fn assert_error(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert!(body["data"].is_null(), "{body}");
    assert_eq!(answer.header("x-request-id"), body["request"]["id"].as_str());
    for key in ["code", "message"] {
        assert!(body["error"][key].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    }
}

/// A TCP connection to a listener.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to `address` (`host:port`).
    pub fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write)
    }

    /// Closes it so that the other side sees a reset.
    pub fn reset(self) {
        let linger = Some(std::time::Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(self.stream.get_ref(), linger).unwrap();
    }

    /// Whatever comes until the other side closes; resets count as a close.
    pub fn read_to_end(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }

    /// Reads one answer to a request with another method than HEAD.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = self.answer_head()?;
        answer.body = if answer.header("transfer-encoding").is_some() {
            self.chunked_body()?
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(|_| invalid("content length"))?;
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body)?;
            body
        } else {
            let mut body = Vec::new();
            self.stream.read_to_end(&mut body)?;
            body
        };
        Ok(answer)
    }

    /// Sends `request` and reads its answer; with it comes the connection, unless the answer closes
    /// that.
    pub fn exchange(mut self, request: &[u8]) -> io::Result<(Answer, Option<Self>)> {
        self.send(request)?;
        let answer = self.answer()?;
        let closes = answer.header("connection").is_some_and(|it| it.eq_ignore_ascii_case("close"));
        Ok((answer, (!closes).then_some(self)))
    }

    /// Reads the head of an answer, to a request with the method HEAD.
    pub fn answer_head(&mut self) -> io::Result<Answer> {
        loop {
            let status_line = self.line()?;
            let status = status_line
                .split(' ')
                .nth(1)
                .and_then(|word| word.parse().ok())
                .ok_or_else(|| invalid("status line"))?;
            let mut headers = Vec::new();
            loop {
                let line = self.line()?;
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':').ok_or_else(|| invalid("header"))?;
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            // 100 Continue comes before the answer proper.
            if status != 100 {
                return Ok(Answer { status, headers, body: Vec::new() });
            }
        }
    }

    fn chunked_body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(|_| invalid("chunk"))?;
            let start = body.len();
            body.resize(start + length, 0);
            self.stream.read_exact(&mut body[start..])?;
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    /// One line, without its end.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(|_| invalid("line"))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unreadable {what} in an answer"))
}

/// Sends `request` on a connection of its own and reads the answer.
pub fn exchange(address: &str, request: &[u8]) -> io::Result<Answer> {
    let (answer, _) = Connection::open(address)?.exchange(request)?;
    Ok(answer)
}

/// A POST with a body of known length.
pub fn post_request(target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {target} HTTP/1.1\r\nHost: hooks.test\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    [request.as_bytes(), body].concat()
}
