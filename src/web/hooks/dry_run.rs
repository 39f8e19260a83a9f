//! What would become of a request to a webhook: by the verifier, the memory of events, the filter and the
//! composition of starts that a real request meets. Starts nothing and stores nothing.

use std::io::{self, Read};
use std::sync::Arc;

use super::expressions::Expressions;
use super::sender::{Judged, Senders, stored_head};
use crate::config::Settings;
use crate::engine::{AcceptError, Engine, PreviewedRequest, VesselPreview};
use crate::listener::Request;
use crate::model::clock::Timestamp;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::delivery::FILTER_FAILED;
use crate::model::event::{Arrival, Event};
use crate::model::fleet::FleetVersion;
use crate::model::ids::RunId;
use crate::model::refusal::{Reason, Refusal};
use crate::model::respond::Respond;
use crate::model::run::Trigger;
use crate::model::webhook::Mode;

/// What a dry run needs of the server.
pub(in crate::web) struct DryRun<'a> {
    pub engine: &'a Engine,
    pub settings: &'a Settings,
    pub senders: &'a Senders,
}

/// What would become of a request.
pub(in crate::web) struct Forecast {
    pub outcome: Outcome,
    /// The status of the answer; `None`: a vessel's.
    pub status: Option<u16>,
    pub gate: GateForecast,
    pub sender: SenderForecast,
    pub event: Event,
    /// The run that it is a duplicate of.
    pub duplicate_of: Option<RunId>,
    /// The first run of its event, if that has ended without success.
    pub first_run: Option<RunId>,
    /// `None`: the fleet has no filter, or the request is none to filter.
    pub filter: Option<FilterForecast>,
    /// The value of the fleet's `concurrency_key`.
    pub key: Option<ConcurrencyKey>,
    /// How each vessel would be started, if the request ran.
    pub vessels: Vec<VesselPreview>,
}

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Outcome {
    Accepted,
    Duplicate,
    Filtered,
    Refused,
    Handshake,
}

impl Outcome {
    /// The word of the API: that of a delivery's verdict.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Filtered => "filtered",
            Self::Refused => "refused",
            Self::Handshake => "handshake",
        }
    }
}

/// What a webhook decides by the head alone. The rate limit is told and not asked: whether there is room
/// within it changes from moment to moment.
pub(in crate::web) struct GateForecast {
    pub is_paused: bool,
    /// Whether the `allow` list has the address of the request; `None`: there is no list, or the address is
    /// not that of a sender.
    pub is_allowed: Option<bool>,
}

impl GateForecast {
    /// The refusal of a request that comes no further.
    pub fn refusal(&self) -> Option<Reason> {
        match self {
            Self { is_paused: true, .. } => Some(Reason::Paused),
            Self { is_allowed: Some(false), .. } => Some(Reason::NotAllowed),
            _ => None,
        }
    }
}

/// Whether the sender is verified.
#[derive(Default)]
pub(in crate::web) struct SenderForecast {
    /// `None`: the fleet verifies no sender, or what it takes for that is not stored.
    pub is_verified: Option<bool>,
    /// The word of the refusal that it met, or with `mode: observe` would have met.
    pub reason: Option<String>,
    pub detail: Option<String>,
}

/// Whether the fleet wants the request.
pub(in crate::web) struct FilterForecast {
    /// `None`: the expression fails, so that the request runs.
    pub is_wanted: Option<bool>,
    pub detail: Option<String>,
}

impl DryRun<'_> {
    /// What would become of `request` to the webhook of `version`, received at `now`. `is_stored`: without
    /// the credentials that a sender shows, which are not stored.
    ///
    /// # Errors
    /// When the body cannot be read back.
    pub fn forecast(
        &self,
        version: &Arc<FleetVersion>,
        request: Request,
        now: Timestamp,
        is_stored: bool,
    ) -> Result<Forecast, Refusal> {
        let settings = &version.definition.webhook;
        let verify = settings.verify.as_ref();
        let lacks_credentials =
            is_stored && verify.is_some_and(|it| it.credentials().next().is_some());
        let (mut outcome, mut status) = (Outcome::Accepted, accepted_status(version));
        let mut sender = SenderForecast::default();
        let judged = self.senders.judge_at(settings, &request, now);
        let mut arrival = match judged {
            _ if lacks_credentials => {
                let text = "the credentials that its sender shows are not stored";
                sender.detail = Some(text.to_owned());
                Arrival::default()
            }
            Ok(Judged::Handshake(response, _)) => {
                (outcome, status) = (Outcome::Handshake, Some(response.status));
                Arrival::default()
            }
            Ok(Judged::BringsSecret(name, _)) => {
                (outcome, status) = (Outcome::Handshake, Some(200));
                let text = format!("brings the secret `{}`, if it is expected", name.as_str());
                sender.detail = Some(text);
                Arrival::default()
            }
            Ok(Judged::Event(arrival)) => {
                let is_marked = settings.mode == Mode::Observe && arrival.note.is_some();
                sender.is_verified = verify.map(|_| !is_marked);
                let note = arrival.note.as_ref().filter(|_| is_marked);
                sender.reason = note.map(|note| note.reason().to_owned());
                sender.detail = note.map(|note| note.detail().to_owned());
                arrival
            }
            Ok(Judged::Unverified(refusal, arrival)) => {
                (outcome, status) = (Outcome::Refused, Some(refusal.status()));
                sender = SenderForecast::of(&refusal);
                arrival
            }
            Err(refusal) => {
                (outcome, status) = (Outcome::Refused, Some(refusal.status()));
                sender = SenderForecast::of(&refusal);
                Arrival::default()
            }
        };
        let mut expressions = Expressions::new(&request, self.settings);
        expressions.set_id(&version.definition, &mut arrival);
        let (duplicate_of, first_run) = self.engine.runs_of_event(version, arrival.clone());
        let filter = filter(version, &mut expressions, &mut arrival);
        drop(expressions);
        let (event, key) = (arrival.event.clone(), arrival.key.clone());
        if outcome == Outcome::Accepted {
            if duplicate_of.is_some() {
                (outcome, status) = (Outcome::Duplicate, Some(200));
            } else if filter.as_ref().is_some_and(|it| it.is_wanted == Some(false)) {
                (outcome, status) = (Outcome::Filtered, Some(200));
            }
        }
        let gate = self.gate(version, &request, is_stored);
        if let Some(reason) = gate.refusal() {
            (outcome, status) = (Outcome::Refused, Some(reason.status()));
        }
        let vessels = self.vessels(version, &request, arrival).map_err(AcceptError::Read)?;
        Ok(Forecast {
            outcome,
            status,
            gate,
            sender,
            event,
            duplicate_of,
            first_run,
            filter,
            key,
            vessels,
        })
    }

    fn gate(&self, version: &FleetVersion, request: &Request, is_stored: bool) -> GateForecast {
        let webhook = self.engine.webhook(version.fleet_id).ok().flatten();
        let allow = &version.definition.webhook.allow;
        let is_known = is_stored && !allow.is_empty();
        GateForecast {
            is_paused: webhook.is_some_and(|view| view.webhook.paused_at.is_some()),
            is_allowed: is_known.then(|| allow.contains(request.remote_addr.ip())),
        }
    }

    fn vessels(
        &self,
        version: &Arc<FleetVersion>,
        request: &Request,
        arrival: Arrival,
    ) -> io::Result<Vec<VesselPreview>> {
        let head = stored_head(request, version.definition.webhook.verify.as_ref());
        let mut body_start = Vec::new();
        let most = self.engine.previewed_body_bytes();
        request.body.reader().take(most).read_to_end(&mut body_start)?;
        let body_bytes = request.body.length();
        let trigger = Trigger::Webhook;
        let request = PreviewedRequest { trigger, head, arrival, body_start, body_bytes };
        Ok(self.engine.preview(version, request))
    }
}

impl SenderForecast {
    fn of(refusal: &Refusal) -> Self {
        Self {
            is_verified: Some(false),
            reason: Some(refusal.reason.word().to_owned()),
            detail: Some(refusal.message.clone().into_owned()),
        }
    }
}

/// Whether the fleet wants a request with this arrival, which gets the key of the request.
fn filter(
    version: &FleetVersion,
    expressions: &mut Expressions<'_>,
    arrival: &mut Arrival,
) -> Option<FilterForecast> {
    // A note of the sender's must not hide one of the filter's.
    let note = arrival.note.take();
    let unwanted = expressions.judge(&version.definition, arrival);
    let own = std::mem::replace(&mut arrival.note, note);
    let failed = own.filter(|note| note.reason() == FILTER_FAILED);
    version.definition.webhook.when.as_ref()?;
    Some(match (unwanted, failed) {
        (Some(detail), _) => FilterForecast { is_wanted: Some(false), detail: Some(detail) },
        (None, Some(failed)) => {
            FilterForecast { is_wanted: None, detail: Some(failed.detail().to_owned()) }
        }
        (None, None) => FilterForecast { is_wanted: Some(true), detail: None },
    })
}

/// The status of the answer to an accepted request; `None`: a vessel's.
fn accepted_status(version: &FleetVersion) -> Option<u16> {
    match &version.definition.webhook.respond {
        None => Some(201),
        Some(Respond::Fixed(answer)) => Some(answer.status),
        Some(Respond::Wait(_)) => None,
    }
}
