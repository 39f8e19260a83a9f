//! Accepting a run into the queue, the `debounce` and the `overlap` of its fleet.

use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::debounce::Debounce;
use crate::model::ids::{FleetId, RunId};
use crate::model::overlap::Overlap;
use crate::model::run::Status;
use crate::scheduler::lane::Key;
use crate::scheduler::{Effects, Queue, QueuedRun};

/// Runs that give way to one new run under `overlap: replace` and `cancel`: the bound of one commit.
/// Usually one run gives way; a long queue from before the fleet said so goes in several commits.
pub(super) const REPLACED_PER_ARRIVAL_MAX: usize = 64;

/// Runs whose holds end in one commit. The next commit takes the next ones.
const RELEASED_PER_COMMIT_MAX: usize = 64;

/// The queue has no room for another run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

impl Queue {
    /// Accepts a run. Among the ended runs may be the run itself (`overlap: skip`) or older ones.
    ///
    /// # Errors
    /// When the queue is full.
    pub fn submit(&mut self, run: QueuedRun, now: Timestamp) -> Result<Effects, QueueFull> {
        if !self.has_room() {
            return Err(QueueFull);
        }
        let sequence = self.sequence_next;
        self.sequence_next += 1;
        let mut effects = Effects::default();
        let debounce = run.version.definition.debounce;
        match debounce.filter(|_| run.trigger.is_request()) {
            Some(debounce) => self.hold(sequence, run, debounce, now, &mut effects),
            None => {
                effects.changes.push(Change::AddRun(run.record(sequence)));
                effects.changes.push(Change::PutQueueEntry(run.entry(sequence, false)));
                self.enter(sequence, run, now, &mut effects);
            }
        }
        Ok(effects)
    }

    /// Holds a run back until no more of its key has come for a while. The run that the key holds so far
    /// gives way to it.
    fn hold(
        &mut self,
        sequence: u64,
        mut run: QueuedRun,
        debounce: Debounce,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        // The end of the hold counts from `now`, so the timer compares the clock with it.
        self.now_last = self.now_last.max(now);
        let earlier = self.lanes.take_held(run.version.fleet_id, &run.key);
        let since = earlier.as_ref().and_then(|(_, earlier)| earlier.hold).map(|hold| hold.since);
        run.set_hold(Some(debounce.hold(since.unwrap_or(now), now)));
        effects.changes.push(Change::AddRun(run.record(sequence)));
        effects.changes.push(Change::PutQueueEntry(run.entry(sequence, false)));
        if let Some((place, earlier)) = earlier {
            let reason = format!("gave way to the newer run {} (debounce)", run.id);
            effects.dismiss(place, earlier, Status::Incomplete, &reason, now);
        }
        self.lanes.push(sequence, run);
    }

    /// Lets runs wait for their start whose holds have ended at `now`: a number of them at a time.
    pub(super) fn release_held(&mut self, now: Timestamp, effects: &mut Effects) {
        for _ in 0..RELEASED_PER_COMMIT_MAX {
            let Some((sequence, mut run)) = self.lanes.take_released(now) else { break };
            run.set_hold(None);
            effects.changes.push(Change::PutQueueEntry(run.entry(sequence, false)));
            effects.changes.push(Change::PutRun(run.record(sequence)));
            self.enter(sequence, run, now, effects);
        }
    }

    /// Lets a run wait for its start, by the `overlap` rule of its fleet. It counts as newer than all
    /// others, also if it was held while they came.
    fn enter(&mut self, sequence: u64, run: QueuedRun, now: Timestamp, effects: &mut Effects) {
        let definition = &run.version.definition;
        let (overlap, limit) = (definition.overlap, definition.concurrency);
        let (fleet, key, newer) = (run.version.fleet_id, run.key.clone(), run.id);
        let places = self.lanes.places(fleet, &key, limit);
        let waiting = self.lanes.waiting_of(fleet, &key);
        match overlap {
            Overlap::Skip if waiting.len() >= places => {
                let reason = skipped_because(limit.unwrap_or_default(), &key);
                return effects.dismiss(sequence, run, Status::Incomplete, &reason, now);
            }
            Overlap::Queue | Overlap::Skip => {}
            Overlap::Replace => {
                let beyond = waiting.iter().copied().skip(places).take(REPLACED_PER_ARRIVAL_MAX);
                self.give_way(fleet, beyond.collect(), &gave_way(newer, overlap), now, effects);
            }
            Overlap::Cancel => {
                let others = limit.map_or(usize::MAX, |limit| limit.saturating_sub(1) as usize);
                self.cancel(fleet, &key, others, &gave_way(newer, overlap), now, effects);
            }
        }
        self.lanes.push(sequence, run);
    }

    /// Ends waiting runs without a start.
    fn give_way(
        &mut self,
        fleet: FleetId,
        runs: Vec<u64>,
        reason: &str,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        for sequence in runs {
            if let Some(run) = self.lanes.take(fleet, sequence) {
                effects.dismiss(sequence, run, Status::Incomplete, reason, now);
            }
        }
    }

    /// Lets the newest `others` of the key's runs go on. Active ones beyond are stopped, waiting ones
    /// end.
    fn cancel(
        &mut self,
        fleet: FleetId,
        key: &Key,
        others: usize,
        reason: &str,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let mut active = self.lanes.active_of(fleet, key);
        active.retain(|run| self.active.get(run).is_some_and(|run| !run.is_stopping()));
        let waiting = self.lanes.waiting_of(fleet, key);
        let excess = (active.len() + waiting.len()).saturating_sub(others);
        let excess = excess.min(REPLACED_PER_ARRIVAL_MAX);
        let stopped = excess.min(active.len());
        let ended: Vec<u64> = waiting.iter().copied().take(excess - stopped).collect();
        for run in &active[..stopped] {
            self.stop_active(*run, Some(reason), now, effects);
        }
        self.give_way(fleet, ended, reason, now, effects);
    }
}

fn gave_way(newer: RunId, overlap: Overlap) -> String {
    format!("gave way to the newer run {newer} (overlap: {})", overlap.word())
}

fn skipped_because(limit: u32, key: &Key) -> String {
    let of_key = key.as_ref().map(|key| format!(" with the key {key}")).unwrap_or_default();
    format!(
        "skipped: {limit} of this fleet's runs{of_key} were under way, as many as may (overlap: skip)"
    )
}
