//! Methods for projects, fleets and webhooks: the catalog decides, the committer makes it durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::secrets::SecretError;
use crate::engine::catalog::{
    AdmitError, Applied, Catalog, ExpectedVersion, FleetView, PlannedApply, WebhookView,
};
use crate::engine::{Engine, EngineError};
use crate::fleet_file::{FleetFile, FleetFileError};
use crate::model::change::Change;
use crate::model::client_address::Client;
use crate::model::clock::Timestamp;
use crate::model::fleet::{
    FleetDefinition, FleetVersion, Organization, Program, Project, VesselDefinition,
};
use crate::model::ids::{FleetId, ProjectId};
use crate::model::run::RunRecord;
use crate::model::sender::Verification;
use crate::model::webhook::{Token, TokenHash, WebhookSettings};

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
    /// [`EngineError::NotFound`].
    pub fn project(&self, id: ProjectId) -> Result<Project, EngineError> {
        let catalog = self.catalog();
        let project = catalog.project(id).cloned();
        project.ok_or_else(|| EngineError::NotFound(format!("there is no project {id}")))
    }

    /// Adds a project.
    ///
    /// # Errors
    /// When the name is taken or invalid, or the time zone unknown.
    pub fn create_project(&self, name: &str, time_zone: &str) -> Result<Project, EngineError> {
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
    ) -> Result<Project, EngineError> {
        self.change(|catalog, now| catalog.save_project(Some(id), name, time_zone, now))
    }

    /// Removes a project.
    ///
    /// # Errors
    /// When there is none, or it has fleets.
    pub fn delete_project(&self, id: ProjectId) -> Result<(), EngineError> {
        self.change(|catalog, _| Ok(((), catalog.delete_project(id)?)))
    }

    /// How many fleets each project has.
    pub fn fleet_counts(&self) -> HashMap<ProjectId, usize> {
        self.catalog().fleet_counts()
    }

    /// Every fleet, by name.
    pub fn fleets(&self) -> Vec<FleetView> {
        self.catalog().fleets()
    }

    /// One fleet.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn fleet(&self, id: FleetId) -> Result<FleetView, EngineError> {
        self.catalog().fleet(id)
    }

    /// The current version of a fleet.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn current_version(&self, id: FleetId) -> Result<Arc<FleetVersion>, EngineError> {
        self.catalog().current(id).cloned()
    }

    /// Adds a fleet.
    ///
    /// # Errors
    /// When its name is taken, or its user does not exist. The methods below fail for the same reasons.
    pub fn create_fleet(&self, mut file: FleetFile) -> Result<FleetView, EngineError> {
        self.check_needs(&file)?;
        file.id = self.usable_id(file.id);
        self.change(|catalog, now| catalog.create_fleet(file, now))
    }

    /// Saves a new version of a fleet.
    ///
    /// # Errors
    /// When there is no such fleet, it is not as expected, or its new name is taken.
    pub fn update_fleet(
        &self,
        id: FleetId,
        file: FleetFile,
        expected: &ExpectedVersion,
    ) -> Result<FleetView, EngineError> {
        Ok(self.save_version(id, file, expected)?.1)
    }

    fn save_version(
        &self,
        id: FleetId,
        mut file: FleetFile,
        expected: &ExpectedVersion,
    ) -> Result<(Applied, FleetView), EngineError> {
        self.check_needs(&file)?;
        if file.text.is_none() {
            file.former = self.kept_text(id)?;
        }
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
    ) -> Result<(Applied, FleetView), EngineError> {
        self.check_needs(&file)?;
        file.id = self.usable_id(file.id);
        let named = self.catalog().id_named_in(&file);
        if let Some(id) = named.filter(|_| file.text.is_none()) {
            file.former = self.kept_text(id)?;
        }
        self.change(|catalog, now| {
            let (applied, view, changes) = catalog.apply_fleet(file, expected, now)?;
            Ok(((applied, view), changes))
        })
    }

    /// What [`apply_fleet`](Self::apply_fleet) would do. Changes nothing.
    ///
    /// # Errors
    /// As [`apply_fleet`](Self::apply_fleet).
    pub fn plan_apply(&self, file: FleetFile) -> Result<PlannedApply, EngineError> {
        self.check_needs(&file)?;
        self.catalog().plan_apply(file)
    }

    /// Removes a fleet and its webhook.
    ///
    /// # Errors
    /// When there is none, or it is not as expected.
    pub fn delete_fleet(&self, id: FleetId, expected: &ExpectedVersion) -> Result<(), EngineError> {
        self.change(|catalog, _| Ok(((), catalog.delete_fleet(id, expected)?)))
    }

    /// Up to `limit` versions of a fleet, newest first; with `before`, only older ones.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn fleet_versions(
        &self,
        id: FleetId,
        before: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Arc<FleetVersion>>, EngineError> {
        let current = self.current_version(id)?.version;
        let newest = before.map_or(current, |before| current.min(before.saturating_sub(1)));
        let versions = (1..=newest).rev().filter_map(|version| self.version(id, version));
        Ok(versions.take(limit).collect())
    }

    /// One version of a fleet.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub fn fleet_version(
        &self,
        id: FleetId,
        version: u32,
    ) -> Result<Arc<FleetVersion>, EngineError> {
        self.current_version(id)?;
        self.version(id, version).ok_or_else(|| {
            EngineError::NotFound(format!(
                "there is no version {version} of the fleet {id}, or it is kept no longer \
                 (keep_versions)"
            ))
        })
    }

    /// Saves the definition of an earlier version as the newest one, unless it is that already.
    ///
    /// # Errors
    /// When there is no such fleet or version, it is not as expected, or its name has been taken
    /// since.
    pub fn revert_fleet(
        &self,
        id: FleetId,
        version: u32,
        expected: &ExpectedVersion,
    ) -> Result<(Applied, FleetView), EngineError> {
        let earlier = self.fleet_version(id, version)?;
        let text = self.store.fleet_text(id, version);
        let file = FleetFile { text, ..FleetFile::of(id, earlier.definition.clone()) };
        self.save_version(id, file, expected)
    }

    /// The webhook of a fleet, if it has one.
    ///
    /// # Errors
    /// When there is no such fleet.
    pub fn webhook(&self, id: FleetId) -> Result<Option<WebhookView>, EngineError> {
        self.catalog().webhook(id, self.clock.now())
    }

    /// Gives a fleet its webhook, and edits its settings with `edit`.
    ///
    /// # Errors
    /// When there is no such fleet, it has a webhook, another webhook has the token, or `edit` fails.
    pub fn add_webhook(
        &self,
        id: FleetId,
        token: Option<Token>,
        edit: impl Fn(&mut WebhookSettings) -> Result<(), FleetFileError>,
    ) -> Result<WebhookView, EngineError> {
        let token = token.map_or_else(|| self.new_token(), Ok)?;
        self.check_edit(id, &edit)?;
        let text = self.kept_text(id)?;
        self.change(|catalog, now| catalog.add_webhook(id, token, edit, text, now))
    }

    /// Edits the settings of a fleet's webhook with `edit`, which makes a version of the fleet.
    ///
    /// # Errors
    /// When there is no such fleet, it has no webhook or is not as expected, or `edit` fails.
    pub fn edit_webhook_settings(
        &self,
        id: FleetId,
        expected: &ExpectedVersion,
        edit: impl Fn(&mut WebhookSettings) -> Result<(), FleetFileError>,
    ) -> Result<WebhookView, EngineError> {
        self.check_edit(id, &edit)?;
        let text = self.kept_text(id)?;
        self.change(|catalog, now| catalog.edit_webhook_settings(id, edit, expected, text, now))
    }

    /// Pauses a fleet's webhook, or lets it take requests again.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn pause_webhook(&self, id: FleetId, is_paused: bool) -> Result<WebhookView, EngineError> {
        self.change(|catalog, now| catalog.pause_webhook(id, is_paused, now))
    }

    /// Gives a fleet's webhook a new URL. The old URL works for another `grace`.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn replace_webhook(
        &self,
        id: FleetId,
        grace: Duration,
    ) -> Result<WebhookView, EngineError> {
        let token = self.new_token()?;
        self.change(|catalog, now| catalog.replace_webhook(id, token, grace, now))
    }

    /// Removes a fleet's webhook.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn remove_webhook(&self, id: FleetId) -> Result<(), EngineError> {
        self.change(|catalog, _| Ok(((), catalog.remove_webhook(id)?)))
    }

    /// Admits a request of `client` to the webhook of a token, and counts it against the rate limit.
    ///
    /// # Errors
    /// See [`AdmitError`].
    pub fn admit(&self, hash: &TokenHash, client: Client) -> Result<FleetId, AdmitError> {
        self.catalog().admit(hash, client, self.clock.now())
    }

    /// The fleet of the webhook with this token, without a note of a use.
    pub fn fleet_of_token(&self, hash: &TokenHash) -> Option<FleetId> {
        self.catalog().fleet_of_token(hash, self.clock.now())
    }

    /// The present token of the webhook that is answered under the name of its fleet.
    pub fn token_of_kept_path(&self, name: &str) -> Option<TokenHash> {
        self.catalog().token_of_kept_path(name)
    }

    /// Whether a handshake of the webhook with this token comes with `method`.
    pub fn has_handshake_by(&self, hash: &TokenHash, method: &str) -> bool {
        self.catalog().has_handshake_by(hash, method, self.clock.now())
    }

    /// The current version of the fleet that a token triggers. Takes note of the use.
    pub fn fleet_by_token(&self, hash: &TokenHash) -> Option<Arc<FleetVersion>> {
        let catalog = self.catalog();
        let (version, change) = catalog.use_token(hash, self.clock.now())?;
        if let Some(change) = change {
            // Not awaited: the commits are in order, so it is durable before the run that follows.
            drop(self.store.commit(vec![change]));
        }
        Some(version)
    }

    /// The id that a file asks for, unless it was the id of a deleted fleet: the runs of that fleet
    /// still need its stored versions.
    fn usable_id(&self, id: Option<FleetId>) -> Option<FleetId> {
        id.filter(|id| self.current_version(*id).is_ok() || !self.store.has_versions(*id))
    }

    /// The fleet version of a run.
    pub fn version_of(&self, run: &RunRecord) -> Option<Arc<FleetVersion>> {
        self.version(run.fleet_id, run.fleet_version)
    }

    /// Any version of any fleet, deleted fleets included.
    pub(super) fn version(&self, id: FleetId, version: u32) -> Option<Arc<FleetVersion>> {
        if let Ok(current) = self.catalog().current(id)
            && current.version == version
        {
            return Some(Arc::clone(current));
        }
        let stored = self.store.fleet_version(id, version);
        stored
            .inspect_err(|error| log::error!(error:% = error; "skipping a damaged fleet version"))
            .ok()
            .flatten()
            .map(Arc::new)
    }

    /// Whether the machine has the user and the secrets that the file names. Every start
    /// and every request checks it again.
    fn check_needs(&self, file: &FleetFile) -> Result<(), EngineError> {
        let invalid = |error: FleetFileError| EngineError::Invalid(error.to_string());
        if let Some(user) = &file.definition.user {
            let checked = self.launcher.check_user(user);
            checked.map_err(|message| invalid(file.refuse_user(message)))?;
        }
        for (path, choice) in file.definition.runner_choices() {
            let known = self.settings.runners.check(choice);
            known.map_err(|unknown| {
                invalid(FleetFileError::invalid(None, &path, unknown.to_string()))
            })?;
        }
        if let Some((path, message)) = self.refuse_packages(&file.definition) {
            return Err(invalid(FleetFileError::invalid(None, &path, message.to_owned())));
        }
        // Another fault of a secret than its absence is told when the vessel starts.
        let is_missing = |secret| {
            matches!(self.secrets.store().examine("", secret), Err(SecretError::Missing { .. }))
        };
        if let Some(missing) = file.references.iter().find(|it| is_missing(&it.secret)) {
            return Err(invalid(missing.missing.clone()));
        }
        let checked = self.check_sender(&file.definition.webhook);
        checked.map_err(|message| invalid(file.refuse_verify(message)))
    }

    /// Where the definition names packages that are not installed, and what to do.
    fn refuse_packages(&self, definition: &FleetDefinition) -> Option<(String, &'static str)> {
        const NOT_ALLOWED: &str = "this server installs no packages; its operator can allow it with the \
                                   setting `install_packages = true`, or install them for all, and you \
                                   remove `packages`";
        const ELSEWHERE: &str = "the vessel has a runner, whose image or machine must bring them; remove \
                                 `packages`, or set `runner: none`";
        let names_packages = |vessel: &&VesselDefinition| matches!(&vessel.program, Program::Code(code) if !code.packages.is_empty());
        // A runner that is not known is refused before.
        let has_runner = |vessel: &VesselDefinition| {
            let runner = self.settings.runners.of(definition, vessel).ok().flatten();
            runner.is_some_and(|runner| !runner.command.is_empty())
        };
        definition.vessels.iter().filter(names_packages).find_map(|vessel| {
            let message = match (has_runner(vessel), self.settings.install_packages) {
                (true, _) => ELSEWHERE,
                (false, false) => NOT_ALLOWED,
                (false, true) => return None,
            };
            Some((format!("vessels.{}.source.packages", vessel.name), message))
        })
    }

    /// Whether the secrets that `edit` adds to the webhook settings of a fleet have values. Reads their
    /// files, so that it is called without a lock, before the edit is decided.
    fn check_edit(
        &self,
        id: FleetId,
        edit: impl Fn(&mut WebhookSettings) -> Result<(), FleetFileError>,
    ) -> Result<(), EngineError> {
        let invalid = |error: FleetFileError| EngineError::Invalid(error.to_string());
        let version = self.current_version(id)?;
        let former = &version.definition.webhook;
        let mut settings = former.clone();
        edit(&mut settings).map_err(invalid)?;
        if settings.verify == former.verify {
            return Ok(());
        }
        let checked = self.check_sender(&settings);
        checked.map_err(|message| invalid(FleetFileError::invalid(None, "verify", message)))
    }

    /// Whether the secrets have values with which the fleet verifies its sender, but for those that a
    /// handshake brings.
    fn check_sender(&self, settings: &WebhookSettings) -> Result<(), String> {
        let brought = settings.verify.iter().flat_map(Verification::brought_secrets);
        let brought: Vec<_> = brought.collect();
        let named = settings.verify.iter().flat_map(Verification::secrets);
        for secret in named.filter(|secret| !brought.contains(secret)) {
            let name = secret.as_str();
            let why = match self.secrets.store().current(secret) {
                Ok(_) => continue,
                Err(SecretError::Missing { .. }) => {
                    format!("there is no secret `{name}`; set it: boathook secret set {name}")
                }
                Err(error) => format!("the secret `{name}` cannot be used: {error}"),
            };
            let kept = self.secrets.store().list().unwrap_or_default();
            let names: Vec<_> = kept.iter().map(|secret| secret.name.as_str()).collect();
            return Err(match names.is_empty() {
                true => why,
                false => format!("{why}. There are {}", names.join(", ")),
            });
        }
        Ok(())
    }

    pub(super) fn new_token(&self) -> Result<Token, EngineError> {
        Token::drawn_from(self.random.as_ref()).map_err(|error| {
            EngineError::Overloaded(format!("the system has no randomness for a token: {error}"))
        })
    }

    /// Decides a change of the catalog and makes it durable.
    pub(super) fn change<T>(
        &self,
        decide: impl FnOnce(&mut Catalog, Timestamp) -> Result<(T, Vec<Change>), EngineError>,
    ) -> Result<T, EngineError> {
        let mut schedules = self.schedules();
        let mut catalog = self.catalog_mut();
        let now = self.clock.now();
        let (result, mut changes) = decide(&mut catalog, now)?;
        if changes.is_empty() {
            return Ok(result);
        }
        changes.extend(schedules.follow(&catalog, &changes, now));
        changes.extend(self.outdated_texts(&changes));
        let touches_fleets = changes
            .iter()
            .any(|change| matches!(change, Change::PutFleet(_) | Change::RemoveFleet(_)));
        let removed = changes.iter().filter_map(|change| match change {
            Change::RemoveFleet(fleet) => Some(*fleet),
            _ => None,
        });
        let removed: Vec<FleetId> = removed.collect();
        let commit = self.store.commit(changes);
        drop(catalog);
        self.set_alarm(&schedules, now);
        drop(schedules);
        commit.wait();
        if !removed.is_empty() {
            self.ledger.forget(removed.into_iter());
            self.decisions().events.ask_for_pass();
        }
        if touches_fleets {
            self.keep_rules_changed();
        }
        Ok(result)
    }
}
