//! Tries an expression out: over the latest deliveries of a fleet, and over a request that is given.
//! Bounded: each evaluation by the expression's own meter, all of them by their number and time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::fleets::fleet_id;
use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::{DeliveryFilter, DeliveryView};
use crate::model::clock::Timestamp;
use crate::model::delivery::Verdict;
use crate::model::event::Event;
use crate::model::expression::{EvaluationError, Expression, Payload, Variables};
use crate::model::ids::RequestId;
use crate::model::refusal::{Reason, Refusal};
use crate::model::request::RequestHead;
use crate::model::run::Trigger;
use crate::model::text::prefix;

/// Deliveries that an expression is tried over.
const DELIVERIES_MAX: usize = 100;
/// How long it may be tried: a person waits for it.
const TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes of a value that are shown.
const VALUE_BYTES_MAX: usize = 1000;
/// Bytes of each place of the request that are shown beside it.
const SEEN_BYTES_MAX: usize = 80;
/// Expressions that are tried at a time.
pub(super) const TRIALS_MAX: usize = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    expr: String,
    /// How many of the latest deliveries.
    #[serde(default = "deliveries_default")]
    deliveries: usize,
    request: Option<Given>,
}

/// A request that is given.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    body: String,
    query: String,
    headers: BTreeMap<String, String>,
}

fn deliveries_default() -> usize {
    DELIVERIES_MAX
}

#[derive(Default, Serialize)]
struct Answer {
    /// Why the text is no expression.
    error: Option<NotAnExpression>,
    /// Over the request that is given.
    request: Option<Tried>,
    /// Over the latest deliveries, the latest first.
    deliveries: Vec<TriedDelivery>,
    /// Whether the time was over before all of them.
    ended_early: bool,
}

#[derive(Serialize)]
struct NotAnExpression {
    message: String,
    column: Option<usize>,
}

#[derive(Serialize)]
struct TriedDelivery {
    id: RequestId,
    received_at: Timestamp,
    event_type: Option<String>,
    verdict: Verdict,
    #[serde(flatten)]
    tried: Tried,
}

/// What an expression gives for a request.
#[derive(Default, Serialize)]
struct Tried {
    /// As a value: text as it is, anything else as JSON.
    value: Option<String>,
    /// As a filter; `None`: it is neither true nor false, and the request would run.
    is_true: Option<bool>,
    /// The field or header that the request does not have.
    missing: Option<String>,
    /// Why it has no value.
    error: Option<String>,
    /// What it reads of the request.
    seen: BTreeMap<String, String>,
}

pub(super) fn evaluate(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let fleet = fleet_id(call)?;
    let asked: Asked = call.json()?.ok_or_else(|| {
        Refusal::bad_request(r#"send the expression: {"expr": "body.ref == 'main'"}"#)
    })?;
    let _place = admin.trials.take().ok_or_else(|| {
        Refusal::new(Reason::Busy, "other expressions are being tried; try again in a moment")
    })?;
    let expression = match Expression::parse(&asked.expr) {
        Ok(expression) => expression,
        Err(error) => {
            let (message, column) = (error.message, error.column);
            let error = Some(NotAnExpression { message, column });
            return Reply::ok(&Answer { error, ..Answer::default() });
        }
    };
    let until = Instant::now() + TIME_MAX;
    let mut answer = Answer {
        request: asked.request.map(|given| of_given(admin, &expression, &given)),
        ..Answer::default()
    };
    let page = admin.engine.deliveries(&DeliveryFilter {
        fleet: Some(fleet),
        limit: asked.deliveries.min(DELIVERIES_MAX),
        reach: call.reach.clone(),
        ..DeliveryFilter::default()
    });
    let views = if asked.deliveries == 0 { &[][..] } else { &page.deliveries };
    for view in views {
        if Instant::now() >= until {
            answer.ended_early = true;
            break;
        }
        answer.deliveries.push(TriedDelivery {
            id: view.delivery.id,
            received_at: view.delivery.received_at,
            event_type: view.delivery.event.kind().map(str::to_owned),
            verdict: view.delivery.verdict,
            tried: of_delivery(admin, &expression, view),
        });
    }
    Reply::ok(&answer)
}

fn of_given(admin: &AdminHandler, expression: &Expression, given: &Given) -> Tried {
    let mut head = RequestHead {
        query: given.query.clone(),
        remote_addr: "127.0.0.1".to_owned(),
        ..RequestHead::default()
    };
    given.headers.iter().for_each(|(name, value)| head.push_header(name, value.clone()));
    let (length, most) = (given.body.len() as u64, admin.settings.max_expression_body_bytes);
    let read = || Ok::<_, Infallible>(given.body.clone().into_bytes());
    let payload = Payload::read_by(head.header("Content-Type"), length, most, read);
    let (event, now) = (Event::default(), admin.engine.now());
    let variables = Variables::of_request(&head, payload, &event, Trigger::Webhook, now);
    tried(expression, &variables)
}

fn of_delivery(admin: &AdminHandler, expression: &Expression, view: &DeliveryView) -> Tried {
    let failed = |error: String| Tried { error: Some(error), ..Tried::default() };
    let request = match admin.engine.delivered_request(view) {
        Ok(request) => request,
        Err(error) => return failed(error.to_string()),
    };
    let most = admin.settings.max_expression_body_bytes;
    let payload = match request.body {
        _ if !expression.reads_payload() => Payload::null(),
        None => return failed("the body of this delivery is not kept".to_owned()),
        // An expression that looks at it fails, as at the webhook.
        Some((_, length)) if length > most => {
            Payload::read_by(None, length, most, || Ok::<_, Infallible>(Vec::new()))
        }
        Some((body, length)) => {
            let mut bytes = Vec::new();
            if let Err(error) = body.take(length).read_to_end(&mut bytes) {
                return failed(format!("the stored body cannot be read: {error}"));
            }
            Payload::parse(&bytes, request.head.header("Content-Type"))
        }
    };
    let (event, received_at) = (&view.delivery.event, view.delivery.received_at);
    let variables =
        Variables::of_request(&request.head, payload, event, Trigger::Webhook, received_at);
    tried(expression, &variables)
}

fn tried(expression: &Expression, variables: &Variables<'_>) -> Tried {
    let value = expression.text_value(variables);
    // After the evaluation: a payload that it has not looked at is not read for this.
    let seen = expression.read_values(variables, SEEN_BYTES_MAX).into_iter().collect();
    match value {
        Ok(value) => {
            let shown = prefix(&value, VALUE_BYTES_MAX);
            let rest = if shown.len() < value.len() { "…" } else { "" };
            let is_true = expression.is_true(variables).ok();
            Tried { value: Some(format!("{shown}{rest}")), is_true, seen, ..Tried::default() }
        }
        // A filter takes what is missing for false.
        Err(EvaluationError::Missing(what)) => {
            Tried { is_true: Some(false), missing: Some(what), seen, ..Tried::default() }
        }
        Err(error) => Tried { error: Some(error.to_string()), seen, ..Tried::default() },
    }
}
