//! A run under way: the state of each of its vessels.

use std::sync::Arc;
use std::time::Duration;

use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::fleet::FleetVersion;
use crate::model::graph::{Graph, Readiness};
use crate::model::notification::NotificationRecord;
use crate::model::run::{RunRecord, Skip, Status, VesselRunRecord, shorten};

/// Where a vessel of an active run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VesselState {
    /// Some upstream vessel has not ended.
    Waiting,
    /// It may be claimed.
    Ready {
        since: Timestamp,
    },
    Running,
    /// Its next attempt falls due at this time.
    AwaitsRetry {
        due: Timestamp,
    },
    /// It is decided, and how.
    Ended(Status),
}

/// A vessel of an active run.
#[derive(Debug)]
pub struct Vessel {
    pub state: VesselState,
    /// Its latest attempt, as stored; `None` before the first.
    pub record: Option<VesselRunRecord>,
    /// While it is running: since when it was ready, and the attempt before. Undoes a claim.
    before: Option<(Timestamp, Option<VesselRunRecord>)>,
}

impl Vessel {
    /// A vessel with the latest attempt that is stored.
    pub fn stored(state: VesselState, record: Option<VesselRunRecord>) -> Self {
        Self { state, record, before: None }
    }
}

/// A run of which some vessel has been claimed, and not all are decided.
#[derive(Debug)]
pub struct ActiveRun {
    pub record: RunRecord,
    pub version: Arc<FleetVersion>,
    pub graph: Graph,
    pub vessels: Vec<Vessel>,
}

impl ActiveRun {
    /// A run with every vessel waiting.
    pub fn new(record: RunRecord, version: Arc<FleetVersion>) -> Self {
        let definition = &version.definition;
        // Stored definitions were checked when they were saved, so this cannot fail; if it did,
        // vessels without paths would still each run.
        let graph =
            Graph::new(definition.vessels.len(), &definition.paths).unwrap_or_else(|error| {
                log::error!(run:% = record.id, error:% = error; "a stored graph is invalid");
                Graph::new(definition.vessels.len(), &[]).unwrap_or_default()
            });
        let waiting = || Vessel::stored(VesselState::Waiting, None);
        let vessels = definition.vessels.iter().map(|_| waiting()).collect();
        Self { record, version, graph, vessels }
    }

    /// How many of its vessels are running.
    pub fn running(&self) -> usize {
        self.vessels.iter().filter(|vessel| vessel.state == VesselState::Running).count()
    }

    /// Whether any program of it has been started: without, it has no work directory to miss.
    pub fn has_launched(&self) -> bool {
        self.records().any(|record| record.attempt > 0 && record.skip.is_none())
    }

    /// Whether an attempt has run to its end since the run last started at its first vessel. Then
    /// the work directory was made.
    pub fn has_run_programs(&self) -> bool {
        // What a person has stopped stays so when the run starts again in a fresh directory.
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

    /// How the vessel ended, if it has.
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

    /// How long the vessel waits for its next retry, from the end of the attempt before.
    pub fn retry_wait(&self, vessel: usize) -> Duration {
        let retry = self.vessels[vessel].record.as_ref().map_or(0, |record| record.retries);
        let guardrails = &self.version.definition.vessels[vessel].guardrails;
        guardrails.wait_before(retry, self.record.id.vessel_run(vessel))
    }

    /// Starts the next attempt of a vessel that is ready. Returns its record, and what its log
    /// should say about why it starts again.
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

    /// Undoes the claim of a running vessel, which has not started: it is ready as before. Returns
    /// the number of the attempt that there was not.
    pub fn undo_start(&mut self, vessel: usize) -> Option<u32> {
        let entry = &mut self.vessels[vessel];
        let attempt = entry.record.as_ref()?.attempt;
        let (since, record) = entry.before.take()?;
        *entry = Vessel::stored(VesselState::Ready { since }, record);
        Some(attempt)
    }

    /// Whether nothing of it has been started or decided.
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

    /// Follows the paths as far as they are decided: which vessels became ready, and the changes
    /// for those that can never run.
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
                Readiness::Never => {
                    let reason = "a path that leads to it was not taken";
                    changes.push(self.decide(vessel, Status::Incomplete, reason, now));
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

    /// Brings the status of a run under way up to date: Retrying while some vessel of it is.
    pub fn note_status(&mut self) -> Option<Change> {
        let is_retrying = self.records().any(|record| record.status == Status::Retrying);
        let status = if is_retrying { Status::Retrying } else { Status::Running };
        let changes = self.record.status != status;
        self.record.status = status;
        changes.then(|| Change::PutRun(self.record.clone()))
    }

    /// Ends a run of which nothing has started.
    pub fn dismiss(&mut self, status: Status, reason: &str, now: Timestamp) -> Vec<Change> {
        let mut changes = self.decide_rest(status, reason, now);
        changes.extend(self.end(now));
        changes
    }

    /// Ends the run, all of whose vessels are decided. What it took over from the run that it
    /// replays did not happen in it, and does not count.
    pub fn end(&mut self, now: Timestamp) -> Vec<Change> {
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

    /// Whom the end of the run is told.
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

    /// The records of vessels, but for those that count as in the run that is replayed.
    fn own_records(&self) -> impl Iterator<Item = &VesselRunRecord> {
        self.records().filter(|record| !matches!(record.skip, Some(Skip::Replay { .. })))
    }

    fn records(&self) -> impl Iterator<Item = &VesselRunRecord> {
        self.vessels.iter().filter_map(|vessel| vessel.record.as_ref())
    }

    /// The first vessel that ended as the run did, and why; of a run that never started, just why.
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
