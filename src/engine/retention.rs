//! The sweeper removes runs that are kept no longer.
//!
//! 1. One commit removes the run's row, its index entries and its history entry, and adds a mark. From
//!    then on there is no such run.
//! 2. Files go next, then the other rows in commits of bounded size.
//! 3. The mark goes with the last of them. After a crash, the mark tells the next server to continue.
//!
//! The sweeper waits for each of its commits, so that an accept waits for one of them at most. It also
//! passes over the remembered events ([`events`](crate::engine::events)), over the versions of fleets
//! ([`versions`](crate::engine::versions)) and over the hours of the
//! [`statistics`](crate::engine::statistics) once in a while.

use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::{Decisions, Engine, Phase, VersionPasses, history};
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::run::{OutputPlace, RunRecord};
use crate::os::threads;
use crate::runner::output::{remove_output, sync_output_directory};
use crate::store::PendingCommit;

/// The pause of the sweeper after a removal: at a thousand runs per second the next step removes a
/// thousand runs, and an idle server writes at most once per pause.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// Runs removed in one commit. Each is four rows.
const SWEEP_RUNS: usize = 32;
/// Rows in one commit of a removal: one or two milliseconds, the longest wait of an accept for the
/// sweeper.
pub(super) const SWEEP_ROWS: u32 = 128;

/// Time between two passes over the remembered events. A pass reads a million of them in some seconds.
const EVENTS_PASS_INTERVAL: Duration = Duration::from_secs(3600);

/// Changes that remove the remains of runs, gathered into commits.
struct Sweep<'a> {
    engine: &'a Engine,
    changes: Vec<Change>,
    /// Rows that `changes` touch.
    rows: u32,
    /// Output files have been removed since the directory was synced.
    has_removed_files: bool,
}

impl Decisions {
    /// Enters a finished run without undelivered notifications into the history.
    pub(super) fn enter_history(&mut self, run: &RunRecord, now: Timestamp) -> Change {
        let entered = self.history.enter(run, now);
        self.sweep_is_due |= self.history.is_news(run.fleet_id);
        entered
    }

    /// Whether the sweeper has to look at runs or events before their time.
    fn has_sweep_due(&self) -> bool {
        self.sweep_is_due || self.events.is_pass_due()
    }
}

impl Engine {
    /// Starts the sweeper. It ends once the engine drains.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn start_sweeper(
        self: &Arc<Self>,
        versions: VersionPasses,
    ) -> std::io::Result<JoinHandle<()>> {
        let engine = Arc::clone(self);
        threads::vital("sweeper").spawn(move || engine.sweep_when_due(versions))
    }

    fn sweep_when_due(&self, mut versions: VersionPasses) {
        // The first pass fills the filter of the events.
        let mut next_pass = Instant::now();
        loop {
            let pause = Instant::now() + SWEEP_PAUSE;
            let mut has_worked = self.sweep();
            if Instant::now() >= next_pass || self.decisions().events.is_pass_due() {
                self.sweep_events();
                self.sweep_statistics();
                next_pass = Instant::now() + EVENTS_PASS_INTERVAL;
                has_worked = true;
            }
            if versions.wait().is_zero() {
                self.prune_versions(&mut versions);
            }
            if has_worked {
                self.pause_until(pause);
            }
            let mut decisions = self.decisions();
            loop {
                if decisions.phase != Phase::Serving {
                    return;
                }
                let until_pass = next_pass.saturating_duration_since(Instant::now());
                let until_pass = until_pass.min(versions.wait());
                let until_run = decisions.history.next_due(self.clock.now());
                let wait = until_run.map_or(until_pass, |wait| wait.min(until_pass));
                if decisions.has_sweep_due() || wait.is_zero() {
                    break;
                }
                decisions.sweeper_waits = true;
                let waited = self.sweeps.wait_timeout(decisions, wait);
                decisions = waited.unwrap_or_else(|_| super::poisoned()).0;
                decisions.sweeper_waits = false;
            }
        }
    }

    /// Pauses the sweeper, so that more runs fall due and are removed together.
    fn pause_until(&self, end: Instant) {
        let mut decisions = self.decisions();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || decisions.phase != Phase::Serving {
                return;
            }
            let waited = self.sweeps.wait_timeout(decisions, left);
            decisions = waited.unwrap_or_else(|_| super::poisoned()).0;
        }
    }

    /// Wakes the sweeper if a run may be due earlier than it waits for.
    pub(super) fn wake_sweeper(&self, decisions: &Decisions) {
        if decisions.has_sweep_due() && decisions.sweeper_waits {
            self.sweeps.notify_one();
        }
    }

    /// Lets the sweeper read the rules of the fleets again.
    pub(super) fn keep_rules_changed(&self) {
        let mut decisions = self.decisions();
        decisions.sweep_is_due = true;
        self.wake_sweeper(&decisions);
    }

    /// Removes the runs that are due, and the remains that an earlier server has left. Returns whether
    /// there were any. One step of the sweeper.
    pub fn sweep(&self) -> bool {
        self.decisions().sweep_is_due = false;
        let own_rules = self.catalog().keep_rules();
        self.decisions().history.set_rules(own_rules);
        let mut has_removed = self.finish_removals();
        while let Some(fleet) = self.next_to_sweep() {
            self.begin_removals(fleet);
            self.finish_removals();
            has_removed = true;
        }
        has_removed
    }

    fn next_to_sweep(&self) -> Option<FleetId> {
        let decisions = self.decisions();
        let is_serving = decisions.phase == Phase::Serving;
        is_serving.then(|| decisions.history.due_fleet(self.clock.now())).flatten()
    }

    /// Begins the removal of some due runs of `fleet`.
    fn begin_removals(&self, fleet: FleetId) {
        let oldest = || self.store.history(fleet).take(SWEEP_RUNS).collect::<Vec<_>>();
        let mut found = oldest();
        if found.is_empty() {
            // The entries may be on their way to the disk.
            self.store.commit(Vec::new()).wait();
            found = oldest();
        }
        let now = self.clock.now();
        if found.iter().any(|(_, entry)| entry.since > now) {
            self.set_history_right(fleet, now);
            found = oldest();
        }
        let mut removed = Vec::new();
        self.sweep_step(|| {
            let mut decisions = self.decisions();
            let changes = decisions.history.take_due(fleet, &found, self.clock.now());
            removed.extend(changes.iter().filter_map(|change| match change {
                Change::BeginRemoval { run, .. } => Some(*run),
                _ => None,
            }));
            self.store.commit(changes)
        });
        self.latest_ends.forget(fleet, &removed);
    }

    /// Sets the times of entries to `now` that a clock ahead of time has left.
    fn set_history_right(&self, fleet: FleetId, now: Timestamp) {
        let mut ahead = history::set_right(self.store.history(fleet), now);
        loop {
            let entries = ahead.by_ref().take(SWEEP_RUNS);
            let put = |(number, entry)| Change::PutHistory { fleet, number, entry };
            let changes: Vec<Change> = entries.map(put).collect();
            if changes.is_empty() {
                return;
            }
            self.sweep_step(|| self.store.commit(changes));
        }
    }

    /// Makes one commit of a removal durable, and pauses as long as that has taken: accepts have at
    /// least half of the time without the sweeper.
    pub(super) fn sweep_step(&self, commit: impl FnOnce() -> PendingCommit) {
        let began = Instant::now();
        let turn = self.slices.lock().unwrap_or_else(|_| super::poisoned());
        let commit = commit();
        commit.wait();
        drop(turn);
        thread::sleep(began.elapsed());
    }

    /// Removes the remains of all marked runs.
    fn finish_removals(&self) -> bool {
        let mut has_removed = false;
        loop {
            let runs: Vec<RunId> = self.store.removals().take(SWEEP_RUNS).collect();
            if runs.is_empty() {
                return has_removed;
            }
            let mut sweep =
                Sweep { engine: self, changes: Vec::new(), rows: 0, has_removed_files: false };
            for run in runs {
                if self.decisions().phase != Phase::Serving {
                    return has_removed;
                }
                sweep.remove(run);
            }
            sweep.commit();
            has_removed = true;
        }
    }
}

/// The steps in which a payload of this many chunks is removed, each of up to [`SWEEP_ROWS`] rows. From
/// the end, so that the last stored chunk tells how many remain after a crash.
pub(super) fn removal_steps(chunks: u32) -> impl Iterator<Item = Range<u32>> {
    let ends = (1..=chunks).rev().step_by(SWEEP_ROWS as usize);
    ends.map(|end| end.saturating_sub(SWEEP_ROWS)..end)
}

impl Sweep<'_> {
    /// Removes the remains of `run`, its mark last.
    fn remove(&mut self, run: RunId) {
        let engine = self.engine;
        for (vessel_run, attempt, record) in engine.store.attempts_of(run) {
            let place = record.map(|record| record.output.place);
            // An attempt that a crash has interrupted may have a file that its record does not name.
            if place != Some(OutputPlace::Rows) {
                self.remove_file(vessel_run, attempt);
            }
            let output_chunks = match place {
                Some(OutputPlace::Nowhere | OutputPlace::File) => 0,
                _ => engine.store.output_chunks(vessel_run, attempt),
            };
            let change = Change::RemoveAttempt { vessel_run, attempt, output_chunks };
            self.push(change, output_chunks + 1);
        }
        if engine.launcher.has_directory(run) {
            engine.launcher.wipe_directory(run);
        }
        for record in engine.store.notifications_of(run) {
            self.push(Change::RemoveNotification { run, number: record.number }, 1);
        }
        let chunks = engine.store.payload_chunks(run).unwrap_or_else(|error| {
            log::error!(run:%, error:%; "a payload cannot be read");
            0
        });
        for chunks in removal_steps(chunks) {
            let rows = chunks.end - chunks.start;
            self.push(Change::RemovePayload { run, chunks }, rows);
        }
        self.push(Change::EndRemoval(run), 1);
    }

    fn remove_file(&mut self, vessel_run: VesselRunId, attempt: u32) {
        match remove_output(&self.engine.output_dir, vessel_run, attempt) {
            Ok(was_there) => self.has_removed_files |= was_there,
            Err(error) => {
                log::warn!(vessel_run:%, attempt, error:%; "an output file could not be removed");
            }
        }
    }

    fn push(&mut self, change: Change, rows: u32) {
        if self.rows + rows > SWEEP_ROWS {
            self.commit();
        }
        self.changes.push(change);
        self.rows += rows;
    }

    fn commit(&mut self) {
        if std::mem::take(&mut self.has_removed_files)
            && let Err(error) = sync_output_directory(&self.engine.output_dir)
        {
            log::warn!(error:%; "removed output files could not be synced: a power loss may bring them back");
        }
        self.rows = 0;
        let changes = std::mem::take(&mut self.changes);
        if !changes.is_empty() {
            self.engine.sweep_step(|| self.engine.store.commit(changes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_removed_from_its_end_in_steps_of_bounded_size() {
        for chunks in [0, 1, SWEEP_ROWS - 1, SWEEP_ROWS, SWEEP_ROWS + 1, 6_400] {
            let mut end = chunks;
            for chunks in removal_steps(chunks) {
                assert!(chunks.end == end && !chunks.is_empty());
                assert!(chunks.end - chunks.start <= SWEEP_ROWS);
                end = chunks.start;
            }
            assert_eq!(end, 0, "of {chunks}");
        }
    }
}
