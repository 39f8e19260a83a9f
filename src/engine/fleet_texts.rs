//! The texts of fleet files as their authors wrote them: reading them, and which are kept.

use crate::engine::catalog::FleetView;
use crate::engine::{Engine, EngineError};
use crate::fleet_file::KeptText;
use crate::model::change::Change;
use crate::model::ids::FleetId;

/// Versions of a fleet whose texts are kept, the newest ones. Of older versions the file is written anew.
pub const FLEET_TEXTS_KEPT_MAX: u32 = 100;

impl Engine {
    /// The text that the author of `version` of a fleet wrote; `None` when a JSON file or a change of
    /// single settings has made it, or when it is not among the newest [`FLEET_TEXTS_KEPT_MAX`].
    pub fn fleet_text(&self, view: &FleetView, version: u32) -> Option<String> {
        let stored = || self.store.fleet_text(view.fleet.id, version);
        let is_on_its_way = || version == view.fleet.version && view.fleet.text.is_some();
        stored().or_else(|| {
            if !is_on_its_way() {
                return None;
            }
            self.store.commit(Vec::new()).wait();
            stored()
        })
    }

    /// The text of the current version of a fleet, for a change that comes without one.
    ///
    /// # Errors
    /// When there is no such fleet.
    pub(super) fn kept_text(&self, id: FleetId) -> Result<Option<KeptText>, EngineError> {
        let view = self.fleet(id)?;
        let version = view.fleet.version;
        Ok(self.fleet_text(&view, version).map(|text| KeptText { version, text }))
    }

    /// The removal of texts that are too many now that `changes` add versions.
    pub(super) fn outdated_texts(&self, changes: &[Change]) -> Vec<Change> {
        let mut removals = Vec::new();
        for change in changes {
            let Change::AddFleetVersion(added) = change else { continue };
            let fleet = added.fleet_id;
            let Some(version) = added.version.checked_sub(FLEET_TEXTS_KEPT_MAX) else { continue };
            let chunks = self.store.text_chunks_of(fleet, version);
            removals.extend((chunks > 0).then_some(Change::RemoveFleetText {
                fleet,
                version,
                chunks,
            }));
        }
        removals
    }
}
