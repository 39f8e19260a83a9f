//! Why the gate refuses requests, and with which status.

use std::fmt;

/// A refusal of the gate's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// For a person.
    pub why: &'static str,
}

impl Refusal {
    pub(super) fn new(reason: Reason, why: &'static str) -> Self {
        Self { reason, why }
    }

    /// What the sender is answered.
    pub fn status(self) -> u16 {
        self.reason.status()
    }
}

/// What refusals are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is no request, or one that two readers could take differently.
    Malformed,
    /// Its sender was too slow.
    TimedOut,
    BodyTooLarge,
    TargetTooLong,
    HeadTooLarge,
    /// An encoding that is not spoken here.
    NotImplemented,
    /// A version of HTTP that is not spoken here.
    WrongVersion,
    TooManyConnections,
    TooManyFromAddress,
    /// The handlers have too much to do.
    Busy,
    /// Too many bodies are arriving, or there is no room for them on the disk.
    NoRoomForBody,
    /// A handler failed at it.
    Failed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::TimedOut,
        Self::BodyTooLarge,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::NotImplemented,
        Self::WrongVersion,
        Self::TooManyConnections,
        Self::TooManyFromAddress,
        Self::Busy,
        Self::NoRoomForBody,
        Self::Failed,
    ];

    pub(super) fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TimedOut => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::TooManyFromAddress => 429,
            Self::HeadTooLarge => 431,
            Self::Failed => 500,
            Self::NotImplemented => 501,
            Self::TooManyConnections | Self::Busy | Self::NoRoomForBody => 503,
            Self::WrongVersion => 505,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::TimedOut => "timed_out",
            Self::BodyTooLarge => "body_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::NotImplemented => "not_implemented",
            Self::WrongVersion => "wrong_version",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyFromAddress => "too_many_from_address",
            Self::Busy => "busy",
            Self::NoRoomForBody => "no_room_for_body",
            Self::Failed => "failed",
        })
    }
}
