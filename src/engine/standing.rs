//! How each fleet is doing: whether the newest of its runs that have ended failed, and how many of its runs
//! wait and are active.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use crate::engine::catalog::{FleetView, Reach};
use crate::engine::{Engine, poisoned};
use crate::model::ids::{FleetId, RunId};
use crate::model::run::{RunRecord, Status};

/// Runs of a fleet, newest first, among which one that has ended is looked for. Those before it wait or are
/// active.
const RUNS_READ_MAX: usize = 64;

/// A fleet and how it is doing.
pub struct FleetStanding {
    pub view: FleetView,
    /// Whether the newest of its runs that have ended is Errored.
    pub is_failing: bool,
    /// Runs that wait, held ones included.
    pub waiting: usize,
    /// Runs that have started and not ended.
    pub active: usize,
}

/// The newest run of each fleet that has ended; `None` where there is none. A fleet has an entry from the
/// first question about it on. Its run is read from the database once, and each durable end keeps the entry
/// current.
#[derive(Default)]
pub(super) struct LatestEnds(Mutex<HashMap<FleetId, LatestEnd>>);

type LatestEnd = Option<(RunId, Status)>;

impl LatestEnds {
    /// Notes the durable end of a run.
    pub(super) fn note(&self, run: &RunRecord) {
        if let Some(latest) = self.entries().get_mut(&run.fleet_id) {
            *latest = newer(*latest, Some((run.id, run.status)));
        }
    }

    /// Forgets the entry of a fleet whose run is among `removed`, durably: the next question reads another one.
    pub(super) fn forget(&self, fleet: FleetId, removed: &[RunId]) {
        let mut entries = self.entries();
        let latest = entries.get(&fleet).copied().flatten();
        if latest.is_some_and(|(run, _)| removed.contains(&run)) {
            entries.remove(&fleet);
        }
    }

    /// The entries of `fleets`, in their order, which are all fleets that there are. `read` reads one that
    /// is missing.
    fn of(&self, fleets: &[FleetId], read: impl Fn(FleetId) -> LatestEnd) -> Vec<LatestEnd> {
        // 1. Make the missing entries, so that the ends of the next moments are noted in them.
        let mut entries = self.entries();
        let is_missing = |fleet: &FleetId| !entries.contains_key(fleet);
        let missing: Vec<FleetId> = fleets.iter().copied().filter(is_missing).collect();
        entries.extend(missing.iter().map(|fleet| (*fleet, None)));
        drop(entries);
        // 2. Read what happened before.
        let read: Vec<_> = missing.into_iter().map(|fleet| (fleet, read(fleet))).collect();
        // 3. The newer one counts. Fleets that are gone have no entry.
        let mut entries = self.entries();
        for (fleet, read) in read {
            let latest = entries.entry(fleet).or_default();
            *latest = newer(*latest, read);
        }
        if entries.len() > fleets.len() {
            let known: HashSet<FleetId> = fleets.iter().copied().collect();
            entries.retain(|fleet, _| known.contains(fleet));
        }
        fleets.iter().map(|fleet| entries.get(fleet).copied().flatten()).collect()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<FleetId, LatestEnd>> {
        self.0.lock().unwrap_or_else(|_| poisoned())
    }
}

/// The end with the greater id: its run was accepted later.
fn newer(one: LatestEnd, other: LatestEnd) -> LatestEnd {
    if one.map(|(id, _)| id) < other.map(|(id, _)| id) { other } else { one }
}

impl Engine {
    /// Every fleet within `reach` and how it is doing, in no order.
    pub fn fleet_standings(&self, reach: &Reach) -> Vec<FleetStanding> {
        let views = self.catalog().views();
        let at_work: HashMap<FleetId, (usize, usize)> = {
            let decisions = self.decisions();
            let fleets = decisions.queue.fleets_at_work();
            fleets.map(|(fleet, waiting, active)| (fleet, (waiting, active))).collect()
        };
        let fleets: Vec<FleetId> = views.iter().map(|view| view.fleet.id).collect();
        let ends = self.latest_ends.of(&fleets, |fleet| self.latest_end(fleet));
        let all = views.into_iter().zip(ends).map(|(view, end)| {
            let (waiting, active) = at_work.get(&view.fleet.id).copied().unwrap_or_default();
            let is_failing = end.is_some_and(|(_, status)| status == Status::Errored);
            FleetStanding { view, is_failing, waiting, active }
        });
        all.filter(|standing| reach.has_fleet(standing.view.fleet.id, None)).collect()
    }

    /// The newest run of the fleet that has ended, as the database has it.
    fn latest_end(&self, fleet: FleetId) -> LatestEnd {
        let mut latest = self.store.runs_of_fleet_before(fleet, None).take(RUNS_READ_MAX);
        let ended = latest.find(|run| run.status.is_final());
        if ended.is_some() {
            self.store.confirm();
        }
        ended.map(|run| (run.id, run.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;

    fn run(at: i64) -> RunId {
        RunId::first_at(Timestamp::from_millis(at))
    }

    #[test]
    fn the_newest_run_counts_whichever_ended_last() {
        let (early, late) = (Some((run(1), Status::Success)), Some((run(2), Status::Errored)));
        for (one, other) in [(early, late), (late, early), (None, late), (late, None)] {
            assert_eq!(newer(one, other), late);
        }
    }

    #[test]
    fn entries_are_read_once_and_those_of_gone_fleets_go() {
        let (ends, fleet, gone) = (LatestEnds::default(), FleetId::random(), FleetId::random());
        let read = |_| Some((run(1), Status::Errored));
        assert_eq!(ends.of(&[fleet, gone], read).len(), 2);
        let again = ends.of(&[fleet], |_| panic!("read again"));
        assert_eq!(again, [Some((run(1), Status::Errored))]);
        assert_eq!(ends.entries().len(), 1);
        ends.forget(fleet, &[run(2)]);
        assert_eq!(ends.of(&[fleet], |_| None), again);
        ends.forget(fleet, &[run(1)]);
        assert_eq!(ends.of(&[fleet], |_| None), [None]);
    }
}
