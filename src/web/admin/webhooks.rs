//! The webhook of a fleet, as its owner sees it.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::Number;

use super::fleets::fleet_id;
use super::{AdminHandler, Call, Outcome, Reply};
use crate::model::network::Networks;
use crate::model::refusal::Refusal;
use crate::model::webhook::{Webhook, WebhookSettings};
use crate::web::view::WebhookJson;

/// Longest grace of a replaced webhook URL: whoever needs more does not want it replaced.
const REPLACE_GRACE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Networks in the `allow` list of a webhook: with the longest texts they still leave room in its
/// row.
const ALLOW_NETWORKS_MAX: usize = 64;

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

/// Whose requests the webhook takes, and how many. What is left out is not limited.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SettingsBody {
    allow: Option<Vec<String>>,
    rate_limit: Option<String>,
}

impl SettingsBody {
    fn checked(self) -> Result<WebhookSettings, Refusal> {
        let allow = self.allow.unwrap_or_default();
        let allow = Networks::parse(allow.iter().map(String::as_str))
            .map_err(|error| Refusal::invalid(format!("allow: {error}")))?;
        if allow.len() > ALLOW_NETWORKS_MAX {
            let most = ALLOW_NETWORKS_MAX;
            return Err(Refusal::invalid(format!("allow: at most {most} networks")));
        }
        let rate_limit = self.rate_limit.map(|rate| rate.parse()).transpose();
        let rate_limit =
            rate_limit.map_err(|error| Refusal::invalid(format!("rate_limit: {error}")))?;
        Ok(WebhookSettings { allow, rate_limit })
    }
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    match admin.engine.webhook(fleet_id(call)?)? {
        Some(webhook) => Reply::ok(&shown(admin, &webhook)),
        None => Err(Refusal::not_found("this fleet has no webhook; add one first")),
    }
}

pub(super) fn add(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let fleet = fleet_id(call)?;
    let body: SettingsBody = call.json()?.unwrap_or_default();
    let webhook = admin.engine.add_webhook(fleet, body.checked()?)?;
    Reply::created(&shown(admin, &webhook))
}

pub(super) fn set(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let fleet = fleet_id(call)?;
    let body: Option<SettingsBody> = call.json()?;
    let body = body.ok_or_else(|| {
        Refusal::bad_request(
            r#"send the webhook's settings: {"allow": [...], "rate_limit": "60/m"}"#,
        )
    })?;
    let webhook = admin.engine.set_webhook_settings(fleet, body.checked()?)?;
    Reply::ok(&shown(admin, &webhook))
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
    Reply::created(&shown(admin, &webhook))
}

pub(super) fn remove(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    admin.engine.remove_webhook(fleet_id(call)?)?;
    Reply::gone()
}

fn shown(admin: &AdminHandler, webhook: &Webhook) -> WebhookJson {
    WebhookJson::new(webhook, &admin.settings.public_base())
}
