//! The verifier: one for all presets and schemes. It compares what a request shows with what a fleet asks of
//! its sender.

use std::io;
use std::time::Duration;

use super::credential;
use super::crypto::{self, Key, Mismatch};
use super::fields;
use super::presented::{Presented, Unusable};
use super::signatures::{self, Malformed};
use super::signed::{Content, Feed, Texts, Unreadable, feed};
use crate::model::clock::Timestamp;
use crate::model::duration::format_duration;
use crate::model::refusal::Reason;
use crate::model::sender::{
    Check, Encoding, Form, Piece, Rule, Scheme, TimestampPlace, TimestampRule, Verification,
};
use crate::model::variable::SecretName;

/// What the verifier has to know of the server.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub now: Timestamp,
    /// The URL to which the request was sent, as its owner knows it.
    pub url: &'a str,
    /// The present value of a secret, or why it has none.
    pub secret: &'a dyn Fn(&SecretName) -> Result<String, String>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome<'a> {
    Verified(Verified<'a>),
    Refused(Failure),
    /// A secret has no value, or none that could be a key: the sender shall try again.
    NoSecret {
        secret: &'a SecretName,
        why: String,
    },
    /// The body cannot be read back.
    Unreadable(io::Error),
}

/// Which check has held.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a> {
    pub check: &'a Check,
    /// The header with the signed id of the event, if the signature covers one.
    pub id: Option<&'a str>,
    /// The secret with which it has held.
    pub secret: Option<&'a SecretName>,
}

/// Why no check has held: the failure that came closest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// For the operator.
    pub detail: String,
}

/// The reasons of a refused sender, in the order of how close a request came.
const BY_CLOSENESS: [Reason; 9] = [
    Reason::SignatureMissing,
    Reason::CredentialsMissing,
    Reason::SignatureMalformed,
    Reason::TimestampMissing,
    Reason::TimestampMalformed,
    Reason::CredentialsMismatch,
    Reason::SignatureMismatch,
    Reason::TimestampTooOld,
    Reason::TimestampInFuture,
];

impl Failure {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    fn closeness(&self) -> Option<usize> {
        BY_CLOSENESS.iter().position(|reason| *reason == self.reason)
    }
}

/// A signature that is there and can be compared.
#[derive(Clone)]
pub(super) struct Shown<'a> {
    pub scheme: Scheme<'a>,
    pub signatures: Vec<Vec<u8>>,
    /// The text of the timestamp, and the moment it tells.
    pub timestamp: Option<(String, Timestamp)>,
    pub id: String,
}

/// A signature and one secret it may have been made with.
struct Candidate<'a> {
    check: &'a Check,
    shown: usize,
    secret: &'a SecretName,
    key: Key,
}

/// Whether `request` shows what one of the checks asks for.
pub fn verify<'a>(
    verification: &'a Verification,
    request: &Presented<'_>,
    context: &Context<'_>,
) -> Outcome<'a> {
    let mut trial = Trial {
        request,
        context,
        shown: Vec::new(),
        candidates: Vec::new(),
        failure: None,
        no_secret: None,
    };
    for check in verification.checks() {
        if let Some(verified) = trial.check(check) {
            return Outcome::Verified(verified);
        }
    }
    match trial.compare() {
        Ok(Some(verified)) => return Outcome::Verified(verified),
        Ok(None) => {}
        Err(error) => return Outcome::Unreadable(error),
    }
    match (trial.no_secret, trial.failure) {
        (Some((secret, why)), _) => Outcome::NoSecret { secret, why },
        (None, Some(failure)) => Outcome::Refused(failure),
        (None, None) => {
            Outcome::Refused(Failure::new(Reason::SignatureMissing, "there is no check"))
        }
    }
}

struct Trial<'a, 'r> {
    request: &'r Presented<'r>,
    context: &'r Context<'r>,
    shown: Vec<Shown<'a>>,
    candidates: Vec<Candidate<'a>>,
    failure: Option<Failure>,
    no_secret: Option<Lacking<'a>>,
}

/// A secret without a value, and why.
type Lacking<'a> = (&'a SecretName, String);

impl<'a> Trial<'a, '_> {
    fn fail(&mut self, failure: Failure) {
        if self.failure.as_ref().is_none_or(|known| known.closeness() < failure.closeness()) {
            self.failure = Some(failure);
        }
    }

    /// Compares credentials, and gathers the signatures to compare.
    fn check(&mut self, check: &'a Check) -> Option<Verified<'a>> {
        let (secrets, mut lacking) = self.secrets(check);
        let mut unusable = None;
        let mut is_shown = false;
        let mut has_key = false;
        for rule in check.rules() {
            match rule {
                Rule::Url => return Some(Verified { check, id: None, secret: None }),
                Rule::Credential(credential) => {
                    has_key = true;
                    is_shown |= credential::shown(credential, self.request).is_ok();
                    match credential::compare(credential, self.request, &secrets) {
                        Ok(()) => return Some(Verified { check, id: None, secret: None }),
                        Err(failure) => self.fail(failure),
                    }
                }
                Rule::Signature(scheme) => {
                    let shown = match show(scheme, self.request) {
                        Ok(shown) => Some(self.keep(shown)),
                        Err(failure) => {
                            self.fail(failure);
                            None
                        }
                    };
                    is_shown |= shown.is_some();
                    for (name, secret) in &secrets {
                        match (Key::new(scheme.algorithm, scheme.key, secret), shown) {
                            (Ok(key), Some(shown)) => {
                                has_key = true;
                                self.candidates.push(Candidate { check, shown, secret: name, key });
                            }
                            (Ok(_), None) => has_key = true,
                            (Err(why), _) => unusable = unusable.or(Some((*name, why))),
                        }
                    }
                }
            }
        }
        if let Some((name, why)) = unusable.filter(|_| !has_key) {
            lacking = lacking.or(Some((name, format!("its value {why}"))));
        }
        // A request that shows nothing is refused, whatever the secrets are.
        if is_shown {
            self.no_secret = self.no_secret.take().or(lacking);
        }
        None
    }

    /// The secrets of `check` that have a value, and the first that has none.
    fn secrets(&self, check: &'a Check) -> (Vec<(&'a SecretName, String)>, Option<Lacking<'a>>) {
        let mut found = Vec::with_capacity(check.secrets.len());
        let mut lacking = None;
        for name in &check.secrets {
            match (self.context.secret)(name) {
                Ok(value) if !value.is_empty() => found.push((name, value)),
                Ok(_) => lacking = lacking.or(Some((name, "it is empty".to_owned()))),
                Err(why) => lacking = lacking.or(Some((name, why))),
            }
        }
        (found, lacking)
    }

    fn keep(&mut self, shown: Shown<'a>) -> usize {
        self.shown.push(shown);
        self.shown.len() - 1
    }

    /// Compares the signatures with the codes of all candidates, one pass over the body for each kind of
    /// content.
    fn compare(&mut self) -> io::Result<Option<Verified<'a>>> {
        let candidates = std::mem::take(&mut self.candidates);
        let shown = std::mem::take(&mut self.shown);
        for content in [Content::Body, Content::Payload, Content::Form] {
            let mut tried: Vec<_> = candidates
                .iter()
                .filter_map(|candidate| {
                    let shown = shown.get(candidate.shown)?;
                    let is_meant = Content::of(shown.scheme.signed) == content;
                    is_meant
                        .then(|| (candidate, shown, shown.feed(&candidate.key, self.context.url)))
                })
                .collect();
            if tried.is_empty() {
                continue;
            }
            let mut feeds: Vec<_> = tried.iter_mut().map(|(_, _, feed)| feed).collect();
            match feed(content, self.request, &mut feeds) {
                Ok(()) => {}
                Err(Unreadable::Read(error)) => return Err(error),
                Err(Unreadable::Uncovered(why)) => {
                    self.fail(Failure::new(Reason::SignatureMismatch, why));
                    continue;
                }
            }
            for (candidate, shown, feed) in tried {
                match self.judge(candidate, shown, feed) {
                    Ok(verified) => return Ok(Some(verified)),
                    Err(failure) => self.fail(failure),
                }
            }
        }
        Ok(None)
    }

    fn judge(
        &self,
        candidate: &Candidate<'a>,
        shown: &Shown<'a>,
        feed: Feed<'_>,
    ) -> Result<Verified<'a>, Failure> {
        feed.code.verify(&shown.signatures).map_err(|mismatch| mismatched(shown, mismatch))?;
        if let (Some((_, moment)), Some(rule)) = (&shown.timestamp, shown.scheme.timestamp) {
            check_age(*moment, rule, self.context.now).map_err(|mut failure| {
                if candidate.check.secrets.len() > 1 {
                    let name = candidate.secret.as_str();
                    failure.detail.push_str(&format!("; the signature is of the secret {name}"));
                }
                failure
            })?;
        }
        Ok(Verified { check: candidate.check, id: shown.scheme.id, secret: Some(candidate.secret) })
    }
}

fn mismatched(shown: &Shown<'_>, mismatch: Mismatch) -> Failure {
    let header = shown.scheme.header;
    let detail = match mismatch {
        Mismatch::TooLong => format!(
            "a body of more than {} bytes cannot be verified with a public key",
            crypto::MESSAGE_BYTES_MAX
        ),
        Mismatch::Differs => {
            let expected = shown.scheme.algorithm.signature_bytes();
            let length = shown.signatures.first().map_or(0, Vec::len);
            match expected.filter(|expected| *expected != length) {
                Some(expected) => {
                    format!("{header} has {length} bytes, and the signature must have {expected}")
                }
                None => format!("{header} is not the signature of this request"),
            }
        }
    };
    Failure::new(Reason::SignatureMismatch, detail)
}

impl<'a> Shown<'a> {
    pub(super) fn feed(&'a self, key: &Key, url: &'a str) -> Feed<'a> {
        let timestamp = self.timestamp.as_ref().map_or("", |(text, _)| text.as_str());
        let texts = Texts { timestamp, id: &self.id, url };
        Feed { template: self.scheme.signed, texts, code: key.begin() }
    }
}

/// What `request` shows for `scheme`.
pub(super) fn show<'a>(scheme: Scheme<'a>, request: &Presented<'_>) -> Result<Shown<'a>, Failure> {
    let header = request.header(scheme.header).map_err(|why| {
        let reason = match why {
            Unusable::Missing | Unusable::Empty => Reason::SignatureMissing,
            Unusable::Twice | Unusable::TooLong => Reason::SignatureMalformed,
        };
        Failure::new(reason, why.describe(scheme.header))
    })?;
    let signatures = signatures::signatures(header, scheme.form, scheme.encoding)
        .map_err(|why| malformed(scheme, why))?;
    let id = match scheme.id.filter(|_| scheme.signed.has(Piece::Id)) {
        None => String::new(),
        Some(name) => {
            let value = request
                .header(name)
                .map_err(|why| Failure::new(Reason::SignatureMalformed, why.describe(name)))?;
            let text = std::str::from_utf8(value);
            text.map_err(|_| {
                Failure::new(Reason::SignatureMalformed, format!("{name} is no text"))
            })?
            .to_owned()
        }
    };
    let timestamp =
        scheme.timestamp.map(|rule| timestamp(rule, scheme, header, request)).transpose()?;
    Ok(Shown { scheme, signatures, timestamp, id })
}

fn malformed(scheme: Scheme<'_>, why: Malformed) -> Failure {
    let header = scheme.header;
    match (why, scheme.form) {
        (Malformed::Absent, Form::Prefixed(prefix)) => Failure::new(
            Reason::SignatureMalformed,
            format!("{header} does not begin with `{prefix}`"),
        ),
        (Malformed::Absent, Form::Parts { key, .. }) => {
            Failure::new(Reason::SignatureMissing, format!("{header} has no part `{key}`"))
        }
        (Malformed::TooMany, _) => {
            Failure::new(Reason::SignatureMalformed, format!("{header} has too many signatures"))
        }
        (Malformed::Undecodable | Malformed::Twice, _) => {
            let encoding = match scheme.encoding {
                Encoding::Hex => "lower-case hex",
                Encoding::Base64 => "base64",
            };
            Failure::new(Reason::SignatureMalformed, format!("{header} is not {encoding}"))
        }
    }
}

fn timestamp(
    rule: TimestampRule<'_>,
    scheme: Scheme<'_>,
    header: &[u8],
    request: &Presented<'_>,
) -> Result<(String, Timestamp), Failure> {
    let missing = |detail: String| Failure::new(Reason::TimestampMissing, detail);
    let (name, text) = match rule.place {
        TimestampPlace::Header(name) => {
            let value = request.header(name).map_err(|why| match why {
                Unusable::Missing | Unusable::Empty => missing(why.describe(name)),
                _ => Failure::new(Reason::TimestampMalformed, why.describe(name)),
            })?;
            (name, value.to_vec())
        }
        TimestampPlace::Part(key) => match signatures::part(header, scheme.form, key) {
            Ok(value) => (key, value.to_vec()),
            Err(Malformed::Twice) => {
                let detail = format!("{} has `{key}` twice", scheme.header);
                return Err(Failure::new(Reason::TimestampMalformed, detail));
            }
            Err(_) => return Err(missing(format!("{} has no part `{key}`", scheme.header))),
        },
        TimestampPlace::Body(path) => {
            let found = fields::fields(request.body.open(), &[path]).pop().flatten();
            let text = found.ok_or_else(|| missing(format!("the body has no `{path}`")))?;
            (path, text.into_bytes())
        }
    };
    let malformed = || Failure::new(Reason::TimestampMalformed, format!("{name} is no timestamp"));
    let moment = signatures::moment(&text, rule.unit).ok_or_else(malformed)?;
    Ok((String::from_utf8(text).map_err(|_| malformed())?, moment))
}

fn check_age(moment: Timestamp, rule: TimestampRule<'_>, now: Timestamp) -> Result<(), Failure> {
    let Some(tolerance) = rule.tolerance else { return Ok(()) };
    let (age, lead) = (now.since(moment), moment.since(now));
    let rounded = |duration: Duration| match duration.as_secs() {
        seconds if seconds > 2 * 86_400 => format!("{} days", seconds / 86_400),
        seconds => format_duration(Duration::from_secs(seconds)),
    };
    if age > tolerance {
        let detail = format!(
            "signed {} ago, and the tolerance is {}",
            rounded(age),
            format_duration(tolerance)
        );
        return Err(Failure::new(Reason::TimestampTooOld, detail));
    }
    if lead > tolerance {
        let detail = format!(
            "signed {} ahead of this server's clock, and the tolerance is {}",
            rounded(lead),
            format_duration(tolerance)
        );
        return Err(Failure::new(Reason::TimestampInFuture, detail));
    }
    Ok(())
}
