//! Why a request is refused. The reason gives the status of the response and a word: the label of the
//! metric `boathook_requests_refused_total` and the reason of a delivery.

use std::borrow::Cow;
use std::fmt;

use crate::model::rate_limit::TooSoon;

/// Retry-After of a 503, or of a 429 for too many connections, in seconds: a full queue does not
/// empty at once.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// The refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// For a person; says what to do next where that helps.
    pub message: Cow<'static, str>,
    /// Headers of the response, beside those that every response has.
    pub headers: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal for `reason`, with the headers that its status asks for.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        let headers = match reason.status() {
            401 if reason == Reason::Unauthorized => {
                vec![("WWW-Authenticate", "Bearer".to_owned())]
            }
            // The sender of a webhook. Nothing tells what it has to show.
            401 => vec![("WWW-Authenticate", "Signature".to_owned())],
            429 | 503 => vec![("Retry-After", RETRY_AFTER_SECONDS.to_string())],
            _ => Vec::new(),
        };
        Self { reason, message: message.into(), headers }
    }

    /// The sender has used up what a rate limit allows it.
    pub fn too_soon(reason: Reason, too_soon: TooSoon) -> Self {
        Self::new(reason, "too many requests; slow down").retry_after(too_soon.seconds())
    }

    /// The method is none of `allowed`.
    pub fn method_not_allowed(allowed: &[&str]) -> Self {
        let allowed = allowed.join(", ");
        let message = format!("this method is not allowed here; use {allowed}");
        Self { headers: vec![("Allow", allowed)], ..Self::new(Reason::MethodNotAllowed, message) }
    }

    /// The request has the wrong form.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// What the request names does not exist.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::NotFound, message)
    }

    /// The form of the request is right, its content is not.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::Invalid, message)
    }

    /// The server failed at the request.
    pub fn failed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::Failed, message)
    }

    /// The same refusal, which says when to try again.
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { headers: vec![("Retry-After", seconds.to_string())], ..self }
    }

    /// The status of the response.
    pub fn status(&self) -> u16 {
        self.reason.status()
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is no HTTP request, or one that two readers could take differently.
    Malformed,
    /// Its sender was too slow.
    TimedOut,
    /// Its body is too large.
    TooLarge,
    TargetTooLong,
    HeadTooLarge,
    /// It has a transfer encoding other than chunked.
    NotImplemented,
    /// Its version of HTTP is not 1.0 or 1.1.
    WrongVersion,
    TooManyConnections,
    TooManyFromAddress,
    /// Too many requests are under way.
    Busy,
    /// Too many bodies are arriving, or the disk has no room for them.
    NoRoomForBody,
    /// The server failed at it.
    Failed,
    /// Its URL is not the URL of a webhook.
    UnknownUrl,
    MethodNotAllowed,
    /// The webhook is paused.
    Paused,
    /// The webhook's allow list does not have its address.
    NotAllowed,
    /// Its address sends more than one address may, to whichever webhook.
    AddressTooOften,
    /// Its address sends more than the webhook takes from one address.
    RateLimited,
    SignatureMissing,
    SignatureMalformed,
    SignatureMismatch,
    TimestampMissing,
    TimestampMalformed,
    TimestampTooOld,
    TimestampInFuture,
    CredentialsMissing,
    CredentialsMismatch,
    /// Its handshake does not show what the owner has told the provider.
    HandshakeMismatch,
    /// A secret that its sender is verified with has no value.
    SecretMissing,
    QueueFull,
    /// The fleet has its share of the queue.
    FleetQueueFull,
    /// The fleet's runs that have not ended have their share of the disk.
    FleetDiskFull,
    Stopping,
    /// Less disk space is free than `min_free_bytes`.
    DiskFull,
    /// The database does not keep up.
    DiskStalled,
    /// Its body has arrived but cannot be read back.
    BodyUnreadable,
    /// It comes without a token, or with a wrong one.
    Unauthorized,
    /// It comes from a page, or by a host name, that is not the server's own; a sign-in failed; or the
    /// role of its token is too small.
    Forbidden,
    BadRequest,
    NotFound,
    Conflict,
    /// It is about a version that is no longer the current one.
    Stale,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    Unavailable,
}

impl Reason {
    /// The reasons that a listener counts. What is wrong with a request that may use the admin API is
    /// not counted.
    pub const COUNTED: [Self; 38] = [
        Self::Malformed,
        Self::TimedOut,
        Self::TooLarge,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::NotImplemented,
        Self::WrongVersion,
        Self::TooManyConnections,
        Self::TooManyFromAddress,
        Self::Busy,
        Self::NoRoomForBody,
        Self::Failed,
        Self::UnknownUrl,
        Self::MethodNotAllowed,
        Self::Paused,
        Self::NotAllowed,
        Self::AddressTooOften,
        Self::RateLimited,
        Self::SignatureMissing,
        Self::SignatureMalformed,
        Self::SignatureMismatch,
        Self::TimestampMissing,
        Self::TimestampMalformed,
        Self::TimestampTooOld,
        Self::TimestampInFuture,
        Self::CredentialsMissing,
        Self::CredentialsMismatch,
        Self::HandshakeMismatch,
        Self::SecretMissing,
        Self::QueueFull,
        Self::FleetQueueFull,
        Self::FleetDiskFull,
        Self::Stopping,
        Self::DiskFull,
        Self::DiskStalled,
        Self::BodyUnreadable,
        Self::Unauthorized,
        Self::Forbidden,
    ];

    /// The counted reason with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::COUNTED.into_iter().find(|reason| reason.word() == word)
    }

    /// The status of the response.
    pub fn status(self) -> u16 {
        self.row().0
    }

    /// The label of the metric and the reason of a delivery.
    pub fn word(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u16, &'static str) {
        match self {
            Self::Malformed => (400, "malformed"),
            Self::TimedOut => (408, "timed_out"),
            Self::TooLarge => (413, "too_large"),
            Self::TargetTooLong => (414, "target_too_long"),
            Self::HeadTooLarge => (431, "head_too_large"),
            Self::NotImplemented => (501, "not_implemented"),
            Self::WrongVersion => (505, "wrong_version"),
            Self::TooManyConnections => (503, "too_many_connections"),
            Self::TooManyFromAddress => (429, "too_many_from_address"),
            Self::Busy => (503, "busy"),
            Self::NoRoomForBody => (503, "no_room_for_body"),
            Self::Failed => (500, "failed"),
            Self::UnknownUrl => (400, "unknown_url"),
            Self::MethodNotAllowed => (405, "method_not_allowed"),
            Self::Paused => (503, "paused"),
            Self::NotAllowed => (400, "not_allowed"),
            Self::AddressTooOften => (429, "address_too_often"),
            Self::RateLimited => (429, "rate_limited"),
            Self::SignatureMissing => (401, "signature_missing"),
            Self::SignatureMalformed => (401, "signature_malformed"),
            Self::SignatureMismatch => (401, "signature_mismatch"),
            Self::TimestampMissing => (401, "timestamp_missing"),
            Self::TimestampMalformed => (401, "timestamp_malformed"),
            Self::TimestampTooOld => (401, "timestamp_too_old"),
            Self::TimestampInFuture => (401, "timestamp_in_future"),
            Self::CredentialsMissing => (401, "credentials_missing"),
            Self::CredentialsMismatch => (401, "credentials_mismatch"),
            Self::HandshakeMismatch => (403, "handshake_mismatch"),
            Self::SecretMissing => (503, "secret_missing"),
            Self::QueueFull => (503, "queue_full"),
            Self::FleetQueueFull => (503, "fleet_queue_full"),
            Self::FleetDiskFull => (503, "fleet_disk_full"),
            Self::Stopping => (503, "stopping"),
            Self::DiskFull => (503, "disk_full"),
            Self::DiskStalled => (503, "disk_stalled"),
            Self::BodyUnreadable => (503, "body_unreadable"),
            Self::Unauthorized => (401, "unauthorized"),
            Self::Forbidden => (403, "forbidden"),
            Self::BadRequest => (400, "bad_request"),
            Self::NotFound => (404, "not_found"),
            Self::Conflict => (409, "conflict"),
            Self::Stale => (412, "stale"),
            Self::UnsupportedMediaType => (415, "unsupported_media_type"),
            Self::Invalid => (422, "invalid"),
            Self::TooManyRequests => (429, "too_many_requests"),
            Self::Unavailable => (503, "unavailable"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_counted_reason_has_a_label_of_its_own() {
        let labels: BTreeSet<String> = Reason::COUNTED.iter().map(Reason::to_string).collect();
        assert_eq!(labels.len(), Reason::COUNTED.len());
        assert!(Reason::COUNTED.iter().all(|reason| (400..=505).contains(&reason.status())));
    }
}
