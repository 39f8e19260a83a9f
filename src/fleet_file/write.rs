//! A definition as YAML that reads back to the same definition. A writer for the few shapes that a
//! fleet file has, so that scripts stay readable blocks and short lists stay on one line.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::keys::{self, Key, Kind};
use crate::model::computed::{self as command, ComputedValue};
use crate::model::fleet::{FleetDefinition, Program, VesselDefinition};
use crate::model::ids::FleetId;
use crate::model::notification::{EmailNotifications, Format, Notify, Target};
use crate::model::package::Package;
use crate::model::schedule::{Hosted, Schedule};
use crate::model::source::{Argument, Code, Origin};
use crate::model::variable::{FixedValue, VariableValue};

/// The fleet file of `definition`. With an `id` the ids of the fleet and its vessels are written
/// and [`super::parse_yaml`] gives back the same; without, the file describes a copy that gets ids
/// of its own.
pub fn to_yaml(definition: &FleetDefinition, project: &str, id: Option<FleetId>) -> String {
    let mut text = id.map(|id| format!("_id: {id}\n")).unwrap_or_default();
    for (key, section) in sections(definition, id.is_some()) {
        text.push_str(&section);
        if key == "name" {
            text.push_str(&text_entry("project", project));
        }
    }
    text
}

/// The entries of a fleet file by their keys, all but `project`. Those that are default are empty.
pub(super) fn sections(
    definition: &FleetDefinition,
    with_ids: bool,
) -> Vec<(&'static str, String)> {
    let section = |write: &dyn Fn(&mut Writer)| {
        let mut out = Writer(String::new());
        write(&mut out);
        out.0
    };
    let mut sections = vec![
        ("name", text_entry("name", &definition.name)),
        ("vessels", section(&|out| out.vessels(&definition.vessels, with_ids))),
        ("connections", section(&|out| out.connections(definition))),
    ];
    let regular = keys::FLEET.iter().filter(|key| !matches!(key.kind, Kind::ByHand));
    sections.extend(
        regular.map(|key| {
            (key.name, section(&|out| out.keys(0, std::slice::from_ref(key), definition)))
        }),
    );
    sections.extend([
        ("webhook", section(&|out| out.block(0, "webhook", keys::WEBHOOK, &definition.webhook))),
        ("schedules", section(&|out| out.schedules(&definition.schedules))),
        ("triggers", section(&|out| out.triggers(&definition.schedules))),
        ("notifications", section(&|out| out.notifications(0, definition.notifications.as_ref()))),
        ("notify", section(&|out| out.notify(&definition.notify))),
    ]);
    sections
}

/// The entry `key` of a fleet file with this text as its value.
pub(super) fn text_entry(key: &str, text: &str) -> String {
    let mut out = Writer(String::new());
    out.text(0, key, text);
    out.0
}

struct Writer(String);

impl Writer {
    fn vessels(&mut self, vessels: &[VesselDefinition], with_ids: bool) {
        self.heading(0, "vessels");
        for vessel in vessels {
            self.vessel(vessel, with_ids);
        }
    }

    fn vessel(&mut self, vessel: &VesselDefinition, with_id: bool) {
        self.heading(1, &vessel.name);
        if with_id {
            self.line(2, "_id", &vessel.id.to_string());
        }
        match &vessel.program {
            Program::Command(arguments) => {
                self.list(2, "command", arguments.iter().map(argument));
            }
            Program::Script(script) => self.text(2, "run", script),
            Program::Code(code) => self.source(code, &vessel.environment),
        }
        if let Some(directory) = &vessel.working_directory {
            self.text(2, "working_directory", directory);
        }
        let is_in_source = matches!(vessel.program, Program::Code(_));
        if !vessel.environment.is_empty() && !is_in_source {
            self.heading(2, "environment");
            for (name, value) in &vessel.environment {
                self.variable(3, name, value);
            }
        }
        self.block(2, "guardrails", keys::GUARDRAILS, &vessel.guardrails);
        if let Some(runner) = &vessel.runner {
            self.line(2, "runner", &keys::runner::yaml(runner));
        }
        self.block(2, "limits", keys::LIMITS, &vessel.confinement.limits);
        self.keys(2, keys::VESSEL, &vessel.confinement);
        self.notifications(2, vessel.notifications.as_ref());
    }

    fn notifications(&mut self, level: usize, notifications: Option<&EmailNotifications>) {
        let Some(EmailNotifications { emails, after_error, after_on_demand }) = notifications
        else {
            return;
        };
        self.heading(level, "notifications");
        self.list(level + 1, "emails", emails.iter().map(|email| scalar(email)));
        for (key, flag) in [("after_error", after_error), ("after_on_demand", after_on_demand)] {
            if *flag {
                self.line(level + 1, key, "true");
            }
        }
    }

    /// The hosted system's form of a program, its variables included.
    fn source(&mut self, code: &Code, environment: &[(String, VariableValue)]) {
        self.heading(2, "source");
        self.line(3, "type", "CODE");
        self.line(3, "language", code.language.word());
        if let Some(version) = &code.version {
            self.text(3, "version", version);
        }
        match &code.origin {
            Origin::File { name, content } => {
                self.heading(3, "file");
                self.text(4, "name", name);
                self.text(4, "content", content);
            }
            Origin::Archive { name, archive } => {
                self.heading(3, "file");
                self.text(4, "name", name);
                self.line(4, "archive", &archive.to_base64());
            }
            Origin::Git(git) => {
                self.heading(3, "git");
                self.text(4, "repository", &git.repository);
                if let Some(point) = &git.checkout_point {
                    self.text(4, "checkout_point", point);
                }
                self.line(4, "clone_location", git.clone_location.word());
            }
        }
        self.text(3, "file_to_run", &code.file_to_run);
        if !code.arguments.is_empty() {
            self.heading(3, "arguments");
            for Argument { key, value } in &code.arguments {
                let parts = [("key", key), ("value", value)].map(|(name, text)| {
                    text.as_ref().map(|text| format!("{name}: {}", scalar(text)))
                });
                self.item(
                    4,
                    &format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", ")),
                );
            }
        }
        if !code.packages.is_empty() {
            self.heading(3, "packages");
            for Package { name, version } in &code.packages {
                let version = version.as_ref();
                let version = version.map(|version| format!(", version: {}", scalar(version)));
                let version = version.unwrap_or_default();
                self.item(4, &format!("{{name: {}{version}}}", scalar(name)));
            }
        }
        if !code.system_packages.is_empty() {
            self.heading(3, "system_packages");
            for name in &code.system_packages {
                self.item(4, &format!("{{name: {}}}", scalar(name)));
            }
        }
        if !environment.is_empty() {
            self.heading(3, "environment");
            for (name, value) in environment {
                self.item(4, &format!("name: {name}"));
                self.variable(5, "value", value);
            }
        }
    }

    /// A variable's value under `key`.
    fn variable(&mut self, level: usize, key: &str, value: &VariableValue) {
        match value {
            VariableValue::Fixed(value) => self.value(level, key, value),
            VariableValue::Computed(value) => self.line(level, key, &computed(value)),
        }
    }

    /// A value that no request decides, under `key`.
    fn value(&mut self, level: usize, key: &str, value: &FixedValue) {
        match value {
            FixedValue::Literal(text) => self.text(level, key, text),
            FixedValue::Secret { secret } => {
                self.line(level, key, &format!("{{secret: {}}}", scalar(secret.as_str())));
            }
        }
    }

    fn notify(&mut self, entries: &[Notify]) {
        if !entries.is_empty() {
            self.heading(0, "notify");
        }
        for Notify { on, target } in entries {
            let words: Vec<_> = on.iter().map(|status| status.to_string().to_uppercase()).collect();
            self.item(1, &format!("on: [{}]", words.join(", ")));
            match target {
                Target::Command(command) => {
                    self.list(2, "command", command.iter().map(|word| scalar(word)));
                }
                Target::Url { url, secret, format } => {
                    self.value(2, "url", url);
                    if let Some(secret) = secret {
                        self.line(2, "secret", &scalar(secret.as_str()));
                    }
                    if *format != Format::default() {
                        self.line(2, "format", format.word());
                    }
                }
            }
        }
    }

    /// Schedules in our own form.
    fn schedules(&mut self, schedules: &[Schedule]) {
        let is_own = |it: &&Schedule| it.hosted.is_none();
        for (index, schedule) in schedules.iter().filter(is_own).enumerate() {
            if index == 0 {
                self.heading(0, "schedules");
            }
            let default = Schedule::default();
            let value = |key: &Key<Schedule>| {
                let value = key.yaml(schedule)?;
                let is_said = key.name == "cron" || key.yaml(&default).as_ref() != Some(&value);
                is_said.then(|| format!("{}: {value}", key.name))
            };
            let values: Vec<_> = keys::SCHEDULE.iter().filter_map(value).collect();
            self.item(1, &format!("{{{}}}", values.join(", ")));
        }
    }

    /// Schedules in the words of the hosted system.
    fn triggers(&mut self, schedules: &[Schedule]) {
        for (index, hosted) in schedules.iter().filter_map(|it| it.hosted.as_ref()).enumerate() {
            if index == 0 {
                self.heading(0, "triggers");
                self.heading(1, "schedules");
            }
            let Hosted { how_often, at, when } = hosted;
            let when = when.iter().map(|when| format!(", when: {}", scalar(when)));
            let when: String = when.collect();
            self.item(2, &format!("{{how_often: {}, at: {}{when}}}", how_often.word(), scalar(at)));
        }
    }

    /// A block of keys, unless all of them have their defaults.
    fn block<T: Default + PartialEq>(
        &mut self,
        level: usize,
        key: &str,
        table: &[Key<T>],
        block: &T,
    ) {
        if *block != T::default() {
            self.heading(level, key);
            self.keys(level + 1, table, block);
        }
    }

    /// The keys in `table` whose values are not their defaults, but for those that are written by hand.
    fn keys<T: Default>(&mut self, level: usize, table: &[Key<T>], block: &T) {
        let default = T::default();
        for key in table {
            match key.yaml(block) {
                Some(value) if key.yaml(&default).as_ref() != Some(&value) => {
                    self.line(level, key.name, &value);
                }
                _ => {}
            }
        }
    }

    /// Paths grouped by the vessel they start from, each group where its first path stands.
    fn connections(&mut self, definition: &FleetDefinition) {
        if definition.paths.is_empty() {
            return;
        }
        self.heading(0, "connections");
        let name = |index: u16| definition.vessels.get(usize::from(index)).map(|v| v.name.as_str());
        let mut written = BTreeSet::new();
        for first in &definition.paths {
            let Some(from) = name(first.from).filter(|_| written.insert(first.from)) else {
                continue;
            };
            self.heading(1, from);
            for path in definition.paths.iter().filter(|path| path.from == first.from) {
                if let Some(to) = name(path.to) {
                    self.line(2, to, path.condition.word());
                }
            }
        }
    }

    fn heading(&mut self, level: usize, key: &str) {
        self.key(level, key);
        self.0.push('\n');
    }

    /// An entry whose value is YAML already.
    fn line(&mut self, level: usize, key: &str, value: &str) {
        self.key(level, key);
        self.0.push(' ');
        self.0.push_str(value);
        self.0.push('\n');
    }

    /// An item of a list, as YAML already. What belongs to it follows a level deeper.
    fn item(&mut self, level: usize, text: &str) {
        self.indent(level);
        self.0.push_str("- ");
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A list on one line, of items that are YAML already.
    fn list(&mut self, level: usize, key: &str, items: impl Iterator<Item = String>) {
        self.line(level, key, &format!("[{}]", items.collect::<Vec<_>>().join(", ")));
    }

    /// An entry whose value is text: a literal block when that shows it exactly.
    fn text(&mut self, level: usize, key: &str, text: &str) {
        let Some(chomping) = block_chomping(text) else {
            return self.line(level, key, &scalar(text));
        };
        self.line(level, key, &format!("|{chomping}"));
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            if !line.is_empty() {
                self.indent(level + 1);
                self.0.push_str(line);
            }
            self.0.push('\n');
        }
    }

    fn key(&mut self, level: usize, key: &str) {
        self.indent(level);
        self.0.push_str(&scalar(key));
        self.0.push(':');
    }

    fn indent(&mut self, level: usize) {
        self.0.extend(std::iter::repeat_n("  ", level));
    }
}

fn argument(argument: &command::Argument) -> String {
    match argument {
        command::Argument::Literal(text) => scalar(text),
        command::Argument::Computed(value) => computed(value),
    }
}

fn computed(value: &ComputedValue) -> String {
    let ComputedValue { expr, default, allow_dash } = value;
    let default = default.iter().map(|text| format!(", default: {}", scalar(text)));
    let allow_dash = allow_dash.then(|| ", allow_dash: true".to_owned());
    let more: String = default.chain(allow_dash).collect();
    format!("{{expr: {}{more}}}", scalar(expr.text()))
}

/// How a literal block has to end to hold exactly `text`; `None` when a block cannot: a single
/// line, a first line that would set the indentation, or characters that a block cannot carry.
fn block_chomping(text: &str) -> Option<&'static str> {
    let fits = text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && text.chars().all(|character| character == '\n' || is_shown(character))
        && text.split('\n').all(|line| line.is_empty() || !line.trim().is_empty());
    if !fits {
        return None;
    }
    Some(match text.strip_suffix('\n') {
        None => "-",
        Some(rest) if rest.ends_with('\n') => "+",
        Some(_) => "",
    })
}

/// Whether a character can stand in YAML as itself and a reader sees it: no breaks, controls,
/// byte order marks or turns of direction.
fn is_shown(character: char) -> bool {
    match character {
        '\t' => true,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => false,
        '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        _ => !character.is_control(),
    }
}

/// A scalar on one line, for a key, a value or an item of a list.
pub fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { double_quoted(text) }
}

/// Whether `text` without quotes reads as the same text, here and in other readers of YAML. Errs
/// on the side of quotes.
fn is_plain(text: &str) -> bool {
    let inner = |character: char| character.is_alphanumeric() || " _./+@%=-:".contains(character);
    let first = |character: char| character.is_alphanumeric() || "_./-".contains(character);
    text.starts_with(first)
        && text.chars().all(inner)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        // A dash of its own may be taken for an item of a list, at the end of a list too.
        && !text.split(' ').any(|word| word == "-")
        && !text.starts_with("---")
        && text != "..."
        && !means_something_else(text)
}

/// Whether YAML 1.1 or 1.2 takes the bare text for a truth value, null, a number or a date.
fn means_something_else(text: &str) -> bool {
    const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    let not_a_number = [".inf", "-.inf", ".nan"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let numeric = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first))
        && text.contains(|character: char| character.is_ascii_digit())
        && text
            .chars()
            .all(|character| character.is_ascii_hexdigit() || " _.:+-xXoOtTzZ".contains(character));
    word || not_a_number || numeric
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            shown if is_shown(shown) => quoted.push(shown),
            // Eight digits hold every character. Writing to a string cannot fail.
            hidden => drop(write!(quoted, "\\U{:08X}", u32::from(hidden))),
        }
    }
    quoted.push('"');
    quoted
}
