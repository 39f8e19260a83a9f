//! Brings a handler's answer to the client: the head with what the gate knows about the connection,
//! the body as it comes, in pieces of bounded size.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::chunked::Decoder;
use super::links::Place;
use super::passage::Link;
use super::reply::Persistence;
use super::socket::Transport;

/// Headers of an answer: several times what any handler sends.
const HEADERS_MAX: usize = 32;
/// Bytes of an answer's head, likewise.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long somebody who has closed their half of the connection is still taken to read, when
/// there is nothing to send to find out.
const HALF_CLOSED_WAIT: Duration = Duration::from_secs(5);

/// What the request says about its answer.
#[derive(Clone, Copy)]
pub(super) struct Form<'a> {
    /// To HEAD, the head alone is the answer.
    pub(super) is_head: bool,
    /// HTTP/1.0 knows no chunks: such an answer ends with the connection.
    pub(super) is_old: bool,
    /// Asked when the answer is there: the listener may have begun to stop meanwhile.
    pub(super) persistence: &'a dyn Fn() -> Persistence,
}

/// Why an answer did not arrive.
#[derive(Debug)]
pub(super) enum Failure {
    /// The handler gave none, so another one can be sent.
    NoAnswer,
    /// The handler's answer broke off.
    Incomplete,
    /// The client does not take it.
    Gone(io::Error),
}

/// What is to come of an answer's body.
#[derive(Debug)]
enum Rest {
    Bytes(u64),
    Chunks(Decoder),
}

impl Rest {
    fn is_done(&self) -> bool {
        match self {
            Self::Bytes(left) => *left == 0,
            Self::Chunks(decoder) => decoder.is_done(),
        }
    }

    /// Adds to `out` what of `fresh` the client is sent.
    fn take(&mut self, fresh: &[u8], form: Form<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self {
            Self::Bytes(left) => {
                let length = fresh.len() as u64;
                *left = left.checked_sub(length).ok_or(Failure::Incomplete)?;
                out.extend_from_slice(fresh);
            }
            Self::Chunks(decoder) => {
                let mut used = 0;
                while used < fresh.len() {
                    let rest = fresh.get(used..).unwrap_or_default();
                    let (took, data) = decoder.next(rest).map_err(|_| Failure::Incomplete)?;
                    if took == 0 {
                        return Err(Failure::Incomplete);
                    }
                    used += took;
                    if form.is_old {
                        out.extend_from_slice(data);
                    }
                }
                if !form.is_old {
                    out.extend_from_slice(fresh);
                }
            }
        }
        Ok(())
    }
}

/// Relays the answer that comes over `link`, and gives that back when all of it has come: whoever is
/// slow to take the last of an answer keeps nobody from the handlers. Returns what has become of the
/// connection.
pub(super) fn relay(
    (place, mut link): (Place, Link),
    client: &mut dyn Transport,
    form: Form<'_>,
) -> Result<Persistence, Failure> {
    let mut out = Vec::with_capacity(1024);
    let (mut rest, persistence) = relay_head(&mut link, form, &mut out)?;
    while !rest.is_done() {
        send(client, &out)?;
        out.clear();
        if matches!(rest, Rest::Chunks(_)) {
            await_more(&link, client).map_err(Failure::Gone)?;
        }
        match link.receive() {
            Ok([]) | Err(_) => return Err(Failure::Incomplete),
            Ok(fresh) => rest.take(fresh, form, &mut out)?,
        }
    }
    place.give_back(link);
    send(client, &out)?;
    Ok(persistence)
}

fn send(client: &mut dyn Transport, bytes: &[u8]) -> Result<(), Failure> {
    client.write_all(bytes).and_then(|()| client.flush()).map_err(Failure::Gone)
}

/// Receives the head, and puts what the client is sent of it and of what came with it into `out`.
fn relay_head(
    link: &mut Link,
    form: Form<'_>,
    out: &mut Vec<u8>,
) -> Result<(Rest, Persistence), Failure> {
    let mut received = Vec::new();
    loop {
        match link.receive() {
            Ok([]) | Err(_) => return Err(Failure::NoAnswer),
            Ok(fresh) => received.extend_from_slice(fresh),
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(&received) {
            Ok(httparse::Status::Complete(end)) => {
                let (mut rest, persistence) = write_head(&answer, form, out)?;
                rest.take(received.get(end..).unwrap_or_default(), form, out)?;
                return Ok((rest, persistence));
            }
            Ok(httparse::Status::Partial) if received.len() < HEAD_BYTES_MAX => {}
            _ => return Err(Failure::NoAnswer),
        }
    }
}

fn write_head(
    answer: &httparse::Response<'_, '_>,
    form: Form<'_>,
    out: &mut Vec<u8>,
) -> Result<(Rest, Persistence), Failure> {
    let status = answer.code.ok_or(Failure::NoAnswer)?;
    let mut rest = Rest::Bytes(0);
    let mut persistence = (form.persistence)();
    let line = format!("HTTP/1.1 {status} {}\r\n", answer.reason.unwrap_or_default());
    out.extend_from_slice(line.as_bytes());
    for header in answer.headers.iter() {
        let mut is_sent = true;
        if header.name.eq_ignore_ascii_case("Content-Length") {
            let length = std::str::from_utf8(header.value).ok().and_then(|it| it.parse().ok());
            rest = Rest::Bytes(length.ok_or(Failure::NoAnswer)?);
        } else if header.name.eq_ignore_ascii_case("Transfer-Encoding") {
            rest = Rest::Chunks(Decoder::new());
            if form.is_old {
                (is_sent, persistence) = (false, Persistence::Closed);
            }
        }
        if is_sent {
            out.extend_from_slice(header.name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(header.value);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(persistence.header().as_bytes());
    out.extend_from_slice(b"\r\n");
    if form.is_head {
        rest = Rest::Bytes(0);
    }
    Ok((rest, persistence))
}

/// Waits for more of an answer that may take as long as a vessel runs, and notices meanwhile when
/// the client goes away.
fn await_more(link: &Link, client: &mut dyn Transport) -> io::Result<()> {
    let socket = client.socket();
    let mut both = [PollFd::new(link, PollFlags::IN), PollFd::new(&*socket, PollFlags::RDHUP)];
    loop {
        match poll(&mut both, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => break,
        }
    }
    let [more, end] = &both;
    if !more.revents().is_empty() {
        return Ok(());
    }
    if end.revents().intersects(PollFlags::HUP | PollFlags::ERR) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let wait = Timespec { tv_sec: HALF_CLOSED_WAIT.as_secs() as i64, tv_nsec: 0 };
    let mut more = [PollFd::new(link, PollFlags::IN)];
    match poll(&mut more, Some(&wait)) {
        Ok(0) => Err(io::ErrorKind::ConnectionAborted.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
