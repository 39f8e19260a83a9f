//! The queue: what waits, the next start first, and what for.

use serde::Serialize;

use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::WaitView;
use crate::model::clock::Timestamp;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::ids::{FleetId, RunId};

#[derive(Serialize)]
struct QueueJson<'a> {
    workers: usize,
    vessels_running: usize,
    /// Runs that have not started, of all fleets.
    runs_waiting: usize,
    /// The next start first.
    entries: Vec<EntryJson<'a>>,
    /// More waits than the entries say.
    has_more: bool,
}

#[derive(Serialize)]
struct EntryJson<'a> {
    run_id: RunId,
    fleet_id: FleetId,
    fleet_name: &'a str,
    /// `None`: the run has not started.
    vessel_name: Option<&'a str>,
    since: Timestamp,
    concurrency_key: Option<&'a ConcurrencyKey>,
    cause: &'static str,
    waits_for: Option<RunId>,
    until: Option<Timestamp>,
    reason: &'a str,
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let query = &call.query;
    query.allow_only(&["fleet", "limit"])?;
    let view = admin.engine.queue_view(query.parsed("fleet")?, &call.reach, query.limit()?);
    Reply::ok(&QueueJson {
        workers: view.load.workers,
        vessels_running: view.load.depth.running,
        runs_waiting: view.load.depth.waiting,
        entries: view.waits.iter().map(EntryJson::from).collect(),
        has_more: view.has_more,
    })
}

impl<'a> From<&'a WaitView> for EntryJson<'a> {
    fn from(view: &'a WaitView) -> Self {
        let wait = &view.wait;
        let definition = &wait.version.definition;
        let vessel = wait.vessel.and_then(|vessel| definition.vessels.get(vessel));
        Self {
            run_id: wait.run,
            fleet_id: wait.version.fleet_id,
            fleet_name: &definition.name,
            vessel_name: vessel.map(|vessel| vessel.name.as_str()),
            since: wait.since,
            concurrency_key: wait.key.as_ref(),
            cause: view.cause(),
            waits_for: view.waits_for(),
            until: view.until(),
            reason: &view.reason,
        }
    }
}
