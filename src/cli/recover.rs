//! `boathook webhook recover`: lets GitHub deliver again what it could not deliver.

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::Method;

use super::Outcome;
use super::api::Fleet;
use super::client::{ClientError, Content};
use super::confirm::confirm;
use super::output::{advise, print, print_as_json, printable};
use super::progress::Line;
use super::session::Session;
use super::table::Table;
use super::time::{self, Since};
use crate::model::clock::{Clock, SystemClock, Timestamp};

/// Deliveries in one request: GitHub takes up to a second for each.
const BATCH: usize = 10;

/// Arguments of `webhook recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Id, name or project/name
    fleet: String,

    /// The repository with the webhook, as owner/name
    #[arg(long, value_name = "OWNER/NAME", required_unless_present = "organization")]
    repository: Option<String>,

    /// The organization with the webhook
    #[arg(long, value_name = "NAME", conflicts_with = "repository")]
    organization: Option<String>,

    /// The name of the secret with GitHub's token, which may read and write webhooks
    #[arg(long, value_name = "SECRET", default_value = "GITHUB_TOKEN")]
    token: String,

    /// Deliveries since then: 2026-01-02T03:04:05Z, or a duration such as 2h
    #[arg(long, value_name = "TIME")]
    since: Since,

    /// Only show what has failed
    #[arg(long)]
    dry_run: bool,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl RecoverArgs {
    /// The fleet as it was named.
    pub fn fleet(&self) -> &str {
        &self.fleet
    }
}

/// What the server has found, or has had delivered again.
#[derive(Deserialize)]
struct Recovered {
    hook: u64,
    attempts: usize,
    deliveries: Vec<Missed>,
    redelivered: Vec<u64>,
    failed: Vec<NotAsked>,
    ended_early: Option<String>,
}

/// A delivery that has failed.
#[derive(Clone, Deserialize, Serialize)]
struct Missed {
    id: u64,
    guid: String,
    event: String,
    delivered_at: Timestamp,
    status: u16,
}

/// One that GitHub does not deliver again.
#[derive(Deserialize, Serialize)]
struct NotAsked {
    id: u64,
    reason: String,
}

/// What was done, for scripts.
#[derive(Serialize)]
struct Report {
    attempts: usize,
    deliveries: Vec<Missed>,
    redelivered: Vec<u64>,
    failed: Vec<NotAsked>,
    ended_early: Option<String>,
}

/// Finds what `fleet` has missed, and has it delivered again.
///
/// # Errors
/// When the server or GitHub refuses, or the number is not confirmed.
pub fn recover(session: &Session, fleet: &Fleet, given: &RecoverArgs) -> anyhow::Result<Outcome> {
    let since = given.since.time(SystemClock.now()).to_string();
    let mut body = json!({"token": given.token, "since": since, "dry_run": true});
    match (&given.repository, &given.organization) {
        (Some(name), _) => body["repository"] = json!(name),
        (None, name) => body["organization"] = json!(name),
    }
    let found = send(session, fleet, &body)?;
    let mut report = Report {
        attempts: found.attempts,
        deliveries: found.deliveries,
        redelivered: Vec::new(),
        failed: Vec::new(),
        ended_early: found.ended_early,
    };
    if !given.dry_run && !report.deliveries.is_empty() {
        if !given.yes {
            list(session, &report)?;
            confirm(&format!("Have {} delivered again?", count(report.deliveries.len())))?;
        }
        body["dry_run"] = json!(false);
        body["hook"] = json!(found.hook);
        redeliver(session, fleet, body, &mut report)?;
    }
    tell(session, given, &report)?;
    let is_whole = report.failed.is_empty() && report.ended_early.is_none();
    Ok(if is_whole { Outcome::Done } else { Outcome::PartlyFailed })
}

fn redeliver(
    session: &Session,
    fleet: &Fleet,
    mut body: Value,
    report: &mut Report,
) -> anyhow::Result<()> {
    let ids: Vec<u64> = report.deliveries.iter().map(|missed| missed.id).collect();
    let mut line = Line::new();
    for batch in ids.chunks(BATCH) {
        let done = report.redelivered.len() + report.failed.len();
        line.draw(&format!("asked for {done} of {}", ids.len()));
        body["deliveries"] = json!(batch);
        let answer = match send(session, fleet, &body) {
            // What GitHub has been asked for by now is worth telling.
            Err(ClientError::Refused { message, .. }) if done > 0 => {
                report.ended_early = Some(message);
                break;
            }
            answer => answer?,
        };
        report.redelivered.extend(answer.redelivered);
        report.failed.extend(answer.failed);
        if answer.ended_early.is_some() {
            report.ended_early = answer.ended_early;
            break;
        }
    }
    Ok(())
}

fn send(session: &Session, fleet: &Fleet, body: &Value) -> Result<Recovered, ClientError> {
    let content = Content::text("application/json", body.to_string());
    let path = format!("/fleets/{}/webhook/recover", fleet.id);
    session.client.send(Method::POST, &path, content)?.parse()
}

fn tell(session: &Session, given: &RecoverArgs, report: &Report) -> anyhow::Result<()> {
    if session.json {
        return Ok(print_as_json(report)?);
    }
    if report.deliveries.is_empty() {
        advise(&format!("None of {} has failed for good.", attempts(report.attempts)));
    } else if given.dry_run {
        list(session, report)?;
    } else {
        print(&format!("GitHub delivers {} again.\n", count(report.redelivered.len())))?;
        advise(
            "An event that has a run does not run again. `boathook deliveries list` shows what comes.",
        );
    }
    for NotAsked { id, reason } in &report.failed {
        advise(&format!("{id}: {}", printable(reason)));
    }
    if let Some(why) = &report.ended_early {
        advise(&format!("Not all is done: {}", printable(why)));
    }
    Ok(())
}

fn list(session: &Session, report: &Report) -> anyhow::Result<()> {
    if session.json {
        return Ok(());
    }
    let now = SystemClock.now();
    let mut table = Table::new(["DELIVERY", "EVENT", "ANSWER", "LAST TRIED"]);
    for missed in &report.deliveries {
        let answer = if missed.status == 0 { "none".to_owned() } else { missed.status.to_string() };
        table.row([
            missed.guid.as_str().into(),
            missed.event.as_str().into(),
            answer.into(),
            time::relative(now, missed.delivered_at).into(),
        ]);
    }
    Ok(print(&table.render())?)
}

fn attempts(count: usize) -> String {
    if count == 1 { "1 attempt".to_owned() } else { format!("{count} attempts") }
}

fn count(deliveries: usize) -> String {
    if deliveries == 1 { "1 delivery".to_owned() } else { format!("{deliveries} deliveries") }
}
