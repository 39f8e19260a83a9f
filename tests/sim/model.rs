//! The rules of runs, said a second time and as plainly as possible: facts about every vessel of
//! every run, with no thought for speed. It learns of the engine's choices (which vessel is claimed
//! next) and says whether they were allowed; everything else it predicts.

use std::collections::BTreeMap;
use std::time::Duration;

use boathook::internals::{Delivery, End, FleetId, Hold, Overlap, RunId, Timestamp, VesselRunId};

mod run;

pub use run::{Interruption, Run, State};

#[derive(Clone, Debug)]
pub struct Model {
    unfinished: BTreeMap<RunId, Run>,
    /// Apart, so that the past does not slow the present down.
    ended: BTreeMap<RunId, Run>,
    crashes_max: u32,
}

impl Model {
    pub fn new(crashes_max: u32) -> Self {
        Self { unfinished: BTreeMap::new(), ended: BTreeMap::new(), crashes_max }
    }

    /// A run was accepted at `now`; `debounce` and `overlap` may end it, or others in its favour.
    pub fn submit(&mut self, id: RunId, mut run: Run, now: Timestamp) {
        run.queued_at = now;
        assert!(self.newest().next().is_none_or(|last| last < id), "run ids increase");
        let Some(debounce) = run.definition.debounce.filter(|_| run.is_request) else {
            self.unfinished.insert(id, run);
            return self.enter(id);
        };
        let is_earlier = |it: &Run| it.hold.is_some() && it.has_key_of(&run);
        let earlier = self.unfinished.iter().find(|(_, it)| is_earlier(it)).map(|(id, _)| *id);
        let mut since = now;
        if let Some(earlier) = earlier {
            let of_earlier = self.run(earlier);
            let first = of_earlier.hold.map_or(now, |hold| hold.since);
            // Of a first one that lies ahead, the clock does not tell how long ago it was.
            if first <= now {
                since = first;
                run.first_of_hold = of_earlier.first_of_hold;
            }
            self.change(earlier, Run::dismiss);
        }
        let until = now.plus(debounce.wait).min(since.plus(debounce.max_wait));
        run.hold = Some(Hold { since, until });
        run.arrival.hold = run.hold;
        self.unfinished.insert(id, run);
    }

    /// A run waits for its start, by the `overlap` of its fleet.
    fn enter(&mut self, id: RunId) {
        let (active, mut others) = self.under_way(id);
        others.retain(|other| *other != id);
        let definition = &self.run(id).definition;
        let limit = definition.concurrency.map_or(usize::MAX, |limit| limit as usize);
        let places = limit.saturating_sub(active.len());
        match definition.overlap {
            Overlap::Queue => {}
            Overlap::Skip if others.len() < places => {}
            Overlap::Skip => self.change(id, Run::dismiss),
            Overlap::Replace => {
                others.iter().skip(places).for_each(|older| self.change(*older, Run::dismiss));
            }
            Overlap::Cancel => {
                let going_on = active.iter().filter(|run| !self.run(**run).is_stopping());
                let both: Vec<RunId> = going_on.chain(&others).copied().collect();
                for older in &both[..(both.len() + 1).saturating_sub(limit)] {
                    match self.run(*older).started {
                        true => self.stop_run(*older),
                        false => self.change(*older, Run::dismiss),
                    }
                }
            }
        }
    }

    /// The active runs and the waiting ones that have the fleet and key of `id` and are not held.
    fn under_way(&self, id: RunId) -> (Vec<RunId>, Vec<RunId>) {
        let run = self.run(id);
        let others = self.unfinished.iter().filter(|(_, it)| it.has_key_of(run));
        let others = others.filter(|(_, it)| it.hold.is_none()).map(|(id, _)| *id);
        others.partition(|id| self.run(*id).started)
    }

    pub fn unfinished(&self) -> impl Iterator<Item = (&RunId, &Run)> {
        self.unfinished.iter()
    }

    /// Every run, in no order.
    pub fn all(&self) -> impl Iterator<Item = (&RunId, &Run)> {
        self.ended.iter().chain(&self.unfinished)
    }

    pub fn get(&self, id: RunId) -> Option<&Run> {
        self.unfinished.get(&id).or_else(|| self.ended.get(&id))
    }

    pub fn run(&self, id: RunId) -> &Run {
        self.get(id).unwrap_or_else(|| panic!("the model has no run {id}"))
    }

    /// Every run, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = RunId> {
        let (mut unfinished, mut ended) = (self.unfinished.keys().rev(), self.ended.keys().rev());
        let (mut left, mut right) = (unfinished.next(), ended.next());
        std::iter::from_fn(move || {
            let newest = left.max(right).copied();
            if left >= right {
                left = unfinished.next();
            } else {
                right = ended.next();
            }
            newest
        })
    }

    /// Waiting runs, active runs, and running vessels.
    pub fn depth(&self) -> (usize, usize, usize) {
        let waiting = self.unfinished.values().filter(|run| run.is_waiting()).count();
        let active = self.unfinished.values().filter(|run| run.is_active()).count();
        (waiting, active, self.unfinished.values().map(Run::running).sum())
    }

    pub fn has_room(&self, waiting_max: usize) -> bool {
        let (waiting, active, running) = self.depth();
        waiting + active.saturating_sub(running) < waiting_max
    }

    /// Whether one more run fits into the fleet's share of the queue.
    pub fn has_room_for(&self, fleet: FleetId, waiting_max: usize) -> bool {
        let (waiting, active, running) = self.depth();
        let left = waiting_max.saturating_sub(waiting + active.saturating_sub(running));
        let of_fleet = || self.unfinished.values().filter(|run| run.fleet == fleet);
        let waiting = of_fleet().filter(|run| run.is_waiting()).count();
        let active = of_fleet().filter(|run| run.is_active()).count();
        let held = waiting + active.saturating_sub(of_fleet().map(Run::running).sum());
        left > 0 && held < 3 * left
    }

    /// Runs with a crash behind them run one at a time.
    fn may_go_on(&self, id: RunId) -> bool {
        let run = self.run(id);
        let other_crash_looping_runs = || {
            let mut others = self.unfinished.iter().filter(|(other, _)| **other != id);
            others.any(|(_, it)| it.crashes > 0 && it.running() > 0)
        };
        run.is_active() && !(run.crashes > 0 && other_crash_looping_runs())
    }

    /// Whether the run is the first of its fleet that may start.
    fn may_begin(&self, id: RunId) -> bool {
        let run = self.run(id);
        let mut of_fleet = self.unfinished.iter().filter(|(_, it)| it.fleet == run.fleet);
        of_fleet.find(|(id, _)| self.has_turn(**id)).is_some_and(|(first, _)| *first == id)
    }

    /// Whether the run is the next of its key, and the key may start one more.
    fn has_turn(&self, id: RunId) -> bool {
        let (active, waiting) = self.under_way(id);
        let limit = self.run(id).definition.concurrency;
        waiting.first() == Some(&id) && limit.is_none_or(|limit| active.len() < limit as usize)
    }

    pub fn has_claimable(&self) -> bool {
        let may_go_on = |id: RunId, run: &Run| {
            self.may_go_on(id) && (0..run.vessels.len()).any(|vessel| run.may_start(vessel))
        };
        self.unfinished().any(|(id, run)| may_go_on(*id, run) || self.may_begin(*id))
    }

    /// The engine has chosen this vessel to start.
    pub fn claim(&mut self, vessel_run: VesselRunId, attempt: u32) {
        let (id, vessel) = (vessel_run.run(), index(vessel_run));
        let run = self.run(id);
        if run.started {
            assert!(self.may_go_on(id), "not this run's turn: {id}");
        } else {
            assert!(self.may_begin(id), "not this fleet's turn, or over its concurrency: {id}");
        }
        assert!(run.may_start(vessel), "vessel {vessel} of {id} must not start: {run:?}");
        let at_most_once = run.definition.delivery == Delivery::AtMostOnce;
        assert!(!at_most_once || attempt == 1, "at most once, but attempt {attempt} of {id}");
        self.change(id, |run| run.claim(vessel, attempt));
    }

    /// An attempt has ended; `retry_at` is when the engine tries again, if it does.
    pub fn settle(
        &mut self,
        vessel_run: VesselRunId,
        end: &End,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let id = vessel_run.run();
        assert!(self.unfinished.contains_key(&id), "{vessel_run} ended after its run");
        self.change(id, |run| run.settle(index(vessel_run), end, retry_at, now));
    }

    /// The machine lacked what the start takes: nothing has happened, unless a person has asked for
    /// a stop meanwhile.
    pub fn postpone(&mut self, vessel_run: VesselRunId) -> bool {
        let mut is_undone = false;
        self.change(vessel_run.run(), |run| is_undone = run.undo_claim(index(vessel_run)));
        is_undone
    }

    pub fn stop_run(&mut self, id: RunId) {
        self.change(id, |run| (0..run.vessels.len()).for_each(|vessel| run.stop(vessel)));
    }

    pub fn stop_vessel(&mut self, id: RunId, vessel: usize) {
        self.change(id, |run| {
            if run.ended(vessel).is_none() {
                run.with_descendants(vessel).into_iter().for_each(|vessel| run.stop(vessel));
                run.follow_paths();
            }
        });
    }

    pub fn fire_due(&mut self, now: Timestamp) {
        self.unfinished.values_mut().for_each(|run| run.fire_due(now));
        let held = self.unfinished.iter().filter_map(|(id, run)| Some((run.hold?.until, *id)));
        let mut released: Vec<(Timestamp, RunId)> =
            held.filter(|(until, _)| *until <= now).collect();
        released.sort_unstable();
        for (_, id) in released {
            self.change(id, Run::release);
            self.enter(id);
        }
    }

    /// The clock jumps. No server has looked since holds have ended: their time counts from here.
    pub fn excuse_overdue(&mut self, before: Timestamp, from: (Duration, u32)) {
        for run in self.unfinished.values_mut() {
            if run.hold.is_some_and(|hold| hold.until <= before) {
                run.first_of_hold = from;
            }
        }
    }

    /// A server looks for the first time since the clock was put back before a hold began. How long ago
    /// that was cannot be known: the time of the hold counts from here.
    pub fn count_anew(&mut self, now: Timestamp, from: (Duration, u32)) {
        for run in self.unfinished.values_mut() {
            let mut holds = run.hold.iter().chain(&run.arrival.hold);
            if holds.any(|hold| hold.since > now) {
                run.first_of_hold = from;
            }
        }
    }

    pub fn longest_wait(&self) -> Duration {
        let waits = self.unfinished.values().flat_map(|run| run.vessels.iter().map(|it| it.wait));
        let held = self.unfinished.values().filter(|run| run.hold.is_some());
        let holds = held.filter_map(|run| run.definition.debounce).map(|debounce| debounce.wait);
        waits.chain(holds).max().unwrap_or_default()
    }

    pub fn reload(&mut self, id: RunId, interruption: Interruption, now: Timestamp) {
        let crashes_max = self.crashes_max;
        self.change(id, |run| run.reload(interruption, crashes_max, now));
    }

    /// The run is kept no longer.
    pub fn forget(&mut self, id: RunId) {
        assert!(self.ended.remove(&id).is_some(), "{id} is no run that has ended");
    }

    /// Changes an unfinished run; what has ended is left alone.
    fn change(&mut self, id: RunId, change: impl FnOnce(&mut Run)) {
        let Some(run) = self.unfinished.get_mut(&id) else { return };
        change(run);
        if run.is_over()
            && let Some(run) = self.unfinished.remove(&id)
        {
            self.ended.insert(id, run);
        }
    }
}

pub fn index(vessel_run: VesselRunId) -> usize {
    vessel_run.vessel().unwrap_or_else(|| panic!("{vessel_run} is not a vessel run's id"))
}
