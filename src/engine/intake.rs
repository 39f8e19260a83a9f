//! Accepting runs: read the whole body, make run and payload durable, return the id. A body of up to
//! one slice enters the commit of its run. A larger body is committed in slices as it arrives, its run
//! last. An upload that is cut short leaves chunks that this or the next server removes.
//!
//! A request whose event has a run already starts none: the engine decides that before it reads the
//! body, and once more under the lock under which it submits the run.

use std::io::{self, Read};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use crate::engine::effects::PendingEffects;
use crate::engine::events::{Decision, StoredEvent};
use crate::engine::ledger::reason_of_accepted;
use crate::engine::retention::removal_steps;
use crate::engine::waiting::Waiting;
use crate::engine::{Decisions, Engine, Phase};
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::delivery::Verdict;
use crate::model::event::{Arrival, ArrivalRecord, EventKey};
use crate::model::fleet::FleetVersion;
use crate::model::ids::{FleetId, RunId};
use crate::model::limits::{BODY_INLINE_BYTES_MAX, ROW_BYTES_MAX, SLICE_BYTES};
use crate::model::request::RequestHead;
use crate::model::run::{PayloadSize, Trigger};
use crate::scheduler::{QueueFull, QueuedRun};
use crate::store::DISK_BYTES_PER_BYTE;

/// Why a run is not accepted. No part of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("the queue is full")]
    QueueFull,
    #[error("the fleet has its share of the queue")]
    FleetQueueFull,
    #[error("the fleet's runs that have not ended have their share of the disk")]
    FleetDiskFull,
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the body ended before its announced length")]
    Incomplete,
    #[error("the body could not be read: {0}")]
    Read(#[from] io::Error),
    #[error("the server is stopping")]
    Stopping,
    #[error("there is too little free disk space")]
    DiskFull,
    #[error("the database does not keep up")]
    Stalled,
}

impl From<QueueFull> for AcceptError {
    fn from(_: QueueFull) -> Self {
        AcceptError::QueueFull
    }
}

/// A run to be accepted, without its body.
pub(super) struct NewRun {
    pub version: Arc<FleetVersion>,
    pub trigger: Trigger,
    pub head: RequestHead,
    /// The run that this one replays.
    pub replay_of: Option<RunId>,
    pub arrival: ArrivalRecord,
    /// A change of the same commit.
    pub with: Option<Change>,
    /// Whether the sender waits for the end of the run.
    pub waits: bool,
}

/// A run on its way to the disk. A crash before its commit is durable loses it, unacknowledged.
#[must_use = "the run is accepted only once this has been confirmed"]
pub struct PendingRun {
    run: RunId,
    trigger: Trigger,
    /// The run was accepted before, and is durable with this commit as well.
    is_duplicate: bool,
    /// The reason of its delivery; mostly empty.
    reason: &'static str,
    effects: PendingEffects,
    /// The place of its sender, if it waits for the end of the run.
    waiting: Option<Waiting>,
}

impl PendingRun {
    /// Whether the request is a duplicate of an earlier one, which has started the run.
    pub fn is_duplicate(&self) -> bool {
        self.is_duplicate
    }

    /// The place of its sender, if it waits; `None` when all places are taken.
    pub fn take_waiting(&mut self) -> Option<Waiting> {
        self.waiting.take()
    }
}

/// The event of a request while the engine decides on it.
struct EventCheck {
    keys: Vec<EventKey>,
    /// How long an event is remembered.
    window: Duration,
    /// The rows of the keys, once they were needed.
    stored: Option<StoredEvent>,
    /// The run is a replay: it runs also when the event has a run.
    is_replay: bool,
}

/// A place for a run, or the run that the request is a duplicate of.
enum Reserved {
    Place(RunId, Timestamp),
    Duplicate(PendingRun),
}

/// A payload on its way into the database.
struct Upload {
    run: RunId,
    /// Bytes that are not committed yet.
    buffer: Vec<u8>,
    /// Chunks committed so far.
    chunks: u32,
}

impl Engine {
    /// Accepts a run of `version`: reads `body` to its end and hands run and payload to the committer.
    /// [`confirm`](Self::confirm) waits until they are durable; a caller that accepts several runs
    /// confirms them together. `announced` is the length that the sender has announced, if any.
    /// `arrival` says which event it is: a duplicate starts no run, and leads to that of the event.
    ///
    /// # Errors
    /// When the body is too large, incomplete or unreadable, or the queue is full.
    pub fn accept(
        &self,
        version: &Arc<FleetVersion>,
        trigger: Trigger,
        head: RequestHead,
        arrival: Arrival,
        body: &mut dyn Read,
        announced: Option<u64>,
    ) -> Result<PendingRun, AcceptError> {
        let version = Arc::clone(version);
        let arrival = ArrivalRecord::from(arrival);
        let waits = false;
        let new_run =
            NewRun { version, trigger, head, replay_of: None, arrival, with: None, waits };
        self.accept_run(new_run, body, announced, self.settings.max_body_bytes)
    }

    /// Accepts a run of `version` whose sender waits for its end, as far as there is a place
    /// ([`PendingRun::take_waiting`]). Otherwise as [`accept`](Self::accept).
    ///
    /// # Errors
    /// As there.
    pub fn accept_waiting(
        &self,
        version: &Arc<FleetVersion>,
        head: RequestHead,
        arrival: Arrival,
        body: &mut dyn Read,
        announced: u64,
    ) -> Result<PendingRun, AcceptError> {
        let new_run = NewRun {
            version: Arc::clone(version),
            trigger: Trigger::Webhook,
            head,
            replay_of: None,
            arrival: ArrivalRecord::from(arrival),
            with: None,
            waits: true,
        };
        self.accept_run(new_run, body, Some(announced), self.settings.max_body_bytes)
    }

    /// Accepts a run that no request has started: it has no body, and of a head only overrides.
    ///
    /// # Errors
    /// When the queue is full.
    pub fn accept_without_request(
        &self,
        version: &Arc<FleetVersion>,
        trigger: Trigger,
        head: RequestHead,
    ) -> Result<PendingRun, AcceptError> {
        let arrival = self.arrival_of_none(version, trigger);
        let version = Arc::clone(version);
        let waits = false;
        let new_run =
            NewRun { version, trigger, head, replay_of: None, arrival, with: None, waits };
        self.accept_run(new_run, &mut io::empty(), Some(0), 0)
    }

    /// Accepts a run with a body of up to `limit` bytes.
    pub(super) fn accept_run(
        &self,
        new_run: NewRun,
        body: &mut dyn Read,
        announced: Option<u64>,
        limit: u64,
    ) -> Result<PendingRun, AcceptError> {
        if announced.is_some_and(|length| length > limit) {
            return Err(AcceptError::TooLarge { limit });
        }
        let mut event =
            EventCheck::new(&new_run.arrival, new_run.version.fleet_id, new_run.trigger);
        let (run, queued_at) = match self.reserve(&new_run, &mut event, announced.unwrap_or(0))? {
            Reserved::Place(run, queued_at) => (run, queued_at),
            Reserved::Duplicate(pending) => return Ok(pending),
        };
        let NewRun { version, trigger, head, replay_of, arrival, with, waits } = new_run;
        let head = serde_json::to_vec(&head).map_err(io::Error::other)?;
        let head_bytes = u32::try_from(head.len()).map_err(io::Error::other)?;
        let mut upload = Upload { run, buffer: head, chunks: 0 };
        let accepted = self.receive(&mut upload, body, announced, limit).and_then(|body_bytes| {
            let payload = PayloadSize { head_bytes, body_bytes };
            let run = QueuedRun {
                id: run,
                version,
                trigger,
                replay_of,
                payload,
                queued_at,
                arrival: None,
                key: arrival.key.clone(),
                hold: None,
            };
            self.submit(run, arrival, with, waits, &mut event, &mut upload)
        });
        let has_run = accepted.as_ref().is_ok_and(|pending| !pending.is_duplicate);
        if !has_run && upload.chunks > 0 {
            self.give_up(&upload);
        }
        accepted
    }

    /// The run that a request with this arrival is a duplicate of, by what is known now. An accept
    /// decides again.
    pub fn run_of_event(&self, version: &FleetVersion, arrival: &Arrival) -> Option<PendingRun> {
        arrival.deduplicate.as_ref()?;
        let record = ArrivalRecord::from(arrival.clone());
        let mut event = EventCheck::new(&record, version.fleet_id, Trigger::Webhook);
        let (_decisions, decision) = self.decide(&mut event);
        match decision {
            Decision::Duplicate(run) => Some(self.duplicate_of(run, Trigger::Webhook)),
            _ => None,
        }
    }

    /// What would be decided on a request of `version` with this arrival: the run that it is a duplicate
    /// of, or else the first run of its event, if that has ended without success.
    pub fn runs_of_event(
        &self,
        version: &FleetVersion,
        arrival: Arrival,
    ) -> (Option<RunId>, Option<RunId>) {
        let record = ArrivalRecord::from(arrival);
        let mut event = EventCheck::new(&record, version.fleet_id, Trigger::Webhook);
        let (_decisions, decision) = self.decide(&mut event);
        match decision {
            Decision::Duplicate(run) => (Some(run), None),
            Decision::Run { first_run, .. } => (None, first_run),
        }
    }

    /// A run id and the time, if one more run of the fleet with a body of `length` bytes may wait.
    fn reserve(
        &self,
        new_run: &NewRun,
        event: &mut EventCheck,
        length: u64,
    ) -> Result<Reserved, AcceptError> {
        let mut random = [0; 8];
        self.random.fill(&mut random).map_err(io::Error::other)?;
        let now = self.clock.now();
        // A look at the file system may take long, and happens before the lock.
        let (has_space, left) = (self.space.is_enough(), self.space.left());
        let (mut decisions, decision) = self.decide(event);
        if let Decision::Duplicate(run) = decision {
            return Ok(Reserved::Duplicate(self.duplicate_of(run, new_run.trigger)));
        }
        if !has_space {
            return Err(AcceptError::DiskFull);
        }
        decisions.check_room()?;
        // The listener has promised the copy that the database gets of a large body.
        let is_promised = new_run.replay_of.is_none() && length > BODY_INLINE_BYTES_MAX as u64;
        let bytes = if is_promised { 0 } else { length.saturating_mul(DISK_BYTES_PER_BYTE) };
        decisions.check_share(new_run.version.fleet_id, bytes, left)?;
        self.space.note_accepted(length);
        Ok(Reserved::Place(decisions.run_ids.next(now, u64::from_ne_bytes(random)), now))
    }

    /// Decides on the event of a request. Rows that are needed are read without the lock.
    fn decide(&self, event: &mut EventCheck) -> (MutexGuard<'_, Decisions>, Decision) {
        loop {
            let mut decisions = self.decisions();
            let stored = event.stored.as_ref();
            let now = self.clock.now();
            match decisions.events.decide(&event.keys, event.window, stored, now) {
                Err(mark) => {
                    drop(decisions);
                    event.stored = Some(self.stored_event(&event.keys, mark));
                }
                Ok(Decision::Duplicate(_)) if event.is_replay => {
                    // A replay runs, and leaves the event to the run that has it.
                    event.keys.clear();
                }
                Ok(decision) => return (decisions, decision),
            }
        }
    }

    /// The pending run of a duplicate of `run`. Called under the lock under which that was decided: an
    /// empty commit is durable after that of the run.
    fn duplicate_of(&self, run: RunId, trigger: Trigger) -> PendingRun {
        let effects = PendingEffects::of_commit(self.store.commit(Vec::new()));
        PendingRun { run, trigger, is_duplicate: true, reason: "", effects, waiting: None }
    }

    /// Reads the body, and commits slices of a body of more than one. Returns its length.
    fn receive(
        &self,
        upload: &mut Upload,
        body: &mut dyn Read,
        announced: Option<u64>,
        limit: u64,
    ) -> Result<u64, AcceptError> {
        let mut length = 0;
        loop {
            let room = SLICE_BYTES.saturating_sub(upload.buffer.len()) as u64;
            // One byte over the limit proves that the body is too large.
            let room = room.min(limit + 1 - length);
            let read = body.take(room).read_to_end(&mut upload.buffer)? as u64;
            length += read;
            if length > limit {
                return Err(AcceptError::TooLarge { limit });
            }
            if read < room {
                break;
            }
            if upload.buffer.len() >= SLICE_BYTES {
                self.commit_slice(upload);
            }
        }
        match announced {
            Some(announced) if length < announced => Err(AcceptError::Incomplete),
            _ => Ok(length),
        }
    }

    /// Commits the full chunks of the buffer, up to one slice. A head may be longer than a slice.
    fn commit_slice(&self, upload: &mut Upload) {
        let whole = upload.buffer.len().min(SLICE_BYTES) / ROW_BYTES_MAX * ROW_BYTES_MAX;
        let rest = upload.buffer.split_off(whole);
        let bytes = std::mem::replace(&mut upload.buffer, rest);
        let mut changes = Vec::with_capacity(2);
        if upload.chunks == 0 {
            changes.push(Change::BeginUpload(upload.run));
        }
        let chunks = chunks_in(bytes.len());
        changes.push(Change::PutPayload { run: upload.run, chunk: upload.chunks, bytes });
        let turn = self.slices.lock().unwrap_or_else(|_| super::poisoned());
        self.store.commit(changes).wait();
        drop(turn);
        upload.chunks += chunks;
    }

    /// Submits the run, with its event and the rest of its payload in the same commit.
    fn submit(
        &self,
        mut run: QueuedRun,
        mut arrival: ArrivalRecord,
        with: Option<Change>,
        waits: bool,
        event: &mut EventCheck,
        upload: &mut Upload,
    ) -> Result<PendingRun, AcceptError> {
        let bytes = std::mem::take(&mut upload.buffer);
        let (trigger, fleet, queued_at) = (run.trigger, run.version.fleet_id, run.queued_at);
        let (mut decisions, decision) = self.decide(event);
        if decisions.phase == Phase::Closed {
            return Err(AcceptError::Stopping);
        }
        match decision {
            Decision::Duplicate(first) => return Ok(self.duplicate_of(first, trigger)),
            Decision::Run { first_run, is_id_reused } => {
                (arrival.first_run, arrival.is_id_reused) = (first_run, is_id_reused);
            }
        }
        if event.keys.is_empty() {
            arrival.memory = None;
        }
        run.arrival = arrival.pack();
        let due_before = decisions.queue.next_due();
        let effects = decisions.queue.submit(run, self.clock.now())?;
        // The run cannot end before the lock is released.
        let waiting = if waits { self.waiting.enter(upload.run) } else { None };
        let mut more = decisions.events.enter(fleet, upload.run, &arrival, queued_at);
        more.extend(with);
        more.push(Change::PutPayload { run: upload.run, chunk: upload.chunks, bytes });
        if upload.chunks > 0 {
            more.push(Change::EndUpload(upload.run));
        }
        let effects = self.commit_effects(&mut decisions, effects, more);
        self.wake_timer(&decisions, due_before);
        self.wake_worker(&mut decisions);
        let (run, reason) = (upload.run, reason_of_accepted(&arrival));
        Ok(PendingRun { run, trigger, is_duplicate: false, reason, effects, waiting })
    }

    /// Waits until the run is durable, and returns its id.
    pub fn confirm(&self, pending: PendingRun) -> RunId {
        let PendingRun { run, trigger, is_duplicate, reason, effects, .. } = pending;
        self.complete(effects);
        if is_duplicate {
            return run;
        }
        self.metrics.accepted.count(trigger);
        if trigger == Trigger::Webhook {
            self.delivery_counts().count(Verdict::Accepted, reason);
        }
        run
    }

    /// Removes what was committed of the payload, a step of the sweeper at a time.
    fn give_up(&self, upload: &Upload) {
        let run = upload.run;
        for chunks in removal_steps(upload.chunks) {
            self.sweep_step(|| self.store.commit(vec![Change::RemovePayload { run, chunks }]));
        }
        self.sweep_step(|| self.store.commit(vec![Change::EndUpload(run)]));
    }
}

impl EventCheck {
    fn new(arrival: &ArrivalRecord, fleet: FleetId, trigger: Trigger) -> Self {
        Self {
            keys: arrival.keys(fleet),
            window: Duration::from_secs(arrival.memory.map_or(0, |memory| memory.window_seconds)),
            stored: None,
            is_replay: trigger == Trigger::Replay,
        }
    }
}

/// The number of chunks of `bytes` bytes.
fn chunks_in(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(ROW_BYTES_MAX)).unwrap_or(u32::MAX)
}
