//! Migrates databases of older schemas to the present one. A migration is idempotent: until the new
//! schema's number is on the disk, each start repeats it from its beginning.
//!
//! Schemas 3 and 4 also write some rows in another format, and read the rows of the schema before as
//! they are.

use std::sync::Arc;

use serde::Deserialize;
use sled::Batch;

use crate::model::change::{Change, HistoryEntry};
use crate::model::fleet::Fleet;
use crate::model::ids::{FleetId, RunId};
use crate::model::limits::SLICE_BYTES;
use crate::model::run::RunRecord;
use crate::model::webhook::{Webhook, WebhookSettings};
use crate::store::read::{fleet_version, readable};
use crate::store::sled::database::Database;
use crate::store::tables::{Rows, Table};
use crate::store::{StorageError, keys};

/// The first schema with all tables in one tree.
const ONE_TREE: u32 = 2;
/// The first schema with the table `history`.
const HISTORY: u32 = 3;
/// The first schema whose fleet versions hold the settings of webhooks.
const SETTINGS_IN_FLEETS: u32 = 5;

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
    if from < SETTINGS_IN_FLEETS {
        move_webhook_settings(database)?;
    }
    Ok(())
}

/// The part of a webhook's row that its fleet holds since schema 5.
#[derive(Deserialize)]
struct SettingsInWebhook {
    #[serde(flatten)]
    settings: WebhookSettings,
}

/// Moves the settings of each webhook into every version of its fleet: they were in force whichever version
/// was current, and a revert to one of these must not lose an allow list. The row of the webhook comes
/// last, so that a repetition finds the settings until every version has them.
fn move_webhook_settings(database: &Database) -> Result<(), StorageError> {
    for row in database.all(Table::Webhooks) {
        let (_, row) = row?;
        let Some(SettingsInWebhook { settings }) = readable("webhooks", &row) else { continue };
        let Some(webhook) = readable::<Webhook>("webhooks", &row) else { continue };
        if settings == WebhookSettings::default() {
            continue;
        }
        let id = webhook.fleet_id;
        let fleet = database.get(Table::Fleets, id.as_bytes())?;
        let fleet = fleet.and_then(|row| readable::<Fleet>("fleets", &row));
        let mut rows = Rows::default();
        for version in 1..=fleet.map_or(0, |fleet| fleet.version) {
            match fleet_version(database, id, version) {
                Ok(Some(mut version)) => {
                    version.definition.webhook = settings.clone();
                    add(database, &mut rows, &Change::AddFleetVersion(Arc::new(version)))?;
                }
                Ok(None) => {}
                Err(error) => log::error!(error:% = error; "skipping a damaged fleet version"),
            }
        }
        add(database, &mut rows, &Change::PutWebhook(webhook))?;
        database.commit(rows.into_batch()).map_err(StorageError::Migrate)?;
    }
    Ok(())
}

/// Adds the rows of `change`, and commits `rows` when they fill a slice.
fn add(database: &Database, rows: &mut Rows, change: &Change) -> Result<(), StorageError> {
    rows.add(change).map_err(|error| StorageError::Migrate(error.to_string()))?;
    if rows.bytes() >= SLICE_BYTES {
        let full = std::mem::take(rows);
        database.commit(full.into_batch()).map_err(StorageError::Migrate)?;
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
        add(database, &mut rows, &change)?;
        last = Some((fleet, number, entry));
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
