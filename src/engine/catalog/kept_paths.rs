//! The names under which webhooks are answered beside their URLs (`keep_path`).

use std::collections::HashMap;

use crate::engine::EngineError;
use crate::model::fleet::{FleetDefinition, FleetVersion};
use crate::model::ids::FleetId;
use crate::model::webhook::Token;

/// Each name with its fleet.
#[derive(Debug, Default)]
pub(super) struct KeptPaths {
    fleets: HashMap<String, FleetId>,
}

impl KeptPaths {
    /// Takes note of the current version of a fleet.
    pub fn put(&mut self, version: &FleetVersion) {
        self.remove(version.fleet_id);
        if version.definition.webhook.keep_path {
            self.fleets.insert(version.definition.name.clone(), version.fleet_id);
        }
    }

    /// Forgets a fleet.
    pub fn remove(&mut self, id: FleetId) {
        self.fleets.retain(|_, fleet| *fleet != id);
    }

    /// The fleet of this name, if that is answered.
    pub fn fleet(&self, name: &str) -> Option<FleetId> {
        self.fleets.get(name).copied()
    }

    /// Whether the fleet `id` (`None`: a new one) may have this definition.
    ///
    /// # Errors
    /// When a fleet of another project is answered under the name, or the name reads as a token.
    pub fn check(
        &self,
        definition: &FleetDefinition,
        id: Option<FleetId>,
    ) -> Result<(), EngineError> {
        if !definition.webhook.keep_path {
            return Ok(());
        }
        let name = &definition.name;
        if Token::parse(name).is_some() {
            return Err(EngineError::Invalid(format!(
                "webhook.keep_path: the name {name:?} has the form of a webhook's secret; rename the \
                 fleet"
            )));
        }
        match self.fleet(name) {
            Some(other) if Some(other) != id => Err(EngineError::Conflict(format!(
                "webhook.keep_path: the fleet {name:?} of another project keeps this path already"
            ))),
            _ => Ok(()),
        }
    }
}
