//! The webhook of a fleet, as its owner sees it.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Number, Value};

use super::fleets::{expected_version, file_refusal, fleet_id};
use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::WebhookView;
use crate::fleet_file::WebhookChange;
use crate::model::network::Networks;
use crate::model::refusal::Refusal;
use crate::model::sender::Verification;
use crate::model::webhook::{Token, WebhookSettings};
use crate::web::view::WebhookJson;

/// Longest grace of a replaced webhook URL: a longer one would be no replacement.
const REPLACE_GRACE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReplaceBody {
    /// How long the old URL is still answered.
    #[serde(deserialize_with = "whole_number")]
    grace_seconds: u64,
}

/// A whole number, also with a fraction of zero: JSON does not tell `60.0` from `60` (RFC 8259 6).
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = Number::deserialize(deserializer)?;
    let of_fraction = || number.as_f64().filter(|it| it.fract() == 0.0 && *it >= 0.0);
    // What is too large for the type is too large for every use of it.
    let whole = number.as_u64().or_else(|| of_fraction().map(|it| it as u64));
    whole.ok_or_else(|| de::Error::custom(format!("expected a whole number from 0, not {number}")))
}

/// The webhook settings in the body; `None` when there is no body.
fn change(call: &mut Call<'_>) -> Result<Option<WebhookChange>, Refusal> {
    let Some(text) = call.json_text()? else { return Ok(None) };
    parsed_change(&text).map(Some)
}

fn parsed_change(text: &str) -> Result<WebhookChange, Refusal> {
    let change = WebhookChange::parse(text).map_err(file_refusal)?;
    // What is wrong with the body is so for every fleet.
    change.apply(&mut WebhookSettings::default()).map_err(file_refusal)?;
    Ok(change)
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    match admin.engine.webhook(fleet_id(call)?)? {
        Some(webhook) => shown(200, admin, call, &webhook),
        None => Err(Refusal::not_found("this fleet has no webhook; add one first")),
    }
}

/// The token in the body of an `add`, and the body without it.
fn without_token(text: &str) -> Result<(Option<Token>, Cow<'_, str>), Refusal> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(text) else {
        return Ok((None, text.into()));
    };
    let Some(token) = fields.remove("token") else { return Ok((None, text.into())) };
    let token = token.as_str().and_then(Token::parse).ok_or_else(|| {
        Refusal::invalid("token: expected the 43 letters at the end of a webhook's URL")
    })?;
    Ok((Some(token), Value::Object(fields).to_string().into()))
}

/// Adds a webhook, with the token that the body may name. What the body does not name of its settings
/// stays as the fleet has it.
pub(super) fn add(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let fleet = fleet_id(call)?;
    let text = call.json_text()?;
    let (token, text) = match text.as_deref() {
        Some(text) => without_token(text).map(|(token, text)| (token, Some(text)))?,
        None => (None, None),
    };
    let change = text.map(|text| parsed_change(&text)).transpose()?;
    if token.as_ref().is_some_and(|token| admin.is_own_token(token)) {
        return Err(Refusal::invalid("token: this is a token of the API, which no URL may hold"));
    }
    let view = admin.engine.add_webhook(fleet, token, |settings| match &change {
        Some(change) => change.apply(settings),
        None => Ok(()),
    })?;
    shown(201, admin, call, &view)
}

/// Changes the settings. An allow list or a rate limit that the body does not name is removed; all else
/// stays.
pub(super) fn set(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let (fleet, expected) = (fleet_id(call)?, expected_version(call));
    let change = change(call)?.ok_or_else(|| {
        Refusal::bad_request(
            r#"send the webhook's settings: {"allow": [...], "rate_limit": "60/m"}"#,
        )
    })?;
    let view = admin.engine.edit_webhook_settings(fleet, &expected, |settings| {
        (settings.allow, settings.rate_limit) = (Networks::default(), None);
        change.apply(settings)
    })?;
    shown(200, admin, call, &view)
}

pub(super) fn pause(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    shown(200, admin, call, &admin.engine.pause_webhook(fleet_id(call)?, true)?)
}

pub(super) fn resume(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    shown(200, admin, call, &admin.engine.pause_webhook(fleet_id(call)?, false)?)
}

/// Lets the next handshake bring the secret of the sender.
pub(super) fn expect_handshake(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let fleet = fleet_id(call)?;
    let view = admin.engine.webhook(fleet)?;
    let verify = view.as_ref().and_then(|view| view.current.definition.webhook.verify.as_ref());
    // Before a provider is asked to send it to a server that cannot keep it.
    for name in verify.into_iter().flat_map(Verification::brought_secrets) {
        admin.secrets.check(name)?;
    }
    shown(200, admin, call, &admin.engine.expect_handshake(fleet, true)?)
}

pub(super) fn expect_no_handshake(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = admin.engine.expect_handshake(fleet_id(call)?, false)?;
    shown(200, admin, call, &view)
}

pub(super) fn replace(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let fleet = fleet_id(call)?;
    let body: ReplaceBody = call.json()?.unwrap_or_default();
    let grace = Duration::from_secs(body.grace_seconds);
    if grace > REPLACE_GRACE_MAX {
        let most = REPLACE_GRACE_MAX.as_secs();
        return Err(Refusal::invalid(format!("grace_seconds: at most {most}")));
    }
    let webhook = admin.engine.replace_webhook(fleet, grace)?;
    shown(201, admin, call, &webhook)
}

pub(super) fn remove(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    admin.engine.remove_webhook(fleet_id(call)?)?;
    Reply::gone()
}

/// A webhook, with the entity tag of the fleet that has its settings.
fn shown(status: u16, admin: &AdminHandler, call: &Call<'_>, view: &WebhookView) -> Outcome {
    let webhook = WebhookJson::new(view, &admin.settings.public_base(), &call.principal()?);
    Ok(Reply::with_status(status, &webhook)?.with_version(view.current.version))
}
