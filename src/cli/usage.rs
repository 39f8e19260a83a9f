//! Reads the command line and the environment, and says what is wrong with them.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches};

use super::locate::ServerOptions;
use super::{Cli, output};
use crate::os::logging;

/// Reads the command line and the environment. Ends the process where these ask for help or are
/// wrong.
pub(super) fn parse() -> Cli {
    let command = command();
    let words = with_options_behind_the_verb(std::env::args_os().collect());
    let parsed = command
        .clone()
        .try_get_matches_from(&words)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| with_variable(with_suggestion(error, &words), &command, &words));
    parsed.unwrap_or_else(|error| {
        if error.use_stderr() && logging::writes_to_journal() {
            output::fail(error.to_string().trim_end());
            std::process::exit(error.exit_code());
        }
        error.exit()
    })
}

/// What the command line of this process says, once [`parse`] has found no fault with it.
pub(super) fn matches() -> ArgMatches {
    command().get_matches_from(with_options_behind_the_verb(std::env::args_os().collect()))
}

fn command() -> Command {
    with_options_in_one_line(without_empty_variables(Cli::command()), false)
}

/// The options that say which server is meant.
fn server_options() -> Vec<Arg> {
    ServerOptions::augment_args(Command::new("")).get_arguments().cloned().collect()
}

/// Moves the options that stand before the verb behind it, where each verb that talks to a server takes
/// them.
fn with_options_behind_the_verb(words: Vec<OsString>) -> Vec<OsString> {
    let options = server_options();
    let mut verb = 1;
    while let Some(name) = words.get(verb).and_then(|word| word.to_str()?.strip_prefix("--")) {
        let (name, has_value) = match name.split_once('=') {
            Some((name, _)) => (name, true),
            None => (name, false),
        };
        let Some(option) = options.iter().find(|option| option.get_long() == Some(name)) else {
            break;
        };
        verb += if has_value || !option.get_action().takes_values() { 1 } else { 2 };
    }
    let Some(name) = words.get(verb) else { return words };
    let mut moved = vec![words[0].clone(), name.clone()];
    moved.extend_from_slice(&words[1..verb]);
    moved.extend_from_slice(&words[verb + 1..]);
    moved
}

/// The help of a verb names these options in one line; `--help` explains them.
fn with_options_in_one_line(command: Command, has_inherited: bool) -> Command {
    let options = server_options();
    let has_own = command.get_arguments().any(|argument| argument.get_id() == "token_file");
    let has_them = has_own || has_inherited;
    let command = command.mut_subcommands(|verb| with_options_in_one_line(verb, has_them));
    if !has_them {
        return command;
    }
    let shown: Vec<String> = options
        .iter()
        .map(|option| {
            let long = option.get_long().unwrap_or_default();
            let names = option.get_value_names().filter(|_| option.get_action().takes_values());
            names.map_or_else(
                || format!("--{long}"),
                |names| format!("--{long} {}", names.join(" ")),
            )
        })
        .collect();
    let line = format!("Global options: {}", shown.join(", "));
    let after = command.get_after_help().map(ToString::to_string);
    let long = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let is_global = |argument: &Arg| options.iter().any(|it| it.get_id() == argument.get_id());
    command
        .mut_args(|argument| match is_global(&argument) {
            true => argument.hide_short_help(true),
            false => argument,
        })
        .after_help(after.map_or_else(|| line.clone(), |after| format!("{after}\n\n{line}")))
        // Empty where the verb has none: the long help explains the options themselves.
        .after_long_help(long.unwrap_or_default())
}

/// What people type for a verb that goes by another name.
const MEANT: [(&[&str], &str); 17] = [
    (&["run", "logs"], "runs logs"),
    (&["run", "list"], "runs list"),
    (&["run", "show"], "runs show"),
    (&["run", "stop"], "runs stop"),
    (&["run", "replay"], "runs replay"),
    (&["run", "body"], "runs body"),
    (&["logs"], "runs logs"),
    (&["log"], "runs logs"),
    (&["list"], "fleet list, or runs list"),
    (&["ls"], "fleet list, or runs list"),
    (&["ps"], "runs list --status Running"),
    (&["apply"], "fleet apply"),
    (&["edit"], "fleet edit"),
    (&["start"], "run"),
    (&["stop"], "runs stop"),
    (&["replay"], "runs replay"),
    (&["settings"], "config show"),
];

/// The verb that the words behind the program mean, if they are known to be said for another one.
pub(super) fn meant(words: &[OsString]) -> Option<&'static str> {
    let begins = |said: &&(&[&str], &str)| {
        words.len() >= said.0.len() && said.0.iter().zip(words).all(|(said, word)| *said == word)
    };
    MEANT.iter().find(begins).map(|(_, meant)| *meant)
}

/// `error` with the verb that was meant.
fn with_suggestion(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let is_of_a_verb =
        matches!(error.kind(), ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument);
    let Some(meant) = meant(words.get(1..).unwrap_or_default()).filter(|_| is_of_a_verb) else {
        return error;
    };
    error.remove(ContextKind::SuggestedSubcommand);
    error.remove(ContextKind::SuggestedArg);
    let tip = format!("did you mean `boathook {meant}`?");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
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

    fn words(line: &str) -> Vec<OsString> {
        ["boathook"].into_iter().chain(line.split_whitespace()).map(Into::into).collect()
    }

    #[test]
    fn options_before_the_verb_count_as_those_behind_it() {
        for (line, expected) in [
            ("--data-dir d --json fleet list", "fleet --data-dir d --json list"),
            ("--url=http://h runs show r --json", "runs --url=http://h show r --json"),
            ("--json", "--json"),
            ("--token-file", "--token-file"),
            ("--help", "--help"),
            ("--json --help", "--help --json"),
            ("fleet list --json", "fleet list --json"),
        ] {
            assert_eq!(with_options_behind_the_verb(words(line)), words(expected), "{line}");
        }
    }

    #[test]
    fn a_verb_by_another_name_is_told() {
        for (line, meant) in [
            ("logs 00aa", "boathook runs logs"),
            ("run logs 00aa --follow", "boathook runs logs"),
            ("apply f.yaml", "boathook fleet apply"),
        ] {
            let error = command().try_get_matches_from(words(line)).unwrap_err();
            let message = with_suggestion(error, &words(line)).to_string();
            assert!(message.contains(meant), "{line}: {message}");
        }
        let error = command().try_get_matches_from(words("fleet lst")).unwrap_err();
        let message = with_suggestion(error, &words("fleet lst")).to_string();
        assert!(message.contains("list") && !message.contains("did you mean `"), "{message}");
    }

    #[test]
    fn every_help_fits_80_columns_and_names_the_global_options_in_one_line() {
        fn check(command: &mut Command, path: &str) {
            let help = command.clone().term_width(80).render_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{path}: {line}");
            }
            let global =
                "Global options: --url <URL>, --token-file <FILE>, --data-dir <DIR>, --json";
            let global = global.replace(['<', '>'], "");
            if command.get_arguments().any(|argument| argument.get_id() == "token_file") {
                assert!(help.contains(&global), "{path}: {help}");
                assert!(!help.contains("Address of the admin API"), "{path}: {help}");
            }
            for verb in command.get_subcommands_mut() {
                let path = format!("{path} {}", verb.get_name());
                check(verb, &path);
            }
        }
        let mut command = command();
        command.build();
        check(&mut command, "boathook");
    }

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
