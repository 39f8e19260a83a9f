//! Migrates databases of older schemas to the present one. A migration is idempotent: until the new
//! schema's number is on the disk, each start repeats it from its beginning.
//!
//! Schemas 3 and 4 also write some rows in another format, and read the rows of the schema before as
//! they are.

use sled::Batch;

use crate::model::change::{Change, HistoryEntry};
use crate::model::ids::{FleetId, RunId};
use crate::model::limits::SLICE_BYTES;
use crate::model::run::RunRecord;
use crate::store::read::readable;
use crate::store::sled::database::Database;
use crate::store::tables::{Rows, Table};
use crate::store::{StorageError, keys};

/// The first schema with all tables in one tree.
const ONE_TREE: u32 = 2;
/// The first schema with the table `history`.
const HISTORY: u32 = 3;

/// The trees of schema 1 and the tables that they become.
const TREES: [(&str, Table); 12] = [
    ("meta", Table::Meta),
    ("projects", Table::Projects),
    ("fleets", Table::Fleets),
    ("fleet_versions", Table::FleetVersions),
    ("webhooks", Table::Webhooks),
    ("runs", Table::Runs),
    ("runs_by_fleet", Table::RunsByFleet),
    ("vessel_runs", Table::VesselRuns),
    ("payloads", Table::Payloads),
    ("outputs", Table::Outputs),
    ("queue", Table::Queue),
    ("uploads", Table::Uploads),
];

/// Migrates `database` from schema `from` to the present one.
///
/// # Errors
/// When the database cannot be read or written.
pub(super) fn migrate(database: &Database, from: u32) -> Result<(), StorageError> {
    log::info!(from; "bringing the database to the present schema; this happens once");
    if from < ONE_TREE {
        for (name, table) in TREES {
            move_tree(database, name, table)?;
        }
    }
    if from < HISTORY {
        enter_history(database)?;
    }
    Ok(())
}

/// Enters the ended runs into `history`, slice by slice. A repetition gives the same entries the same
/// numbers.
fn enter_history(database: &Database) -> Result<(), StorageError> {
    let mut rows = Rows::default();
    let mut last: Option<(FleetId, u64, HistoryEntry)> = None;
    for row in database.all(Table::RunsByFleet) {
        let (key, _) = row?;
        let Some((fleet, run)) = fleet_and_run(&key) else { continue };
        let row = database.get(Table::Runs, run.as_bytes())?;
        let record = row.and_then(|row| readable::<RunRecord>("runs", &row));
        let Some((record, ended_at)) = record.and_then(|it| it.ended_at.map(|at| (it, at))) else {
            continue;
        };
        if database.prefixed(Table::Notifications, run.as_bytes()).next().is_some() {
            // The engine enters it when its notifications have been delivered or given up.
            continue;
        }
        // Runs come in the order of acceptance. Retention removes the oldest first, so that a run which
        // ended later keeps those behind it.
        let before = last.filter(|(of, _, _)| *of == fleet);
        let (number, bytes_before) = match &before {
            Some((_, number, entry)) => {
                (number + 1, entry.bytes_before.saturating_add(entry.bytes))
            }
            None => (0, 0),
        };
        let entry = HistoryEntry { run, since: ended_at, bytes: record.kept_bytes(), bytes_before };
        let change = Change::PutHistory { fleet, number, entry: entry.clone() };
        rows.add(&change).map_err(|error| StorageError::Migrate(error.to_string()))?;
        last = Some((fleet, number, entry));
        if rows.bytes() >= SLICE_BYTES {
            let full = std::mem::take(&mut rows);
            database.commit(full.into_batch()).map_err(StorageError::Migrate)?;
        }
    }
    database.commit(rows.into_batch()).map_err(StorageError::Migrate)
}

/// The parts of a key of `runs_by_fleet`.
fn fleet_and_run(key: &[u8]) -> Option<(FleetId, RunId)> {
    let (fleet, run) = key.split_at_checked(16)?;
    FleetId::from_slice(fleet).zip(RunId::from_slice(run))
}

/// Copies a tree into its table, slice by slice, then drops it. A repetition that finds no tree has
/// copied it before.
fn move_tree(database: &Database, name: &str, table: Table) -> Result<(), StorageError> {
    let (mut batch, mut bytes) = (Batch::default(), 0);
    for row in &database.tree(name)? {
        let (key, value) = row?;
        bytes += key.len() + value.len();
        batch.insert(keys::of_table(table, &key), value);
        if bytes >= SLICE_BYTES {
            database.commit(std::mem::take(&mut batch)).map_err(StorageError::Migrate)?;
            bytes = 0;
        }
    }
    database.commit(batch).map_err(StorageError::Migrate)?;
    database.drop_tree(name)?;
    database.commit(None).map_err(StorageError::Migrate)
}
