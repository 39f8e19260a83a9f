//! What may start, fleet by fleet: in each fleet's lane its vessels of runs under way, and then its
//! runs that wait, in the order of acceptance. Which lane is next, [`Turns`] tells.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::model::ids::{FleetId, RunId};
use crate::model::run::PayloadSize;
use crate::scheduler::turns::Turns;
use crate::scheduler::{QueuedRun, VesselOfRun};

/// See the module.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<FleetId, Lane>,
    turns: Turns,
    waiting: usize,
}

/// What a lane has to start.
#[derive(Debug)]
pub enum Next {
    /// A vessel of a run under way. It may have been stopped meanwhile.
    Vessel(VesselOfRun),
    /// A run, at its place in the queue.
    Run(u64, QueuedRun),
}

#[derive(Debug, Default)]
struct Lane {
    /// Vessels of runs under way that may start, each with its priority. May hold some that were
    /// stopped meanwhile.
    ready: VecDeque<(VesselOfRun, i8)>,
    waiting: BTreeMap<u64, QueuedRun>,
    /// Runs of the fleet that have started and not ended.
    active: usize,
    /// Vessels of these that are running.
    running: usize,
    /// Bytes of the payloads of its runs that wait and of those that have started.
    payload_bytes: u64,
}

impl Lane {
    /// How many runs more `limit` lets start.
    fn places(&self, limit: Option<u32>) -> usize {
        limit.map_or(usize::MAX, |limit| (limit as usize).saturating_sub(self.active))
    }

    /// The run that waits and may start.
    fn startable(&self) -> Option<&QueuedRun> {
        let (_, next) = self.waiting.first_key_value()?;
        (self.places(next.version.definition.concurrency) > 0).then_some(next)
    }

    /// The priority of what it would start next, if there is any.
    fn priority(&self) -> Option<i8> {
        match self.ready.front() {
            Some((_, priority)) => Some(*priority),
            None => self.startable().map(|next| next.version.definition.priority),
        }
    }

    fn take(&mut self) -> Option<Next> {
        if let Some((vessel, _)) = self.ready.pop_front() {
            return Some(Next::Vessel(vessel));
        }
        self.startable()?;
        let (sequence, run) = self.waiting.pop_first()?;
        self.active += 1;
        Some(Next::Run(sequence, run))
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.active == 0
    }
}

impl Lanes {
    /// How many runs wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// The run that was accepted before all others that wait.
    pub fn first_waiting(&self) -> Option<&QueuedRun> {
        let firsts = self.lanes.values().filter_map(|lane| lane.waiting.first_key_value());
        firsts.min_by_key(|(sequence, _)| **sequence).map(|(_, run)| run)
    }

    /// Runs of the fleet that wait, to start or to go on. As for the whole queue, one with several
    /// vessels running hides as many others.
    pub fn held(&self, fleet: FleetId) -> usize {
        let held = |lane: &Lane| lane.waiting.len() + lane.active.saturating_sub(lane.running);
        self.lanes.get(&fleet).map_or(0, held)
    }

    /// Bytes of the payloads of the fleet's runs that have not ended.
    pub fn payload_bytes(&self, fleet: FleetId) -> u64 {
        self.lanes.get(&fleet).map_or(0, |lane| lane.payload_bytes)
    }

    /// Whether there is anything to start.
    pub fn has_next(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Adds a run at its place.
    pub fn push(&mut self, sequence: u64, run: QueuedRun) {
        let fleet = run.version.fleet_id;
        let lane = self.lanes.entry(fleet).or_default();
        lane.payload_bytes = lane.payload_bytes.saturating_add(run.payload.bytes());
        lane.waiting.insert(sequence, run);
        self.waiting += 1;
        self.update(fleet);
    }

    /// Adds a vessel of a run under way.
    pub fn push_ready(&mut self, fleet: FleetId, vessel: VesselOfRun, priority: i8) {
        self.lanes.entry(fleet).or_default().ready.push_back((vessel, priority));
        self.update(fleet);
    }

    /// Adds a vessel of a run under way that has had its turn and could not start: before the others.
    pub fn push_ready_again(&mut self, fleet: FleetId, vessel: VesselOfRun, priority: i8) {
        self.lanes.entry(fleet).or_default().ready.push_front((vessel, priority));
        self.update(fleet);
    }

    /// Forgets the vessels of a run that waits again.
    pub fn remove_ready(&mut self, fleet: FleetId, run: RunId) {
        if let Some(lane) = self.lanes.get_mut(&fleet) {
            lane.ready.retain(|((of, _), _)| *of != run);
        }
        self.update(fleet);
    }

    /// Takes what is to start next, and whose it is. Tell [`served`](Self::served) if it does start.
    pub fn take_next(&mut self) -> Option<(FleetId, Next)> {
        let fleet = self.turns.next()?;
        let next = self.lanes.get_mut(&fleet).and_then(Lane::take);
        self.waiting -= usize::from(matches!(next, Some(Next::Run(..))));
        self.update(fleet);
        // A lane that has a turn has something to start.
        next.map(|next| (fleet, next))
    }

    /// A vessel of the fleet has started: others come before it now.
    pub fn served(&mut self, fleet: FleetId) {
        self.turns.served(fleet);
    }

    /// Takes out `run`, if it still waits at this place. A server that started with an empty queue
    /// gives places again that runs of the past had, so the place alone does not tell.
    pub fn remove(&mut self, fleet: FleetId, sequence: u64, run: RunId) -> Option<QueuedRun> {
        let lane = self.lanes.get_mut(&fleet)?;
        lane.waiting.get(&sequence).filter(|queued| queued.id == run)?;
        let removed = lane.waiting.remove(&sequence)?;
        lane.payload_bytes = lane.payload_bytes.saturating_sub(removed.payload.bytes());
        self.waiting -= 1;
        self.update(fleet);
        Some(removed)
    }

    /// Whether one run more of the fleet has its place within `limit`, those that wait counted in.
    pub fn has_place(&self, fleet: FleetId, limit: Option<u32>) -> bool {
        self.lanes.get(&fleet).is_none_or(|lane| lane.waiting.len() < lane.places(limit))
    }

    /// Takes out runs that wait and have no place within `limit`, the oldest first, up to `max`.
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

    /// Counts a run that was active before a restart.
    pub fn resumed(&mut self, fleet: FleetId, payload: PayloadSize) {
        let lane = self.lanes.entry(fleet).or_default();
        lane.active += 1;
        lane.payload_bytes = lane.payload_bytes.saturating_add(payload.bytes());
        self.update(fleet);
    }

    /// Counts a run as ended.
    pub fn finished(&mut self, fleet: FleetId, payload: PayloadSize) {
        if let Some(lane) = self.lanes.get_mut(&fleet) {
            lane.active = lane.active.saturating_sub(1);
            lane.payload_bytes = lane.payload_bytes.saturating_sub(payload.bytes());
        }
        self.update(fleet);
    }

    /// Counts a vessel of the fleet as running.
    pub fn vessel_started(&mut self, fleet: FleetId) {
        self.lanes.entry(fleet).or_default().running += 1;
    }

    /// Counts it as ended.
    pub fn vessel_ended(&mut self, fleet: FleetId) {
        if let Some(lane) = self.lanes.get_mut(&fleet) {
            lane.running = lane.running.saturating_sub(1);
        }
    }

    /// Brings the turns up to date after a lane has changed; forgets a lane with nothing in it.
    fn update(&mut self, fleet: FleetId) {
        let Some(lane) = self.lanes.get(&fleet) else { return };
        if lane.is_idle() {
            self.lanes.remove(&fleet);
            self.turns.leave(fleet);
        } else {
            self.turns.set(fleet, lane.priority());
        }
    }
}
