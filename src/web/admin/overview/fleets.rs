//! The fleets of the overview, project by project: how each is doing, and its latest runs.

use std::str::FromStr;

use serde::Serialize;

use super::super::fleets::{full_name, is_named_like};
use super::super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::FleetStanding;
use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, ProjectId, RunId};
use crate::model::run::{RunRecord, Status};
use crate::web::query::Position;

/// Runs of each fleet whose statuses are shown.
const LATEST_RUNS: usize = 5;

/// What the list can be limited to.
#[derive(Clone, Copy)]
enum State {
    Failing,
    Running,
    Waiting,
    NoWebhook,
}

const STATES: [(&str, State); 4] = [
    ("failing", State::Failing),
    ("running", State::Running),
    ("waiting", State::Waiting),
    ("no_webhook", State::NoWebhook),
];

impl FromStr for State {
    /// Says which words there are.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = STATES.iter().find(|(word, _)| *word == text).map(|(_, state)| *state);
        found.ok_or_else(|| format!("one of {}", STATES.map(|(word, _)| word).join(", ")))
    }
}

impl State {
    fn is_of(self, standing: &FleetStanding) -> bool {
        match self {
            State::Failing => standing.is_failing,
            State::Running => standing.active > 0,
            State::Waiting => standing.waiting > 0,
            State::NoWebhook => !standing.view.has_webhook,
        }
    }
}

/// How many fleets there are, and how many in each state.
#[derive(Serialize)]
pub(super) struct FleetCounts {
    total: usize,
    failing: usize,
    running: usize,
    waiting: usize,
    no_webhook: usize,
}

impl FleetCounts {
    pub(super) fn of(standings: &[FleetStanding]) -> Self {
        let count = |state: State| standings.iter().filter(|it| state.is_of(it)).count();
        Self {
            total: standings.len(),
            failing: count(State::Failing),
            running: count(State::Running),
            waiting: count(State::Waiting),
            no_webhook: count(State::NoWebhook),
        }
    }
}

#[derive(Serialize)]
struct FleetJson<'a> {
    id: FleetId,
    name: &'a str,
    project_id: ProjectId,
    project_name: &'a str,
    webhook: bool,
    failing: bool,
    runs_waiting: usize,
    runs_active: usize,
    /// The newest first.
    latest: Vec<LatestJson>,
}

#[derive(Serialize)]
struct LatestJson {
    id: RunId,
    status: Status,
    queued_at: Timestamp,
}

impl From<RunRecord> for LatestJson {
    fn from(run: RunRecord) -> Self {
        Self { id: run.id, status: run.status, queued_at: run.queued_at }
    }
}

/// The fleets by project and name.
pub(in crate::web::admin) fn list(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let query = &call.query;
    query.allow_only(&["state", "project", "name", "limit", "before"])?;
    let state: Option<State> = query.parsed("state")?;
    let project: Option<ProjectId> = query.parsed("project")?;
    let is_asked_for = is_named_like(query);
    let mut standings = admin.engine.fleet_standings(&call.reach);
    standings.retain(|it| {
        state.is_none_or(|state| state.is_of(it))
            && project.is_none_or(|project| it.view.fleet.project_id == project)
            && is_asked_for(&full_name(&it.view))
    });
    standings.sort_by(|a, b| place(a).cmp(&place(b)));
    let page = query.part(standings, position)?;
    let shown: Vec<_> = page.items.iter().map(|it| shown(admin, it)).collect();
    Reply::page(&shown, page.next)
}

fn place(FleetStanding { view, .. }: &FleetStanding) -> (&str, &str, FleetId) {
    (&view.project_name, &view.fleet.name, view.fleet.id)
}

/// The same as a cursor. No name has the separator, which comes before all that they have.
fn position(FleetStanding { view, .. }: &FleetStanding) -> Position {
    Position::new(&format!("{}\0{}", view.project_name, view.fleet.name), view.fleet.id)
}

fn shown<'a>(admin: &AdminHandler, standing: &'a FleetStanding) -> FleetJson<'a> {
    let FleetStanding { view, is_failing, waiting, active } = standing;
    let latest = admin.engine.latest_runs(view.fleet.id, LATEST_RUNS);
    FleetJson {
        id: view.fleet.id,
        name: &view.fleet.name,
        project_id: view.fleet.project_id,
        project_name: &view.project_name,
        webhook: view.has_webhook,
        failing: *is_failing,
        runs_waiting: *waiting,
        runs_active: *active,
        latest: latest.into_iter().map(LatestJson::from).collect(),
    }
}
