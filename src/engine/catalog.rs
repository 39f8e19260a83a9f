//! What is configured: projects, fleets and webhooks, in memory as a whole. Its verbs decide and
//! return the changes that make the decision durable; they do no I/O.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::change::Change;
use crate::domain::fleet::{Fleet, FleetDefinition, FleetVersion, Organization, Project};
use crate::domain::ids::{FleetId, ProjectId};
use crate::domain::name::check_name;
use crate::domain::webhook::{PreviousToken, Token, TokenHash, Webhook};
use crate::engine::Refusal;
use crate::fleet_file::FleetFile;

/// How far the stored time of a webhook's last use may lag behind.
const LAST_USED_STEP: Duration = Duration::from_secs(60);
/// The project of a fleet that names none.
pub const DEFAULT_PROJECT: &str = "default";

/// See the module.
pub struct Catalog {
    pub organization: Organization,
    /// Stands in for a project that has been deleted under a run.
    pub no_project: Project,
    projects: HashMap<ProjectId, Project>,
    fleets: HashMap<FleetId, FleetEntry>,
    tokens: HashMap<TokenHash, FleetId>,
}

/// A fleet with what is current of it.
struct FleetEntry {
    fleet: Fleet,
    current: Arc<FleetVersion>,
    webhook: Option<WebhookEntry>,
}

/// A webhook, and when it was last used: written by every accept, under a shared lock.
struct WebhookEntry {
    webhook: Webhook,
    last_used_millis: AtomicI64,
    stored_millis: AtomicI64,
}

/// A fleet as others see it.
#[derive(Clone, Debug)]
pub struct FleetView {
    pub fleet: Fleet,
    pub project_name: String,
    pub current: Arc<FleetVersion>,
    pub has_webhook: bool,
}

/// What an apply came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Created,
    Updated,
    Unchanged,
}

impl Catalog {
    /// A catalog of what is stored. Each fleet comes with its current version.
    pub fn new(
        organization: Organization,
        projects: Vec<Project>,
        fleets: Vec<(Fleet, Arc<FleetVersion>)>,
        webhooks: Vec<Webhook>,
    ) -> Self {
        let projects = projects.into_iter().map(|project| (project.id, project)).collect();
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
        let mut catalog =
            Self { organization, no_project, projects, fleets, tokens: HashMap::new() };
        for webhook in webhooks {
            catalog.set_webhook(webhook);
        }
        catalog
    }

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

    /// Adds a project, or changes the one that `id` names.
    ///
    /// # Errors
    /// When the name is taken or not a name, or the time zone unknown.
    pub fn save_project(
        &mut self,
        id: Option<ProjectId>,
        name: &str,
        time_zone: &str,
        now: Timestamp,
    ) -> Result<(Project, Vec<Change>), Refusal> {
        check_name(name).map_err(|error| Refusal::Invalid(format!("name: {error}")))?;
        if jiff::tz::TimeZone::get(time_zone).is_err() {
            return Err(Refusal::Invalid(format!(
                "unknown time zone {time_zone:?}; write an IANA name such as Europe/Berlin"
            )));
        }
        let created_at = match id {
            Some(id) => self.projects.get(&id).ok_or_else(|| no_project(id))?.created_at,
            None => now,
        };
        if self.projects.values().any(|other| other.name == name && Some(other.id) != id) {
            return Err(Refusal::Conflict(format!("there is a project {name:?} already")));
        }
        let project = Project {
            id: id.unwrap_or_else(ProjectId::random),
            name: name.to_owned(),
            time_zone: time_zone.to_owned(),
            created_at,
        };
        self.projects.insert(project.id, project.clone());
        Ok((project.clone(), vec![Change::PutProject(project)]))
    }

    /// Removes a project that has no fleets.
    ///
    /// # Errors
    /// When there is none of this id, or it has fleets.
    pub fn delete_project(&mut self, id: ProjectId) -> Result<Vec<Change>, Refusal> {
        let project = self.projects.get(&id).ok_or_else(|| no_project(id))?;
        let fleets = self.fleets.values().filter(|entry| entry.fleet.project_id == id).count();
        if fleets > 0 {
            return Err(Refusal::Conflict(format!(
                "the project {:?} has {fleets} fleets; delete or move them first",
                project.name
            )));
        }
        self.projects.remove(&id);
        Ok(vec![Change::RemoveProject(id)])
    }

    /// Every fleet, by name.
    pub fn fleets(&self) -> Vec<FleetView> {
        let mut fleets: Vec<FleetView> = self.fleets.values().map(|it| self.view(it)).collect();
        fleets.sort_by(|a, b| {
            (&a.fleet.name, &a.project_name).cmp(&(&b.fleet.name, &b.project_name))
        });
        fleets
    }

    /// The fleet of this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn fleet(&self, id: FleetId) -> Result<FleetView, Refusal> {
        self.entry(id).map(|entry| self.view(entry))
    }

    /// The current version of a fleet.
    ///
    /// # Errors
    /// When there is no such fleet.
    pub fn current(&self, id: FleetId) -> Result<&Arc<FleetVersion>, Refusal> {
        self.entry(id).map(|entry| &entry.current)
    }

    /// Adds a fleet, making its project when that is missing.
    ///
    /// # Errors
    /// When its name is taken within the project.
    pub fn create_fleet(
        &mut self,
        file: FleetFile,
        now: Timestamp,
    ) -> Result<(FleetView, Vec<Change>), Refusal> {
        let name = file.project.as_deref().unwrap_or(DEFAULT_PROJECT);
        let existing = self.project_by_name(name);
        if let Some(project) = existing {
            self.check_fleet_name(project, &file.definition.name, None)?;
        }
        let (project_id, mut changes) = self.project_for(name, now)?;
        if let Some(id) = file.id
            && self.fleets.contains_key(&id)
        {
            return Err(Refusal::Conflict(format!("there is a fleet with the _id {id} already")));
        }
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
        now: Timestamp,
    ) -> Result<(Applied, FleetView, Vec<Change>), Refusal> {
        let entry = self.entry(id)?;
        if let Some(other) = file.id
            && other != id
        {
            return Err(Refusal::Conflict(format!(
                "the file's _id {other} is not that of the fleet {id}; remove it, or name the other fleet"
            )));
        }
        let mut fleet = entry.fleet.clone();
        let current = Arc::clone(&entry.current);
        let (project_id, mut changes) = match file.project.as_deref() {
            Some(name) => {
                if let Some(project) = self.project_by_name(name) {
                    self.check_fleet_name(project, &file.definition.name, Some(id))?;
                }
                self.project_for(name, now)?
            }
            None => (fleet.project_id, Vec::new()),
        };
        self.check_fleet_name(project_id, &file.definition.name, Some(id))?;
        file.definition.keep_vessel_ids(&current.definition);
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
        now: Timestamp,
    ) -> Result<(Applied, FleetView, Vec<Change>), Refusal> {
        let project = file.project.get_or_insert_with(|| DEFAULT_PROJECT.to_owned());
        let project = self.projects.values().find(|other| other.name == *project);
        let existing = project.and_then(|project| {
            self.fleets.values().find(|entry| {
                entry.fleet.project_id == project.id && entry.fleet.name == file.definition.name
            })
        });
        let existing = existing.map(|entry| entry.fleet.id);
        if let Some(id) = file.id
            && Some(id) != existing
            && (existing.is_some() || self.fleets.contains_key(&id))
        {
            return Err(Refusal::Conflict(format!(
                "_id {id} does not belong to the fleet {:?}; remove the _id, or update that fleet by its id",
                file.definition.name
            )));
        }
        match existing {
            Some(id) => self.update_fleet(id, file, now),
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
    pub fn delete_fleet(&mut self, id: FleetId) -> Result<Vec<Change>, Refusal> {
        self.entry(id)?;
        let mut changes = self.take_webhook(id);
        self.fleets.remove(&id);
        changes.push(Change::RemoveFleet(id));
        Ok(changes)
    }

    /// The webhook of a fleet, if it has one.
    ///
    /// # Errors
    /// When there is no such fleet.
    pub fn webhook(&self, id: FleetId, now: Timestamp) -> Result<Option<Webhook>, Refusal> {
        let entry = self.entry(id)?;
        Ok(entry.webhook.as_ref().map(|entry| entry.current(now)))
    }

    /// Gives a fleet its webhook.
    ///
    /// # Errors
    /// When there is no such fleet, or it has one.
    pub fn add_webhook(
        &mut self,
        id: FleetId,
        token: Token,
        now: Timestamp,
    ) -> Result<(Webhook, Vec<Change>), Refusal> {
        if self.entry(id)?.webhook.is_some() {
            return Err(Refusal::Conflict(
                "the fleet has a webhook already; show it, or replace it with a new one".into(),
            ));
        }
        let webhook =
            Webhook { fleet_id: id, token, created_at: now, last_used_at: None, previous: None };
        self.set_webhook(webhook.clone());
        Ok((webhook.clone(), vec![Change::PutWebhook(webhook)]))
    }

    /// Gives a fleet's webhook a new token. The old one is answered for another `grace`.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn replace_webhook(
        &mut self,
        id: FleetId,
        token: Token,
        grace: Duration,
        now: Timestamp,
    ) -> Result<(Webhook, Vec<Change>), Refusal> {
        let old = self.webhook(id, now)?.ok_or_else(no_webhook)?;
        let previous = (!grace.is_zero())
            .then(|| PreviousToken { token: old.token, valid_until: now.plus(grace) });
        let webhook = Webhook {
            fleet_id: id,
            token,
            created_at: now,
            last_used_at: old.last_used_at,
            previous,
        };
        let mut changes = self.take_webhook(id);
        self.set_webhook(webhook.clone());
        changes.push(Change::PutWebhook(webhook.clone()));
        Ok((webhook, changes))
    }

    /// Takes a fleet's webhook away.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn remove_webhook(&mut self, id: FleetId) -> Result<Vec<Change>, Refusal> {
        if self.entry(id)?.webhook.is_none() {
            return Err(no_webhook());
        }
        Ok(self.take_webhook(id))
    }

    /// The fleet that a token triggers, and the change that stores its use, once in a while.
    pub fn use_token(
        &self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Option<(Arc<FleetVersion>, Option<Change>)> {
        let entry = self.fleets.get(self.tokens.get(hash)?)?;
        let webhook = entry.webhook.as_ref()?;
        let is_current = webhook.webhook.token.hash() == *hash;
        let in_grace = webhook.webhook.previous.as_ref().is_some_and(|it| now < it.valid_until);
        if !is_current && !in_grace {
            return None;
        }
        Some((Arc::clone(&entry.current), webhook.note_use(now)))
    }

    fn entry(&self, id: FleetId) -> Result<&FleetEntry, Refusal> {
        self.fleets.get(&id).ok_or_else(|| Refusal::NotFound(format!("there is no fleet {id}")))
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

    fn project_by_name(&self, name: &str) -> Option<ProjectId> {
        self.projects.values().find(|project| project.name == name).map(|project| project.id)
    }

    /// The project of this name, made when it is missing.
    fn project_for(
        &mut self,
        name: &str,
        now: Timestamp,
    ) -> Result<(ProjectId, Vec<Change>), Refusal> {
        match self.project_by_name(name) {
            Some(id) => Ok((id, Vec::new())),
            None => {
                let (project, changes) = self.save_project(None, name, "UTC", now)?;
                Ok((project.id, changes))
            }
        }
    }

    fn check_fleet_name(
        &self,
        project: ProjectId,
        name: &str,
        own: Option<FleetId>,
    ) -> Result<(), Refusal> {
        let is_taken = self.fleets.values().any(|entry| {
            entry.fleet.project_id == project
                && entry.fleet.name == name
                && Some(entry.fleet.id) != own
        });
        if is_taken {
            return Err(Refusal::Conflict(format!(
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
        let webhook = self.fleets.remove(&fleet.id).and_then(|entry| entry.webhook);
        let entry = FleetEntry { fleet, current: version, webhook };
        let view = self.view(&entry);
        self.fleets.insert(entry.fleet.id, entry);
        (view, changes)
    }

    fn set_webhook(&mut self, webhook: Webhook) {
        let Some(entry) = self.fleets.get_mut(&webhook.fleet_id) else { return };
        self.tokens.insert(webhook.token.hash(), webhook.fleet_id);
        if let Some(previous) = &webhook.previous {
            self.tokens.insert(previous.token.hash(), webhook.fleet_id);
        }
        let last_used = webhook.last_used_at.map_or(i64::MIN, Timestamp::as_millis);
        entry.webhook = Some(WebhookEntry {
            webhook,
            last_used_millis: AtomicI64::new(last_used),
            stored_millis: AtomicI64::new(last_used),
        });
    }

    fn take_webhook(&mut self, id: FleetId) -> Vec<Change> {
        let webhook = self.fleets.get_mut(&id).and_then(|entry| entry.webhook.take());
        let Some(WebhookEntry { webhook, .. }) = webhook else { return Vec::new() };
        self.tokens.remove(&webhook.token.hash());
        if let Some(previous) = &webhook.previous {
            self.tokens.remove(&previous.token.hash());
        }
        vec![Change::RemoveWebhook(webhook.token.hash())]
    }
}

impl WebhookEntry {
    /// The webhook as it is now: last use included, a grace that has passed left out.
    fn current(&self, now: Timestamp) -> Webhook {
        let mut webhook = self.webhook.clone();
        let last_used = self.last_used_millis.load(Ordering::Relaxed);
        webhook.last_used_at = (last_used != i64::MIN).then(|| Timestamp::from_millis(last_used));
        webhook.previous = webhook.previous.filter(|previous| now < previous.valid_until);
        webhook
    }

    fn note_use(&self, now: Timestamp) -> Option<Change> {
        self.last_used_millis.store(now.as_millis(), Ordering::Relaxed);
        let stored = self.stored_millis.load(Ordering::Relaxed);
        let step = i64::try_from(LAST_USED_STEP.as_millis()).unwrap_or(i64::MAX);
        let is_behind = now.as_millis().abs_diff(stored) >= step.unsigned_abs();
        let is_mine = is_behind
            && self
                .stored_millis
                .compare_exchange(stored, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        is_mine.then(|| Change::PutWebhook(self.current(now)))
    }
}

fn no_project(id: ProjectId) -> Refusal {
    Refusal::NotFound(format!("there is no project {id}"))
}

fn no_webhook() -> Refusal {
    Refusal::NotFound("the fleet has no webhook; add one first".into())
}
