//! The tables of the database, and the rows of each change.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use sled::Batch;

use crate::model::access::Scope;
use crate::model::change::Change;
use crate::model::limits::ROW_BYTES_MAX;
use crate::model::statistics::{Hour, Tally};
use crate::store::backup::format::{RowChange, write_change};
use crate::store::codec::{self, CodecError};
use crate::store::keys;

/// Rows of `meta`.
pub const META_ORGANIZATION: &[u8] = b"organization";
pub const META_SERVER: &[u8] = b"server";
pub const META_STATISTICS: &[u8] = b"statistics";

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
    Statistics,
}

/// The rows of one commit.
#[derive(Default)]
pub struct Rows {
    batch: Batch,
    bytes: usize,
    /// The runs that end with this commit, not yet added to what is stored.
    tallies: BTreeMap<(Hour, Scope), Tally>,
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
        use Change as C;
        use Table as T;
        // Changes of one row, and the names of all others: a new change is missing here first.
        match change {
            C::PutOrganization(it) => self.json(T::Meta, META_ORGANIZATION, it)?,
            C::PutServer(it) => self.json(T::Meta, META_SERVER, it)?,
            C::PutLeftovers { row, vessel_runs: it } => {
                self.json(T::Meta, &leftovers_key(*row), it)?;
            }
            C::RemoveLeftovers { row } => self.remove(T::Meta, &leftovers_key(*row)),
            C::PutProject(it) => self.json(T::Projects, it.id.as_bytes(), it)?,
            C::RemoveProject(id) => self.remove(T::Projects, id.as_bytes()),
            C::PutFleet(it) => self.json(T::Fleets, it.id.as_bytes(), it)?,
            C::RemoveFleet(id) => self.remove(T::Fleets, id.as_bytes()),
            C::PutWebhook(it) => self.json(T::Webhooks, it.token.hash().as_bytes(), it)?,
            C::RemoveWebhook(hash) => self.remove(T::Webhooks, hash.as_bytes()),
            C::PutRun(it) => self.compact(T::Runs, it.id.as_bytes(), it)?,
            C::PutVesselRun(it) => {
                self.compact(T::VesselRuns, &keys::attempt(it.id, it.attempt), it)?;
            }
            C::PutQueueEntry(it) => self.compact(T::Queue, &keys::sequence(it.sequence), it)?,
            C::RemoveQueueEntry { sequence } => self.remove(T::Queue, &keys::sequence(*sequence)),
            C::BeginUpload(run) => self.put(T::Uploads, run.as_bytes(), Vec::new()),
            C::EndUpload(run) => self.remove(T::Uploads, run.as_bytes()),
            C::PutHistory { fleet, number, entry: it } => {
                self.json(T::History, &keys::history(*fleet, *number), it)?;
            }
            C::RemoveHistory { fleet, number } => {
                self.remove(T::History, &keys::history(*fleet, *number));
            }
            C::EndRemoval(run) => self.remove(T::Removals, run.as_bytes()),
            C::PutEvent { key, entry } => self.compact(T::Events, &key.to_bytes(), entry)?,
            C::RemoveEvent(key) => self.remove(T::Events, &key.to_bytes()),
            C::PutSchedule { key, entry } => self.compact(T::Schedules, &key.to_bytes(), entry)?,
            C::RemoveSchedule(key) => self.remove(T::Schedules, &key.to_bytes()),
            C::PutAccessToken { hash, token } => {
                self.json(T::AccessTokens, hash.as_bytes(), token)?
            }
            C::RemoveAccessToken(hash) => self.remove(T::AccessTokens, hash.as_bytes()),
            C::PutAudit(it) => self.json(T::Audit, &keys::audit(it.class, it.id), it)?,
            C::RemoveAudit { class, id } => self.remove(T::Audit, &keys::audit(*class, *id)),
            C::CountRun(run) => {
                for scope in run.scopes() {
                    self.tallies.entry((run.hour, scope)).or_default().count(run);
                }
            }
            C::PutTally { hour, scope, tally } => {
                self.compact(T::Statistics, &keys::tally(*hour, *scope), tally)?;
            }
            C::RemoveTally { hour, scope } => {
                self.remove(T::Statistics, &keys::tally(*hour, *scope));
            }
            C::PutStatistics(it) => self.json(T::Meta, META_STATISTICS, it)?,
            C::AddRun(_) | C::BeginRemoval { .. } | C::RemoveAttempt { .. } => self.pair(change)?,
            C::PutNotification(_) | C::RemoveNotification { .. } => self.pair(change)?,
            C::PutDelivery(_) | C::RemoveDelivery { .. } => self.pair(change)?,
            C::AddFleetVersion(_) | C::RemoveFleetVersion { .. } => self.chunks(change)?,
            C::PutFleetText { .. } | C::RemoveFleetText { .. } => self.chunks(change)?,
            C::PutPayload { .. } | C::RemovePayload { .. } => self.chunks(change)?,
            C::PutOutput { .. } => self.chunks(change)?,
            C::PutDeliveryRequest { .. } | C::RemoveDeliveryRequest { .. } => {
                self.chunks(change)?
            }
        }
        Ok(())
    }

    /// Adds the rows of a change of several tables.
    fn pair(&mut self, change: &Change) -> Result<(), CodecError> {
        use Change as C;
        use Table as T;
        match change {
            C::AddRun(it) => {
                self.put(T::RunsByFleet, &keys::run_of_fleet(it.fleet_id, it.id), Vec::new());
                self.compact(T::Runs, it.id.as_bytes(), it)?;
            }
            C::BeginRemoval { run, fleet } => {
                self.remove(T::Runs, run.as_bytes());
                self.remove(T::RunsByFleet, &keys::run_of_fleet(*fleet, *run));
                self.put(T::Removals, run.as_bytes(), Vec::new());
            }
            C::RemoveAttempt { vessel_run, attempt, output_chunks } => {
                let key = |chunk| keys::output(*vessel_run, *attempt, chunk);
                self.remove_chunks(T::Outputs, 0..*output_chunks, key);
                self.remove(T::VesselRuns, &keys::attempt(*vessel_run, *attempt));
            }
            C::PutNotification(it) if it.given_up => {
                let key = keys::notification(it.run, it.number);
                self.remove(T::Notifications, &key);
                self.json(T::Undelivered, &key, it)?;
            }
            C::PutNotification(it) => {
                self.json(T::Notifications, &keys::notification(it.run, it.number), it)?;
            }
            C::RemoveNotification { run, number } => {
                let key = keys::notification(*run, *number);
                self.remove(T::Notifications, &key);
                self.remove(T::Undelivered, &key);
            }
            C::PutDelivery(it) => {
                let index = keys::delivery_of_fleet(it.fleet_id, it.id);
                self.put(T::DeliveriesByFleet, &index, Vec::new());
                self.compact(T::Deliveries, it.id.as_bytes(), it)?;
            }
            C::RemoveDelivery { fleet, delivery, chunks } => {
                self.remove(T::Deliveries, delivery.as_bytes());
                self.remove(T::DeliveriesByFleet, &keys::delivery_of_fleet(*fleet, *delivery));
                let key = |chunk| keys::delivery_request(*delivery, chunk);
                self.remove_chunks(T::DeliveryRequests, 0..*chunks, key);
            }
            other => unreachable!("not of several tables: {other:?}"),
        }
        Ok(())
    }

    /// Adds the rows of a change of one value that is cut into chunks.
    fn chunks(&mut self, change: &Change) -> Result<(), CodecError> {
        use Change as C;
        use Table as T;
        let of_version = |fleet, version| move |chunk| keys::fleet_version(fleet, version, chunk);
        match change {
            C::AddFleetVersion(it) => {
                let key = of_version(it.fleet_id, it.version);
                self.put_chunks(T::FleetVersions, 0, &codec::encode_long(it)?, key);
            }
            C::RemoveFleetVersion { fleet, version, chunks } => {
                self.remove_chunks(T::FleetVersions, 0..*chunks, of_version(*fleet, *version));
            }
            C::PutFleetText { fleet, version, text } => {
                let key = of_version(*fleet, *version);
                self.put_chunks(T::FleetTexts, 0, text.as_bytes(), key);
            }
            C::RemoveFleetText { fleet, version, chunks } => {
                self.remove_chunks(T::FleetTexts, 0..*chunks, of_version(*fleet, *version));
            }
            C::PutPayload { run, chunk, bytes } => {
                self.put_chunks(T::Payloads, *chunk, bytes, |chunk| keys::payload(*run, chunk));
            }
            C::RemovePayload { run, chunks } => {
                self.remove_chunks(T::Payloads, chunks.clone(), |it| keys::payload(*run, it));
            }
            C::PutOutput { vessel_run, attempt, bytes } => {
                let key = |chunk| keys::output(*vessel_run, *attempt, chunk);
                self.put_chunks(T::Outputs, 0, bytes, key);
            }
            C::PutDeliveryRequest { delivery, bytes } => {
                let key = |chunk| keys::delivery_request(*delivery, chunk);
                self.put_chunks(T::DeliveryRequests, 0, bytes, key);
            }
            C::RemoveDeliveryRequest { delivery, chunks } => {
                let key = |chunk| keys::delivery_request(*delivery, chunk);
                self.remove_chunks(T::DeliveryRequests, 0..*chunks, key);
            }
            other => unreachable!("not of chunks: {other:?}"),
        }
        Ok(())
    }

    /// Adds the runs that end with this commit to those that are stored, which `stored` reads.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_to_stored(
        &mut self,
        stored: impl Fn(Hour, Scope) -> Option<Tally>,
    ) -> Result<(), CodecError> {
        for ((hour, scope), counted) in std::mem::take(&mut self.tallies) {
            let mut tally = stored(hour, scope).unwrap_or_default();
            tally.merge(&counted);
            self.compact(Table::Statistics, &keys::tally(hour, scope), &tally)?;
        }
        Ok(())
    }

    fn json(&mut self, table: Table, key: &[u8], value: &impl Serialize) -> Result<(), CodecError> {
        self.put(table, key, codec::encode(value)?);
        Ok(())
    }

    fn compact(
        &mut self,
        table: Table,
        key: &[u8],
        value: &impl Serialize,
    ) -> Result<(), CodecError> {
        self.put(table, key, codec::encode_compact(value)?);
        Ok(())
    }

    fn remove_chunks(&mut self, table: Table, chunks: Range<u32>, key: impl Fn(u32) -> Vec<u8>) {
        chunks.for_each(|chunk| self.remove(table, &key(chunk)));
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
