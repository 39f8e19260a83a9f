//! The tables of the database, and how each change becomes rows in them.

use sled::Batch;

use crate::domain::change::Change;
use crate::domain::ids::RunId;
use crate::domain::run::RunRecord;
use crate::limits::ROW_BYTES_MAX;
use crate::storage::codec::{self, CodecError};
use crate::storage::keys;

/// Rows of `meta`.
pub const META_ORGANIZATION: &[u8] = b"organization";
pub const META_SERVER: &[u8] = b"server";

/// A table: rows of one kind, behind this byte in the database's one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    Meta,
    Projects,
    Fleets,
    FleetVersions,
    Webhooks,
    Runs,
    RunsByFleet,
    VesselRuns,
    Payloads,
    Outputs,
    Queue,
    Uploads,
    Notifications,
    Undelivered,
}

/// The rows of one commit.
#[derive(Default)]
pub struct Rows {
    batch: Batch,
    bytes: usize,
}

impl Rows {
    /// Bytes of the keys and values so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows for the database.
    pub fn into_batch(self) -> Batch {
        self.batch
    }

    /// Adds the rows of one change; a later change of the same row wins.
    ///
    /// # Errors
    /// When a row would be too long: some limit of the domain is missing.
    pub fn add(&mut self, change: &Change) -> Result<(), CodecError> {
        use Table as T;
        match change {
            Change::PutOrganization(organization) => {
                self.put(T::Meta, META_ORGANIZATION, codec::encode(organization)?);
            }
            Change::PutServer(server) => self.put(T::Meta, META_SERVER, codec::encode(server)?),
            Change::PutProject(project) => {
                self.put(T::Projects, project.id.as_bytes(), codec::encode(project)?);
            }
            Change::RemoveProject(id) => self.remove(T::Projects, id.as_bytes()),
            Change::PutFleet(fleet) => {
                self.put(T::Fleets, fleet.id.as_bytes(), codec::encode(fleet)?);
            }
            Change::RemoveFleet(id) => self.remove(T::Fleets, id.as_bytes()),
            Change::AddFleetVersion(version) => {
                let key = |chunk| keys::fleet_version(version.fleet_id, version.version, chunk);
                self.put_chunks(T::FleetVersions, 0, &codec::encode_long(version)?, key);
            }
            Change::PutWebhook(webhook) => {
                let key = webhook.token.hash();
                self.put(T::Webhooks, key.as_bytes(), codec::encode(webhook)?);
            }
            Change::RemoveWebhook(hash) => self.remove(T::Webhooks, hash.as_bytes()),
            Change::AddRun(run) => {
                self.put(T::RunsByFleet, &keys::run_of_fleet(run.fleet_id, run.id), Vec::new());
                self.put_run(run)?;
            }
            Change::PutRun(run) => self.put_run(run)?,
            Change::PutVesselRun(vessel_run) => {
                let key = keys::attempt(vessel_run.id, vessel_run.attempt);
                self.put(T::VesselRuns, &key, codec::encode_compact(vessel_run)?);
            }
            Change::PutQueueEntry(entry) => {
                let row = codec::encode_compact(entry)?;
                self.put(T::Queue, &keys::sequence(entry.sequence), row);
            }
            Change::RemoveQueueEntry { sequence } => {
                self.remove(T::Queue, &keys::sequence(*sequence));
            }
            Change::PutPayload { run, chunk, bytes } => {
                self.put_chunks(T::Payloads, *chunk, bytes, |chunk| keys::payload(*run, chunk));
            }
            Change::BeginUpload(run) => self.put(T::Uploads, run.as_bytes(), Vec::new()),
            Change::EndUpload(run) => self.remove(T::Uploads, run.as_bytes()),
            Change::RemovePayload { run, chunks } => self.remove_payload(*run, *chunks),
            Change::PutNotification(record) => {
                let key = keys::notification(record.run, record.number);
                if record.given_up {
                    self.remove(T::Notifications, &key);
                    self.put(T::Undelivered, &key, codec::encode(record)?);
                } else {
                    self.put(T::Notifications, &key, codec::encode(record)?);
                }
            }
            Change::RemoveNotification { run, number } => {
                let key = keys::notification(*run, *number);
                self.remove(T::Notifications, &key);
                self.remove(T::Undelivered, &key);
            }
            Change::PutOutput { vessel_run, attempt, bytes } => {
                let key = |chunk| keys::output(*vessel_run, *attempt, chunk);
                self.put_chunks(T::Outputs, 0, bytes, key);
            }
        }
        Ok(())
    }

    fn put_run(&mut self, run: &RunRecord) -> Result<(), CodecError> {
        self.put(Table::Runs, run.id.as_bytes(), codec::encode_compact(run)?);
        Ok(())
    }

    fn remove_payload(&mut self, run: RunId, chunks: u32) {
        for chunk in 0..chunks {
            self.remove(Table::Payloads, &keys::payload(run, chunk));
        }
    }

    fn put_chunks(&mut self, table: Table, first: u32, bytes: &[u8], key: impl Fn(u32) -> Vec<u8>) {
        for (chunk, row) in (first..).zip(bytes.chunks(ROW_BYTES_MAX)) {
            self.put(table, &key(chunk), row.to_vec());
        }
    }

    fn put(&mut self, table: Table, key: &[u8], row: Vec<u8>) {
        self.bytes += key.len() + row.len();
        self.batch.insert(keys::of_table(table, key), row);
    }

    fn remove(&mut self, table: Table, key: &[u8]) {
        self.bytes += key.len();
        self.batch.remove(keys::of_table(table, key));
    }
}
