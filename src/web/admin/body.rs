//! What a run was sent: as "webhook parameters" to look at, and as the bytes it was.

use std::io::{self, Read};
use std::sync::Arc;

use super::runs::{no_run, run};
use super::{AdminHandler, Call, Outcome, Reply};
use crate::model::ids::RunId;
use crate::model::limits::BODY_INLINE_BYTES_MAX;
use crate::model::refusal::Refusal;
use crate::model::request::given_headers;
use crate::model::run::{RunRecord, Trigger};

/// Bytes of a body shown as part of "webhook parameters"; the whole of it is a download away.
const PARAMETERS_INLINE_BYTES_MAX: u64 = 1 << 20;

/// `{"headers":{...},"body":...}` of a run that a webhook (or a test of one) started.
pub(super) fn parameters(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let run = run(admin, call)?.run;
    let id = run.id;
    let shown = parameters_of(admin, run);
    // It may have gone while it was being read.
    if !admin.engine.is_stored(id) {
        return Err(no_run(call));
    }
    shown
}

fn parameters_of(admin: &AdminHandler, run: RunRecord) -> Outcome {
    let head = admin.engine.request_head(&run)?;
    let has_parameters = match run.trigger {
        Trigger::Webhook => true,
        // Of a run that a webhook started, or of one that had none to repeat.
        Trigger::Replay => !head.headers.is_empty(),
        Trigger::Api | Trigger::OnDemand | Trigger::Schedule => false,
    };
    if !has_parameters {
        return Err(Refusal::not_found("this run was not started by a webhook"));
    }
    let mut bytes = Vec::new();
    admin
        .engine
        .body(&run)
        .take(PARAMETERS_INLINE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let is_whole = run.payload.body_bytes <= PARAMETERS_INLINE_BYTES_MAX;
    let given = given_headers(&head.headers);
    let headers = serde_json::to_string(&given).map_err(io::Error::from).map_err(unreadable)?;
    let body = shown(&bytes, is_whole);
    let note = if is_whole { "" } else { r#","body_truncated":true"# };
    Ok(Reply::json(200, format!(r#"{{"headers":{headers},"body":{body}{note}}}"#)))
}

/// The body, byte for byte, as something to save.
pub(super) fn download(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let run = run(admin, call)?.run;
    let name = format!("attachment; filename=\"{}.body\"", run.id);
    let length = run.payload.body_bytes;
    let engine = Arc::clone(&admin.engine);
    // A short one goes at once, a long one as fast as its reader takes it in.
    let is_long = length > BODY_INLINE_BYTES_MAX as u64;
    let place = if is_long { Some(admin.followers.enter()?) } else { None };
    let answer = Reply::stream("application/octet-stream", Some(length), move |out| {
        let _place = place;
        let mut body = Stored { bytes: engine.body(&run).take(length), run: run.id };
        let written = io::copy(&mut body, out)?;
        if written < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    });
    Ok(Reply::Plain(answer.with_header("Content-Disposition", name)))
}

/// A body on its way to a client, which learns no more than that it broke off.
struct Stored<R> {
    bytes: R,
    run: RunId,
}

impl<R: Read> Read for Stored<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer);
        if let Err(error) = &read {
            log::error!(run:% = self.run, error:%; "the body of a run cannot be read");
        }
        read
    }
}

fn unreadable(error: io::Error) -> Refusal {
    Refusal::failed(format!("the run's request cannot be read: {error}"))
}

/// The JSON that shows a body: itself where it is JSON, else its text, else its bytes in Base64.
/// JSON is passed on as it was written: parsing and writing it again would lose the order of its
/// keys and the digits of its numbers.
fn shown(bytes: &[u8], is_whole: bool) -> String {
    if bytes.is_empty() {
        return "null".to_owned();
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        // Cut within a letter.
        Err(error) if !is_whole && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let Some(text) = text else {
        let base64 = data_encoding::BASE64.encode(bytes);
        return format!(r#"{{"base64":"{base64}"}}"#);
    };
    if is_whole && serde_json::from_str::<serde_json::Value>(text).is_ok() {
        return text.trim().to_owned();
    }
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_shown_as_what_they_are() {
        for (bytes, expected) in [
            (&b""[..], "null"),
            (
                b" {\"b\":1,\"a\":12345678901234567890123} ",
                "{\"b\":1,\"a\":12345678901234567890123}",
            ),
            (b"a=1&b=2", "\"a=1&b=2\""),
            (b"{\"a\":1} x", "\"{\\\"a\\\":1} x\""),
            (b"\xff\x00", "{\"base64\":\"/wA=\"}"),
        ] {
            assert_eq!(shown(bytes, true), expected);
        }
    }

    #[test]
    fn a_cut_body_is_text_even_when_the_cut_is_within_a_letter() {
        assert_eq!(shown("12é".as_bytes(), false), "\"12é\"");
        assert_eq!(shown(&"12é".as_bytes()[..3], false), "\"12\"");
        assert_eq!(shown(b"12", false), "\"12\"");
        assert_eq!(shown(&"12é".as_bytes()[..3], true), "{\"base64\":\"MTLD\"}");
    }
}
