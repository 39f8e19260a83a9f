//! The rules of runs, said a second time and as plainly as possible: facts about every vessel of
//! every run, with no thought for speed. It learns of the engine's choices (which vessel is claimed
//! next) and says whether they were allowed; everything else it predicts.

use std::collections::BTreeMap;
use std::time::Duration;

use boathook::internals::{Delivery, End, FleetId, Overlap, RunId, Timestamp, VesselRunId};

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

    /// A run was accepted at `now`; `overlap` may end it at once, or others in its favour.
    pub fn submit(&mut self, id: RunId, mut run: Run, now: Timestamp) {
        run.queued_at = now;
        assert!(self.newest().next().is_none_or(|last| last < id), "run ids increase");
        let of_fleet = || self.unfinished.iter().filter(|(_, it)| it.fleet == run.fleet);
        let active = of_fleet().filter(|(_, it)| it.started).count();
        let waiting: Vec<RunId> =
            of_fleet().filter(|(_, it)| !it.started).map(|(id, _)| *id).collect();
        let limit = run.definition.concurrency.map_or(usize::MAX, |limit| limit as usize);
        let places = limit.saturating_sub(active);
        let dismissed = match run.definition.overlap {
            _ if waiting.len() < places => Vec::new(),
            Overlap::Queue => Vec::new(),
            Overlap::Skip => vec![id],
            Overlap::Replace => waiting[places..].to_vec(),
        };
        self.unfinished.insert(id, run);
        for id in dismissed {
            self.change(id, Run::dismiss);
        }
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

    /// Whether the run is the next of its fleet, and the fleet may start one more.
    fn may_begin(&self, id: RunId) -> bool {
        let run = self.run(id);
        let of_fleet = || self.unfinished.iter().filter(|(_, it)| it.fleet == run.fleet);
        let active = of_fleet().filter(|(_, it)| it.is_active()).count();
        let first = of_fleet().find(|(_, it)| it.is_waiting());
        first.is_some_and(|(first, _)| *first == id)
            && run.definition.concurrency.is_none_or(|limit| active < limit as usize)
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
    }

    pub fn longest_wait(&self) -> Duration {
        let waits = self.unfinished.values().flat_map(|run| run.vessels.iter().map(|it| it.wait));
        waits.max().unwrap_or_default()
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
