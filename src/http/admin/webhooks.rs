//! The webhook of a fleet, as its owner sees it.

use std::time::Duration;

use serde::Deserialize;

use super::fleets::fleet_id;
use super::{AdminHandler, Call, Outcome, Reply};
use crate::domain::webhook::Webhook;
use crate::http::respond::Problem;
use crate::http::view::WebhookJson;
use crate::limits;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReplaceBody {
    /// How long the old URL is still answered.
    grace_seconds: u64,
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_, '_>) -> Outcome {
    match admin.engine.webhook(fleet_id(call)?)? {
        Some(webhook) => Reply::ok(&shown(admin, &webhook)),
        None => Err(Problem::not_found("this fleet has no webhook; add one first")),
    }
}

pub(super) fn add(admin: &AdminHandler, call: &mut Call<'_, '_>) -> Outcome {
    let webhook = admin.engine.add_webhook(fleet_id(call)?)?;
    Reply::created(&shown(admin, &webhook))
}

pub(super) fn replace(admin: &AdminHandler, call: &mut Call<'_, '_>) -> Outcome {
    let fleet = fleet_id(call)?;
    let body: ReplaceBody = call.json()?.unwrap_or_default();
    let grace = Duration::from_secs(body.grace_seconds);
    if grace > limits::REPLACE_GRACE_MAX {
        let most = limits::REPLACE_GRACE_MAX.as_secs();
        return Err(Problem::invalid(format!("grace_seconds: at most {most}")));
    }
    let webhook = admin.engine.replace_webhook(fleet, grace)?;
    Reply::created(&shown(admin, &webhook))
}

pub(super) fn remove(admin: &AdminHandler, call: &mut Call<'_, '_>) -> Outcome {
    admin.engine.remove_webhook(fleet_id(call)?)?;
    Reply::gone()
}

fn shown(admin: &AdminHandler, webhook: &Webhook) -> WebhookJson {
    WebhookJson::new(webhook, &admin.settings.public_base)
}
