//! The envelope around every answer: `{"request":{"id"},"data":...}`, with `"error"` on the admin
//! listener. Owns the form of answers, not their content.

use serde::Serialize;

use crate::engine::{AcceptError, EngineError, ReplayError};
use crate::listener::{Response, ResponseBody};
use crate::model::fleet::FleetVersion;
use crate::model::ids::{OrganizationId, RequestId, RunId};
use crate::model::refusal::{RETRY_AFTER_SECONDS, Reason, Refusal};

const JSON: &str = "application/json";

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let reason = match &error {
            EngineError::NotFound(_) => Reason::NotFound,
            EngineError::Conflict(_) => Reason::Conflict,
            EngineError::Stale(_) => Reason::Stale,
            EngineError::Invalid(_) => Reason::Invalid,
            EngineError::Overloaded(_) => Reason::Unavailable,
            EngineError::Damaged(_) => Reason::Failed,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<AcceptError> for Refusal {
    fn from(error: AcceptError) -> Self {
        let (reason, message) = match error {
            AcceptError::QueueFull => (Reason::QueueFull, "the queue is full; try again later"),
            AcceptError::FleetQueueFull => {
                (Reason::FleetQueueFull, "the fleet has its share of the queue; try again later")
            }
            AcceptError::FleetDiskFull => (
                Reason::FleetDiskFull,
                "the fleet's runs have their share of the disk; try again later",
            ),
            AcceptError::Stopping => (Reason::Stopping, "the server is stopping; try again"),
            AcceptError::DiskFull => {
                (Reason::DiskFull, "the server has too little free disk space; try again later")
            }
            AcceptError::Stalled => {
                (Reason::DiskStalled, "the server's disk does not keep up; try again later")
            }
            AcceptError::TooLarge { limit } => return too_large(limit),
            AcceptError::Incomplete => (Reason::Malformed, "the body ended before it was complete"),
            // The listener had all of it, so the sender is not at fault.
            AcceptError::Read(error) => {
                let message = format!("the body cannot be read back: {error}; try again later");
                return Self::new(Reason::BodyUnreadable, message);
            }
        };
        Self::new(reason, message)
    }
}

impl From<ReplayError> for Refusal {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Refused(error) => error.into(),
            ReplayError::NotAccepted(error) => error.into(),
            ReplayError::Damaged(_) => Self::failed(error.to_string()),
        }
    }
}

/// The refusal of a body of more than `limit` bytes.
pub fn too_large(limit: u64) -> Refusal {
    Refusal::new(Reason::TooLarge, format!("the body is larger than {limit} bytes"))
}

/// The answer `data`, which is JSON already.
pub fn data(id: RequestId, status: u16, data: &str) -> Response {
    let body = format!(r#"{{"request":{{"id":"{id}"}},"data":{data}}}"#);
    Response::new(status, JSON, body).with_header("X-Request-Id", id.to_string())
}

/// The header of the answer to a request whose event has a run.
pub const DUPLICATE: &str = "Boathook-Duplicate";

/// The answer to a request that has started `run`, or that is a duplicate of the one that did.
pub fn started(
    id: RequestId,
    version: &FleetVersion,
    organization: OrganizationId,
    run: RunId,
    is_duplicate: bool,
) -> Response {
    let ids = accepted(version, organization, run);
    if is_duplicate {
        return data(id, 200, &ids).with_header(DUPLICATE, "true");
    }
    data(id, 201, &ids)
}

/// The refusal that tells no reason: what the webhook listener says.
pub fn bare(id: RequestId, refusal: Refusal) -> Response {
    let mut answer = data(id, refusal.status(), "null");
    answer.headers.extend(refusal.headers.into_iter().map(|(name, value)| (name.into(), value)));
    answer
}

/// The refusal with its reason: what the admin listener says.
pub fn error(id: RequestId, refusal: Refusal) -> Response {
    #[derive(Serialize)]
    struct Error<'a> {
        code: &'static str,
        message: &'a str,
    }
    let error = Error { code: code(refusal.status()), message: &refusal.message };
    let error = serde_json::to_string(&error).unwrap_or_else(|_| "null".to_owned());
    let mut answer = bare(id, refusal);
    answer.body = ResponseBody::Bytes(
        format!(r#"{{"request":{{"id":"{id}"}},"data":null,"error":{error}}}"#).into_bytes(),
    );
    answer
}

/// The word for a status in an error's `code`.
fn code(status: u16) -> &'static str {
    match status {
        400 => "bad_request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        408 => "request_timeout",
        409 => "conflict",
        412 => "precondition_failed",
        413 => "payload_too_large",
        414 => "uri_too_long",
        415 => "unsupported_media_type",
        422 => "invalid",
        429 => "too_many_requests",
        431 => "headers_too_large",
        501 => "not_implemented",
        503 => "unavailable",
        505 => "http_version_not_supported",
        _ => "internal",
    }
}

/// The `data` of an accepted run, for webhooks and whatever answers like them.
pub fn accepted(version: &FleetVersion, organization: OrganizationId, run: RunId) -> String {
    format!(
        r#"{{"fleet_id":"{}","project_id":"{}","org_id":"{organization}","fleet_run_id":"{run}"}}"#,
        version.fleet_id, version.project_id
    )
}

/// The path that tells the health of the server, on both listeners.
pub const HEALTH: &str = "/healthz";
/// The methods of [`HEALTH`].
pub const HEALTH_METHODS: [&str; 2] = ["GET", "HEAD"];

/// The answer to GET and HEAD of [`HEALTH`]. It says `ok` while runs are accepted: what is accepted runs
/// when the machine has room again. The admin listener adds that launching `is_paused`.
pub fn health(room: &Result<(), AcceptError>, is_paused: bool) -> Response {
    if room.is_ok() {
        let says = if is_paused { "ok; launching is paused" } else { "ok" };
        Response::new(200, "text/plain; charset=utf-8", says)
    } else {
        Response::new(503, "text/plain; charset=utf-8", "cannot accept")
            .with_header("Retry-After", RETRY_AFTER_SECONDS.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(answer: &Response) -> serde_json::Value {
        let ResponseBody::Bytes(bytes) = &answer.body else { panic!("a stream") };
        serde_json::from_slice(bytes).unwrap()
    }

    fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_envelope_and_the_header_carry_one_id() {
        let id = RequestId::random();
        for answer in [
            data(id, 200, "[1]"),
            bare(id, Refusal::bad_request("no reason is told")),
            error(id, Refusal::not_found("no \"such\" thing")),
        ] {
            assert_eq!(body(&answer)["request"]["id"], id.to_string());
            assert_eq!(header(&answer, "X-Request-Id"), Some(id.to_string().as_str()));
            assert_eq!(header(&answer, "Content-Type"), Some("application/json"));
        }
    }

    #[test]
    fn refusals_have_the_shape_of_their_listener() {
        let id = RequestId::random();
        let ResponseBody::Bytes(bytes) = bare(id, Refusal::bad_request("unknown token")).body
        else {
            panic!("a stream")
        };
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, format!(r#"{{"request":{{"id":"{id}"}},"data":null}}"#));
        let answer = error(id, EngineError::Conflict("taken \u{1}".into()).into());
        assert_eq!(answer.status, 409);
        assert_eq!(body(&answer)["data"], serde_json::Value::Null);
        assert_eq!(body(&answer)["error"]["code"], "conflict");
        assert_eq!(body(&answer)["error"]["message"], "taken \u{1}");
    }

    #[test]
    fn refusals_say_what_to_do_in_their_headers() {
        let id = RequestId::random();
        let unreadable = AcceptError::Read(std::io::Error::other("the disk fails"));
        for refusal in [AcceptError::QueueFull, unreadable] {
            let answer = bare(id, refusal.into());
            assert_eq!((answer.status, header(&answer, "Retry-After")), (503, Some("5")));
        }
        let method = error(id, Refusal::method_not_allowed(&["GET", "PUT"]));
        assert_eq!((method.status, header(&method, "Allow")), (405, Some("GET, PUT")));
        let stranger = error(id, Refusal::new(Reason::Unauthorized, "who?"));
        assert_eq!(header(&stranger, "WWW-Authenticate"), Some("Bearer"));
    }
}
