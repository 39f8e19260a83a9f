//! What the expressions of a fleet say of a request. The request becomes variables when the first of them
//! is evaluated, and its body is read and parsed when the first of them looks at it.

use crate::config::Settings;
use crate::listener::Request;
use crate::model::clock::{Clock, SystemClock};
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::delivery::FILTER_FAILED;
use crate::model::event::{Arrival, Event, Note};
use crate::model::expression::{EvaluationError, Expression, Payload, Variables};
use crate::model::fleet::FleetDefinition;
use crate::model::run::Trigger;

/// Bytes of one value that the ledger shows.
const VALUE_BYTES_MAX: usize = 80;

/// See the module.
pub(in crate::web) struct Expressions<'r> {
    request: &'r Request,
    /// Bytes of a body that expressions read.
    bytes_max: u64,
    variables: Option<Variables<'r>>,
}

impl<'r> Expressions<'r> {
    pub fn new(request: &'r Request, settings: &Settings) -> Self {
        Self { request, bytes_max: settings.max_expression_body_bytes, variables: None }
    }

    /// Gives the event the id that the fleet's own expression has for it. Without one, and if the
    /// expression fails, the event is not remembered.
    pub(super) fn set_id(&mut self, fleet: &FleetDefinition, arrival: &mut Arrival) {
        let Some(expression) = fleet.webhook.deduplicate.own_id() else { return };
        let before = arrival.event.clone();
        let found = arrival.event.set_own_id(expression, self.variables(&before));
        match found {
            Ok(Some(())) => return,
            Ok(None) => {}
            Err(failed) => arrival.add_note(failed),
        }
        arrival.deduplicate = None;
    }

    /// Whether the fleet wants the request, and with which key. If it does not: the expression and what
    /// that saw, for the operator. A filter that fails lets the request run, with a note.
    pub(super) fn judge(
        &mut self,
        fleet: &FleetDefinition,
        arrival: &mut Arrival,
    ) -> Option<String> {
        let when = fleet.webhook.when.as_ref();
        match when.map_or(Ok(None), |when| self.unwanted_by(when, &arrival.event)) {
            Ok(None) => {}
            Ok(unwanted) => return unwanted,
            Err(failed) => arrival.add_note(failed),
        }
        self.set_key(fleet, arrival);
        None
    }

    /// Why `when` does not want the request. A field that the request does not have counts as false.
    fn unwanted_by(&mut self, when: &Expression, event: &Event) -> Result<Option<String>, Note> {
        let variables = self.variables(event);
        let saw = || {
            let values = when.read_values(variables, VALUE_BYTES_MAX).into_iter();
            let values: Vec<_> = values.map(|(name, value)| format!("{name} = {value}")).collect();
            if values.is_empty() { String::new() } else { format!("; {}", values.join(", ")) }
        };
        match when.is_true(variables) {
            Ok(true) => Ok(None),
            Ok(false) => Ok(Some(format!("`{}` is false{}", when.text(), saw()))),
            Err(EvaluationError::Missing(what)) => {
                Ok(Some(format!("`{}`: the request has no {what}{}", when.text(), saw())))
            }
            Err(why) => Err(Note::new(FILTER_FAILED, &format!("`{}`: {why}", when.text()))),
        }
    }

    /// Gives `arrival` the value of the fleet's `concurrency_key`.
    fn set_key(&mut self, fleet: &FleetDefinition, arrival: &mut Arrival) {
        let Some(expression) = &fleet.concurrency_key else { return };
        match ConcurrencyKey::of(expression, self.variables(&arrival.event)) {
            Ok(key) => arrival.key = key,
            Err(failed) => arrival.add_note(failed),
        }
    }

    /// The variables of the request, whose event is `event`.
    fn variables(&mut self, event: &Event) -> &Variables<'r> {
        let (request, bytes_max) = (self.request, self.bytes_max);
        let variables = self.variables.get_or_insert_with(|| variables(request, bytes_max));
        variables.set_event(event);
        variables
    }
}

fn variables(request: &Request, bytes_max: u64) -> Variables<'_> {
    let (head, event) = (request.stored_head(&[]), Event::default());
    let (payload, now) = (payload(request, bytes_max), SystemClock.now());
    Variables::of_request(&head, payload, &event, Trigger::Webhook, now)
}

fn payload(request: &Request, bytes_max: u64) -> Payload<'_> {
    let content_type = request.header("Content-Type");
    let content_type = content_type.and_then(|value| std::str::from_utf8(value).ok());
    let length = request.body.length();
    Payload::read_by(content_type, length, bytes_max, move || request.body_bytes())
}
