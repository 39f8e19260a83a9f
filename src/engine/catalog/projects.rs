//! The projects of the catalog.

use std::collections::BTreeMap;

use super::Catalog;
use crate::engine::EngineError;
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::fleet::Project;
use crate::model::ids::ProjectId;
use crate::model::name::{checked_name, find_by_name, is_same_name};
use crate::model::time_zone;

impl Catalog {
    /// Every project, by name.
    pub fn projects(&self) -> Vec<Project> {
        let by_name: BTreeMap<&str, &Project> =
            self.projects.values().map(|project| (project.name.as_str(), project)).collect();
        by_name.into_values().cloned().collect()
    }

    /// The project of this id.
    pub fn project(&self, id: ProjectId) -> Option<&Project> {
        self.projects.get(&id)
    }

    /// Adds a project, or changes the one of this `id`.
    ///
    /// # Errors
    /// When the name is taken or not a name, or the time zone unknown.
    pub fn save_project(
        &mut self,
        id: Option<ProjectId>,
        name: &str,
        time_zone: &str,
        now: Timestamp,
    ) -> Result<(Project, Vec<Change>), EngineError> {
        let stored =
            id.map(|id| self.projects.get(&id).ok_or_else(|| no_project(id))).transpose()?;
        // A project with a name that is invalid by now can still be changed.
        let name = match stored.is_some_and(|stored| stored.name == name) {
            true => name.to_owned(),
            false => self.free_project_name(name, id)?,
        };
        if stored.is_none_or(|stored| stored.time_zone != time_zone) {
            time_zone::check(time_zone).map_err(EngineError::Invalid)?;
        }
        let project = Project {
            id: id.unwrap_or_else(ProjectId::random),
            name,
            time_zone: time_zone.to_owned(),
            created_at: stored.map_or(now, |stored| stored.created_at),
        };
        self.projects.insert(project.id, project.clone());
        Ok((project.clone(), vec![Change::PutProject(project)]))
    }

    /// The normalized `name`, if no project except `own` has it.
    fn free_project_name(&self, name: &str, own: Option<ProjectId>) -> Result<String, EngineError> {
        let name =
            checked_name(name).map_err(|error| EngineError::Invalid(format!("name: {error}")))?;
        let is_taken = |other: &Project| is_same_name(&other.name, &name) && Some(other.id) != own;
        match self.projects.values().any(is_taken) {
            true => Err(EngineError::Conflict(format!("there is a project {name:?} already"))),
            false => Ok(name),
        }
    }

    /// Removes a project that has no fleets.
    ///
    /// # Errors
    /// When there is none of this id, or it has fleets.
    pub fn delete_project(&mut self, id: ProjectId) -> Result<Vec<Change>, EngineError> {
        let project = self.projects.get(&id).ok_or_else(|| no_project(id))?;
        let fleets = self.fleets.values().filter(|entry| entry.fleet.project_id == id).count();
        if fleets > 0 {
            return Err(EngineError::Conflict(format!(
                "the project {:?} has {fleets} fleets; delete or move them first",
                project.name
            )));
        }
        self.projects.remove(&id);
        Ok(vec![Change::RemoveProject(id)])
    }

    pub(super) fn project_by_name(&self, name: &str) -> Option<ProjectId> {
        let project = find_by_name(self.projects.values(), name, |project| &project.name);
        project.map(|project| project.id)
    }

    /// The project of this name, made when it is missing.
    pub(super) fn project_for(
        &mut self,
        name: &str,
        now: Timestamp,
    ) -> Result<(ProjectId, Vec<Change>), EngineError> {
        match self.project_by_name(name) {
            Some(id) => Ok((id, Vec::new())),
            None => {
                let (project, changes) = self.save_project(None, name, "UTC", now)?;
                Ok((project.id, changes))
            }
        }
    }
}

fn no_project(id: ProjectId) -> EngineError {
    EngineError::NotFound(format!("there is no project {id}"))
}
