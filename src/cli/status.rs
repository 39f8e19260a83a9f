//! `boathook status`: how the server is and what it does, in a few lines.

use std::fmt::Write as _;

use serde::Deserialize;

use super::locate::ServerOptions;
use super::output::{BAD, DIM, GOOD, NOTABLE, print, print_json, printable, styled};
use super::progress::human_size;
use super::session::Session;
use super::{Outcome, time};
use crate::model::clock::Timestamp;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 when the server accepts runs, 1 when it does not. `boathook doctor` examines more and says \
what to do.")]
pub struct StatusArgs {
    #[command(flatten)]
    server: ServerOptions,
}

/// What the overview says, as far as it is shown.
#[derive(Deserialize)]
struct Overview {
    version: String,
    started_at: Timestamp,
    hooks_url: String,
    public_url: Option<String>,
    now: Timestamp,
    healthy: bool,
    refused_because: Option<String>,
    launching_paused_because: Option<String>,
    runs_waiting: usize,
    runs_waiting_max: usize,
    runs_active: usize,
    vessels_running: usize,
    workers: usize,
    disk_free_bytes: Option<u64>,
    history_runs: u64,
    history_bytes: u64,
    last_problem: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    at: Timestamp,
    level: String,
    message: String,
}

/// Prints the state of the server.
///
/// # Errors
/// When the server is not there or refuses.
pub fn run(arguments: &StatusArgs) -> anyhow::Result<Outcome> {
    let session = Session::open(&arguments.server)?;
    let answer = session.client.get("/overview")?;
    let overview: Overview = answer.parse()?;
    if session.json {
        print_json(answer.raw())?;
    } else {
        print(&render(&overview))?;
    }
    Ok(if overview.healthy { Outcome::Done } else { Outcome::PartlyFailed })
}

fn render(overview: &Overview) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {value}", styled(&format!("{label:<9}"), DIM));
    };
    line("state", &state(overview));
    let started = time::relative(overview.now, overview.started_at);
    line("server", &format!("version {}, started {started}", printable(&overview.version)));
    line("webhooks", &printable(overview.public_url.as_ref().unwrap_or(&overview.hooks_url)));
    line(
        "queue",
        &format!("{} waiting, at most {}", overview.runs_waiting, overview.runs_waiting_max),
    );
    line(
        "running",
        &format!(
            "{} of {} vessels, {} under way",
            overview.vessels_running,
            overview.workers,
            counted(overview.runs_active as u64)
        ),
    );
    if let Some(free) = overview.disk_free_bytes {
        line("disk", &format!("{} free", human_size(free)));
    }
    let history = counted(overview.history_runs);
    line("history", &format!("{history} that ended, {}", human_size(overview.history_bytes)));
    if let Some(Problem { at, level, message }) = &overview.last_problem {
        let style = if level == "ERROR" { BAD } else { NOTABLE };
        let (at, level) = (time::relative(overview.now, *at), styled(&printable(level), style));
        line("problem", &format!("{level} {at}: {}", printable(message)));
    }
    text
}

fn state(overview: &Overview) -> String {
    match (overview.healthy, &overview.launching_paused_because) {
        (true, None) => styled("accepting", GOOD),
        (true, Some(why)) => {
            let paused = styled("accepting, launching is paused", NOTABLE);
            format!("{paused}: {}", printable(why))
        }
        (false, _) => {
            let why = overview.refused_because.as_deref().unwrap_or("unknown");
            format!("{}: {}", styled("refusing", BAD), printable(why))
        }
    }
}

fn counted(runs: u64) -> String {
    if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_server_takes_a_few_lines() {
        let overview = |healthy: bool, refused: &str| -> Overview {
            serde_json::from_value(serde_json::json!({
                "version": "0.1.0", "started_at": "2026-01-02T03:04:05Z",
                "hooks_url": "http://127.0.0.1:9000", "public_url": null,
                "now": "2026-01-02T05:04:05Z", "healthy": healthy, "refused_because": refused,
                "launching_paused_because": null, "runs_waiting": 3, "runs_waiting_max": 100,
                "runs_active": 1, "vessels_running": 2, "workers": 8, "disk_free_bytes": 2048,
                "history_runs": 5, "history_bytes": 1024, "last_problem": {
                    "at": "2026-01-02T05:03:05Z", "level": "WARN", "message": "slow\u{1b}[2J disk",
                },
            }))
            .unwrap()
        };
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        let expected = "\
state     accepting
server    version 0.1.0, started 2h ago
webhooks  http://127.0.0.1:9000
queue     3 waiting, at most 100
running   2 of 8 vessels, 1 run under way
disk      2.0 KiB free
history   5 runs that ended, 1.0 KiB
problem   WARN 1m ago: slow\u{fffd}[2J disk
";
        assert_eq!(plain(&render(&overview(true, ""))), expected);
        let text = plain(&render(&overview(false, "the disk is full")));
        assert!(text.starts_with("state     refusing: the disk is full\n"), "{text}");
    }
}
