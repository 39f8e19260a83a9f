//! Takes in the body of a request that may come in: whole, within its limit and its time, or not
//! at all. A slow sender holds the connection and what was promised to it of the budgets, but no
//! handler.

use std::io;
use std::time::{Duration, Instant};

use super::chunked::Decoder;
use super::connection::{Connection, End, no_place};
use super::head::{Framing, Head};
use super::{Body, GateSettings, Reason, Refusal};
use crate::limits;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Receives the body that follows `head`.
pub(super) fn receive(
    connection: &mut Connection<'_>,
    head: &Head,
    bytes_max: u64,
) -> Result<Body, End> {
    let shared = connection.shared;
    let announced = match head.framing {
        Framing::Length(length) if length > bytes_max => return Err(too_large().into()),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    let mut draft = shared.spool.draft(announced)?;
    // Whoever has begun to send does not wait.
    if head.expects_continue && head.has_body() && connection.inbox.filled().is_empty() {
        connection.transport.write_all(CONTINUE)?;
        connection.transport.flush()?;
    }
    let begun = Instant::now();
    if let Some(length) = announced {
        let deadline = begun + allowance(&shared.settings, length);
        let mut left = length;
        loop {
            let here = connection.inbox.filled();
            let here = here.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(here);
            draft.push(here)?;
            let taken = here.len();
            connection.inbox.consume(taken);
            left -= taken as u64;
            if left == 0 {
                return Ok(draft.finish()?);
            }
            fill(connection, deadline)?;
        }
    }
    let mut decoder = Decoder::new();
    loop {
        let (used, piece) = decoder.next(connection.inbox.filled())?;
        let length = draft.length().saturating_add(piece.len() as u64);
        if length.saturating_add(decoder.remaining()) > bytes_max {
            return Err(too_large().into());
        }
        draft.push(piece)?;
        connection.inbox.consume(used);
        if decoder.is_done() {
            return Ok(draft.finish()?);
        }
        if connection.inbox.filled().is_empty() {
            fill(connection, begun + allowance(&shared.settings, draft.length()))?;
        }
    }
}

/// How long a body of `length` bytes may take.
fn allowance(settings: &GateSettings, length: u64) -> Duration {
    let longer = Duration::from_secs(length / settings.body_min_rate.max(1));
    settings.body_timeout + longer.min(*limits::TIMEOUT_RANGE.end())
}

/// Reads more of the body.
fn fill(connection: &mut Connection<'_>, deadline: Instant) -> Result<(), End> {
    connection.transport.socket().read_until(deadline);
    match connection.inbox.fill(&mut connection.transport) {
        Ok(0) | Err(_) if connection.seat.is_given_up() => Err(no_place().into()),
        Ok(0) => {
            Err(Refusal::new(Reason::Malformed, "the body ended before it was complete").into())
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Err(Refusal::new(Reason::TimedOut, "the body took too long").into())
        }
        Err(error) => Err(error.into()),
    }
}

fn too_large() -> Refusal {
    Refusal::new(Reason::BodyTooLarge, "the body is too large")
}
