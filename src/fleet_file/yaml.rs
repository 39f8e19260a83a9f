//! YAML text to a tree: one document of mappings, lists and scalars. Anchors, aliases, merge keys and tags
//! are refused by name, so that no file is larger than it looks.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::FleetFileError;
use super::node::{Bounds, Entries, Key, KeyPath, Kind, Node, Position};
use super::yaml_words::in_words;
use crate::os::text_file::MARK;

/// Reads the one document in `text`.
pub(super) fn parse(text: &str) -> Result<Node, FleetFileError> {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    check_characters(text)?;
    document(text).map_err(|error| tab_error(text).unwrap_or(error))
}

/// The error of a text that is no YAML for its first line with a tab in its indentation, if there is one.
fn tab_error(text: &str) -> Option<FleetFileError> {
    let spaces = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let is_tabbed =
        |line: &str| line.trim_start_matches(' ').starts_with('\t') && !line.trim().is_empty();
    let (number, line) = text.lines().enumerate().find(|(_, line)| is_tabbed(line))?;
    let position = Position { line: number + 1, column: spaces(line) + 1 };
    let message = "a tab cannot indent YAML; replace it by spaces";
    Some(KeyPath::default().syntax(position, message))
}

fn document(text: &str) -> Result<Node, FleetFileError> {
    let mut reader = Reader { parser: Parser::new_from_str(text), bounds: Bounds::default() };
    let root = KeyPath::default();
    loop {
        match reader.next(&root)? {
            (Event::DocumentStart(_), _) => break,
            (Event::StreamEnd, position) => {
                return Err(root.invalid(position, "the file is empty; a fleet needs a name"));
            }
            _ => {}
        }
    }
    let (event, position) = reader.next(&root)?;
    let node = reader.node(event, position, &root, 0)?;
    loop {
        match reader.next(&root)? {
            (Event::StreamEnd, _) => return Ok(node),
            (Event::DocumentStart(_), position) => {
                let message = "a second document begins; put each fleet into a file of its own";
                return Err(root.invalid(position, message));
            }
            _ => {}
        }
    }
}

/// Refuses characters that YAML 1.2 does not count as printable (section 5.1). The parser would take a NUL
/// for the end of the text and drop the rest of the file.
fn check_characters(text: &str) -> Result<(), FleetFileError> {
    let printable = |character: char| {
        matches!(
            character,
            '\t' | '\n' | '\r' | '\u{20}'..='\u{7e}' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..
        )
    };
    let Some(offset) = text.find(|character| !printable(character)) else { return Ok(()) };
    let (before, rest) = text.split_at(offset);
    let position = Position {
        line: before.matches('\n').count() + 1,
        column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
    };
    let code = rest.chars().next().map_or(0, u32::from);
    let message = format!("character U+{code:04X} cannot stand in YAML; write it as an escape");
    Err(KeyPath::default().syntax(position, message))
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    bounds: Bounds,
}

impl<'a> Reader<'a> {
    /// The next event; `path` is where the reader stands, for the message if there is none.
    fn next(&mut self, path: &KeyPath) -> Result<(Event<'a>, Position), FleetFileError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, begin(&span))),
            Some(Err(error)) => Err(path.syntax(place(&error), in_words(error.info()))),
            None => Ok((Event::StreamEnd, Position { line: 1, column: 1 })),
        }
    }

    /// The node that starts with `event`.
    fn node(
        &mut self,
        event: Event<'a>,
        position: Position,
        path: &KeyPath,
        depth: usize,
    ) -> Result<Node, FleetFileError> {
        self.bounds.admit(depth, path, position)?;
        let kind = match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_extras(anchor, tag.as_ref(), path, position)?;
                Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_extras(anchor, tag.as_ref(), path, position)?;
                self.sequence(path, depth)?
            }
            Event::MappingStart(anchor, tag) => {
                refuse_extras(anchor, tag.as_ref(), path, position)?;
                self.mapping(path, depth)?
            }
            Event::Alias(_) => {
                let message = "aliases (*name) are not supported; write the value out";
                return Err(path.invalid(position, message));
            }
            _ => return Err(path.syntax(position, "a value is missing")),
        };
        Ok(Node { position, kind })
    }

    fn sequence(&mut self, path: &KeyPath, depth: usize) -> Result<Kind, FleetFileError> {
        let mut items = Vec::new();
        loop {
            let (event, position) = self.next(path)?;
            if event == Event::SequenceEnd {
                return Ok(Kind::Sequence(items));
            }
            let path = path.index(items.len());
            items.push(self.node(event, position, &path, depth + 1)?);
        }
    }

    fn mapping(&mut self, path: &KeyPath, depth: usize) -> Result<Kind, FleetFileError> {
        let mut entries = Entries::default();
        loop {
            let (event, position) = self.next(path)?;
            if event == Event::MappingEnd {
                return Ok(entries.finish());
            }
            let key = self.key(event, position, path)?;
            entries.check_key(&key, path)?;
            let below = path.key(&key.text);
            let (event, found) = self.next(&below)?;
            // The parser places a value that was left out wherever the next token stands.
            let left_out =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text.is_empty());
            let position = if left_out { key.position } else { found };
            let value = self.node(event, position, &below, depth + 1)?;
            entries.push(key, value);
        }
    }

    fn key(
        &mut self,
        event: Event<'a>,
        position: Position,
        path: &KeyPath,
    ) -> Result<Key, FleetFileError> {
        let node = match event {
            Event::Scalar(..) | Event::Alias(_) => self.node(event, position, path, 0)?,
            _ => return Err(path.invalid(position, "a key has to be text, not a list or mapping")),
        };
        match node.kind {
            Kind::Scalar { text, plain: true } if text == "<<" => {
                let message = "merge keys are not supported; write the entries out";
                Err(path.key("<<").invalid(position, message))
            }
            Kind::Scalar { text, plain: true } if text.is_empty() => {
                Err(path.invalid(position, "a key is missing before the colon"))
            }
            Kind::Scalar { text, .. } => Ok(Key { position, text }),
            _ => Err(path.invalid(position, "a key has to be text")),
        }
    }
}

fn refuse_extras(
    anchor: usize,
    tag: Option<&Cow<'_, Tag>>,
    path: &KeyPath,
    position: Position,
) -> Result<(), FleetFileError> {
    if anchor != 0 {
        let message = "anchors (&name) are not supported; write the value where it is needed";
        return Err(path.invalid(position, message));
    }
    if tag.is_some() {
        let message = "tags (!name) are not supported; remove it, values keep their written text";
        return Err(path.invalid(position, message));
    }
    Ok(())
}

fn begin(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

fn place(error: &ScanError) -> Position {
    Position { line: error.marker().line(), column: error.marker().col() + 1 }
}
