//! Opening the engine on what the last server left: who it was, what is configured, which runs are
//! unfinished, and what of them is still running.
//!
//! Order matters. Leftovers of a crash are found by what the stored rows say was running, so these
//! are noted in the database before this server changes a row, until the leftovers have ended; work
//! directories are judged by the boot that the last server recorded, so they are seen to before,
//! too. A crash during recovery repeats it.
//!
//! Leftovers may take long to end. Runs are accepted meanwhile; only starting vessels and
//! delivering notifications waits for it ([`Engine::end_leftovers`]).
//!
//! What comes from a backup has no leftovers and no directories, and most of it ends at once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread::{self, JoinHandle};

use crate::config::Settings;
use crate::config::secrets::SecretStore;
use crate::engine::catalog::Catalog;
use crate::engine::history::History;
use crate::engine::outbox::Outbox;
use crate::engine::pause::Launching;
use crate::engine::{Decisions, Engine, Instruments, Phase, World};
use crate::model::change::{Change, QueueEntry, RestoredFrom, ServerRecord};
use crate::model::clock::Timestamp;
use crate::model::fleet::{DEFAULT_PROJECT, Delivery, FleetVersion, Organization, Project};
use crate::model::ids::{
    FleetId, InstanceId, OrganizationId, ProjectId, RunId, RunIds, VesselRunId,
};
use crate::model::retention::Retention;
use crate::model::run::Status;
use crate::runner::{Launcher, Unfinished};
use crate::scheduler::{Cause, Discard, Interruption, Queue, Restored, Started};
use crate::store::{Storage, StorageError};

mod ledger;

use ledger::Ledger;

/// Changes that recovery commits at a time, give or take a run: how many there are depends on how
/// much was running. Few, so that no transaction grows with it, and that simulated recoveries have
/// several commits to crash between.
const CHANGES_PER_COMMIT: usize = 32;
/// The same for runs of a backup that end at once: a million of them in some thousand commits.
const DISCARDED_PER_COMMIT: usize = 1024;

/// Vessel runs in a row of leftovers: it stays within the bytes of a row.
const LEFTOVERS_PER_ROW: usize = 64;

/// Why the engine does not open.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(
        "version {version} of the fleet {fleet} is missing, and the run {run} needs it; restore a backup"
    )]
    MissingVersion { fleet: FleetId, version: u32, run: RunId },
}

/// What recovery finds.
#[derive(Debug, Default)]
struct Recovery {
    /// What the last server left running.
    unfinished: Unfinished,
    /// Runs whose work directory is to be removed before any vessel starts.
    restarted: Vec<RunId>,
    waiting: usize,
    resumed: usize,
    ended: usize,
}

/// The state that recovery builds up.
struct Restoring<'a> {
    storage: &'a Storage,
    launcher: &'a dyn Launcher,
    queue: Queue,
    recovery: Recovery,
    /// What belongs together, and must not be torn by a crash.
    changes: Vec<Vec<Change>>,
    versions: HashMap<(FleetId, u32), Arc<FleetVersion>>,
    /// What the last server left behind; `None` on a new data directory.
    last: Option<ServerRecord>,
    boot_id: String,
    now: Timestamp,
}

impl Engine {
    /// Opens the engine: reads what is stored, decides what becomes of interrupted runs, and makes
    /// the decisions durable. Nothing runs before [`end_leftovers`](Self::end_leftovers) has ended
    /// what is left of them, and workers are there: see [`start_workers`](Self::start_workers).
    ///
    /// # Errors
    /// When stored state cannot be read.
    pub fn open(
        settings: Arc<Settings>,
        storage: Storage,
        world: World,
    ) -> Result<Arc<Self>, RecoveryError> {
        let World { launcher, clock, random, boot_id, promised_bytes, on_pause } = world;
        let now = clock.now();
        let last = storage.server()?;
        let server = ServerRecord {
            instance: last.as_ref().map_or_else(InstanceId::random, |last| last.instance),
            boot_id: boot_id.clone(),
            stopped_cleanly: false,
            restored: None,
        };
        let mut restoring = Restoring {
            storage: &storage,
            launcher: launcher.as_ref(),
            queue: Queue::new(settings.max_queued_runs, settings.max_crash_attempts),
            recovery: Recovery::default(),
            changes: Vec::new(),
            versions: HashMap::new(),
            last,
            boot_id,
            now,
        };
        let catalog = restoring.catalog()?;
        restoring.sweep_uploads()?;
        restoring.sweep_versions()?;
        let mut ledger = Ledger {
            storage: &storage,
            outbox: Outbox::default(),
            history: stored_history(&storage, settings.keep_runs)?,
            instruments: Instruments::default(),
            commit: Vec::new(),
            now,
        };
        if restoring.ends_all() {
            ledger.give_up_notifications()?;
        }
        for record in storage.notifications() {
            let record = record?;
            restoring.recovery.unfinished.notifications.insert(record.message_id());
            ledger.outbox.restore(record);
        }
        for entry in storage.queue() {
            restoring.restore(&entry?, &mut ledger)?;
        }
        let Restoring { queue, mut recovery, changes, .. } = restoring;
        // Leftovers are found by rows that say Running, and directories are judged by the boot that
        // the last server recorded: both are seen to before any of that changes.
        recovery.unfinished.vessel_runs.extend(storage.leftovers()?.into_iter().flatten());
        ledger.commit.extend(leftovers_rows(&recovery.unfinished));
        for run in &recovery.restarted {
            launcher.wipe_directory(*run);
        }
        for changes in changes {
            ledger.enter(changes);
            ledger.commit_from(CHANGES_PER_COMMIT);
        }
        // Last: a crash before this repeats the recovery, on what the last server left.
        ledger.commit.push(Change::PutServer(server.clone()));
        ledger.commit_from(0);
        let Ledger { outbox, history, instruments, .. } = ledger;
        recovery.log();
        let awaits_leftovers = !recovery.unfinished.is_empty();
        let space = storage.watch_space(settings.min_free_bytes, promised_bytes);
        let engine = Self {
            space,
            catalog: RwLock::new(catalog),
            decisions: Mutex::new(Decisions {
                queue,
                launching: Launching::new(awaits_leftovers),
                run_ids: RunIds::after(storage.last_run()?),
                running: HashMap::new(),
                history,
                sweep_is_due: false,
                sweeper_waits: false,
                phase: Phase::Serving,
            }),
            secrets: SecretStore::new(settings.secrets_dir.clone()),
            output_dir: storage.output_dir(),
            settings,
            storage,
            launcher,
            clock,
            random,
            server,
            user: crate::runner::user::own_name(),
            at_work: AtomicUsize::new(0),
            work: Condvar::new(),
            retries: Condvar::new(),
            idle: Condvar::new(),
            sweeps: Condvar::new(),
            slices: Mutex::default(),
            outbox: Mutex::new(outbox),
            notify: Condvar::new(),
            instruments,
            on_pause,
            awaits_leftovers: AtomicBool::new(awaits_leftovers),
            leftovers: Mutex::new(Some(recovery.unfinished)),
        };
        Ok(Arc::new(engine))
    }
}

impl Engine {
    /// Starts the thread that ends what a crashed server has left running, so that vessels can be
    /// started.
    ///
    /// # Errors
    /// When the thread is not to be had.
    pub fn start_recovery(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let engine = Arc::clone(self);
        thread::Builder::new().name("recovery".into()).spawn(move || engine.end_leftovers())
    }

    /// Ends what a crashed server has left running and removes the work directories of runs that
    /// have ended; then lets vessels start. Takes up to the kill grace when leftovers do not end by
    /// themselves. Once: afterwards it does nothing.
    pub fn end_leftovers(&self) {
        let mut leftovers = self.leftovers.lock().unwrap_or_else(|_| super::poisoned());
        let Some(unfinished) = leftovers.take() else { return };
        let ended = self.launcher.end_leftovers(self.server.instance, &unfinished);
        if ended > 0 {
            log::warn!(processes = ended; "ended what a crashed server had left running");
        }
        self.launcher.sweep_directories(&|run| {
            self.storage.run(run).is_some_and(|run| {
                run.status.is_final() && !self.settings.keep_workdir.keeps(run.status)
            })
        });
        let rows = leftovers_rows(&unfinished).filter_map(|change| match change {
            Change::PutLeftovers { row, .. } => Some(Change::RemoveLeftovers { row }),
            _ => None,
        });
        let rows: Vec<Change> = rows.collect();
        if !rows.is_empty() {
            self.storage.commit(rows).wait();
        }
        let mut decisions = self.decisions();
        decisions.launching.release();
        self.work.notify_all();
        drop(decisions);
        let outbox = self.outbox();
        self.awaits_leftovers.store(false, Ordering::Relaxed);
        self.notify.notify_all();
        drop(outbox);
    }
}

/// The rows that note whose processes may be left.
fn leftovers_rows(unfinished: &Unfinished) -> impl Iterator<Item = Change> {
    let mut vessel_runs: Vec<VesselRunId> = unfinished.vessel_runs.iter().copied().collect();
    vessel_runs.sort_unstable();
    let rows: Vec<Vec<VesselRunId>> =
        vessel_runs.chunks(LEFTOVERS_PER_ROW).map(<[_]>::to_vec).collect();
    (0..).zip(rows).map(|(row, vessel_runs)| Change::PutLeftovers { row, vessel_runs })
}

impl Recovery {
    fn log(&self) {
        let Recovery { waiting, resumed, ended, .. } = self;
        log::info!(waiting, resumed, ended; "recovered");
    }
}

impl Restoring<'_> {
    /// What is configured; on a new data directory, an organization and the default project.
    fn catalog(&mut self) -> Result<Catalog, RecoveryError> {
        let organization = match self.storage.organization()? {
            Some(organization) => organization,
            None => {
                let id = OrganizationId::random();
                let organization = Organization { id, name: "default".to_owned() };
                let project = Project {
                    id: ProjectId::random(),
                    name: DEFAULT_PROJECT.to_owned(),
                    time_zone: "UTC".to_owned(),
                    created_at: self.now,
                };
                self.changes.push(vec![
                    Change::PutOrganization(organization.clone()),
                    Change::PutProject(project),
                ]);
                organization
            }
        };
        let mut projects = self.storage.projects()?;
        projects.extend(self.changes.iter().flatten().find_map(|change| match change {
            Change::PutProject(project) => Some(project.clone()),
            _ => None,
        }));
        let mut fleets = Vec::new();
        for fleet in self.storage.fleets()? {
            let version = self.storage.fleet_version(fleet.id, fleet.version)?;
            let version = version.ok_or_else(|| StorageError::Damaged {
                table: "fleet_versions",
                reason: format!("version {} of the fleet {} is missing", fleet.version, fleet.id),
            })?;
            let version = Arc::new(version);
            self.versions.insert((fleet.id, fleet.version), Arc::clone(&version));
            fleets.push((fleet, version));
        }
        Ok(Catalog::new(organization, projects, fleets, self.storage.webhooks()?))
    }

    /// Removes the chunks of payloads that were arriving: their senders were never answered.
    fn sweep_uploads(&mut self) -> Result<(), RecoveryError> {
        for run in self.storage.uploads()? {
            let chunks = self.storage.payload_chunks(run)?;
            self.changes.push(vec![
                Change::RemovePayload { run, chunks: 0..chunks },
                Change::EndUpload(run),
            ]);
        }
        Ok(())
    }

    /// Removes the versions of fleets that are gone, once their last run is. Now, while nobody can be
    /// about to start one: whoever accepts a run holds on to its version for a while without a row.
    fn sweep_versions(&mut self) -> Result<(), RecoveryError> {
        // So far those of the catalog: the current one of each fleet.
        let fleets: HashSet<FleetId> = self.versions.keys().map(|(fleet, _)| *fleet).collect();
        for fleet in self.storage.fleets_with_versions()? {
            if fleets.contains(&fleet) || self.storage.has_runs(fleet) {
                continue;
            }
            // The first version goes last: as long as it is there, nobody gets its fleet's id.
            let versions = self.storage.version_chunks(fleet)?.into_iter().rev();
            let removals = versions.map(|(version, chunks)| {
                vec![Change::RemoveFleetVersion { fleet, version, chunks }]
            });
            self.changes.extend(removals);
        }
        Ok(())
    }

    /// The backup that all of this comes from, if no server has run since.
    fn restored_from(&self) -> Option<RestoredFrom> {
        self.last.as_ref().and_then(|last| last.restored)
    }

    /// Whether nothing of that backup is to go on.
    fn ends_all(&self) -> bool {
        self.restored_from().is_some_and(|from| !from.resume_runs)
    }

    /// Ends a run of a backup, if it is not to go on.
    fn discard(
        &mut self,
        entry: &QueueEntry,
        version: &Arc<FleetVersion>,
        started: Option<&Started>,
        ledger: &mut Ledger<'_>,
    ) -> bool {
        let Some(RestoredFrom { created_at, resume_runs }) = self.restored_from() else {
            return false;
        };
        let backup = format!("the backup of {created_at} that this server was restored from");
        let reason = match (resume_runs, version.definition.delivery) {
            (false, _) => format!("it had not ended in {backup}"),
            // Whether it has started since then, nobody here knows.
            (true, Delivery::AtMostOnce) => format!(
                "it had not ended in {backup}; with delivery at_most_once it is not started again"
            ),
            (true, _) => return false,
        };
        let how =
            if resume_runs { Discard::GivenUp(&reason) } else { Discard::Terminated(&reason) };
        let (version, started) = (Arc::clone(version), started.cloned());
        let mut changes = self.queue.discard(entry, version, started, how, self.now);
        if resume_runs {
            self.changes.push(changes);
        } else {
            // What became of it was told, if it was, by the server that the backup was made of.
            changes.retain(|change| !matches!(change, Change::PutNotification(_)));
            // A million of them must not wait in memory, and there are no leftovers to be found by
            // the rows that this changes.
            ledger.enter(changes);
            ledger.commit_from(DISCARDED_PER_COMMIT);
        }
        self.recovery.ended += 1;
        true
    }

    fn restore(
        &mut self,
        entry: &QueueEntry,
        ledger: &mut Ledger<'_>,
    ) -> Result<(), RecoveryError> {
        let version = self.version(entry)?;
        let started = entry.started.then(|| self.started(entry, &version)).transpose()?;
        if self.discard(entry, &version, started.as_ref(), ledger) {
            return Ok(());
        }
        let (restored, changes) = self.queue.restore(entry, version, started, self.now);
        if !changes.is_empty() {
            self.changes.push(changes);
        }
        match restored {
            Restored::Waiting => self.recovery.waiting += 1,
            Restored::Resumed => self.recovery.resumed += 1,
            Restored::Restarted => {
                self.recovery.resumed += 1;
                self.recovery.restarted.push(entry.run);
            }
            Restored::Ended => self.recovery.ended += 1,
        }
        Ok(())
    }

    fn version(&mut self, entry: &QueueEntry) -> Result<Arc<FleetVersion>, RecoveryError> {
        let (fleet, version) = (entry.fleet, entry.version);
        if let Some(known) = self.versions.get(&(fleet, version)) {
            return Ok(Arc::clone(known));
        }
        let stored = self.storage.fleet_version(fleet, version)?;
        let missing = RecoveryError::MissingVersion { fleet, version, run: entry.run };
        let stored = Arc::new(stored.ok_or(missing)?);
        self.versions.insert((fleet, version), Arc::clone(&stored));
        Ok(stored)
    }

    /// The rows of a run that had started, and whether it can go on.
    fn started(
        &mut self,
        entry: &QueueEntry,
        version: &FleetVersion,
    ) -> Result<Started, RecoveryError> {
        let vessels = version.definition.vessels.len();
        let (record, vessels) = self.storage.started_run(entry.run, vessels)?;
        for vessel in vessels.iter().flatten() {
            let was_running = matches!(vessel.status, Status::Running | Status::Retrying);
            if was_running && vessel.retry_at.is_none() {
                self.recovery.unfinished.vessel_runs.insert(vessel.id);
            }
        }
        let cause = match &self.last {
            Some(last) if last.restored.is_some() => Cause::Restore,
            Some(last) if !last.stopped_cleanly => Cause::Crash,
            _ => Cause::Stop,
        };
        let same_boot = self.last.as_ref().is_some_and(|last| last.boot_id == self.boot_id);
        let interruption = Interruption {
            cause,
            has_directory: same_boot && self.launcher.has_directory(entry.run),
            is_rebooted: self.last.is_some() && !same_boot,
        };
        Ok(Started { record, vessels, interruption })
    }
}

/// What is kept of runs that ended under former servers.
fn stored_history(storage: &Storage, keep_runs: Retention) -> Result<History, StorageError> {
    let mut history = History::new(keep_runs);
    for fleet in storage.fleets_with_history()? {
        let oldest = storage.history(fleet).next();
        let latest = storage.history(fleet).next_back();
        if let Some((oldest, latest)) = oldest.zip(latest) {
            history.restore(fleet, oldest, latest);
        }
    }
    Ok(history)
}
