//! Everything durable: the only place that knows sled. One committer writes ([`commit`]); anybody
//! reads. Rows are small and versioned ([`codec`]); payloads, outputs and definitions are cut into
//! chunks of one row each ([`chunks`]).

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::de::DeserializeOwned;

use crate::domain::change::{Change, QueueEntry, ServerRecord};
use crate::domain::fleet::{Fleet, FleetVersion, Organization, Project};
use crate::domain::ids::{FleetId, RunId, VesselRunId};
use crate::domain::run::{RunRecord, VesselRunRecord};
use crate::domain::webhook::Webhook;
use crate::fatal;
use crate::limits::VESSELS_PER_FLEET_MAX;

pub mod chunks;
mod codec;
pub mod commit;
mod directory;
mod keys;
mod trees;

pub use commit::Ticket;
pub use directory::{DataDirectory, DirectoryError, write_private_file};

use chunks::ChunkReader;
use codec::CodecError;
use commit::Committer;
use trees::{META_ORGANIZATION, META_SERVER, TreeName, Trees};

/// The open database.
pub struct Storage {
    trees: Arc<Trees>,
    committer: Committer,
    /// Holds the lock on the data directory for as long as the database is open.
    _directory: DataDirectory,
}

/// Why the database does not open, or what is in it cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("the database in {path} does not open: {source}")]
    Open { path: std::path::PathBuf, source: sled::Error },
    #[error("{action} {path}: {source}")]
    File { action: &'static str, path: std::path::PathBuf, source: std::io::Error },
    #[error("the database cannot be read: {0}")]
    Read(#[from] sled::Error),
    #[error(
        "a row of `{tree}` is damaged: {reason}; restore a backup, or move it away to start anew"
    )]
    Damaged { tree: &'static str, reason: String },
}

impl Storage {
    /// Opens the database in `directory`, creating it when there is none, and starts the
    /// committer, which runs until the process ends.
    ///
    /// # Errors
    /// When the files cannot be opened, locked or synced.
    pub fn open(directory: DataDirectory) -> Result<(Self, JoinHandle<()>), StorageError> {
        let database = directory.open_database()?;
        let file = directory.open_database_file()?;
        let trees = Arc::new(Trees::open(database)?);
        trees.database.flush()?;
        directory.sync_database()?;
        let (committer, thread) = Committer::start(Arc::clone(&trees), file).map_err(|source| {
            let path = directory.path().to_owned();
            StorageError::File { action: "cannot start the committer for", path, source }
        })?;
        Ok((Self { trees, committer, _directory: directory }, thread))
    }

    /// Hands `changes` to the committer. See [`Committer::send`] on order.
    pub fn commit(&self, changes: Vec<Change>) -> Ticket {
        self.committer.send(changes)
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

    /// Every project.
    pub fn projects(&self) -> Result<Vec<Project>, StorageError> {
        self.values(TreeName::Projects, "projects")
    }

    /// Every fleet.
    pub fn fleets(&self) -> Result<Vec<Fleet>, StorageError> {
        self.values(TreeName::Fleets, "fleets")
    }

    /// Every webhook.
    pub fn webhooks(&self) -> Result<Vec<Webhook>, StorageError> {
        self.values(TreeName::Webhooks, "webhooks")
    }

    /// One version of a fleet.
    pub fn fleet_version(
        &self,
        fleet: FleetId,
        version: u32,
    ) -> Result<Option<FleetVersion>, StorageError> {
        let prefix = [fleet.as_bytes().as_slice(), &version.to_be_bytes()].concat();
        let mut bytes = Vec::new();
        for row in self.trees.get(TreeName::FleetVersions).scan_prefix(prefix).values() {
            bytes.extend_from_slice(&row?);
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        codec::decode(&bytes).map(Some).map_err(|error| damaged("fleet_versions", &error))
    }

    /// Every unfinished run, in the order in which they were accepted.
    pub fn queue(&self) -> impl Iterator<Item = Result<QueueEntry, StorageError>> + '_ {
        self.trees
            .get(TreeName::Queue)
            .iter()
            .values()
            .map(|row| codec::decode(&row?).map_err(|error| damaged("queue", &error)))
    }

    /// The runs whose payloads were arriving when the last server ended.
    pub fn uploads(&self) -> Result<Vec<RunId>, StorageError> {
        let keys = self.trees.get(TreeName::Uploads).iter().keys();
        keys.filter_map(|key| key.map(|key| RunId::from_slice(&key)).transpose())
            .collect::<Result<_, _>>()
            .map_err(StorageError::Read)
    }

    /// How many chunks of the payload of `run` are stored.
    pub fn payload_chunks(&self, run: RunId) -> Result<u32, StorageError> {
        let last = self.trees.get(TreeName::Payloads).scan_prefix(run.as_bytes()).next_back();
        let last = last.transpose()?;
        Ok(last.and_then(|(key, _)| keys::last_number(&key)).map_or(0, |chunk| chunk + 1))
    }

    /// The greatest run id stored.
    pub fn last_run(&self) -> Result<Option<RunId>, StorageError> {
        let last = self.trees.get(TreeName::Runs).last()?;
        Ok(last.and_then(|(key, _)| RunId::from_slice(&key)))
    }

    /// The stored run of this id.
    pub fn run(&self, id: RunId) -> Option<RunRecord> {
        let row = settle(self.trees.get(TreeName::Runs).get(id.as_bytes()))?;
        readable("runs", &row)
    }

    /// Stored runs accepted before `before`, newest first.
    pub fn runs_before(&self, before: Option<RunId>) -> impl Iterator<Item = RunRecord> + '_ {
        let runs = self.trees.get(TreeName::Runs);
        let rows = match before {
            Some(id) => runs.range(..id.as_bytes().as_slice()),
            None => runs.iter(),
        };
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
        let start = fleet.as_bytes().to_vec();
        let end = match before {
            Some(run) => keys::run_of_fleet(fleet, run),
            None => [fleet.as_bytes().as_slice(), &[0xff; 17]].concat(),
        };
        let rows = self.trees.get(TreeName::RunsByFleet).range(start..end);
        rows.keys()
            .rev()
            .map_while(|key| settle(key.map(Some)))
            .filter_map(|key| RunId::from_slice(key.get(16..)?))
            .filter_map(|run| self.run(run))
    }

    /// The ids of stored runs, newest first.
    pub fn run_ids(&self) -> impl Iterator<Item = RunId> + '_ {
        let keys = self.trees.get(TreeName::Runs).iter().keys().rev();
        keys.map_while(|key| settle(key.map(Some))).filter_map(|key| RunId::from_slice(&key))
    }

    /// The latest attempt of a vessel run; `None` when it has not been decided or started yet.
    pub fn vessel_run(&self, id: VesselRunId) -> Option<VesselRunRecord> {
        let attempts = self.trees.get(TreeName::VesselRuns);
        let (_, row) = settle(attempts.scan_prefix(id.as_bytes()).next_back().transpose())?;
        readable("vessel_runs", &row)
    }

    /// One attempt of a vessel run.
    pub fn attempt(&self, id: VesselRunId, attempt: u32) -> Option<VesselRunRecord> {
        let row = settle(self.trees.get(TreeName::VesselRuns).get(keys::attempt(id, attempt)))?;
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
        let row = self.trees.get(TreeName::Runs).get(id.as_bytes())?;
        let row = row.ok_or_else(|| StorageError::Damaged {
            tree: "runs",
            reason: format!("the run {id} is queued but has no row"),
        })?;
        let run = codec::decode(&row).map_err(|error| damaged("runs", &error))?;
        let attempts = self.trees.get(TreeName::VesselRuns);
        let latest = (0..vessels.min(VESSELS_PER_FLEET_MAX)).map(|vessel| {
            let last = attempts.scan_prefix(id.vessel_run(vessel).as_bytes()).next_back();
            let record = last.transpose()?.map(|(_, row)| codec::decode(&row));
            record.transpose().map_err(|error| damaged("vessel_runs", &error))
        });
        Ok((run, latest.collect::<Result<_, StorageError>>()?))
    }

    /// The payload of `run` from byte `offset` on, `length` bytes of it.
    pub fn payload(&self, run: RunId, offset: u64, length: u64) -> ChunkReader {
        let tree = self.trees.get(TreeName::Payloads).clone();
        ChunkReader::new(tree, run.as_bytes().to_vec(), offset, length)
    }

    /// The output of an attempt that was small enough to be stored with its settle.
    pub fn output(
        &self,
        vessel_run: VesselRunId,
        attempt: u32,
        offset: u64,
        length: u64,
    ) -> ChunkReader {
        let tree = self.trees.get(TreeName::Outputs).clone();
        ChunkReader::new(tree, keys::attempt(vessel_run, attempt), offset, length)
    }

    fn meta<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        let row = self.trees.get(TreeName::Meta).get(key)?;
        row.map(|row| codec::decode(&row).map_err(|error| damaged("meta", &error))).transpose()
    }

    fn values<T: DeserializeOwned>(
        &self,
        tree: TreeName,
        name: &'static str,
    ) -> Result<Vec<T>, StorageError> {
        let rows = self.trees.get(tree).iter().values();
        rows.map(|row| codec::decode(&row?).map_err(|error| damaged(name, &error))).collect()
    }
}

fn damaged(tree: &'static str, error: &CodecError) -> StorageError {
    StorageError::Damaged { tree, reason: error.to_string() }
}

/// What sled answered. Its errors are for good, so the process ends with them.
fn settle<T>(answer: sled::Result<Option<T>>) -> Option<T> {
    answer.unwrap_or_else(|error| fatal::stop(&format!("the database cannot be read: {error}")))
}

/// The value of a row that somebody asked to see. One damaged row must not take the rest along.
fn readable<T: DeserializeOwned>(tree: &'static str, row: &[u8]) -> Option<T> {
    codec::decode(row)
        .inspect_err(|error| log::error!(tree = tree, error:% = error; "skipping a damaged row"))
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
