//! The hooks of `adnanh/webhook` (hooks.json, hooks.yaml) as fleet files. What a fleet does in another way is
//! noted with its line. A hook of which a part cannot be carried over is named and not written, so that
//! no fleet takes more requests than its hook did.

mod argument;
mod file;
mod rule;
mod secret;
mod template;
#[cfg(test)]
mod tests;
mod write;

use super::cursor::Cursor;
use super::node::{Node, Position};
use super::{FleetFileError, check_size, json, yaml};

use secret::FoundSecrets;
pub use secret::{FoundSecret, SecretSource};
use template::Templates;

/// What the person who imports wants.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// `webhook -template`: the file is a Go template.
    pub is_template: bool,
    /// The project of the fleets; `None`: the default one.
    pub project: Option<String>,
    /// Answer at `/hooks/<id>` as before, wherever something else than the id guards the fleet.
    pub keep_paths: bool,
}

/// The hooks of a file.
#[derive(Debug)]
pub struct ImportedHooks {
    /// In the order of the file.
    pub hooks: Vec<ImportedHook>,
    /// The secrets that stood in the file, each once.
    pub secrets: Vec<FoundSecret>,
}

/// A hook as a fleet.
#[derive(Debug)]
pub struct ImportedHook {
    pub id: String,
    pub line: usize,
    /// The name of the fleet.
    pub name: String,
    /// The fleet file; `None`: a part of the hook cannot be carried over, as `notes` say.
    pub yaml: Option<String>,
    /// In the order of the lines.
    pub notes: Vec<Note>,
}

/// What is to be said about a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    pub line: usize,
    /// Whether it keeps the hook from being written.
    pub is_refusal: bool,
    pub message: String,
}

impl Note {
    fn new(position: Position, message: impl Into<String>) -> Self {
        Self { line: position.line, is_refusal: false, message: message.into() }
    }

    fn refusal(position: Position, message: impl Into<String>) -> Self {
        Self { is_refusal: true, ..Self::new(position, message) }
    }
}

impl From<FleetFileError> for Note {
    fn from(error: FleetFileError) -> Self {
        let (line, message) = match error {
            FleetFileError::Syntax { line, message, .. } => (line, message),
            FleetFileError::Invalid { line, path, message, .. } => {
                (line.unwrap_or(1), format!("{path}: {message}"))
            }
        };
        Self { line, is_refusal: true, message }
    }
}

/// Reads `text`. `environment` gives the variables that a template names.
///
/// # Errors
/// When the text is neither YAML nor JSON, or no list of hooks.
pub fn import_hooks(
    text: &str,
    wishes: &Wishes,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<ImportedHooks, FleetFileError> {
    check_size(text)?;
    let (text, templates) = match wishes.is_template {
        true => template::replace_actions(text, environment)?,
        false => (text.to_owned(), Templates::default()),
    };
    let root = match parse(&text) {
        Ok(root) => root,
        Err(error) if !wishes.is_template && text.contains("{{") => {
            return Err(with_hint(error));
        }
        Err(error) => return Err(error),
    };
    let mut secrets = FoundSecrets::default();
    let mut hooks = Vec::new();
    for cursor in Cursor::root(&root).sequence()? {
        let mut hook = file::Hook::new(&cursor, wishes, &templates, &mut secrets);
        hook.read();
        hooks.push(hook.finish());
    }
    for at in 1..hooks.len() {
        let (earlier, rest) = hooks.split_at_mut(at);
        let Some(hook) = rest.first_mut() else { continue };
        if let Some(first) = earlier.iter().find(|earlier| earlier.name == hook.name) {
            let (position, name) = (Position { line: hook.line, column: 1 }, &hook.name);
            let message = format!("the hook in line {} is the fleet {name:?} already", first.line);
            hook.notes.push(Note::refusal(position, message));
            hook.yaml = None;
        }
    }
    Ok(ImportedHooks { hooks, secrets: secrets.into_found() })
}

/// The project reads every file as YAML. JSON by itself gives better messages.
fn parse(text: &str) -> Result<Node, FleetFileError> {
    if !text.trim_start().starts_with(['[', '{']) {
        return yaml::parse(text);
    }
    json::parse(text).or_else(|error| yaml::parse(text).map_err(|_| error))
}

fn with_hint(error: FleetFileError) -> FleetFileError {
    let hint = |message| {
        format!("{message}; if webhook reads the file with -template, write --template here too")
    };
    match error {
        FleetFileError::Syntax { line, column, message } => {
            FleetFileError::Syntax { line, column, message: hint(message) }
        }
        FleetFileError::Invalid { line, column, path, message } => {
            FleetFileError::Invalid { line, column, path, message: hint(message) }
        }
    }
}
