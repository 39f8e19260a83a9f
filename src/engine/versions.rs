//! Pruning the versions of fleets: the newest `keep_versions` of each fleet stay, and those that stored runs
//! have. An accept may hold a version for which there is no run yet. It has read that as the current one a
//! moment ago, so a pass leaves all versions that were current since the last pass.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::engine::retention::SWEEP_ROWS;
use crate::engine::{Engine, Phase};
use crate::model::change::Change;
use crate::model::ids::FleetId;
use crate::store::StorageError;

/// Time between two passes: much longer than an accept takes.
const PASS_INTERVAL: Duration = Duration::from_secs(3600);

/// When the next pass is due, and the version that each fleet had at the last one.
pub struct VersionPasses {
    next: Instant,
    current_before: HashMap<FleetId, u32>,
}

impl VersionPasses {
    /// The time until the next pass.
    pub(super) fn wait(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}

impl Engine {
    /// The passes of this server. To be called before it accepts anything.
    pub fn version_passes(&self) -> VersionPasses {
        let current_before = self.catalog().current_versions();
        VersionPasses { next: Instant::now(), current_before }
    }

    /// Removes the versions that are kept no longer. Returns how many.
    pub fn prune_versions(&self, passes: &mut VersionPasses) -> usize {
        let current = self.catalog().current_versions();
        let mut removed = 0;
        for (fleet, version) in &current {
            let before = passes.current_before.get(fleet).copied().unwrap_or(1);
            let end = (version + 1).saturating_sub(self.settings.keep_versions).min(before);
            match self.prune_fleet(*fleet, end) {
                Ok(count) => removed += count,
                Err(error) => log::error!(fleet:%, error:%; "versions cannot be pruned"),
            }
        }
        *passes = VersionPasses { next: Instant::now() + PASS_INTERVAL, current_before: current };
        removed
    }

    /// Removes the versions of `fleet` below `end` that no run has.
    fn prune_fleet(&self, fleet: FleetId, end: u32) -> Result<usize, StorageError> {
        let mut unused = self.store.versions_below(fleet, end)?;
        if unused.is_empty() {
            return Ok(0);
        }
        self.store.versions_in_use(fleet)?.iter().for_each(|version| _ = unused.remove(version));
        let (mut changes, mut rows) = (Vec::new(), 0);
        for (&version, &chunks) in &unused {
            let text = self.store.text_chunks_of(fleet, version);
            if rows + chunks + text > SWEEP_ROWS {
                rows = 0;
                self.commit_prune(&mut changes);
            }
            rows += chunks + text;
            changes.push(Change::RemoveFleetVersion { fleet, version, chunks });
            if text > 0 {
                changes.push(Change::RemoveFleetText { fleet, version, chunks: text });
            }
        }
        self.commit_prune(&mut changes);
        Ok(unused.len())
    }

    fn commit_prune(&self, changes: &mut Vec<Change>) {
        let changes = std::mem::take(changes);
        if !changes.is_empty() && self.decisions().phase == Phase::Serving {
            self.sweep_step(|| self.store.commit(changes));
        }
    }
}
