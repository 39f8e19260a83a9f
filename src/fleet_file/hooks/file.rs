//! One hook, key by key.

use super::super::cursor::Cursor;
use super::super::node::Position;
use super::argument::{Reference, Value};
use super::rule::{Guard, RuleReader};
use super::secret::FoundSecrets;
use super::template::Templates;
use super::write::{self, Answer, Fleet, PassedFile};
use super::{ImportedHook, Note, Wishes};
use crate::fleet_file::parse_yaml;
use crate::fleet_file::read::environment;

/// The keys of a hook, and the step that reads each, in this order.
type Step = fn(&mut Hook<'_>, &Cursor<'_>) -> Result<(), Note>;
const KEYS: &[(&str, Step)] = &[
    ("id", |_, _| Ok(())),
    ("execute-command", |hook, value| hook.command(value)),
    ("command-working-directory", |hook, value| hook.directory(value)),
    ("pass-arguments-to-command", |hook, value| hook.arguments(value)),
    ("pass-environment-to-command", |hook, value| hook.environment(value)),
    ("pass-file-to-command", |hook, value| hook.files(value)),
    ("trigger-rule", |hook, value| hook.rule(value)),
    ("trigger-rule-mismatch-http-response-code", |hook, value| hook.mismatch(value)),
    ("trigger-signature-soft-failures", |hook, value| {
        let message = "trigger-signature-soft-failures is not carried over: of the checks in `verify` one \
                       has to hold, whatever became of those before it";
        hook.note(value.position(), message);
        Ok(())
    }),
    ("http-methods", |hook, value| hook.methods(value)),
    ("incoming-payload-content-type", |hook, value| hook.content_type(value)),
    ("parse-parameters-as-json", |hook, value| hook.parsed_parameters(value)),
    ("response-message", |hook, value| hook.message(value)),
    ("response-headers", |hook, value| hook.headers(value)),
    ("success-http-response-code", |hook, value| hook.status(value)),
    ("include-command-output-in-response", |hook, value| hook.output(value)),
    ("include-command-output-in-response-on-error", |_, _| Ok(())),
    ("pre-hook-command", |_, cursor| {
        let message = "pre-hook-command cannot be carried over: no command decides about a request";
        Err(Note::refusal(cursor.position(), message))
    }),
];

/// A hook while it is read.
pub(super) struct Hook<'a> {
    cursor: &'a Cursor<'a>,
    wishes: &'a Wishes,
    templates: &'a Templates,
    secrets: &'a mut FoundSecrets,
    id: String,
    fleet: Fleet,
    notes: Vec<Note>,
}

impl<'a> Hook<'a> {
    pub fn new(
        cursor: &'a Cursor<'a>,
        wishes: &'a Wishes,
        templates: &'a Templates,
        secrets: &'a mut FoundSecrets,
    ) -> Self {
        let (id, fleet) = (String::new(), Fleet::default());
        Self { cursor, wishes, templates, secrets, id, fleet, notes: Vec::new() }
    }

    /// Reads the hook. What is wrong is in the notes.
    pub fn read(&mut self) {
        let entries = match self.cursor.mapping() {
            Ok(entries) => entries,
            Err(error) => return self.notes.push(error.into()),
        };
        let entry = |name: &str| {
            entries.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        match entry("id").map(|id| self.text(id)) {
            Some(Ok(id)) if !id.is_empty() => self.id = id,
            Some(Err(note)) => self.notes.push(note),
            _ => self.notes.push(Note::refusal(self.cursor.position(), "the hook has no id")),
        }
        self.name();
        if entry("execute-command").is_none() {
            let message = "the hook has no execute-command";
            self.notes.push(Note::refusal(self.cursor.position(), message));
        }
        for (name, step) in KEYS {
            let Some(value) = entry(name).filter(|value| !value.is_null()) else { continue };
            if let Err(note) = step(self, value) {
                self.notes.push(note);
            }
        }
        for (key, value) in &entries {
            if !KEYS.iter().any(|(known, _)| key.eq_ignore_ascii_case(known)) {
                let message = format!("`{key}` is not known, and nothing of it is carried over");
                self.notes.push(Note::new(value.position(), message));
            }
        }
        self.keep_path();
    }

    /// The result. A fleet that this server would refuse is a refusal with its words.
    pub fn finish(mut self) -> ImportedHook {
        let line = self.cursor.position().line;
        self.notes.sort();
        self.notes.dedup();
        let is_refused = self.notes.iter().any(|note| note.is_refusal);
        let mut yaml = (!is_refused).then(|| write::yaml(&self.fleet, &self.id, line, &self.notes));
        if let Some(Err(error)) = yaml.as_deref().map(parse_yaml) {
            let note = Note::from(error);
            self.notes.push(Note { line, ..note });
            yaml = None;
        }
        ImportedHook { id: self.id, line, name: self.fleet.name, yaml, notes: self.notes }
    }

    fn name(&mut self) {
        self.fleet.name = self.id.replace('/', "-");
        self.fleet.project = self.wishes.project.clone();
        if self.fleet.name != self.id {
            let message = format!("the name of a fleet has no slash: it is {:?}", self.fleet.name);
            self.notes.push(Note::new(self.cursor.position(), message));
        }
    }

    fn text(&self, cursor: &Cursor<'_>) -> Result<String, Note> {
        let text = self.templates.resolve(cursor.text()?);
        text.map_err(|why| Note::refusal(cursor.position(), why))
    }

    fn note(&mut self, position: Position, message: impl Into<String>) {
        self.notes.push(Note::new(position, message));
    }

    fn command(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        let command = self.text(cursor)?;
        let directory = self.cursor.entry("command-working-directory");
        let directory = directory.filter(|it| !it.is_null() && it.text() != Ok(""));
        if directory.is_none() {
            let message = "it starts in the directory of its run, not in that of the server; \
                           command-working-directory would say where";
            self.note(cursor.position(), message);
        }
        // The project looks for a relative command in the working directory, if there is one.
        self.fleet.program = match command.starts_with(['/', '.']) || directory.is_none() {
            true => command,
            false => format!("./{command}"),
        };
        Ok(())
    }

    fn directory(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        let directory = self.text(cursor)?;
        if !directory.is_empty() && !directory.starts_with('/') {
            let message = "the working directory is not absolute; write where it is";
            return Err(Note::refusal(cursor.position(), message));
        }
        self.fleet.directory = Some(directory).filter(|it| !it.is_empty());
        Ok(())
    }

    fn references<'c>(&mut self, cursor: &Cursor<'c>) -> Result<Vec<Reference<'c>>, Note> {
        let items = cursor.sequence()?;
        let read = |item| Reference::read(item, self.templates, &mut self.notes);
        items.iter().map(read).collect()
    }

    fn arguments(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        let references = self.references(cursor)?;
        self.fleet.arguments = references.into_iter().map(|it| it.value).collect();
        Ok(())
    }

    fn environment(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        for reference in self.references(cursor)? {
            let name = self.variable(&reference, reference.variable(self.templates)?)?;
            self.fleet.environment.push((name, reference.value));
        }
        Ok(())
    }

    /// A name that a variable can have.
    fn variable(&mut self, reference: &Reference<'_>, name: String) -> Result<String, Note> {
        let position = reference.cursor.position();
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        let plain: String = name.chars().map(letter).collect();
        if plain != name {
            self.note(position, format!("the variable `{name}` is called {plain}"));
        }
        environment::check_name(&plain).map_err(|why| Note::refusal(position, why))?;
        let is_taken = self.fleet.environment.iter().any(|(known, _)| *known == plain);
        match is_taken {
            true => Err(Note::refusal(position, format!("the variable {plain} is set twice"))),
            false => Ok(plain),
        }
    }

    fn files(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        for reference in self.references(cursor)? {
            let position = reference.cursor.position();
            let given = reference.variable(self.templates)?;
            let name = match given.strip_prefix("HOOK_") {
                Some(rest) if reference.cursor.entry("envname").is_none() => {
                    format!("HOOK_{}", rest.to_uppercase())
                }
                _ => given,
            };
            let name = self.variable(&reference, name)?;
            let decodes = match reference.cursor.entry("base64decode") {
                Some(decodes) => decodes.truth()?,
                None => false,
            };
            let file = match (&reference.value, decodes) {
                (Value::Computed(text), false) if text == "text" => PassedFile::Body { name },
                (value, _) => {
                    let message = "the content of the file passes through a variable, so it has at \
                                   most 128 KiB and no NUL";
                    self.note(position, message);
                    PassedFile::Value { name, value: value.clone(), decodes }
                }
            };
            self.note(position, "the file is in the directory of the run, and goes with it");
            self.fleet.files.push(file);
        }
        Ok(())
    }

    fn rule(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        let mut reader = RuleReader {
            id: &self.id,
            templates: self.templates,
            secrets: self.secrets,
            notes: &mut self.notes,
        };
        self.fleet.guard = reader.guard(cursor)?;
        Ok(())
    }

    fn mismatch(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        let Guard { checks, allow, when } = &self.fleet.guard;
        let mut answers = Vec::new();
        for (is_there, answer) in [
            (!checks.is_empty(), "401 to a sender that is not verified"),
            (!allow.is_empty(), "400 to another address"),
            (!when.is_empty(), "200 where `when` is false"),
        ] {
            answers.extend(is_there.then_some(answer));
        }
        let message = format!(
            "trigger-rule-mismatch-http-response-code is not carried over: the answer is {}",
            answers.join(", ")
        );
        self.note(cursor.position(), message);
        Ok(())
    }

    fn methods(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        let mut others = Vec::new();
        let mut takes_post = false;
        for method in cursor.sequence()? {
            let method = self.text(&method)?.trim().to_ascii_uppercase();
            match method == "POST" {
                true => takes_post = true,
                false => others.push(method),
            }
        }
        let others = others.join(", ");
        match (takes_post, others.is_empty()) {
            (_, true) => {}
            (true, false) => {
                self.note(
                    cursor.position(),
                    format!("{others} gets 405: POST alone starts a fleet"),
                );
            }
            (false, false) => {
                let message =
                    format!("POST alone starts a fleet; let the sender POST, not {others}");
                return Err(Note::refusal(cursor.position(), message));
            }
        }
        Ok(())
    }

    fn content_type(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        let content_type = self.text(cursor)?.to_ascii_lowercase();
        if content_type.contains("json") {
            let message = "every payload that is JSON is read as JSON, unless its sender calls it a \
                           form";
            self.note(cursor.position(), message);
            return Ok(());
        }
        let message =
            format!("a payload is not taken for {content_type} when its sender says otherwise");
        match self.reads_payload() {
            true => Err(Note::refusal(cursor.position(), message)),
            false => {
                self.note(cursor.position(), message);
                Ok(())
            }
        }
    }

    /// Whether a value or a condition looks into the payload.
    fn reads_payload(&self) -> bool {
        let values = self.fleet.arguments.iter();
        let values = values.chain(self.fleet.environment.iter().map(|(_, value)| value));
        let computed = values.filter_map(|value| match value {
            Value::Computed(text) => Some(text),
            Value::Literal(_) => None,
        });
        computed.chain(&self.fleet.guard.when).any(|text| text.contains("body"))
    }

    fn parsed_parameters(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        for reference in self.references(cursor)? {
            if (reference.source.as_str(), reference.name.as_str()) != ("payload", "payload") {
                let message = format!(
                    "`{}` is not parsed: of a form, JSON in the field `payload` is",
                    reference.name
                );
                return Err(Note::refusal(reference.cursor.position(), message));
            }
        }
        Ok(())
    }

    fn message(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        let message = self.text(cursor)?;
        self.answer().body = message;
        Ok(())
    }

    fn status(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        let text = self.text(cursor)?;
        let status = text.parse().ok().filter(|status| (200..600).contains(status));
        let status = status.ok_or_else(|| {
            Note::refusal(cursor.position(), format!("`{text}` is no status of an answer"))
        })?;
        self.answer().status = status;
        Ok(())
    }

    fn headers(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        for header in cursor.sequence()? {
            let text = |key: &str| match header.entry(key) {
                Some(value) => self.text(&value),
                None => Ok(String::new()),
            };
            let (name, value) = (text("name")?, text("value")?);
            match name.eq_ignore_ascii_case("content-type") {
                true => self.answer().content_type = value,
                false => {
                    let message = format!("the header {name} of the response is not carried over");
                    self.note(header.position(), message);
                }
            }
        }
        Ok(())
    }

    /// The fixed answer.
    fn answer(&mut self) -> &mut Answer {
        self.fleet.answer.get_or_insert_default()
    }

    fn output(&mut self, cursor: &Cursor<'_>) -> Result<(), Note> {
        if !cursor.truth()? {
            return Ok(());
        }
        self.fleet.waits = true;
        let message = "the sender waits up to 5 minutes for the output, and then gets 202";
        self.note(cursor.position(), message);
        let on_error = self.cursor.entry("include-command-output-in-response-on-error");
        let shows_errors = match on_error {
            Some(on_error) => on_error.truth()?,
            None => false,
        };
        if !shows_errors {
            let message = "the output of a command that fails is sent too, with 500";
            self.note(cursor.position(), message);
        }
        if self.fleet.answer.take().is_some_and(|answer| answer != Answer::default()) {
            let message = "message, status and headers of the response are not carried over: the \
                           output is the answer, with 200; a command may write others to \
                           $BOATHOOK_RESPONSE_FILE";
            self.note(cursor.position(), message);
        }
        Ok(())
    }

    fn keep_path(&mut self) {
        let is_refused = self.notes.iter().any(|note| note.is_refusal);
        if !self.wishes.keep_paths || is_refused {
            return;
        }
        let Guard { checks, allow, .. } = &self.fleet.guard;
        let why_not = if self.fleet.name != self.id {
            "the id has a slash"
        } else if checks.is_empty() && allow.is_empty() {
            "nothing but the id guards it; give it a signature, a token or a list of addresses"
        } else {
            self.fleet.keep_path = true;
            return;
        };
        let message = format!("it does not answer at /hooks/{}: {why_not}", self.id);
        self.note(self.cursor.position(), message);
    }
}
