//! Everything durable: the only place that knows sled. One committer writes ([`commit`]); anybody
//! reads. Rows are small and versioned ([`codec`]); payloads, outputs and definitions are cut into
//! chunks of one row each ([`chunks`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::model::change::{Change, QueueEntry, ServerRecord};
use crate::model::fleet::{Fleet, FleetVersion, Organization, Project};
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::limits::VESSELS_PER_FLEET_MAX;
use crate::model::notification::NotificationRecord;
use crate::model::run::{RunRecord, VesselRunRecord};
use crate::model::webhook::Webhook;
use crate::os::fatal;

mod backlog;
pub mod backup;
pub mod chunks;
mod codec;
pub mod commit;
mod data_dir;
pub mod faults;
mod free_space;
mod history;
mod keys;
mod migrate;
mod sled;
mod tables;
mod verify;

pub use backup::change_log::Recording;
pub use backup::copy::BackupError;
pub use backup::restore_rows::{Restoration, RestoredRows};
pub use chunks::ChunkReader;
pub use commit::{CommitInstruments, Ticket};
pub use data_dir::{
    DataDirectory, DirectoryError, OUTPUT_DIRECTORY, SCHEMA, is_data_directory_in_use,
    write_private_file,
};
pub use free_space::FreeSpace;
pub use verify::{VerifyCallbacks, VerifyProgress, VerifyReport, verify_directory};

use self::sled::database::Database;
use backlog::Backlog;
use codec::CodecError;
use commit::Committer;
use faults::{Faults, NoFaults};
use tables::{META_ORGANIZATION, META_SERVER, Table};

/// The open database.
pub struct Storage {
    database: Arc<Database>,
    committer: Committer,
    /// Holds the lock on the data directory for as long as the database is open.
    directory: DataDirectory,
}

/// Why the database does not open, or what is in it cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("the database in {path} does not open: {}", told(.error))]
    Open { path: std::path::PathBuf, error: ::sled::Error },
    #[error("{action} {path}: {source}")]
    File { action: &'static str, path: std::path::PathBuf, source: std::io::Error },
    #[error("the database cannot be read: {}", told(.0))]
    Read(::sled::Error),
    #[error(
        "a row of `{table}` is damaged: {reason}; restore a backup, or move it away to start anew"
    )]
    Damaged { table: &'static str, reason: String },
    #[error(
        "the database cannot be brought to the present schema: {0}; start again to go on with it"
    )]
    Migrate(String),
    #[error("the rows of a backup cannot be written: {0}")]
    Restore(String),
    #[error("{path} has too little free disk space for it")]
    NoRoom { path: std::path::PathBuf },
}

impl From<::sled::Error> for StorageError {
    fn from(error: ::sled::Error) -> Self {
        Self::Read(error)
    }
}

/// What went wrong, for a person. What sled calls corrupted it has read with a wrong checksum.
fn told(error: &::sled::Error) -> String {
    match error {
        ::sled::Error::Corruption { .. } => {
            "its file is damaged; look at the disk (dmesg, smartctl), then restore a backup".into()
        }
        error => error.to_string(),
    }
}

impl Storage {
    /// The directory of output files.
    pub fn output_dir(&self) -> PathBuf {
        self.directory.path().join(OUTPUT_DIRECTORY)
    }

    /// Opens the database in `directory`, creating it when there is none, and starts the
    /// committer, which runs until the process ends.
    ///
    /// # Errors
    /// When the files cannot be opened, locked or synced.
    pub fn open(directory: DataDirectory) -> Result<(Self, JoinHandle<()>), StorageError> {
        Self::open_with(directory, Box::new(NoFaults))
    }

    /// As [`open`](Self::open), with a say for `faults` in what becomes of each commit.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        directory: DataDirectory,
        faults: Box<dyn Faults>,
    ) -> Result<(Self, JoinHandle<()>), StorageError> {
        let sled = directory.open_database()?;
        sled.flush()?;
        directory.sync_database()?;
        let database = Database::new(sled.clone(), directory.open_database_file()?);
        if let Some(older) = directory.older_schema() {
            migrate::migrate(&sled, &database, older)?;
            directory.record_schema()?;
        }
        let database = Arc::new(database);
        let (committer, thread) =
            Committer::start(Arc::clone(&database), faults).map_err(|source| {
                let path = directory.path().to_owned();
                StorageError::File { action: "cannot start the committer for", path, source }
            })?;
        Ok((Self { database, committer, directory }, thread))
    }

    /// Hands `changes` to the committer. See [`Committer::send`] on order.
    pub fn commit(&self, changes: Vec<Change>) -> Ticket {
        self.committer.send(changes)
    }

    /// The same, of what can wait for others to come. See [`Committer::send_delayed`].
    pub fn commit_delayed(&self, changes: Vec<Change>) -> Ticket {
        self.committer.send_delayed(changes)
    }

    /// Whether an empty commit gets through `within`. See [`Committer::commits`].
    pub fn commits(&self, within: Duration) -> bool {
        self.committer.commits(within)
    }

    /// What the committer measures.
    pub fn commit_instruments(&self) -> &CommitInstruments {
        self.committer.instruments()
    }

    /// A watch over the free space where the database is. See [`FreeSpace::new`].
    pub fn watch_space(&self, floor_bytes: u64, promised: Arc<AtomicU64>) -> FreeSpace {
        FreeSpace::new(self.directory.path().to_owned(), floor_bytes, promised)
    }

    /// Returns once all that can be read now is durable. See [`Committer::confirm`].
    pub fn confirm(&self) {
        self.committer.confirm();
    }

    /// Whether commits get through.
    pub fn is_responsive(&self) -> bool {
        self.committer.is_responsive()
    }

    /// The organization, once there is one.
    ///
    /// # Errors
    /// When the row is damaged. So it is with all that recovery reads.
    pub fn organization(&self) -> Result<Option<Organization>, StorageError> {
        self.meta(META_ORGANIZATION)
    }

    /// What the last server on this directory left behind.
    pub fn server(&self) -> Result<Option<ServerRecord>, StorageError> {
        self.meta(META_SERVER)
    }

    /// Vessel runs whose processes former servers may have left, row by row.
    pub fn leftovers(&self) -> Result<Vec<Vec<VesselRunId>>, StorageError> {
        let rows = (0..).map(|row| self.meta(&tables::leftovers_key(row)).transpose());
        rows.map_while(|row| row).collect()
    }

    /// Every project.
    pub fn projects(&self) -> Result<Vec<Project>, StorageError> {
        self.values(Table::Projects, "projects")
    }

    /// Every fleet.
    pub fn fleets(&self) -> Result<Vec<Fleet>, StorageError> {
        self.values(Table::Fleets, "fleets")
    }

    /// Every webhook.
    pub fn webhooks(&self) -> Result<Vec<Webhook>, StorageError> {
        self.values(Table::Webhooks, "webhooks")
    }

    /// One version of a fleet.
    pub fn fleet_version(
        &self,
        fleet: FleetId,
        version: u32,
    ) -> Result<Option<FleetVersion>, StorageError> {
        let prefix = [fleet.as_bytes().as_slice(), &version.to_be_bytes()].concat();
        let mut bytes = Vec::new();
        for row in self.database.prefixed(Table::FleetVersions, &prefix) {
            bytes.extend_from_slice(&row?.1);
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        codec::decode(&bytes).map(Some).map_err(|error| damaged("fleet_versions", &error))
    }

    /// Every unfinished run, in the order in which they were accepted.
    pub fn queue(&self) -> impl Iterator<Item = Result<QueueEntry, StorageError>> + '_ {
        Backlog::new(&self.database)
    }

    /// The runs whose payloads were arriving when the last server ended.
    pub fn uploads(&self) -> Result<Vec<RunId>, StorageError> {
        let rows = self.database.all(Table::Uploads);
        rows.filter_map(|row| row.map(|(key, _)| RunId::from_slice(&key)).transpose())
            .collect::<Result<_, _>>()
            .map_err(StorageError::Read)
    }

    /// Every notification that has to be delivered.
    pub fn notifications(
        &self,
    ) -> impl Iterator<Item = Result<NotificationRecord, StorageError>> + '_ {
        let rows = self.database.all(Table::Notifications);
        rows.map(|row| codec::decode(&row?.1).map_err(|error| damaged("notifications", &error)))
    }

    /// The notifications of `run` that are not delivered, by their numbers.
    pub fn notifications_of(&self, run: RunId) -> Vec<NotificationRecord> {
        let of_table = |table, name| {
            let rows = self.database.prefixed(table, run.as_bytes());
            rows.map_while(|row| settle(row.map(Some)))
                .filter_map(move |(_, row)| readable::<NotificationRecord>(name, &row))
        };
        let waiting = of_table(Table::Notifications, "notifications");
        let mut all: Vec<_> = waiting.chain(of_table(Table::Undelivered, "undelivered")).collect();
        all.sort_by_key(|record| record.number);
        all
    }

    /// Bytes of the disk that the database takes up; `None` when the system does not tell.
    pub fn bytes(&self) -> Option<u64> {
        self.database.bytes()
    }

    /// How many chunks of the payload of `run` are stored.
    pub fn payload_chunks(&self, run: RunId) -> Result<u32, StorageError> {
        let last = self.database.prefixed(Table::Payloads, run.as_bytes()).next_back();
        let last = last.transpose()?;
        Ok(last.and_then(|(key, _)| keys::last_number(&key)).map_or(0, |chunk| chunk + 1))
    }

    /// The greatest run id stored.
    pub fn last_run(&self) -> Result<Option<RunId>, StorageError> {
        let last = self.database.all(Table::Runs).next_back().transpose()?;
        Ok(last.and_then(|(key, _)| RunId::from_slice(&key)))
    }

    /// The stored run of this id.
    pub fn run(&self, id: RunId) -> Option<RunRecord> {
        let row = settle(self.database.get(Table::Runs, id.as_bytes()))?;
        readable("runs", &row)
    }

    /// Stored runs accepted before `before`, newest first.
    pub fn runs_before(&self, before: Option<RunId>) -> impl Iterator<Item = RunRecord> + '_ {
        let before = before.as_ref().map(|run| run.as_bytes().as_slice());
        let rows = self.database.range(Table::Runs, &[], before);
        rows.rev()
            .map_while(|row| settle(row.map(Some)))
            .filter_map(|(_, row)| readable("runs", &row))
    }

    /// Stored runs of `fleet` accepted before `before`, newest first.
    pub fn runs_of_fleet_before(
        &self,
        fleet: FleetId,
        before: Option<RunId>,
    ) -> impl Iterator<Item = RunRecord> + '_ {
        let end = match before {
            Some(run) => keys::run_of_fleet(fleet, run),
            None => keys::after(fleet.as_bytes()),
        };
        let rows = self.database.range(Table::RunsByFleet, fleet.as_bytes(), Some(&end));
        rows.rev()
            .map_while(|row| settle(row.map(Some)))
            .filter_map(|(key, _)| RunId::from_slice(key.get(16..)?))
            .filter_map(|run| self.run(run))
    }

    /// The ids of stored runs, newest first.
    pub fn run_ids(&self) -> impl Iterator<Item = RunId> + '_ {
        let rows = self.database.all(Table::Runs).rev();
        rows.map_while(|row| settle(row.map(Some))).filter_map(|(key, _)| RunId::from_slice(&key))
    }

    /// The latest attempt of a vessel run; `None` when it has not been decided or started yet.
    pub fn vessel_run(&self, id: VesselRunId) -> Option<VesselRunRecord> {
        let mut attempts = self.database.prefixed(Table::VesselRuns, id.as_bytes());
        let (_, row) = settle(attempts.next_back().transpose())?;
        readable("vessel_runs", &row)
    }

    /// One attempt of a vessel run.
    pub fn attempt(&self, id: VesselRunId, attempt: u32) -> Option<VesselRunRecord> {
        let row = settle(self.database.get(Table::VesselRuns, &keys::attempt(id, attempt)))?;
        readable("vessel_runs", &row)
    }

    /// A run that has started, for recovery: its row and the latest attempts of its `vessels`
    /// vessels.
    ///
    /// # Errors
    /// When a row is missing or damaged: a vessel whose end cannot be read must not start again.
    pub fn started_run(
        &self,
        id: RunId,
        vessels: usize,
    ) -> Result<(RunRecord, Vec<Option<VesselRunRecord>>), StorageError> {
        let row = self.database.get(Table::Runs, id.as_bytes())?;
        let row = row.ok_or_else(|| StorageError::Damaged {
            table: "runs",
            reason: format!("the run {id} is queued but has no row"),
        })?;
        let run = codec::decode(&row).map_err(|error| damaged("runs", &error))?;
        let latest = (0..vessels.min(VESSELS_PER_FLEET_MAX)).map(|vessel| {
            let id = id.vessel_run(vessel);
            let last = self.database.prefixed(Table::VesselRuns, id.as_bytes()).next_back();
            let record = last.transpose()?.map(|(_, row)| codec::decode(&row));
            record.transpose().map_err(|error| damaged("vessel_runs", &error))
        });
        Ok((run, latest.collect::<Result<_, StorageError>>()?))
    }

    /// The payload of `run` from byte `offset` on, `length` bytes of it.
    pub fn payload(&self, run: RunId, offset: u64, length: u64) -> ChunkReader {
        ChunkReader::new(
            Arc::clone(&self.database),
            Table::Payloads,
            run.as_bytes().to_vec(),
            offset,
            length,
        )
    }

    /// The output of an attempt that was small enough to be stored with its settle.
    pub fn output(
        &self,
        vessel_run: VesselRunId,
        attempt: u32,
        offset: u64,
        length: u64,
    ) -> ChunkReader {
        let key = keys::attempt(vessel_run, attempt);
        ChunkReader::new(Arc::clone(&self.database), Table::Outputs, key, offset, length)
    }

    fn meta<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        let row = self.database.get(Table::Meta, key)?;
        row.map(|row| codec::decode(&row).map_err(|error| damaged("meta", &error))).transpose()
    }

    fn values<T: DeserializeOwned>(
        &self,
        table: Table,
        name: &'static str,
    ) -> Result<Vec<T>, StorageError> {
        let rows = self.database.all(table);
        rows.map(|row| codec::decode(&row?.1).map_err(|error| damaged(name, &error))).collect()
    }
}

fn damaged(table: &'static str, error: &CodecError) -> StorageError {
    StorageError::Damaged { table, reason: error.to_string() }
}

/// What sled answered. Its errors are for good, so the process ends with them.
fn settle<T>(answer: ::sled::Result<Option<T>>) -> Option<T> {
    answer.unwrap_or_else(|error| fatal::stop(&format!("the database cannot be read: {error}")))
}

/// The value of a row that somebody asked to see. One damaged row must not take the rest along.
fn readable<T: DeserializeOwned>(table: &'static str, row: &[u8]) -> Option<T> {
    codec::decode(row)
        .inspect_err(|error| log::error!(table = table, error:% = error; "skipping a damaged row"))
        .ok()
}

/// Opens the database below `data_dir` with everything that belongs to it.
///
/// # Errors
/// When the directory cannot be used (see [`DirectoryError`]) or the database does not open.
pub fn open(data_dir: &Path) -> Result<(Storage, JoinHandle<()>), OpenError> {
    let directory = DataDirectory::open(data_dir)?;
    Ok(Storage::open(directory)?)
}

/// Why a data directory cannot be served from.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}
