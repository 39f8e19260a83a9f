//! The envelope around every answer: `{"request":{"id"},"data":...}`, with `"error"` on the admin
//! listener. Owns the form of answers, not their content.

use serde::Serialize;

use crate::engine::{AcceptError, EngineError, ReplayError};
use crate::listener::{Response, ResponseBody};
use crate::model::fleet::FleetVersion;
use crate::model::ids::{OrganizationId, RequestId, RunId};
use crate::model::limits;
use crate::model::rate_limit::TooSoon;

const JSON: &str = "application/json";

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: u16,
    /// For a person; says what to do next where that helps.
    pub message: String,
    pub headers: Vec<(&'static str, String)>,
}

impl Problem {
    /// A refusal with `status`.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        let headers = match status {
            401 => vec![("WWW-Authenticate", "Bearer".to_owned())],
            429 | 503 => vec![("Retry-After", limits::RETRY_AFTER_SECONDS.to_string())],
            _ => Vec::new(),
        };
        Self { status, message: message.into(), headers }
    }

    /// The sender has used up what a rate limit allows it.
    pub fn too_soon(too_soon: TooSoon) -> Self {
        let headers = vec![("Retry-After", too_soon.seconds().to_string())];
        Self { headers, ..Self::new(429, "too many requests; slow down") }
    }

    /// The request has the wrong form.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// The form is right, the content is not.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(422, message)
    }

    /// Another method would do: one of `allowed`.
    pub fn method_not_allowed(allowed: &[&str]) -> Self {
        let allowed = allowed.join(", ");
        let mut problem = Self::new(405, format!("this method is not allowed here; use {allowed}"));
        problem.headers.push(("Allow", allowed));
        problem
    }
}

impl From<EngineError> for Problem {
    fn from(refusal: EngineError) -> Self {
        let status = match &refusal {
            EngineError::NotFound(_) => 404,
            EngineError::Conflict(_) => 409,
            EngineError::Stale(_) => 412,
            EngineError::Invalid(_) => 422,
            EngineError::Overloaded(_) => 503,
        };
        Self::new(status, refusal.to_string())
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::QueueFull => Self::new(503, "the queue is full; try again later"),
            AcceptError::FleetQueueFull => {
                Self::new(503, "the fleet has its share of the queue; try again later")
            }
            AcceptError::FleetDiskFull => {
                Self::new(503, "the fleet's runs have their share of the disk; try again later")
            }
            AcceptError::Stopping => Self::new(503, "the server is stopping; try again"),
            AcceptError::DiskFull => {
                Self::new(503, "the server has too little free disk space; try again later")
            }
            AcceptError::Stalled => {
                Self::new(503, "the server's disk does not keep up; try again later")
            }
            AcceptError::TooLarge { limit } => too_large(limit),
            AcceptError::Incomplete => Self::bad_request("the body ended before it was complete"),
            // The gate had the whole of it, so this is no fault of the sender's.
            AcceptError::Read(error) => {
                Self::new(503, format!("the body cannot be read back: {error}; try again later"))
            }
        }
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Refused(refusal) => refusal.into(),
            ReplayError::NotAccepted(error) => error.into(),
            ReplayError::Damaged(_) => Self::new(500, error.to_string()),
        }
    }
}

/// The refusal of a body of more than `limit` bytes.
pub fn too_large(limit: u64) -> Problem {
    Problem::new(413, format!("the body is larger than {limit} bytes"))
}

/// The answer `data`, which is JSON already.
pub fn data(id: RequestId, status: u16, data: &str) -> Response {
    let body = format!(r#"{{"request":{{"id":"{id}"}},"data":{data}}}"#);
    Response::new(status, JSON, body).with_header("X-Request-Id", id.to_string())
}

/// The refusal that tells no reason: what the webhook listener says.
pub fn bare(id: RequestId, problem: Problem) -> Response {
    let mut answer = data(id, problem.status, "null");
    answer.headers.extend(problem.headers);
    answer
}

/// The refusal with its reason: what the admin listener says.
pub fn error(id: RequestId, problem: Problem) -> Response {
    #[derive(Serialize)]
    struct Error<'a> {
        code: &'static str,
        message: &'a str,
    }
    let error = Error { code: code(problem.status), message: &problem.message };
    let error = serde_json::to_string(&error).unwrap_or_else(|_| "null".to_owned());
    let mut answer = bare(id, problem);
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

/// The answer to GET and HEAD of [`HEALTH`].
pub fn health(room: &Result<(), AcceptError>, is_paused: bool) -> Response {
    if room.is_ok() {
        // What is accepted runs when the machine has room again. Why it has none is for operators.
        let says = if is_paused { "ok; launching is paused" } else { "ok" };
        Response::new(200, "text/plain; charset=utf-8", says)
    } else {
        Response::new(503, "text/plain; charset=utf-8", "cannot accept")
            .with_header("Retry-After", limits::RETRY_AFTER_SECONDS.to_string())
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
            bare(id, Problem::bad_request("no reason is told")),
            error(id, Problem::not_found("no \"such\" thing")),
        ] {
            assert_eq!(body(&answer)["request"]["id"], id.to_string());
            assert_eq!(header(&answer, "X-Request-Id"), Some(id.to_string().as_str()));
            assert_eq!(header(&answer, "Content-Type"), Some("application/json"));
        }
    }

    #[test]
    fn refusals_have_the_shape_of_their_listener() {
        let id = RequestId::random();
        let ResponseBody::Bytes(bytes) = bare(id, Problem::bad_request("unknown token")).body
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
        let method = error(id, Problem::method_not_allowed(&["GET", "PUT"]));
        assert_eq!((method.status, header(&method, "Allow")), (405, Some("GET, PUT")));
        let stranger = error(id, Problem::new(401, "who?"));
        assert_eq!(header(&stranger, "WWW-Authenticate"), Some("Bearer"));
    }
}
