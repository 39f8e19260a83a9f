//! Brings databases of older schemas to the present one. A migration may be interrupted anywhere:
//! until the number of the new schema is on the disk, the next start repeats it from its beginning.
//!
//! Schemas 3 and 4 write some rows in another format and read those of the schema before as they are:
//! only older programs have to know.

use sled::{Batch, Db};

use crate::model::change::{Change, HistoryEntry};
use crate::model::ids::{FleetId, RunId};
use crate::model::limits::SLICE_BYTES;
use crate::model::run::RunRecord;
use crate::store::keys;
use crate::store::sled::database::Database;
use crate::store::tables::{Rows, Table};
use crate::store::{StorageError, readable};

/// The first schema that has all tables in one tree.
const ONE_TREE: u32 = 2;
/// The first schema that counts ended runs in `history`.
const HISTORY: u32 = 3;

/// What the trees of schema 1 were called, and which table each has become.
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

/// Brings `database`, whose inside is `sled`, from schema `from` to the present one.
///
/// # Errors
/// When it cannot be read or written.
pub(super) fn migrate(sled: &Db, database: &Database, from: u32) -> Result<(), StorageError> {
    log::info!(from; "bringing the database to the present schema; this happens once");
    if from < ONE_TREE {
        for (name, table) in TREES {
            move_tree(sled, database, name, table)?;
        }
    }
    if from < HISTORY {
        enter_history(database)?;
    }
    Ok(())
}

/// Enters the runs that have ended into `history`, in pieces that are each durable before the next.
/// A repetition gives the same entries the same numbers.
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
            // It is entered when it has been delivered or given up.
            continue;
        }
        // They come in the order of acceptance. Retention removes the oldest first, so that one which
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

/// What a key of `runs_by_fleet` consists of.
fn fleet_and_run(key: &[u8]) -> Option<(FleetId, RunId)> {
    let (fleet, run) = key.split_at_checked(16)?;
    FleetId::from_slice(fleet).zip(RunId::from_slice(run))
}

/// Copies a tree into its table, in pieces that are each durable before the next.
fn move_tree(sled: &Db, database: &Database, name: &str, table: Table) -> Result<(), StorageError> {
    let (mut batch, mut bytes) = (Batch::default(), 0);
    for row in &sled.open_tree(name)? {
        let (key, value) = row?;
        bytes += key.len() + value.len();
        batch.insert(keys::of_table(table, &key), value);
        if bytes >= SLICE_BYTES {
            database.commit(std::mem::take(&mut batch)).map_err(StorageError::Migrate)?;
            bytes = 0;
        }
    }
    database.commit(batch).map_err(StorageError::Migrate)?;
    // What a repetition finds gone has been copied. Its space is used again.
    sled.drop_tree(name)?;
    database.commit(None).map_err(StorageError::Migrate)
}
