//! Fleet files: YAML and JSON in, YAML out.
//!
//! Text becomes a tree of nodes that know their position (`yaml`, `json`), the tree becomes a
//! definition (`read`), and a definition becomes text again (`write`). Every rule that a file can
//! break is checked here, so that a [`FleetDefinition`] that leaves this module can be stored and
//! run. Whether names are taken and ids exist is the engine's to know.

mod cursor;
mod json;
mod node;
mod overrides;
mod read;
mod suggest;
mod write;
mod yaml;

use std::fmt;

use crate::domain::fleet::FleetDefinition;
use crate::domain::ids::FleetId;
use crate::limits::FLEET_FILE_BYTES_MAX;

pub use overrides::parse_overrides;
pub use write::to_yaml;

/// A fleet as a file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetFile {
    /// `_id`: the fleet this file is about; `None`: the one of that name.
    pub id: Option<FleetId>,
    /// `project`: the name of the project; `None`: the file leaves it open.
    pub project: Option<String>,
    pub definition: FleetDefinition,
}

/// Why a text is not a fleet file. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetFileError {
    /// The text is not YAML (or JSON).
    Syntax { line: usize, column: usize, message: String },
    /// The text is well-formed but does not describe a fleet.
    Invalid {
        /// `None` when the file as a whole is meant.
        line: Option<usize>,
        column: Option<usize>,
        /// The key, from the top: `vessels.build.guardrails.retry_count`. Empty for the whole file.
        path: String,
        message: String,
    },
}

impl fmt::Display for FleetFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, column, message } => {
                write!(f, "line {line}, column {column}: {message}")
            }
            Self::Invalid { line, column, path, message } => {
                if let (Some(line), Some(column)) = (line, column) {
                    write!(f, "line {line}, column {column}: ")?;
                }
                if !path.is_empty() {
                    write!(f, "{path}: ")?;
                }
                f.write_str(message)
            }
        }
    }
}

impl std::error::Error for FleetFileError {}

/// Reads a fleet from one YAML document.
///
/// # Errors
/// `Syntax` when it is not YAML, `Invalid` when it is not a fleet or uses what is not supported.
pub fn parse_yaml(text: &str) -> Result<FleetFile, FleetFileError> {
    check_size(text)?;
    read::fleet(&yaml::parse(text)?)
}

/// Reads a fleet from a JSON object with the same keys as the YAML form.
///
/// # Errors
/// `Syntax` when it is not JSON, `Invalid` when it is not a fleet or uses what is not supported.
pub fn parse_json(text: &str) -> Result<FleetFile, FleetFileError> {
    check_size(text)?;
    read::fleet(&json::parse(text)?)
}

fn check_size(text: &str) -> Result<(), FleetFileError> {
    if text.len() <= FLEET_FILE_BYTES_MAX {
        return Ok(());
    }
    Err(FleetFileError::Invalid {
        line: None,
        column: None,
        path: String::new(),
        message: format!(
            "the fleet file has {} bytes, more than {FLEET_FILE_BYTES_MAX}; keep large scripts in \
             files of their own",
            text.len()
        ),
    })
}

#[cfg(test)]
mod tests;
