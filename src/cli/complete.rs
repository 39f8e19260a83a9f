//! `boathook complete`: the names of fleets and the ids of runs that fit where the cursor is. The scripts
//! of `boathook completions` call it. It says nothing when there is nothing to say.

use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory};

use super::api::{Fleet, Run};
use super::client::Data;
use super::locate::{ServerOptions, quoted};
use super::output::print;
use super::runs::short_id;
use super::session::Session;
use super::{Cli, Outcome};
use crate::model::fleet::DEFAULT_PROJECT;

/// A person at a prompt waits no longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Runs that are offered, the newest first.
const RUNS_MAX: usize = 100;

/// Arguments of `complete`.
#[derive(Debug, clap::Args)]
pub struct CompleteArgs {
    /// The words of the line behind the program, the last one being written
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What stands where the cursor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Fleet,
    Run,
    Other,
}

/// A command line whose last word is incomplete.
struct Line<'a> {
    place: Place,
    /// The options before it, by their names.
    options: Vec<(String, &'a str)>,
}

/// Prints what fits, a word a line, quoted for a shell.
///
/// # Errors
/// When standard output is gone.
pub fn run(arguments: &CompleteArgs) -> anyhow::Result<Outcome> {
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    let mut command = Cli::command();
    command.build();
    let line = read(&command, &words);
    if line.place == Place::Other {
        return Ok(Outcome::Done);
    }
    // A server that hangs does not hold up the prompt. Without this thread it would.
    let _ = thread::Builder::new().spawn(|| {
        thread::sleep(PATIENCE);
        process::exit(0);
    });
    let begun = words.last().copied().unwrap_or_default();
    for word in candidates(&line).unwrap_or_default() {
        if word.starts_with(begun.trim_start_matches(['\'', '"'])) {
            print(&format!("{}\n", quoted(&word)))?;
        }
    }
    Ok(Outcome::Done)
}

/// Finds out what the last of `words` is.
fn read<'a>(command: &Command, words: &[&'a str]) -> Line<'a> {
    let (mut command, mut positional) = (command, 0);
    let mut line = Line { place: Place::Other, options: Vec::new() };
    let mut valued: Option<&Arg> = None;
    let Some((last, before)) = words.split_last() else { return line };
    for word in before {
        if let Some(option) = valued.take() {
            line.options.push((option.get_id().to_string(), word));
        } else if let Some(name) = word.strip_prefix("--") {
            let (name, value) = name.split_once('=').unzip();
            let name = name.or_else(|| word.strip_prefix("--")).unwrap_or_default();
            let option = command.get_arguments().find(|option| option.get_long() == Some(name));
            let option = option.filter(|option| option.get_action().takes_values());
            match (option, value) {
                (Some(option), Some(value)) => {
                    line.options.push((option.get_id().to_string(), value));
                }
                (option, _) => valued = option,
            }
        } else if let Some(verb) = command.find_subcommand(word) {
            (command, positional) = (verb, 0);
        } else {
            positional += 1;
        }
    }
    let place = match valued {
        Some(option) => Some(option),
        None if last.starts_with('-') || command.has_subcommands() => None,
        None => command.get_positionals().nth(positional),
    };
    line.place = match place.map(|place| place.get_id().as_str()) {
        Some("fleet") => Place::Fleet,
        Some("run") => Place::Run,
        _ => Place::Other,
    };
    line
}

fn candidates(line: &Line<'_>) -> anyhow::Result<Vec<String>> {
    let option = |name: &str| {
        let given = line.options.iter().find(|(given, _)| given == name);
        given.map(|(_, value)| (*value).to_owned())
    };
    let session = Session::open(&ServerOptions {
        url: option("url").or_else(|| std::env::var("BOATHOOK_URL").ok()),
        token_file: option("token_file").map(PathBuf::from),
        data_dir: option("data_dir")
            .or_else(|| std::env::var("BOATHOOK_DATA_DIR").ok())
            .map(PathBuf::from),
        json: false,
    })?;
    if line.place == Place::Run {
        let runs = session.client.list("/runs", RUNS_MAX)?;
        let runs = runs.iter().map(Data::parse::<Run>).collect::<Result<Vec<_>, _>>()?;
        return Ok(runs.iter().map(|run| short_id(&run.id).to_owned()).collect());
    }
    let fleets = session.client.list("/fleets", usize::MAX)?;
    let fleets = fleets.iter().map(Data::parse::<Fleet>).collect::<Result<Vec<_>, _>>()?;
    Ok(fleets
        .into_iter()
        .map(|fleet| match fleet.project_name == DEFAULT_PROJECT {
            true => fleet.name,
            false => format!("{}/{}", fleet.project_name, fleet.name),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_the_words_before_them() {
        let mut command = Cli::command();
        command.build();
        for (line, place) in [
            ("fleet show ", Place::Fleet),
            ("fleet --data-dir /x show de", Place::Fleet),
            ("--url http://h fleet show ", Place::Fleet),
            ("fleet diff x ", Place::Other),
            ("fleet ", Place::Other),
            ("fleet show -", Place::Other),
            ("fleet show --", Place::Other),
            ("fleet apply ", Place::Other),
            ("fleet copy ", Place::Fleet),
            ("run ", Place::Fleet),
            ("run --header a:b ", Place::Fleet),
            ("run --header=a:b x ", Place::Other),
            ("webhook add ", Place::Fleet),
            ("runs list --fleet ", Place::Fleet),
            ("runs list ", Place::Other),
            ("runs show ", Place::Run),
            ("runs logs --follow 0", Place::Run),
            ("", Place::Other),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(read(&command, &words).place, place, "{line:?}");
        }
        let words = ["fleet", "--data-dir", "/x", "show", "--url=http://h", ""];
        let options = read(&command, &words).options;
        let expected = [("data_dir".to_owned(), "/x"), ("url".to_owned(), "http://h")];
        assert_eq!(options, expected);
    }
}
