//! Removing the runs that are kept no longer.

use std::collections::{BTreeMap, BTreeSet};

use boathook::internals::store::Store;
use boathook::internals::{
    Change, EngineError, FleetId, HistoryEntry, HistorySize, ReplayError, Retention, RunId,
    RunRecord, Timestamp,
};

use super::Life;
use crate::model::Run;

/// Removed runs that are looked for at each start.
const REMEMBERED: usize = 50;

impl Life {
    pub(super) fn sweep(&mut self) {
        let before = self.disk.lock().rows.history.clone();
        let outcome = self.call(|engine| engine.sweep());
        let removed: Vec<(FleetId, RunId)> = outcome
            .changes()
            .filter_map(|change| match change {
                Change::BeginRemoval { run, fleet } => Some((*fleet, *run)),
                _ => None,
            })
            .collect();
        self.note(format!("sweep: {} runs are removed", removed.len()));
        let now = self.machine.now();
        for (fleet, run) in &removed {
            self.assert_due(*fleet, *run, &before, now);
            self.forget(*run);
        }
        if outcome.result.is_none() {
            return;
        }
        self.assert_swept(now);
        self.check_history();
        if let Some((_, run)) = removed.first() {
            self.assert_unknown(*run);
        }
    }

    /// The rule was over for the run, by what was there before the sweep.
    fn assert_due(
        &self,
        fleet: FleetId,
        run: RunId,
        before: &BTreeMap<(FleetId, u64), HistoryEntry>,
        now: Timestamp,
    ) {
        assert!(self.model.get(run).is_some_and(Run::is_over), "{run} has not ended");
        let mut newer = before.range((fleet, 0)..=(fleet, u64::MAX)).rev();
        let place = newer.position(|(_, entry)| entry.run == run);
        let place = place.unwrap_or_else(|| panic!("{run} was removed from no history"));
        let rule = self.rule_of(fleet);
        let is_excess = rule.count().is_some_and(|count| place as u64 >= count);
        let since = before.values().find(|entry| entry.run == run).map(|entry| entry.since);
        let is_old = rule.age().zip(since).is_some_and(|(age, since)| since.plus(age) <= now);
        assert!(
            is_excess || is_old,
            "{run} was to be kept: {rule}, number {place} since {since:?}"
        );
    }

    /// Nothing is left that is to go.
    fn assert_swept(&self, now: Timestamp) {
        let rows = &self.disk.lock().rows;
        assert!(rows.removing.is_empty(), "left of runs that are gone: {:?}", rows.removing);
        let mut fleets: BTreeMap<FleetId, Vec<&HistoryEntry>> = BTreeMap::new();
        for ((fleet, _), entry) in &rows.history {
            fleets.entry(*fleet).or_default().push(entry);
        }
        for (fleet, entries) in fleets {
            let rule = self.rule_of(fleet);
            assert!(rule.count().is_none_or(|count| entries.len() as u64 <= count), "{rule}");
            let since = entries[0].since;
            assert!(rule.age().is_none_or(|age| since <= now && since.plus(age) > now), "{rule}");
        }
    }

    /// The engine has no trace of the run.
    fn assert_unknown(&self, run: RunId) {
        let engine = self.engine();
        assert!(
            engine.run(run).is_none() && engine.output(run.vessel_run(0), None).unwrap().is_none()
        );
        let replayed = engine.replay(run, None);
        assert!(matches!(replayed, Err(ReplayError::Refused(EngineError::NotFound(_)))));
        assert!(matches!(engine.stop_run(run), Err(EngineError::NotFound(_))));
    }

    fn forget(&mut self, run: RunId) {
        self.note_last_status(run);
        self.model.forget(run);
        self.machine.lock().submitted.remove(&run);
        self.outputs.retain(|(vessel_run, _), _| vessel_run.run() != run);
        self.removed.push_back(run);
        if self.removed.len() > REMEMBERED {
            self.removed.pop_front();
        }
    }

    fn rule_of(&self, fleet: FleetId) -> Retention {
        let fleet = self.fleets.iter().find(|it| it.id == fleet && it.is_alive);
        let current = fleet.and_then(|fleet| fleet.versions.last());
        current.and_then(|current| current.keep_runs).unwrap_or(self.temper.keep_runs)
    }

    /// History, counters and rows agree.
    pub(super) fn check_history(&self) {
        let rows = &self.disk.lock().rows;
        let ended = rows.runs.values().filter(|run| run.status.is_final());
        let kept: BTreeMap<RunId, u64> = ended.map(|run| (run.id, run.kept_bytes())).collect();
        let entered: BTreeMap<RunId, u64> =
            rows.history.values().map(|entry| (entry.run, entry.bytes)).collect();
        assert_eq!(entered, kept, "the history has the runs that have ended");
        assert_eq!(rows.history.len(), entered.len(), "each of them once");
        let size = HistorySize { runs: kept.len() as u64, bytes: kept.values().sum() };
        assert_eq!(self.engine().history_size(), size);
        let is_known = |run: &RunId| rows.runs.contains_key(run) || rows.removing.contains(run);
        let attempts = rows.attempts.keys().map(|(vessel_run, _)| vessel_run.run());
        let of_nobody = attempts.chain(rows.payloads.keys().copied()).find(|run| !is_known(run));
        assert_eq!(of_nobody, None, "rows of a run that is gone");
        let without = rows.runs.keys().find(|run| !rows.payloads.contains_key(run));
        assert_eq!(without, None, "a run without its payload");
    }

    /// The database agrees, and has nothing of runs that are gone.
    pub(super) fn check_stored_history(&self, store: &Store) {
        let rows = &self.disk.lock().rows;
        assert!(store.removals().eq(rows.removing.iter().copied()), "the stored removals");
        let fleets = store.fleets_with_history().expect("the database can be read");
        let stored = fleets.iter().flat_map(|fleet| {
            store.history(*fleet).map(|(number, entry)| ((*fleet, number), entry))
        });
        assert!(stored.eq(rows.history.clone()), "the stored history");
        for run in self.removed.iter().filter(|run| !rows.removing.contains(run)) {
            assert!(store.run(*run).is_none());
            assert_eq!(store.payload_chunks(*run).ok(), Some(0), "the payload of {run}");
            assert_eq!(store.attempts_of(*run).count(), 0, "the vessels of {run}");
            assert_eq!(store.output_chunks(run.vessel_run(0), 1), 0, "the output of {run}");
        }
        let mut versions = BTreeMap::new();
        for fleet in store.fleets_with_versions().expect("the database can be read") {
            versions.insert(
                fleet,
                store.version_chunks(fleet).expect("as above").into_keys().collect(),
            );
        }
        assert_eq!(versions, rows.versions, "the stored versions");
    }

    /// Two passes leave the newest versions of each fleet, and those that runs have.
    pub(super) fn prune_versions(&mut self) {
        for _ in 0..2 {
            let passes = self.server.as_mut().and_then(|server| server.passes.take());
            let Some(mut passes) = passes else { return };
            let outcome = self.call(|engine| (engine.prune_versions(&mut passes), passes));
            let Some((removed, passes)) = outcome.result else { return };
            self.note(format!("{removed} versions are removed"));
            if let Some(server) = &mut self.server {
                server.passes = Some(passes);
            }
        }
        let rows = &self.disk.lock().rows;
        for fleet in rows.fleets.values() {
            let has_it = |run: &&RunRecord| run.fleet_id == fleet.id;
            let used = rows.runs.values().filter(has_it).map(|run| run.fleet_version);
            let oldest = (fleet.version + 1).saturating_sub(self.temper.keep_versions).max(1);
            let expected: BTreeSet<u32> = used.chain(oldest..=fleet.version).collect();
            assert_eq!(rows.versions[&fleet.id], expected, "the versions of {}", fleet.name);
        }
    }

    /// After a start: the versions of fleets that are gone are so, too, when no run has them.
    pub(super) fn check_versions(&self) {
        let rows = &self.disk.lock().rows;
        for fleet in rows.versions.keys().filter(|fleet| !rows.fleets.contains_key(fleet)) {
            let has_runs = rows.runs.values().any(|run| run.fleet_id == *fleet);
            assert!(has_runs, "versions of {fleet} without a use");
        }
    }
}
