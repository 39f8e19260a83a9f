//! A hook's fleet file as text, with what differs as comments.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::write::scalar;
use super::Note;
use super::argument::Value;
use super::rule::{Check, Guard, conjunction};

/// How long a sender waits for output: the longest that there is, as the project waits for ever.
const WAIT: &str = "5m";
/// The variables that carry the content of files.
const CONTENT: &str = "HOOK_FILE_CONTENT_";

/// The fleet that a hook becomes.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub name: String,
    pub project: Option<String>,
    pub program: String,
    pub arguments: Vec<Value>,
    pub directory: Option<String>,
    pub environment: Vec<(String, Value)>,
    pub files: Vec<PassedFile>,
    pub guard: Guard,
    pub answer: Option<Answer>,
    /// Whether the sender gets the output.
    pub waits: bool,
    pub keep_path: bool,
}

/// A file whose path a variable holds.
#[derive(Debug)]
pub(super) enum PassedFile {
    /// The body, which is a file already.
    Body {
        name: String,
    },
    Value {
        name: String,
        value: Value,
        decodes: bool,
    },
}

/// A fixed answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

impl Default for Answer {
    fn default() -> Self {
        let content_type = "text/plain; charset=utf-8".to_owned();
        Self { status: 200, content_type, body: String::new() }
    }
}

/// The file of `fleet`, which was the hook `id` in this line.
pub(super) fn yaml(fleet: &Fleet, id: &str, line: usize, notes: &[Note]) -> String {
    let mut out = String::new();
    comment(&mut out, &format!("The hook {id:?} in line {line}."));
    for note in notes {
        comment(&mut out, &format!("line {}: {}", note.line, note.message));
    }
    let mut line = |level: usize, text: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}{text}", "  ".repeat(level));
    };
    line(0, format!("name: {}", scalar(&fleet.name)));
    if let Some(project) = &fleet.project {
        line(0, format!("project: {}", scalar(project)));
    }
    line(0, "vessels:".to_owned());
    line(1, "hook:".to_owned());
    line(2, "command:".to_owned());
    for part in wrapper(&fleet.files) {
        line(3, format!("- {}", scalar(&part)));
    }
    line(3, format!("- {}", scalar(&fleet.program)));
    for argument in &fleet.arguments {
        line(3, format!("- {}", value(argument, true)));
    }
    if let Some(directory) = &fleet.directory {
        line(2, format!("working_directory: {}", scalar(directory)));
    }
    let environment = variables(fleet);
    if !environment.is_empty() {
        line(2, "environment:".to_owned());
    }
    for (name, text) in environment {
        line(3, format!("{name}: {text}"));
    }
    webhook(fleet).into_iter().for_each(|(level, text)| line(level, text));
    out
}

fn comment(out: &mut String, text: &str) {
    for line in text.lines() {
        let shown: String = line.chars().filter(|letter| !letter.is_control()).collect();
        let _ = writeln!(out, "# {shown}");
    }
}

/// The value of an argument or a variable. An argument that the request does not have is empty.
fn value(value: &Value, is_argument: bool) -> String {
    match value {
        Value::Literal(text) => scalar(text),
        Value::Computed(expression) => {
            let default = if is_argument { ", default: \"\"" } else { "" };
            format!("{{expr: {}{default}}}", scalar(expression))
        }
    }
}

/// The block `webhook`.
fn webhook(fleet: &Fleet) -> Vec<(usize, String)> {
    let Guard { checks, allow, when } = &fleet.guard;
    let mut lines = Vec::new();
    match verification(checks).as_slice() {
        [] => {}
        [only] => lines.push((1, format!("verify: {only}"))),
        several => {
            lines.push((1, "verify:".to_owned()));
            lines.extend(several.iter().map(|check| (2, format!("- {check}"))));
        }
    }
    if !when.is_empty() {
        lines.push((1, format!("when: {}", scalar(&conjunction(when)))));
    }
    if !allow.is_empty() {
        let networks: Vec<_> = allow.iter().map(|network| scalar(network)).collect();
        lines.push((1, format!("allow: [{}]", networks.join(", "))));
    }
    match &fleet.answer {
        _ if fleet.waits => lines.push((1, format!("respond: {{wait: {WAIT}}}"))),
        Some(Answer { status, content_type, body }) => {
            let (content_type, body) = (scalar(content_type), scalar(body));
            lines.push((1, "respond:".to_owned()));
            lines.push((2, format!("status: {status}")));
            lines.push((2, format!("content_type: {content_type}")));
            lines.push((2, format!("body: {body}")));
        }
        None => {}
    }
    if fleet.keep_path {
        lines.push((1, "keep_path: true".to_owned()));
    }
    if !lines.is_empty() {
        lines.insert(0, (0, "webhook:".to_owned()));
    }
    lines
}

/// The checks in the flow style. Those of one scheme are one with several secrets.
fn verification(checks: &[Check]) -> Vec<String> {
    let mut order = Vec::new();
    let mut secrets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for check in checks {
        for scheme in &check.schemes {
            let known = secrets.entry(scheme).or_default();
            if known.is_empty() {
                order.push(scheme.as_str());
            }
            if !known.contains(&check.secret.as_str()) {
                known.push(check.secret.as_str());
            }
        }
    }
    let written = |scheme: &str| match secrets.get(scheme).map(Vec::as_slice) {
        Some([only]) => format!("{{{scheme}, secret: {}}}", scalar(only)),
        Some(several) => format!("{{{scheme}, secret: [{}]}}", several.join(", ")),
        None => String::new(),
    };
    order.into_iter().map(written).collect()
}

/// The variables, those that carry the content of files included.
fn variables(fleet: &Fleet) -> Vec<(String, String)> {
    let given = fleet.environment.iter().map(|(name, it)| (name.clone(), value(it, false)));
    let contents = fleet.files.iter().enumerate().filter_map(|(at, file)| match file {
        PassedFile::Body { .. } => None,
        PassedFile::Value { value: it, .. } => Some((format!("{CONTENT}{at}"), value(it, false))),
    });
    given.chain(contents).collect()
}

/// What stands before the program to make its files: a shell that writes them and becomes the program. No
/// text of a request is part of the script.
fn wrapper(files: &[PassedFile]) -> Vec<String> {
    if files.is_empty() {
        return Vec::new();
    }
    let mut script = String::from("set -e; umask 077");
    for (at, file) in files.iter().enumerate() {
        let _ = match file {
            PassedFile::Body { name } => {
                write!(script, "; {name}=\"${{SHIPYARD_WEBHOOK_BODY_FILE-}}\"; export {name}")
            }
            PassedFile::Value { name, decodes, .. } => {
                let decode = if *decodes { " | base64 -d" } else { "" };
                write!(
                    script,
                    "; {name}=\"$SHIPYARD_LOG_WORKDIR/hook-file-{at}\"; export {name}; printf %s \
                     \"${{{CONTENT}{at}-}}\"{decode} > \"${name}\"; unset {CONTENT}{at}"
                )
            }
        };
    }
    script.push_str("; exec \"$0\" \"$@\"");
    vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
}
