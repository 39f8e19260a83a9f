//! The files of stored fleets, as `fleet edit`, `copy` and `apply --diff` work on them.

use anyhow::Context;

use super::FILE_JSON;
use crate::cli::api::Fleet;
use crate::cli::session::Session;
use crate::fleet_file::{self, parse_json};
use crate::model::fleet::FleetDefinition;

/// The file of a fleet's current version.
pub struct Stored {
    /// Without ids where it is written anew.
    pub yaml: String,
    pub definition: FleetDefinition,
    pub project: String,
    /// The entity tag of the version.
    pub tag: String,
}

impl Stored {
    /// Gets the file of `fleet`.
    ///
    /// # Errors
    /// When the server is not there or refuses.
    pub fn get(session: &Session, fleet: &Fleet) -> anyhow::Result<Self> {
        let path = format!("/fleets/{}", fleet.id);
        let whole = session.client.get_text(&path, FILE_JSON)?;
        let (yaml, tag) =
            session.client.get_tagged(&format!("{path}?without_ids=true"), "application/yaml")?;
        let file = parse_json(&whole).context("this program does not know all of this fleet")?;
        let project = file.project.unwrap_or_else(|| fleet.project_name.clone());
        Ok(Self { yaml, definition: file.definition, project, tag })
    }

    /// Whether no author has written the text: it is the one that any program makes of the definition.
    pub fn is_written_anew(&self) -> bool {
        self.yaml == fleet_file::to_yaml(&self.definition, &self.project, None)
    }

    /// The file of a fleet like this one under another name.
    pub fn copy(&self, project: &str, name: String) -> String {
        let definition = FleetDefinition { name, ..self.definition.clone() };
        let has_ids = self.yaml.lines().any(|line| line.trim_start().starts_with("_id:"));
        let adapted = fleet_file::adapted(&self.yaml, &definition, project, true);
        adapted
            .filter(|_| !has_ids)
            .unwrap_or_else(|| fleet_file::to_yaml(&definition, project, None))
    }
}
