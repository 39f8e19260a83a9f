//! A vessel's output, to read and to follow.

use std::io::{self, Write};
use std::time::Duration;

use super::places::{Place, Places};
use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::OutputChunk;
use crate::listener::Response;
use crate::model::refusal::{Reason, Refusal};

/// How long a follower waits for output before it looks whether the server is stopping.
const FOLLOW_WAIT: Duration = Duration::from_secs(1);
/// Bytes from which on a part of an output is long enough to be sent: a page shows 10 MiB after ten
/// of them.
const OUTPUT_PART_BYTES: usize = 1 << 20;
/// Bytes of the end of an output that are held for an answer.
const OUTPUT_LAST_BYTES_MAX: usize = 1 << 16;

/// Bytes from `offset` on; with `follow`, until the attempt is settled.
pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let query = &call.query;
    query.allow_only(&["follow", "part", "last", "offset", "attempt"])?;
    let offset = query.parsed("offset")?.unwrap_or(0);
    let attempt = query.parsed("attempt")?;
    let (follows, is_part) = (query.flag("follow")?, query.flag("part")?);
    let last = query.parsed::<usize>("last")?;
    if last.is_some_and(|last| last > OUTPUT_LAST_BYTES_MAX) {
        let message = format!("query parameter \"last\": at most {OUTPUT_LAST_BYTES_MAX}");
        return Err(Refusal::bad_request(message));
    }
    let unreadable = |error| Refusal::failed(format!("the output cannot be read: {error}"));
    let output = admin.engine.output(call.vessel_run_id(admin)?, attempt).map_err(unreadable)?;
    let Some(output) = output else {
        return Err(Refusal::not_found("no such vessel run, or no such attempt of it"));
    };
    if let Some(last) = last {
        let end = tail(|offset| output.read(offset, Duration::ZERO), last).map_err(unreadable)?;
        return Ok(Reply::Plain(end));
    }
    let first = output.read(offset, Duration::ZERO).map_err(unreadable)?;
    let begins_at = first.offset.to_string();
    if is_part {
        return Ok(Reply::Plain(part(|offset| output.read(offset, Duration::ZERO), first)));
    }
    // What is not all here may take as long as its reader likes.
    let place = if first.ended { None } else { Some(admin.followers.enter()?) };
    let wait = (follows && !first.ended).then_some(FOLLOW_WAIT);
    let answer = Reply::stream("text/plain; charset=utf-8", None, move |out| {
        let _place = place;
        copy(|offset, wait| output.read(offset, wait), first, wait, out)
    });
    Ok(Reply::Plain(answer.with_header("X-Output-Offset", begins_at)))
}

/// `chunk` and what follows it without a gap, as an answer that says where the next part begins and
/// whether there will be one. For clients that come back for more instead of holding a thread.
fn part(mut read: impl FnMut(u64) -> io::Result<OutputChunk>, chunk: OutputChunk) -> Response {
    let (begins_at, mut bytes, mut ended) = (chunk.offset, chunk.bytes, chunk.ended);
    while !ended && !bytes.is_empty() && bytes.len() < OUTPUT_PART_BYTES {
        let next_at = begins_at + bytes.len() as u64;
        // What cannot be read now is asked for again, and refused then.
        match read(next_at) {
            Ok(more) if more.offset == next_at && (more.ended || !more.bytes.is_empty()) => {
                bytes.extend_from_slice(&more.bytes);
                ended = more.ended;
            }
            _ => break,
        }
    }
    let next_at = begins_at + bytes.len() as u64;
    Response::new(200, "text/plain; charset=utf-8", bytes)
        .with_header("X-Output-Offset", begins_at.to_string())
        .with_header("X-Output-Next", next_at.to_string())
        .with_header("X-Output-Ended", ended.to_string())
}

/// The last bytes that there are by now, at most so many. Bytes before a gap are left out.
fn tail(mut read: impl FnMut(u64) -> io::Result<OutputChunk>, last: usize) -> io::Result<Response> {
    let (mut begins_at, mut bytes) = (0, Vec::new());
    loop {
        let next_at = begins_at + bytes.len() as u64;
        let chunk = read(next_at)?;
        if chunk.offset != next_at {
            (begins_at, bytes) = (chunk.offset, Vec::new());
        }
        bytes.extend_from_slice(&chunk.bytes);
        let surplus = bytes.len().saturating_sub(last);
        bytes.drain(..surplus);
        begins_at += surplus as u64;
        if chunk.ended || chunk.bytes.is_empty() {
            let answer = Response::new(200, "text/plain; charset=utf-8", bytes);
            return Ok(answer.with_header("X-Output-Offset", begins_at.to_string()));
        }
    }
}

/// Writes `chunk` and what follows it: all there is, or with `wait` all there will be.
fn copy(
    mut read: impl FnMut(u64, Duration) -> io::Result<OutputChunk>,
    mut chunk: OutputChunk,
    wait: Option<Duration>,
    out: &mut dyn Write,
) -> io::Result<()> {
    loop {
        out.write_all(&chunk.bytes)?;
        // Also without bytes: this is where a stopping server ends its streams.
        out.flush()?;
        if chunk.ended || (wait.is_none() && chunk.bytes.is_empty()) {
            return Ok(());
        }
        let expected = chunk.offset + chunk.bytes.len() as u64;
        chunk = read(expected, wait.unwrap_or(Duration::ZERO))?;
        if chunk.offset > expected {
            let left_out = chunk.offset - expected;
            out.write_all(format!("\n[boathook: {left_out} bytes left out]\n").as_bytes())?;
        }
    }
}

/// Places for clients that follow output or take in something long; each holds a thread. The end of a
/// client is noticed when there is something to send, or at the attempt's end.
#[derive(Debug)]
pub(super) struct Followers(Places);

impl Followers {
    /// Admits `max` at a time.
    pub(super) fn new(max: usize) -> Self {
        Self(Places::new(max))
    }

    /// A place among them.
    ///
    /// # Errors
    /// 503 when all are taken.
    pub(super) fn enter(&self) -> Result<Place, Refusal> {
        self.0.take().ok_or_else(|| {
            let max = self.0.max();
            let message =
                format!("{max} clients follow output or download already; try again later");
            Refusal::new(Reason::Unavailable, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::ResponseBody;

    fn chunk(offset: u64, bytes: &[u8], ended: bool) -> OutputChunk {
        OutputChunk { offset, bytes: bytes.to_vec(), ended }
    }

    fn copied(chunks: Vec<OutputChunk>, wait: Option<Duration>) -> String {
        let mut chunks = chunks.into_iter();
        let first = chunks.next().unwrap();
        let mut out = Vec::new();
        copy(|_, _| chunks.next().ok_or(io::ErrorKind::NotFound.into()), first, wait, &mut out)
            .unwrap();
        assert!(chunks.next().is_none(), "ended too soon");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_end_of_an_output_has_its_offset() {
        let of = |last, chunks: Vec<OutputChunk>| {
            let mut chunks = chunks.into_iter();
            let answer = tail(|_| Ok(chunks.next().unwrap()), last).unwrap();
            let ResponseBody::Bytes(bytes) = answer.body else { panic!("a stream") };
            let offset = answer.headers.iter().find(|(name, _)| *name == "X-Output-Offset");
            (String::from_utf8(bytes).unwrap(), offset.unwrap().1.clone())
        };
        let whole = || vec![chunk(0, b"one", false), chunk(3, b"two", true)];
        assert_eq!(of(9, whole()), ("onetwo".into(), "0".into()));
        assert_eq!(of(4, whole()), ("etwo".into(), "2".into()));
        assert_eq!(of(0, whole()), (String::new(), "6".into()));
        let gap = vec![chunk(0, b"one", false), chunk(90, b"two", false), chunk(93, b"", false)];
        assert_eq!(of(9, gap), ("two".into(), "90".into()));
    }

    #[test]
    fn a_follower_waits_for_the_end_and_others_do_not() {
        let quiet = || vec![chunk(0, b"one", false), chunk(3, b"", false)];
        assert_eq!(copied(quiet(), None), "one");
        let mut more = quiet();
        more.push(chunk(3, b"two", true));
        assert_eq!(copied(more, Some(Duration::ZERO)), "onetwo");
    }

    #[test]
    fn what_the_cap_left_out_is_named() {
        let chunks = vec![chunk(5, b"one", false), chunk(10, b"two", true)];
        assert_eq!(copied(chunks, None), "one\n[boathook: 2 bytes left out]\ntwo");
    }

    #[test]
    fn a_part_ends_where_bytes_are_missing_yet_or_for_ever() {
        for (chunks, expected) in [
            (vec![chunk(0, b"one", false), chunk(3, b"", false)], ("one", "0", "3", "false")),
            (vec![chunk(0, b"one", false), chunk(3, b"two", true)], ("onetwo", "0", "6", "true")),
            (vec![chunk(5, b"one", false), chunk(9, b"two", true)], ("one", "5", "8", "false")),
            (vec![chunk(7, b"", false)], ("", "7", "7", "false")),
        ] {
            let mut chunks = chunks.into_iter();
            let first = chunks.next().unwrap();
            let answer = part(|_| Ok(chunks.next().unwrap()), first);
            let header = |name| {
                let found = answer.headers.iter().find(|(given, _)| *given == name);
                found.map(|(_, value)| value.as_str()).unwrap()
            };
            let ResponseBody::Bytes(bytes) = &answer.body else { panic!("a stream") };
            let seen = (
                std::str::from_utf8(bytes).unwrap(),
                header("X-Output-Offset"),
                header("X-Output-Next"),
                header("X-Output-Ended"),
            );
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn followers_are_counted() {
        let followers = Followers::new(1);
        let first = followers.enter().unwrap();
        let refused = followers.enter().unwrap_err();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers.iter().any(|(name, _)| *name == "Retry-After"));
        drop(first);
        assert!(followers.enter().is_ok());
    }
}
