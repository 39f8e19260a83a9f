//! `runs replay` and `runs stop` of many runs: count them, have the number confirmed, and then go on
//! batch by batch, with progress.

use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::cli::Outcome;
use crate::cli::api::{DoneRun, FailedRun, Many};
use crate::cli::client::{ClientError, Content};
use crate::cli::confirm::confirm;
use crate::cli::output::{advise, parse_status, print, print_as_json, printable};
use crate::cli::progress::Line;
use crate::cli::session::Session;
use crate::cli::time::Since;
use crate::model::clock::{Clock, SystemClock};
use crate::model::run::{Status, Trigger};

/// Runs in one request: an answer comes within a second.
const BATCH: usize = 50;
/// Pause while the queue is full.
const PAUSE: Duration = Duration::from_secs(1);

/// Which runs are replayed.
#[derive(Debug, Args)]
#[group(id = "many", multiple = true, conflicts_with = "run")]
pub struct ReplayMany {
    /// All runs with this status, such as Errored
    #[arg(long, value_parser = parse_status)]
    status: Option<Status>,

    /// All runs accepted since then: 2026-01-02T03:04:05Z, or a duration such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,

    /// All runs accepted until then
    #[arg(long, value_name = "TIME")]
    until: Option<Since>,

    /// All runs of this fleet: id, name or project/name
    #[arg(long, allow_hyphen_values = true)]
    fleet: Option<String>,

    /// All runs started by this: webhook, api, on_demand, replay, schedule
    #[arg(long)]
    trigger: Option<Trigger>,
}

/// Which runs are stopped.
#[derive(Debug, Args)]
#[group(id = "many", multiple = true, conflicts_with = "run")]
pub struct StopMany {
    /// All runs that have not started
    #[arg(long)]
    waiting: bool,

    /// All runs of this fleet: id, name or project/name
    #[arg(long, allow_hyphen_values = true)]
    fleet: Option<String>,
}

/// What is done to the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Replay,
    Stop,
}

impl Deed {
    fn path(self) -> &'static str {
        match self {
            Deed::Replay => "/runs/replay",
            Deed::Stop => "/runs/stop",
        }
    }

    fn question(self) -> &'static str {
        match self {
            Deed::Replay => "Replay",
            Deed::Stop => "Stop",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Deed::Replay => "Replayed",
            Deed::Stop => "Stopped",
        }
    }
}

/// What was done, for scripts.
#[derive(Default, Serialize)]
struct Report {
    matched: usize,
    runs: Vec<DoneRun>,
    failed: Vec<FailedRun>,
}

/// Replays all runs that `many` names.
///
/// # Errors
/// When the server is not there or refuses, or the number is not confirmed.
pub fn replay(session: &Session, many: &ReplayMany, yes: bool) -> anyhow::Result<Outcome> {
    let now = SystemClock.now();
    let time = |since: Option<Since>| since.map(|since| since.time(now).to_string());
    let filter = json!({
        "fleet": session.fleet_id(many.fleet.as_deref())?,
        "status": many.status.map(|status| status.to_string()),
        "trigger": many.trigger.map(Trigger::word),
        "since": time(many.since),
        "until": time(many.until),
    });
    perform(session, Deed::Replay, filter, yes)
}

/// Stops all runs that `many` names.
///
/// # Errors
/// As [`replay`].
pub fn stop(session: &Session, many: &StopMany, yes: bool) -> anyhow::Result<Outcome> {
    let status = many.waiting.then(|| Status::Scheduled.to_string());
    let fleet = session.fleet_id(many.fleet.as_deref())?;
    perform(session, Deed::Stop, json!({"fleet": fleet, "status": status}), yes)
}

fn perform(session: &Session, deed: Deed, filter: Value, yes: bool) -> anyhow::Result<Outcome> {
    let ids = select(session, deed, filter)?;
    let mut report = Report { matched: ids.len(), ..Report::default() };
    if ids.is_empty() {
        if session.json {
            print_as_json(&report)?;
        } else {
            advise("No run matches.");
        }
        return Ok(Outcome::Done);
    }
    if !yes {
        confirm(&format!("{} {}?", deed.question(), count(ids.len())))?;
    }
    go_through(session, deed, ids, &mut report)?;
    if session.json {
        print_as_json(&report)?;
    } else {
        print(&format!("{} {}.\n", deed.done(), count(report.runs.len())))?;
        for FailedRun { id, reason } in &report.failed {
            advise(&format!("{}: {}", printable(id), printable(reason)));
        }
    }
    Ok(if report.failed.is_empty() { Outcome::Done } else { Outcome::PartlyFailed })
}

/// The runs that the filter matches, in the order in which they are to be gone through.
fn select(session: &Session, deed: Deed, mut filter: Value) -> anyhow::Result<Vec<String>> {
    let mut ids: Vec<String> = Vec::new();
    filter["dry_run"] = true.into();
    loop {
        let page = send(session, deed, &filter)?;
        ids.extend(page.runs.into_iter().map(|run| run.id));
        match page.next_before {
            Some(before) => filter["before"] = before.into(),
            None => break,
        }
    }
    // Ids begin with the time.
    ids.sort_unstable();
    if deed == Deed::Stop {
        ids.reverse();
    }
    Ok(ids)
}

fn go_through(
    session: &Session,
    deed: Deed,
    mut left: Vec<String>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut line = Line::new();
    let mut has_told = false;
    while !left.is_empty() {
        let done = report.runs.len() + report.failed.len();
        line.draw(&format!("{} {done} of {}", deed.done(), report.matched));
        let batch = &left[..left.len().min(BATCH)];
        let why = match send(session, deed, &json!({ "runs": batch })) {
            Ok(many) => {
                let is_handled = |id: &String| {
                    many.runs.iter().any(|run| run.id == *id)
                        || many.failed.iter().any(|run| run.id == *id)
                };
                // What a stop leaves out is gone meanwhile.
                let is_whole = many.ended_early.is_none();
                let rest = left.split_off(batch.len());
                left.retain(|id| !is_whole && !is_handled(id));
                left.extend(rest);
                report.runs.extend(many.runs);
                report.failed.extend(many.failed);
                many.ended_early
            }
            Err(ClientError::Refused { status: 429 | 503, message }) => Some(message),
            Err(error) => {
                let done = count(report.runs.len());
                advise(&format!("{} {done} before this went wrong:", deed.done()));
                return Err(error.into());
            }
        };
        if let Some(why) = why {
            if !std::mem::replace(&mut has_told, true) {
                advise(&format!("{}; going on when there is room", printable(&why)));
            }
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn send(session: &Session, deed: Deed, body: &Value) -> Result<Many, ClientError> {
    let content = Content::text("application/json", body.to_string());
    session.client.send(Method::POST, deed.path(), content)?.parse()
}

fn count(runs: usize) -> String {
    if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") }
}
