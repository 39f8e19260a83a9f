//! Takes in the body of a request that may come in: whole, within its limit and its time, or not
//! at all. A slow sender holds the connection and what was promised to it of the budgets, but no
//! handler.

use std::io;
use std::time::{Duration, Instant};

use super::body::{Holders, IncomingBody};
use super::chunked::Decoder;
use super::connection::{Connection, End, no_place};
use super::head::{Framing, Head};
use super::{Admitted, Body, Shared};
use crate::config::Settings;
use crate::model::limits::BODY_INLINE_BYTES_MAX;
use crate::model::refusal::{Reason, Refusal};

/// How far a body may lag behind the pace that its time allows: a lost packet may be sent again twice.
const BODY_LAG_MAX: Duration = Duration::from_secs(5);

/// The most by which the size of a body prolongs its timeout.
const PROLONGED_MAX: Duration = Duration::from_secs(24 * 3600);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Receives the body that follows `head`.
pub(super) fn receive(
    connection: &mut Connection<'_>,
    head: &Head,
    admitted: Admitted,
) -> Result<Body, End> {
    let (shared, bytes_max) = (connection.shared, admitted.body_bytes_max);
    let announced = match head.framing {
        Framing::Length(length) if length > bytes_max => return Err(too_large().into()),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    let mut incoming = shared.bodies.begin(announced, Holders::of(admitted))?;
    // A client that has begun to send does not wait.
    if head.expects_continue && head.has_body() && connection.read_buffer.filled().is_empty() {
        connection.transport.write_all(CONTINUE)?;
        connection.transport.flush()?;
    }
    let mut begun = Instant::now();
    if let Some(length) = announced {
        let mut left = length;
        loop {
            let here = connection.read_buffer.filled();
            let here = here.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(here);
            begun += take(shared, &mut incoming, here)?;
            let taken = here.len();
            connection.read_buffer.consume(taken);
            left -= taken as u64;
            if left == 0 {
                return Ok(incoming.finish()?);
            }
            fill(connection, begun + allowance(&shared.settings, length - left, announced))?;
        }
    }
    let mut decoder = Decoder::new();
    loop {
        let (used, piece) = decoder.next(connection.read_buffer.filled())?;
        let length = incoming.length().saturating_add(piece.len() as u64);
        if length.saturating_add(decoder.remaining()) > bytes_max {
            return Err(too_large().into());
        }
        begun += take(shared, &mut incoming, piece)?;
        connection.read_buffer.consume(used);
        if decoder.is_done() {
            return Ok(incoming.finish()?);
        }
        if connection.read_buffer.filled().is_empty() {
            fill(connection, begun + allowance(&shared.settings, incoming.length(), None))?;
        }
    }
}

/// Adds what has arrived to the body. Returns the time that this took: a slow disk of the server is not
/// the sender's delay.
fn take(
    shared: &Shared,
    incoming: &mut IncomingBody<'_>,
    bytes: &[u8],
) -> Result<Duration, Refusal> {
    let begun = Instant::now();
    incoming.push(bytes)?;
    // Bodies that were let in while there was space must not use it up together.
    match bytes.is_empty() || incoming.fits_on_disk(|| shared.handler.disk_left()) {
        true => Ok(begun.elapsed()),
        false => Err(Refusal::new(
            Reason::NoRoomForBody,
            "there is too little free disk space for more bodies; try again later",
        )),
    }
}

/// How long after its beginning more of a body must have come, of which `received` bytes have, of as
/// many as are `announced`. The whole may take as long as `body_timeout` and `body_min_rate` say; on
/// the way there it may lag behind an even pace by [`BODY_LAG_MAX`].
fn allowance(settings: &Settings, received: u64, announced: Option<u64>) -> Duration {
    let length = announced.unwrap_or(received);
    let longer = Duration::from_secs(length / settings.body_min_rate.max(1));
    let whole = settings.body_timeout + longer.min(PROLONGED_MAX);
    // The length of a chunked body is unknown: at least as long as a small one may be.
    let expected = announced.unwrap_or(received.max(BODY_INLINE_BYTES_MAX as u64));
    let pace = received as f64 / expected.max(1) as f64;
    whole.min(BODY_LAG_MAX + whole.mul_f64(pace.min(1.0)))
}

/// Reads more of the body.
fn fill(connection: &mut Connection<'_>, deadline: Instant) -> Result<(), End> {
    connection.transport.socket().read_until(deadline);
    match connection.read_buffer.fill(&mut connection.transport) {
        Ok(0) | Err(_) if connection.place.is_given_up() => Err(no_place().into()),
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
    Refusal::new(Reason::TooLarge, "the body is too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_keeps_a_pace_from_its_beginning() {
        let settings = Settings {
            body_timeout: Duration::from_secs(60),
            body_min_rate: 1 << 20,
            ..Settings::defaults("/".into())
        };
        let seconds = |received, announced| allowance(&settings, received, announced).as_secs();
        let mib = 1 << 20;
        for (received, announced, expected) in [
            (0, Some(20 * mib), 5),
            (mib, Some(20 * mib), 9),
            (10 * mib, Some(20 * mib), 45),
            (19 * mib, Some(20 * mib), 80),
            (0, Some(5), 5),
            (4, Some(5), 53),
            (0, None, 5),
            (32 * 1024, None, 35),
            (64 * 1024, None, 60),
            (20 * mib, None, 80),
        ] {
            assert_eq!(seconds(received, announced), expected, "{received} of {announced:?}");
        }
        let quick = Settings { body_timeout: Duration::from_secs(1), ..settings };
        assert_eq!(allowance(&quick, 0, Some(5)), Duration::from_secs(1));
    }
}
