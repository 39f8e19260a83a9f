//! Statistics of runs. The commit that ends a run counts it, so a crash neither loses nor repeats it. The
//! committer alone changes these rows: it adds what a commit counts to what is stored. The sweeper removes
//! hours that are over for long. The removal of a run or a fleet leaves its count.

use std::collections::BTreeMap;

use crate::engine::notifications::ended_runs;
use crate::engine::retention::SWEEP_ROWS;
use crate::engine::{Engine, Phase};
use crate::model::access::Scope;
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::RunId;
use crate::model::statistics::{EndedRun, Hour, KEPT_FOR, StatisticsRecord, Tally};
use crate::store::{StorageError, Store};

/// Runs of an older server that are counted at the first start: one or two seconds.
const COUNTED_AT_START_MAX: usize = 200_000;
/// Rows of one commit of the first count.
const ROWS_PER_COMMIT: usize = 512;

/// The runs of each hour of a period, the oldest first.
#[derive(Clone, Debug)]
pub struct Statistics {
    pub hours: Vec<(Hour, Tally)>,
}

impl Statistics {
    /// The runs of all hours.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.hours.iter().for_each(|(_, tally)| total.merge(tally));
        total
    }
}

impl Engine {
    /// The runs that were accepted within the last `hours` hours, the present one included, and have ended.
    /// Reads one row for each hour.
    pub fn statistics(&self, scope: Scope, hours: u32) -> Statistics {
        let present = Hour::of(self.clock.now());
        let tally = |hour| (hour, self.store.tally(hour, scope).unwrap_or_default());
        let hours = present.last(hours).map(tally).collect();
        self.store.confirm();
        Statistics { hours }
    }

    /// Removes the rows of hours that are over for long.
    pub fn sweep_statistics(&self) {
        let oldest = Hour::of(self.clock.now().minus(KEPT_FOR));
        while self.decisions().phase == Phase::Serving {
            let gone = self.store.tallies_before(oldest).take(SWEEP_ROWS as usize);
            let gone: Vec<Change> =
                gone.map(|(hour, scope)| Change::RemoveTally { hour, scope }).collect();
            if gone.is_empty() {
                return;
            }
            self.sweep_step(|| self.store.commit(gone));
        }
    }
}

/// Counts the runs that end in `changes`.
pub(super) fn counts(changes: &[Change]) -> Vec<Change> {
    ended_runs(changes).filter_map(EndedRun::of).map(Change::CountRun).collect()
}

/// Counts the stored runs, once, in a database of a server that counted none. A crash in its middle leads to
/// the same count again.
///
/// # Errors
/// When the database cannot be read.
pub(super) fn count_stored_runs(store: &Store, now: Timestamp) -> Result<(), StorageError> {
    if store.statistics()?.is_some() {
        return Ok(());
    }
    let mut since = Hour::of(now.minus(KEPT_FOR));
    // No id has an earlier time than its run.
    let first = RunId::first_at(since.start());
    let mut tallies: BTreeMap<(Hour, Scope), Tally> = BTreeMap::new();
    let mut runs = 0;
    for run in store.runs_before(None).take_while(|run| run.id >= first) {
        if runs == COUNTED_AT_START_MAX {
            since = Hour::of(run.queued_at);
            break;
        }
        runs += 1;
        for (run, scope) in
            EndedRun::of(&run).iter().flat_map(|run| run.scopes().map(|it| (run, it)))
        {
            tallies.entry((run.hour, scope)).or_default().count(run);
        }
    }
    let put = |((hour, scope), tally)| Change::PutTally { hour, scope, tally };
    let mut rows = tallies.into_iter().map(put).peekable();
    while rows.peek().is_some() {
        store.commit(rows.by_ref().take(ROWS_PER_COMMIT).collect()).wait();
    }
    let since = since.start();
    store.commit(vec![Change::PutStatistics(StatisticsRecord { since })]).wait();
    if runs > 0 {
        log::info!(runs, since:%; "counted the runs of an older server for the statistics");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::ids::{FleetId, RunIds};
    use crate::model::run::{RunRecord, Status};

    fn run(id: RunId, fleet: FleetId, status: Status) -> RunRecord {
        let queued_at = id.time();
        let started_at = status.is_final().then(|| queued_at.plus(Duration::from_secs(2)));
        RunRecord {
            fleet_id: fleet,
            status,
            started_at,
            ended_at: started_at.map(|time| time.plus(Duration::from_secs(7))),
            ..RunRecord::example(id)
        }
    }

    #[test]
    fn runs_of_an_older_server_are_counted_once_and_those_that_end_later_are_added() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _committer) = crate::store::open(directory.path()).unwrap();
        let now: Timestamp = "2026-06-15T12:30:00Z".parse().unwrap();
        let hours = |count: u64| now.minus(Duration::from_secs(count * 3600));
        let (fleet, other) = (FleetId::random(), FleetId::random());
        let mut ids = RunIds::after(None);
        let mut add = |hour: u64, fleet, status| {
            let run = run(ids.next(hours(hour), 0), fleet, status);
            store.commit(vec![Change::AddRun(run.clone())]).wait();
            run
        };
        add(40 * 24, fleet, Status::Success);
        add(30, fleet, Status::Success);
        add(1, fleet, Status::Errored);
        add(1, other, Status::Success);
        let waiting = add(0, fleet, Status::Scheduled);
        let told = |scope, hour: u64, status| {
            store.tally(Hour::of(hours(hour)), scope).map_or(0, |tally| tally.of(status))
        };
        for _ in 0..2 {
            count_stored_runs(&store, now).unwrap();
            let scope = Scope::Fleet(fleet);
            assert_eq!(told(scope, 40 * 24, Status::Success), 0, "that is too long ago");
            assert_eq!(told(scope, 30, Status::Success), 1);
            assert_eq!(told(scope, 1, Status::Errored), 1);
            assert_eq!(told(Scope::Everything, 1, Status::Success), 1);
            assert_eq!(told(scope, 0, Status::Scheduled), 0);
        }
        let ended =
            RunRecord { status: Status::Success, ..run(waiting.id, fleet, Status::Success) };
        let counted = counts(&[Change::PutRun(waiting), Change::PutRun(ended.clone())]);
        assert_eq!(counted.len(), 1);
        // Twice in one commit, and once more in the next.
        store.commit(vec![counted[0].clone(), counted[0].clone()]).wait();
        store.commit(counted).wait();
        for scope in [Scope::Everything, Scope::Project(ended.project_id), Scope::Fleet(fleet)] {
            assert_eq!(told(scope, 0, Status::Success), 3, "{scope:?}");
        }
        let tally = store.tally(Hour::of(now), Scope::Fleet(fleet)).unwrap();
        assert_eq!(tally.duration.percentile(50), Some(6_911));
        let gone: Vec<_> = store.tallies_before(Hour::of(hours(1))).collect();
        assert_eq!(gone.len(), 3, "{gone:?}");
        assert!(gone.iter().all(|(hour, _)| *hour == Hour::of(hours(30))));
        let (hour, scope) = gone[0];
        store.commit(vec![Change::RemoveTally { hour, scope }]).wait();
        assert_eq!(store.tallies_before(Hour::of(hours(1))).count(), 2);
    }
}
