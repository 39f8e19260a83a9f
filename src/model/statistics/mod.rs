//! Statistics of runs: by the hour in which a run was accepted, how it ended, how long it took and how
//! long it waited. A row of each hour for the server, for each project and for each fleet answers a
//! question about a month without a look at its runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::access::Scope;
use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, ProjectId};
use crate::model::run::{RunRecord, Status};

mod histogram;

pub use histogram::DurationHistogram;

/// How long an hour is counted: the longest period that is shown, and some slack.
pub const KEPT_FOR: Duration = Duration::from_secs(31 * 24 * 3600);

const HOUR_MILLIS: i64 = 3_600_000;

/// An hour by the clock of UTC: hours since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hour(u32);

impl Hour {
    /// The hour of a moment; the first one for moments before the epoch.
    pub fn of(time: Timestamp) -> Self {
        Self(u32::try_from(time.as_millis().div_euclid(HOUR_MILLIS)).unwrap_or(0))
    }

    /// Its number: hours since the epoch.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The hour of this number.
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// When it begins.
    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(i64::from(self.0) * HOUR_MILLIS)
    }

    /// The last `count` hours up to this one, the oldest first.
    pub fn last(self, count: u32) -> impl Iterator<Item = Self> {
        (self.0.saturating_sub(count.saturating_sub(1))..=self.0).map(Self)
    }
}

/// Since when the runs of a database are counted: a row of `meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatisticsRecord {
    pub since: Timestamp,
}

/// What is counted of a run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRun {
    pub fleet: FleetId,
    pub project: ProjectId,
    /// Of its acceptance.
    pub hour: Hour,
    pub status: Status,
    /// From its start to its end; `None`: it has not started.
    pub duration: Option<Duration>,
    /// From its acceptance to its start; `None` as well.
    pub waiting: Option<Duration>,
}

impl EndedRun {
    /// What is counted of `run`; `None` before its end.
    pub fn of(run: &RunRecord) -> Option<Self> {
        let ended_at = run.ended_at?;
        Some(Self {
            fleet: run.fleet_id,
            project: run.project_id,
            hour: Hour::of(run.queued_at),
            status: run.status,
            duration: run.started_at.map(|started_at| ended_at.since(started_at)),
            waiting: run.started_at.map(|started_at| started_at.since(run.queued_at)),
        })
    }

    /// Where it counts.
    pub fn scopes(&self) -> [Scope; 3] {
        [Scope::Everything, Scope::Project(self.project), Scope::Fleet(self.fleet)]
    }
}

/// The runs of an hour, or of several. The order of the fields is part of the format of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    success: u32,
    errored: u32,
    terminated: u32,
    incomplete: u32,
    pub duration: DurationHistogram,
    pub waiting: DurationHistogram,
}

impl Tally {
    /// The statuses that a run may end with.
    pub const ENDS: [Status; 4] =
        [Status::Success, Status::Errored, Status::Terminated, Status::Incomplete];

    /// Counts one run.
    pub fn count(&mut self, run: &EndedRun) {
        if let Some(count) = self.field(run.status) {
            *count = count.saturating_add(1);
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        run.duration.iter().for_each(|time| self.duration.observe(millis(*time)));
        run.waiting.iter().for_each(|time| self.waiting.observe(millis(*time)));
    }

    /// Counts all that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        for status in Self::ENDS {
            if let Some(count) = self.field(status) {
                *count = count.saturating_add(other.of(status));
            }
        }
        self.duration.merge(&other.duration);
        self.waiting.merge(&other.waiting);
    }

    /// The runs that ended with this status.
    pub fn of(&self, status: Status) -> u32 {
        match status {
            Status::Success => self.success,
            Status::Errored => self.errored,
            Status::Terminated => self.terminated,
            Status::Incomplete => self.incomplete,
            Status::Scheduled | Status::Running | Status::Retrying => 0,
        }
    }

    /// The part of the runs that succeeded, of those that succeeded or failed. Runs that a person or a
    /// newer run has ended do not count. `None` without such runs.
    pub fn success_rate(&self) -> Option<f64> {
        let judged = f64::from(self.success) + f64::from(self.errored);
        (judged > 0.0).then(|| f64::from(self.success) / judged)
    }

    fn field(&mut self, status: Status) -> Option<&mut u32> {
        match status {
            Status::Success => Some(&mut self.success),
            Status::Errored => Some(&mut self.errored),
            Status::Terminated => Some(&mut self.terminated),
            Status::Incomplete => Some(&mut self.incomplete),
            Status::Scheduled | Status::Running | Status::Retrying => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::limits::ROW_BYTES_MAX;

    fn run(status: Status, times: Option<(u64, u64)>) -> EndedRun {
        EndedRun {
            fleet: FleetId::random(),
            project: ProjectId::random(),
            hour: Hour(1),
            status,
            duration: times.map(|(duration, _)| Duration::from_millis(duration)),
            waiting: times.map(|(_, waiting)| Duration::from_millis(waiting)),
        }
    }

    #[test]
    fn hours_begin_on_the_hour() {
        let time: Timestamp = "2026-01-02T03:59:59.999Z".parse().unwrap();
        assert_eq!(Hour::of(time).start().to_string(), "2026-01-02T03:00:00.000Z");
        assert_eq!(Hour::of(Timestamp::from_millis(-1)).number(), 0);
        assert_eq!(Hour(5).last(3).map(Hour::number).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(Hour(1).last(24).count(), 2);
    }

    #[test]
    fn a_row_of_every_bucket_full_fits() {
        let mut tally = Tally::default();
        for bits in 0..64 {
            for part in 0..16_u64 {
                let millis = (1_u64 << bits) + (part << bits) / 16;
                tally.count(&run(Status::Success, Some((millis, millis))));
            }
        }
        for _ in 0..32 {
            let same = tally.clone();
            tally.merge(&same);
        }
        assert_eq!(tally.of(Status::Success), u32::MAX);
        assert!(postcard::to_allocvec(&tally).unwrap().len() < ROW_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn a_merge_counts_what_a_list_of_the_runs_says(
            runs in proptest::collection::vec(
                (0..4_usize, prop::option::of((0..10_000_000_u64, 0..10_000_u64))), 0..100,
            ),
            cut in 0..100_usize,
        ) {
            let runs: Vec<EndedRun> =
                runs.into_iter().map(|(status, times)| run(Tally::ENDS[status], times)).collect();
            let count = |runs: &[EndedRun]| {
                let mut tally = Tally::default();
                runs.iter().for_each(|run| tally.count(run));
                tally
            };
            let (older, newer) = runs.split_at(cut.min(runs.len()));
            let mut merged = count(newer);
            merged.merge(&count(older));
            prop_assert_eq!(&merged, &count(&runs));
            for status in Tally::ENDS {
                let expected = runs.iter().filter(|run| run.status == status).count();
                prop_assert_eq!(merged.of(status) as usize, expected);
            }
            let started = runs.iter().filter(|run| run.duration.is_some()).count();
            prop_assert_eq!(merged.duration.count() as usize, started);
            prop_assert_eq!(merged.waiting.count() as usize, started);
        }
    }
}
