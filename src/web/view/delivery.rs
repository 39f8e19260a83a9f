//! The JSON of deliveries, and of what a run keeps of its delivery.

use serde::Serialize;

use crate::engine::DeliveryView;
use crate::model::clock::Timestamp;
use crate::model::delivery::Verdict;
use crate::model::event::{Event, Note, Verifier};
use crate::model::ids::{FleetId, RequestId, RunId};
use crate::model::request::{Headers, RequestHead};

/// What a sender calls a request.
#[derive(Serialize)]
pub struct EventJson {
    preset: Option<String>,
    id: Option<String>,
    r#type: Option<String>,
}

impl EventJson {
    /// `event`; `None` when nothing is known of it.
    pub fn of(event: &Event) -> Option<Self> {
        let text = |value: Option<&str>| value.map(str::to_owned);
        (!event.is_empty()).then(|| Self {
            preset: text(event.preset()),
            id: text(event.id()),
            r#type: text(event.kind()),
        })
    }
}

/// A remark on a delivery.
#[derive(Serialize)]
pub struct NoteJson {
    reason: Option<String>,
    detail: Option<String>,
}

impl From<&Note> for NoteJson {
    fn from(note: &Note) -> Self {
        let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        Self { reason: text(note.reason()), detail: text(note.detail()) }
    }
}

#[derive(Serialize)]
pub struct DeliveryJson<'a> {
    id: RequestId,
    received_at: Timestamp,
    fleet_id: FleetId,
    fleet_name: &'a str,
    /// `true`; absent while its fleet is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet_deleted: Option<bool>,
    remote_addr: &'a str,
    preset: Option<&'a str>,
    event_id: Option<&'a str>,
    event_type: Option<&'a str>,
    verdict: Verdict,
    reason: Option<String>,
    detail: Option<String>,
    status: Option<u16>,
    run_id: Option<RunId>,
    first_run: Option<RunId>,
    bytes: u64,
    has_body: bool,
    verified_by: Option<Verifier>,
    /// Only where one delivery is shown.
    #[serde(flatten)]
    head: Option<HeadJson>,
}

/// The head of the request.
#[derive(Serialize)]
struct HeadJson {
    headers: Headers,
    query: String,
}

impl DeliveryJson<'_> {
    /// The same, with the head of the request as far as it is kept.
    pub fn with_head(self, head: RequestHead) -> Self {
        let RequestHead { headers, query, .. } = head;
        Self { head: Some(HeadJson { headers, query }), ..self }
    }
}

impl<'a> From<&'a DeliveryView> for DeliveryJson<'a> {
    fn from(view: &'a DeliveryView) -> Self {
        let DeliveryView { delivery, first_run, has_body, is_fleet_deleted } = view;
        let note = delivery.note.as_ref().map(NoteJson::from);
        let (reason, detail) = note.map_or((None, None), |note| (note.reason, note.detail));
        Self {
            id: delivery.id,
            received_at: delivery.received_at,
            fleet_id: delivery.fleet_id,
            fleet_name: &delivery.fleet_name,
            fleet_deleted: is_fleet_deleted.then_some(true),
            remote_addr: &delivery.remote_addr,
            preset: delivery.event.preset(),
            event_id: delivery.event.id(),
            event_type: delivery.event.kind(),
            verdict: delivery.verdict,
            reason,
            detail,
            status: Some(delivery.status).filter(|status| *status != 0),
            run_id: delivery.run,
            first_run: *first_run,
            bytes: delivery.bytes,
            has_body: *has_body,
            verified_by: delivery.verified_by,
            head: None,
        }
    }
}
