//! The tree of a fleet file: values and their positions. It is the same for YAML and JSON, and holds the
//! bounds of both readers.

use std::collections::BTreeSet;
use std::fmt;

use super::FleetFileError;
use crate::model::name::NAME_BYTES_MAX;

/// Nesting of a fleet file. A fleet needs six levels; the walk over the tree is recursive.
pub const DEPTH_MAX: usize = 32;
/// Values in a fleet file: more than any fleet of a megabyte needs, and some 10 MB of memory.
const NODES_MAX: usize = 100_000;

/// A place in the text, counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// One value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub position: Position,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `plain`: written without quotes, so that it may also mean a number, a truth value or null.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    /// In the order of the file; keys are unique.
    Mapping(Vec<(Key, Node)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub position: Position,
    pub text: String,
}

impl Node {
    /// Whether nothing was written, or one of YAML's words for it.
    pub fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// The kind of value, for messages. They quote no value, since it may be a secret.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
        }
    }
}

/// The keys that lead to a value, as messages show them: `vessels.build.command[0]`.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyPath(String);

impl KeyPath {
    pub fn key(&self, key: &str) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        Self(format!("{}{dot}{}", self.0, excerpt(key)))
    }

    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// An error about the meaning of what stands at `position` under this path.
    pub fn invalid(&self, position: Position, message: impl Into<String>) -> FleetFileError {
        FleetFileError::Invalid {
            line: Some(position.line),
            column: Some(position.column),
            path: self.0.clone(),
            message: message.into(),
        }
    }

    /// An error in the form of the text at `position`, within the value under this path.
    pub fn syntax(&self, position: Position, message: impl fmt::Display) -> FleetFileError {
        let Position { line, column } = position;
        let message =
            if self.is_root() { message.to_string() } else { format!("{self}: {message}") };
        FleetFileError::Syntax { line, column, message }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As much of a key as fits into a message, on one line. Every valid name is shown whole.
pub(super) fn excerpt(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if shown.len() >= NAME_BYTES_MAX {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Bounds the depth and the number of the nodes that a reader builds.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    nodes: usize,
}

impl Bounds {
    /// Counts one more node, which has `depth` nodes above it.
    pub fn admit(
        &mut self,
        depth: usize,
        path: &KeyPath,
        position: Position,
    ) -> Result<(), FleetFileError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = format!("the file has more than {NODES_MAX} values; split the fleet");
            return Err(path.invalid(position, message));
        }
        if depth >= DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} levels deep");
            return Err(path.invalid(position, message));
        }
        Ok(())
    }
}

/// Collects the entries of one mapping and refuses a key that comes twice.
#[derive(Debug, Default)]
pub(super) struct Entries {
    entries: Vec<(Key, Node)>,
    seen: BTreeSet<String>,
}

impl Entries {
    /// Checks a key before its value is read; `path` is the mapping's own.
    pub fn check_key(&mut self, key: &Key, path: &KeyPath) -> Result<(), FleetFileError> {
        if self.seen.insert(key.text.clone()) {
            return Ok(());
        }
        let first = self.entries.iter().find(|(earlier, _)| earlier.text == key.text);
        let line = first.map_or(key.position.line, |(earlier, _)| earlier.position.line);
        let message = format!("duplicate key, first seen in line {line}; keep one of them");
        Err(path.key(&key.text).invalid(key.position, message))
    }

    pub fn push(&mut self, key: Key, value: Node) {
        self.entries.push((key, value));
    }

    pub fn finish(self) -> Kind {
        Kind::Mapping(self.entries)
    }
}
