//! `runs queue`: what waits, the next start first, and what for.

use clap::Args;
use serde::Deserialize;

use super::short_id;
use crate::cli::output::{advise, print, print_json};
use crate::cli::session::Session;
use crate::cli::table::Table;
use crate::cli::time;
use crate::config::whole_number;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::limits::LIST_MAX;

#[derive(Debug, Args)]
pub struct QueueArgs {
    /// Only what waits of this fleet: id, name or project/name
    #[arg(long, allow_hyphen_values = true)]
    fleet: Option<String>,

    /// How much at most: 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = whole_number::<usize>)]
    limit: usize,
}

/// The queue as the API tells it, as far as it is shown.
#[derive(Deserialize)]
struct Queue {
    entries: Vec<Entry>,
    has_more: bool,
}

#[derive(Deserialize)]
struct Entry {
    run_id: String,
    fleet_name: String,
    vessel_name: Option<String>,
    since: Timestamp,
    until: Option<Timestamp>,
    reason: String,
}

/// Prints what waits.
///
/// # Errors
/// When the server is not there or refuses.
pub fn show(session: &Session, arguments: &QueueArgs) -> anyhow::Result<()> {
    let fleet = session.fleet_id(arguments.fleet.as_deref())?;
    let of_fleet = fleet.map(|fleet| format!("&fleet={fleet}")).unwrap_or_default();
    let limit = arguments.limit.min(LIST_MAX);
    let answer = session.client.get(&format!("/queue?limit={limit}{of_fleet}"))?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    let queue: Queue = answer.parse()?;
    if queue.entries.is_empty() {
        advise("Nothing waits.");
        return Ok(());
    }
    print(&render(&queue.entries, SystemClock.now()))?;
    if queue.has_more {
        advise("More waits; --limit shows up to 1000.");
    }
    Ok(())
}

fn render(entries: &[Entry], now: Timestamp) -> String {
    let mut table = Table::new(["RUN", "FLEET", "VESSEL", "SINCE", "WHY"]);
    for entry in entries {
        let until = entry.until.map(|until| format!(", {}", time::relative(now, until)));
        table.row([
            short_id(&entry.run_id).into(),
            entry.fleet_name.as_str().into(),
            entry.vessel_name.as_deref().unwrap_or_default().into(),
            time::relative(now, entry.since).into(),
            format!("{}{}", entry.reason, until.unwrap_or_default()).into(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_what_waits_and_why() {
        let entry = |end: &str, vessel: Option<&str>, until: Option<&str>, reason: &str| Entry {
            run_id: format!("019a0000-0000-7000-8000-{end}"),
            fleet_name: "deploy".to_owned(),
            vessel_name: vessel.map(str::to_owned),
            since: "2026-01-02T03:04:05Z".parse().unwrap(),
            until: until.map(|time| time.parse().unwrap()),
            reason: reason.to_owned(),
        };
        let entries = [
            entry("00aabbccddee", None, None, "waits for run 00aabbccddff: concurrency 1"),
            entry("00aabbccddff", Some("build"), Some("2026-01-02T03:06:35Z"), "retry"),
        ];
        let text = render(&entries, "2026-01-02T03:06:05Z".parse().unwrap());
        let expected = "\
RUN           FLEET   VESSEL  SINCE   WHY
00aabbccddee  deploy          2m ago  waits for run 00aabbccddff: concurrency 1
00aabbccddff  deploy  build   2m ago  retry, in 30s
";
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), expected);
    }
}
