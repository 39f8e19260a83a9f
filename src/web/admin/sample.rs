//! Sends a sample event to a fleet's own webhook, by its URL, signed as the fleet expects it.

use std::io::Read;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use ureq::Body;
use ureq::http::{HeaderName, HeaderValue, Response};
use uuid::Uuid;

use super::fleets::fleet_id;
use super::{AdminHandler, Call, Outcome, Reply};
use crate::config::secrets::{Secret, SecretStore};
use crate::engine::WebhookView;
use crate::model::clock::{Clock, SystemClock};
use crate::model::refusal::{Reason, Refusal};
use crate::model::sender::table::preset;
use crate::model::sender::{Check, Preset, Verification};
use crate::os::outbound;
use crate::web::senders::sample::{Wanted, draft, usual_event};
use crate::web::senders::sign::{Draft, sign};

/// Samples that are sent at a time. Each holds a handler of this listener while its webhook is asked.
pub(super) const SAMPLES_MAX: usize = 2;
/// Bytes of a body of the owner's own.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Bytes of the answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// The most patient providers wait as long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the answer of a vessel is waited for, within the timeout.
const PREFER_WAIT: &str = "wait=8";

/// Headers that follow from how the sample is sent.
const OWN_TO_THE_CLIENT: [&str; 5] =
    ["Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect"];

/// A sample that was sent, and what came of it.
#[derive(Serialize)]
struct Sent<'a> {
    preset: Option<&'static str>,
    event_id: &'a str,
    event_type: &'a str,
    is_signed: bool,
    /// Of the answer.
    status: u16,
    fleet_run_id: Option<String>,
}

pub(super) fn send(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let fleet = fleet_id(call)?;
    call.query.allow_only(&["preset", "event", "header"])?;
    let event = call.query.get("event").map(str::to_owned);
    let named = call.query.get("preset").map(known).transpose()?;
    let body = own_body(call)?;
    let content_type = call.request.header("Content-Type").filter(|_| body.is_some());
    let mut headers: Vec<(&str, Vec<u8>)> =
        content_type.map(|value| ("Content-Type", value.to_vec())).into_iter().collect();
    headers.extend(call.query.get("header").map(own_header).transpose()?);
    let view = admin.engine.webhook(fleet)?;
    let WebhookView { webhook, current } =
        view.ok_or_else(|| Refusal::not_found("this fleet has no webhook; add one first"))?;
    let verify = current.definition.webhook.verify.as_ref();
    let check = verify.map(|verify| chosen(verify, named)).transpose()?;
    let preset = named.or_else(|| check.and_then(Check::preset));
    let (id, now) = (Uuid::new_v4().to_string(), SystemClock.now());
    let base = admin.settings.public_base();
    let url = webhook.token.url(&base);
    let event = event.as_deref().unwrap_or_else(|| usual_event(preset));
    let mut draft = draft(&url, Wanted { preset, event, body, id: &id, now }, check);
    headers.into_iter().for_each(|(name, value)| draft.set_header(name, value));
    if let Some(check) = check {
        let secret = secret(admin.secrets.store(), check)?;
        sign(check, &secret, now, &mut draft)
            .map_err(|why| Refusal::invalid(format!("this sample cannot be signed: {why}")))?;
    }
    let _place = admin.samples.take().ok_or_else(|| {
        Refusal::new(Reason::Busy, "other samples are being sent; try again in a moment")
    })?;
    let answer = post(&draft).map_err(|why| {
        let message = format!("{base} cannot be reached from this machine: {why}");
        Refusal::new(Reason::Unavailable, message)
    })?;
    let status = answer.status().as_u16();
    Reply::ok(&Sent {
        preset: preset.map(|preset| preset.name),
        event_id: &id,
        event_type: event,
        is_signed: check.is_some_and(|check| !check.secrets.is_empty()),
        status,
        fleet_run_id: run_in(answer),
    })
}

fn known(name: &str) -> Result<&'static Preset, Refusal> {
    preset(name).ok_or_else(|| {
        Refusal::invalid(format!("preset: there is no `{name}`; see `boathook help senders`"))
    })
}

/// A header of the owner's own: `Name: value`.
fn own_header(text: &str) -> Result<(&str, Vec<u8>), Refusal> {
    let invalid = |why: &str| Refusal::bad_request(format!("query parameter \"header\": {why}"));
    let (name, value) = text.split_once(':').ok_or_else(|| invalid("write it as Name: value"))?;
    let (name, value) = (name.trim(), value.trim());
    if HeaderName::from_str(name).is_err() || HeaderValue::from_str(value).is_err() {
        return Err(invalid("not a header"));
    }
    if OWN_TO_THE_CLIENT.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(invalid(&format!("{name} is made by the server when it sends")));
    }
    Ok((name, value.as_bytes().to_vec()))
}

/// The body of the request; `None` when it has none.
fn own_body(call: &Call<'_>) -> Result<Option<Vec<u8>>, Refusal> {
    if call.request.body.length() > BODY_BYTES_MAX {
        return Err(crate::web::respond::too_large(BODY_BYTES_MAX));
    }
    let mut bytes = Vec::new();
    let read = call.request.body.reader().read_to_end(&mut bytes);
    read.map_err(|error| Refusal::failed(format!("the body cannot be read back: {error}")))?;
    Ok((!bytes.is_empty()).then_some(bytes))
}

/// The check of the preset `named`, or the first.
fn chosen<'a>(
    verify: &'a Verification,
    named: Option<&'static Preset>,
) -> Result<&'a Check, Refusal> {
    let mut checks = verify.checks().iter();
    let fits = |check: &&Check| named.is_none() || check.preset() == named;
    checks.find(fits).ok_or_else(|| {
        let name = named.map_or("", |preset| preset.name);
        Refusal::invalid(format!("preset: the fleet does not verify `{name}`"))
    })
}

/// The value of the first secret of `check`; empty when it takes none.
fn secret(store: &SecretStore, check: &Check) -> Result<String, Refusal> {
    let Some(name) = check.secrets.first() else { return Ok(String::new()) };
    store.current(name).map(Secret::into_text).map_err(|error| {
        let message = format!("the secret `{}` has no value: {error}", name.as_str());
        Refusal::new(Reason::SecretMissing, message)
    })
}

fn post(draft: &Draft) -> Result<Response<Body>, String> {
    let agent = outbound::agent(TIMEOUT);
    let mut request = agent.post(draft.full_url()).header("Prefer", PREFER_WAIT);
    for (name, value) in &draft.headers {
        request = request.header(name, value.as_slice());
    }
    request.send(&draft.body).map_err(|error| outbound::told(&error, TIMEOUT))
}

/// The run in an answer of a webhook.
fn run_in(mut answer: Response<Body>) -> Option<String> {
    if let Some(run) = answer.headers().get("Boathook-Run") {
        return run.to_str().ok().map(str::to_owned);
    }
    let mut bytes = Vec::new();
    answer.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let answer: Value = serde_json::from_slice(&bytes).ok()?;
    Some(answer["data"]["fleet_run_id"].as_str()?.to_owned())
}
