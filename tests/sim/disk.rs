//! The simulated disk: decides at which commit the server dies, and keeps its own account of every
//! row that has become durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boathook::internals::ledger::{Delivery, RequestId};
use boathook::internals::limits::ROW_BYTES_MAX;
use boathook::internals::store::Faults;
use boathook::internals::{
    Change, Fleet, FleetId, HistoryEntry, QueueEntry, RunId, RunRecord, ScheduleEntry, ScheduleKey,
    ServerRecord, VesselRunId, VesselRunRecord,
};
use boathook::internals::{EventEntry, EventKey};

use crate::sabotage::Sabotage;

/// Shared by the committer of the server that runs now, the launcher and the life.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

pub struct State {
    pub rows: Rows,
    /// Commits since the log was last taken, durable all.
    log: Vec<Vec<Change>>,
    /// The changes that are being written.
    writing: Vec<Change>,
    plan: Option<Plan>,
    sabotage: Option<Sabotage>,
    /// Something was acknowledged that is not on the disk; the power is about to fail.
    lied: bool,
    commits: u64,
    /// Bytes of the longest part of a payload that came in one piece.
    pub longest_slice: usize,
}

/// The server dies at a commit to come.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many commits succeed before.
    pub commits: u32,
    pub when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing of the commit is there: a crash or a full disk.
    BeforeWrite,
    /// The commit is on the disk but not acknowledged: a crash, or a failed sync.
    AfterSync,
}

/// The rows that matter, as the changes leave them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub server: Option<ServerRecord>,
    pub fleets: BTreeMap<FleetId, Fleet>,
    pub runs: BTreeMap<RunId, RunRecord>,
    /// Every run that ever ended, also those that are gone.
    pub ended: BTreeMap<RunId, RunRecord>,
    pub attempts: BTreeMap<(VesselRunId, u32), VesselRunRecord>,
    pub queue: BTreeMap<u64, QueueEntry>,
    /// Runs whose payloads are there, and they are not.
    pub arriving: BTreeSet<RunId>,
    pub uploads: BTreeSet<RunId>,
    /// Chunks of payloads.
    pub payloads: BTreeMap<RunId, u32>,
    pub history: BTreeMap<(FleetId, u64), HistoryEntry>,
    /// Runs that are gone and of which something is left.
    pub removing: BTreeSet<RunId>,
    pub events: BTreeMap<EventKey, EventEntry>,
    pub schedules: BTreeMap<ScheduleKey, ScheduleEntry>,
    pub deliveries: BTreeMap<RequestId, Delivery>,
    /// Those with a stored head and body.
    pub delivery_requests: BTreeSet<RequestId>,
    /// The versions that there are of each fleet.
    pub versions: BTreeMap<FleetId, BTreeSet<u32>>,
}

impl Rows {
    pub fn latest(&self, vessel_run: VesselRunId) -> Option<&VesselRunRecord> {
        self.attempts.range((vessel_run, 0)..=(vessel_run, u32::MAX)).next_back().map(|it| it.1)
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::PutServer(server) => self.server = Some(server.clone()),
            Change::PutFleet(fleet) => {
                self.fleets.insert(fleet.id, fleet.clone());
            }
            Change::RemoveFleet(id) => {
                self.fleets.remove(id);
            }
            Change::AddRun(run) | Change::PutRun(run) => {
                self.arriving.remove(&run.id);
                if run.ended_at.is_some() {
                    let before = self.ended.insert(run.id, run.clone());
                    assert_eq!(before, None, "{} ends twice", run.id);
                }
                self.runs.insert(run.id, run.clone());
            }
            Change::PutVesselRun(record) => {
                self.attempts.insert((record.id, record.attempt), record.clone());
            }
            Change::PutQueueEntry(entry) => {
                self.queue.insert(entry.sequence, entry.clone());
            }
            Change::RemoveQueueEntry { sequence } => {
                self.queue.remove(sequence);
            }
            Change::PutPayload { run, chunk, bytes } => {
                let chunks = bytes.len().div_ceil(ROW_BYTES_MAX) as u32;
                self.payloads.insert(*run, chunk + chunks);
                if !self.runs.contains_key(run) {
                    self.arriving.insert(*run);
                }
            }
            Change::RemovePayload { run, chunks } => {
                self.arriving.remove(run);
                let left = self.payloads.insert(*run, chunks.start);
                assert_eq!(left, Some(chunks.end), "a payload is removed from its end on");
                if chunks.start == 0 {
                    self.payloads.remove(run);
                }
            }
            Change::PutHistory { fleet, number, entry } => {
                self.history.insert((*fleet, *number), entry.clone());
            }
            Change::RemoveHistory { fleet, number } => {
                self.history.remove(&(*fleet, *number));
            }
            Change::BeginRemoval { run, .. } => {
                let removed = self.runs.remove(run);
                assert!(removed.is_some_and(|run| run.status.is_final()), "{run} has not ended");
                self.removing.insert(*run);
            }
            Change::RemoveAttempt { vessel_run, attempt, .. } => {
                // Of a run that goes, or one that was claimed and has not started.
                let removed = self.attempts.remove(&(*vessel_run, *attempt));
                let is_withdrawn = removed.is_some_and(|it| it.ended_at.is_none());
                let is_going = self.removing.contains(&vessel_run.run());
                assert!(is_going || is_withdrawn, "{vessel_run} is needed");
            }
            Change::EndRemoval(run) => {
                self.removing.remove(run);
            }
            Change::PutEvent { key, entry } => {
                self.events.insert(*key, entry.clone());
            }
            Change::RemoveEvent(key) => {
                assert!(self.events.remove(key).is_some(), "an event is forgotten twice");
            }
            Change::AddFleetVersion(version) => {
                self.versions.entry(version.fleet_id).or_default().insert(version.version);
            }
            Change::RemoveFleetVersion { fleet, version, .. } => {
                let current = self.fleets.get(fleet).map(|fleet| fleet.version);
                assert_ne!(current, Some(*version), "the current version of {fleet} goes");
                let has_it =
                    |run: &&RunRecord| (run.fleet_id, run.fleet_version) == (*fleet, *version);
                let run = self.runs.values().find(has_it).map(|run| run.id);
                assert_eq!(run, None, "it has the version {version} of {fleet}, which goes");
                let versions = self.versions.entry(*fleet).or_default();
                assert!(versions.remove(version), "a version goes twice");
                if versions.is_empty() {
                    self.versions.remove(fleet);
                }
            }
            Change::PutSchedule { key, entry } => {
                self.schedules.insert(*key, entry.clone());
            }
            Change::RemoveSchedule(key) => {
                self.schedules.remove(key);
            }
            Change::PutDelivery(delivery) => {
                self.deliveries.insert(delivery.id, delivery.clone());
            }
            Change::PutDeliveryRequest { delivery, .. } => {
                self.delivery_requests.insert(*delivery);
            }
            Change::RemoveDeliveryRequest { delivery, .. } => {
                self.delivery_requests.remove(delivery);
            }
            Change::RemoveDelivery { delivery, .. } => {
                assert!(self.deliveries.remove(delivery).is_some(), "it is removed twice");
                self.delivery_requests.remove(delivery);
            }
            Change::BeginUpload(run) => {
                self.uploads.insert(*run);
            }
            Change::EndUpload(run) => {
                self.uploads.remove(run);
            }
            _ => {}
        }
    }
}

impl Disk {
    pub fn new(sabotage: Option<Sabotage>) -> Self {
        Self(Arc::new(Mutex::new(State {
            rows: Rows::default(),
            log: Vec::new(),
            writing: Vec::new(),
            plan: None,
            sabotage,
            lied: false,
            commits: 0,
            longest_slice: 0,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a committer of this disk asks.
    pub fn faults(&self) -> Box<dyn Faults> {
        Box::new(self.clone())
    }

    pub fn plan(&self, plan: Option<Plan>) {
        self.lock().plan = plan;
    }

    /// The commits since this was last asked.
    pub fn take_log(&self) -> Vec<Vec<Change>> {
        std::mem::take(&mut self.lock().log)
    }

    /// Whether something was acknowledged that is not there.
    pub fn take_lie(&self) -> bool {
        std::mem::take(&mut self.lock().lied)
    }
}

impl Faults for Disk {
    /// A life that replays dies at the same request.
    fn is_alone(&self) -> bool {
        true
    }

    fn before_write(&mut self, changes: &mut Vec<Change>) -> Result<(), String> {
        let mut state = self.lock();
        state.commits += 1;
        let number = state.commits;
        if let Some(sabotage) = state.sabotage {
            sabotage.tamper(changes, number);
        }
        if let Some(Plan { commits: 0, when: When::BeforeWrite }) = state.plan {
            if state.sabotage == Some(Sabotage::AcknowledgeBeforeSync) {
                state.lied = true;
                state.plan = None;
                changes.clear();
                return Ok(());
            }
            state.plan = None;
            return Err("no space left on the simulated device".into());
        }
        for change in changes.iter() {
            if let Change::PutPayload { bytes, .. } = change {
                state.longest_slice = state.longest_slice.max(bytes.len());
            }
        }
        state.writing.append(&mut changes.clone());
        Ok(())
    }

    fn after_sync(&mut self) -> Result<(), String> {
        let mut state = self.lock();
        let mut written = std::mem::take(&mut state.writing);
        for change in &mut written {
            state.rows.apply(change);
            if let Change::PutPayload { bytes, .. } = change {
                *bytes = Vec::new();
            }
        }
        state.log.push(written);
        match &mut state.plan {
            Some(Plan { commits: 0, .. }) => {
                state.plan = None;
                return Err("the simulated device has failed to sync".into());
            }
            Some(plan) => plan.commits -= 1,
            None => {}
        }
        Ok(())
    }
}
