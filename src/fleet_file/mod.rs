//! Fleet files: YAML and JSON in and out.
//!
//! Text becomes a tree of nodes that know their position (`yaml`, `json`), the tree becomes a
//! definition (`read`), and a definition becomes text again (`write`). Every rule that a file can
//! break is checked here, so that a [`FleetDefinition`] that leaves this module can be stored and
//! run. The engine checks whether names are taken and ids exist.

mod attach;
mod cursor;
mod hooks;
mod json;
mod keys;
mod node;
mod overrides;
mod read;
mod text;
mod write;
mod yaml;
mod yaml_words;

use std::fmt;

use crate::model::fleet::FleetDefinition;
use crate::model::ids::FleetId;
use crate::model::variable::{SecretName, VariableValue};
use crate::model::webhook::WebhookSettings;
use crate::os::text_file::MARK;

pub use attach::attach_archives;
use cursor::Cursor;
pub use hooks::{
    FoundSecret, ImportedHook, ImportedHooks, Note, SecretSource, Wishes, import_hooks,
};
pub use keys::Shown;
pub use keys::runner::json as runner_json;
use node::Node;
pub use node::Position;
pub use overrides::parse_overrides;
pub use text::adapted;
pub use write::to_yaml;

/// Bytes of a fleet file: large enough for scripts within, small enough to hold many versions in memory.
pub const FLEET_FILE_BYTES_MAX: usize = 1 << 20;

/// A fleet as a file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetFile {
    /// `_id`: the fleet that the file describes; `None`: the fleet of that name.
    pub id: Option<FleetId>,
    /// `project`: the name of the project; `None`: the file names none.
    pub project: Option<String>,
    pub definition: FleetDefinition,
    /// Variables whose values the file does not show.
    pub hidden: Vec<HiddenValue>,
    /// The secrets that it refers to as `#{GROUP.KEY}`.
    pub references: Vec<SecretReference>,
    /// Whether the file has the key `webhook`. Without it the fleet keeps the settings that it has.
    pub has_webhook_settings: bool,
    pub positions: Positions,
    /// The YAML as its author wrote it, if it says all of the fleet.
    pub text: Option<String>,
    /// Without a text: the one of the version before, which then follows the change.
    pub former: Option<KeptText>,
}

/// The text of a version of a fleet, as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptText {
    pub version: u32,
    pub text: String,
}

/// Where the values stand in the file that only the engine can judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    pub user: Option<Position>,
    /// `webhook.verify`.
    pub verify: Option<Position>,
}

/// A variable whose value the hosted system has hidden. It keeps its present value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenValue {
    pub vessel: String,
    pub variable: String,
    /// The error when it has none.
    pub unknown: FleetFileError,
}

/// A secret that must have a value when the file is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretReference {
    pub secret: SecretName,
    /// The error when it has none.
    pub missing: FleetFileError,
}

impl FleetFile {
    /// The file of the fleet `id` with this definition.
    pub fn of(id: FleetId, definition: FleetDefinition) -> Self {
        Self {
            id: Some(id),
            project: None,
            definition,
            hidden: Vec::new(),
            references: Vec::new(),
            has_webhook_settings: true,
            positions: Positions::default(),
            text: None,
            former: None,
        }
    }

    /// The error that refuses the file for its `user`.
    pub fn refuse_user(&self, message: String) -> FleetFileError {
        FleetFileError::invalid(self.positions.user, "user", message)
    }

    /// The error that refuses the file for its `webhook.verify`.
    pub fn refuse_verify(&self, message: String) -> FleetFileError {
        FleetFileError::invalid(self.positions.verify, "webhook.verify", message)
    }

    /// Gives every hidden variable the value that it has in `previous`.
    ///
    /// # Errors
    /// When `previous` has none. The file is unchanged then.
    pub fn keep_hidden_values(
        &mut self,
        previous: Option<&FleetDefinition>,
    ) -> Result<(), FleetFileError> {
        let mut kept = Vec::with_capacity(self.hidden.len());
        for hidden in &self.hidden {
            let value = previous.and_then(|previous| hidden.value_in(previous));
            kept.push(value.ok_or_else(|| hidden.unknown.clone())?.clone());
        }
        for (hidden, value) in self.hidden.drain(..).zip(kept) {
            if let Some(variable) = hidden.variable_in(&mut self.definition) {
                *variable = value;
            }
        }
        Ok(())
    }
}

impl HiddenValue {
    fn value_in<'a>(&self, fleet: &'a FleetDefinition) -> Option<&'a VariableValue> {
        let vessel = fleet.vessels.get(fleet.vessel_index(&self.vessel)?)?;
        let mut variables = vessel.environment.iter();
        variables.find(|(name, _)| *name == self.variable).map(|(_, value)| value)
    }

    fn variable_in<'a>(&self, fleet: &'a mut FleetDefinition) -> Option<&'a mut VariableValue> {
        let index = fleet.vessel_index(&self.vessel)?;
        let mut variables = fleet.vessels.get_mut(index)?.environment.iter_mut();
        variables.find(|(name, _)| *name == self.variable).map(|(_, value)| value)
    }
}

/// New webhook settings in JSON: the block `webhook` of a fleet file by itself.
#[derive(Debug)]
pub struct WebhookChange(Node);

impl WebhookChange {
    /// Reads a JSON object. Its keys are looked at by [`apply`](Self::apply).
    ///
    /// # Errors
    /// `Syntax` when it is not JSON.
    pub fn parse(text: &str) -> Result<Self, FleetFileError> {
        json::parse(text).map(Self)
    }

    /// Changes what the object names of `settings`.
    ///
    /// # Errors
    /// `Invalid` when a key or its value is none of a `webhook` block.
    pub fn apply(&self, settings: &mut WebhookSettings) -> Result<(), FleetFileError> {
        read::webhook(&Cursor::root(&self.0), settings)
    }
}

/// Why a text is not a fleet file. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetFileError {
    /// The text is not YAML (or JSON).
    Syntax { line: usize, column: usize, message: String },
    /// The text is well-formed but does not describe a fleet.
    Invalid {
        /// `None`: the file as a whole.
        line: Option<usize>,
        column: Option<usize>,
        /// The key, from the top: `vessels.build.guardrails.retry_count`. Empty for the whole file.
        path: String,
        message: String,
    },
}

impl FleetFileError {
    /// The value at `path` is wrong; it stands at `position` of a file.
    pub fn invalid(position: Option<Position>, path: &str, message: String) -> Self {
        let (line, column) = position.map(|it| (it.line, it.column)).unzip();
        Self::Invalid { line, column, path: path.to_owned(), message }
    }
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

/// The fleet file that [`to_yaml`] gives, as JSON with the same keys in the same order.
/// [`parse_json`] gives back the same fleet.
///
/// # Errors
/// None for a definition that this module has read.
pub fn to_json(
    definition: &FleetDefinition,
    project: &str,
    id: Option<FleetId>,
) -> Result<String, FleetFileError> {
    yaml::parse(&to_yaml(definition, project, id)).map(|root| json::write(&root))
}

/// Reads a fleet from one YAML document. A JSON object is read as JSON, since YAML lacks some of its
/// escapes.
///
/// # Errors
/// `Syntax` when it is not YAML, `Invalid` when it is not a fleet or has unsupported keys.
pub fn parse_yaml(text: &str) -> Result<FleetFile, FleetFileError> {
    check_size(text)?;
    let in_json = json::looks_like_object(text).then(|| json::parse(text));
    let (root, is_json) = match in_json {
        Some(Ok(root)) => (root, true),
        Some(Err(error)) => (yaml::parse(text).map_err(|_| error)?, false),
        None => (yaml::parse(text)?, false),
    };
    let file = read::fleet(&root)?;
    let text = text.strip_prefix(MARK).unwrap_or(text);
    // JSON has no comments, and a text with hidden values does not make this fleet on another server.
    let text = (!is_json && file.hidden.is_empty()).then(|| text.to_owned());
    Ok(FleetFile { text, ..file })
}

/// Reads a fleet from a JSON object with the same keys as the YAML form.
///
/// # Errors
/// `Syntax` when it is not JSON, `Invalid` when it is not a fleet or has unsupported keys.
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
