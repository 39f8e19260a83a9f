//! Explanations for the operator: what would have made a refused request right. None of it reaches the sender.
//! One thing is changed at a time, for each secret of the fleet; the caller bounds how often it asks.

use std::io::Read;

use super::credential;
use super::crypto::{self, Key};
use super::presented::Presented;
use super::signed::{Content, feed};
use super::verify::{Context, Failure, Shown, show};
use crate::model::refusal::Reason;
use crate::model::sender::scheme::word_of;
use crate::model::sender::table::PRESETS;
use crate::model::sender::{
    Algorithm, Check, Credential, Encoding, KeyForm, Place, Rule, Scheme, Template, Unit,
    Verification,
};

/// Bytes of a body that is tried in other forms.
const BODY_BYTES_MAX: u64 = 256 * 1024;
/// Secrets of other fleets that are tried.
const OTHER_SECRETS_MAX: usize = 64;

/// Templates of other schemes.
const TEMPLATES: [(&str, &str); 8] = [
    ("{body}", "without the timestamp"),
    ("{ts}.{body}", "with `{ts}.{body}`"),
    ("{ts}{body}", "with `{ts}{body}`"),
    ("{ts}:{body}", "with `{ts}:{body}`"),
    ("v0:{ts}:{body}", "with `v0:{ts}:{body}`"),
    ("{id}.{ts}.{body}", "with `{id}.{ts}.{body}`"),
    ("{url}{body}", "with `{url}{body}`"),
    ("{body}{url}", "with `{body}{url}`"),
];

/// What may be tried beside the request.
pub struct Hints<'a> {
    /// The other secrets of the server, by name.
    pub other_secrets: &'a dyn Fn() -> Vec<(String, String)>,
    /// Other URLs by which the request may have come.
    pub urls: &'a [String],
}

/// A remark on `failure`; `None` when nothing would have made `request` right.
pub fn explain(
    failure: &Failure,
    verification: &Verification,
    request: &Presented<'_>,
    context: &Context<'_>,
    hints: &Hints<'_>,
) -> Option<String> {
    match failure.reason {
        Reason::SignatureMissing | Reason::CredentialsMissing => fitting(verification, request),
        Reason::SignatureMalformed => {
            encoded(verification, request).or_else(|| fitting(verification, request))
        }
        Reason::SignatureMismatch => {
            let mut body = Vec::new();
            request.body.open().take(BODY_BYTES_MAX + 1).read_to_end(&mut body).ok()?;
            if body.len() as u64 > BODY_BYTES_MAX {
                return None;
            }
            let explainer = Explainer { request, context, hints, body };
            let mut checks = verification.checks().iter();
            checks
                .find_map(|check| explainer.signature(check))
                .or_else(|| encoded(verification, request))
        }
        Reason::CredentialsMismatch => verification
            .checks()
            .iter()
            .find_map(|check| of_credential(check, request, context, hints)),
        Reason::TimestampInFuture => looks_like_millis(verification, request)
            .then(|| "the timestamp looks like milliseconds where seconds are meant".to_owned()),
        _ => None,
    }
}

/// The other encoding, if that is the one of the signature.
fn encoded(verification: &Verification, request: &Presented<'_>) -> Option<String> {
    let mut rules = verification.checks().iter().flat_map(Check::rules);
    rules.find_map(|rule| {
        let Rule::Signature(scheme) = rule else { return None };
        let encoding = match scheme.encoding {
            Encoding::Hex => Encoding::Base64,
            Encoding::Base64 => Encoding::Hex,
        };
        let shown = show(Scheme { encoding, ..scheme }, request).ok()?;
        let length = shown.signatures.first()?.len();
        let fits = scheme.algorithm.signature_bytes() == Some(length);
        let word = word_of(&Encoding::WORDS, &encoding);
        fits.then(|| format!("it is in {word}: a scheme of your own says `encoding: {word}`"))
    })
}

/// The presets whose signature `request` carries.
fn fitting(verification: &Verification, request: &Presented<'_>) -> Option<String> {
    let asked: Vec<_> = verification.checks().iter().filter_map(Check::preset).collect();
    let signs = |rule: &Rule<'static>| match rule {
        Rule::Signature(scheme) => show(*scheme, request).is_ok().then_some(scheme.header),
        Rule::Credential(Credential::Header(name)) => {
            let is_own = !name.is_empty() && !name.eq_ignore_ascii_case("Authorization");
            (is_own && request.header(name).is_ok()).then_some(*name)
        }
        _ => None,
    };
    let mut found: Vec<(&str, &str, bool)> = PRESETS
        .iter()
        .filter(|preset| !asked.contains(preset))
        .filter_map(|preset| {
            let header = preset.rules.iter().find_map(signs)?;
            let mut places = preset.event_type.iter().chain(preset.event_id);
            let names_it = places
                .any(|place| matches!(place, Place::Header(name) if request.has_header(name)));
            Some((preset.name, header, names_it))
        })
        .collect();
    // Several share a header; those whose event headers are there as well are meant.
    if found.iter().any(|(_, _, names_it)| *names_it) {
        found.retain(|(_, _, names_it)| *names_it);
    }
    let (_, header, _) = found.first()?;
    let names: Vec<_> = found.iter().map(|(name, _, _)| format!("`{name}`")).collect();
    Some(format!("the request has {header}, as of the preset {}", names.join(" or ")))
}

fn looks_like_millis(verification: &Verification, request: &Presented<'_>) -> bool {
    verification.checks().iter().flat_map(Check::rules).any(|rule| {
        let Rule::Signature(scheme) = rule else { return false };
        let has_seconds = scheme.timestamp.is_some_and(|rule| rule.unit == Unit::Seconds);
        let shown = show(scheme, request).ok().and_then(|shown| shown.timestamp);
        has_seconds && shown.is_some_and(|(text, _)| text.len() == 13)
    })
}

fn of_credential(
    check: &Check,
    request: &Presented<'_>,
    context: &Context<'_>,
    hints: &Hints<'_>,
) -> Option<String> {
    check.rules().into_iter().find_map(|rule| {
        let Rule::Credential(asked) = rule else { return None };
        let shown = credential::shown(asked, request).ok()?;
        let trimmed = shown.trim_ascii();
        for name in &check.secrets {
            let Ok(secret) = (context.secret)(name) else { continue };
            if crypto::is_same_secret(secret.trim().as_bytes(), trimmed) {
                return Some("matches without the blanks around it".to_owned());
            }
            let bearer = shown.strip_prefix(b"Bearer ");
            if bearer.is_some_and(|it| crypto::is_same_secret(secret.as_bytes(), it)) {
                return Some("matches after `Bearer `; use the preset `bearer`".to_owned());
            }
        }
        let others = (hints.other_secrets)();
        let (name, _) = others
            .iter()
            .take(OTHER_SECRETS_MAX)
            .find(|(_, secret)| crypto::is_same_secret(secret.as_bytes(), &shown))?;
        Some(format!("matches another secret: {name}"))
    })
}

struct Explainer<'a> {
    request: &'a Presented<'a>,
    context: &'a Context<'a>,
    hints: &'a Hints<'a>,
    body: Vec<u8>,
}

impl Explainer<'_> {
    fn signature(&self, check: &Check) -> Option<String> {
        let secrets: Vec<_> = check
            .secrets
            .iter()
            .filter_map(|name| Some((name.as_str().to_owned(), (self.context.secret)(name).ok()?)))
            .collect();
        for rule in check.rules() {
            let Rule::Signature(scheme) = rule else { continue };
            let Ok(shown) = show(scheme, self.request) else { continue };
            for (index, (_, secret)) in secrets.iter().enumerate() {
                let found = self
                    .url(&shown, secret)
                    .or_else(|| self.secret(&shown, secret))
                    .or_else(|| self.template(scheme, secret))
                    .or_else(|| self.algorithm(&shown, secret))
                    .or_else(|| self.body(&shown, secret));
                if let Some(found) = found {
                    let which = match secrets.len() {
                        1 => String::new(),
                        count => format!(" secret {} of {count}", index + 1),
                    };
                    return Some(format!("matches{which} {found}"));
                }
            }
            let others = (self.hints.other_secrets)();
            let mut others = others.iter().take(OTHER_SECRETS_MAX);
            let matching = others.find(|(_, secret)| self.matches(&shown, secret, &self.body));
            if let Some((name, _)) = matching {
                return Some(format!("matches another secret: {name}"));
            }
        }
        None
    }

    fn url(&self, shown: &Shown<'_>, secret: &str) -> Option<String> {
        let mut urls = self.hints.urls.iter();
        let url = urls.find(|url| self.matches_at(shown, secret, &self.body, url))?;
        // The path holds the token.
        let origin = url.split('/').take(3).collect::<Vec<_>>().join("/");
        Some(match origin == self.context.url.split('/').take(3).collect::<Vec<_>>().join("/") {
            true => "with another spelling of the path or query".to_owned(),
            false => format!("with {origin}: set `public_url` to what the provider calls"),
        })
    }

    fn secret(&self, shown: &Shown<'_>, secret: &str) -> Option<String> {
        let trimmed = secret.trim();
        let forms = [
            (trimmed.to_owned(), "without the blanks around the secret"),
            (format!("{secret}\n"), "with a line end after the secret"),
            (format!("{secret}\r\n"), "with a CRLF after the secret"),
        ];
        for (form, found) in forms {
            if form != secret && self.matches(shown, &form, &self.body) {
                return Some(found.to_owned());
            }
        }
        let keys = [
            (KeyForm::Text, "the secret as it is, not decoded"),
            (KeyForm::Base64, "the secret decoded from base64"),
            (KeyForm::Hex, "the secret decoded from hex"),
        ];
        let other = keys.iter().filter(|(form, _)| *form != shown.scheme.key).find(|(form, _)| {
            let shown = Shown { scheme: Scheme { key: *form, ..shown.scheme }, ..shown.clone() };
            self.matches(&shown, secret, &self.body)
        });
        other.map(|(_, found)| format!("with {found}"))
    }

    fn template(&self, scheme: Scheme<'_>, secret: &str) -> Option<String> {
        let found = TEMPLATES.iter().find(|(text, _)| {
            let other = Scheme { signed: Template::of_table(text), ..scheme };
            other.signed != scheme.signed
                && show(other, self.request)
                    .is_ok_and(|shown| self.matches(&shown, secret, &self.body))
        });
        found.map(|(_, words)| (*words).to_owned())
    }

    fn algorithm(&self, shown: &Shown<'_>, secret: &str) -> Option<String> {
        let all = [
            (Algorithm::HmacSha1, "SHA-1"),
            (Algorithm::HmacSha256, "SHA-256"),
            (Algorithm::HmacSha512, "SHA-512"),
        ];
        let mut others = all.iter().filter(|(algorithm, _)| *algorithm != shown.scheme.algorithm);
        let (_, name) = others.find(|(algorithm, _)| {
            let scheme = Scheme { algorithm: *algorithm, ..shown.scheme };
            self.matches(&Shown { scheme, ..shown.clone() }, secret, &self.body)
        })?;
        Some(format!("with HMAC-{name}"))
    }

    fn body(&self, shown: &Shown<'_>, secret: &str) -> Option<String> {
        let body = &self.body;
        let unix = replaced(body, b"\r\n", b"\n");
        let forms: [(Vec<u8>, &str); 6] = [
            ([body, &b"\n"[..]].concat(), "with a line end after the body"),
            ([body, &b"\r\n"[..]].concat(), "with a CRLF after the body"),
            (body.trim_ascii_end().to_vec(), "without the line end after the body"),
            (replaced(&unix, b"\n", b"\r\n"), "with CRLF line ends in the body"),
            (unix, "with LF line ends in the body"),
            (compact(body), "with the JSON of the body written compactly"),
        ];
        let mut others = forms.iter().filter(|(form, _)| form != body);
        let (_, found) = others.find(|(form, _)| self.matches(shown, secret, form))?;
        Some(format!("{found}: the body was re-encoded on the way"))
    }

    fn matches(&self, shown: &Shown<'_>, secret: &str, body: &Vec<u8>) -> bool {
        self.matches_at(shown, secret, body, self.context.url)
    }

    fn matches_at(&self, shown: &Shown<'_>, secret: &str, body: &Vec<u8>, url: &str) -> bool {
        let Ok(key) = Key::new(shown.scheme.algorithm, shown.scheme.key, secret) else {
            return false;
        };
        let request = Presented { body, ..*self.request };
        let mut one = shown.feed(&key, url);
        let content = Content::of(shown.scheme.signed);
        feed(content, &request, &mut [&mut one]).is_ok()
            && one.code.verify(&shown.signatures).is_ok()
    }
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(byte) = rest.first() {
        match rest.strip_prefix(from) {
            Some(after) => {
                result.extend_from_slice(to);
                rest = after;
            }
            None => {
                result.push(*byte);
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
    result
}

/// JSON without the blanks between its values.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut is_text, mut is_escaped) = (false, false);
    let mut kept = Vec::with_capacity(json.len());
    for byte in json {
        if is_text || !byte.is_ascii_whitespace() {
            kept.push(*byte);
        }
        if *byte == b'"' && !is_escaped {
            is_text = !is_text;
        }
        is_escaped = is_text && *byte == b'\\' && !is_escaped;
    }
    kept
}

/// The URLs by which a request to `url` may have come: of `hosts`, by either scheme, with a slash at its end
/// or without.
pub fn other_urls(url: &str, hosts: &[&str]) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return Vec::new() };
    let (own, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (bare, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let slashed = match bare.strip_suffix('/') {
        Some(bare) => format!("{bare}{query}"),
        None => format!("{bare}/{query}"),
    };
    let mut urls = Vec::new();
    for host in [&[own], hosts].concat() {
        for scheme in [scheme, if scheme == "https" { "http" } else { "https" }] {
            for path in [path, slashed.as_str(), bare] {
                let other = format!("{scheme}://{host}{path}");
                if other != url && !urls.contains(&other) {
                    urls.push(other);
                }
            }
        }
    }
    urls
}
