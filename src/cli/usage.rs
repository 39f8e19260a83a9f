//! Reads the command line and the environment, and says what is wrong with them.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, CommandFactory, FromArgMatches};

use super::{Cli, output};
use crate::os::logging;

/// Reads the command line and the environment. Ends the process where these ask for help or are
/// wrong.
pub(super) fn parse() -> Cli {
    let command = without_empty_variables(Cli::command());
    let parsed = command
        .clone()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| with_variable(error, &command, &std::env::args_os().collect::<Vec<_>>()));
    parsed.unwrap_or_else(|error| {
        if error.use_stderr() && logging::writes_to_journal() {
            output::fail(error.to_string().trim_end());
            std::process::exit(error.exit_code());
        }
        error.exit()
    })
}

/// A variable without a value is unset, as `Environment=BOATHOOK_WORKERS=` in a drop-in means it.
fn without_empty_variables(command: Command) -> Command {
    let is_empty = |argument: &Arg| {
        argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|argument| if is_empty(&argument) { argument.env(None) } else { argument })
        .mut_subcommands(without_empty_variables)
}

/// `error`, which names the variable instead of the flag where the value came from there.
fn with_variable(mut error: clap::Error, command: &Command, words: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    // It is shown as `--workers <N>`.
    let flag = shown.split_whitespace().next().unwrap_or_default().to_owned();
    // A flag outranks its variable.
    let is_flag = words.iter().any(|word| {
        let rest = word.to_str().and_then(|word| word.strip_prefix(flag.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    if let Some(variable) = variable_of(command, &flag)
        && !is_flag
    {
        let variable = variable.to_string_lossy().into_owned();
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

/// The variable of the argument with `flag`, of any verb.
fn variable_of<'a>(command: &'a Command, flag: &str) -> Option<&'a OsStr> {
    let long = flag.strip_prefix("--");
    let own = command.get_arguments().find(|argument| argument.get_long() == long);
    own.filter(|_| long.is_some())
        .and_then(Arg::get_env)
        .or_else(|| command.get_subcommands().find_map(|verb| variable_of(verb, flag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_a_variable_is_refused_by_its_name() {
        let command = || {
            let workers = Arg::new("workers").long("workers").env("PATH").value_name("N");
            let workers = workers.value_parser(clap::value_parser!(u16));
            Command::new("boathook").subcommand(Command::new("serve").arg(workers))
        };
        for (words, expected) in [
            (vec!["boathook", "serve"], "for 'PATH'"),
            (vec!["boathook", "serve", "--workers", "x"], "for '--workers <N>'"),
            (vec!["boathook", "serve", "--workers=x"], "for '--workers <N>'"),
        ] {
            let error = command().try_get_matches_from(&words).unwrap_err();
            let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
            let message = with_variable(error, &command(), &words).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
