//! Replays: a new run with the body, headers, query and overrides of an earlier one, and the fleet as
//! it is now. A replay runs the whole fleet, or one vessel and the vessels downstream of it.

use std::io;
use std::sync::Arc;

use crate::engine::intake::NewRun;
use crate::engine::runs::no_run;
use crate::engine::{AcceptError, Engine, EngineError, RunView};
use crate::model::event::ArrivalRecord;
use crate::model::fleet::FleetVersion;
use crate::model::graph::{Graph, Readiness};
use crate::model::ids::RunId;
use crate::model::name::find_by_name;
use crate::model::overrides::Overrides;
use crate::model::run::{Skip, Status, Trigger, VesselRunRecord};
use crate::scheduler::graph_of;

/// Why a run is not replayed. No part of the new run is kept.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Refused(#[from] EngineError),
    #[error("what the run was sent cannot be read: {0}")]
    Damaged(String),
    #[error(transparent)]
    NotAccepted(AcceptError),
}

impl Engine {
    /// Replays the run `id`. Returns the version and the id of the new run. The version is the
    /// fleet's current one, or that of the run if the fleet is deleted. With `from`, only that vessel
    /// and the vessels downstream of it run; the others count as they ended in the run `id`.
    ///
    /// # Errors
    /// When there is no such run, `from` is no vessel of the fleet or could not start, the stored
    /// request is damaged, or the queue is full.
    pub fn replay(
        &self,
        id: RunId,
        from: Option<&str>,
    ) -> Result<(Arc<FleetVersion>, RunId), ReplayError> {
        let origin = self.run(id).ok_or_else(|| no_run(id))?;
        let run = &origin.run;
        let version = match self.current_version(run.fleet_id) {
            Ok(current) => current,
            Err(gone) => self.version(run.fleet_id, run.fleet_version).ok_or(gone)?,
        };
        let damaged = |why: String| match self.is_stored(id) {
            true => ReplayError::Damaged(why),
            // The sweeper has removed the run meanwhile.
            false => no_run(id).into(),
        };
        let request = self.stored_request(run.id, run.payload).map_err(damaged)?;
        let mut head = request.head.clone();
        head.overrides = head.overrides.without_replay();
        if let Some(from) = from {
            take_over(&mut head.overrides, &version, &origin, from)?;
        }
        let ArrivalRecord { event, memory, .. } = run.arrival();
        let payload = || request.payload(self.settings.max_expression_body_bytes);
        let arrival = self.arrival_of(&version, Trigger::Replay, event, &request.head, payload);
        let new_run = NewRun {
            version: Arc::clone(&version),
            trigger: Trigger::Replay,
            head,
            replay_of: Some(id),
            arrival: ArrivalRecord { memory, ..arrival },
            with: None,
            waits: false,
        };
        let length = run.payload.body_bytes;
        // A body that was accepted is accepted again, even if the limit is lower now.
        let limit = self.settings.max_body_bytes.max(length);
        let accepted = self.accept_run(new_run, &mut self.body(run), Some(length), limit);
        match accepted {
            Ok(replay) => Ok((version, self.confirm(replay))),
            Err(AcceptError::Read(error)) => Err(damaged(error.to_string())),
            Err(AcceptError::Incomplete) => {
                Err(damaged(io::Error::from(io::ErrorKind::UnexpectedEof).to_string()))
            }
            Err(error) => Err(ReplayError::NotAccepted(error)),
        }
    }
}

/// Lets every vessel that is neither `from` nor downstream of it count as it ended in `origin`.
/// Vessels correspond by name. A vessel that `origin` does not have counts as Incomplete.
fn take_over(
    overrides: &mut Overrides,
    version: &FleetVersion,
    origin: &RunView,
    from: &str,
) -> Result<(), EngineError> {
    let definition = &version.definition;
    let first = definition.vessel_index(from).ok_or_else(|| {
        EngineError::Invalid(format!(
            "from: the fleet has no vessel {from:?} in version {}",
            version.version
        ))
    })?;
    if !origin.run.status.is_final() {
        return Err(EngineError::Conflict(format!(
            "the run {} has not ended; wait for its end or stop it, or replay the whole of it",
            origin.run.id
        )));
    }
    let graph = graph_of(version);
    let mut runs = vec![false; definition.vessels.len()];
    for vessel in graph.descendants(first).into_iter().chain([first]) {
        runs[vessel] = true;
    }
    let before = |vessel: usize| {
        let name = &definition.vessels[vessel].name;
        find_by_name(origin.vessels.iter(), name, |record| &record.vessel_name)
    };
    let skip = |vessel: usize| match before(vessel) {
        Some(VesselRunRecord { status, exit_code, .. }) => {
            Skip::Replay { status: *status, exit_code: *exit_code }
        }
        None => Skip::Replay { status: Status::Incomplete, exit_code: None },
    };
    let ended = ends(&graph, &runs, |vessel| skip(vessel).status());
    check_start(version, first, &ended)?;
    // The named vessel runs even if an override of the replayed run skips it.
    overrides.run_in_replay(from);
    for vessel in (0..definition.vessels.len()).filter(|vessel| !runs[*vessel]) {
        overrides.skip_in_replay(&definition.vessels[vessel].name, skip(vessel));
    }
    Ok(())
}

/// The final status of each vessel that does not run in the replay: `counts` if its paths lead to it,
/// else Incomplete. No such vessel is downstream of one that runs.
fn ends(graph: &Graph, runs: &[bool], counts: impl Fn(usize) -> Status) -> Vec<Option<Status>> {
    let mut ended = vec![None; graph.len()];
    loop {
        let mut undecided = (0..graph.len()).filter(|it| ended[*it].is_none() && !runs[*it]);
        let next = undecided.find_map(|vessel| {
            match graph.readiness(vessel, |upstream| ended[upstream]) {
                Readiness::Waiting => None,
                Readiness::Ready => Some((vessel, counts(vessel))),
                Readiness::Never(..) => Some((vessel, Status::Incomplete)),
            }
        });
        let Some((vessel, status)) = next else { return ended };
        ended[vessel] = Some(status);
    }
}

/// Refuses a replay whose first vessel would not start.
fn check_start(
    version: &FleetVersion,
    first: usize,
    ended: &[Option<Status>],
) -> Result<(), EngineError> {
    let definition = &version.definition;
    let incoming = definition.paths.iter().filter(|path| usize::from(path.to) == first);
    for path in incoming {
        let from = usize::from(path.from);
        let status = ended[from].unwrap_or(Status::Incomplete);
        if !path.condition.holds(status) {
            let name = |vessel: usize| &definition.vessels[vessel].name;
            return Err(EngineError::Invalid(format!(
                "from: {:?} would not start, because {:?} counts as {status} as in the replayed \
                 run; replay from a vessel further up",
                name(first),
                name(from),
            )));
        }
    }
    Ok(())
}
