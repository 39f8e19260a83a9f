//! `boathook fleet`: apply, list, show, edit, copy, export, import, delete, versions, diff, revert.

mod apply;
mod check;
mod edit;
mod text;
mod transfer;

pub use transfer::token_of;

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use ureq::http::Method;

use super::api::{Debounce, Fleet, Version};
use super::client::{Content, Data, joined};
use super::confirm::confirm_on_terminal;
use super::diff::{Line, diff};
use super::locate::ServerOptions;
use super::output::{
    BAD, BOLD, DIM, GOOD, advise, command, print, print_json, print_unchanged, printable, styled,
};
use super::session::Session;
use super::table::Table;
use super::{Outcome, time};
use crate::config::whole_number;
use crate::model::clock::{Clock, SystemClock, Timestamp};

/// Versions of a fleet that the command line asks for at a time: each comes with its file, of up to
/// `FLEET_FILE_BYTES_MAX`.
pub const CLIENT_VERSIONS_PAGE: usize = 50;

/// What the API calls a fleet file in JSON.
const FILE_JSON: &str = "application/vnd.boathook.fleet+json";

/// Arguments of `fleet`.
#[derive(Debug, clap::Args)]
pub struct FleetArgs {
    #[command(subcommand)]
    verb: FleetVerb,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Subcommand)]
enum FleetVerb {
    /// Create or update fleets from files, once all of them are valid; applying the same again
    /// changes nothing
    Apply {
        /// Fleet files, directories of them (*.yaml, *.yml, *.json), or - for standard input
        #[arg(required = true, value_name = "FILE|DIR|-")]
        sources: Vec<PathBuf>,
        /// Say what would be done and store nothing; exit status 1 when a file is refused
        #[arg(long)]
        check: bool,
        /// Show what would change in each fleet and store nothing
        #[arg(long, conflicts_with = "check")]
        diff: bool,
    },
    /// List all fleets
    List,
    /// Show a fleet, or the file that makes it
    Show {
        /// Id, name or project/name
        fleet: String,
        /// Print the fleet as a file that `fleet apply` takes; with --json as one in JSON
        #[arg(long)]
        yaml: bool,
    },
    /// Edit a fleet's file in $VISUAL or $EDITOR and save it, unless it was saved meanwhile
    Edit {
        /// Id, name or project/name
        fleet: String,
    },
    /// Make a new fleet like another one; it gets no webhook
    Copy {
        /// Id, name or project/name
        fleet: String,
        /// Name of the copy, or project/name
        name: String,
    },
    /// Print a fleet with its webhook's URL, for `fleet import` on another server
    Export {
        /// Id, name or project/name
        fleet: String,
    },
    /// Make the fleet of an export, which answers at the URL that it had
    Import {
        /// A file of `fleet export`, or - for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Delete a fleet and its webhook; runs already accepted still finish. Asks on a terminal
    Delete {
        /// Id, name or project/name
        fleet: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List the saved versions of a fleet
    Versions {
        /// Id, name or project/name
        fleet: String,
    },
    /// Show what changed between two versions
    Diff {
        /// Id, name or project/name
        fleet: String,
        /// Version to compare from
        #[arg(value_name = "N", value_parser = whole_number::<u32>)]
        old: u32,
        /// Version to compare to [default: the current one]
        #[arg(value_name = "M", value_parser = whole_number::<u32>)]
        new: Option<u32>,
    },
    /// Make an earlier version the current one again, as a new version
    Revert {
        /// Id, name or project/name
        fleet: String,
        /// Version to go back to
        #[arg(value_name = "N", value_parser = whole_number::<u32>)]
        version: u32,
    },
}

/// Does what `arguments` say.
///
/// # Errors
/// When the server is not there or refuses.
pub fn run(arguments: FleetArgs) -> anyhow::Result<Outcome> {
    let session = Session::open(&arguments.server)?;
    match arguments.verb {
        FleetVerb::Apply { sources, check, diff } => {
            let deed = match (check, diff) {
                (true, _) => apply::Deed::Check,
                (_, true) => apply::Deed::Difference,
                _ => apply::Deed::Apply,
            };
            return apply::apply(&session, &sources, deed);
        }
        FleetVerb::List => list(&session)?,
        FleetVerb::Show { fleet, yaml } => show(&session, &fleet, yaml)?,
        FleetVerb::Edit { fleet } => edit::edit(&session, &fleet)?,
        FleetVerb::Copy { fleet, name } => copy(&session, &fleet, &name)?,
        FleetVerb::Export { fleet } => transfer::export(&session, &fleet)?,
        FleetVerb::Import { file } => transfer::import(&session, &file)?,
        FleetVerb::Delete { fleet, yes } => delete(&session, &fleet, yes)?,
        FleetVerb::Versions { fleet } => versions(&session, &fleet)?,
        FleetVerb::Diff { fleet, old, new } => compare(&session, &fleet, old, new)?,
        FleetVerb::Revert { fleet, version } => revert(&session, &fleet, version)?,
    }
    Ok(Outcome::Done)
}

fn list(session: &Session) -> anyhow::Result<()> {
    let fleets = session.client.list("/fleets", usize::MAX)?;
    if session.json {
        return Ok(print_json(&joined(&fleets))?);
    }
    if fleets.is_empty() {
        advise("There are no fleets yet. To teach the server one:");
        advise(&command(&session.line("fleet apply FILE.yaml")));
        return Ok(());
    }
    let fleets = fleets.iter().map(Data::parse).collect::<Result<Vec<Fleet>, _>>()?;
    Ok(print(&render_list(&fleets, SystemClock.now()))?)
}

fn render_list(fleets: &[Fleet], now: Timestamp) -> String {
    let mut table =
        Table::new(["PROJECT", "FLEET", "VESSELS", "VERSION", "WEBHOOK", "UPDATED", "ID"]);
    for fleet in fleets {
        table.row([
            fleet.project_name.as_str().into(),
            fleet.name.as_str().into(),
            fleet.vessels.len().to_string().into(),
            fleet.version.to_string().into(),
            if fleet.webhook { "yes" } else { "no" }.into(),
            time::relative(now, fleet.updated_at).into(),
            fleet.id.as_str().into(),
        ]);
    }
    table.render()
}

fn show(session: &Session, name: &str, yaml: bool) -> anyhow::Result<()> {
    let fleet = session.fleet(name)?;
    let path = format!("/fleets/{}", fleet.id);
    if yaml {
        let form = if session.json { FILE_JSON } else { "application/yaml" };
        return Ok(print_unchanged(&session.client.get_text(&path, form)?)?);
    }
    let data = session.client.get(&path)?;
    if session.json {
        return Ok(print_json(data.raw())?);
    }
    let fleet: Fleet = data.parse()?;
    print(&render_fleet(&fleet, SystemClock.now()))?;
    let (what, verb) = if fleet.webhook {
        ("To see the URL that starts it:", "show")
    } else {
        ("It has no webhook yet. To get the URL that starts it:", "add")
    };
    advise(&format!("\n{what}"));
    advise(&command(&session.line(&format!("webhook {verb} {}", fleet.argument()))));
    Ok(())
}

fn render_fleet(fleet: &Fleet, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {}", styled(&format!("{label:<12}"), DIM), printable(value));
    };
    line("fleet", &fleet.name);
    line("id", &fleet.id);
    line("project", &fleet.project_name);
    let updated = time::relative(now, fleet.updated_at);
    line("version", &format!("{} ({updated})", fleet.version));
    line("webhook", if fleet.webhook { "yes" } else { "no" });
    if let Some(concurrency) = fleet.concurrency {
        let overlap = fleet.overlap.as_deref().filter(|overlap| *overlap != "queue");
        let overlap = overlap.map(|word| format!(", overlap {word}")).unwrap_or_default();
        let key = fleet.concurrency_key.as_ref();
        let key = key.map(|key| format!(" for each {key}")).unwrap_or_default();
        line("concurrency", &format!("{concurrency}{key}{overlap}"));
    }
    if let Some(Debounce { wait, max_wait }) = &fleet.debounce {
        line("debounce", &format!("{wait}, at most {max_wait}"));
    }
    if fleet.priority != 0 {
        line("priority", &fleet.priority.to_string());
    }
    if let Some(delivery) = &fleet.delivery {
        line("delivery", delivery);
    }
    if let Some(keep_runs) = &fleet.keep_runs {
        line("keep_runs", keep_runs);
    }
    text.push('\n');
    text.push_str(&render_paths(fleet));
    text
}

/// The vessels of a fleet and what each of them waits for.
pub fn render_paths(fleet: &Fleet) -> String {
    let mut table = Table::new(["VESSEL", "STARTS AFTER"]);
    for vessel in &fleet.vessels {
        let upstream: Vec<_> = fleet
            .connections
            .iter()
            .filter(|path| path.to == vessel.name)
            .map(|path| format!("{} ({})", path.from, path.condition))
            .collect();
        let after = if upstream.is_empty() { "-".to_owned() } else { upstream.join(", ") };
        table.row([vessel.name.as_str().into(), after.into()]);
    }
    table.render()
}

/// Makes a fleet like `name`, called `copy` (or project/copy).
fn copy(session: &Session, name: &str, copy: &str) -> anyhow::Result<()> {
    let stored = text::Stored::get(session, &session.fleet(name)?)?;
    let (project, copy) = copy.rsplit_once('/').unwrap_or((&stored.project, copy));
    let content = Content::text("application/yaml", stored.copy(project, copy.to_owned()));
    let answer = session.client.send(Method::POST, "/fleets", content)?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    apply::report_applied(&Fleet { changed: true, ..answer.parse()? })?;
    apply::advise_webhook(session, &answer.parse()?);
    Ok(())
}

fn delete(session: &Session, name: &str, yes: bool) -> anyhow::Result<()> {
    let fleet = session.fleet(name)?;
    let shown = printable(&fleet.name);
    let what = if fleet.webhook { " and its webhook" } else { "" };
    confirm_on_terminal(&format!("Delete the fleet {shown}{what}?"), yes)?;
    let answer = session.client.delete(&format!("/fleets/{}", fleet.id))?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    print(&format!("deleted  {}/{}\n", printable(&fleet.project_name), printable(&fleet.name)))?;
    if fleet.webhook {
        advise("Its webhook is gone with it. Runs that were already accepted still finish.");
    }
    Ok(())
}

fn versions(session: &Session, name: &str) -> anyhow::Result<()> {
    let fleet = session.fleet(name)?;
    let path = format!("/fleets/{}/versions", fleet.id);
    let versions = session.client.list_by(&path, usize::MAX, CLIENT_VERSIONS_PAGE)?;
    if session.json {
        return Ok(print_json(&joined(&versions))?);
    }
    let now = SystemClock.now();
    let mut table = Table::new(["VERSION", "SAVED", "TIME", ""]);
    for version in versions {
        let version: Version = version.parse()?;
        let is_current = version.version == fleet.version;
        table.row([
            version.version.to_string().into(),
            time::relative(now, version.created_at).into(),
            version.created_at.to_string().into(),
            if is_current { "current" } else { "" }.into(),
        ]);
    }
    Ok(print(&table.render())?)
}

fn compare(session: &Session, name: &str, old: u32, new: Option<u32>) -> anyhow::Result<()> {
    let fleet = session.fleet(name)?;
    let get = |version: u32| {
        session
            .client
            .get(&format!("/fleets/{}/versions/{version}", fleet.id))
            .with_context(|| format!("version {version} of {}", printable(&fleet.name)))
    };
    let (old, new) = (get(old)?, get(new.unwrap_or(fleet.version))?);
    if session.json {
        return Ok(print_json(&joined([&old, &new]))?);
    }
    let (old, new): (Version, Version) = (old.parse()?, new.parse()?);
    if old.yaml == new.yaml {
        advise(&format!("Versions {} and {} are the same.", old.version, new.version));
        return Ok(());
    }
    let title = |version: &Version| format!("version {}", version.version);
    Ok(print(&diff_text(&title(&old), &old.yaml, &title(&new), &new.yaml))?)
}

/// The lines of two texts and which of them differ, under the titles of the texts.
fn diff_text(old_title: &str, old: &str, new_title: &str, new: &str) -> String {
    let mut text = String::new();
    let mut line = |shown: String| {
        text.push_str(&shown);
        text.push('\n');
    };
    line(styled(&format!("--- {}", printable(old_title)), BOLD));
    line(styled(&format!("+++ {}", printable(new_title)), BOLD));
    for changed in diff(old, new) {
        line(match changed {
            Line::Same(text) => format!("  {}", printable(text)),
            Line::Removed(text) => styled(&format!("- {}", printable(text)), BAD),
            Line::Added(text) => styled(&format!("+ {}", printable(text)), GOOD),
        });
    }
    text
}

fn revert(session: &Session, name: &str, version: u32) -> anyhow::Result<()> {
    let before = session.fleet(name)?;
    let path = format!("/fleets/{}/versions/{version}/revert", before.id);
    let answer = session.client.post(&path)?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    let fleet: Fleet = answer.parse()?;
    let (project, name) = (printable(&fleet.project_name), printable(&fleet.name));
    let what = if fleet.version == before.version { "unchanged" } else { "reverted " };
    print(&format!("{what} {project}/{name}  version {}\n", fleet.version))?;
    advise(&format!("It has the content of version {version}."));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet() -> Fleet {
        serde_json::from_str(
            r#"{"id":"6f1c0000-0000-4000-8000-000000000001","name":"deploy","project_id":"p",
                "project_name":"default","version":3,"created_at":"2026-01-02T03:04:05.000Z",
                "updated_at":"2026-01-02T03:04:05.000Z","webhook":true,"concurrency":2,
                "concurrency_key":"body.ref","overlap":"cancel",
                "debounce":{"wait":"10s","max_wait":"2m0s"},
                "delivery":"at_least_once","vessels":[{"id":"1","name":"build"},
                {"id":"2","name":"notify"}],
                "connections":[{"from":"build","to":"notify","condition":"ERRORED"}]}"#,
        )
        .unwrap()
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_fleet_shows_what_starts_after_what() {
        let now = "2026-01-02T03:06:05Z".parse().unwrap();
        let text = plain(&render_fleet(&fleet(), now));
        assert!(text.contains("version      3 (2m ago)\n"), "{text}");
        let turns =
            "concurrency  2 for each body.ref, overlap cancel\ndebounce     10s, at most 2m0s\n";
        assert!(text.contains(turns), "{text}");
        let table = "VESSEL  STARTS AFTER\nbuild   -\nnotify  build (ERRORED)\n";
        assert!(text.ends_with(table), "{text}");
    }

    #[test]
    fn the_list_is_a_table() {
        let now = "2026-01-02T03:06:05Z".parse().unwrap();
        let expected = "\
PROJECT  FLEET   VESSELS  VERSION  WEBHOOK  UPDATED  ID
default  deploy  2        3        yes      2m ago   6f1c0000-0000-4000-8000-000000000001
";
        assert_eq!(plain(&render_list(&[fleet()], now)), expected);
    }

    #[test]
    fn a_comparison_names_both_versions() {
        let text = diff_text("version 1", "name: a\nx: 1\n", "version 2", "name: a\nx: 2\n");
        assert_eq!(plain(&text), "--- version 1\n+++ version 2\n  name: a\n- x: 1\n+ x: 2\n");
    }
}
