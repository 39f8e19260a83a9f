//! Fleets, their [`projects`] and their [`webhooks`], all of them in memory. The methods decide and return
//! the changes that make the decision durable. They do no I/O.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::EngineError;
use crate::fleet_file::{FleetFile, adapted};
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::fleet::{
    DEFAULT_PROJECT, Fleet, FleetDefinition, FleetVersion, Organization, Project, TextHash,
};
use crate::model::ids::{FleetId, ProjectId};
use crate::model::name::{find_by_name, is_same_name};
use crate::model::retention::Retention;
use crate::model::schedule::ZonedSchedule;
use crate::model::webhook::{TokenHash, Webhook};

mod access;
mod expected;
mod kept_paths;
mod last_use;
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

/// What an apply would do.
#[derive(Clone, Debug)]
pub struct PlannedApply {
    pub applied: Applied,
    pub project_name: String,
    /// The fleet that it would change.
    pub current: Option<FleetView>,
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

    /// Every fleet, in no order.
    pub fn views(&self) -> Vec<FleetView> {
        self.fleets.values().map(|entry| self.view(entry)).collect()
    }

    /// How many fleets each project has.
    pub fn fleet_counts(&self) -> HashMap<ProjectId, usize> {
        let mut counts = HashMap::new();
        for entry in self.fleets.values() {
            *counts.entry(entry.fleet.project_id).or_default() += 1;
        }
        counts
    }

    /// Every fleet, by name.
    pub fn fleets(&self) -> Vec<FleetView> {
        let mut fleets = self.views();
        fleets.sort_by(|a, b| (&a.fleet.name, a.fleet.id).cmp(&(&b.fleet.name, b.fleet.id)));
        fleets
    }

    /// The retention rules of fleets that have their own.
    pub fn keep_rules(&self) -> HashMap<FleetId, Retention> {
        let own = |entry: &FleetEntry| entry.current.definition.keep_runs;
        let rules = self.fleets.iter().map(|(id, entry)| Some((*id, own(entry)?)));
        rules.flatten().collect()
    }

    /// The number of the current version of each fleet.
    pub fn current_versions(&self) -> HashMap<FleetId, u32> {
        self.fleets.iter().map(|(id, entry)| (*id, entry.fleet.version)).collect()
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
            text: None,
        };
        let (view, saved) = self.save_version(fleet, file, None, now);
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
        follow_current(&mut file, &current.definition);
        check_answering_vessel(&file.definition)?;
        self.kept_paths.check(&file.definition, Some(id))?;
        let is_same = file.definition == current.definition && project_id == fleet.project_id;
        if is_same && let Some(changes) = self.keep_text(&fleet, &file) {
            return Ok((Applied::Unchanged, self.fleet(id)?, changes));
        }
        if let Some(former) = file.former.take().filter(|it| it.version == fleet.version)
            && file.text.is_none()
        {
            let project = self.projects.get(&project_id).map_or("", |project| &project.name);
            file.text = adapted(&former.text, &file.definition, project, true);
        }
        fleet.project_id = project_id;
        let (view, saved) = self.save_version(fleet, file, Some(&current), now);
        changes.extend(saved);
        Ok((Applied::Updated, view, changes))
    }

    /// The changes of an edit that leaves the definition of `fleet` as it is: its version takes `text` if
    /// it has none. `None` when it has another one, which a new version has to keep.
    fn keep_text(&mut self, fleet: &Fleet, file: &FleetFile) -> Option<Vec<Change>> {
        let Some(text) = &file.text else { return Some(Vec::new()) };
        if fleet.text.is_some() {
            return self.is_its_text(fleet, file).then(Vec::new);
        }
        let fleet = Fleet { text: Some(TextHash::of(text)), ..fleet.clone() };
        let put = put_text(&fleet, text);
        self.fleets.get_mut(&fleet.id)?.fleet = fleet.clone();
        Some(vec![Change::PutFleet(fleet), put])
    }

    /// Whether the text of `file`, which describes `fleet`, says nothing that the kept text does not say.
    fn is_its_text(&self, fleet: &Fleet, file: &FleetFile) -> bool {
        let (Some(kept), Some(text)) = (fleet.text, &file.text) else { return true };
        let project = self.projects.get(&fleet.project_id).map_or("", |project| &project.name);
        // What a file leaves as it is may have been added to the kept text.
        let whole = || adapted(text, &file.definition, project, true);
        TextHash::of(text) == kept || whole().is_some_and(|it| TextHash::of(&it) == kept)
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
        file.project.get_or_insert_with(|| DEFAULT_PROJECT.to_owned());
        let existing = self.named_in(&file)?;
        expected.check(existing)?;
        match existing.map(|fleet| fleet.id) {
            Some(id) => self.update_fleet(id, file, expected, now),
            None => {
                let (view, changes) = self.create_fleet(file, now)?;
                Ok((Applied::Created, view, changes))
            }
        }
    }

    /// The fleet of the project and name in `file`.
    ///
    /// # Errors
    /// When the file carries the id of another fleet.
    fn named_in(&self, file: &FleetFile) -> Result<Option<&Fleet>, EngineError> {
        let project = file.project.as_deref().unwrap_or(DEFAULT_PROJECT);
        let existing = self.fleet_named(project, &file.definition.name);
        let existing_id = existing.map(|fleet| fleet.id);
        if let Some(id) = file.id
            && Some(id) != existing_id
            && (existing.is_some() || self.fleets.contains_key(&id))
        {
            return Err(EngineError::Conflict(format!(
                "_id {id} does not belong to the fleet {:?}; remove the _id, or update that fleet by its id",
                file.definition.name
            )));
        }
        Ok(existing)
    }

    /// The fleet of the project and name in `file`, if there is one.
    pub fn id_named_in(&self, file: &FleetFile) -> Option<FleetId> {
        self.named_in(file).ok().flatten().map(|fleet| fleet.id)
    }

    /// What [`apply_fleet`](Self::apply_fleet) would do. Changes nothing.
    ///
    /// # Errors
    /// As [`apply_fleet`](Self::apply_fleet).
    pub fn plan_apply(&self, mut file: FleetFile) -> Result<PlannedApply, EngineError> {
        let existing = self.named_in(&file)?.map(|fleet| fleet.id);
        let current = existing.map(|id| self.fleet(id)).transpose()?;
        let definition = current.as_ref().map(|view| &view.current.definition);
        file.keep_hidden_values(definition)
            .map_err(|error| EngineError::Invalid(error.to_string()))?;
        let applied = match &current {
            None => Applied::Created,
            Some(view) => {
                follow_current(&mut file, &view.current.definition);
                check_answering_vessel(&file.definition)?;
                let is_same = file.definition == view.current.definition;
                match is_same && self.is_its_text(&view.fleet, &file) {
                    true => Applied::Unchanged,
                    false => Applied::Updated,
                }
            }
        };
        self.kept_paths.check(&file.definition, existing.or(file.id))?;
        let project = file.project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
        let existing = current.as_ref().map(|view| view.project_name.clone());
        Ok(PlannedApply { applied, project_name: existing.unwrap_or(project), current })
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
        FleetFile { definition, text, .. }: FleetFile,
        previous: Option<&FleetVersion>,
        now: Timestamp,
    ) -> (FleetView, Vec<Change>) {
        fleet.text = text.as_deref().map(TextHash::of);
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
        let mut changes =
            vec![Change::PutFleet(fleet.clone()), Change::AddFleetVersion(Arc::clone(&version))];
        self.kept_paths.put(&version);
        changes.extend(text.map(|text| put_text(&fleet, &text)));
        let webhook = self.fleets.remove(&fleet.id).and_then(|entry| entry.webhook);
        let entry = FleetEntry { fleet, current: version, webhook };
        let view = self.view(&entry);
        self.fleets.insert(entry.fleet.id, entry);
        (view, changes)
    }
}

/// Gives `file` what it leaves to the definition that there is: ids of vessels and, without the key
/// `webhook`, the settings of the webhook.
fn follow_current(file: &mut FleetFile, current: &FleetDefinition) {
    file.definition.keep_vessel_ids(current);
    if !file.has_webhook_settings {
        file.definition.webhook = current.webhook.clone();
    }
}

fn check_answering_vessel(definition: &FleetDefinition) -> Result<(), EngineError> {
    let checked = definition.check_answering_vessel();
    checked.map_err(|message| EngineError::Invalid(format!("webhook.respond.vessel: {message}")))
}

/// The text of the current version of `fleet`.
fn put_text(fleet: &Fleet, text: &str) -> Change {
    Change::PutFleetText { fleet: fleet.id, version: fleet.version, text: text.into() }
}
