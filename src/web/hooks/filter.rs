//! The filter of a fleet: whether it wants an event, by its expression `when`.

use std::io::{self, Read};

use crate::config::Settings;
use crate::listener::Request;
use crate::model::clock::{Clock, SystemClock};
use crate::model::event::{Event, Note};
use crate::model::expression::{EvaluationError, Expression, Payload, Variables};
use crate::model::run::Trigger;

/// The reason of a note on a request that ran because the filter failed.
const FAILED: &str = "filter_failed";

/// Bytes of one value that the ledger shows.
const VALUE_BYTES_MAX: usize = 80;

/// What a filter says of a request.
pub(super) enum Verdict {
    Wanted,
    /// The expression cannot be evaluated, so the request runs.
    Failed(Note),
    /// For the operator: the expression, and what it saw.
    Unwanted(String),
}

/// Whether `when` is true for `request`, whose event is `event`. A field that the request does not have
/// counts as false.
///
/// # Errors
/// When the body cannot be read back.
pub(super) fn judge(
    when: &Expression,
    request: &Request,
    event: &Event,
    settings: &Settings,
) -> io::Result<Verdict> {
    let length = request.body.length();
    let is_too_long = length > settings.max_expression_body_bytes;
    let payload = match when.reads_payload() && !is_too_long {
        true => {
            let mut bytes = Vec::new();
            request.body.reader().read_to_end(&mut bytes)?;
            Payload::parse(&bytes, content_type(request))
        }
        false => Payload::null(),
    };
    let texts = request.headers.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)));
    let texts: Vec<_> = texts.collect();
    let headers = texts.iter().map(|(name, value)| (name.as_str(), &**value));
    let remote_addr = request.remote_addr.ip().to_canonical().to_string();
    let variables = Variables::new(payload, headers, &request.query, event)
        .with_request(&request.method, &remote_addr, &Trigger::Webhook.to_string())
        .with_received_at(SystemClock.now().as_millis());
    let saw = || {
        let values = when.read_values(&variables, VALUE_BYTES_MAX).into_iter();
        let values: Vec<_> = values.map(|(name, value)| format!("{name} = {value}")).collect();
        match (is_too_long && when.reads_payload(), values.is_empty()) {
            (true, _) => format!("; its {length} bytes are more than max_expression_body_bytes"),
            (false, true) => String::new(),
            (false, false) => format!("; {}", values.join(", ")),
        }
    };
    Ok(match when.is_true(&variables) {
        Ok(true) => Verdict::Wanted,
        Ok(false) => Verdict::Unwanted(format!("`{}` is false{}", when.text(), saw())),
        Err(EvaluationError::Missing(what)) => {
            Verdict::Unwanted(format!("`{}`: the request has no {what}{}", when.text(), saw()))
        }
        Err(why) => Verdict::Failed(Note::new(FAILED, &format!("`{}`: {why}", when.text()))),
    })
}

fn content_type(request: &Request) -> Option<&str> {
    std::str::from_utf8(request.header("Content-Type")?).ok()
}
