//! The runners of a configuration: `[runners.NAME]` in boathook.toml.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ConfigError, Period};
use crate::model::runner::{CLEANUP_TIMEOUT, Runner, Runners, check_runner, check_runner_name};

/// One runner, as the file has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunnerTable {
    command: Vec<String>,
    cleanup: Vec<String>,
    cleanup_timeout: Option<Period>,
}

/// The runners in `tables`, and which of them is the default.
pub(super) fn runners(
    tables: BTreeMap<String, RunnerTable>,
    default: Option<String>,
) -> Result<Runners, ConfigError> {
    let refused = |key, message| ConfigError::Value { key, message };
    let mut named = BTreeMap::new();
    for (name, table) in tables {
        let RunnerTable { command, cleanup, cleanup_timeout } = table;
        let cleanup_timeout = cleanup_timeout.map_or(CLEANUP_TIMEOUT, Into::into);
        let runner = Runner { command, cleanup, cleanup_timeout };
        let has_nul =
            [&runner.command, &runner.cleanup].into_iter().flatten().any(|it| it.contains('\0'));
        let checked = check_runner_name(&name).and_then(|()| check_runner(&runner));
        checked.map_err(|message| refused("runners", format!("{name}: {message}")))?;
        if has_nul {
            let message = format!("{name}: contains a NUL, which no program can be given");
            return Err(refused("runners", message));
        }
        named.insert(name, runner);
    }
    if let Some(name) = default.as_ref().filter(|name| !named.contains_key(*name)) {
        let message = format!("there is no [runners.{name}] in boathook.toml; add it there");
        return Err(refused("default_runner", message));
    }
    Ok(Runners { named, default })
}
