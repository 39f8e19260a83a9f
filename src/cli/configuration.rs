//! `boathook config`: the settings that a server would have, started with the same flags, environment and
//! file. No server is asked.

use clap::Subcommand;

use super::Outcome;
use super::output::{DIM, NOTABLE, advise, print, print_as_json, printable, styled};
use super::serve::ServeArgs;
use super::table::Table;
use super::usage;
use crate::config::{self, DEFAULT_SOURCE, EffectiveSetting, effective};

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
    let shown = effective(matches, &settings, &lines.unwrap_or_default());
    if arguments.json {
        print_as_json(&shown)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(["SETTING", "VALUE", "SOURCE"]);
    for EffectiveSetting { name, value, source } in &shown {
        let style = if source == DEFAULT_SOURCE { DIM } else { anstyle::Style::new() };
        table.row([name.as_str().into(), value.as_str().into(), (source.as_str(), style).into()]);
    }
    print(&table.render())?;
    Ok(Outcome::Done)
}
