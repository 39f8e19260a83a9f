//! Finds and reads the configuration file. Errors name the line.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{ConfigError, FILE_NAME, SYSTEM_DATA_DIRECTORY, SYSTEM_DIRECTORY, Sources};
use crate::os::text_file;

/// The settings in the first file that exists: `boathook.toml` in the data directory, else in `system`.
pub(super) fn read_default_file(
    data_dir: Option<&Path>,
    system: &Path,
) -> Result<Sources, ConfigError> {
    if let Some(data_dir) = data_dir {
        let path = data_dir.join(FILE_NAME);
        if let Some(sources) = read_file(&path)? {
            // A server that is started on the other directory would not read this file: one
            // directory would have two configurations.
            if sources.data_dir.as_deref().is_some_and(|named| named != data_dir) {
                return Err(ConfigError::Misplaced { path, data_dir: data_dir.to_owned() });
            }
            return Ok(sources);
        }
    }
    Ok(read_file(&system.join(FILE_NAME))?.unwrap_or_default())
}

/// The file that a server on `data_dir` reads when it is given none: the one that exists, else the one
/// to make.
pub fn settings_file(data_dir: &Path) -> PathBuf {
    let [own, system] = [data_dir, Path::new(SYSTEM_DIRECTORY)].map(|it| it.join(FILE_NAME));
    let is_service = data_dir == Path::new(SYSTEM_DATA_DIRECTORY);
    if own.exists() || !is_service && !system.exists() { own } else { system }
}

/// A setting as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLine {
    /// Counted from 1.
    pub line: usize,
    /// Without quotes; the items of a list are separated by commas.
    pub value: String,
}

/// The settings in the file by their names; `None` when there is no such file.
///
/// # Errors
/// When it cannot be read, or is not TOML.
pub fn file_lines(path: &Path) -> Result<Option<BTreeMap<String, FileLine>>, ConfigError> {
    let text = match text_file::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    parse_file(path, &text)?;
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    // The file is flat: a line begins with the name of its setting.
    let line_of = |name: &str| {
        let is_its = |line: &str| {
            let rest = line.trim_start().trim_start_matches('"').strip_prefix(name);
            rest.is_some_and(|rest| rest.trim_start_matches('"').trim_start().starts_with('='))
        };
        text.lines().position(is_its).map_or(1, |index| index + 1)
    };
    let entries = table.into_iter().map(|(name, value)| {
        let line = line_of(&name);
        (name, FileLine { line, value: in_plain(value) })
    });
    Ok(Some(entries.collect()))
}

fn in_plain(value: toml::Value) -> String {
    use toml::Value;
    match value {
        Value::String(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Array(items) => items.into_iter().map(in_plain).collect::<Vec<_>>().join(", "),
        // No setting is one of these.
        Value::Datetime(_) | Value::Table(_) => String::new(),
    }
}

/// The settings in the file; `None` when there is no such file.
pub(super) fn read_file(path: &Path) -> Result<Option<Sources>, ConfigError> {
    match text_file::read(path) {
        Ok(text) => parse_file(path, &text).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}

pub(super) fn parse_file(path: &Path, text: &str) -> Result<Sources, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = text.get(..start).unwrap_or_default();
        let line_index = before.matches('\n').count();
        let line_text = text.lines().nth(line_index).unwrap_or_default();
        let mut message = in_words(&error.message().trim().replace('\n', "; "));
        // The file is flat: the name of the setting stands before the equals sign.
        if let Some((key, _)) = line_text.split_once('=')
            && !message.contains(&format!("`{}`", key.trim()))
        {
            message = format!("{}: {message}", key.trim());
        }
        ConfigError::Line { path: path.to_owned(), line: line_index + 1, message }
    })
}

/// What serde says of a value of another type: `invalid type: integer `5`, expected path string`.
const OTHER_TYPE: [&str; 2] = ["invalid type: ", "invalid value: "];
/// What serde expects for settings that have no type of their own.
const FORMS: [(&str, &str); 2] =
    [("path string", "a path in quotes"), ("a string", "text in quotes")];
/// What serde calls a value that it has found. The value itself may follow.
const FOUND: [(&str, &str); 7] = [
    ("integer ", ""),
    ("floating point ", ""),
    ("boolean ", ""),
    ("string ", ""),
    ("datetime", "a date"),
    ("sequence", "a list"),
    ("map", "a table"),
];

/// `message` in words, where it is about a value of another type.
fn in_words(message: &str) -> String {
    // A word without quotes that begins like `inf` or `nan`.
    if message.starts_with("invalid float") {
        return "expected a number, or text in quotes".to_owned();
    }
    let of_type = OTHER_TYPE.into_iter().find_map(|start| message.strip_prefix(start));
    let Some((found, expected)) = of_type.and_then(|it| it.rsplit_once(", expected ")) else {
        return message.to_owned();
    };
    let expected = FORMS.iter().find(|(name, _)| *name == expected).map_or(expected, |it| it.1);
    let found = FOUND
        .iter()
        .find_map(|(name, word)| Some(format!("{word}{}", found.strip_prefix(name)?)))
        .unwrap_or_else(|| found.to_owned());
    format!("expected {expected}, not {}", found.replace('`', ""))
}
