//! Webhooks and their secret tokens.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::clock::Timestamp;
use crate::model::defaults::is_default;
use crate::model::duration::millis;
use crate::model::expression::Expression;
use crate::model::ids::FleetId;
use crate::model::limits::CLOCK_STEP_MAX;
use crate::model::network::Networks;
use crate::model::random::{Random, SystemRandom};
use crate::model::rate::Rate;
use crate::model::respond::Respond;
use crate::model::sender::Verification;

/// A secret of 256 random bits in URL-safe Base64. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

/// Letters of a token: 32 bytes in Base64 without padding.
const TOKEN_LETTERS: usize = 43;

impl Token {
    /// A new token.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        Self::drawn_from(&SystemRandom)
    }

    /// A new token of bytes from `random`, which must be fit for secrets.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn drawn_from(random: &dyn Random) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        random.fill(&mut bytes)?;
        Ok(Self(data_encoding::BASE64URL_NOPAD.encode(&bytes)))
    }

    /// `text` as a token; `None` when it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_token = text.len() == TOKEN_LETTERS
            && data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).is_ok();
        is_token.then(|| Self(text.to_owned()))
    }

    /// The secret itself, for the URL that its owner asked for or the header of a request.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The webhook's URL below `public_base`, for its owner.
    pub fn url(&self, public_base: &str) -> String {
        format!("{}/hooks/{}", public_base.trim_end_matches('/'), self.0)
    }

    /// The hash by which the token is looked up and compared.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The SHA-256 of a token. How long a comparison of hashes takes tells nothing about the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash as bytes: the key of the webhook's row.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash that was stored as `bytes`; `None` when there are not exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// The webhook of a fleet: a row of `webhooks`, by the hash of its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    pub fleet_id: FleetId,
    pub token: Token,
    pub created_at: Timestamp,
    /// To within a minute after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// The URL it replaced, while that is still answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousToken>,
    /// When its owner paused it; `None`: it takes requests. Stays when the URL is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// Until when a handshake may bring the sender's secret; `None`: none may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_until: Option<Timestamp>,
}

/// How long a handshake is awaited that brings a secret: time to register a webhook at its provider.
pub const HANDSHAKE_WINDOW: Duration = Duration::from_secs(600);

impl Webhook {
    /// Until when a handshake may bring the secret, if it may at `now`. A window of a clock that was ahead
    /// is closed: it might last for years.
    pub fn handshake_until_at(&self, now: Timestamp) -> Option<Timestamp> {
        let last = now.plus(HANDSHAKE_WINDOW);
        self.handshake_until.filter(|until| now < *until && *until <= last)
    }

    /// The URL that it replaced, if that is answered at `now`. A replacement that lies ahead was made
    /// by a clock that was ahead as well: its grace is over, for it might last for years.
    pub fn previous_at(&self, now: Timestamp) -> Option<&PreviousToken> {
        let is_made = now.plus(CLOCK_STEP_MAX) >= self.created_at;
        self.previous.as_ref().filter(|previous| is_made && now < previous.valid_until)
    }
}

/// Which requests the webhook of a fleet takes: part of each version of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookSettings {
    /// The checks of its sender; `None`: the URL alone is the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verification>,
    #[serde(skip_serializing_if = "is_default")]
    pub mode: Mode,
    #[serde(skip_serializing_if = "is_default")]
    pub deduplicate: Deduplicate,
    /// Whether the fleet wants a request; `None`: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Expression>,
    /// The answer to an accepted request; `None`: 201 and the ids of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
    /// Where requests may come from; empty: from anywhere.
    #[serde(skip_serializing_if = "Networks::is_empty")]
    pub allow: Networks,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<Rate>,
    /// Whether the fleet answers under its name as well, as `adnanh/webhook` does.
    #[serde(skip_serializing_if = "is_default")]
    pub keep_path: bool,
}

impl WebhookSettings {
    /// Whether a request needs more than the URL: an address, or a sender that is verified.
    pub fn is_guarded(&self) -> bool {
        let is_verified = self.verify.as_ref().is_some_and(Verification::needs_secret);
        !self.allow.is_empty() || (is_verified && self.mode == Mode::Enforce)
    }
}

/// The fate of a request that fails its verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is run, and noted as one that `enforce` refuses.
    Observe,
}

impl Mode {
    /// The word of fleet files.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        }
    }
}

/// Whether an event that a sender delivers again is run once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deduplicate {
    /// Wherever events have an id, for [`DEDUPLICATE_WINDOW`].
    #[default]
    Usual,
    Off,
    /// Wherever events have an id, for this long.
    Window(#[serde(with = "millis")] Duration),
    /// By the id that an expression gives, for this long, also without a verified sender.
    Own {
        id: Expression,
        #[serde(with = "millis")]
        window: Duration,
    },
}

/// How long an event is remembered: Stripe, the most patient sender, tries for three days.
pub const DEDUPLICATE_WINDOW: Duration = Duration::from_secs(3 * 24 * 3600);
/// Longest window, and so a bound of the events that are remembered.
pub const DEDUPLICATE_WINDOW_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl Deduplicate {
    /// How long an event is remembered; `None`: events are not remembered.
    pub fn window(&self) -> Option<Duration> {
        match self {
            Self::Usual => Some(DEDUPLICATE_WINDOW),
            Self::Off => None,
            Self::Window(window) | Self::Own { window, .. } => Some(*window),
        }
    }

    /// The expression that gives the id, if the sender's own is not taken.
    pub fn own_id(&self) -> Option<&Expression> {
        match self {
            Self::Own { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// A replaced token in its grace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousToken {
    pub token: Token,
    pub valid_until: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_clock_that_was_ahead_has_allowed_is_over() {
        let at = |seconds: i64| Timestamp::from_millis(1_700_000_000_000 + seconds * 1000);
        let webhook = Webhook {
            fleet_id: FleetId::random(),
            token: Token::random().unwrap(),
            created_at: at(1000),
            last_used_at: None,
            previous: Some(PreviousToken {
                token: Token::random().unwrap(),
                valid_until: at(1600),
            }),
            paused_at: None,
            handshake_until: Some(at(1600)),
        };
        let is_open = |seconds| webhook.handshake_until_at(at(seconds)).is_some();
        assert!(is_open(1000) && is_open(1599) && !is_open(1600) && !is_open(999));
        let is_answered = |seconds| webhook.previous_at(at(seconds)).is_some();
        assert!(is_answered(999) && is_answered(1000) && is_answered(1599));
        assert!(!is_answered(1600) && !is_answered(900));
    }

    #[test]
    fn tokens_have_one_form_and_stay_out_of_debug_output() {
        let token = Token::random().unwrap();
        assert_eq!(Token::parse(token.reveal()), Some(token.clone()));
        assert!(!format!("{token:?} {:?}", token.hash()).contains(token.reveal()));
        let long = "a".repeat(10_000);
        for odd in ["", "a", &long, "a/../b", &"=".repeat(TOKEN_LETTERS)] {
            assert_eq!(Token::parse(odd), None);
        }
    }
}
