//! The tables of the database, and the rows of each change.

use sled::Batch;

use crate::model::change::Change;
use crate::model::ids::RequestId;
use crate::model::limits::ROW_BYTES_MAX;
use crate::model::run::RunRecord;
use crate::store::backup::format::{RowChange, write_change};
use crate::store::codec::{self, CodecError};
use crate::store::keys;

/// Rows of `meta`.
pub const META_ORGANIZATION: &[u8] = b"organization";
pub const META_SERVER: &[u8] = b"server";

/// The key in `meta` of a row of vessel runs whose processes may be left.
pub fn leftovers_key(row: u32) -> Vec<u8> {
    [b"leftovers".as_slice(), &row.to_be_bytes()].concat()
}

/// A table. Its number is the first byte of its full keys, and must not change.
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
    History,
    Removals,
    Events,
    Schedules,
    Deliveries,
    DeliveriesByFleet,
    DeliveryRequests,
    AccessTokens,
    Audit,
    FleetTexts,
}

/// The rows of one commit.
#[derive(Default)]
pub struct Rows {
    batch: Batch,
    bytes: usize,
    /// The same changes in the format of backups, while a backup is made.
    record: Option<Vec<u8>>,
}

impl Rows {
    /// Bytes of the keys and values so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rows for a backup's change log, too.
    pub fn recorded() -> Self {
        Self { record: Some(Vec::new()), ..Self::default() }
    }

    /// The changes for the change log, if they are recorded.
    pub fn record(&self) -> Option<&[u8]> {
        self.record.as_deref()
    }

    /// The batch for the database; `None` without rows.
    pub fn into_batch(self) -> Option<Batch> {
        (self.bytes > 0).then_some(self.batch)
    }

    /// Adds the rows of one change; a later change of the same row wins.
    ///
    /// # Errors
    /// When a row is too long. The limits of `model` exclude that.
    pub fn add(&mut self, change: &Change) -> Result<(), CodecError> {
        use Table as T;
        match change {
            Change::PutOrganization(organization) => {
                self.put(T::Meta, META_ORGANIZATION, codec::encode(organization)?);
            }
            Change::PutServer(server) => self.put(T::Meta, META_SERVER, codec::encode(server)?),
            Change::PutLeftovers { row, vessel_runs } => {
                self.put(T::Meta, &leftovers_key(*row), codec::encode(vessel_runs)?);
            }
            Change::RemoveLeftovers { row } => self.remove(T::Meta, &leftovers_key(*row)),
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
            Change::PutFleetText { fleet, version, text } => {
                let key = |chunk| keys::fleet_version(*fleet, *version, chunk);
                self.put_chunks(T::FleetTexts, 0, text.as_bytes(), key);
            }
            Change::RemoveFleetText { fleet, version, chunks } => {
                for chunk in 0..*chunks {
                    self.remove(T::FleetTexts, &keys::fleet_version(*fleet, *version, chunk));
                }
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
            Change::RemovePayload { run, chunks } => {
                for chunk in chunks.clone() {
                    self.remove(T::Payloads, &keys::payload(*run, chunk));
                }
            }
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
            Change::PutHistory { fleet, number, entry } => {
                self.put(T::History, &keys::history(*fleet, *number), codec::encode(entry)?);
            }
            Change::RemoveHistory { fleet, number } => {
                self.remove(T::History, &keys::history(*fleet, *number));
            }
            Change::BeginRemoval { run, fleet } => {
                self.remove(T::Runs, run.as_bytes());
                self.remove(T::RunsByFleet, &keys::run_of_fleet(*fleet, *run));
                self.put(T::Removals, run.as_bytes(), Vec::new());
            }
            Change::RemoveAttempt { vessel_run, attempt, output_chunks } => {
                for chunk in 0..*output_chunks {
                    self.remove(T::Outputs, &keys::output(*vessel_run, *attempt, chunk));
                }
                self.remove(T::VesselRuns, &keys::attempt(*vessel_run, *attempt));
            }
            Change::EndRemoval(run) => self.remove(T::Removals, run.as_bytes()),
            Change::PutEvent { key, entry } => {
                self.put(T::Events, &key.to_bytes(), codec::encode_compact(entry)?);
            }
            Change::RemoveEvent(key) => self.remove(T::Events, &key.to_bytes()),
            Change::PutSchedule { key, entry } => {
                self.put(T::Schedules, &key.to_bytes(), codec::encode_compact(entry)?);
            }
            Change::RemoveSchedule(key) => self.remove(T::Schedules, &key.to_bytes()),
            Change::PutDelivery(delivery) => {
                let index = keys::delivery_of_fleet(delivery.fleet_id, delivery.id);
                self.put(T::DeliveriesByFleet, &index, Vec::new());
                let row = codec::encode_compact(delivery)?;
                self.put(T::Deliveries, delivery.id.as_bytes(), row);
            }
            Change::PutDeliveryRequest { delivery, bytes } => {
                let key = |chunk| keys::delivery_request(*delivery, chunk);
                self.put_chunks(T::DeliveryRequests, 0, bytes, key);
            }
            Change::RemoveDelivery { fleet, delivery, chunks } => {
                self.remove(T::Deliveries, delivery.as_bytes());
                let index = keys::delivery_of_fleet(*fleet, *delivery);
                self.remove(T::DeliveriesByFleet, &index);
                self.remove_request(*delivery, *chunks);
            }
            Change::RemoveDeliveryRequest { delivery, chunks } => {
                self.remove_request(*delivery, *chunks);
            }
            Change::PutAccessToken { hash, token } => {
                self.put(T::AccessTokens, hash.as_bytes(), codec::encode(token)?);
            }
            Change::PutAudit(entry) => {
                self.put(T::Audit, &keys::audit(entry.class, entry.id), codec::encode(entry)?);
            }
            Change::RemoveAudit { class, id } => self.remove(T::Audit, &keys::audit(*class, *id)),
            Change::RemoveAccessToken(hash) => self.remove(T::AccessTokens, hash.as_bytes()),
            Change::RemoveFleetVersion { fleet, version, chunks } => {
                for chunk in 0..*chunks {
                    self.remove(T::FleetVersions, &keys::fleet_version(*fleet, *version, chunk));
                }
            }
        }
        Ok(())
    }

    fn put_run(&mut self, run: &RunRecord) -> Result<(), CodecError> {
        self.put(Table::Runs, run.id.as_bytes(), codec::encode_compact(run)?);
        Ok(())
    }

    fn remove_request(&mut self, delivery: RequestId, chunks: u32) {
        for chunk in 0..chunks {
            self.remove(Table::DeliveryRequests, &keys::delivery_request(delivery, chunk));
        }
    }

    fn put_chunks(&mut self, table: Table, first: u32, bytes: &[u8], key: impl Fn(u32) -> Vec<u8>) {
        for (chunk, row) in (first..).zip(bytes.chunks(ROW_BYTES_MAX)) {
            self.put(table, &key(chunk), row.to_vec());
        }
    }

    fn put(&mut self, table: Table, key: &[u8], row: Vec<u8>) {
        self.bytes += key.len() + row.len();
        let key = keys::of_table(table, key);
        if let Some(record) = &mut self.record {
            write_change(record, RowChange { key: &key, value: Some(&row) });
        }
        self.batch.insert(key, row);
    }

    fn remove(&mut self, table: Table, key: &[u8]) {
        self.bytes += key.len();
        let key = keys::of_table(table, key);
        if let Some(record) = &mut self.record {
            write_change(record, RowChange { key: &key, value: None });
        }
        self.batch.remove(key);
    }
}
