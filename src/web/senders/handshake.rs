//! Handshakes: what a provider asks to find out whether a URL is its owner's, and the answers it wants. They
//! start no run.

use std::io::Read;

use serde_json::{Value, json};

use super::crypto;
use super::presented::Presented;
use crate::listener::Response;
use crate::model::sender::{Check, Handshake};
use crate::model::variable::SecretName;

/// Bytes of the body of a handshake: several times the largest.
const BODY_BYTES_MAX: u64 = 16 * 1024;
/// Bytes of a challenge that is sent back.
const CHALLENGE_BYTES_MAX: usize = 4 * 1024;

/// What becomes of a request that asks for a handshake.
pub enum Step {
    Answer(Response),
    /// The sender does not show what the owner has told the provider. For the operator: why.
    Refuse(&'static str),
    /// Asana: the value of the secret from now on. The answer is [`repeated`].
    Store(SecretName, String),
}

/// The step that a handshake wants which the provider does not sign; `None`: `request` is no handshake.
/// `secret` reads secrets.
pub fn unsigned(
    check: &Check,
    method: &str,
    request: &Presented<'_>,
    secret: &dyn Fn(&SecretName) -> Result<String, String>,
) -> Option<Step> {
    let handshake = check.preset()?.handshake?;
    let is_allowed = match handshake.methods() {
        [] => method == "POST",
        methods => methods.contains(&method),
    };
    if !is_allowed {
        return None;
    }
    match handshake {
        Handshake::Meta => meta(check, request, secret),
        Handshake::MicrosoftGraph => parameter(request, "validationToken").map(text),
        Handshake::Dropbox => parameter(request, "challenge").map(text),
        Handshake::Asana => {
            let value = request.header(HOOK_SECRET).ok()?;
            let shown = std::str::from_utf8(value).ok()?;
            let name = check.secrets.first()?;
            (is_challenge(shown) && body(request)?.is_empty())
                .then(|| Step::Store(name.clone(), shown.to_owned()))
        }
        Handshake::Challenge => {
            let body = json_body(request)?;
            let only = body.as_object().filter(|object| object.len() == 1)?.get("challenge")?;
            let challenge = only.as_str().filter(|it| is_challenge(it))?;
            Some(json_answer(&json!({"challenge": challenge})))
        }
        Handshake::Okta => {
            let value = request.header("x-okta-verification-challenge").ok()?;
            let challenge = std::str::from_utf8(value).ok().filter(|it| is_challenge(it))?;
            Some(json_answer(&json!({"verification": challenge})))
        }
        Handshake::Touch => Some(Step::Answer(Response::new(200, TEXT, ""))),
        Handshake::Slack | Handshake::Zoom | Handshake::Discord | Handshake::Twitch => None,
    }
}

/// The step that a handshake wants whose signature `check` has found to be right; `None`: `request` is an
/// event. `secret` gives the value that the request was verified with.
pub fn signed(
    check: &Check,
    request: &Presented<'_>,
    secret: impl FnOnce() -> String,
) -> Option<Step> {
    match check.preset()?.handshake? {
        Handshake::Slack => {
            let body = json_body(request).filter(|it| it["type"] == "url_verification")?;
            let challenge = body["challenge"].as_str().filter(|it| is_challenge(it))?;
            Some(json_answer(&json!({"challenge": challenge})))
        }
        Handshake::Zoom => {
            let body = json_body(request).filter(|it| it["event"] == "endpoint.url_validation")?;
            let plain = body["payload"]["plainToken"].as_str().filter(|it| is_challenge(it))?;
            let encrypted = crypto::hmac_sha256_hex(&secret(), plain);
            Some(json_answer(&json!({"plainToken": plain, "encryptedToken": encrypted})))
        }
        Handshake::Discord => {
            let body = json_body(request)?;
            // Type 1 is a ping of interactions, and an event, which has `event`, of webhook events.
            match body["type"].as_u64()? {
                0 => Some(Step::Answer(empty(204))),
                1 if body.get("event").is_none() => Some(json_answer(&json!({"type": 1}))),
                _ => None,
            }
        }
        Handshake::Twitch => match request.header("Twitch-Eventsub-Message-Type").ok()? {
            b"webhook_callback_verification" => {
                let body = json_body(request)?;
                body["challenge"].as_str().filter(|it| is_challenge(it)).map(text)
            }
            b"revocation" => Some(Step::Answer(empty(204))),
            _ => None,
        },
        _ => None,
    }
}

fn meta(
    check: &Check,
    request: &Presented<'_>,
    secret: &dyn Fn(&SecretName) -> Result<String, String>,
) -> Option<Step> {
    if request.parameter("hub.mode").ok()? != b"subscribe" {
        return None;
    }
    let challenge = parameter(request, "hub.challenge")?;
    let Some(name) = check.verify_token() else {
        return Some(Step::Refuse(
            "the fleet has no `verify_token`; name the secret that holds it",
        ));
    };
    let Ok(expected) = secret(name) else {
        return Some(Step::Refuse("the secret of `verify_token` has no value"));
    };
    let shown = request.parameter("hub.verify_token").unwrap_or_default();
    match !expected.is_empty() && crypto::is_same_secret(expected.as_bytes(), &shown) {
        true => Some(text(challenge)),
        false => Some(Step::Refuse("hub.verify_token is not the secret of `verify_token`")),
    }
}

/// The header in which Asana brings the secret.
const HOOK_SECRET: &str = "X-Hook-Secret";

/// The answer to a handshake that has brought a secret.
pub fn repeated(secret: String) -> Response {
    Response::new(200, TEXT, "").with_header(HOOK_SECRET, secret)
}

const TEXT: &str = "text/plain; charset=utf-8";

/// The challenge as text. It comes from a stranger: no browser shall take it for anything else.
fn text(challenge: impl Into<Vec<u8>>) -> Step {
    let response = Response::new(200, TEXT, challenge);
    Step::Answer(response.with_header("X-Content-Type-Options", "nosniff"))
}

fn json_answer(value: &Value) -> Step {
    Step::Answer(Response::new(200, "application/json", value.to_string()))
}

fn empty(status: u16) -> Response {
    Response { status, headers: Vec::new(), body: Vec::new().into() }
}

fn is_challenge(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= CHALLENGE_BYTES_MAX
        && !text.chars().any(|character| character.is_control())
}

fn parameter(request: &Presented<'_>, name: &str) -> Option<String> {
    let value = String::from_utf8(request.parameter(name).ok()?).ok()?;
    is_challenge(&value).then_some(value)
}

/// The whole body; `None` when it is too long for a handshake.
fn body(request: &Presented<'_>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    request.body.open().take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= BODY_BYTES_MAX).then_some(bytes)
}

fn json_body(request: &Presented<'_>) -> Option<Value> {
    serde_json::from_slice(&body(request)?).ok()
}
