//! Presets: what Boathook knows about one provider.

use super::handshake::Handshake;
use super::scheme::{Place, Scheme};

/// A provider: one row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Preset {
    /// The word of the fleet file.
    pub name: &'static str,
    /// What people call the provider.
    pub title: &'static str,
    /// One of them must hold.
    pub rules: &'static [Rule<'static>],
    /// The first that is there counts.
    pub event_id: &'static [Place<'static>],
    pub event_type: &'static [Place<'static>],
    pub handshake: Option<Handshake>,
    pub options: &'static [PresetOption],
}

/// One way to show who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    Signature(Scheme<'a>),
    Credential(Credential<'a>),
    /// The secret URL alone: the provider signs nothing.
    Url,
}

/// A secret that is sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    Header(&'a str),
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: Basic`; the secret is `user:password` (RFC 7617).
    Basic,
    /// A parameter of the query.
    Query(&'a str),
    /// `clientState` of each notification in the body.
    ClientState,
}

/// A key of the fleet file that only some presets have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresetOption {
    /// `verify_token`: the secret that a handshake shows.
    VerifyToken,
    /// `header`: the header with the signature.
    Header,
    /// `timestamp_header`: the header with the timestamp.
    TimestampHeader,
    /// `name`: of the header or parameter; must be given.
    Name,
}

impl PresetOption {
    /// The key of the fleet file.
    pub fn key(self) -> &'static str {
        match self {
            Self::VerifyToken => "verify_token",
            Self::Header => "header",
            Self::TimestampHeader => "timestamp_header",
            Self::Name => "name",
        }
    }
}

impl Preset {
    /// Whether it takes a secret.
    pub fn has_secret(&self) -> bool {
        !self.rules.iter().all(|rule| matches!(rule, Rule::Url))
    }

    /// Whether its handshake brings the secret.
    pub fn brings_secret(&self) -> bool {
        self.handshake.is_some_and(Handshake::brings_secret)
    }

    /// Whether a scheme of it has a timestamp whose tolerance may be set.
    pub fn has_timestamp(&self) -> bool {
        self.options.contains(&PresetOption::TimestampHeader)
            || self
                .rules
                .iter()
                .any(|rule| matches!(rule, Rule::Signature(scheme) if scheme.timestamp.is_some()))
    }
}
