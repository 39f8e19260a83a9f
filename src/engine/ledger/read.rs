//! Lists and shows deliveries: those in memory, those in the database, and accepted ones, which are read
//! from their runs.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};

use crate::engine::runs::RUN_IDS_SEARCHED_MAX;
use crate::engine::{Engine, EngineError, Reach};
use crate::model::clock::Timestamp;
use crate::model::delivery::{Delivery, ID_REUSED, KeptRequest, Verdict};
use crate::model::event::{ArrivalRecord, Note};
use crate::model::ids::{FleetId, RequestId, RunId};
use crate::model::limits::LIST_DEFAULT;
use crate::model::request::RequestHead;
use crate::model::respond::Respond;
use crate::model::run::{RunRecord, Trigger};

/// Rows that are read to fill one page of a filtered list, as for runs.
const SCANNED_MAX: usize = 50_000;

/// A delivery as it is shown.
#[derive(Clone, Debug)]
pub struct DeliveryView {
    pub delivery: Delivery,
    /// The first run of its event, if that ended without success.
    pub first_run: Option<RunId>,
    /// Whether its body is there, so that it can be run.
    pub has_body: bool,
    /// Whether its fleet is there no more.
    pub is_fleet_deleted: bool,
}

impl DeliveryView {
    /// The run that has its body: its own, or that of which it is a duplicate.
    pub fn run_with_body(&self) -> Option<RunId> {
        let is_duplicate = self.delivery.verdict == Verdict::Duplicate;
        self.delivery.id.run().or(self.delivery.run.filter(|_| is_duplicate))
    }
}

/// Which deliveries to list.
#[derive(Clone, Debug)]
pub struct DeliveryFilter {
    pub fleet: Option<FleetId>,
    pub verdict: Option<Verdict>,
    pub reason: Option<String>,
    /// Received at this time or later.
    pub since: Option<Timestamp>,
    /// Before the delivery of this id.
    pub before: Option<RequestId>,
    /// Of which fleets.
    pub reach: Reach,
    pub limit: usize,
}

impl Default for DeliveryFilter {
    fn default() -> Self {
        let (limit, reach) = (LIST_DEFAULT, Reach::Everything);
        Self { fleet: None, verdict: None, reason: None, since: None, before: None, reach, limit }
    }
}

/// One page of a list of deliveries.
#[derive(Clone, Debug)]
pub struct DeliveryPage {
    pub deliveries: Vec<DeliveryView>,
    /// The `before` of the next page, if there may be one.
    pub next_before: Option<RequestId>,
}

/// A row of the list before it is shown.
enum Found {
    Kept(Delivery),
    Run(RunRecord),
}

impl Found {
    fn id(&self) -> RequestId {
        match self {
            Found::Kept(delivery) => delivery.id,
            Found::Run(run) => RequestId::of_run(run.id),
        }
    }

    /// Whether the sender calls its event `id`.
    fn is_of_event(&self, id: &str) -> bool {
        match self {
            Found::Kept(delivery) => delivery.event.id() == Some(id),
            Found::Run(run) => run.arrival().event.id() == Some(id),
        }
    }
}

/// What versions of fleets answer, as far as one list has looked it up: most of its rows have one version.
type Statuses = HashMap<(FleetId, u32), u16>;

/// The request of a delivery.
pub struct DeliveredRequest {
    pub head: RequestHead,
    /// The body and its length, if it is kept.
    pub body: Option<(Box<dyn Read + Send>, u64)>,
}

impl Engine {
    /// The deliveries that `filter` matches, the latest first.
    pub fn deliveries(&self, filter: &DeliveryFilter) -> DeliveryPage {
        let mut page = DeliveryPage { deliveries: Vec::new(), next_before: None };
        let mut statuses = Statuses::new();
        let mut last: Option<RequestId> = None;
        for (scanned, found) in self.all_deliveries(filter).enumerate() {
            if page.deliveries.len() == filter.limit {
                page.next_before = last;
                break;
            }
            if scanned == SCANNED_MAX {
                page.next_before = last.map(|last| last.cursor_after(found.id()));
                break;
            }
            last = Some(found.id());
            if filter.matches(&found) {
                page.deliveries.push(self.shown(found, &mut statuses));
            }
        }
        self.store.confirm();
        page
    }

    /// The deliveries from which a list with this filter is made, the latest first.
    fn all_deliveries(&self, filter: &DeliveryFilter) -> impl Iterator<Item = Found> {
        let DeliveryFilter { verdict, since, before, .. } = *filter;
        let fleet = filter.fleet.or(filter.reach.only_fleet());
        // Memory first: an entry that moves to the database meanwhile is in both.
        let mut recent = self.ledger.state().recent.before(fleet, before);
        let mut kept: Box<dyn Iterator<Item = Delivery>> = match fleet {
            Some(fleet) => Box::new(self.store.deliveries_of_fleet_before(fleet, before)),
            None => Box::new(self.store.deliveries_before(before)),
        };
        let run_before = before.map(RequestId::run_at_most);
        let mut runs: Box<dyn Iterator<Item = RunRecord>> = match fleet {
            Some(fleet) => Box::new(self.store.runs_of_fleet_before(fleet, run_before)),
            None => Box::new(self.store.runs_before(run_before)),
        };
        if verdict == Some(Verdict::Accepted) {
            (recent, kept) = (Vec::new(), Box::new(std::iter::empty()));
        } else if verdict.is_some() {
            runs = Box::new(std::iter::empty());
        }
        let is_before = move |id| before.is_none_or(|before| RequestId::of_run(id) < before);
        let runs = runs.filter(move |run| run.trigger == Trigger::Webhook && is_before(run.id));
        let kept = merged(recent.into_iter().map(Found::Kept), kept.map(Found::Kept));
        let first = since.map(RequestId::first_at);
        merged(kept, runs.map(Found::Run))
            .take_while(move |found| first.is_none_or(|first| found.id() >= first))
    }

    /// One delivery.
    pub fn delivery(&self, id: RequestId) -> Option<DeliveryView> {
        let found = match id.run() {
            Some(run) => {
                let run = self.store.run(run).filter(|run| run.trigger == Trigger::Webhook);
                run.map(Found::Run)
            }
            None => self.kept_delivery(id).map(Found::Kept),
        };
        self.store.confirm();
        found.map(|found| self.shown(found, &mut Statuses::new()))
    }

    /// Whether there is a delivery of this id.
    pub fn has_delivery(&self, id: RequestId) -> bool {
        match id.run() {
            Some(run) => self.is_stored(run),
            None => self.kept_delivery(id).is_some(),
        }
    }

    /// Up to `limit` deliveries within `reach` whose id begins or ends with `named`, the latest first; without
    /// any, the latest delivery of the event that has this id. At most [`RUN_IDS_SEARCHED_MAX`] are searched.
    pub fn find_deliveries(&self, named: &str, limit: usize, reach: &Reach) -> Vec<RequestId> {
        let fragment = named.to_ascii_lowercase();
        let may_be_id = fragment.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-');
        let matches = |id: &RequestId| {
            let text = id.to_string();
            may_be_id && (text.starts_with(&fragment) || text.ends_with(&fragment))
        };
        let filter = DeliveryFilter { reach: reach.clone(), ..DeliveryFilter::default() };
        let all = self.all_deliveries(&filter).take(RUN_IDS_SEARCHED_MAX);
        let (mut ids, mut of_event) = (Vec::new(), None);
        for found in all.filter(|found| filter.reaches(found)) {
            if matches(&found.id()) {
                ids.push(found.id());
            } else if of_event.is_none() && found.is_of_event(named) {
                of_event = Some(found.id());
            }
            if ids.len() == limit || (!may_be_id && of_event.is_some()) {
                break;
            }
        }
        if ids.is_empty() { of_event.into_iter().collect() } else { ids }
    }

    /// Whether a delivery is within `reach`. One that does not exist is within reach of everything alone.
    pub fn is_delivery_within(&self, id: RequestId, reach: &Reach) -> bool {
        let has = |delivery: Delivery| reach.has_fleet(delivery.fleet_id, None);
        match id.run() {
            Some(run) => self.is_within(run, reach),
            None => reach.is_everything() || self.kept_delivery(id).is_some_and(has),
        }
    }

    fn kept_delivery(&self, id: RequestId) -> Option<Delivery> {
        let recent = self.ledger.state().recent.get(id).map(|entry| entry.delivery.clone());
        recent.or_else(|| self.store.delivery(id))
    }

    /// Head and body of a delivery, as far as they are kept.
    ///
    /// # Errors
    /// When the delivery is gone, or its request cannot be read.
    pub fn delivered_request(&self, view: &DeliveryView) -> Result<DeliveredRequest, EngineError> {
        let delivery = &view.delivery;
        let gone = || EngineError::NotFound(format!("there is no delivery {}", delivery.id));
        let damaged = |why: &dyn fmt::Display| {
            log::error!(delivery:% = delivery.id, error:% = why; "a kept request cannot be read");
            EngineError::Damaged(format!("what the delivery was sent cannot be read: {why}"))
        };
        if let Some(run) = view.run_with_body() {
            let run = self.store.run(run).ok_or_else(gone)?;
            let request = self.stored_request(run.id, run.payload).map_err(|why| {
                // The sweeper may have removed the run meanwhile.
                if self.is_stored(run.id) { damaged(&why) } else { gone() }
            })?;
            let body = Some((self.body(&run), run.payload.body_bytes));
            return Ok(DeliveredRequest { head: request.head, body });
        }
        let KeptRequest { head_bytes, body_bytes } = delivery.kept;
        if head_bytes == 0 {
            return Ok(DeliveredRequest { head: RequestHead::default(), body: None });
        }
        let mut bytes = self.request_bytes(delivery).map_err(|error| {
            // The writer may have removed it meanwhile.
            let is_there = self.kept_delivery(delivery.id).is_some_and(|it| it.kept.head_bytes > 0);
            if is_there { damaged(&error) } else { gone() }
        })?;
        let body = bytes.split_off((head_bytes as usize).min(bytes.len()));
        let head = serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
        let body = body_bytes.map(|length| {
            let body: Box<dyn Read + Send> = Box::new(io::Cursor::new(body));
            (body, u64::from(length))
        });
        Ok(DeliveredRequest { head, body })
    }

    /// The kept head and body of a delivery, from memory or the database.
    fn request_bytes(&self, delivery: &Delivery) -> io::Result<Vec<u8>> {
        let state = self.ledger.state();
        let recent = state.recent.get(delivery.id).map(|entry| &entry.request);
        if let Some(request) = recent.filter(|request| !request.is_empty()) {
            return Ok(request.clone());
        }
        drop(state);
        let length = delivery.kept.bytes();
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let mut stored = self.store.delivery_request(delivery.id, 0, length);
        stored.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn shown(&self, found: Found, statuses: &mut Statuses) -> DeliveryView {
        let has_fleet = |id| self.catalog().has_fleet(id);
        match found {
            Found::Kept(delivery) => {
                let is_kept = delivery.kept.body_bytes.is_some();
                let is_fleet_deleted = !has_fleet(delivery.fleet_id);
                let view =
                    DeliveryView { delivery, first_run: None, has_body: is_kept, is_fleet_deleted };
                let run = view.run_with_body();
                DeliveryView {
                    has_body: is_kept || run.is_some_and(|it| self.is_stored(it)),
                    ..view
                }
            }
            Found::Run(run) => {
                let of_version = statuses.entry((run.fleet_id, run.fleet_version));
                let status = *of_version.or_insert_with(|| self.status_of_answer(&run));
                let is_fleet_deleted = !has_fleet(run.fleet_id);
                self.accepted_delivery(run, status, is_fleet_deleted)
            }
        }
    }

    /// The status that the sender of `run` was answered; 0 for that of a vessel, which is not stored.
    fn status_of_answer(&self, run: &RunRecord) -> u16 {
        let version = self.version(run.fleet_id, run.fleet_version);
        match version.as_ref().and_then(|it| it.definition.webhook.respond.as_ref()) {
            None => 201,
            Some(Respond::Fixed(answer)) => answer.status,
            Some(Respond::Wait(_)) => 0,
        }
    }

    /// The delivery that started `run`.
    fn accepted_delivery(
        &self,
        run: RunRecord,
        status: u16,
        is_fleet_deleted: bool,
    ) -> DeliveryView {
        let arrival = run.arrival();
        let note = note_of(&arrival);
        let ArrivalRecord { event, first_run, memory, verified_by, .. } = arrival;
        // A list shows a delivery with a damaged head without its address. The log says why.
        let head = self.request_head(&run).unwrap_or_default();
        let delivery = Delivery {
            id: RequestId::of_run(run.id),
            received_at: run.queued_at,
            fleet_id: run.fleet_id,
            fleet_name: run.fleet_name,
            remote_addr: head.remote_addr,
            event,
            verdict: Verdict::Accepted,
            note,
            status,
            run: Some(run.id),
            bytes: run.payload.body_bytes,
            kept: KeptRequest { head_bytes: run.payload.head_bytes, body_bytes: None },
            memory,
            verified_by,
        };
        DeliveryView { delivery, first_run, has_body: true, is_fleet_deleted }
    }
}

/// The deliveries of both lists, the latest first. Of two with one id, that of `first`.
fn merged(
    first: impl Iterator<Item = Found>,
    second: impl Iterator<Item = Found>,
) -> impl Iterator<Item = Found> {
    let (mut first, mut second) = (first.peekable(), second.peekable());
    std::iter::from_fn(move || match (first.peek(), second.peek()) {
        (Some(one), Some(other)) if one.id() < other.id() => second.next(),
        (Some(one), Some(other)) => {
            if one.id() == other.id() {
                second.next();
            }
            first.next()
        }
        (Some(_), None) => first.next(),
        (None, _) => second.next(),
    })
}

impl DeliveryFilter {
    /// Whether the fleet of a delivery is within reach, and the one that is asked for.
    fn reaches(&self, found: &Found) -> bool {
        let (fleet, project) = match found {
            Found::Kept(delivery) => (delivery.fleet_id, None),
            Found::Run(run) => (run.fleet_id, Some(run.project_id)),
        };
        self.reach.has_fleet(fleet, project) && self.fleet.is_none_or(|wanted| fleet == wanted)
    }

    fn matches(&self, found: &Found) -> bool {
        let (verdict, received_at) = match found {
            Found::Kept(delivery) => (delivery.verdict, delivery.received_at),
            Found::Run(run) => (Verdict::Accepted, run.queued_at),
        };
        self.reaches(found)
            && self.verdict.is_none_or(|wanted| wanted == verdict)
            && self.since.is_none_or(|since| received_at >= since)
            && self.reason.as_deref().is_none_or(|reason| match found {
                Found::Kept(delivery) => {
                    delivery.note.as_ref().is_some_and(|note| note.reason() == reason)
                }
                Found::Run(run) => has_reason(&run.arrival(), reason),
            })
    }
}

/// Whether the accepted delivery of this arrival has the reason.
fn has_reason(arrival: &ArrivalRecord, reason: &str) -> bool {
    let is_id_reused = arrival.is_id_reused && reason == ID_REUSED;
    is_id_reused || arrival.note.as_ref().is_some_and(|note| note.reason() == reason)
}

/// The note on the accepted delivery of this arrival. That its event id came before with another body is one
/// of its own, or part of the other.
fn note_of(arrival: &ArrivalRecord) -> Option<Note> {
    if !arrival.is_id_reused {
        return arrival.note.clone();
    }
    let text = "the id of this event came before with another body, so both run";
    let reused = Note::new(ID_REUSED, text);
    Some(match arrival.note.clone() {
        None => reused,
        Some(mut note) => {
            note.append(&reused);
            note
        }
    })
}
