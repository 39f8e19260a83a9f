//! Listing, showing and stopping runs.

use std::io::Read;

use crate::engine::{Engine, EngineError, Reach};
use crate::model::clock::Timestamp;
use crate::model::event::ArrivalRecord;
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::limits::LIST_DEFAULT;
use crate::model::request::RequestHead;
use crate::model::run::{RunRecord, Status, Trigger, VesselRunRecord};
use crate::scheduler::{Effects, Queue};

/// Runs among which a part of an id is looked for, newest first. Older ones go by their whole ids.
pub const RUN_IDS_SEARCHED_MAX: usize = 200_000;

/// Runs read to fill one page of a filtered list: some tenths of a second. The page names the run
/// at which the next one continues.
const RUNS_SCANNED_MAX: usize = 50_000;

/// A run with its vessels, in the order of its fleet version.
#[derive(Clone, Debug)]
pub struct RunView {
    pub run: RunRecord,
    /// Whether its fleet is there no more.
    pub is_fleet_deleted: bool,
    /// Empty where they were not asked for.
    pub vessels: Vec<VesselRunRecord>,
}

/// Which runs to list.
#[derive(Clone, Debug)]
pub struct RunFilter {
    pub fleet: Option<FleetId>,
    pub status: Option<Status>,
    pub trigger: Option<Trigger>,
    /// Accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Accepted at this time or earlier.
    pub until: Option<Timestamp>,
    /// Older than this run.
    pub before: Option<RunId>,
    /// Whose runs.
    pub reach: Reach,
    pub limit: usize,
    /// How many runs are read to find that many.
    pub scanned_max: usize,
    /// Whether to read the vessels of the runs.
    pub with_vessels: bool,
}

/// One page of a list of runs.
#[derive(Clone, Debug)]
pub struct RunPage {
    pub runs: Vec<RunView>,
    /// The `before` of the next page, if there may be one.
    pub next_before: Option<RunId>,
}

impl Default for RunFilter {
    fn default() -> Self {
        Self {
            fleet: None,
            status: None,
            trigger: None,
            since: None,
            until: None,
            before: None,
            reach: Reach::Everything,
            limit: LIST_DEFAULT,
            scanned_max: RUNS_SCANNED_MAX,
            with_vessels: true,
        }
    }
}

impl RunFilter {
    fn matches(&self, run: &RunRecord) -> bool {
        self.reach.has_fleet(run.fleet_id, Some(run.project_id))
            && self.fleet.is_none_or(|fleet| run.fleet_id == fleet)
            && self.status.is_none_or(|status| run.status == status)
            && self.trigger.is_none_or(|trigger| run.trigger == trigger)
            && self.since.is_none_or(|since| run.queued_at >= since)
            && self.until.is_none_or(|until| run.queued_at <= until)
    }
}

impl Engine {
    /// The runs that `filter` matches, newest first, as they are on the disk.
    pub fn runs(&self, filter: &RunFilter) -> RunPage {
        let before = filter.before;
        let of_fleet = filter.fleet.or(filter.reach.only_fleet());
        let runs: Box<dyn Iterator<Item = RunRecord>> = match of_fleet {
            Some(fleet) => Box::new(self.store.runs_of_fleet_before(fleet, before)),
            None => Box::new(self.store.runs_before(before)),
        };
        // No id has an earlier time than its run.
        let first = filter.since.map(RunId::first_at);
        let mut page = RunPage { runs: Vec::new(), next_before: None };
        let mut last: Option<RunId> = None;
        let runs = runs.take_while(|run| first.is_none_or(|first| run.id >= first));
        for (scanned, run) in runs.enumerate() {
            if page.runs.len() == filter.limit {
                page.next_before = last;
                break;
            }
            if scanned == filter.scanned_max {
                // The last run may be out of reach, where its id is not told.
                page.next_before = last.map(|last| last.cursor_after(run.id));
                break;
            }
            last = Some(run.id);
            if !filter.matches(&run) {
                continue;
            }
            let view = self.view(run, filter.with_vessels);
            if !self.is_torn(&view) {
                page.runs.push(view);
            }
        }
        self.store.confirm();
        page
    }

    /// One run, as it is on the disk.
    pub fn run(&self, id: RunId) -> Option<RunView> {
        let mut view = self.store.run(id).map(|run| self.view(run, true))?;
        if view.run.status == Status::Scheduled && view.run.reason.is_none() {
            view.run.reason = self.queued_because(&view.run);
        }
        self.store.confirm();
        (!self.is_torn(&view)).then_some(view)
    }

    /// Up to `limit` runs within `reach` whose id begins or ends with `fragment`, newest first, and
    /// whether all runs were searched. At most [`RUN_IDS_SEARCHED_MAX`] are.
    pub fn find_runs(&self, fragment: &str, limit: usize, reach: &Reach) -> (Vec<RunId>, bool) {
        let fragment = fragment.to_ascii_lowercase();
        let matches = |id: &RunId| {
            let text = id.to_string();
            (text.starts_with(&fragment) || text.ends_with(&fragment)) && self.is_within(*id, reach)
        };
        let mut searched = 0;
        let counted = self.store.run_ids().inspect(|_| searched += 1);
        let found = counted.take(RUN_IDS_SEARCHED_MAX).filter(matches).take(limit).collect();
        (found, searched < RUN_IDS_SEARCHED_MAX)
    }

    /// The head of the request that triggered the run.
    ///
    /// # Errors
    /// When it is damaged, or the run is removed meanwhile.
    pub fn request_head(&self, run: &RunRecord) -> Result<RequestHead, EngineError> {
        let request = self.stored_request(run.id, run.payload);
        request.map(|request| request.head).map_err(|error| match self.is_stored(run.id) {
            true => {
                log::error!(run:% = run.id, error; "a stored request cannot be read");
                EngineError::Damaged(format!("what the run was sent is damaged: {error}"))
            }
            false => no_run(run.id),
        })
    }

    /// The body of the request that triggered the run: `run.payload.body_bytes` bytes.
    pub fn body(&self, run: &RunRecord) -> Box<dyn Read + Send> {
        let payload = run.payload;
        Box::new(self.store.payload(run.id, payload.head_bytes.into(), payload.body_bytes))
    }

    /// Stops a run, and returns it as it is then. A run that has ended stays as it is.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn stop_run(&self, id: RunId) -> Result<RunView, EngineError> {
        let run = self.store.run(id).ok_or_else(|| no_run(id))?;
        self.stop(id, |queue, now| queue.stop_run(id, run.fleet_id, run.sequence, now))
    }

    /// Stops a vessel of a run and every vessel downstream of it, and returns the run as it is then.
    /// A vessel that has ended stays as it is.
    ///
    /// # Errors
    /// When there is none of this id, or its run waits to start.
    pub fn stop_vessel_run(&self, id: VesselRunId) -> Result<RunView, EngineError> {
        let no_vessel_run = || EngineError::NotFound(format!("there is no vessel run {id}"));
        let run = self.store.run(id.run()).ok_or_else(no_vessel_run)?;
        let vessels = self.version_of(&run).map_or(0, |it| it.definition.vessels.len());
        if id.vessel().is_none_or(|vessel| vessel >= vessels) {
            return Err(no_vessel_run());
        }
        if run.status == Status::Scheduled {
            return Err(EngineError::Conflict(format!(
                "the run {} has not started; stop the run instead",
                run.id
            )));
        }
        self.stop(run.id, |queue, now| queue.stop_vessel_run(id, now))
    }

    fn stop(
        &self,
        run: RunId,
        decide: impl FnOnce(&mut Queue, Timestamp) -> Option<Effects>,
    ) -> Result<RunView, EngineError> {
        // 1. Decide which vessels are Terminated and which running ones are to end.
        let mut decisions = self.decisions();
        let decided = decide(&mut decisions.queue, self.clock.now());
        // 2. Make the decision durable. Without changes an earlier stop may be on its way to the disk.
        let pending = self.commit_effects(&mut decisions, decided.unwrap_or_default(), []);
        // The end of one run may let another of its fleet start.
        self.wake_worker(&mut decisions);
        drop(decisions);
        // 3. Signal the vessels. The rest follows the durable decision.
        self.complete(pending);
        self.run(run).ok_or_else(|| no_run(run))
    }

    /// Whether there is a run of this id. A reader of more rows of a run asks afterwards: the sweeper
    /// may remove the run meanwhile.
    pub fn is_stored(&self, id: RunId) -> bool {
        self.store.has_run(id)
    }

    /// Whether the run was removed while its vessels were read: a finished run has no undecided
    /// vessel.
    fn is_torn(&self, view: &RunView) -> bool {
        let is_undecided = |vessel: &VesselRunRecord| !vessel.status.is_final();
        view.run.status.is_final()
            && view.vessels.iter().any(is_undecided)
            && !self.is_stored(view.run.id)
    }

    /// A run, if asked `with_vessels` with every vessel of its version. A vessel without a row is Scheduled.
    fn view(&self, mut run: RunRecord, with_vessels: bool) -> RunView {
        if run.status == Status::Scheduled && run.reason.is_none() {
            run.reason = held_because(&run).or_else(|| self.waiting_because());
        }
        let is_fleet_deleted = !self.catalog().has_fleet(run.fleet_id);
        let version = self.version(run.fleet_id, run.fleet_version).filter(|_| with_vessels);
        let Some(version) = version else {
            return RunView { run, is_fleet_deleted, vessels: Vec::new() };
        };
        let definitions = &version.definition.vessels;
        let vessels = definitions.iter().enumerate().map(|(index, vessel)| {
            let stored = self.store.vessel_run(run.id.vessel_run(index));
            stored.unwrap_or_else(|| {
                let vessel = (vessel.id, vessel.name.as_str());
                VesselRunRecord::scheduled(run.id, index, vessel, run.queued_at)
            })
        });
        let vessels = vessels.collect();
        RunView { run, is_fleet_deleted, vessels }
    }
}

/// The reason shown for a run that waits for more requests of its key.
fn held_because(run: &RunRecord) -> Option<String> {
    let ArrivalRecord { key, hold, .. } = run.arrival();
    let of_key = key.map(|key| format!(" of key {key}")).unwrap_or_default();
    Some(format!("waits until {} for more{of_key} (debounce)", hold?.until))
}

pub(super) fn no_run(id: RunId) -> EngineError {
    EngineError::NotFound(format!("there is no run {id}"))
}
