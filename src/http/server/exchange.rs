//! One request and its answer: from tiny_http's types to ours and back, around its traps.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Shared;
use super::output::{self, Form};
use crate::http::message::{Answer, Body, Request};
use crate::limits;

/// A request whose framing was refused, and why.
type Refused = (u16, &'static str);

/// Answers `exchange`.
pub(super) fn serve(shared: &Arc<Shared>, mut exchange: tiny_http::Request) {
    if is_absurd(shared, &exchange) {
        let (status, message) =
            announced_length(exchange.headers()).err().unwrap_or((413, "the body is too large"));
        return abandon(exchange, shared.handler.refuse(status, message));
    }
    let announced = match admitted(&exchange) {
        Ok(announced) => announced,
        Err((status, message)) => return refuse(shared, exchange, status, message),
    };
    let form = Form::of(&exchange);
    let mut body = BodyReader { remaining: announced.unwrap_or(0), exchange: &mut exchange };
    let answer = handle(shared, announced, form, &mut body);
    let unread = body.remaining > 0;
    match answer {
        Answer { body: Body::Bytes(bytes), .. } if unread => {
            respond_then_drain(exchange, answer.status, &answer.headers, bytes);
        }
        Answer { body: Body::Stream(stream), .. } if stream.is_lasting => {
            let answer = Answer { body: Body::Stream(stream), ..answer };
            let writer = exchange.into_writer();
            shared.spawn_lasting(move |shared| output::write(shared, writer, answer, form));
        }
        answer => output::write(shared, exchange.into_writer(), answer, form),
    }
}

/// Answers a request that no handler gets to see.
pub(super) fn refuse(
    shared: &Shared,
    mut exchange: tiny_http::Request,
    status: u16,
    message: &str,
) {
    let answer = shared.handler.refuse(status, message);
    if is_absurd(shared, &exchange) {
        return abandon(exchange, answer);
    }
    // tiny_http reads what is left of a body with a length, but not of a chunked one, and would
    // take it for the next request.
    if exchange.body_length().is_none() && !expects_continue(&exchange) {
        let _ = io::copy(&mut exchange.as_reader().take(shared.drain_bytes_max), &mut io::sink());
    }
    if let Body::Bytes(bytes) = answer.body {
        respond_then_drain(exchange, answer.status, &answer.headers, bytes);
    }
}

/// Lets the handler answer; its panic becomes a 500.
fn handle(
    shared: &Shared,
    announced: Option<u64>,
    form: Form,
    body: &mut BodyReader<'_>,
) -> Answer {
    let mut request = to_request(announced, form, body);
    catch_unwind(AssertUnwindSafe(|| shared.handler.handle(&mut request))).unwrap_or_else(|_| {
        log::error!(listener = shared.name; "a request's handler panicked");
        shared.handler.refuse(500, "the server failed at this request; its log says more")
    })
}

fn to_request<'a>(announced: Option<u64>, form: Form, body: &'a mut BodyReader<'_>) -> Request<'a> {
    let exchange = &body.exchange;
    let target = origin_form(exchange.url());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Request {
        method: exchange.method().as_str().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: exchange
            .headers()
            .iter()
            .map(|header| {
                (header.field.as_str().as_str().to_owned(), header.value.as_bytes().to_vec())
            })
            .collect(),
        remote_addr: exchange.remote_addr().copied(),
        announced,
        can_stream: form.can_chunk,
        body,
    }
}

/// The path and query of a request target; RFC 9112 3.2.2 lets clients send a whole URL.
fn origin_form(target: &str) -> &str {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    match rest {
        None => target,
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
    }
}

/// The announced length of a request that a handler may see.
fn admitted(exchange: &tiny_http::Request) -> Result<Option<u64>, Refused> {
    // Two spaces and the version.
    let line_bytes = exchange.method().as_str().len() + exchange.url().len() + 10;
    if line_bytes > limits::REQUEST_LINE_BYTES_MAX {
        return Err((414, "the request line is too long"));
    }
    announced_length(exchange.headers())
}

/// The length of the body as RFC 9112 section 6 wants it announced, and stricter: what tiny_http
/// and somebody else might read differently is refused.
fn announced_length(headers: &[tiny_http::Header]) -> Result<Option<u64>, Refused> {
    let mut announced = None;
    for header in headers {
        if header.field.equiv("Transfer-Encoding") {
            // tiny_http cannot tell a chunked body that was cut from a complete one. The gate will
            // decode it.
            return Err((501, "chunked bodies are not supported; send a Content-Length"));
        }
        if header.field.equiv("Content-Length") {
            if announced.is_some() {
                return Err((400, "there is more than one Content-Length"));
            }
            let digits = header.value.as_str();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err((400, "the Content-Length is not a number"));
            }
            announced = Some(digits.parse().map_err(|_| (413, "the body is too large"))?);
        }
    }
    Ok(announced)
}

fn expects_continue(exchange: &tiny_http::Request) -> bool {
    exchange.headers().iter().any(|header| header.field.equiv("Expect"))
}

/// Whether tiny_http took a length for valid that it must not be left alone with. This asks for
/// its own reading of the headers, also when ours refuses them.
fn is_absurd(shared: &Shared, exchange: &tiny_http::Request) -> bool {
    exchange.body_length().is_some_and(|length| length as u64 > shared.drain_bytes_max)
}

/// Answers without having read the body. `respond` writes first and reads what is left of the body
/// after, so senders that read at once and senders that read when they are done both get the answer.
/// Were the body read first, a sender that waits for `100 Continue` would wait for ever.
fn respond_then_drain(
    exchange: tiny_http::Request,
    status: u16,
    headers: &[(&'static str, String)],
    bytes: Vec<u8>,
) {
    let length = bytes.len();
    let headers = headers
        .iter()
        .filter_map(|(name, value)| {
            tiny_http::Header::from_bytes(name.as_bytes(), value.as_bytes()).ok()
        })
        .collect();
    let response = tiny_http::Response::new(
        tiny_http::StatusCode(status),
        headers,
        io::Cursor::new(bytes),
        Some(length),
        None,
    );
    if let Err(error) = exchange.respond(response) {
        log::debug!(error:% = error; "an answer could not be sent");
    }
}

/// Answers a request whose body nobody may drop: at the end of a body's life tiny_http allocates as
/// many bytes as are left of it, which for an absurd length ends the process. So the body's reader
/// is leaked, and with it the connection: two descriptors and one of tiny_http's threads.
///
/// Only `upgrade` gives up the reader and the writer, at the price of a head of its own, for which
/// an interim answer is harmless (RFC 9110 15.2: clients ignore those they did not ask for). This
/// is the least bad way until the gate stands in front and refuses such requests itself.
fn abandon(exchange: tiny_http::Request, answer: Answer) {
    log::warn!(
        remote_addr:? = exchange.remote_addr(), length:? = exchange.body_length();
        "a body of absurd length was announced; its connection is given up"
    );
    let form = Form { closes: true, ..Form::of(&exchange) };
    let interim = tiny_http::Response::empty(100);
    let mut connection = exchange.upgrade("none", interim);
    if let Body::Bytes(bytes) = answer.body {
        let sent =
            output::write_bytes(&mut connection, answer.status, &answer.headers, &bytes, form);
        if let Err(error) = sent {
            log::debug!(error:% = error; "an answer could not be sent");
        }
    }
    std::mem::forget(connection);
}

/// The body of a request, no longer than announced, and not complete when it is shorter: tiny_http
/// shows a body that was cut short as one that has ended.
struct BodyReader<'a> {
    exchange: &'a mut tiny_http::Request,
    remaining: u64,
}

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(0);
        }
        // The first call answers `Expect: 100-continue`.
        match self.exchange.as_reader().read(&mut buffer[..length])? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the sender went away before the body was complete",
            )),
            read => {
                self.remaining = self.remaining.saturating_sub(read as u64);
                Ok(read)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_may_be_whole_urls() {
        for (given, seen) in [
            ("/hooks/a?b", "/hooks/a?b"),
            ("http://example.com/hooks/a?b", "/hooks/a?b"),
            ("https://example.com", "/"),
            ("*", "*"),
        ] {
            assert_eq!(origin_form(given), seen);
        }
    }

    #[test]
    fn lengths_that_could_be_read_in_two_ways_are_refused() {
        let status = |headers: &[(&str, &str)]| {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| {
                    tiny_http::Header::from_bytes(name.as_bytes(), value.as_bytes()).unwrap()
                })
                .collect();
            announced_length(&headers).map_err(|(status, _)| status)
        };
        assert_eq!(status(&[]), Ok(None));
        assert_eq!(status(&[("content-length", "0012")]), Ok(Some(12)));
        for odd in ["", "+5", "-1", "5, 5", "0x5", "five"] {
            assert_eq!(status(&[("Content-Length", odd)]), Err(400), "{odd:?}");
        }
        assert_eq!(status(&[("Content-Length", "5"), ("content-length", "5")]), Err(400));
        assert_eq!(status(&[("Content-Length", "99999999999999999999999")]), Err(413));
        assert_eq!(status(&[("Transfer-Encoding", "chunked")]), Err(501));
        assert_eq!(status(&[("Content-Length", "5"), ("transfer-encoding", "x")]), Err(501));
    }
}
