//! The engine's verbs for what is configured: the catalog decides, the committer makes it durable.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::catalog::{Applied, Catalog, Denied, ExpectedVersion, FleetView};
use crate::engine::{Engine, Refusal};
use crate::fleet_file::FleetFile;
use crate::model::change::Change;
use crate::model::client_address::Client;
use crate::model::clock::Timestamp;
use crate::model::fleet::{FleetVersion, Organization, Project};
use crate::model::ids::{FleetId, ProjectId};
use crate::model::run::RunRecord;
use crate::model::webhook::{Token, TokenHash, Webhook, WebhookSettings};

impl Engine {
    /// The organization.
    pub fn organization(&self) -> Organization {
        self.catalog().organization.clone()
    }

    /// Every project, by name.
    pub fn projects(&self) -> Vec<Project> {
        self.catalog().projects()
    }

    /// One project.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn project(&self, id: ProjectId) -> Result<Project, Refusal> {
        let catalog = self.catalog();
        let project = catalog.project(id).cloned();
        project.ok_or_else(|| Refusal::NotFound(format!("there is no project {id}")))
    }

    /// Adds a project.
    ///
    /// # Errors
    /// When the name is taken or invalid, or the time zone unknown.
    pub fn create_project(&self, name: &str, time_zone: &str) -> Result<Project, Refusal> {
        self.change(|catalog, now| catalog.save_project(None, name, time_zone, now))
    }

    /// Changes a project.
    ///
    /// # Errors
    /// As [`create_project`](Self::create_project), or when there is none.
    pub fn update_project(
        &self,
        id: ProjectId,
        name: &str,
        time_zone: &str,
    ) -> Result<Project, Refusal> {
        self.change(|catalog, now| catalog.save_project(Some(id), name, time_zone, now))
    }

    /// Removes a project.
    ///
    /// # Errors
    /// When there is none, or it has fleets.
    pub fn delete_project(&self, id: ProjectId) -> Result<(), Refusal> {
        self.change(|catalog, _| Ok(((), catalog.delete_project(id)?)))
    }

    /// Every fleet, by name.
    pub fn fleets(&self) -> Vec<FleetView> {
        self.catalog().fleets()
    }

    /// One fleet.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn fleet(&self, id: FleetId) -> Result<FleetView, Refusal> {
        self.catalog().fleet(id)
    }

    /// The current version of a fleet.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn current_version(&self, id: FleetId) -> Result<Arc<FleetVersion>, Refusal> {
        self.catalog().current(id).cloned()
    }

    /// Adds a fleet.
    ///
    /// # Errors
    /// When its name is taken, or its user not to be had. So it is with those below.
    pub fn create_fleet(&self, mut file: FleetFile) -> Result<FleetView, Refusal> {
        self.check_user(&file)?;
        file.id = self.usable_id(file.id);
        self.change(|catalog, now| catalog.create_fleet(file, now))
    }

    /// Saves a new version of a fleet.
    ///
    /// # Errors
    /// When there is none, it is not as expected, or its new name is taken.
    pub fn update_fleet(
        &self,
        id: FleetId,
        file: FleetFile,
        expected: &ExpectedVersion,
    ) -> Result<FleetView, Refusal> {
        Ok(self.save_version(id, file, expected)?.1)
    }

    fn save_version(
        &self,
        id: FleetId,
        file: FleetFile,
        expected: &ExpectedVersion,
    ) -> Result<(Applied, FleetView), Refusal> {
        self.check_user(&file)?;
        self.change(|catalog, now| {
            let (applied, view, changes) = catalog.update_fleet(id, file, expected, now)?;
            Ok(((applied, view), changes))
        })
    }

    /// Creates or updates the fleet of this project and name.
    ///
    /// # Errors
    /// When the file carries the id of another fleet, or the fleet is not as expected.
    pub fn apply_fleet(
        &self,
        mut file: FleetFile,
        expected: &ExpectedVersion,
    ) -> Result<(Applied, FleetView), Refusal> {
        self.check_user(&file)?;
        file.id = self.usable_id(file.id);
        self.change(|catalog, now| {
            let (applied, view, changes) = catalog.apply_fleet(file, expected, now)?;
            Ok(((applied, view), changes))
        })
    }

    /// Removes a fleet and its webhook.
    ///
    /// # Errors
    /// When there is none, or it is not as expected.
    pub fn delete_fleet(&self, id: FleetId, expected: &ExpectedVersion) -> Result<(), Refusal> {
        self.change(|catalog, _| Ok(((), catalog.delete_fleet(id, expected)?)))
    }

    /// Up to `limit` versions of a fleet, those older than `before` if it is given, newest first.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn fleet_versions(
        &self,
        id: FleetId,
        before: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Arc<FleetVersion>>, Refusal> {
        let current = self.current_version(id)?.version;
        let newest = before.map_or(current, |before| current.min(before.saturating_sub(1)));
        let versions = (1..=newest).rev().filter_map(|version| self.version(id, version));
        Ok(versions.take(limit).collect())
    }

    /// One version of a fleet.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn fleet_version(&self, id: FleetId, version: u32) -> Result<Arc<FleetVersion>, Refusal> {
        self.current_version(id)?;
        self.version(id, version).ok_or_else(|| {
            Refusal::NotFound(format!("there is no version {version} of the fleet {id}"))
        })
    }

    /// Makes the definition of an earlier version the newest one, unless it is that already.
    ///
    /// # Errors
    /// When there is no such fleet or version, it is not as expected, or its name has been taken
    /// since.
    pub fn revert_fleet(
        &self,
        id: FleetId,
        version: u32,
        expected: &ExpectedVersion,
    ) -> Result<(Applied, FleetView), Refusal> {
        let earlier = self.fleet_version(id, version)?;
        self.save_version(id, FleetFile::of(id, earlier.definition.clone()), expected)
    }

    /// The webhook of a fleet, if it has one.
    ///
    /// # Errors
    /// When there is no such fleet.
    pub fn webhook(&self, id: FleetId) -> Result<Option<Webhook>, Refusal> {
        self.catalog().webhook(id, self.clock.now())
    }

    /// Gives a fleet its webhook.
    ///
    /// # Errors
    /// When there is no such fleet, or it has one.
    pub fn add_webhook(&self, id: FleetId, settings: WebhookSettings) -> Result<Webhook, Refusal> {
        let token = self.new_token()?;
        self.change(|catalog, now| catalog.add_webhook(id, token, settings, now))
    }

    /// Changes whose requests a fleet's webhook takes, and how many.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn set_webhook_settings(
        &self,
        id: FleetId,
        settings: WebhookSettings,
    ) -> Result<Webhook, Refusal> {
        self.change(|catalog, now| catalog.set_webhook_settings(id, settings, now))
    }

    /// Gives a fleet's webhook a new URL; the old one is answered for another `grace`.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn replace_webhook(&self, id: FleetId, grace: Duration) -> Result<Webhook, Refusal> {
        let token = self.new_token()?;
        self.change(|catalog, now| catalog.replace_webhook(id, token, grace, now))
    }

    /// Takes a fleet's webhook away.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn remove_webhook(&self, id: FleetId) -> Result<(), Refusal> {
        self.change(|catalog, _| Ok(((), catalog.remove_webhook(id)?)))
    }

    /// Whether `client` may send a request to the webhook of a token now; it counts if it may.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn admit(&self, hash: &TokenHash, client: Client) -> Result<FleetId, Denied> {
        self.catalog().admit(hash, client, self.clock.now())
    }

    /// The current version of the fleet that a token triggers. Notes the use.
    pub fn fleet_by_token(&self, hash: &TokenHash) -> Option<Arc<FleetVersion>> {
        let catalog = self.catalog();
        let (version, change) = catalog.use_token(hash, self.clock.now())?;
        if let Some(change) = change {
            // Nobody is promised this; it is on disk before the run that follows is.
            drop(self.storage.commit(vec![change]));
        }
        Some(version)
    }

    /// The id that a file asks for, unless it was a deleted fleet's: its versions are still there
    /// for the runs that hold them, and must not be overwritten.
    fn usable_id(&self, id: Option<FleetId>) -> Option<FleetId> {
        id.filter(|id| self.current_version(*id).is_ok() || self.version(*id, 1).is_none())
    }

    /// The version that a run holds.
    pub fn version_of(&self, run: &RunRecord) -> Option<Arc<FleetVersion>> {
        self.version(run.fleet_id, run.fleet_version)
    }

    /// Any version of any fleet, also of one that has been deleted.
    pub(super) fn version(&self, id: FleetId, version: u32) -> Option<Arc<FleetVersion>> {
        if let Ok(current) = self.catalog().current(id)
            && current.version == version
        {
            return Some(Arc::clone(current));
        }
        let stored = self.storage.fleet_version(id, version);
        stored
            .inspect_err(|error| log::error!(error:% = error; "skipping a damaged fleet version"))
            .ok()
            .flatten()
            .map(Arc::new)
    }

    /// Whether the vessels of the fleet may run as the user it names. Asked again at every start.
    fn check_user(&self, file: &FleetFile) -> Result<(), Refusal> {
        let Some(user) = &file.definition.user else { return Ok(()) };
        let checked = self.launcher.check_user(user);
        checked.map_err(|message| Refusal::Invalid(file.refuse_user(message).to_string()))
    }

    fn new_token(&self) -> Result<Token, Refusal> {
        Token::drawn_from(self.random.as_ref()).map_err(|error| {
            Refusal::Overloaded(format!("the system has no randomness for a token: {error}"))
        })
    }

    /// Decides a change of the catalog and makes it durable.
    fn change<T>(
        &self,
        decide: impl FnOnce(&mut Catalog, Timestamp) -> Result<(T, Vec<Change>), Refusal>,
    ) -> Result<T, Refusal> {
        let mut catalog = self.catalog_mut();
        let (result, changes) = decide(&mut catalog, self.clock.now())?;
        if changes.is_empty() {
            return Ok(result);
        }
        let touches_fleets = changes
            .iter()
            .any(|change| matches!(change, Change::PutFleet(_) | Change::RemoveFleet(_)));
        let ticket = self.storage.commit(changes);
        drop(catalog);
        ticket.wait();
        if touches_fleets {
            self.keep_rules_changed();
        }
        Ok(result)
    }
}
