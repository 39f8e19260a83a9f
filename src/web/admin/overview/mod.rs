//! How the server and its fleets are doing: the first page.

use std::time::Duration;

use serde::Serialize;

use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::Upcoming;
use crate::model::clock::Timestamp;
use crate::model::ids::FleetId;
use crate::model::retention::Retention;
use crate::os::logging;

mod fleets;

use fleets::FleetCounts;
pub(super) use fleets::list as fleets;

/// Runs that the overview counts as accepted lately: 10,000 ids are read within milliseconds.
const OVERVIEW_ACCEPTED_MAX: usize = 10_000;
/// Due times of schedules that the overview shows.
const OVERVIEW_UPCOMING: usize = 5;

/// What "lately" means of accepted runs.
const LATELY: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct OverviewJson {
    version: &'static str,
    started_at: Timestamp,
    /// Where the webhook listener is.
    hooks_url: String,
    public_url: Option<String>,
    /// By the server's clock: what the ages of everything else are reckoned from.
    now: Timestamp,
    /// Whether runs are accepted.
    healthy: bool,
    /// Why they are not.
    refused_because: Option<String>,
    /// Why no vessel is started; runs wait meanwhile.
    launching_paused_because: Option<String>,
    runs_waiting: usize,
    runs_waiting_max: usize,
    runs_active: usize,
    vessels_running: usize,
    workers: usize,
    /// Runs accepted within the last minute, up to `accepted_counted_max`.
    accepted_last_minute: usize,
    accepted_counted_max: usize,
    disk_free_bytes: Option<u64>,
    disk_total_bytes: Option<u64>,
    /// Runs that have ended and whose end has been told, and the bytes of their payloads and output.
    history_runs: u64,
    history_bytes: u64,
    /// How long runs are kept whose fleets say nothing else.
    keep_runs: Retention,
    /// What the database takes up: runs and their payloads, also of those that have not ended, and
    /// room that is used again.
    database_bytes: Option<u64>,
    /// The latest warning or error in the log since the server started.
    last_problem: Option<ProblemJson>,
    /// The next due times of schedules, up to [`OVERVIEW_UPCOMING`].
    upcoming: Vec<UpcomingJson>,
    fleets: FleetCounts,
}

#[derive(Serialize)]
struct ProblemJson {
    at: Timestamp,
    level: &'static str,
    message: String,
}

#[derive(Serialize)]
struct UpcomingJson {
    due_at: Timestamp,
    fleet_id: FleetId,
    fleet_name: String,
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let (engine, reach) = (&admin.engine, &call.reach);
    let now = engine.now();
    let load = engine.load();
    let room = engine.check_room();
    let disk = engine.disk_space();
    let history = engine.history_size();
    // The log may name what a limited token does not see.
    let last_problem = logging::last_problem().filter(|_| reach.is_everything());
    let last_problem = last_problem.map(|problem| ProblemJson {
        at: problem.at,
        level: problem.level.as_str(),
        message: problem.message,
    });
    Reply::ok(&OverviewJson {
        version: env!("CARGO_PKG_VERSION"),
        started_at: admin.started_at,
        hooks_url: admin.settings.hooks_url(),
        public_url: admin.settings.public_url.as_ref().map(ToString::to_string),
        now,
        healthy: room.is_ok(),
        refused_because: room.err().map(|error| error.to_string()),
        launching_paused_because: engine.paused_because(),
        runs_waiting: load.depth.waiting,
        runs_waiting_max: load.waiting_max,
        runs_active: load.depth.active,
        vessels_running: load.depth.running,
        workers: load.workers,
        accepted_last_minute: engine.accepted_since(now.minus(LATELY), OVERVIEW_ACCEPTED_MAX),
        accepted_counted_max: OVERVIEW_ACCEPTED_MAX,
        disk_free_bytes: disk.map(|disk| disk.free),
        disk_total_bytes: disk.map(|disk| disk.total),
        history_runs: history.runs,
        history_bytes: history.bytes,
        keep_runs: engine.keep_runs(),
        database_bytes: engine.database_bytes(),
        last_problem,
        upcoming: engine
            .upcoming(OVERVIEW_UPCOMING, reach)
            .into_iter()
            .map(UpcomingJson::from)
            .collect(),
        fleets: FleetCounts::of(&engine.fleet_standings(reach)),
    })
}

impl From<Upcoming> for UpcomingJson {
    fn from(upcoming: Upcoming) -> Self {
        let Upcoming { due_at, fleet, fleet_name } = upcoming;
        Self { due_at, fleet_id: fleet, fleet_name }
    }
}
