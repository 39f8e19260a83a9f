//! The settings as they are in effect, each with where it comes from: for people. No setting holds a secret;
//! those that need one name it.

use std::collections::BTreeMap;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use serde::Serialize;

use super::{FileLine, Settings, Sources};

/// A setting.
#[derive(Clone, Debug, Serialize)]
pub struct EffectiveSetting {
    pub name: String,
    pub value: String,
    /// [`DEFAULT_SOURCE`], a flag, a variable, or a line of the file.
    pub source: String,
}

/// The source of what is nowhere set.
pub const DEFAULT_SOURCE: &str = "default";

/// Every setting of `settings`, which `matches` (the command line and the environment) and `lines` of the
/// file have led to.
pub fn effective(
    matches: Option<&ArgMatches>,
    settings: &Settings,
    lines: &BTreeMap<String, FileLine>,
) -> Vec<EffectiveSetting> {
    let file = settings.file.display();
    let command = Sources::augment_args(Command::new("serve"));
    let shown = |setting: &Arg| {
        let name = setting.get_id().as_str();
        let (value, source) = given(matches, setting)
            .or_else(|| {
                let FileLine { line, value } = lines.get(name)?;
                Some((value.clone(), format!("{file}:{line}")))
            })
            .unwrap_or_else(|| (default_of(setting), DEFAULT_SOURCE.to_owned()));
        // Where the help names a rule, this machine has a value.
        let resolved = match name {
            "data_dir" => Some(settings.data_dir.display().to_string()),
            "work_dir" => Some(settings.work_dir.display().to_string()),
            "secrets_dir" => Some(settings.secrets_dir.display().to_string()),
            "packages_dir" => Some(settings.packages_dir.display().to_string()),
            "workers" => Some(settings.workers.to_string()),
            _ => None,
        };
        EffectiveSetting { name: name.to_owned(), value: resolved.unwrap_or(value), source }
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
        let file = "/etc/boathook.toml".into();
        let settings = Settings { workers: 7, file, ..Settings::defaults("/srv/boathook".into()) };
        let of_file = FileLine { line: 3, value: "5s".to_owned() };
        let lines = BTreeMap::from([("head_timeout".to_owned(), of_file)]);
        let shown = effective(Some(&matches), &settings, &lines);
        let find = |name: &str| {
            let shown = shown.iter().find(|shown| shown.name == name).unwrap();
            (shown.value.as_str(), shown.source.as_str())
        };
        assert_eq!(find("workers"), ("7", "--workers"));
        assert_eq!(find("public_url"), ("https://a.example", "--public-url"));
        assert_eq!(find("head_timeout"), ("5s", "/etc/boathook.toml:3"));
        assert_eq!(find("idle_timeout"), ("30s", DEFAULT_SOURCE));
        assert_eq!(find("smtp_from"), ("-", DEFAULT_SOURCE));
        assert_eq!(find("data_dir"), ("/srv/boathook", DEFAULT_SOURCE));
        assert_eq!(find("work_dir"), ("/srv/boathook/work", DEFAULT_SOURCE));
    }
}
