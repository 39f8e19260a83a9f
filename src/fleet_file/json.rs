//! JSON text to the same tree as YAML, and back. serde_json checks that a text is JSON. The reader then walks
//! the well-formed text and keeps what serde_json drops: positions, duplicate keys, and numbers as written.

use serde::de::IgnoredAny;
use serde::{Serialize, Serializer};

use super::FleetFileError;
use super::node::{Bounds, Entries, Key, KeyPath, Kind, Node, Position};
use crate::os::text_file::MARK;

/// Whether `text` begins as a JSON object does, with a brace and a key in quotes. YAML in one line
/// can do so too.
pub(super) fn looks_like_object(text: &str) -> bool {
    let text = text.strip_prefix(MARK).unwrap_or(text).trim_start();
    text.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with('"'))
}

/// Reads the one value in `text`.
pub(super) fn parse(text: &str) -> Result<Node, FleetFileError> {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(syntax_error(text, &error));
    }
    Reader::new(text).value(&KeyPath::default(), 0)
}

/// The error of serde_json, with the key under which it lies. A reader of the text before the error stops
/// at that key.
fn syntax_error(text: &str, error: &serde_json::Error) -> FleetFileError {
    let lines_before = error.line().saturating_sub(1);
    let line_start: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    // serde_json counts bytes, and may stop within a character.
    let mut end = text.len().min(line_start + error.column().saturating_sub(1));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let mut reader = Reader::new(before);
    // Only the key that the reader has reached matters.
    let _ = reader.value(&KeyPath::default(), 0);
    // serde_json names the bracket after it.
    if let Some(before_comma) = before.trim_end().strip_suffix(',')
        && matches!(text.as_bytes().get(end), Some(b'}' | b']'))
    {
        let message = "nothing follows this comma; remove it";
        return reader.reached.syntax(end_of(before_comma), message);
    }
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    reader.reached.syntax(end_of(before), message)
}

/// The position of what follows `text`.
fn end_of(text: &str) -> Position {
    let line_start = text.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        line: text.matches('\n').count() + 1,
        column: text[line_start..].chars().count() + 1,
    }
}

/// The tree as JSON. Numbers and truth values are those that stand without quotes in it.
pub(super) fn write(node: &Node) -> String {
    // Texts and their maps always have a JSON form.
    let mut text = serde_json::to_string_pretty(node).unwrap_or_default();
    text.push('\n');
    text
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.kind {
            Kind::Scalar { text, plain } => match (text.as_str(), text.parse::<i64>()) {
                (text, Ok(number)) if *plain && number.to_string() == text => {
                    serializer.serialize_i64(number)
                }
                ("true", _) if *plain => serializer.serialize_bool(true),
                (text, _) => serializer.serialize_str(text),
            },
            Kind::Sequence(items) => serializer.collect_seq(items),
            Kind::Mapping(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (&key.text, value)))
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    position: Position,
    bounds: Bounds,
    /// The value that was begun last and has not ended.
    reached: KeyPath,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let position = Position { line: 1, column: 1 };
        Self { rest: text, position, bounds: Bounds::default(), reached: KeyPath::default() }
    }

    fn value(&mut self, path: &KeyPath, depth: usize) -> Result<Node, FleetFileError> {
        self.reached = path.clone();
        self.skip_space();
        let position = self.position;
        self.bounds.admit(depth, path, position)?;
        let kind = match self.rest.as_bytes().first() {
            Some(b'{') => self.object(path, depth)?,
            Some(b'[') => self.array(path, depth)?,
            Some(b'"') => Kind::Scalar { text: self.string(path)?, plain: false },
            _ => {
                let end = self.rest.find([',', ']', '}', ' ', '\t', '\r', '\n']);
                let text = self.advance(end.unwrap_or(self.rest.len()));
                if text.is_empty() {
                    return Err(path.syntax(position, "a value is missing"));
                }
                Kind::Scalar { text: text.to_owned(), plain: true }
            }
        };
        Ok(Node { position, kind })
    }

    fn array(&mut self, path: &KeyPath, depth: usize) -> Result<Kind, FleetFileError> {
        self.advance(1);
        let mut items = Vec::new();
        if self.take(']') {
            return Ok(Kind::Sequence(items));
        }
        loop {
            items.push(self.value(&path.index(items.len()), depth + 1)?);
            if self.take(']') {
                return Ok(Kind::Sequence(items));
            }
            self.comma(path)?;
        }
    }

    fn object(&mut self, path: &KeyPath, depth: usize) -> Result<Kind, FleetFileError> {
        self.advance(1);
        let mut entries = Entries::default();
        if self.take('}') {
            return Ok(entries.finish());
        }
        loop {
            self.skip_space();
            let position = self.position;
            let key = Key { position, text: self.string(path)? };
            entries.check_key(&key, path)?;
            self.expect(':', path)?;
            let value = self.value(&path.key(&key.text), depth + 1)?;
            entries.push(key, value);
            if self.take('}') {
                return Ok(entries.finish());
            }
            self.comma(path)?;
        }
    }

    /// Moves to the next entry of the list or object under `path`.
    fn comma(&mut self, path: &KeyPath) -> Result<(), FleetFileError> {
        self.expect(',', path)?;
        self.skip_space();
        self.reached = path.clone();
        if self.rest.is_empty() {
            return Err(path.syntax(self.position, "an entry is missing"));
        }
        Ok(())
    }

    /// The string that begins here, its escapes resolved.
    fn string(&mut self, path: &KeyPath) -> Result<String, FleetFileError> {
        let position = self.position;
        let mut escaped = false;
        let end = self.rest.bytes().skip(1).position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        });
        let Some(end) = end.filter(|_| self.rest.starts_with('"')) else {
            return Err(path.syntax(position, "a string is missing"));
        };
        let written = self.advance(end + 2);
        // A lone surrogate passes the check of the whole text, which builds no strings.
        serde_json::from_str(written)
            .map_err(|_| path.syntax(position, "the string holds an invalid escape"))
    }

    fn expect(&mut self, wanted: char, path: &KeyPath) -> Result<(), FleetFileError> {
        if self.take(wanted) {
            return Ok(());
        }
        Err(path.syntax(self.position, format_args!("expected `{wanted}`")))
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let found = self.rest.starts_with(wanted);
        if found {
            self.advance(wanted.len_utf8());
        }
        found
    }

    fn skip_space(&mut self) {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.advance(self.rest.len() - text.len());
    }

    /// Moves past the next `bytes` bytes and returns them.
    fn advance(&mut self, bytes: usize) -> &'a str {
        let (passed, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        for character in passed.chars() {
            if character == '\n' {
                self.position.line += 1;
                self.position.column = 1;
            } else {
                self.position.column += 1;
            }
        }
        passed
    }
}
