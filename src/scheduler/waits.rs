//! What waits for a start, in the order of the starts, and what for. Reads only.
//!
//! The order is that of [`Queue::claim`] as things are now: what a worker may start first, then the runs
//! that wait for other runs, then what waits for a time. A queue may hold a million runs, so a look
//! stops after some thousands.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::model::clock::Timestamp;
use crate::model::fleet::FleetVersion;
use crate::model::ids::{FleetId, RunId};
use crate::scheduler::active::VesselState;
use crate::scheduler::lane::{Key, Lane};
use crate::scheduler::{Queue, QueuedRun, VesselOfRun};

/// Runs and vessels that one look takes in: a few milliseconds under the lock of the decisions.
const LOOKED_AT_MAX: usize = 20_000;

/// A run, or a vessel of a run that has started, that waits.
#[derive(Clone, Debug)]
pub struct Wait {
    pub run: RunId,
    pub version: Arc<FleetVersion>,
    /// The vessel's index in the version; `None`: the run has not started.
    pub vessel: Option<usize>,
    pub key: Key,
    /// Since when it waits.
    pub since: Timestamp,
    pub cause: WaitCause,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCause {
    /// A worker.
    Worker,
    /// The end of a run: `concurrency` of the fleet allows so many runs of its key.
    Run { run: RunId, concurrency: u32 },
    /// Another run with a crash behind it has a vessel running: these go one at a time.
    CrashLoopingRun,
    /// More requests of its key, until then.
    Debounce { until: Timestamp },
    /// The time of its next attempt.
    Retry { at: Timestamp },
}

/// The runs of one key ahead of the next one, and the limit that one of them waits for.
#[derive(Debug)]
pub(super) struct Ahead {
    runs: Vec<RunId>,
    limit: Option<u32>,
}

impl Ahead {
    /// Before the first waiting run. `active`: the runs that have started, the oldest first.
    pub(super) fn of(active: Vec<RunId>) -> Self {
        Self { runs: active, limit: None }
    }

    /// What the next waiting run of the key waits for.
    pub(super) fn cause_of_next(&mut self, run: &QueuedRun) -> WaitCause {
        if let Some(hold) = run.hold {
            return WaitCause::Debounce { until: hold.until };
        }
        let ahead = self.runs.len();
        let limit = run.version.definition.concurrency;
        let own = limit.filter(|limit| ahead >= *limit as usize);
        // Without a limit of its own it still waits behind one that has.
        let behind = own.map_or(1, |limit| limit as usize);
        self.limit = own.or(self.limit);
        let last = ahead.checked_sub(behind).and_then(|place| self.runs.get(place).copied());
        self.runs.push(run.id);
        match (self.limit, last) {
            (Some(concurrency), Some(run)) => WaitCause::Run { run, concurrency },
            _ => WaitCause::Worker,
        }
    }
}

/// Waiting runs and vessels, sorted by what they wait for.
#[derive(Default)]
struct Waits {
    /// By fleet and in its order, with their priorities.
    startable: HashMap<FleetId, VecDeque<(i8, Wait)>>,
    crash_looping: VecDeque<Wait>,
    /// With sequence numbers.
    for_runs: Vec<(u64, Wait)>,
    for_times: Vec<(Timestamp, Wait)>,
}

impl Queue {
    /// What waits of the fleets that `has_fleet` names, the next start first: at most `max` of it.
    pub fn waits(&self, has_fleet: impl Fn(FleetId) -> bool, max: usize) -> Vec<Wait> {
        let mut left = LOOKED_AT_MAX;
        let mut waits = Waits::default();
        self.look_at_crash_looping(&has_fleet, &mut left, &mut waits);
        for (fleet, lane) in self.lanes.iter().filter(|(fleet, _)| has_fleet(*fleet)) {
            self.look_at_lane(fleet, lane, max, &mut left, &mut waits);
        }
        self.look_at_retries(&has_fleet, max, &mut left, &mut waits);
        let Waits { startable, crash_looping, mut for_runs, mut for_times } = waits;
        let mut ordered = self.in_turn(startable, crash_looping, max);
        for_runs.sort_by_key(|(sequence, _)| *sequence);
        for_times.sort_by_key(|(time, wait)| (*time, wait.run));
        ordered.extend(for_runs.into_iter().map(|(_, wait)| wait));
        ordered.extend(for_times.into_iter().map(|(_, wait)| wait));
        ordered.truncate(max);
        ordered
    }

    /// What a run of this fleet waits for that has not started. `None`: it does not wait, or behind more
    /// runs than a look takes in.
    pub fn wait_of(&self, fleet: FleetId, run: RunId) -> Option<WaitCause> {
        let waits = self.lanes.get(fleet)?.waits().take(LOOKED_AT_MAX);
        waits.into_iter().find(|(_, queued, _)| queued.id == run).map(|(_, _, cause)| cause)
    }

    fn look_at_crash_looping(
        &self,
        has_fleet: &impl Fn(FleetId) -> bool,
        left: &mut usize,
        waits: &mut Waits,
    ) {
        let first = || self.ready_crash_looping.front().map(|(run, _)| *run);
        let next = self.crash_looping_running.or_else(first);
        for place in self.ready_crash_looping.iter().take(*left) {
            *left -= 1;
            let cause =
                if Some(place.0) == next { WaitCause::Worker } else { WaitCause::CrashLoopingRun };
            let Some((sequence, wait)) = self.vessel_wait(*place, cause, has_fleet) else {
                continue;
            };
            match cause {
                WaitCause::Worker => waits.crash_looping.push_back(wait),
                _ => waits.for_runs.push((sequence, wait)),
            }
        }
    }

    fn look_at_lane(
        &self,
        fleet: FleetId,
        lane: &Lane,
        max: usize,
        left: &mut usize,
        waits: &mut Waits,
    ) {
        let mut startable = VecDeque::new();
        for (place, priority) in lane.ready.iter().take(max.min(*left)) {
            *left -= 1;
            let wait = self.vessel_wait(*place, WaitCause::Worker, &|_| true);
            startable.extend(wait.map(|(_, wait)| (*priority, wait)));
        }
        for (sequence, run, cause) in lane.waits().take(max.min(*left)) {
            *left -= 1;
            let (version, key) = (Arc::clone(&run.version), run.key.clone());
            let wait =
                Wait { run: run.id, version, vessel: None, key, since: run.queued_at, cause };
            match cause {
                WaitCause::Worker => {
                    startable.push_back((run.version.definition.priority, wait));
                }
                WaitCause::Debounce { until: time } | WaitCause::Retry { at: time } => {
                    waits.for_times.push((time, wait));
                }
                WaitCause::Run { .. } | WaitCause::CrashLoopingRun => {
                    waits.for_runs.push((sequence, wait));
                }
            }
        }
        waits.startable.insert(fleet, startable);
    }

    fn look_at_retries(
        &self,
        has_fleet: &impl Fn(FleetId) -> bool,
        max: usize,
        left: &mut usize,
        waits: &mut Waits,
    ) {
        let retries = self.retries.iter().take(*left).filter_map(|(due, run, vessel)| {
            let cause = WaitCause::Retry { at: *due };
            let (_, wait) = self.vessel_wait((*run, *vessel), cause, has_fleet)?;
            Some((*due, wait))
        });
        waits.for_times.extend(retries.take(max));
    }

    /// A vessel of an active run that waits, and the sequence number of the run. `None`: it was stopped,
    /// or its fleet is left out.
    fn vessel_wait(
        &self,
        (run, vessel): VesselOfRun,
        cause: WaitCause,
        has_fleet: &impl Fn(FleetId) -> bool,
    ) -> Option<(u64, Wait)> {
        let active = self.active.get(&run).filter(|active| has_fleet(active.record.fleet_id))?;
        let (version, key) = (Arc::clone(&active.version), active.record.key());
        let state = active.vessels.get(vessel)?;
        let ended = || state.record.as_ref().and_then(|record| record.ended_at);
        let since = match state.state {
            VesselState::Ready { since } => since,
            VesselState::AwaitsRetry { .. } => ended().unwrap_or(active.record.queued_at),
            _ => return None,
        };
        Some((
            active.record.sequence,
            Wait { run, version, vessel: Some(vessel), key, since, cause },
        ))
    }

    /// The first `max` starts in the order in which workers would make them.
    fn in_turn(
        &self,
        mut startable: HashMap<FleetId, VecDeque<(i8, Wait)>>,
        mut crash_looping: VecDeque<Wait>,
        max: usize,
    ) -> Vec<Wait> {
        let mut fairness = self.lanes.fairness().clone();
        let mut next_of_lanes = || {
            while let Some(fleet) = fairness.next() {
                let lane = startable.get_mut(&fleet);
                let taken = lane.and_then(|lane| Some((lane.pop_front()?, lane.front())));
                // A fleet has a turn also when all that it had was stopped, or is left out here.
                let priority =
                    taken.as_ref().and_then(|(_, next)| next.map(|(priority, _)| *priority));
                if taken.is_some() {
                    fairness.served(fleet);
                }
                fairness.set(fleet, priority);
                if let Some(((_, wait), _)) = taken {
                    return Some(wait);
                }
            }
            None
        };
        let mut is_turn_of_lanes = self.crash_looping_was_last;
        let mut ordered = Vec::new();
        while ordered.len() < max {
            let next = match is_turn_of_lanes {
                true => next_of_lanes().or_else(|| crash_looping.pop_front()),
                false => crash_looping.pop_front().or_else(&mut next_of_lanes),
            };
            let Some(wait) = next else { break };
            is_turn_of_lanes = !is_turn_of_lanes;
            ordered.push(wait);
        }
        ordered
    }
}
