//! Reads the rows that retention decides by and those that it removes.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::change::HistoryEntry;
use crate::model::ids::{FleetId, RunId, VesselRunId};
use crate::model::run::{RunRecord, VesselRunRecord};
use crate::store::read::{or_stop, readable};
use crate::store::sled::database::Rows;
use crate::store::tables::Table;
use crate::store::{StorageError, Store, codec, damaged, keys};

impl Store {
    /// The fleets that have a history, also deleted ones.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn fleets_with_history(&self) -> Result<Vec<FleetId>, StorageError> {
        self.fleets_in(Table::History, "history")
    }

    /// The fleets that have versions, also deleted ones.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn fleets_with_versions(&self) -> Result<Vec<FleetId>, StorageError> {
        self.fleets_in(Table::FleetVersions, "fleet_versions")
    }

    /// The fleets at the beginning of the keys of `table`. Skips from fleet to fleet, however many keys
    /// each has.
    fn fleets_in(&self, table: Table, name: &'static str) -> Result<Vec<FleetId>, StorageError> {
        let mut fleets = Vec::new();
        let mut start = Vec::new();
        while let Some(row) = self.database.range(table, &start, None).next() {
            let (key, _) = row?;
            let fleet = key.get(..16).and_then(FleetId::from_slice).ok_or_else(|| {
                StorageError::Damaged { table: name, reason: "a key is too short".into() }
            })?;
            start = keys::after(fleet.as_bytes());
            fleets.push(fleet);
        }
        Ok(fleets)
    }

    /// The ended runs of a fleet and their numbers, the oldest first.
    pub fn history(
        &self,
        fleet: FleetId,
    ) -> impl DoubleEndedIterator<Item = (u64, HistoryEntry)> + '_ {
        let rows = self.database.prefixed(Table::History, fleet.as_bytes());
        rows.filter_map(|row| {
            let (key, row) = or_stop(row.map(Some))?;
            Some((keys::history_number(&key)?, readable("history", &row)?))
        })
    }

    /// Removed runs of which rows are left.
    pub fn removals(&self) -> impl Iterator<Item = RunId> + '_ {
        let rows = self.database.all(Table::Removals);
        rows.map_while(|row| or_stop(row.map(Some))).filter_map(|(key, _)| RunId::from_slice(&key))
    }

    /// Every attempt of every vessel of `run`: the vessel run, the attempt and the record. A damaged
    /// record is `None`.
    pub fn attempts_of(
        &self,
        run: RunId,
    ) -> impl Iterator<Item = (VesselRunId, u32, Option<VesselRunRecord>)> + '_ {
        let rows = self.database.prefixed(Table::VesselRuns, &keys::vessel_runs_of(run));
        rows.map_while(|row| or_stop(row.map(Some)))
            .filter_map(|(key, row)| {
                let id = VesselRunId::from_slice(key.get(..16)?)?;
                Some((id, keys::last_number(&key)?, readable("vessel_runs", &row)))
            })
            .filter(move |(id, _, _)| id.run() == run)
    }

    /// The number of stored chunks of the output of an attempt.
    pub fn output_chunks(&self, vessel_run: VesselRunId, attempt: u32) -> u32 {
        let prefix = keys::attempt(vessel_run, attempt);
        let last = self.database.prefixed(Table::Outputs, &prefix).next_back();
        let last = or_stop(last.transpose());
        last.and_then(|(key, _)| keys::last_number(&key)).map_or(0, |chunk| chunk + 1)
    }

    /// Whether any run of `fleet` is stored.
    pub fn has_runs(&self, fleet: FleetId) -> bool {
        let first = self.database.prefixed(Table::RunsByFleet, fleet.as_bytes()).next();
        or_stop(first.transpose()).is_some()
    }

    /// Whether any version of `fleet` is stored.
    pub fn has_versions(&self, fleet: FleetId) -> bool {
        let first = self.database.prefixed(Table::FleetVersions, fleet.as_bytes()).next();
        or_stop(first.transpose()).is_some()
    }

    /// The versions that runs of `fleet` have.
    ///
    /// # Errors
    /// When a run cannot be read: its version is unknown.
    pub fn versions_in_use(&self, fleet: FleetId) -> Result<BTreeSet<u32>, StorageError> {
        let mut versions = BTreeSet::new();
        for row in self.database.prefixed(Table::RunsByFleet, fleet.as_bytes()) {
            let (key, _) = row?;
            // The sweeper may have removed the run.
            let run = key.get(16..).unwrap_or_default();
            let Some(row) = self.database.get(Table::Runs, run)? else { continue };
            let run: RunRecord = codec::decode(&row).map_err(|error| damaged("runs", &error))?;
            versions.insert(run.fleet_version);
        }
        Ok(versions)
    }

    /// The number of chunks of each version of `fleet` below `end`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn versions_below(
        &self,
        fleet: FleetId,
        end: u32,
    ) -> Result<BTreeMap<u32, u32>, StorageError> {
        let end = keys::fleet_version(fleet, end, 0);
        chunks_by_version(self.database.range(Table::FleetVersions, fleet.as_bytes(), Some(&end)))
    }

    /// The number of chunks of each version of `fleet`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn version_chunks(&self, fleet: FleetId) -> Result<BTreeMap<u32, u32>, StorageError> {
        chunks_by_version(self.database.prefixed(Table::FleetVersions, fleet.as_bytes()))
    }

    /// The versions of a fleet whose texts are kept, and the number of chunks of each text.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn text_chunks(&self, fleet: FleetId) -> Result<BTreeMap<u32, u32>, StorageError> {
        chunks_by_version(self.database.prefixed(Table::FleetTexts, fleet.as_bytes()))
    }
}

/// The number of rows of each version.
fn chunks_by_version(rows: Rows<'_>) -> Result<BTreeMap<u32, u32>, StorageError> {
    let mut versions = BTreeMap::new();
    for row in rows {
        let (key, _) = row?;
        let version = key.get(16..20).and_then(keys::last_number).unwrap_or_default();
        *versions.entry(version).or_insert(0) += 1;
    }
    Ok(versions)
}
