//! References to a part of the request (`{"source": "payload", "name": "ref"}`) as expressions.

use super::super::cursor::Cursor;
use super::Note;
use super::template::{Templates, expression};

/// Words of CEL that cannot stand behind a dot.
const RESERVED: [&str; 22] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
    "size",
];

/// What a reference stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A text of the file.
    Literal(String),
    /// An expression over the request.
    Computed(String),
}

/// A reference with its place.
#[derive(Clone, Debug)]
pub(super) struct Reference<'a> {
    pub cursor: Cursor<'a>,
    pub source: String,
    pub name: String,
    pub value: Value,
}

impl<'a> Reference<'a> {
    /// Reads a reference. Adds what differs to `notes`.
    ///
    /// # Errors
    /// When no expression gives the value.
    pub fn read(
        cursor: &Cursor<'a>,
        templates: &Templates,
        notes: &mut Vec<Note>,
    ) -> Result<Self, Note> {
        let position = cursor.position();
        let text = |key: &str| match cursor.entry(key) {
            Some(value) => {
                let text = value.text()?;
                templates.resolve(text).map_err(|why| Note::refusal(value.position(), why))
            }
            None => Ok(String::new()),
        };
        let (source, name) = (text("source")?, text("name")?);
        if cursor.entry("headers-to-add-to-signature-payload").is_some() {
            let message = "headers-to-add-to-signature-payload: a signature over headers cannot be \
                           carried over";
            return Err(Note::refusal(position, message));
        }
        let refuse = |message: String| Err(Note::refusal(position, message));
        let value = match source.as_str() {
            "payload" if name.split('.').any(|key| key.starts_with(['-', '#'])) => {
                return refuse(format!(
                    "`{name}` is a place in XML, which expressions do not read"
                ));
            }
            "payload" if !name.is_empty() => Value::Computed(path_of("body", &name)),
            "header" if !name.is_empty() => Value::Computed(header(&name)),
            "url" | "query" if !name.is_empty() => Value::Computed(key_of("query", &name)),
            "string" => Value::Literal(name.clone()),
            "raw-request-body" => Value::Computed("text".to_owned()),
            "entire-payload" => Value::Computed("body".to_owned()),
            "entire-query" => Value::Computed("query".to_owned()),
            "entire-headers" => {
                let message = "the names of the headers are in lower case, and of several values \
                               the first is given";
                notes.push(Note::new(position, message));
                Value::Computed("headers".to_owned())
            }
            "request" if name.eq_ignore_ascii_case("method") => {
                Value::Computed("method".to_owned())
            }
            "request" if name.eq_ignore_ascii_case("remote-addr") => {
                notes.push(Note::new(position, "remote-addr has no port"));
                Value::Computed("remote_addr".to_owned())
            }
            "template" => match expression(&name) {
                Some(expression) => Value::Computed(expression),
                None => {
                    return refuse(
                        "this template decides more than which values stand in a row; write an \
                         expression (boathook help expressions)"
                            .to_owned(),
                    );
                }
            },
            "context" => {
                return refuse(
                    "`context` comes from pre-hook-command, which cannot be carried over"
                        .to_owned(),
                );
            }
            other => {
                return refuse(format!(
                    "the source `{other}` is not known, or its `name` is missing"
                ));
            }
        };
        Ok(Self { cursor: cursor.clone(), source, name, value })
    }

    /// The name of the variable that holds it when `envname` gives none.
    pub fn variable(&self, templates: &Templates) -> Result<String, Note> {
        let given = self.cursor.entry("envname");
        let name = match &given {
            Some(name) => templates
                .resolve(name.text()?)
                .map_err(|why| Note::refusal(name.position(), why))?,
            None => String::new(),
        };
        Ok(if name.is_empty() { format!("HOOK_{}", self.name) } else { name })
    }
}

/// The expression of a header.
pub(super) fn header(name: &str) -> String {
    key_of("headers", &name.to_ascii_lowercase())
}

fn key_of(root: &str, key: &str) -> String {
    match is_identifier(key) {
        true => format!("{root}.{key}"),
        false => format!("{root}[{}]", literal(key)),
    }
}

/// The expression of a place in the payload, from keys with dots between them.
pub(super) fn path_of(root: &str, path: &str) -> String {
    path.split('.').fold(root.to_owned(), |root, key| match key.parse::<u32>() {
        Ok(index) => format!("{root}[{index}]"),
        Err(_) => key_of(&root, key),
    })
}

fn is_identifier(key: &str) -> bool {
    let first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    key.starts_with(first)
        && key.chars().all(|letter| first(letter) || letter.is_ascii_digit())
        && !RESERVED.contains(&key)
}

/// A text of CEL. The escapes of JSON are those of CEL.
pub(super) fn literal(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
