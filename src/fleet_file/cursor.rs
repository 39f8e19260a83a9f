//! A node together with the keys that lead to it. The reader takes values from it, and errors their line,
//! column and key.

use super::FleetFileError;
use super::node::{KeyPath, Kind, Node, Position, excerpt};
use crate::model::suggest::closest;

#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    node: &'a Node,
    path: KeyPath,
    /// The position of the value's key, or of the value when it has none.
    key_position: Position,
}

/// The entries of a mapping whose keys are all known.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    entries: Vec<(&'a str, Cursor<'a>)>,
}

impl<'a> Fields<'a> {
    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&Cursor<'a>> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

impl<'a> Cursor<'a> {
    pub fn root(node: &'a Node) -> Self {
        Self { node, path: KeyPath::default(), key_position: node.position }
    }

    /// The position of the value.
    pub fn position(&self) -> Position {
        self.node.position
    }

    /// The position of the key that holds the value.
    pub fn key_position(&self) -> Position {
        self.key_position
    }

    /// An error about the value.
    pub fn invalid(&self, message: impl Into<String>) -> FleetFileError {
        self.path.invalid(self.node.position, message)
    }

    /// An error about the key that holds the value.
    pub fn invalid_key(&self, message: impl Into<String>) -> FleetFileError {
        self.path.invalid(self.key_position, message)
    }

    /// An error about a key that is missing in this mapping.
    pub fn missing(&self, key: &str, message: &str) -> FleetFileError {
        self.path.key(key).invalid(self.key_position, message)
    }

    pub fn is_null(&self) -> bool {
        self.node.is_null()
    }

    pub fn is_sequence(&self) -> bool {
        matches!(self.node.kind, Kind::Sequence(_))
    }

    pub fn is_mapping(&self) -> bool {
        matches!(self.node.kind, Kind::Mapping(_))
    }

    /// The scalar as it was written; numbers and truth values included, null not.
    pub fn text(&self) -> Result<&'a str, FleetFileError> {
        match &self.node.kind {
            Kind::Scalar { text, .. } if !self.is_null() => Ok(text),
            Kind::Scalar { .. } => {
                Err(self.invalid("expected text, found nothing; quote it if it is meant literally"))
            }
            _ => Err(self.expected("text")),
        }
    }

    /// A whole number within `range`, written without quotes.
    pub fn number(&self, range: std::ops::RangeInclusive<u32>) -> Result<u32, FleetFileError> {
        let expected = if *range.end() == u32::MAX {
            format!("a whole number of at least {}", range.start())
        } else {
            format!("a whole number from {} to {}", range.start(), range.end())
        };
        let Kind::Scalar { text, plain } = &self.node.kind else {
            return Err(self.expected(&expected));
        };
        let text = without_zero_fraction(text);
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits && !plain {
            return Err(self.invalid(format!("expected {expected}; remove the quotes")));
        }
        match text.parse() {
            Ok(number) if digits && range.contains(&number) => Ok(number),
            _ => Err(self.invalid(format!("expected {expected}"))),
        }
    }

    /// A whole number of up to `max` either way, written without quotes.
    pub fn signed_number(&self, max: i8) -> Result<i8, FleetFileError> {
        let expected = format!("expected a whole number from -{max} to {max}");
        match &self.node.kind {
            Kind::Scalar { text, plain: true } if !text.starts_with('+') => {
                without_zero_fraction(text)
                    .parse()
                    .ok()
                    .filter(|number| (-max..=max).contains(number))
                    .ok_or_else(|| self.invalid(expected))
            }
            _ => Err(self.invalid(expected)),
        }
    }

    /// `true` or `false`, also written as True or TRUE (YAML 1.2.2, section 10.3.2), without quotes.
    pub fn truth(&self) -> Result<bool, FleetFileError> {
        match &self.node.kind {
            Kind::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => Ok(true),
                "false" | "False" | "FALSE" => Ok(false),
                _ => Err(self.invalid("expected true or false, without quotes")),
            },
            _ => Err(self.invalid("expected true or false, without quotes")),
        }
    }

    pub fn sequence(&self) -> Result<Vec<Cursor<'a>>, FleetFileError> {
        let Kind::Sequence(items) = &self.node.kind else { return Err(self.expected("a list")) };
        let below = |(index, node): (usize, &'a Node)| Cursor {
            node,
            path: self.path.index(index),
            key_position: node.position,
        };
        Ok(items.iter().enumerate().map(below).collect())
    }

    /// The items of a list, each read by `read`; or the value itself, read as the only item.
    pub fn one_or_more<T>(
        &self,
        read: impl Fn(&Cursor<'a>) -> Result<T, FleetFileError>,
    ) -> Result<Vec<T>, FleetFileError> {
        match self.is_sequence() {
            true => self.sequence()?.iter().map(read).collect(),
            false => Ok(vec![read(self)?]),
        }
    }

    /// The entries of a mapping whose keys are names.
    pub fn mapping(&self) -> Result<Vec<(&'a str, Cursor<'a>)>, FleetFileError> {
        let Kind::Mapping(entries) = &self.node.kind else {
            return Err(self.expected("a mapping"));
        };
        let below = |(key, node): &'a (super::node::Key, Node)| {
            let path = self.path.key(&key.text);
            (key.text.as_str(), Cursor { node, path, key_position: key.position })
        };
        Ok(entries.iter().map(below).collect())
    }

    /// The entries of a mapping whose keys are words of this format: those in `known`, no others.
    pub fn fields(&self, known: &[&str]) -> Result<Fields<'a>, FleetFileError> {
        let entries = self.mapping()?;
        for (key, value) in &entries {
            if !known.contains(key) {
                return Err(value.invalid_key(unknown_key(key, known)));
            }
        }
        Ok(Fields { entries })
    }

    /// The value of `key` if this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<Cursor<'a>> {
        let entries = self.is_mapping().then(|| self.mapping().ok()).flatten()?;
        entries.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    fn expected(&self, wanted: &str) -> FleetFileError {
        self.invalid(format!("expected {wanted}, found {}", self.node.describe()))
    }
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    let key = excerpt(key);
    match closest(&key, known.iter().copied()) {
        Some(meant) => format!("unknown key `{key}`; did you mean `{meant}`?"),
        None => format!("unknown key `{key}`; known here: {}", known.join(", ")),
    }
}

/// `text` without a fraction of zeros: JSON does not tell `1.0` from `1` (RFC 8259 6).
fn without_zero_fraction(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|it| it == b'0') => whole,
        _ => text,
    }
}
