//! A lane per fleet ([`Lane`]). [`Fairness`] picks the next one.
//!
//! A lane exists as long as a run of its fleet waits or is active. After each change of a lane its
//! fleet waits for a turn if and only if the lane has something to start.

use std::collections::{BTreeSet, HashMap};

use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, RunId};
use crate::model::run::RunRecord;
use crate::scheduler::fairness::Fairness;
use crate::scheduler::lane::{Key, Lane};
use crate::scheduler::{QueuedRun, VesselOfRun};

/// See the module.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<FleetId, Lane>,
    fairness: Fairness,
    /// Waiting runs, held ones included.
    waiting: usize,
    /// Held runs by the end of their hold.
    holds: BTreeSet<(Timestamp, u64, FleetId)>,
}

/// What a lane starts next.
#[derive(Debug)]
pub enum NextStart {
    /// A vessel of an active run. It may have been stopped since it became ready.
    Vessel(VesselOfRun),
    /// A waiting run and its sequence number.
    Run(u64, QueuedRun),
}

impl Lanes {
    /// Every lane, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (FleetId, &Lane)> {
        self.lanes.iter().map(|(fleet, lane)| (*fleet, lane))
    }

    pub fn get(&self, fleet: FleetId) -> Option<&Lane> {
        self.lanes.get(&fleet)
    }

    /// Whose turn it is.
    pub fn fairness(&self) -> &Fairness {
        &self.fairness
    }

    /// Waiting runs of all fleets, held ones included.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// The oldest waiting run that is not held.
    pub fn first_waiting(&self) -> Option<&QueuedRun> {
        let firsts = self.lanes.values().filter_map(Lane::first_waiting);
        firsts.min_by_key(|(sequence, _)| *sequence).map(|(_, run)| run)
    }

    /// Each fleet with runs that wait, held ones included, or are active, and how many do each.
    pub fn at_work(&self) -> impl Iterator<Item = (FleetId, usize, usize)> {
        self.lanes.iter().map(|(fleet, lane)| (*fleet, lane.waiting(), lane.active()))
    }

    /// Runs of the fleet without a running vessel. As in [`Queue::has_room`](super::Queue::has_room), a
    /// run with several running vessels hides as many others.
    pub fn without_vessel(&self, fleet: FleetId) -> usize {
        let idle = |lane: &Lane| lane.waiting() + lane.active().saturating_sub(lane.running);
        self.lanes.get(&fleet).map_or(0, idle)
    }

    /// Bytes of the payloads of the fleet's waiting and active runs.
    pub fn payload_bytes(&self, fleet: FleetId) -> u64 {
        self.lanes.get(&fleet).map_or(0, Lane::payload_bytes)
    }

    /// Whether a lane has something to start.
    pub fn has_next(&self) -> bool {
        !self.fairness.is_empty()
    }

    /// Adds a waiting run, or one that is held.
    pub fn push(&mut self, sequence: u64, run: QueuedRun) {
        let fleet = run.version.fleet_id;
        if let Some(hold) = run.hold {
            self.holds.insert((hold.until, sequence, fleet));
        }
        self.lanes.entry(fleet).or_default().push(sequence, run);
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
        let waiting = self.lanes.get(&fleet)?.get(sequence);
        waiting.filter(|queued| queued.id == run)?;
        self.take(fleet, sequence)
    }

    /// How many of the waiting runs of the key could start within `limit` if there were workers.
    pub fn places(&self, fleet: FleetId, key: &Key, limit: Option<u32>) -> usize {
        let places = self.lanes.get(&fleet).map(|lane| lane.places(key, limit));
        places.unwrap_or_else(|| Lane::default().places(key, limit))
    }

    /// The waiting runs of the key that are not held, the oldest first.
    pub fn waiting_of(&self, fleet: FleetId, key: &Key) -> &BTreeSet<u64> {
        const NONE: &BTreeSet<u64> = &BTreeSet::new();
        self.lanes.get(&fleet).and_then(|lane| lane.waiting_of(key)).unwrap_or(NONE)
    }

    /// The active runs of the key, the oldest first.
    pub fn active_of(&self, fleet: FleetId, key: &Key) -> Vec<RunId> {
        self.lanes.get(&fleet).map(|lane| lane.active_of(key)).unwrap_or_default()
    }

    /// Takes the waiting run of this sequence number.
    pub fn take(&mut self, fleet: FleetId, sequence: u64) -> Option<QueuedRun> {
        let run = self.lanes.get_mut(&fleet)?.remove(sequence)?;
        if let Some(hold) = run.hold {
            self.holds.remove(&(hold.until, sequence, fleet));
        }
        self.waiting -= 1;
        self.update(fleet);
        Some(run)
    }

    /// Takes the run that the key holds.
    pub fn take_held(&mut self, fleet: FleetId, key: &Key) -> Option<(u64, QueuedRun)> {
        let sequence = self.lanes.get(&fleet)?.held(key)?;
        Some((sequence, self.take(fleet, sequence)?))
    }

    /// When the next hold ends.
    pub fn next_release(&self) -> Option<Timestamp> {
        self.holds.first().map(|(until, ..)| *until)
    }

    /// Takes a run whose hold has ended at `now`.
    pub fn take_released(&mut self, now: Timestamp) -> Option<(u64, QueuedRun)> {
        let (_, sequence, fleet) = *self.holds.first().filter(|(until, ..)| *until <= now)?;
        let run = self.take(fleet, sequence);
        // Without this, the hold would be due for ever.
        assert!(run.is_some(), "the fleet {fleet} holds a run that does not wait");
        run.map(|run| (sequence, run))
    }

    /// The clock has stepped back to `now`: no hold lasts longer than its `wait` from now on.
    pub fn clamp_holds(&mut self, now: Timestamp) {
        for (until, sequence, fleet) in std::mem::take(&mut self.holds) {
            let run = self.lanes.get_mut(&fleet).and_then(|lane| lane.get_mut(sequence));
            let until = run.and_then(|run| run.clamp_hold(now)).map_or(until, |hold| hold.until);
            self.holds.insert((until, sequence, fleet));
        }
    }

    /// Counts a reloaded run as active.
    pub fn resumed(&mut self, run: &RunRecord) {
        let lane = self.lanes.entry(run.fleet_id).or_default();
        lane.resumed(run.sequence, run.id, &run.key(), run.payload);
        self.update(run.fleet_id);
    }

    /// Counts an active run as ended.
    pub fn finished(&mut self, run: &RunRecord) {
        let (fleet, lane) = (run.fleet_id, self.lanes.entry(run.fleet_id).or_default());
        let was_active = lane.finished(run.sequence, &run.key(), run.payload);
        assert!(was_active, "the fleet {fleet} ends a run that is not active");
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
        debug_assert!(lane.running == 0 || lane.active() > 0, "vessels run, but no run is active");
        if lane.is_idle() {
            debug_assert_eq!(lane.payload_bytes(), 0, "an idle lane counts payloads");
            self.lanes.remove(&fleet);
            self.fairness.leave(fleet);
        } else {
            self.fairness.set(fleet, lane.priority());
        }
    }

    /// Keys that are known, of all fleets.
    #[cfg(test)]
    pub fn keys(&self) -> usize {
        self.lanes.values().map(Lane::keys).sum()
    }
}
