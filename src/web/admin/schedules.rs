//! The schedules of fleets and what comes.

use serde::Serialize;

use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::ScheduleView;
use crate::model::clock::Timestamp;
use crate::model::ids::FleetId;
use crate::model::refusal::Refusal;
use crate::model::schedule::{CatchUp, Hosted};
use crate::web::query::Position;

/// Due times to come of each schedule, if the query does not say.
const NEXT_DEFAULT: usize = 5;
/// Due times to come of each schedule that a client may ask for.
const NEXT_MAX: usize = 100;

#[derive(Serialize)]
struct ScheduleJson<'a> {
    id: String,
    fleet_id: FleetId,
    fleet_name: &'a str,
    cron: &'a str,
    time_zone: &'a str,
    catch_up: CatchUp,
    #[serde(flatten)]
    hosted: Option<&'a Hosted>,
    next: Vec<Timestamp>,
    last_due_at: Option<Timestamp>,
    /// Due times that wait for room in the queue or on the disk.
    waiting: usize,
    /// Why no due times are known.
    problem: Option<&'a str>,
}

pub(super) fn list(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let query = &call.query;
    query.allow_only(&["fleet", "next", "limit", "before"])?;
    let fleet: Option<FleetId> = query.parsed("fleet")?;
    let count = query.parsed("next")?.unwrap_or(NEXT_DEFAULT);
    if !(1..=NEXT_MAX).contains(&count) {
        let message = format!("query parameter \"next\": a number from 1 to {NEXT_MAX}");
        return Err(Refusal::bad_request(message));
    }
    let position = |view: &ScheduleView| Position::new(&view.fleet_name, view.key);
    let mut views = admin.engine.schedule_views(fleet);
    views.retain(|view| call.reach.has_fleet(view.key.fleet, None));
    let page = query.part(views, position)?;
    let shown: Vec<_> = page.items.iter().map(|view| ScheduleJson::new(view, count)).collect();
    Reply::page(&shown, page.next)
}

impl<'a> ScheduleJson<'a> {
    /// `view` with up to `count` due times to come.
    fn new(view: &'a ScheduleView, count: usize) -> Self {
        let schedule = &view.plan.zoned.schedule;
        Self {
            id: view.key.to_string(),
            fleet_id: view.key.fleet,
            fleet_name: &view.fleet_name,
            cron: schedule.cron.text(),
            time_zone: &view.plan.zoned.time_zone,
            catch_up: schedule.catch_up,
            hosted: schedule.hosted.as_ref(),
            next: view.plan.to_come(view.now).take(count).collect(),
            last_due_at: view.plan.entry.ran.last().copied(),
            waiting: view.plan.entry.waiting.len(),
            problem: view.plan.problem.as_deref(),
        }
    }
}
