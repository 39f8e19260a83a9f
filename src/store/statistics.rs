//! Reads the statistics of runs, and adds what a commit counts to what is stored.

use crate::model::access::Scope;
use crate::model::statistics::{Hour, StatisticsRecord, Tally};
use crate::store::read::{or_stop, readable};
use crate::store::sled::database::Database;
use crate::store::tables::{META_STATISTICS, Table};
use crate::store::{StorageError, Store, keys};

/// The runs of an hour; `None`: there are none.
pub(super) fn stored(database: &Database, hour: Hour, scope: Scope) -> Option<Tally> {
    let row = or_stop(database.get(Table::Statistics, &keys::tally(hour, scope)))?;
    readable("statistics", &row)
}

impl Store {
    /// From when on runs are counted; `None`: an older server has left this database, which counts none.
    ///
    /// # Errors
    /// When the row cannot be read.
    pub fn statistics(&self) -> Result<Option<StatisticsRecord>, StorageError> {
        self.meta(META_STATISTICS)
    }

    /// The runs of an hour; `None`: there are none.
    pub fn tally(&self, hour: Hour, scope: Scope) -> Option<Tally> {
        stored(&self.database, hour, scope)
    }

    /// What is counted of hours before `hour`, the oldest first.
    pub fn tallies_before(&self, hour: Hour) -> impl Iterator<Item = (Hour, Scope)> + '_ {
        let rows = self.database.range(Table::Statistics, &[], Some(&hour.number().to_be_bytes()));
        rows.map_while(|row| or_stop(row.map(Some))).filter_map(|(key, _)| keys::tally_in(&key))
    }
}
