//! The runs that wait to start: a lane per fleet, each in the order of acceptance, served in turn,
//! so that a fleet with many waiting runs does not hold up another's.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::domain::ids::{FleetId, RunId};
use crate::queue::QueuedRun;

/// See the module.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<FleetId, Lane>,
    /// The fleets that can start a run now, in turn.
    turns: VecDeque<FleetId>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeMap<u64, QueuedRun>,
    /// Runs of the fleet that have started and not ended.
    active: usize,
    /// Whether it has a place in `turns`.
    has_turn: bool,
}

impl Lane {
    fn can_start(&self) -> bool {
        self.waiting.first_key_value().is_some_and(|(_, next)| {
            let limit = next.version.definition.concurrency;
            limit.is_none_or(|limit| self.active < limit as usize)
        })
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

    /// Whether some run can start.
    pub fn can_start(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Adds a run at its place.
    pub fn push(&mut self, sequence: u64, run: QueuedRun) {
        let fleet = run.version.fleet_id;
        self.lanes.entry(fleet).or_default().waiting.insert(sequence, run);
        self.waiting += 1;
        self.offer_turn(fleet);
    }

    /// Takes the next run to start.
    pub fn start_next(&mut self) -> Option<(u64, QueuedRun)> {
        while let Some(fleet) = self.turns.pop_front() {
            let Some(lane) = self.lanes.get_mut(&fleet) else { continue };
            lane.has_turn = false;
            if !lane.can_start() {
                continue;
            }
            let Some(next) = lane.waiting.pop_first() else { continue };
            lane.active += 1;
            self.waiting -= 1;
            self.offer_turn(fleet);
            return Some(next);
        }
        None
    }

    /// Takes out `run`, if it still waits at this place. A server that started with an empty queue
    /// gives places again that runs of the past had, so the place alone does not tell.
    pub fn remove(&mut self, fleet: FleetId, sequence: u64, run: RunId) -> Option<QueuedRun> {
        let lane = self.lanes.get_mut(&fleet)?;
        lane.waiting.get(&sequence).filter(|queued| queued.id == run)?;
        let removed = lane.waiting.remove(&sequence)?;
        self.waiting -= 1;
        self.update(fleet);
        Some(removed)
    }

    /// Counts a run that was active before a restart.
    pub fn resumed(&mut self, fleet: FleetId) {
        self.lanes.entry(fleet).or_default().active += 1;
        self.update(fleet);
    }

    /// Counts a run as ended.
    pub fn finished(&mut self, fleet: FleetId) {
        if let Some(lane) = self.lanes.get_mut(&fleet) {
            lane.active = lane.active.saturating_sub(1);
        }
        self.update(fleet);
    }

    /// Brings the turns up to date after a lane has changed; forgets a lane with nothing in it.
    fn update(&mut self, fleet: FleetId) {
        let Some(lane) = self.lanes.get(&fleet) else { return };
        if lane.has_turn && !lane.can_start() {
            self.turns.retain(|other| *other != fleet);
            if let Some(lane) = self.lanes.get_mut(&fleet) {
                lane.has_turn = false;
            }
        }
        if self.lanes.get(&fleet).is_some_and(Lane::is_idle) {
            self.lanes.remove(&fleet);
        } else {
            self.offer_turn(fleet);
        }
    }

    fn offer_turn(&mut self, fleet: FleetId) {
        if let Some(lane) = self.lanes.get_mut(&fleet)
            && !lane.has_turn
            && lane.can_start()
        {
            lane.has_turn = true;
            self.turns.push_back(fleet);
        }
    }
}
