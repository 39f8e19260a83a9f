//! Taking in runs: read the whole body, make run and payload durable, answer with the id. A body
//! of up to one slice enters the commit of its run; a larger one is committed in slices as it
//! arrives, its run last, so that what was cut short leaves nothing but chunks to remove.

use std::io::{self, Read};
use std::sync::Arc;

use crate::engine::notifications::Admitted;
use crate::engine::{Engine, Phase};
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::fleet::FleetVersion;
use crate::model::ids::{FleetId, RunId};
use crate::model::limits::{ROW_BYTES_MAX, SLICE_BYTES};
use crate::model::request::RequestHead;
use crate::model::run::{PayloadSize, RunRecord, Trigger};
use crate::scheduler::{QueueFull, QueuedRun};
use crate::store::Ticket;

/// Why a run is not accepted. Nothing of it is kept.
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

/// What comes in, but for its body.
pub(super) struct Arrival {
    pub version: Arc<FleetVersion>,
    pub trigger: Trigger,
    pub head: RequestHead,
    /// The run that this one repeats.
    pub replay_of: Option<RunId>,
}

/// A run that was taken in and is on its way to the disk. If a crash comes first, it never was.
#[must_use = "the run is accepted only once this has been confirmed"]
pub struct Pending {
    run: RunId,
    trigger: Trigger,
    ticket: Ticket,
    /// Runs that gave way to it, and who is to be told.
    ended: Vec<RunRecord>,
    notifications: Admitted,
}

/// A payload on its way into the database.
struct Upload {
    run: RunId,
    /// What is not committed yet.
    buffer: Vec<u8>,
    /// Chunks committed so far.
    chunks: u32,
}

impl Engine {
    /// Accepts a run of `version`: reads `body` to its end and sends run and payload on their way to
    /// the disk, for which [`confirm`](Self::confirm) waits. Commits are shared, so whoever has several
    /// of these waits no longer for all than for the last. `announced` is the length the sender
    /// promised, if it did.
    ///
    /// # Errors
    /// When the body is too large, incomplete or unreadable, or no more runs can wait.
    pub fn accept(
        &self,
        version: &Arc<FleetVersion>,
        trigger: Trigger,
        head: RequestHead,
        body: &mut dyn Read,
        announced: Option<u64>,
    ) -> Result<Pending, AcceptError> {
        let arrival = Arrival { version: Arc::clone(version), trigger, head, replay_of: None };
        self.take_in(arrival, body, announced, self.settings.max_body_bytes)
    }

    /// The same, whatever it is that comes in, with a body of up to `limit` bytes.
    pub(super) fn take_in(
        &self,
        arrival: Arrival,
        body: &mut dyn Read,
        announced: Option<u64>,
        limit: u64,
    ) -> Result<Pending, AcceptError> {
        if announced.is_some_and(|length| length > limit) {
            return Err(AcceptError::TooLarge { limit });
        }
        let (run, queued_at) = self.reserve(arrival.version.fleet_id, announced.unwrap_or(0))?;
        let Arrival { version, trigger, head, replay_of } = arrival;
        let head = serde_json::to_vec(&head).map_err(io::Error::other)?;
        let head_bytes = u32::try_from(head.len()).map_err(io::Error::other)?;
        let mut upload = Upload { run, buffer: head, chunks: 0 };
        let accepted = self.receive(&mut upload, body, announced, limit).and_then(|body_bytes| {
            let payload = PayloadSize { head_bytes, body_bytes };
            let run = QueuedRun { id: run, version, trigger, replay_of, payload, queued_at };
            self.submit(run, &mut upload)
        });
        if accepted.is_err() && upload.chunks > 0 {
            self.give_up(&upload);
        }
        accepted
    }

    /// An id for a run of the fleet with a body of `length` bytes, if one more may wait, and the time.
    fn reserve(&self, fleet: FleetId, length: u64) -> Result<(RunId, Timestamp), AcceptError> {
        let mut random = [0; 8];
        self.random.fill(&mut random).map_err(io::Error::other)?;
        let now = self.clock.now();
        if !self.space.is_enough() {
            return Err(AcceptError::DiskFull);
        }
        let mut decisions = self.decisions();
        decisions.check_room()?;
        decisions.check_share(fleet, length, self.space.left())?;
        Ok((decisions.run_ids.next(now, u64::from_ne_bytes(random)), now))
    }

    /// Reads the body, committing slices while there is more than one. Returns its length.
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
            // One byte over the limit is enough to know.
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

    /// Commits the full chunks of the buffer, up to a slice of them: a head may be longer.
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
        self.storage.commit(changes).wait();
        drop(turn);
        upload.chunks += chunks;
    }

    /// Queues the run, with the last of its payload in the same commit.
    fn submit(&self, run: QueuedRun, upload: &mut Upload) -> Result<Pending, AcceptError> {
        let bytes = std::mem::take(&mut upload.buffer);
        let trigger = run.trigger;
        let mut decisions = self.decisions();
        if decisions.phase == Phase::Closed {
            return Err(AcceptError::Stopping);
        }
        let submitted = decisions.queue.submit(run, self.clock.now())?;
        let mut changes = submitted.changes;
        changes.push(Change::PutPayload { run: upload.run, chunk: upload.chunks, bytes });
        if upload.chunks > 0 {
            changes.push(Change::EndUpload(upload.run));
        }
        let notifications = self.note_ends(&mut decisions, &mut changes);
        let ticket = self.storage.commit(changes);
        if decisions.phase == Phase::Serving {
            self.work.notify_one();
        }
        Ok(Pending { run: upload.run, trigger, ticket, ended: submitted.ended, notifications })
    }

    /// Returns the run's id once the run is on the disk.
    pub fn confirm(&self, pending: Pending) -> RunId {
        let Pending { run, trigger, ticket, ended, notifications } = pending;
        ticket.wait();
        self.instruments.accepted.count(trigger);
        self.hand_over(notifications);
        for ended in &ended {
            // It has never started: there is no directory to wipe.
            self.note_end(ended);
        }
        run
    }

    fn give_up(&self, upload: &Upload) {
        let changes = vec![
            Change::RemovePayload { run: upload.run, chunks: 0..upload.chunks },
            Change::EndUpload(upload.run),
        ];
        self.storage.commit(changes).wait();
    }
}

/// How many chunks `bytes` bytes make.
fn chunks_in(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(ROW_BYTES_MAX)).unwrap_or(u32::MAX)
}
