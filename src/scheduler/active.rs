//! An active run: the state of each of its vessels.

use std::sync::Arc;
use std::time::Duration;

use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::fleet::FleetVersion;
use crate::model::graph::{Graph, Readiness};
use crate::model::notification::NotificationRecord;
use crate::model::run::{RunRecord, Skip, Status, VesselRunRecord, shorten};
use crate::os::fatal;

/// The graph of a stored version. It was checked when the version was saved; if it is invalid all the
/// same, vessels would run in a wrong order, so the process ends.
pub fn graph_of(version: &FleetVersion) -> Graph {
    let definition = &version.definition;
    Graph::new(definition.vessels.len(), &definition.paths).unwrap_or_else(|error| {
        fatal::stop(&format!(
            "the graph of version {} of the fleet {:?} ({}) is invalid: {error}; restore a backup",
            version.version, definition.name, version.fleet_id
        ))
    })
}

/// The state of a vessel of an active run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VesselState {
    /// An upstream vessel has not ended.
    Waiting,
    /// A worker may claim it.
    Ready {
        since: Timestamp,
    },
    Running,
    /// Its next attempt falls due at this time.
    AwaitsRetry {
        due: Timestamp,
    },
    /// It is decided.
    Ended(Status),
}

/// A vessel of an active run.
#[derive(Debug)]
pub struct Vessel {
    pub state: VesselState,
    /// Its latest attempt, as stored; `None` before the first one.
    pub record: Option<VesselRunRecord>,
    /// While it is running: since when it was ready, and the previous attempt. Undoes a claim.
    before: Option<(Timestamp, Option<VesselRunRecord>)>,
}

impl Vessel {
    /// A vessel that is not running, with its latest stored attempt.
    pub fn stored(state: VesselState, record: Option<VesselRunRecord>) -> Self {
        Self { state, record, before: None }
    }
}

/// A run with a claimed vessel, not all of whose vessels are decided.
#[derive(Debug)]
pub struct ActiveRun {
    pub record: RunRecord,
    pub version: Arc<FleetVersion>,
    pub graph: Graph,
    pub vessels: Vec<Vessel>,
    /// Whether an earlier server has started it.
    pub is_resumed: bool,
}

impl ActiveRun {
    /// A run with every vessel waiting.
    pub fn new(record: RunRecord, version: Arc<FleetVersion>) -> Self {
        let graph = graph_of(&version);
        let waiting = || Vessel::stored(VesselState::Waiting, None);
        let vessels = version.definition.vessels.iter().map(|_| waiting()).collect();
        Self { record, version, graph, vessels, is_resumed: false }
    }

    /// How many of its vessels are running.
    pub fn running(&self) -> usize {
        self.vessels.iter().filter(|vessel| vessel.state == VesselState::Running).count()
    }

    /// Whether a program of it has been started. Before that it has no work directory.
    pub fn has_launched(&self) -> bool {
        self.records().any(|record| record.attempt > 0 && record.skip.is_none())
    }

    /// Whether an attempt has run to its end since the run last started at its first vessel. If so,
    /// it has a work directory.
    pub fn has_run_programs(&self) -> bool {
        // A vessel that a person has stopped stays stopped when the run starts over.
        let has_ended = |vessel: &&Vessel| {
            matches!(vessel.state, VesselState::Ended(status) if status != Status::Terminated)
                || vessel.record.as_ref().is_some_and(|it| it.status == Status::Retrying)
        };
        let ended = self.vessels.iter().filter(has_ended);
        let mut records = ended.filter_map(|vessel| vessel.record.as_ref());
        records.any(|record| {
            record.skip.is_none() && (record.exit_code.is_some() || record.signal.is_some())
        })
    }

    /// The final status of the vessel, if it has ended.
    pub fn ended(&self, vessel: usize) -> Option<Status> {
        match self.vessels[vessel].state {
            VesselState::Ended(status) => Some(status),
            _ => None,
        }
    }

    /// Whether every vessel is decided.
    pub fn is_decided(&self) -> bool {
        (0..self.vessels.len()).all(|vessel| self.ended(vessel).is_some())
    }

    /// How long the vessel waits for its next retry after the end of an attempt.
    pub fn retry_wait(&self, vessel: usize) -> Duration {
        let retry = self.vessels[vessel].record.as_ref().map_or(0, |record| record.retries);
        let guardrails = &self.version.definition.vessels[vessel].guardrails;
        guardrails.wait_before(retry, self.record.id.vessel_run(vessel))
    }

    /// Starts the next attempt of a ready vessel. Returns its record, and the reason of a start after
    /// an interruption, for the vessel's log.
    pub fn start(
        &mut self,
        vessel: usize,
        now: Timestamp,
    ) -> Option<(VesselRunRecord, Option<String>)> {
        let VesselState::Ready { since } = self.vessels[vessel].state else { return None };
        let previous = self.vessels[vessel].record.take();
        let before = Some((since, previous.clone()));
        let mut record = self.blank_record(vessel, since);
        record.started_at = Some(now);
        record.status = Status::Running;
        let mut notice = None;
        if let Some(previous) = previous {
            record.attempt = previous.attempt;
            record.retries = previous.retries;
            match previous.status {
                Status::Retrying => record.status = Status::Retrying,
                _ => notice = previous.reason,
            }
        }
        record.attempt += 1;
        self.vessels[vessel] =
            Vessel { state: VesselState::Running, record: Some(record.clone()), before };
        Some((record, notice))
    }

    /// Undoes the claim of a vessel whose program has not started: the vessel is ready as before.
    /// Returns the number of the undone attempt.
    pub fn undo_start(&mut self, vessel: usize) -> Option<u32> {
        let entry = &mut self.vessels[vessel];
        let attempt = entry.record.as_ref()?.attempt;
        let (since, record) = entry.before.take()?;
        *entry = Vessel::stored(VesselState::Ready { since }, record);
        Some(attempt)
    }

    /// Whether it ends as soon as the running vessels have ended, which were asked to.
    pub fn is_stopping(&self) -> bool {
        self.vessels.iter().all(|vessel| match vessel.state {
            VesselState::Ended(_) => true,
            VesselState::Running => {
                vessel.record.as_ref().is_some_and(|record| record.stop_requested)
            }
            _ => false,
        })
    }

    /// Whether no vessel has been started or decided.
    pub fn is_untouched(&self) -> bool {
        self.vessels.iter().all(|vessel| vessel.record.is_none())
    }

    /// Decides a vessel that is not running, without starting it.
    pub fn decide(
        &mut self,
        vessel: usize,
        status: Status,
        reason: &str,
        now: Timestamp,
    ) -> Change {
        let previous = self.vessels[vessel].record.take();
        let mut record = previous.unwrap_or_else(|| self.blank_record(vessel, now));
        record.status = status;
        record.reason = Some(shorten(reason));
        record.retry_at = None;
        record.ended_at = Some(now);
        self.vessels[vessel] = Vessel::stored(VesselState::Ended(status), Some(record.clone()));
        Change::PutVesselRun(record)
    }

    /// Follows the paths as far as they are decided. Returns the vessels that became ready, and the
    /// changes of those that can never run.
    pub fn follow_paths(&mut self, now: Timestamp) -> (Vec<usize>, Vec<Change>) {
        let (mut ready, mut changes) = (Vec::new(), Vec::new());
        let mut open: Vec<usize> = (0..self.vessels.len()).collect();
        while let Some(vessel) = open.pop() {
            if self.vessels[vessel].state != VesselState::Waiting {
                continue;
            }
            match self.graph.readiness(vessel, |upstream| self.ended(upstream)) {
                Readiness::Waiting => {}
                Readiness::Ready => {
                    self.vessels[vessel].state = VesselState::Ready { since: now };
                    ready.push(vessel);
                }
                Readiness::Never(upstream, condition) => {
                    let upstream = &self.version.definition.vessels[upstream].name;
                    let reason =
                        format!("skipped: `{upstream}` did not end as {}", condition.word());
                    changes.push(self.decide(vessel, Status::Incomplete, &reason, now));
                    open.extend(self.graph.downstream(vessel));
                }
            }
        }
        ready.sort_unstable();
        (ready, changes)
    }

    /// Decides every vessel that is neither running nor decided.
    pub fn decide_rest(&mut self, status: Status, reason: &str, now: Timestamp) -> Vec<Change> {
        let undecided = |state| !matches!(state, VesselState::Running | VesselState::Ended(_));
        (0..self.vessels.len())
            .filter(|vessel| undecided(self.vessels[*vessel].state))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|vessel| self.decide(vessel, status, reason, now))
            .collect()
    }

    /// Updates the status of the run: Retrying while a vessel is.
    pub fn note_status(&mut self) -> Option<Change> {
        let is_retrying = self.records().any(|record| record.status == Status::Retrying);
        let status = if is_retrying { Status::Retrying } else { Status::Running };
        let changes = self.record.status != status;
        self.record.status = status;
        changes.then(|| Change::PutRun(self.record.clone()))
    }

    /// Ends a run that has not started.
    pub fn dismiss(&mut self, status: Status, reason: &str, now: Timestamp) -> Vec<Change> {
        let mut changes = self.decide_rest(status, reason, now);
        changes.extend(self.end(now));
        changes
    }

    /// Ends the run, all of whose vessels are decided. Vessels that count as in the replayed run do
    /// not contribute to its status.
    pub fn end(&mut self, now: Timestamp) -> Vec<Change> {
        debug_assert!(
            self.is_decided(),
            "the run {} ends with an undecided vessel",
            self.record.id
        );
        let has = |status| self.own_records().any(|record| record.status == status);
        self.record.status = [Status::Terminated, Status::Errored, Status::Success]
            .into_iter()
            .find(|status| has(*status))
            .unwrap_or(Status::Incomplete);
        self.record.reason = self.reason();
        self.record.ended_at = Some(now);
        let mut changes = vec![
            Change::PutRun(self.record.clone()),
            Change::RemoveQueueEntry { sequence: self.record.sequence },
        ];
        changes.extend(self.notifications(now));
        changes
    }

    /// The notifications of the run's end.
    fn notifications(&self, now: Timestamp) -> Vec<Change> {
        let definition = &self.version.definition;
        let own_end = |vessel: usize| {
            let id = self.record.id.vessel_run(vessel);
            self.own_records().find(|record| record.id == id).map(|record| record.status)
        };
        let recipients = definition.recipients(&self.record, own_end);
        let numbered = (0..).zip(recipients);
        let records = numbered.map(|(number, recipient)| NotificationRecord {
            run: self.record.id,
            number,
            recipient,
            attempts: 0,
            due_at: now,
            wait_seconds: None,
            given_up: false,
            problem: None,
        });
        records.map(Change::PutNotification).collect()
    }

    /// The records of its vessels, except those that count as in the replayed run.
    fn own_records(&self) -> impl Iterator<Item = &VesselRunRecord> {
        self.records().filter(|record| !matches!(record.skip, Some(Skip::Replay { .. })))
    }

    fn records(&self) -> impl Iterator<Item = &VesselRunRecord> {
        self.vessels.iter().filter_map(|vessel| vessel.record.as_ref())
    }

    /// The name and reason of the first vessel that ended as the run did. A run that never started
    /// has a reason without a name.
    fn reason(&self) -> Option<String> {
        if self.record.status == Status::Success {
            return None;
        }
        let first = self.own_records().find(|record| record.status == self.record.status)?;
        let why = first.reason.as_deref()?;
        if self.record.started_at.is_none() {
            return Some(why.to_owned());
        }
        Some(shorten(&format!("{}: {why}", first.vessel_name)))
    }

    /// The record of a vessel before its first attempt.
    fn blank_record(&self, vessel: usize, scheduled_at: Timestamp) -> VesselRunRecord {
        let definition = &self.version.definition.vessels[vessel];
        VesselRunRecord::scheduled(
            self.record.id,
            vessel,
            (definition.id, &definition.name),
            scheduled_at,
        )
    }
}
