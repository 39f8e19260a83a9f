//! Opening the engine on the data of the last server: its record, the catalog, the unfinished runs, and
//! the processes that may still run.
//!
//! The order of the steps matters. Rows that say Running lead to the leftovers of a crash, so recovery
//! stores the ids of these vessel runs before it changes a row. The boot id of the last server tells
//! whether work directories are whole, so recovery replaces it last. A crash during recovery leads to
//! the same recovery again.
//!
//! Leftovers may take long to end. Runs are accepted meanwhile; starts of vessels and deliveries of
//! notifications wait ([`Engine::end_leftovers`]).
//!
//! Runs of a backup have no leftovers and no directories, and most of them end at once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};

use crate::config::Settings;
use crate::config::secrets::{SecretKeeper, SecretStore};
use crate::engine::audit::Audit;
use crate::engine::catalog::Catalog;
use crate::engine::environment::VesselBases;
use crate::engine::events::Events;
use crate::engine::history::History;
use crate::engine::ledger::Ledger;
use crate::engine::outbox::Outbox;
use crate::engine::pause::Launching;
use crate::engine::retention::removal_steps;
use crate::engine::schedules::Schedules;
use crate::engine::standing::LatestEnds;
use crate::engine::statistics;
use crate::engine::waiting::WaitingSenders;
use crate::engine::{Decisions, Engine, EngineMetrics, Phase, World};
use crate::model::change::{Change, QueueEntry, RestoredFrom, ServerRecord};
use crate::model::clock::Timestamp;
use crate::model::fleet::{DEFAULT_PROJECT, Delivery, FleetVersion, Organization, Project};
use crate::model::ids::{FleetId, InstanceId, OrganizationId, ProjectId, RunId, RunIds};
use crate::model::retention::Retention;
use crate::model::run::Status;
use crate::runner::{Launcher, Unfinished};
use crate::scheduler::{
    Discard, Interruption, InterruptionCause, Queue, Reloaded, StartedRun, graph_of,
};
use crate::store::{StorageError, Store};

mod batch;
mod leftovers;

use batch::RecoveryBatch;
pub(super) use leftovers::Leftovers;
use leftovers::leftovers_rows;

/// Changes in one commit of a recovery, more or less the changes of a run. Few, so that commits stay
/// small and a simulated recovery has several commits to crash between.
const CHANGES_PER_COMMIT: usize = 32;
/// Changes in one commit that ends runs of a backup: a million runs end in some thousand commits.
const DISCARDED_PER_COMMIT: usize = 1024;

/// Why the engine does not open.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Store(#[from] StorageError),
    #[error(
        "version {version} of the fleet {fleet} is missing, and the run {run} needs it; restore a backup"
    )]
    MissingVersion { fleet: FleetId, version: u32, run: RunId },
}

/// What recovery has found.
#[derive(Debug, Default)]
struct RecoveryFindings {
    /// Vessel runs and notifications that the last server may have left running.
    unfinished: Unfinished,
    /// Runs whose work directory must go before any vessel starts.
    starting_over: Vec<RunId>,
    waiting: usize,
    resumed: usize,
    ended: usize,
}

/// The state of a recovery.
struct RecoveryState<'a> {
    store: &'a Store,
    launcher: &'a dyn Launcher,
    queue: Queue,
    findings: RecoveryFindings,
    /// Decided changes. Each group enters one commit.
    changes: Vec<Vec<Change>>,
    versions: HashMap<(FleetId, u32), Arc<FleetVersion>>,
    /// The record of the last server; `None` in a new data directory.
    last: Option<ServerRecord>,
    boot_id: String,
    now: Timestamp,
}

impl Engine {
    /// Opens the engine: reads the stored data, decides what becomes of interrupted runs, and makes the
    /// decisions durable. Vessels start after [`end_leftovers`](Self::end_leftovers) and
    /// [`start_workers`](Self::start_workers).
    ///
    /// # Errors
    /// When stored data is unreadable.
    pub fn open(
        settings: Arc<Settings>,
        store: Store,
        world: World,
    ) -> Result<Arc<Self>, RecoveryError> {
        let World { launcher, clock, random, boot_id, promised_bytes, on_pause } = world;
        let Recovered { server, catalog, schedules, queue, leftovers, batch } =
            Recovered::decide(&settings, &store, launcher.as_ref(), boot_id, clock.now())?;
        let RecoveryBatch { outbox, history, events, metrics, .. } = batch;
        let awaits_leftovers = !leftovers.unfinished.is_empty();
        let space = store.watch_space(settings.min_free_bytes, promised_bytes);
        let engine = Self {
            space,
            catalog: RwLock::new(catalog),
            bases: VesselBases::default(),
            schedules: Mutex::new(schedules),
            alarm: OnceLock::new(),
            decisions: Mutex::new(Decisions {
                queue,
                launching: Launching::new(awaits_leftovers),
                run_ids: RunIds::after(store.last_run()?),
                running: HashMap::new(),
                workers_asleep: 0,
                history,
                events,
                sweep_is_due: false,
                sweeper_waits: false,
                phase: Phase::Serving,
            }),
            secrets: Arc::new(SecretKeeper::new(SecretStore::of(&settings))),
            output_dir: store.output_dir(),
            waiting: WaitingSenders::new(settings.max_waiting),
            settings,
            store,
            launcher,
            clock,
            random,
            server,
            user: crate::runner::user::own_name(),
            attempts_running: AtomicUsize::new(0),
            work: Condvar::new(),
            retries: Condvar::new(),
            idle: Condvar::new(),
            sweeps: Condvar::new(),
            slices: Mutex::default(),
            outbox: Mutex::new(outbox),
            notify: Condvar::new(),
            metrics,
            ledger: Ledger::default(),
            latest_ends: LatestEnds::default(),
            audit: Audit::default(),
            on_pause,
            awaits_leftovers: AtomicBool::new(awaits_leftovers),
            leftovers: Mutex::new(Some(leftovers)),
            deferred_wipes: Mutex::new(awaits_leftovers.then(Vec::new)),
        };
        Ok(Arc::new(engine))
    }
}

/// What the data of the last server has become, durably.
struct Recovered<'a> {
    /// The record of this server.
    server: ServerRecord,
    catalog: Catalog,
    schedules: Schedules,
    queue: Queue,
    leftovers: Leftovers,
    batch: RecoveryBatch<'a>,
}

impl<'a> Recovered<'a> {
    /// Decides what becomes of the stored data, and makes the decisions durable.
    fn decide(
        settings: &Settings,
        store: &'a Store,
        launcher: &dyn Launcher,
        boot_id: String,
        now: Timestamp,
    ) -> Result<Self, RecoveryError> {
        statistics::count_stored_runs(store, now)?;
        let last = store.server()?;
        let server = ServerRecord {
            instance: last.as_ref().map_or_else(InstanceId::random, |last| last.instance),
            boot_id: boot_id.clone(),
            stopped_cleanly: false,
            restored: None,
        };
        let mut state = RecoveryState {
            store,
            launcher,
            queue: Queue::new(settings.max_queued_runs, settings.max_crash_attempts),
            findings: RecoveryFindings::default(),
            changes: Vec::new(),
            versions: HashMap::new(),
            last,
            boot_id,
            now,
        };
        // 1. Load the catalog, and decide on the removal of remains that no row refers to.
        let catalog = state.catalog()?;
        let schedules = state.schedules(&catalog)?;
        state.sweep_uploads()?;
        state.sweep_versions()?;
        // 2. Reload notifications and runs, and decide what becomes of interrupted runs.
        let mut batch = RecoveryBatch {
            store,
            outbox: Outbox::default(),
            history: stored_history(store, settings.keep_runs)?,
            events: Events::default(),
            metrics: EngineMetrics::default(),
            commit: Vec::new(),
            now,
        };
        state.reload_all(&mut batch)?;
        let RecoveryState { queue, mut findings, changes, .. } = state;
        // 3. Store which processes may be left, and remove directories of runs that start over, before
        // any row or the boot id changes.
        findings.unfinished.vessel_runs.extend(store.leftovers()?.into_iter().flatten());
        batch.commit.extend(leftovers_rows(&findings.unfinished));
        let interrupted: HashSet<RunId> =
            findings.unfinished.vessel_runs.iter().map(|it| it.run()).collect();
        for run in &findings.starting_over {
            // What an interrupted attempt has left with a runner's engine may use the directory.
            match interrupted.contains(run) {
                true => launcher.retire_directory(*run),
                false => launcher.wipe_directory(*run),
            }
        }
        // 4. Make the decisions durable, each run in one commit.
        for changes in changes {
            batch.enter(changes);
            batch.commit_from(CHANGES_PER_COMMIT);
        }
        // 5. Record this server. A crash before this commit repeats the recovery.
        batch.commit.push(Change::PutServer(server.clone()));
        batch.commit_from(0);
        let RecoveryFindings { unfinished, starting_over, waiting, resumed, ended } = findings;
        log::info!(waiting, resumed, ended; "recovered");
        let leftovers = Leftovers { unfinished, retired: starting_over };
        Ok(Self { server, catalog, schedules, queue, leftovers, batch })
    }
}

impl RecoveryState<'_> {
    /// The stored catalog; in a new data directory an organization and the default project.
    fn catalog(&mut self) -> Result<Catalog, RecoveryError> {
        let organization = match self.store.organization()? {
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
        let mut projects = self.store.projects()?;
        projects.extend(self.changes.iter().flatten().find_map(|change| match change {
            Change::PutProject(project) => Some(project.clone()),
            _ => None,
        }));
        let mut fleets = Vec::new();
        for fleet in self.store.fleets()? {
            let version = self.store.fleet_version(fleet.id, fleet.version)?;
            let version = version.ok_or_else(|| StorageError::Damaged {
                table: "fleet_versions",
                reason: format!("version {} of the fleet {} is missing", fleet.version, fleet.id),
            })?;
            let version = self.checked(version);
            fleets.push((fleet, version));
        }
        let catalog = Catalog::new(organization, projects, fleets, self.store.webhooks()?);
        Ok(catalog.with_access_tokens(self.store.access_tokens()?))
    }

    /// The schedules of the stored fleets. Those of a backup have no due times from before its restore:
    /// the server that it was made of may have run them.
    fn schedules(&mut self, catalog: &Catalog) -> Result<Schedules, RecoveryError> {
        let mut stored = self.store.schedules()?;
        if self.restored_from().is_some() {
            for (_, entry) in &mut stored {
                entry.settled = entry.settled.max(self.now);
                entry.waiting.clear();
            }
        }
        let (schedules, changes) = Schedules::reload(stored, catalog.schedules(), self.now);
        if !changes.is_empty() {
            self.changes.push(changes);
        }
        Ok(schedules)
    }

    /// Removes the chunks of unfinished uploads: their senders got no 201.
    fn sweep_uploads(&mut self) -> Result<(), RecoveryError> {
        for run in self.store.uploads()? {
            let chunks = self.store.payload_chunks(run)?;
            let steps = removal_steps(chunks);
            self.changes.extend(steps.map(|chunks| vec![Change::RemovePayload { run, chunks }]));
            self.changes.push(vec![Change::EndUpload(run)]);
        }
        Ok(())
    }

    /// Removes the versions of deleted fleets without runs. Only recovery can: later, an accept may hold
    /// a version for which there is no run yet. Those of other fleets: `engine/versions.rs`.
    fn sweep_versions(&mut self) -> Result<(), RecoveryError> {
        // So far `versions` holds the current version of each fleet.
        let fleets: HashSet<FleetId> = self.versions.keys().map(|(fleet, _)| *fleet).collect();
        for fleet in self.store.fleets_with_versions()? {
            if fleets.contains(&fleet) || self.store.has_runs(fleet) {
                continue;
            }
            // While one of them exists, no new fleet gets the id of this one.
            let versions = self.store.version_chunks(fleet)?.into_iter();
            let texts = self.store.text_chunks(fleet)?;
            let removals = versions.map(|(version, chunks)| {
                let text = texts.get(&version);
                let text = text.map(|&chunks| Change::RemoveFleetText { fleet, version, chunks });
                let version = Change::RemoveFleetVersion { fleet, version, chunks };
                text.into_iter().chain([version]).collect()
            });
            self.changes.extend(removals);
        }
        Ok(())
    }

    /// The backup that the data was restored from, if no server has run since.
    fn restored_from(&self) -> Option<RestoredFrom> {
        self.last.as_ref().and_then(|last| last.restored)
    }

    /// Whether all unfinished runs of that backup end.
    fn ends_all(&self) -> bool {
        self.restored_from().is_some_and(|from| !from.resume_runs)
    }

    /// Ends a run of a backup if it must not continue. Returns whether it did.
    fn discard(
        &mut self,
        entry: &QueueEntry,
        version: &Arc<FleetVersion>,
        started: Option<&StartedRun>,
        batch: &mut RecoveryBatch<'_>,
    ) -> bool {
        let Some(RestoredFrom { created_at, resume_runs }) = self.restored_from() else {
            return false;
        };
        let backup = format!("the backup of {created_at} that this server was restored from");
        let reason = match (resume_runs, version.definition.delivery) {
            (false, _) => format!("it had not ended in {backup}"),
            // The run may have started after the backup was made.
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
            // The server of which the backup was made has sent its notifications, if it ended there.
            changes.retain(|change| !matches!(change, Change::PutNotification(_)));
            // Committed at once, because a million such runs would fill the memory. A backup has no
            // leftovers to be found by the changed rows.
            batch.enter(changes);
            batch.commit_from(DISCARDED_PER_COMMIT);
        }
        self.findings.ended += 1;
        true
    }

    /// Reloads the notifications and the runs that had not ended.
    fn reload_all(&mut self, batch: &mut RecoveryBatch<'_>) -> Result<(), RecoveryError> {
        if self.ends_all() {
            batch.give_up_notifications()?;
        }
        for record in self.store.notifications() {
            let record = record?;
            self.findings.unfinished.notifications.insert(record.message_id());
            batch.outbox.reload(record);
        }
        for entry in self.store.queue() {
            self.reload(&entry?, batch)?;
        }
        Ok(())
    }

    fn reload(
        &mut self,
        entry: &QueueEntry,
        batch: &mut RecoveryBatch<'_>,
    ) -> Result<(), RecoveryError> {
        if let Some(arrival) = &entry.arrival {
            batch.events.reload(entry.fleet, entry.run, &arrival.unpack());
        }
        let version = self.version(entry)?;
        let started = entry.started.then(|| self.started(entry, &version)).transpose()?;
        if self.discard(entry, &version, started.as_ref(), batch) {
            return Ok(());
        }
        let (reloaded, changes) = self.queue.reload(entry, version, started, self.now);
        if !changes.is_empty() {
            self.changes.push(changes);
        }
        match reloaded {
            Reloaded::Waiting => self.findings.waiting += 1,
            Reloaded::Resumed => self.findings.resumed += 1,
            Reloaded::StartsOver => {
                self.findings.resumed += 1;
                self.findings.starting_over.push(entry.run);
            }
            Reloaded::Ended => self.findings.ended += 1,
        }
        Ok(())
    }

    fn version(&mut self, entry: &QueueEntry) -> Result<Arc<FleetVersion>, RecoveryError> {
        let (fleet, version) = (entry.fleet, entry.version);
        if let Some(known) = self.versions.get(&(fleet, version)) {
            return Ok(Arc::clone(known));
        }
        let stored = self.store.fleet_version(fleet, version)?;
        let missing = RecoveryError::MissingVersion { fleet, version, run: entry.run };
        Ok(self.checked(stored.ok_or(missing)?))
    }

    /// Keeps a version for the runs that need it. An invalid graph ends the start here, before a run
    /// is accepted or started.
    fn checked(&mut self, version: FleetVersion) -> Arc<FleetVersion> {
        graph_of(&version);
        let version = Arc::new(version);
        self.versions.insert((version.fleet_id, version.version), Arc::clone(&version));
        version
    }

    /// The rows of a started run, and the state of its work directory.
    fn started(
        &mut self,
        entry: &QueueEntry,
        version: &FleetVersion,
    ) -> Result<StartedRun, RecoveryError> {
        let vessels = version.definition.vessels.len();
        let (record, vessels) = self.store.started_run(entry.run, vessels)?;
        for vessel in vessels.iter().flatten() {
            let was_running = matches!(vessel.status, Status::Running | Status::Retrying);
            if was_running && vessel.retry_at.is_none() {
                self.findings.unfinished.vessel_runs.insert(vessel.id);
            }
        }
        let cause = match &self.last {
            Some(last) if last.restored.is_some() => InterruptionCause::BackupRestore,
            Some(last) if !last.stopped_cleanly => InterruptionCause::Crash,
            _ => InterruptionCause::Stop,
        };
        let same_boot = self.last.as_ref().is_some_and(|last| last.boot_id == self.boot_id);
        let interruption = Interruption {
            cause,
            has_directory: same_boot && self.launcher.has_directory(entry.run),
            is_rebooted: self.last.is_some() && !same_boot,
        };
        Ok(StartedRun { record, vessels, interruption })
    }
}

/// The history of the last server.
fn stored_history(store: &Store, keep_runs: Retention) -> Result<History, StorageError> {
    let mut history = History::new(keep_runs);
    for fleet in store.fleets_with_history()? {
        let oldest = store.history(fleet).next();
        let latest = store.history(fleet).next_back();
        if let Some((oldest, latest)) = oldest.zip(latest) {
            history.reload(fleet, oldest, latest);
        }
    }
    Ok(history)
}
