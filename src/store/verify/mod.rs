//! Reads the whole database, and so checks sled's checksums. Checks that rows decode, that payloads and
//! outputs have the lengths that their runs say, and that no row refers to a missing one. Changes
//! nothing.
//!
//! A server may change rows meanwhile. A row that seems damaged is read again, and counts if it is
//! unchanged. Each row is a read of its own, so that commits do not wait. The caller may pause between
//! steps.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::model::access::AccessToken;
use crate::model::audit::AuditEntry;
use crate::model::change::{HistoryEntry, QueueEntry, ServerRecord};
use crate::model::delivery::Delivery;
use crate::model::event::EventEntry;
use crate::model::fleet::{Fleet, Organization, Project, TextHash};
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::limits::ROW_BYTES_MAX;
use crate::model::notification::NotificationRecord;
use crate::model::request::RequestHead;
use crate::model::run::{OutputPlace, RunRecord, VesselRunRecord};
use crate::model::schedule::ScheduleEntry;
use crate::model::statistics::{StatisticsRecord, Tally};
use crate::model::webhook::Webhook;
use crate::store::sled::database::Database;
use crate::store::tables::{META_ORGANIZATION, META_SERVER, META_STATISTICS, Table};
use crate::store::{DataDirectory, OpenError, StorageError, Store, codec, keys};

/// Rows per step: a few milliseconds.
const STEP_ROWS: u64 = 256;
/// Damages that the report names. It counts the others.
const DAMAGE_NAMED_MAX: usize = 10;

/// The rows read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub read: VerifyProgress,
    pub runs: u64,
    /// Number of damages.
    pub damages: u64,
    /// The first damages, for a person.
    pub damage: Vec<String>,
    /// Payloads that belong to no run.
    pub orphans: u64,
    /// The caller ended the verification early.
    pub is_cut_short: bool,
}

/// What a verification asks its caller.
pub struct VerifyCallbacks<'a> {
    /// Called after each step. `false` ends the verification.
    pub step: &'a mut dyn FnMut(VerifyProgress) -> bool,
    /// Whether the output file of an attempt exists.
    pub has_output_file: &'a dyn Fn(VesselRunId, u32) -> bool,
}

/// Why the verification ends early.
enum Stop {
    CutShort,
    Failed(sled::Error),
}

impl From<sled::Error> for Stop {
    fn from(error: sled::Error) -> Self {
        Self::Failed(error)
    }
}

impl Store {
    /// Verifies the database.
    ///
    /// # Errors
    /// When sled fails.
    pub fn verify(&self, watch: &mut VerifyCallbacks<'_>) -> Result<VerifyReport, StorageError> {
        verify(&self.database, watch)
    }
}

/// Verifies the database in the data directory at `path`, which no server may have open. Makes and
/// migrates nothing.
///
/// # Errors
/// When `path` is no data directory, in use or of another schema, or when sled fails.
pub fn verify_directory(
    path: &Path,
    watch: &mut VerifyCallbacks<'_>,
) -> Result<VerifyReport, OpenError> {
    let directory = DataDirectory::open_existing(path)?;
    Ok(verify(&Database::open(directory.path())?, watch)?)
}

fn verify(
    database: &Database,
    watch: &mut VerifyCallbacks<'_>,
) -> Result<VerifyReport, StorageError> {
    let mut reading = Reading { database, watch, found: VerifyReport::default() };
    match reading.all() {
        Ok(()) => Ok(reading.found),
        Err(Stop::CutShort) => Ok(VerifyReport { is_cut_short: true, ..reading.found }),
        Err(Stop::Failed(error)) => Err(error.into()),
    }
}

struct Reading<'a, 'w> {
    database: &'a Database,
    watch: &'a mut VerifyCallbacks<'w>,
    found: VerifyReport,
}

impl Reading<'_, '_> {
    fn all(&mut self) -> Result<(), Stop> {
        self.meta::<Organization>(META_ORGANIZATION)?;
        self.meta::<ServerRecord>(META_SERVER)?;
        self.rows::<Project>(Table::Projects, "projects")?;
        self.rows::<Webhook>(Table::Webhooks, "webhooks")?;
        self.rows::<QueueEntry>(Table::Queue, "queue")?;
        self.rows::<NotificationRecord>(Table::Notifications, "notifications")?;
        self.rows::<NotificationRecord>(Table::Undelivered, "undelivered")?;
        self.rows::<EventEntry>(Table::Events, "events")?;
        self.rows::<ScheduleEntry>(Table::Schedules, "schedules")?;
        self.rows::<AccessToken>(Table::AccessTokens, "access_tokens")?;
        self.rows::<AuditEntry>(Table::Audit, "audit")?;
        self.meta::<StatisticsRecord>(META_STATISTICS)?;
        self.rows::<Tally>(Table::Statistics, "statistics")?;
        self.versions()?;
        self.fleets()?;
        self.texts()?;
        self.runs()?;
        self.history()?;
        self.vessel_runs()?;
        self.payloads()?;
        self.deliveries()
    }

    /// Counts a row, and ends the verification when the caller asks for it.
    fn count(&mut self, key: &[u8], row: &[u8]) -> Result<(), Stop> {
        let read = &mut self.found.read;
        read.rows += 1;
        read.bytes += (key.len() + row.len()) as u64;
        if read.rows.is_multiple_of(STEP_ROWS) && !(self.watch.step)(*read) {
            return Err(Stop::CutShort);
        }
        Ok(())
    }

    fn damaged(&mut self, what: String) {
        self.found.damages += 1;
        if self.found.damage.len() < DAMAGE_NAMED_MAX {
            self.found.damage.push(what);
        }
    }

    fn decode<T: DeserializeOwned>(&mut self, name: &str, row: &[u8]) -> Option<T> {
        let decoded = codec::decode(row);
        decoded.map_err(|error| self.damaged(format!("a row of `{name}`: {error}"))).ok()
    }

    fn meta<T: DeserializeOwned>(&mut self, key: &[u8]) -> Result<(), Stop> {
        if let Some(row) = self.database.get(Table::Meta, key)? {
            self.count(key, &row)?;
            self.decode::<T>("meta", &row);
        }
        Ok(())
    }

    fn rows<T: DeserializeOwned>(&mut self, table: Table, name: &str) -> Result<(), Stop> {
        for row in self.database.all(table) {
            let (key, row) = row?;
            self.count(&key, &row)?;
            self.decode::<T>(name, &row);
        }
        Ok(())
    }

    fn fleets(&mut self) -> Result<(), Stop> {
        for row in self.database.all(Table::Fleets) {
            let (key, row) = row?;
            self.count(&key, &row)?;
            let Some(fleet) = self.decode::<Fleet>("fleets", &row) else { continue };
            let version = keys::fleet_version(fleet.id, fleet.version, 0);
            if self.database.get(Table::FleetVersions, &version)?.is_none() {
                self.damaged(format!(
                    "the fleet {} lacks its version {}",
                    fleet.name, fleet.version
                ));
            }
            if !self.has_its_text(&fleet)?
                // It may have been deleted meanwhile.
                && self.database.get(Table::Fleets, &key)?.is_some_and(|again| again == row)
            {
                self.damaged(format!("the text of the fleet {} is not as it was", fleet.name));
            }
        }
        Ok(())
    }

    /// Whether the text of a fleet's current version is the one whose hash is in the fleet's row.
    fn has_its_text(&mut self, fleet: &Fleet) -> Result<bool, Stop> {
        let Some(hash) = fleet.text else { return Ok(true) };
        let prefix = keys::fleet_version(fleet.id, fleet.version, 0);
        let mut text = Vec::new();
        let prefix = &prefix[..prefix.len() - keys::CHUNK_BYTES];
        self.chunks(Table::FleetTexts, prefix, |bytes| text.extend_from_slice(bytes))?;
        Ok(String::from_utf8(text).is_ok_and(|text| TextHash::of(&text) == hash))
    }

    /// Reads every text, for sled's checksums.
    fn texts(&mut self) -> Result<(), Stop> {
        for row in self.database.all(Table::FleetTexts) {
            let (key, row) = row?;
            self.count(&key, &row)?;
        }
        Ok(())
    }

    /// Joins the chunks of each version and checks it.
    fn versions(&mut self) -> Result<(), Stop> {
        let mut current: Option<(Vec<u8>, Vec<u8>)> = None;
        for row in self.database.all(Table::FleetVersions) {
            let (key, row) = row?;
            self.count(&key, &row)?;
            let version =
                key.get(..key.len().saturating_sub(keys::CHUNK_BYTES)).unwrap_or_default();
            match &mut current {
                Some((same, bytes)) if same == version => bytes.extend_from_slice(&row),
                _ => {
                    if let Some((version, bytes)) =
                        current.replace((version.to_vec(), row.to_vec()))
                    {
                        self.version(&version, &bytes);
                    }
                }
            }
        }
        if let Some((version, bytes)) = current {
            self.version(&version, &bytes);
        }
        Ok(())
    }

    fn version(&mut self, key: &[u8], bytes: &[u8]) {
        if let Err(error) = codec::decode_fleet_version(bytes) {
            let fleet = key.get(..16).and_then(FleetId::from_slice);
            let fleet = fleet.map_or_else(|| "?".to_owned(), |fleet| fleet.to_string());
            let version = keys::last_number(key).unwrap_or_default();
            self.damaged(format!("version {version} of the fleet {fleet}: {error}"));
        }
    }

    fn runs(&mut self) -> Result<(), Stop> {
        for row in self.database.all(Table::Runs) {
            let (key, row) = row?;
            self.count(&key, &row)?;
            self.found.runs += 1;
            let Some(run) = self.decode::<RunRecord>("runs", &row) else { continue };
            if let Some(damage) = self.run_damage(&run)?
                // Retention may have removed it meanwhile.
                && self.database.get(Table::Runs, &key)?.is_some()
            {
                self.damaged(format!("the run {}: {damage}", run.id));
            }
        }
        Ok(())
    }

    /// Checks that the run of each entry exists.
    fn history(&mut self) -> Result<(), Stop> {
        for row in self.database.all(Table::History) {
            let (key, row) = row?;
            self.count(&key, &row)?;
            let Some(entry) = self.decode::<HistoryEntry>("history", &row) else { continue };
            if self.database.get(Table::Runs, entry.run.as_bytes())?.is_none()
                && self.database.get(Table::History, &key)?.is_some()
            {
                self.damaged(format!("the run {} is missing, though its end is known", entry.run));
            }
        }
        Ok(())
    }

    /// Whether `run` is marked for removal.
    fn is_being_removed(&self, run: &[u8]) -> sled::Result<bool> {
        Ok(self.database.get(Table::Removals, run)?.is_some())
    }

    fn run_damage(&mut self, run: &RunRecord) -> Result<Option<String>, Stop> {
        let index = keys::run_of_fleet(run.fleet_id, run.id);
        if self.database.get(Table::RunsByFleet, &index)?.is_none() {
            return Ok(Some("it is missing in the list of its fleet's runs".to_owned()));
        }
        let (head_bytes, body_bytes) = (run.payload.head_bytes as usize, run.payload.body_bytes);
        let expected = head_bytes as u64 + body_bytes;
        let mut head = Vec::new();
        let stored = self.chunks(Table::Payloads, run.id.as_bytes(), |bytes| {
            head.extend_from_slice(&bytes[..bytes.len().min(head_bytes - head.len())]);
        })?;
        let (stored, is_whole) = stored;
        if !is_whole || stored != expected {
            return Ok(Some(format!("{stored} of the {expected} bytes of its request are there")));
        }
        if head_bytes > 0
            && let Err(error) = serde_json::from_slice::<RequestHead>(&head)
        {
            return Ok(Some(format!("the head of its request: {error}")));
        }
        Ok(None)
    }

    /// Reads the chunks behind `prefix`: their bytes, and whether each but the last is there and full.
    fn chunks(
        &mut self,
        table: Table,
        prefix: &[u8],
        mut see: impl FnMut(&[u8]),
    ) -> Result<(u64, bool), Stop> {
        let (mut bytes, mut is_whole) = (0, true);
        for (number, row) in (0..).zip(self.database.prefixed(table, prefix)) {
            let (key, row) = row?;
            self.count(&key, &row)?;
            let begins_at = u64::from(number) * ROW_BYTES_MAX as u64;
            is_whole &= keys::last_number(&key) == Some(number) && bytes == begins_at;
            bytes += row.len() as u64;
            see(&row);
        }
        Ok((bytes, is_whole))
    }

    fn vessel_runs(&mut self) -> Result<(), Stop> {
        for row in self.database.all(Table::VesselRuns) {
            let (key, row) = row?;
            self.count(&key, &row)?;
            let Some(record) = self.decode::<VesselRunRecord>("vessel_runs", &row) else {
                continue;
            };
            if let Some(damage) = self.output_damage(&record)?
                && self.database.get(Table::VesselRuns, &key)?.is_some_and(|again| again == row)
                && !self.is_being_removed(record.id.run().as_bytes())?
            {
                let (name, attempt) = (&record.vessel_name, record.attempt);
                let run = record.id.run();
                self.damaged(format!("attempt {attempt} of {name} in the run {run}: {damage}"));
            }
        }
        Ok(())
    }

    fn output_damage(&mut self, record: &VesselRunRecord) -> Result<Option<String>, Stop> {
        let expected = record.output.bytes;
        match record.output.place {
            OutputPlace::Nowhere => Ok(None),
            OutputPlace::File => Ok((!(self.watch.has_output_file)(record.id, record.attempt))
                .then(|| "the file of its output is missing".to_owned())),
            OutputPlace::Rows => {
                let key = keys::attempt(record.id, record.attempt);
                let (stored, is_whole) = self.chunks(Table::Outputs, &key, |_| {})?;
                Ok((!is_whole || stored != expected)
                    .then(|| format!("{stored} of the {expected} bytes of its output are there")))
            }
        }
    }

    /// Finds payloads of no run, upload or removal. Their space is lost.
    fn payloads(&mut self) -> Result<(), Stop> {
        let mut start = Vec::new();
        loop {
            let first = self.database.range(Table::Payloads, &start, None).next();
            let Some((key, row)) = first.transpose()? else { return Ok(()) };
            self.count(&key, &row)?;
            let run = key.get(..16).unwrap_or_default();
            let is_known = || -> sled::Result<bool> {
                Ok(self.database.get(Table::Uploads, run)?.is_some()
                    || self.is_being_removed(run)?
                    || self.database.get(Table::Runs, run)?.is_some())
            };
            // Its run may have been accepted or removed between two reads.
            if !is_known()?
                && !is_known()?
                && self.database.get(Table::Payloads, &key)?.is_some()
                && RunId::from_slice(run).is_some()
            {
                self.found.orphans += 1;
            }
            start = keys::after(run);
        }
    }

    /// Checks that each delivery is in the index of its fleet and has the request that it says.
    fn deliveries(&mut self) -> Result<(), Stop> {
        for row in self.database.all(Table::Deliveries) {
            let (key, row) = row?;
            self.count(&key, &row)?;
            let Some(delivery) = self.decode::<Delivery>("deliveries", &row) else { continue };
            if let Some(damage) = self.delivery_damage(&delivery)?
                // The writer may have removed it, or its request, meanwhile.
                && self.database.get(Table::Deliveries, &key)?.is_some_and(|again| again == row)
            {
                self.damaged(format!("the delivery {}: {damage}", delivery.id));
            }
        }
        Ok(())
    }

    fn delivery_damage(&mut self, delivery: &Delivery) -> Result<Option<String>, Stop> {
        let index = keys::delivery_of_fleet(delivery.fleet_id, delivery.id);
        if self.database.get(Table::DeliveriesByFleet, &index)?.is_none() {
            return Ok(Some("it is missing in the list of its fleet's deliveries".to_owned()));
        }
        let expected = delivery.kept.bytes();
        let key = delivery.id.as_bytes();
        let (stored, is_whole) = self.chunks(Table::DeliveryRequests, key, |_| {})?;
        Ok((!is_whole || stored != expected)
            .then(|| format!("{stored} of the {expected} bytes of its request are there")))
    }
}

#[cfg(test)]
mod tests;
