//! The verifier over requests in memory.

mod explanations;
mod handshakes;
mod presets;
mod vectors;

use std::collections::BTreeMap;

use super::Presented;
use super::presented::Reread;
use super::sign::Draft;
use super::verify::{Context, Outcome, verify};
use crate::model::clock::Timestamp;
use crate::model::refusal::Reason;
use crate::model::sender::Verification;
use crate::model::variable::SecretName;

/// A fleet's settings, its secrets, and a server's clock.
pub struct World {
    pub verification: Verification,
    pub secrets: BTreeMap<&'static str, String>,
    pub now: Timestamp,
}

impl World {
    /// `verify` in the form of the fleet file as JSON; the secret `S` is `secret`.
    pub fn new(verify: &str, secret: &str) -> Self {
        Self {
            verification: serde_json::from_str(verify).unwrap(),
            secrets: BTreeMap::from([("S", secret.to_owned())]),
            now: Timestamp::from_millis(1_700_000_000_000),
        }
    }

    /// What becomes of `draft`: `Ok`, the reason, or the name of a secret without a value.
    pub fn judge(&self, draft: &Draft) -> Result<(), String> {
        let url = draft.full_url();
        self.judge_at(&url, draft)
    }

    pub fn judge_at(&self, url: &str, draft: &Draft) -> Result<(), String> {
        let secret = |name: &SecretName| {
            self.secrets.get(name.as_str()).cloned().ok_or("there is no file".to_owned())
        };
        let context = Context { now: self.now, url, secret: &secret };
        let body: &dyn Reread = &draft.body;
        let presented = Presented { query: &draft.query, headers: &draft.headers, body };
        match verify(&self.verification, &presented, &context) {
            Outcome::Verified(_) => Ok(()),
            Outcome::Refused(failure) => Err(format!("{:?}: {}", failure.reason, failure.detail)),
            Outcome::NoSecret { secret, why } => {
                Err(format!("no secret {}: {why}", secret.as_str()))
            }
            Outcome::Unreadable(error) => panic!("{error}"),
        }
    }

    /// Holds `draft` to be refused for `reason`.
    #[track_caller]
    pub fn refuses(&self, draft: &Draft, reason: Reason) {
        let found = self.judge(draft).unwrap_err();
        assert!(found.starts_with(&format!("{reason:?}: ")), "{found}; expected {reason:?}");
    }
}

/// A request without a sign of its sender.
pub fn draft(headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Draft {
    let headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    Draft {
        url: "https://hooks.example.com/hooks/token".to_owned(),
        query: String::new(),
        headers: headers.collect(),
        body: body.into(),
    }
}
