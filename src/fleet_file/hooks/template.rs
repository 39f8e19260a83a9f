//! Go templates: the actions of a whole file, and those that give one value.

use super::super::FleetFileError;
use super::super::node::{KeyPath, Position};
use super::argument::{header, path_of};

/// Stand around the number of an action in the text that the parsers see.
const OPEN: char = '\u{e000}';
const CLOSE: char = '\u{e001}';

/// The actions of a file, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Templates {
    actions: Vec<Action>,
}

/// An action that stands for a text.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// `getenv`: the name, and the value where it is set here.
    Variable { name: String, value: Option<String> },
    /// `secret`: a file below `/run/secrets`.
    File(String),
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The value may be a secret.
        f.write_str("Action(…)")
    }
}

impl Templates {
    /// The only action of `text`, if it is nothing else.
    pub fn action(&self, text: &str) -> Option<&Action> {
        let number = text.trim().strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
        self.actions.get(number.parse::<usize>().ok()?)
    }

    /// `text` with the values of its actions.
    ///
    /// # Errors
    /// When a value is not known here.
    pub fn resolve(&self, text: &str) -> Result<String, String> {
        let mut resolved = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(OPEN) {
            let (number, after) = after.split_once(CLOSE).unwrap_or((after, ""));
            let action = number.parse().ok().and_then(|number: usize| self.actions.get(number));
            resolved.push_str(before);
            match action {
                Some(Action::Variable { value: Some(value), .. }) => resolved.push_str(value),
                Some(Action::Variable { name, value: None }) => {
                    return Err(format!(
                        "the variable {name} is not set here; set it for the import"
                    ));
                }
                Some(Action::File(name)) => {
                    return Err(format!(
                        "the secret file {name} can be the secret of a signature, not this; write \
                         the value"
                    ));
                }
                None => {}
            }
            rest = after;
        }
        resolved.push_str(rest);
        Ok(resolved)
    }
}

/// Puts a mark in the place of each action of a file, so that what is around it can be parsed.
///
/// # Errors
/// When an action decides more than a text.
pub(super) fn replace_actions(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, Templates), FleetFileError> {
    let (mut replaced, mut templates) = (String::with_capacity(text.len()), Templates::default());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        replaced.push_str(before);
        let position = Position {
            line: text[..text.len() - after.len()].matches('\n').count() + 1,
            column: 1,
        };
        let invalid = |message: &str| KeyPath::default().invalid(position, message);
        let (inner, after) =
            after.split_once("}}").ok_or_else(|| invalid("the template action does not end"))?;
        if inner.contains('\n') {
            return Err(invalid("write each template action on one line"));
        }
        rest = after;
        if inner.trim().starts_with("/*") {
            continue;
        }
        let action = file_action(inner, environment).ok_or_else(|| {
            invalid(
                "of a file's template, `getenv \"NAME\"` and `secret \"NAME\"` can be carried over, \
                 with `| js` or without; write out what others give",
            )
        })?;
        replaced.push_str(&format!("{OPEN}{}{CLOSE}", templates.actions.len()));
        templates.actions.push(action);
    }
    replaced.push_str(rest);
    Ok((replaced, templates))
}

fn file_action(inner: &str, environment: &dyn Fn(&str) -> Option<String>) -> Option<Action> {
    let (call, filter) = inner.split_once('|').unwrap_or((inner, "js"));
    if filter.trim() != "js" {
        return None;
    }
    let (function, name) = call.trim().split_once(' ')?;
    let name = quoted(name)?;
    match function {
        "getenv" => Some(Action::Variable { value: environment(&name), name }),
        "secret" => Some(Action::File(name)),
        _ => None,
    }
}

/// The expression of a template that gives one value: text and places of the request in a row.
pub(super) fn expression(template: &str) -> Option<String> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inner, after) = after.split_once("}}")?;
        let (inner, trims_before) = trimmed(inner, str::strip_prefix);
        let (inner, trims_after) = trimmed(inner, str::strip_suffix);
        push_text(&mut parts, if trims_before { before.trim_end() } else { before });
        parts.push(value_action(inner.trim())?);
        rest = if trims_after { after.trim_start() } else { after };
    }
    push_text(&mut parts, rest);
    match parts.as_slice() {
        [only] => Some(only.clone()),
        // A value that is no text is written as one.
        _ => Some(parts.iter().map(|part| as_text(part)).collect::<Vec<_>>().join(" + ")),
    }
}

fn trimmed(inner: &str, strip: impl Fn(&'_ str, char) -> Option<&'_ str>) -> (&str, bool) {
    strip(inner, '-').map_or((inner, false), |inner| (inner, true))
}

fn push_text(parts: &mut Vec<String>, text: &str) {
    if !text.is_empty() {
        parts.push(super::argument::literal(text));
    }
}

fn as_text(part: &str) -> String {
    match part.starts_with("body") {
        true => format!("string({part})"),
        false => part.to_owned(),
    }
}

fn value_action(action: &str) -> Option<String> {
    let simple = match action {
        ".BodyText" => "text",
        ".Method" => "method",
        ".RemoteAddr" => "remote_addr",
        ".ContentType" => "headers[\"content-type\"]",
        _ => "",
    };
    if !simple.is_empty() {
        return Some(simple.to_owned());
    }
    let is_path = |path: &str| path.split('.').all(|key| !key.is_empty() && is_word(key));
    if let Some(path) = action.strip_prefix(".Payload.") {
        return is_path(path).then(|| path_of("body", path));
    }
    if let Some(name) = action.strip_prefix(".Query.") {
        return is_word(name).then(|| path_of("query", name));
    }
    if let Some(name) = action.strip_prefix(".GetHeader ") {
        return Some(header(&quoted(name)?));
    }
    let (place, key) = action.strip_prefix("index ")?.trim().split_once(' ')?;
    let root = match place {
        ".Payload" => "body",
        ".Query" => "query",
        _ => return None,
    };
    Some(format!("{root}[{}]", super::argument::literal(&quoted(key)?)))
}

fn is_word(key: &str) -> bool {
    key.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// The text of a string of Go.
fn quoted(text: &str) -> Option<String> {
    let text = text.trim();
    match text.strip_prefix('`').and_then(|text| text.strip_suffix('`')) {
        Some(raw) => Some(raw.to_owned()),
        None => serde_json::from_str(text).ok(),
    }
}
