//! How the server is doing, at a glance. Reads; decides nothing.

use std::time::Duration;

use crate::engine::{Engine, HistorySize};
use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::retention::Retention;
use crate::model::run::{RunRecord, VesselRunRecord};
use crate::scheduler::Depth;

/// What is to be done, and how much of it can be.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub depth: Depth,
    pub workers: usize,
    /// Runs that may wait.
    pub waiting_max: usize,
}

/// What an operator watches that is read when asked for.
#[derive(Clone, Copy, Debug)]
pub struct Gauges {
    /// How long the run has waited that was accepted first.
    pub oldest_waiting_age: Option<Duration>,
    pub notifications_waiting: usize,
}

/// Bytes of the file system that the data directory is on.
#[derive(Clone, Copy, Debug)]
pub struct DiskSpace {
    /// What our user may still write.
    pub free: u64,
    pub total: u64,
}

impl Engine {
    /// The time by the engine's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How busy the server is.
    pub fn load(&self) -> Load {
        Load {
            depth: self.decisions().queue.depth(),
            workers: self.settings.workers,
            waiting_max: self.settings.max_queued_runs,
        }
    }

    /// What is not counted all along.
    pub fn gauges(&self) -> Gauges {
        let oldest = self.decisions().queue.oldest_waiting();
        Gauges {
            oldest_waiting_age: oldest.map(|at| self.clock.now().since(at)),
            notifications_waiting: self.outbox().undelivered(),
        }
    }

    /// How many runs were accepted at `since` or later; counts no further than `max`.
    pub fn accepted_since(&self, since: Timestamp, max: usize) -> usize {
        let first = RunId::first_at(since);
        let latest = self.storage.runs_before(None).take(max).take_while(|run| run.id >= first);
        latest.filter(|run| run.queued_at >= since).count()
    }

    /// The latest runs of a fleet, newest first, without their vessels.
    pub fn latest_runs(&self, fleet: FleetId, count: usize) -> Vec<RunRecord> {
        self.storage.runs_of_fleet_before(fleet, None).take(count).collect()
    }

    /// Every attempt of a vessel run that is on record, oldest first. None when its run waits.
    pub fn attempts(&self, id: VesselRunId) -> Vec<VesselRunRecord> {
        let latest = self.storage.vessel_run(id).map_or(0, |record| record.attempt);
        (1..=latest).filter_map(|attempt| self.storage.attempt(id, attempt)).collect()
    }

    /// How much is kept of runs that have ended.
    pub fn history_size(&self) -> HistorySize {
        self.decisions().history.size()
    }

    /// Which runs are kept of fleets that do not say so themselves.
    pub fn keep_runs(&self) -> Retention {
        self.settings.keep_runs
    }

    /// What the database takes up; `None` when the system does not tell.
    pub fn database_bytes(&self) -> Option<u64> {
        self.storage.bytes()
    }

    /// The room where output is kept; `None` when the system does not tell.
    pub fn disk_space(&self) -> Option<DiskSpace> {
        let stat = rustix::fs::statvfs(&self.output_dir).ok()?;
        Some(DiskSpace {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}
