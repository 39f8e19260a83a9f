//! `boathook config`: the settings that a server would have, started with the same flags, environment and
//! file. No server is asked.

use std::collections::BTreeMap;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, Subcommand};
use serde::Serialize;

use super::Outcome;
use super::output::{DIM, NOTABLE, advise, print, print_as_json, printable, styled};
use super::serve::ServeArgs;
use super::table::Table;
use super::usage;
use crate::config::{self, FileLine, Settings, Sources};

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Check the settings that a server would start with; exit status 1 when it would not start
    Check(Box<ServeArgs>),
    /// Show every setting, its value, and where that comes from
    Show(Box<ServeArgs>),
}

/// A setting.
#[derive(Serialize)]
struct Shown {
    name: String,
    value: String,
    /// `default`, a flag, a variable, or a line of the file.
    source: String,
}

/// Does what `arguments` say.
///
/// # Errors
/// When a setting is wrong.
pub fn run(arguments: &ConfigArgs) -> anyhow::Result<Outcome> {
    let (name, serve) = match &arguments.verb {
        ConfigVerb::Check(serve) => ("check", serve),
        ConfigVerb::Show(serve) => ("show", serve),
    };
    let settings = serve.settings()?;
    let lines = config::file_lines(&settings.file)?;
    let file = settings.file.display().to_string();
    if name == "check" {
        let unknown = config::unknown_variables();
        for variable in &unknown {
            let (name, advice) = (printable(&variable.name), variable.advice());
            advise(&format!(
                "{} {name} is no setting and changes nothing; {advice}",
                styled("warning:", NOTABLE)
            ));
        }
        if arguments.json {
            let unknown: Vec<_> = unknown.into_iter().map(|variable| variable.name).collect();
            print_as_json(&serde_json::json!({
                "file": lines.is_some().then_some(file), "unknown_variables": unknown,
            }))?;
        } else {
            let what = if lines.is_some() { "good " } else { "there is no " };
            print(&format!("{what}{}\n", printable(&file)))?;
            advise("A server would start with these settings; `config show` shows them.");
        }
        return Ok(Outcome::Done);
    }
    let matches = usage::matches();
    let matches = matches.subcommand_matches("config").and_then(|it| it.subcommand_matches(name));
    let shown = all(matches, &settings, &file, &lines.unwrap_or_default());
    if arguments.json {
        print_as_json(&shown)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(["SETTING", "VALUE", "SOURCE"]);
    for Shown { name, value, source } in &shown {
        let style = if source == DEFAULT { DIM } else { anstyle::Style::new() };
        table.row([name.as_str().into(), value.as_str().into(), (source.as_str(), style).into()]);
    }
    print(&table.render())?;
    Ok(Outcome::Done)
}

/// The source of what is nowhere set.
const DEFAULT: &str = "default";

fn all(
    matches: Option<&ArgMatches>,
    settings: &Settings,
    file: &str,
    lines: &BTreeMap<String, FileLine>,
) -> Vec<Shown> {
    let command = Sources::augment_args(Command::new("serve"));
    let shown = |setting: &Arg| {
        let name = setting.get_id().as_str();
        let (value, source) = given(matches, setting)
            .or_else(|| {
                let FileLine { line, value } = lines.get(name)?;
                Some((value.clone(), format!("{file}:{line}")))
            })
            .unwrap_or_else(|| (default_of(setting), DEFAULT.to_owned()));
        // Where the help names a rule, this machine has a value.
        let resolved = match name {
            "data_dir" => Some(settings.data_dir.display().to_string()),
            "work_dir" => Some(settings.work_dir.display().to_string()),
            "secrets_dir" => Some(settings.secrets_dir.display().to_string()),
            "workers" => Some(settings.workers.to_string()),
            _ => None,
        };
        Shown { name: name.to_owned(), value: resolved.unwrap_or(value), source }
    };
    command.get_arguments().map(shown).collect()
}

/// The value on the command line or in the environment, and the name of the flag or variable.
fn given(matches: Option<&ArgMatches>, setting: &Arg) -> Option<(String, String)> {
    let (matches, name) = (matches?, setting.get_id().as_str());
    let source = match matches.value_source(name)? {
        ValueSource::CommandLine => format!("--{}", setting.get_long()?),
        ValueSource::EnvVariable => setting.get_env()?.to_string_lossy().into_owned(),
        _ => return None,
    };
    let values = matches.get_raw(name)?.map(|value| value.to_string_lossy().into_owned());
    Some((values.collect::<Vec<_>>().join(","), source))
}

/// The default, as the help text of the setting names it.
fn default_of(setting: &Arg) -> String {
    let help = setting.get_help().map(ToString::to_string).unwrap_or_default();
    let default = help.split_once("[default: ").and_then(|(_, rest)| rest.rsplit_once(']'));
    default.map_or_else(|| "-".to_owned(), |(default, _)| default.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_shown_with_where_it_comes_from() {
        let words = ["serve", "--workers", "7", "--public-url", "https://a.example"];
        let matches = Sources::augment_args(Command::new("serve")).get_matches_from(words);
        let settings = Settings { workers: 7, ..Settings::defaults("/srv/boathook".into()) };
        let of_file = FileLine { line: 3, value: "5s".to_owned() };
        let lines = BTreeMap::from([("head_timeout".to_owned(), of_file)]);
        let shown = all(Some(&matches), &settings, "/etc/boathook.toml", &lines);
        let find = |name: &str| {
            let shown = shown.iter().find(|shown| shown.name == name).unwrap();
            (shown.value.as_str(), shown.source.as_str())
        };
        assert_eq!(find("workers"), ("7", "--workers"));
        assert_eq!(find("public_url"), ("https://a.example", "--public-url"));
        assert_eq!(find("head_timeout"), ("5s", "/etc/boathook.toml:3"));
        assert_eq!(find("idle_timeout"), ("30s", DEFAULT));
        assert_eq!(find("smtp_from"), ("-", DEFAULT));
        assert_eq!(find("data_dir"), ("/srv/boathook", DEFAULT));
        assert_eq!(find("work_dir"), ("/srv/boathook/work", DEFAULT));
    }
}
