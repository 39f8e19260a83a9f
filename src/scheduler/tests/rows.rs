//! The rows that changes leave behind, kept as the store keeps them: runs by id, attempts of vessels
//! by id and attempt, the queue by sequence. Refuses changes that no queue should make.

use std::collections::BTreeMap;

use crate::model::change::{Change, QueueEntry};
use crate::model::ids::{RunId, VesselRunId};
use crate::model::run::{RunRecord, Status, VesselRunRecord};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub runs: BTreeMap<RunId, RunRecord>,
    attempts: BTreeMap<(VesselRunId, u32), VesselRunRecord>,
    pub queue: BTreeMap<u64, QueueEntry>,
}

impl Rows {
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::AddRun(run) => {
                    let replaced = self.runs.insert(run.id, run.clone());
                    assert_eq!(replaced, None, "a run is added once");
                }
                Change::PutRun(run) => {
                    let before = self.runs.insert(run.id, run.clone());
                    let before = before.expect("a run is added before it changes");
                    assert!(!before.status.is_final(), "what has ended stays as it is: {before:?}");
                }
                Change::PutVesselRun(record) => self.put_attempt(record),
                Change::PutQueueEntry(entry) => {
                    if let Some(before) = self.queue.insert(entry.sequence, entry.clone()) {
                        assert_eq!(before.run, entry.run, "a place in the queue is one run's");
                    }
                }
                Change::RemoveQueueEntry { sequence } => {
                    assert!(self.queue.remove(sequence).is_some(), "a removed row exists");
                }
                other => panic!("not for the queue to change: {other:?}"),
            }
        }
    }

    fn put_attempt(&mut self, record: &VesselRunRecord) {
        let latest = self.latest(record.id).map_or(0, |latest| latest.attempt);
        assert!(record.attempt >= latest, "an older attempt would change: {record:?}");
        assert!(record.attempt <= latest + 1, "an attempt is left out: {record:?}");
        self.attempts.insert((record.id, record.attempt), record.clone());
    }

    /// The latest attempt of a vessel.
    pub fn latest(&self, id: VesselRunId) -> Option<&VesselRunRecord> {
        self.attempts.range((id, 0)..=(id, u32::MAX)).next_back().map(|(_, record)| record)
    }

    pub fn status(&self, id: VesselRunId) -> Option<Status> {
        self.latest(id).map(|record| record.status)
    }

    /// Whether the rows say that a process of this vessel may be running.
    pub fn is_running(&self, id: VesselRunId) -> bool {
        self.latest(id).is_some_and(|record| {
            matches!(record.status, Status::Running | Status::Retrying) && record.retry_at.is_none()
        })
    }
}

/// The run that a change is about, if it is about one.
pub fn run_of(change: &Change) -> Option<RunId> {
    match change {
        Change::AddRun(run) | Change::PutRun(run) => Some(run.id),
        Change::PutVesselRun(record) => Some(record.id.run()),
        Change::PutQueueEntry(entry) => Some(entry.run),
        _ => None,
    }
}
