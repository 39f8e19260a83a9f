//! Signs a request as a provider would: for samples that the owner has sent, and for tests.

use super::crypto::{self, Key};
use super::presented::Presented;
use super::signed::{Content, Feed, Texts, Unreadable, feed};
use crate::model::clock::Timestamp;
use crate::model::sender::{
    Check, Credential, Form, Rule, Scheme, TimestampPlace, TimestampRule, Unit,
};
use crate::model::text::percent_encoded;

/// A request on its way to being signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The URL that its owner knows, without a query.
    pub url: String,
    /// Without the question mark.
    pub query: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Draft {
    /// Gives the header `name` this one value.
    pub fn set_header(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
    }

    pub(super) fn header(&self, name: &str) -> String {
        let mut headers = self.headers.iter();
        let found = headers.find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    }

    /// The URL with its query.
    pub fn full_url(&self) -> String {
        match self.query.is_empty() {
            true => self.url.clone(),
            false => format!("{}?{}", self.url, self.query),
        }
    }
}

/// Adds what `check` asks for, made with `secret` at `now`. The id of the event, where the signature covers
/// one, is the header that is there already.
///
/// # Errors
/// Why it cannot be signed.
pub fn sign(check: &Check, secret: &str, now: Timestamp, draft: &mut Draft) -> Result<(), String> {
    let mut reason = "there is nothing to sign with".to_owned();
    for rule in check.rules() {
        match rule {
            Rule::Url => return Ok(()),
            Rule::Credential(credential) => {
                show(credential, secret, draft);
                return Ok(());
            }
            Rule::Signature(scheme) => match signature(scheme, secret, now, draft) {
                Ok(()) => return Ok(()),
                Err(why) => reason = why,
            },
        }
    }
    Err(reason)
}

fn show(credential: Credential<'_>, secret: &str, draft: &mut Draft) {
    match credential {
        Credential::Header(name) => draft.set_header(name, secret),
        Credential::Bearer => draft.set_header("Authorization", format!("Bearer {secret}")),
        Credential::Basic => {
            let text = data_encoding::BASE64.encode(secret.as_bytes());
            draft.set_header("Authorization", format!("Basic {text}"));
        }
        Credential::Query(name) => {
            let value = percent_encoded(secret);
            let divider = if draft.query.is_empty() { "" } else { "&" };
            draft.query.push_str(&format!("{divider}{}={value}", percent_encoded(name)));
        }
        // A sample has one in its body.
        Credential::ClientState => {
            let quoted = serde_json::Value::from(secret).to_string();
            let body = String::from_utf8_lossy(&draft.body).replace("\"{clientState}\"", &quoted);
            draft.body = body.into_bytes();
        }
    }
}

fn signature(
    scheme: Scheme<'_>,
    secret: &str,
    now: Timestamp,
    draft: &mut Draft,
) -> Result<(), String> {
    let key = Key::new(scheme.algorithm, scheme.key, secret)
        .map_err(|why| format!("the secret {why}"))?;
    let timestamp = scheme.timestamp.map(|rule| (rule, written(now, rule.unit)));
    if let Some((TimestampRule { place: TimestampPlace::Header(name), .. }, text)) = &timestamp {
        draft.set_header(name, text.as_str());
    }
    let is_form = Presented { query: "", headers: &draft.headers, body: &draft.body }.is_form();
    if Content::of(scheme.signed) == Content::Form && !is_form {
        let mut digest = crypto::Digest::default();
        digest.update(&draft.body);
        draft.query = format!("bodySHA256={}", digest.finish());
    }
    let code = {
        let presented =
            Presented { query: &draft.query, headers: &draft.headers, body: &draft.body };
        let (id, url) = (scheme.id.map(|name| draft.header(name)), draft.full_url());
        let texts = Texts {
            timestamp: timestamp.as_ref().map_or("", |(_, text)| text.as_str()),
            id: id.as_deref().unwrap_or_default(),
            url: &url,
        };
        let mut one = Feed { template: scheme.signed, texts, code: key.begin() };
        feed(Content::of(scheme.signed), &presented, &mut [&mut one])
            .map_err(|error: Unreadable| error.to_string())?;
        one.code.sign().ok_or("the secret is a public key, with which nothing can be signed")?
    };
    let text = crypto::encode(scheme.encoding, &code);
    let value = match scheme.form {
        Form::Prefixed(prefix) => format!("{prefix}{text}"),
        Form::Parts { separator, divider, key } => {
            let signature = format!("{key}{divider}{text}");
            match timestamp {
                Some((TimestampRule { place: TimestampPlace::Part(part), .. }, at)) => {
                    format!("{part}{divider}{at}{separator}{signature}")
                }
                _ => signature,
            }
        }
    };
    draft.set_header(scheme.header, value);
    Ok(())
}

/// `moment` in `unit`.
pub fn written(moment: Timestamp, unit: Unit) -> String {
    match unit {
        Unit::Seconds => (moment.as_millis() / 1000).to_string(),
        Unit::Millis => moment.as_millis().to_string(),
        Unit::Rfc3339 => moment.to_string(),
    }
}
