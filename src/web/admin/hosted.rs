//! The paths of the hosted system's API, for its published clients and CI actions: only their base address
//! changes. Organization, project and fleet go by id or by name.

use std::time::Duration;

use super::fleets::{check_reach, file_refusal, warnings};
use super::{AdminHandler, Call, Outcome, Reply, csv, runs};
use crate::engine::{Applied, ExpectedVersion, FleetView, RunFilter};
use crate::fleet_file::{self, FleetFile};
use crate::model::fleet::Project;
use crate::model::ids::FleetId;
use crate::model::name::is_same_name;
use crate::model::overrides::Overrides;
use crate::model::refusal::Refusal;
use crate::model::run::{Status, Trigger};
use crate::web::query::decoded;
use crate::web::view::{FleetJson, OrganizationJson};

/// Days before now that a CSV may begin.
const DAYS_MAX: u32 = 3_660;
pub(super) fn organizations(admin: &AdminHandler, _: &mut Call<'_>) -> Outcome {
    Reply::ok(&[OrganizationJson::from(admin.engine.organization())])
}

/// Starts a fleet by the API trigger.
pub(super) fn start(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = fleet(admin, call)?;
    call.object = format!("{}/{}", view.project_name, view.fleet.name);
    let text = call.text()?;
    let overrides = match text.trim() {
        "" => Overrides::default(),
        text => runs::overrides_in(call, text, &view.current.definition)?,
    };
    runs::start_with(admin, &view.current, Trigger::Api, overrides)
}

/// The runs of a fleet as CSV, the latest first.
pub(super) fn runs_of_fleet(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = fleet(admin, call)?;
    runs(admin, call, Some(view.fleet.id))
}

/// All runs as CSV, the latest first.
pub(super) fn all_runs(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    check_organization(admin, call)?;
    runs(admin, call, None)
}

/// Saves the fleet of the body's `_id`, or else of its name; makes it when there is none.
pub(super) fn upsert(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let file = file(admin, call)?;
    let id = file.id.filter(|id| admin.engine.fleet(*id).is_ok());
    let expected = ExpectedVersion::Any;
    let (applied, view) = match id {
        Some(id) => {
            reachable(call, id)?;
            check_reach(admin, &call.reach, &file, Some(id))?;
            (Applied::Updated, admin.engine.update_fleet(id, file, &expected)?)
        }
        None => {
            check_reach(admin, &call.reach, &file, None)?;
            admin.engine.apply_fleet(file, &expected)?
        }
    };
    saved(admin, call, applied, &view)
}

/// Saves the fleet that the path names.
pub(super) fn update(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let (id, file) = (fleet(admin, call)?.fleet.id, file(admin, call)?);
    check_reach(admin, &call.reach, &file, Some(id))?;
    let view = admin.engine.update_fleet(id, file, &ExpectedVersion::Any)?;
    saved(admin, call, Applied::Updated, &view)
}

fn saved(admin: &AdminHandler, call: &mut Call<'_>, applied: Applied, view: &FleetView) -> Outcome {
    call.object = format!("{}/{}", view.project_name, view.fleet.name);
    let status = if matches!(applied, Applied::Created) { 201 } else { 200 };
    let shown = FleetJson::from(view).with_warnings(warnings(admin, view));
    Reply::with_status(status, &shown)
}

/// The body as a fleet of the path's project, whatever its Content-Type says.
fn file(admin: &AdminHandler, call: &mut Call<'_>) -> Result<FleetFile, Refusal> {
    let project = project(admin, call)?;
    let mut file = fleet_file::parse_yaml(&call.text()?).map_err(file_refusal)?;
    let named = file.project.get_or_insert_with(|| project.name.clone());
    if !is_same_name(named, &project.name) {
        let message =
            format!("the file names the project {named:?}, the path names {:?}", project.name);
        return Err(Refusal::invalid(message));
    }
    Ok(file)
}

/// The part of the path at `index`, without its escapes.
fn segment(call: &Call<'_>, index: usize) -> Result<String, Refusal> {
    let broken = || Refusal::bad_request("the path has a broken escape");
    decoded(call.segment(index)).ok_or_else(broken)
}

fn check_organization(admin: &AdminHandler, call: &Call<'_>) -> Result<(), Refusal> {
    let (named, own) = (segment(call, 0)?, admin.engine.organization());
    match named == own.id.to_string() || is_same_name(&named, &own.name) {
        true => Ok(()),
        false => Err(Refusal::not_found(format!("no such organization: {named:?}"))),
    }
}

/// The project that the path names, within reach.
fn project(admin: &AdminHandler, call: &Call<'_>) -> Result<Project, Refusal> {
    check_organization(admin, call)?;
    let named = segment(call, 1)?;
    let mut projects = admin.engine.projects().into_iter();
    let is_meant = |it: &Project| it.id.to_string() == named || is_same_name(&it.name, &named);
    let found = projects.find(|it| is_meant(it) && call.reach.has_project(it.id));
    found.ok_or_else(|| Refusal::not_found(format!("no such project: {named:?}")))
}

/// The fleet that the path names, within reach.
fn fleet(admin: &AdminHandler, call: &Call<'_>) -> Result<FleetView, Refusal> {
    let (project, named) = (project(admin, call)?, segment(call, 2)?);
    let mut fleets = admin.engine.fleets().into_iter();
    let is_meant = |view: &FleetView| {
        view.fleet.project_id == project.id
            && (view.fleet.id.to_string() == named || is_same_name(&view.fleet.name, &named))
    };
    let found = fleets.find(|it| is_meant(it) && call.reach.has_fleet(it.fleet.id, None));
    found.ok_or_else(|| Refusal::not_found(format!("no such fleet: {named:?}")))
}

fn reachable(call: &Call<'_>, id: FleetId) -> Result<(), Refusal> {
    match call.reach.has_fleet(id, None) {
        true => Ok(()),
        false => Err(Refusal::not_found(format!("there is no fleet {id}"))),
    }
}

fn runs(admin: &AdminHandler, call: &Call<'_>, fleet: Option<FleetId>) -> Outcome {
    call.query.allow_only(&["days"])?;
    let days: Option<u32> = call.query.parsed("days")?;
    if days.is_some_and(|days| !(1..=DAYS_MAX).contains(&days)) {
        let message = format!("query parameter \"days\": a number from 1 to {DAYS_MAX}");
        return Err(Refusal::bad_request(message));
    }
    let day = Duration::from_secs(24 * 3600);
    let page = admin.engine.runs(&RunFilter {
        fleet,
        since: days.map(|days| admin.engine.now().minus(day * days)),
        reach: call.reach.clone(),
        limit: csv::ROWS_MAX,
        ..RunFilter::default()
    });
    Ok(csv::of_runs(&page.runs, status_word, trigger_word))
}

/// The status of a run in the words of the hosted system. A client that waits knows of three ends.
fn status_word(status: Status) -> &'static str {
    match status {
        Status::Scheduled => "Scheduled",
        Status::Running | Status::Retrying => "Running",
        Status::Success => "Success",
        Status::Errored => "Errored",
        Status::Terminated | Status::Incomplete => "Terminated",
    }
}

fn trigger_word(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Webhook => "Webhook",
        Trigger::Api => "API",
        Trigger::OnDemand | Trigger::Replay => "On Demand",
        Trigger::Schedule => "Schedule",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_one_that_clients_wait_for() {
        let ends = [Status::Success, Status::Errored, Status::Terminated, Status::Incomplete];
        for end in ends.map(status_word) {
            assert!(["Success", "Errored", "Terminated"].contains(&end), "{end}");
        }
    }
}
