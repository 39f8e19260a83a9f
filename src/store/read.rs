//! Reading rows. What recovery reads fails on a damaged row. What a person asks for skips damaged
//! rows, so that one of them does not hide the rest. An error of sled ends the process in that case.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::model::access::AccessToken;
use crate::model::change::{QueueEntry, ServerRecord};
use crate::model::fleet::{Fleet, FleetVersion, Organization, Project};
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::limits::VESSELS_PER_FLEET_MAX;
use crate::model::notification::NotificationRecord;
use crate::model::run::{RunRecord, VesselRunRecord};
use crate::model::schedule::{ScheduleEntry, ScheduleKey};
use crate::model::webhook::{TokenHash, Webhook};
use crate::os::fatal;
use crate::store::backlog::Backlog;
use crate::store::chunks::ChunkReader;
use crate::store::sled::database::Database;
use crate::store::tables::{self, META_ORGANIZATION, META_SERVER, Table};
use crate::store::{StorageError, Store, codec, damaged, keys};

/// What recovery reads. Each fails when a row is damaged.
impl Store {
    /// The organization, once it exists.
    pub fn organization(&self) -> Result<Option<Organization>, StorageError> {
        self.meta(META_ORGANIZATION)
    }

    /// The record of the last server on this directory.
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

    /// How far each schedule has come.
    pub fn schedules(&self) -> Result<Vec<(ScheduleKey, ScheduleEntry)>, StorageError> {
        self.keyed(Table::Schedules, "schedules", ScheduleKey::from_slice)
    }

    /// Every token of the admin API, with the hash of its secret.
    pub fn access_tokens(&self) -> Result<Vec<(TokenHash, AccessToken)>, StorageError> {
        self.keyed(Table::AccessTokens, "access_tokens", TokenHash::from_slice)
    }

    /// One version of a fleet. Its paths form a [graph](crate::model::graph::Graph).
    pub fn fleet_version(
        &self,
        fleet: FleetId,
        version: u32,
    ) -> Result<Option<FleetVersion>, StorageError> {
        fleet_version(&self.database, fleet, version)
    }

    /// Every unfinished run, in the order of acceptance.
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

    /// The number of stored chunks of the payload of `run`.
    pub fn payload_chunks(&self, run: RunId) -> Result<u32, StorageError> {
        let last = self.database.prefixed(Table::Payloads, run.as_bytes()).next_back();
        let last = last.transpose()?;
        Ok(last.and_then(|(key, _)| keys::last_number(&key)).map_or(0, |chunk| chunk + 1))
    }

    /// The greatest run id.
    pub fn last_run(&self) -> Result<Option<RunId>, StorageError> {
        let last = self.database.all(Table::Runs).next_back().transpose()?;
        Ok(last.and_then(|(key, _)| RunId::from_slice(&key)))
    }

    /// A run that has started, with the latest attempts of its `vessels` vessels. A missing row of
    /// the run is damage, too.
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

    pub(super) fn meta<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        let row = self.database.get(Table::Meta, key)?;
        row.map(|row| codec::decode(&row).map_err(|error| damaged("meta", &error))).transpose()
    }

    /// The rows of a table whose keys `read` reads.
    fn keyed<K, T: DeserializeOwned>(
        &self,
        table: Table,
        name: &'static str,
        read: impl Fn(&[u8]) -> Option<K>,
    ) -> Result<Vec<(K, T)>, StorageError> {
        let rows = self.database.all(table).map(|row| {
            let (key, row) = row?;
            let key = read(&key).ok_or_else(|| StorageError::Damaged {
                table: name,
                reason: "a key has the wrong length".to_owned(),
            })?;
            Ok((key, codec::decode(&row).map_err(|error| damaged(name, &error))?))
        });
        rows.collect()
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

/// See [`Store::fleet_version`].
pub(super) fn fleet_version(
    database: &Database,
    fleet: FleetId,
    version: u32,
) -> Result<Option<FleetVersion>, StorageError> {
    let prefix = [fleet.as_bytes().as_slice(), &version.to_be_bytes()].concat();
    let mut bytes = Vec::new();
    for row in database.prefixed(Table::FleetVersions, &prefix) {
        bytes.extend_from_slice(&row?.1);
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let decoded = codec::decode_fleet_version(&bytes);
    decoded.map(Some).map_err(|error| StorageError::Damaged {
        table: "fleet_versions",
        reason: format!("version {version} of the fleet {fleet}: {error}"),
    })
}

/// What a person asks for.
impl Store {
    /// The stored run of this id.
    pub fn run(&self, id: RunId) -> Option<RunRecord> {
        let row = or_stop(self.database.get(Table::Runs, id.as_bytes()))?;
        readable("runs", &row)
    }

    /// Whether there is a run of this id, readable or not.
    pub fn has_run(&self, id: RunId) -> bool {
        or_stop(self.database.get(Table::Runs, id.as_bytes())).is_some()
    }

    /// Stored runs accepted before `before`, newest first.
    pub fn runs_before(&self, before: Option<RunId>) -> impl Iterator<Item = RunRecord> + '_ {
        let before = before.as_ref().map(|run| run.as_bytes().as_slice());
        let rows = self.database.range(Table::Runs, &[], before);
        rows.rev()
            .map_while(|row| or_stop(row.map(Some)))
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
            .map_while(|row| or_stop(row.map(Some)))
            .filter_map(|(key, _)| RunId::from_slice(key.get(16..)?))
            .filter_map(|run| self.run(run))
    }

    /// The ids of stored runs, newest first.
    pub fn run_ids(&self) -> impl Iterator<Item = RunId> + '_ {
        let rows = self.database.all(Table::Runs).rev();
        rows.map_while(|row| or_stop(row.map(Some))).filter_map(|(key, _)| RunId::from_slice(&key))
    }

    /// The text that the author of a version of a fleet wrote, if it is kept.
    pub fn fleet_text(&self, fleet: FleetId, version: u32) -> Option<String> {
        let mut bytes = Vec::new();
        let prefix = [fleet.as_bytes().as_slice(), &version.to_be_bytes()].concat();
        for row in self.database.prefixed(Table::FleetTexts, &prefix) {
            bytes.extend_from_slice(&or_stop(row.map(Some))?.1);
        }
        if bytes.is_empty() {
            return None;
        }
        String::from_utf8(bytes)
            .inspect_err(|error| log::error!(error:% = error; "skipping a damaged fleet text"))
            .ok()
    }

    /// The number of chunks of that text; 0 when it is not kept.
    pub fn text_chunks_of(&self, fleet: FleetId, version: u32) -> u32 {
        let prefix = [fleet.as_bytes().as_slice(), &version.to_be_bytes()].concat();
        let last = self.database.prefixed(Table::FleetTexts, &prefix).next_back();
        let last = or_stop(last.transpose()).and_then(|(key, _)| keys::last_number(&key));
        last.map_or(0, |chunk| chunk + 1)
    }

    /// The latest attempt of a vessel run; `None` before it was decided or started.
    pub fn vessel_run(&self, id: VesselRunId) -> Option<VesselRunRecord> {
        let mut attempts = self.database.prefixed(Table::VesselRuns, id.as_bytes());
        let (_, row) = or_stop(attempts.next_back().transpose())?;
        readable("vessel_runs", &row)
    }

    /// One attempt of a vessel run.
    pub fn attempt(&self, id: VesselRunId, attempt: u32) -> Option<VesselRunRecord> {
        let row = or_stop(self.database.get(Table::VesselRuns, &keys::attempt(id, attempt)))?;
        readable("vessel_runs", &row)
    }

    /// The undelivered notifications of `run`, by their numbers.
    pub fn notifications_of(&self, run: RunId) -> Vec<NotificationRecord> {
        let of_table = |table, name| {
            let rows = self.database.prefixed(table, run.as_bytes());
            rows.map_while(|row| or_stop(row.map(Some)))
                .filter_map(move |(_, row)| readable::<NotificationRecord>(name, &row))
        };
        let waiting = of_table(Table::Notifications, "notifications");
        let mut all: Vec<_> = waiting.chain(of_table(Table::Undelivered, "undelivered")).collect();
        all.sort_by_key(|record| record.number);
        all
    }

    /// `length` bytes of the payload of `run`, from byte `offset` on.
    pub fn payload(&self, run: RunId, offset: u64, length: u64) -> ChunkReader {
        self.chunks(Table::Payloads, run.as_bytes().to_vec(), offset, length)
    }

    /// `length` bytes of the stored output of an attempt, from byte `offset` on.
    pub fn output(
        &self,
        vessel_run: VesselRunId,
        attempt: u32,
        offset: u64,
        length: u64,
    ) -> ChunkReader {
        self.chunks(Table::Outputs, keys::attempt(vessel_run, attempt), offset, length)
    }

    pub(super) fn chunks(
        &self,
        table: Table,
        key: Vec<u8>,
        offset: u64,
        length: u64,
    ) -> ChunkReader {
        ChunkReader::new(Arc::clone(&self.database), table, key, offset, length)
    }
}

/// sled's answer. The process ends with its errors, which are sticky.
pub(super) fn or_stop<T>(answer: ::sled::Result<Option<T>>) -> Option<T> {
    answer.unwrap_or_else(|error| fatal::stop(&format!("the database cannot be read: {error}")))
}

/// The value of a row; `None`, and a line in the log, when it is damaged.
pub(super) fn readable<T: DeserializeOwned>(table: &'static str, row: &[u8]) -> Option<T> {
    codec::decode(row)
        .inspect_err(|error| log::error!(table = table, error:% = error; "skipping a damaged row"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::Change;
    use crate::model::clock::Timestamp;
    use crate::model::fleet::FleetDefinition;
    use crate::model::graph::{Condition, Path};
    use crate::model::ids::ProjectId;
    use crate::store;

    #[test]
    fn a_version_whose_paths_form_a_cycle_is_damaged_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _committer) = store::open(directory.path()).unwrap();
        let vessel = r#"{"id":"018bcfe5-6800-7000-8000-000000000001","name":"v","program":{"script":"true"},"guardrails":{}}"#;
        let definition = format!(r#"{{"name":"site","vessels":[{vessel}],"paths":[]}}"#);
        let definition: FleetDefinition = serde_json::from_str(&definition).unwrap();
        let mut version = FleetVersion {
            fleet_id: FleetId::random(),
            project_id: ProjectId::random(),
            version: 1,
            created_at: Timestamp::from_millis(1),
            definition,
        };
        let whole = version.clone();
        version.version = 2;
        version.definition.paths.push(Path { from: 0, to: 0, condition: Condition::Success });
        let fleet = version.fleet_id;
        let changes = vec![
            Change::AddFleetVersion(Arc::new(whole.clone())),
            Change::AddFleetVersion(Arc::new(version)),
        ];
        store.commit(changes).wait();

        assert_eq!(store.fleet_version(fleet, 1).unwrap(), Some(whole));
        assert_eq!(store.fleet_version(fleet, 3).unwrap(), None);
        let error = store.fleet_version(fleet, 2).unwrap_err().to_string();
        for expected in ["fleet_versions", "version 2", &fleet.to_string(), "`site`", "cycle"] {
            assert!(error.contains(expected), "{expected} is not in: {error}");
        }
    }
}
