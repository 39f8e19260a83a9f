//! Figures for the overview and the metrics. Reads only.

use std::time::Duration;

use crate::engine::{Engine, HistorySize};
use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::retention::Retention;
use crate::model::run::{RunRecord, VesselRunRecord};
use crate::scheduler::Depth;

/// The depth of the queue and its bounds.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub depth: Depth,
    pub workers: usize,
    /// Runs that may wait.
    pub waiting_max: usize,
}

/// Figures that are computed on demand.
#[derive(Clone, Copy, Debug)]
pub struct Gauges {
    /// The age of the oldest waiting run.
    pub oldest_waiting_age: Option<Duration>,
    pub notifications_waiting: usize,
}

/// Bytes of the file system of the data directory.
#[derive(Clone, Copy, Debug)]
pub struct DiskSpace {
    /// Bytes that the server's user may still write.
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

    /// Figures that are computed on demand.
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
        let latest = self.store.runs_before(None).take(max).take_while(|run| run.id >= first);
        latest.filter(|run| run.queued_at >= since).count()
    }

    /// The latest runs of a fleet, newest first, without their vessels.
    pub fn latest_runs(&self, fleet: FleetId, count: usize) -> Vec<RunRecord> {
        self.store.runs_of_fleet_before(fleet, None).take(count).collect()
    }

    /// Every stored attempt of a vessel run, oldest first. Empty while its run waits.
    pub fn attempts(&self, id: VesselRunId) -> Vec<VesselRunRecord> {
        let latest = self.store.vessel_run(id).map_or(0, |record| record.attempt);
        (1..=latest).filter_map(|attempt| self.store.attempt(id, attempt)).collect()
    }

    /// Number and bytes of the finished runs that are kept.
    pub fn history_size(&self) -> HistorySize {
        self.decisions().history.size()
    }

    /// How long finished runs are kept of fleets without a rule of their own.
    pub fn keep_runs(&self) -> Retention {
        self.settings.keep_runs
    }

    /// Bytes of the database; `None` if the system cannot tell.
    pub fn database_bytes(&self) -> Option<u64> {
        self.store.bytes()
    }

    /// The space on the file system of the output files; `None` if the system cannot tell.
    pub fn disk_space(&self) -> Option<DiskSpace> {
        let stat = rustix::fs::statvfs(&self.output_dir).ok()?;
        Some(DiskSpace {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}
