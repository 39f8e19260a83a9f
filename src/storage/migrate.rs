//! Brings databases of older schemas to the present one. A migration may be interrupted anywhere:
//! until the number of the new schema is on the disk, the next start repeats it from its beginning.
//!
//! Schema 3 writes some rows in another format and reads those of schema 2 as they are: only older
//! programs have to know.

use sled::{Batch, Db};

use crate::limits::SLICE_BYTES;
use crate::storage::StorageError;
use crate::storage::database::Database;
use crate::storage::keys;
use crate::storage::tables::Table;

/// The first schema that has all tables in one tree.
const ONE_TREE: u32 = 2;

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
    if from < ONE_TREE {
        log::info!(from; "bringing the database to the present schema; this happens once");
        for (name, table) in TREES {
            move_tree(sled, database, name, table)?;
        }
    }
    Ok(())
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
    database.commit(Batch::default()).map_err(StorageError::Migrate)
}
