//! A lane per fleet: the ready vessels of its active runs, then its waiting runs in the order of
//! acceptance. [`Fairness`] picks the next lane.
//!
//! A lane exists as long as a run of its fleet waits or is active. After each change of a lane its
//! fleet waits for a turn if and only if the lane has something to start.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::model::ids::{FleetId, RunId};
use crate::model::run::PayloadSize;
use crate::scheduler::fairness::Fairness;
use crate::scheduler::{QueuedRun, VesselOfRun};

/// See the module.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<FleetId, Lane>,
    fairness: Fairness,
    waiting: usize,
}

/// What a lane starts next.
#[derive(Debug)]
pub enum NextStart {
    /// A vessel of an active run. It may have been stopped since it became ready.
    Vessel(VesselOfRun),
    /// A waiting run and its sequence number.
    Run(u64, QueuedRun),
}

#[derive(Debug, Default)]
struct Lane {
    /// Ready vessels of active runs with their priorities. Some may have been stopped since.
    ready: VecDeque<(VesselOfRun, i8)>,
    /// Waiting runs by sequence number.
    waiting: BTreeMap<u64, QueuedRun>,
    /// Active runs of the fleet.
    active: usize,
    /// Their running vessels.
    running: usize,
    /// Bytes of the payloads of its waiting and active runs.
    payload_bytes: u64,
}

impl Lane {
    /// How many more runs may start within `limit`.
    fn places(&self, limit: Option<u32>) -> usize {
        limit.map_or(usize::MAX, |limit| (limit as usize).saturating_sub(self.active))
    }

    /// The waiting run that may start next.
    fn startable(&self) -> Option<&QueuedRun> {
        let (_, next) = self.waiting.first_key_value()?;
        (self.places(next.version.definition.concurrency) > 0).then_some(next)
    }

    /// The priority of its next start, if there is one.
    fn priority(&self) -> Option<i8> {
        match self.ready.front() {
            Some((_, priority)) => Some(*priority),
            None => self.startable().map(|next| next.version.definition.priority),
        }
    }

    fn take(&mut self) -> Option<NextStart> {
        if let Some((vessel, _)) = self.ready.pop_front() {
            return Some(NextStart::Vessel(vessel));
        }
        self.startable()?;
        let (sequence, run) = self.waiting.pop_first()?;
        self.active += 1;
        Some(NextStart::Run(sequence, run))
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.active == 0
    }
}

impl Lanes {
    /// Waiting runs of all fleets.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// The oldest waiting run.
    pub fn first_waiting(&self) -> Option<&QueuedRun> {
        let firsts = self.lanes.values().filter_map(|lane| lane.waiting.first_key_value());
        firsts.min_by_key(|(sequence, _)| **sequence).map(|(_, run)| run)
    }

    /// Runs of the fleet without a running vessel. As in [`Queue::has_room`](super::Queue::has_room), a
    /// run with several running vessels hides as many others.
    pub fn held(&self, fleet: FleetId) -> usize {
        let held = |lane: &Lane| lane.waiting.len() + lane.active.saturating_sub(lane.running);
        self.lanes.get(&fleet).map_or(0, held)
    }

    /// Bytes of the payloads of the fleet's waiting and active runs.
    pub fn payload_bytes(&self, fleet: FleetId) -> u64 {
        self.lanes.get(&fleet).map_or(0, |lane| lane.payload_bytes)
    }

    /// Whether a lane has something to start.
    pub fn has_next(&self) -> bool {
        !self.fairness.is_empty()
    }

    /// Adds a waiting run.
    pub fn push(&mut self, sequence: u64, run: QueuedRun) {
        let fleet = run.version.fleet_id;
        let lane = self.lanes.entry(fleet).or_default();
        lane.payload_bytes = lane.payload_bytes.saturating_add(run.payload.bytes());
        lane.waiting.insert(sequence, run);
        self.waiting += 1;
        self.update(fleet);
    }

    /// Adds a ready vessel of an active run.
    pub fn push_ready(&mut self, fleet: FleetId, vessel: VesselOfRun, priority: i8) {
        self.lanes.entry(fleet).or_default().ready.push_back((vessel, priority));
        self.update(fleet);
    }

    /// Adds a vessel that was claimed and could not start. It goes first.
    pub fn push_ready_again(&mut self, fleet: FleetId, vessel: VesselOfRun, priority: i8) {
        self.lanes.entry(fleet).or_default().ready.push_front((vessel, priority));
        self.update(fleet);
    }

    /// Removes the ready vessels of a run that waits again.
    pub fn remove_ready(&mut self, fleet: FleetId, run: RunId) {
        if let Some(lane) = self.lanes.get_mut(&fleet) {
            lane.ready.retain(|((of, _), _)| *of != run);
        }
        self.update(fleet);
    }

    /// Takes the next start and its fleet. Call [`served`](Self::served) when it did start.
    pub fn take_next(&mut self) -> Option<(FleetId, NextStart)> {
        let fleet = self.fairness.next()?;
        let next = self.lanes.get_mut(&fleet).and_then(Lane::take);
        // Without this, the fleet would keep its turn and no other fleet would get one.
        assert!(next.is_some(), "the fleet {fleet} has a turn and nothing to start");
        self.waiting -= usize::from(matches!(next, Some(NextStart::Run(..))));
        self.update(fleet);
        next.map(|next| (fleet, next))
    }

    /// Notes that a vessel of the fleet has started: other fleets come first now.
    pub fn served(&mut self, fleet: FleetId) {
        self.fairness.served(fleet);
    }

    /// Removes `run` if it waits under this sequence number. The number alone does not identify a run:
    /// a server that starts with an empty queue counts from 1 again.
    pub fn remove(&mut self, fleet: FleetId, sequence: u64, run: RunId) -> Option<QueuedRun> {
        let lane = self.lanes.get_mut(&fleet)?;
        lane.waiting.get(&sequence).filter(|queued| queued.id == run)?;
        let removed = lane.waiting.remove(&sequence)?;
        lane.payload_bytes = lane.payload_bytes.saturating_sub(removed.payload.bytes());
        self.waiting -= 1;
        self.update(fleet);
        Some(removed)
    }

    /// Whether one more run of the fleet could start within `limit`, after those that wait.
    pub fn has_place(&self, fleet: FleetId, limit: Option<u32>) -> bool {
        self.lanes.get(&fleet).is_none_or(|lane| lane.waiting.len() < lane.places(limit))
    }

    /// Removes up to `max` waiting runs that cannot start within `limit`, the oldest first.
    pub fn remove_without_place(
        &mut self,
        fleet: FleetId,
        limit: Option<u32>,
        max: usize,
    ) -> Vec<(u64, QueuedRun)> {
        let Some(lane) = self.lanes.get_mut(&fleet) else { return Vec::new() };
        let beyond = lane.waiting.keys().skip(lane.places(limit)).take(max);
        let beyond: Vec<u64> = beyond.copied().collect();
        let removed: Vec<(u64, QueuedRun)> = beyond
            .into_iter()
            .filter_map(|sequence| Some((sequence, lane.waiting.remove(&sequence)?)))
            .collect();
        let bytes: u64 = removed.iter().map(|(_, run)| run.payload.bytes()).sum();
        lane.payload_bytes = lane.payload_bytes.saturating_sub(bytes);
        self.waiting -= removed.len();
        self.update(fleet);
        removed
    }

    /// Counts a reloaded run as active.
    pub fn resumed(&mut self, fleet: FleetId, payload: PayloadSize) {
        let lane = self.lanes.entry(fleet).or_default();
        lane.active += 1;
        lane.payload_bytes = lane.payload_bytes.saturating_add(payload.bytes());
        self.update(fleet);
    }

    /// Counts an active run as ended.
    pub fn finished(&mut self, fleet: FleetId, payload: PayloadSize) {
        let lane = self.lanes.entry(fleet).or_default();
        assert!(lane.active > 0, "the fleet {fleet} ends a run and has no active one");
        lane.active -= 1;
        lane.payload_bytes = lane.payload_bytes.saturating_sub(payload.bytes());
        self.update(fleet);
    }

    /// Counts a vessel of the fleet as running.
    pub fn vessel_started(&mut self, fleet: FleetId) {
        self.lanes.entry(fleet).or_default().running += 1;
    }

    /// Counts a running vessel of the fleet as ended.
    pub fn vessel_ended(&mut self, fleet: FleetId) {
        let lane = self.lanes.entry(fleet).or_default();
        assert!(lane.running > 0, "the fleet {fleet} ends a vessel and has none running");
        lane.running -= 1;
    }

    /// Updates the fleet's turn after its lane has changed, and removes an empty lane.
    fn update(&mut self, fleet: FleetId) {
        let Some(lane) = self.lanes.get(&fleet) else { return };
        debug_assert!(lane.running == 0 || lane.active > 0, "vessels run, but no run is active");
        if lane.is_idle() {
            debug_assert_eq!(lane.payload_bytes, 0, "an idle lane counts payloads");
            self.lanes.remove(&fleet);
            self.fairness.leave(fleet);
        } else {
            self.fairness.set(fleet, lane.priority());
        }
    }
}
