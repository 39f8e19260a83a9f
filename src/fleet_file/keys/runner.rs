//! The key `runner` of a fleet and of a vessel.

use serde_json::{Map, Value};

use super::values::scalar;
use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::Cursor;
use crate::fleet_file::keys;
use crate::fleet_file::read::check_argument;
use crate::model::duration::format_duration;
use crate::model::runner::{
    CLEANUP_TIMEOUT, CLEANUP_TIMEOUT_MAX, NO_RUNNER, Runner, RunnerChoice, check_runner,
    check_runner_name,
};

const KEYS: [&str; 3] = ["command", "cleanup", "cleanup_timeout"];

/// Words, a mapping of both commands, a name, or `none`; `None` where nothing is written.
pub fn runner(cursor: &Cursor<'_>) -> Result<Option<RunnerChoice>, FleetFileError> {
    if cursor.is_null() {
        return Ok(None);
    }
    let mut runner = Runner::default();
    if cursor.is_sequence() {
        runner.command = words(cursor)?;
    } else if cursor.is_mapping() {
        let fields = cursor.fields(&KEYS)?;
        let command = |key| fields.get(key).map_or(Ok(Vec::new()), words);
        runner.command = command("command")?;
        runner.cleanup = command("cleanup")?;
        if let Some(timeout) = fields.get("cleanup_timeout") {
            runner.cleanup_timeout = keys::duration(timeout, CLEANUP_TIMEOUT_MAX)?;
            if runner.cleanup.is_empty() {
                return Err(timeout.invalid_key("there is no `cleanup` that it could be for"));
            }
        }
    } else {
        return match cursor.text()? {
            NO_RUNNER => Ok(Some(RunnerChoice::None)),
            name => {
                check_runner_name(name).map_err(|message| cursor.invalid(message))?;
                Ok(Some(RunnerChoice::Named(name.to_owned())))
            }
        };
    }
    check_runner(&runner).map_err(|message| cursor.invalid(message))?;
    Ok(Some(RunnerChoice::Own(runner)))
}

fn words(cursor: &Cursor<'_>) -> Result<Vec<String>, FleetFileError> {
    let word = |item: &Cursor<'_>| {
        let word = item.text()?;
        check_argument(word).map_err(|message| item.invalid(message))?;
        Ok(word.to_owned())
    };
    match cursor.is_null() {
        true => Ok(Vec::new()),
        false => cursor.sequence()?.iter().map(word).collect(),
    }
}

/// The same in YAML, on one line.
pub fn yaml(choice: &RunnerChoice) -> String {
    let words = |words: &[String]| {
        format!("[{}]", words.iter().map(|it| scalar(it)).collect::<Vec<_>>().join(", "))
    };
    let runner = match choice {
        RunnerChoice::None => return NO_RUNNER.to_owned(),
        RunnerChoice::Named(name) => return scalar(name),
        RunnerChoice::Own(runner) if runner.cleanup.is_empty() => return words(&runner.command),
        RunnerChoice::Own(runner) => runner,
    };
    let commands = [("command", &runner.command), ("cleanup", &runner.cleanup)].into_iter();
    let mut fields: Vec<String> = commands
        .filter(|(_, command)| !command.is_empty())
        .map(|(key, command)| format!("{key}: {}", words(command)))
        .collect();
    if runner.cleanup_timeout != CLEANUP_TIMEOUT {
        fields.push(format!("cleanup_timeout: {}", format_duration(runner.cleanup_timeout)));
    }
    format!("{{{}}}", fields.join(", "))
}

/// The same as the API shows it: a name, `none`, or a mapping of both commands.
pub fn json(choice: Option<&RunnerChoice>) -> Value {
    let runner = match choice {
        None => return Value::Null,
        Some(RunnerChoice::None) => return NO_RUNNER.into(),
        Some(RunnerChoice::Named(name)) => return name.as_str().into(),
        Some(RunnerChoice::Own(runner)) => runner,
    };
    let timeout = u64::try_from(runner.cleanup_timeout.as_millis()).unwrap_or(u64::MAX);
    let fields = [
        ("command", runner.command.clone().into()),
        ("cleanup", runner.cleanup.clone().into()),
        ("cleanup_timeout_ms", timeout.into()),
    ];
    Value::Object(
        fields
            .map(|(key, value): (_, Value)| (key.to_owned(), value))
            .into_iter()
            .collect::<Map<_, _>>(),
    )
}
