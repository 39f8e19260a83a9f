//! The ledger of deliveries: every request to a webhook that exists, and what became of it. Accepted ones
//! are read from their runs and have no row of their own. The others are a ring for each fleet: first
//! in memory ([`recent`]), then in the database, which one thread writes lazily. So a flood of refusals
//! costs a sender no time and the disk no more than the ring.

use std::io::Read;
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::model::delivery::{Delivery, KEPT_BODY_BYTES_MAX, KeptRequest, Verdict};
use crate::model::event::{Deduplicate, Event, EventMemory, Note, Verifier};
use crate::model::ids::{FleetId, RequestId, RunId};
use crate::model::limits::HEAD_BYTES_MAX;
use crate::model::refusal::Refusal;
use crate::model::request::RequestHead;

mod counts;
mod read;
mod recent;
mod replay;
mod writer;

#[cfg(test)]
mod tests;

pub use counts::{DeliveryCounts, reason_of_accepted};
pub use read::{DeliveryFilter, DeliveryView};
use recent::Recent;
pub use writer::StoredDeliveries;

/// Bytes of a head that is kept, as JSON: escapes take some.
const KEPT_HEAD_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;

/// A request to a webhook that starts no run.
pub struct NewDelivery<'a> {
    /// The id that its sender gets: [`RequestId::arriving`].
    pub id: RequestId,
    /// The fleet of its URL. `None`: no webhook has the URL, and the request is counted only.
    pub fleet: Option<FleetId>,
    pub remote_addr: IpAddr,
    pub verdict: Verdict,
    /// One word: of a [`Reason`](crate::model::refusal::Reason), or empty where the verdict says all.
    pub reason: &'static str,
    /// For the operator.
    pub detail: &'a str,
    /// The status of the response.
    pub status: u16,
    /// The run that it is a duplicate of.
    pub run: Option<RunId>,
    pub event: Event,
    /// How duplicates of the event are recognised once a person has the delivery run after all.
    pub deduplicate: Option<Deduplicate>,
    pub verified_by: Option<Verifier>,
    /// Bytes of its body as far as they are known.
    pub bytes: u64,
    /// Head and body of a request that a person may want to look at or to run after all. The head has
    /// no credentials.
    pub request: Option<(RequestHead, &'a mut dyn Read)>,
}

impl<'a> NewDelivery<'a> {
    /// A request that says nothing yet, for the rest to be filled in.
    pub fn new(id: RequestId, fleet: Option<FleetId>, remote_addr: IpAddr) -> Self {
        Self {
            id,
            fleet,
            remote_addr,
            verdict: Verdict::Refused,
            reason: "",
            detail: "",
            status: 0,
            run: None,
            event: Event::default(),
            deduplicate: None,
            verified_by: None,
            bytes: 0,
            request: None,
        }
    }

    /// A request that is refused, for the rest to be filled in.
    pub fn refused(
        id: RequestId,
        fleet: Option<FleetId>,
        remote_addr: IpAddr,
        refusal: &'a Refusal,
    ) -> Self {
        Self {
            reason: refusal.reason.word(),
            detail: &refusal.message,
            status: refusal.status(),
            ..Self::new(id, fleet, remote_addr)
        }
    }
}

/// The part of the ledger that is in memory.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<LedgerState>,
    /// Wakes the writer: there is something to write, a pass is due, or the ledger is closed.
    work: Condvar,
    counts: DeliveryCounts,
}

#[derive(Debug, Default)]
struct LedgerState {
    recent: Recent,
    is_pass_due: bool,
    is_closed: bool,
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, LedgerState> {
        // A panic can lose entries, and nothing else depends on them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a delivery for the writer, which sleeps only while there is none: a flood does not wake it
    /// again and again.
    fn add(&self, delivery: Delivery, request: Vec<u8>, is_stored: bool) {
        let mut state = self.state();
        let is_first = state.recent.is_empty();
        state.recent.push(delivery, request, is_stored);
        if is_first {
            self.work.notify_one();
        }
    }

    /// Lets the writer end once it has written all there is.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.work.notify_all();
    }

    /// Drops the deliveries of fleets that are gone, those in memory at once.
    pub fn forget(&self, fleets: impl Iterator<Item = FleetId>) {
        let mut state = self.state();
        fleets.for_each(|fleet| state.recent.forget(fleet));
        state.is_pass_due = true;
        self.work.notify_all();
    }

    fn take_pass_due(&self) -> bool {
        std::mem::take(&mut self.state().is_pass_due)
    }

    /// Waits until there is something to write, a pass is due, or `until`; false once the ledger is
    /// closed.
    fn wait_for_work(&self, until: Instant) -> bool {
        let is_idle = |state: &mut LedgerState| {
            state.recent.is_empty() && !state.is_pass_due && !state.is_closed
        };
        let timeout = until.saturating_duration_since(Instant::now());
        let waited = self.work.wait_timeout_while(self.state(), timeout, is_idle);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    /// Waits for `pause`, or until the ledger is closed.
    fn pause(&self, pause: Duration) {
        let is_open = |state: &mut LedgerState| !state.is_closed;
        let waited = self.work.wait_timeout_while(self.state(), pause, is_open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Engine {
    /// Counts a request to a webhook that starts no run, and enters it into the ledger. Waits for no
    /// disk but for that of `request`'s body.
    pub fn record_delivery(&self, new: NewDelivery<'_>) {
        self.ledger.counts.count(new.verdict, new.reason);
        let Some(fleet) = new.fleet else { return };
        // The fleet may be gone meanwhile.
        let Ok(version) = self.current_version(fleet) else { return };
        let (kept, request) = self.kept_request(fleet, new.bytes, new.request);
        let note = !(new.reason.is_empty() && new.detail.is_empty());
        let delivery = Delivery {
            id: new.id,
            received_at: self.clock.now(),
            fleet_id: fleet,
            fleet_name: version.definition.name.clone(),
            remote_addr: new.remote_addr.to_canonical().to_string(),
            event: new.event,
            verdict: new.verdict,
            note: note.then(|| Note::new(new.reason, new.detail)),
            status: new.status,
            run: new.run,
            bytes: new.bytes,
            kept,
            memory: new.deduplicate.map(EventMemory::from),
            verified_by: new.verified_by,
        };
        self.ledger.add(delivery, request, false);
    }

    /// The number of requests to webhooks by verdict and reason.
    pub fn delivery_counts(&self) -> &DeliveryCounts {
        &self.ledger.counts
    }

    /// Head and body in the form in which they are kept, as far as they are short enough and there is
    /// room.
    fn kept_request(
        &self,
        fleet: FleetId,
        body_bytes: u64,
        request: Option<(RequestHead, &mut dyn Read)>,
    ) -> (KeptRequest, Vec<u8>) {
        let nothing = (KeptRequest::default(), Vec::new());
        let Some((head, body)) = request else { return nothing };
        let Ok(mut bytes) = serde_json::to_vec(&head) else { return nothing };
        let head_bytes = bytes.len();
        let has_room = |bytes: u64| self.ledger.state().recent.has_room(fleet, bytes);
        if head_bytes > KEPT_HEAD_BYTES_MAX || !has_room(head_bytes as u64) {
            return nothing;
        }
        let mut kept =
            KeptRequest { head_bytes: u32::try_from(head_bytes).unwrap_or(0), body_bytes: None };
        if body_bytes <= KEPT_BODY_BYTES_MAX && has_room(head_bytes as u64 + body_bytes) {
            match body.take(KEPT_BODY_BYTES_MAX).read_to_end(&mut bytes) {
                Ok(read) => kept.body_bytes = u32::try_from(read).ok(),
                Err(error) => {
                    log::warn!(error:%; "the body of a refused request cannot be read back");
                    bytes.truncate(head_bytes);
                }
            }
        }
        (kept, bytes)
    }
}
