//! The organization and its projects.

use serde::Deserialize;

use super::fleets::is_named_like;
use super::{AdminHandler, Call, Outcome, Reply};
use crate::model::fleet::Project;
use crate::model::ids::ProjectId;
use crate::model::refusal::Refusal;
use crate::web::query::Position;
use crate::web::view::{OrganizationJson, ProjectJson};

/// What a client may say about a project.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectBody {
    name: Option<String>,
    time_zone: Option<String>,
}

pub(super) fn organization(admin: &AdminHandler, _: &mut Call<'_>) -> Outcome {
    Reply::ok(&OrganizationJson::from(admin.engine.organization()))
}

pub(super) fn list(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let position = |project: &Project| Position::new(&project.name, project.id);
    call.query.allow_only(&["limit", "before", "name"])?;
    let is_asked_for = is_named_like(&call.query);
    let mut projects = admin.engine.projects();
    projects.retain(|project| call.reach.has_project(project.id) && is_asked_for(&project.name));
    let page = call.query.part(projects, position)?;
    let counts = admin.engine.fleet_counts();
    let count = |project: &Project| counts.get(&project.id).copied().unwrap_or_default();
    let shown: Vec<_> =
        page.items.into_iter().map(|it| ProjectJson::new(it.clone(), count(&it))).collect();
    Reply::page(&shown, page.next)
}

pub(super) fn create(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let body: ProjectBody = call.json()?.unwrap_or_default();
    let name = body.name.ok_or_else(|| Refusal::invalid("name: a project needs one"))?;
    let time_zone = body.time_zone.as_deref().unwrap_or("UTC");
    let project = admin.engine.create_project(&name, time_zone)?;
    call.object.clone_from(&project.name);
    Reply::created(&ProjectJson::new(project, 0))
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    shown(admin, admin.engine.project(project_id(call)?)?)
}

/// What the body leaves out stays as it is.
pub(super) fn update(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let current = admin.engine.project(project_id(call)?)?;
    let body: ProjectBody = call.json()?.unwrap_or_default();
    let name = body.name.unwrap_or(current.name);
    let time_zone = body.time_zone.unwrap_or(current.time_zone);
    shown(admin, admin.engine.update_project(current.id, &name, &time_zone)?)
}

pub(super) fn delete(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    admin.engine.delete_project(project_id(call)?)?;
    Reply::gone()
}

fn shown(admin: &AdminHandler, project: Project) -> Outcome {
    let fleets = admin.engine.fleet_counts().get(&project.id).copied().unwrap_or_default();
    Reply::ok(&ProjectJson::new(project, fleets))
}

/// The project that the path names. One out of reach is not found.
fn project_id(call: &Call<'_>) -> Result<ProjectId, Refusal> {
    let id = call.id(0, "project")?;
    match call.reach.has_project(id) {
        true => Ok(id),
        false => Err(Refusal::not_found(format!("there is no project {id}"))),
    }
}
