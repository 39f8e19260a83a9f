//! The queue as a person sees it: what waits, the next start first, and what for.

use crate::engine::overview::Load;
use crate::engine::{Decisions, Engine, Phase, Reach};
use crate::model::clock::Timestamp;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::ids::{FleetId, RunId};
use crate::model::run::{RunRecord, shorten};
use crate::scheduler::{Wait, WaitCause};

/// What waits, and how busy the server is.
#[derive(Debug)]
pub struct QueueView {
    pub load: Load,
    pub waits: Vec<WaitView>,
    /// More waits than is shown.
    pub has_more: bool,
}

/// A waiting run or vessel, with words for its cause.
#[derive(Debug)]
pub struct WaitView {
    pub wait: Wait,
    /// For a person, without the time in `until`.
    pub reason: String,
}

/// Why a run that could start does not.
#[derive(Clone, Copy, Debug)]
enum Obstacle<'a> {
    Paused(&'a str),
    Leftovers,
    Stopping,
    Busy(usize),
    Nothing,
}

impl WaitView {
    /// The word of the API for its cause.
    pub fn cause(&self) -> &'static str {
        match self.wait.cause {
            WaitCause::Worker => "worker",
            WaitCause::Run { .. } => "concurrency",
            WaitCause::CrashLoopingRun => "crash",
            WaitCause::Debounce { .. } => "debounce",
            WaitCause::Retry { .. } => "retry",
        }
    }

    /// Until when it waits, if a time is what it waits for.
    pub fn until(&self) -> Option<Timestamp> {
        match self.wait.cause {
            WaitCause::Debounce { until: time } | WaitCause::Retry { at: time } => Some(time),
            _ => None,
        }
    }

    /// The run whose end it waits for.
    pub fn waits_for(&self) -> Option<RunId> {
        match self.wait.cause {
            WaitCause::Run { run, .. } => Some(run),
            _ => None,
        }
    }
}

impl Engine {
    /// What waits within `reach`, of all fleets or of one: at most `limit` of it.
    pub fn queue_view(&self, fleet: Option<FleetId>, reach: &Reach, limit: usize) -> QueueView {
        let load = self.load();
        let has_fleet =
            |it: FleetId| fleet.is_none_or(|fleet| it == fleet) && reach.has_fleet(it, None);
        let decisions = self.decisions();
        let mut waits = decisions.queue.waits(has_fleet, limit + 1);
        let has_more = waits.len() > limit;
        waits.truncate(limit);
        let obstacle = decisions.obstacle(load.workers);
        let told = |wait: Wait| {
            let reason = words(wait.cause, wait.key.as_ref(), obstacle);
            WaitView { wait, reason }
        };
        let waits = waits.into_iter().map(told).collect();
        // What is shown of a run is durable: its commit was handed over before the lock was released.
        let commit = self.store.commit(Vec::new());
        drop(decisions);
        commit.wait();
        QueueView { load, waits, has_more }
    }

    /// What a run waits for that has not started, for a person.
    pub(super) fn queued_because(&self, run: &RunRecord) -> Option<String> {
        let decisions = self.decisions();
        let cause = decisions.queue.wait_of(run.fleet_id, run.id)?;
        Some(shorten(&words(cause, run.key().as_ref(), decisions.obstacle(self.settings.workers))))
    }
}

impl Decisions {
    fn obstacle(&self, workers: usize) -> Obstacle<'_> {
        if self.phase != Phase::Serving {
            return Obstacle::Stopping;
        }
        match self.launching.shown_reason() {
            Some(reason) => Obstacle::Paused(reason),
            None if self.launching.is_held() => Obstacle::Leftovers,
            None if self.queue.depth().running >= workers => Obstacle::Busy(workers),
            None => Obstacle::Nothing,
        }
    }
}

/// What a run or a vessel of this key waits for, for a person.
fn words(cause: WaitCause, key: Option<&ConcurrencyKey>, obstacle: Obstacle<'_>) -> String {
    let of_key = key.map(|key| format!(" of key {key}")).unwrap_or_default();
    match cause {
        WaitCause::Run { run, concurrency } => {
            let id = run.to_string();
            let end = id.rsplit('-').next().unwrap_or_default();
            format!("waits for run {end}: concurrency {concurrency}{of_key}")
        }
        WaitCause::Debounce { .. } => format!("waits for more{of_key} (debounce)"),
        WaitCause::Retry { .. } => "waits for its next attempt (retry)".to_owned(),
        WaitCause::CrashLoopingRun => {
            "waits for its turn: runs that a crash interrupted go one at a time".to_owned()
        }
        WaitCause::Worker => match obstacle {
            Obstacle::Paused(reason) => format!("launching is paused: {reason}"),
            Obstacle::Leftovers => {
                "waits until what a crashed server left running has ended".to_owned()
            }
            Obstacle::Stopping => "waits for the next server: this one is stopping".to_owned(),
            Obstacle::Busy(1) => "the one worker is busy".to_owned(),
            Obstacle::Busy(workers) => format!("all {workers} workers are busy"),
            Obstacle::Nothing => "starts next".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_words() {
        let run: RunId = "018bcfe5-6800-7000-8000-00aabbccddee".parse().unwrap();
        let key = ConcurrencyKey::new("main");
        let told = |cause, obstacle| words(cause, Some(&key), obstacle);
        let of_run = WaitCause::Run { run, concurrency: 1 };
        assert_eq!(
            words(of_run, None, Obstacle::Nothing),
            "waits for run 00aabbccddee: concurrency 1"
        );
        assert_eq!(
            told(of_run, Obstacle::Nothing),
            "waits for run 00aabbccddee: concurrency 1 of key main"
        );
        let until = Timestamp::from_millis(1);
        let debounce = WaitCause::Debounce { until };
        assert_eq!(told(debounce, Obstacle::Nothing), "waits for more of key main (debounce)");
        assert!(told(WaitCause::Retry { at: until }, Obstacle::Nothing).contains("next attempt"));
        let worker = |obstacle| told(WaitCause::Worker, obstacle);
        assert_eq!(worker(Obstacle::Busy(16)), "all 16 workers are busy");
        assert_eq!(worker(Obstacle::Busy(1)), "the one worker is busy");
        assert_eq!(worker(Obstacle::Nothing), "starts next");
        assert_eq!(worker(Obstacle::Paused("no inodes")), "launching is paused: no inodes");
        assert!(worker(Obstacle::Stopping).contains("this one is stopping"));
        assert!(worker(Obstacle::Leftovers).contains("crashed server"));
    }
}
