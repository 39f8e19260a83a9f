//! Fleets, their [`projects`] and their [`webhooks`], all of them in memory. The methods decide and return
//! the changes that make the decision durable. They do no I/O.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::EngineError;
use crate::fleet_file::FleetFile;
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::fleet::{
    DEFAULT_PROJECT, Fleet, FleetDefinition, FleetVersion, Organization, Project,
};
use crate::model::ids::{FleetId, ProjectId};
use crate::model::name::{find_by_name, is_same_name};
use crate::model::retention::Retention;
use crate::model::schedule::ZonedSchedule;
use crate::model::webhook::{TokenHash, Webhook};

mod access;
mod expected;
mod kept_paths;
mod projects;
#[cfg(test)]
mod tests;
mod webhooks;

use access::AccessTokens;
pub use access::{NewAccessToken, Reach};
pub use expected::ExpectedVersion;
use kept_paths::KeptPaths;
pub use webhooks::{AdmitError, WebhookView};
use webhooks::{LastUseBudget, WebhookEntry};

/// See the module.
pub struct Catalog {
    pub organization: Organization,
    /// Stands in for a deleted project of a run.
    pub no_project: Project,
    projects: HashMap<ProjectId, Project>,
    fleets: HashMap<FleetId, FleetEntry>,
    tokens: HashMap<TokenHash, FleetId>,
    kept_paths: KeptPaths,
    last_use_budget: LastUseBudget,
    access: AccessTokens,
}

/// A fleet with its current version and webhook.
struct FleetEntry {
    fleet: Fleet,
    current: Arc<FleetVersion>,
    webhook: Option<WebhookEntry>,
}

/// A fleet as clients see it.
#[derive(Clone, Debug)]
pub struct FleetView {
    pub fleet: Fleet,
    pub project_name: String,
    pub current: Arc<FleetVersion>,
    pub has_webhook: bool,
}

/// The result of an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Created,
    Updated,
    Unchanged,
}

impl Catalog {
    /// A catalog of stored rows. Each fleet comes with its current version.
    pub fn new(
        organization: Organization,
        projects: Vec<Project>,
        fleets: Vec<(Fleet, Arc<FleetVersion>)>,
        webhooks: Vec<Webhook>,
    ) -> Self {
        let projects = projects.into_iter().map(|project| (project.id, project)).collect();
        let mut kept_paths = KeptPaths::default();
        fleets.iter().for_each(|(_, current)| kept_paths.put(current));
        let fleets = fleets
            .into_iter()
            .map(|(fleet, current)| (fleet.id, FleetEntry { fleet, current, webhook: None }))
            .collect();
        let no_project = Project {
            id: ProjectId::random(),
            name: "deleted".to_owned(),
            time_zone: "UTC".to_owned(),
            created_at: Timestamp::default(),
        };
        let mut catalog = Self {
            organization,
            no_project,
            projects,
            fleets,
            tokens: HashMap::new(),
            kept_paths,
            last_use_budget: LastUseBudget::default(),
            access: AccessTokens::default(),
        };
        for webhook in webhooks {
            catalog.set_webhook(webhook);
        }
        catalog
    }

    /// Whether there is a fleet of this id.
    pub fn has_fleet(&self, id: FleetId) -> bool {
        self.fleets.contains_key(&id)
    }

    /// The schedules of every fleet.
    pub fn schedules(&self) -> Vec<(FleetId, Vec<ZonedSchedule>)> {
        self.fleets.keys().map(|id| (*id, self.schedules_of(*id))).collect()
    }

    /// The schedules of a fleet; none when there is no such fleet.
    pub fn schedules_of(&self, id: FleetId) -> Vec<ZonedSchedule> {
        let Some(FleetEntry { fleet, current, .. }) = self.fleets.get(&id) else {
            return Vec::new();
        };
        let project = self.projects.get(&fleet.project_id).unwrap_or(&self.no_project);
        let schedules = current.definition.schedules.iter();
        schedules.map(|schedule| ZonedSchedule::new(schedule, &project.time_zone)).collect()
    }

    /// The fleets of a project.
    pub fn fleets_of(&self, id: ProjectId) -> Vec<FleetId> {
        let of_project = self.fleets.values().filter(|entry| entry.fleet.project_id == id);
        of_project.map(|entry| entry.fleet.id).collect()
    }

    /// Every fleet, by name.
    pub fn fleets(&self) -> Vec<FleetView> {
        let mut fleets: Vec<FleetView> = self.fleets.values().map(|it| self.view(it)).collect();
        fleets.sort_by(|a, b| (&a.fleet.name, a.fleet.id).cmp(&(&b.fleet.name, b.fleet.id)));
        fleets
    }

    /// The retention rules of fleets that have their own.
    pub fn keep_rules(&self) -> HashMap<FleetId, Retention> {
        let own = |entry: &FleetEntry| entry.current.definition.keep_runs;
        let rules = self.fleets.iter().map(|(id, entry)| Some((*id, own(entry)?)));
        rules.flatten().collect()
    }

    /// The fleet of this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn fleet(&self, id: FleetId) -> Result<FleetView, EngineError> {
        self.entry(id).map(|entry| self.view(entry))
    }

    /// The current version of a fleet.
    ///
    /// # Errors
    /// When there is no such fleet.
    pub fn current(&self, id: FleetId) -> Result<&Arc<FleetVersion>, EngineError> {
        self.entry(id).map(|entry| &entry.current)
    }

    /// Adds a fleet, making its project when that is missing.
    ///
    /// # Errors
    /// When its name is taken within the project.
    pub fn create_fleet(
        &mut self,
        mut file: FleetFile,
        now: Timestamp,
    ) -> Result<(FleetView, Vec<Change>), EngineError> {
        file.keep_hidden_values(None).map_err(|error| EngineError::Invalid(error.to_string()))?;
        if let Some(id) = file.id
            && self.fleets.contains_key(&id)
        {
            return Err(EngineError::Conflict(format!(
                "there is a fleet with the _id {id} already"
            )));
        }
        let project = file.project.as_deref().unwrap_or(DEFAULT_PROJECT);
        let (project_id, mut changes) = self.project_for(project, now)?;
        self.check_fleet_name(project_id, &file.definition.name, None)?;
        self.kept_paths.check(&file.definition, file.id)?;
        let fleet = Fleet {
            id: file.id.unwrap_or_else(FleetId::random),
            project_id,
            name: file.definition.name.clone(),
            version: 0,
            created_at: now,
            updated_at: now,
        };
        let (view, saved) = self.save_version(fleet, file.definition, None, now);
        changes.extend(saved);
        Ok((view, changes))
    }

    /// Makes the next version of a fleet, unless nothing changes.
    ///
    /// # Errors
    /// When there is no such fleet, or its new name is taken.
    pub fn update_fleet(
        &mut self,
        id: FleetId,
        mut file: FleetFile,
        expected: &ExpectedVersion,
        now: Timestamp,
    ) -> Result<(Applied, FleetView, Vec<Change>), EngineError> {
        let entry = self.entry(id)?;
        expected.check(Some(&entry.fleet))?;
        if let Some(other) = file.id
            && other != id
        {
            return Err(EngineError::Conflict(format!(
                "the file's _id {other} is not that of the fleet {id}; remove it, or name the other fleet"
            )));
        }
        let mut fleet = entry.fleet.clone();
        let current = Arc::clone(&entry.current);
        file.keep_hidden_values(Some(&current.definition))
            .map_err(|error| EngineError::Invalid(error.to_string()))?;
        let (project_id, mut changes) = match file.project.as_deref() {
            Some(name) => self.project_for(name, now)?,
            None => (fleet.project_id, Vec::new()),
        };
        self.check_fleet_name(project_id, &file.definition.name, Some(id))?;
        file.definition.keep_vessel_ids(&current.definition);
        if !file.has_webhook_settings {
            file.definition.webhook = current.definition.webhook.clone();
        }
        file.definition.check_answering_vessel().map_err(|message| {
            EngineError::Invalid(format!("webhook.respond.vessel: {message}"))
        })?;
        self.kept_paths.check(&file.definition, Some(id))?;
        if file.definition == current.definition && project_id == fleet.project_id {
            return Ok((Applied::Unchanged, self.fleet(id)?, Vec::new()));
        }
        fleet.project_id = project_id;
        let (view, saved) = self.save_version(fleet, file.definition, Some(&current), now);
        changes.extend(saved);
        Ok((Applied::Updated, view, changes))
    }

    /// Creates the fleet of this project and name, or updates it.
    ///
    /// # Errors
    /// When the file carries the id of another fleet.
    pub fn apply_fleet(
        &mut self,
        mut file: FleetFile,
        expected: &ExpectedVersion,
        now: Timestamp,
    ) -> Result<(Applied, FleetView, Vec<Change>), EngineError> {
        let project = file.project.get_or_insert_with(|| DEFAULT_PROJECT.to_owned());
        let existing = self.fleet_named(project, &file.definition.name);
        expected.check(existing)?;
        let existing = existing.map(|fleet| fleet.id);
        if let Some(id) = file.id
            && Some(id) != existing
            && (existing.is_some() || self.fleets.contains_key(&id))
        {
            return Err(EngineError::Conflict(format!(
                "_id {id} does not belong to the fleet {:?}; remove the _id, or update that fleet by its id",
                file.definition.name
            )));
        }
        match existing {
            Some(id) => self.update_fleet(id, file, expected, now),
            None => {
                let (view, changes) = self.create_fleet(file, now)?;
                Ok((Applied::Created, view, changes))
            }
        }
    }

    /// Removes a fleet and its webhook. Runs already accepted hold their version.
    ///
    /// # Errors
    /// When there is no such fleet.
    pub fn delete_fleet(
        &mut self,
        id: FleetId,
        expected: &ExpectedVersion,
    ) -> Result<Vec<Change>, EngineError> {
        expected.check(Some(&self.entry(id)?.fleet))?;
        let mut changes = self.take_webhook(id);
        self.fleets.remove(&id);
        self.kept_paths.remove(id);
        changes.push(Change::RemoveFleet(id));
        Ok(changes)
    }

    fn entry(&self, id: FleetId) -> Result<&FleetEntry, EngineError> {
        self.fleets.get(&id).ok_or_else(|| EngineError::NotFound(format!("there is no fleet {id}")))
    }

    fn view(&self, entry: &FleetEntry) -> FleetView {
        let project = self.projects.get(&entry.fleet.project_id);
        FleetView {
            fleet: entry.fleet.clone(),
            project_name: project.map(|project| project.name.clone()).unwrap_or_default(),
            current: Arc::clone(&entry.current),
            has_webhook: entry.webhook.is_some(),
        }
    }

    fn fleet_named(&self, project: &str, name: &str) -> Option<&Fleet> {
        let project = self.project_by_name(project)?;
        let fleets = self.fleets.values().map(|entry| &entry.fleet);
        find_by_name(fleets.filter(|fleet| fleet.project_id == project), name, |it| &it.name)
    }

    fn check_fleet_name(
        &self,
        project: ProjectId,
        name: &str,
        own: Option<FleetId>,
    ) -> Result<(), EngineError> {
        let is_taken = self.fleets.values().any(|entry| {
            entry.fleet.project_id == project
                && is_same_name(&entry.fleet.name, name)
                && Some(entry.fleet.id) != own
        });
        if is_taken {
            return Err(EngineError::Conflict(format!(
                "there is a fleet {name:?} in this project already"
            )));
        }
        Ok(())
    }

    fn save_version(
        &mut self,
        mut fleet: Fleet,
        definition: FleetDefinition,
        previous: Option<&FleetVersion>,
        now: Timestamp,
    ) -> (FleetView, Vec<Change>) {
        fleet.name.clone_from(&definition.name);
        fleet.version = previous.map_or(1, |previous| previous.version + 1);
        fleet.updated_at = now;
        let version = Arc::new(FleetVersion {
            fleet_id: fleet.id,
            project_id: fleet.project_id,
            version: fleet.version,
            created_at: now,
            definition,
        });
        let changes =
            vec![Change::PutFleet(fleet.clone()), Change::AddFleetVersion(Arc::clone(&version))];
        self.kept_paths.put(&version);
        let webhook = self.fleets.remove(&fleet.id).and_then(|entry| entry.webhook);
        let entry = FleetEntry { fleet, current: version, webhook };
        let view = self.view(&entry);
        self.fleets.insert(entry.fleet.id, entry);
        (view, changes)
    }
}
