//! `boathook run --dry-run`: what would become of a request.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use ureq::http::Method;

use super::{RunArgs, open_body, webhook_content};
use crate::cli::Outcome;
use crate::cli::client::Content;
use crate::cli::output::{print, print_json, printable};
use crate::cli::session::Session;
use crate::model::text::percent_encoded;

/// The answer, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Forecast {
    fleet_name: String,
    fleet_version: u32,
    outcome: String,
    status: Option<u16>,
    webhook: Gate,
    sender: Sender,
    event: Option<Event>,
    duplicate_of: Option<String>,
    first_run: Option<String>,
    filter: Option<Filter>,
    concurrency_key: Option<String>,
    vessels: Vec<Vessel>,
}

#[derive(Debug, Deserialize)]
struct Gate {
    paused: bool,
    allow: Vec<String>,
    allowed: Option<bool>,
    rate_limit: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Sender {
    verified: Option<bool>,
    mode: String,
    reason: Option<String>,
    detail: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Event {
    id: Option<String>,
    r#type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Filter {
    when: String,
    result: Option<bool>,
    detail: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Vessel {
    name: String,
    after: BTreeMap<String, String>,
    problem: Option<String>,
    argv: Option<Vec<String>>,
    program: Option<String>,
    directory: Option<String>,
    user: Option<String>,
    environment: BTreeMap<String, String>,
    files: Vec<File>,
    packages: Option<Packages>,
    runner: Option<Runner>,
    stdin_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Packages {
    names: Vec<String>,
    file: Option<String>,
    directory: Option<String>,
    installed: bool,
}

#[derive(Debug, Deserialize)]
struct Runner {
    name: Option<String>,
    cleanup: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct File {
    path: String,
    bytes: u64,
    mode: String,
}

/// Asks for the dry run that `arguments` describe; `fleet` is the path of the fleet.
pub(super) fn run(session: &Session, fleet: &str, arguments: &RunArgs) -> anyhow::Result<Outcome> {
    let (path, content) = match (&arguments.of_run, &arguments.of_delivery) {
        (Some(run), _) => (format!("/runs/{}", percent_encoded(run)), Content::empty()),
        (None, Some(id)) => (format!("/deliveries/{}", percent_encoded(id)), Content::empty()),
        (None, None) => {
            let body = arguments.body.as_deref().map(open_body).transpose()?;
            (fleet.to_owned(), webhook_content(&arguments.headers, body)?)
        }
    };
    let answer = session.client.send(Method::POST, &format!("{path}/dry-run"), content)?;
    match session.json {
        true => print_json(answer.raw())?,
        false => print(&render(&answer.parse()?))?,
    }
    Ok(Outcome::Done)
}

fn render(forecast: &Forecast) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        // A String takes whatever is written.
        let _ = writeln!(text, "{label:<11}{}", printable(value));
    };
    line("fleet", &format!("{}, version {}", forecast.fleet_name, forecast.fleet_version));
    let status = forecast.status.map_or_else(|| "a vessel answers".into(), |it| it.to_string());
    line("outcome", &format!("{} ({status})", forecast.outcome));
    let Gate { paused, allow, allowed, rate_limit } = &forecast.webhook;
    if *paused {
        line("webhook", "is paused");
    }
    if !allow.is_empty() {
        let says = if *allowed == Some(false) { ", and not from this address" } else { "" };
        line("allow", &format!("{}{says}", allow.join(", ")));
    }
    if let Some(rate) = rate_limit {
        line("rate", rate);
    }
    line("sender", &sender(&forecast.sender));
    if let Some(Event { id, r#type }) = &forecast.event {
        let words = [r#type.as_deref(), id.as_deref()];
        line("event", &words.into_iter().flatten().collect::<Vec<_>>().join(" "));
    }
    if let Some(run) = &forecast.duplicate_of {
        line("duplicate", &format!("of the run {run}"));
    }
    if let Some(run) = &forecast.first_run {
        line("event", &format!("came before, and its run {run} has ended without success"));
    }
    if let Some(filter) = &forecast.filter {
        let said = match (&filter.detail, filter.result) {
            (Some(detail), None) => format!("fails, so that the request runs: {detail}"),
            (Some(detail), _) => detail.clone(),
            (None, _) => format!("`{}` is true", filter.when),
        };
        line("filter", &said);
    }
    if let Some(key) = &forecast.concurrency_key {
        line("key", key);
    }
    for vessel in &forecast.vessels {
        text.push('\n');
        text.push_str(&render_vessel(vessel));
    }
    text
}

fn sender(sender: &Sender) -> String {
    let Sender { verified, mode, reason, detail } = sender;
    let why = [reason.as_deref(), detail.as_deref()].into_iter().flatten();
    let why = why.collect::<Vec<_>>().join(": ");
    match verified {
        Some(true) => "verified".to_owned(),
        Some(false) if mode == "observe" => {
            format!("not verified, which mode: observe lets run: {why}")
        }
        Some(false) => format!("not verified: {why}"),
        None if why.is_empty() => "the fleet verifies none".to_owned(),
        None => why,
    }
}

fn render_vessel(vessel: &Vessel) -> String {
    let mut text = format!("vessel {}\n", printable(&vessel.name));
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "  {label:<11}{}", printable(value));
    };
    for (before, condition) in &vessel.after {
        line("after", &format!("{before}, when it ends as {condition}"));
    }
    if let Some(problem) = &vessel.problem {
        line("problem", problem);
    }
    for (index, word) in vessel.argv.iter().flatten().enumerate() {
        line(&format!("argv[{index}]"), &escaped(word));
    }
    let known =
        [("program", &vessel.program), ("directory", &vessel.directory), ("user", &vessel.user)];
    for (label, value) in known {
        if let Some(value) = value {
            line(label, value);
        }
    }
    line("stdin", &format!("{} bytes", vessel.stdin_bytes));
    for File { path, bytes, mode } in &vessel.files {
        line("file", &format!("{path} ({bytes} bytes, mode {mode})"));
    }
    if let Some(Packages { names, file, directory, installed }) = &vessel.packages {
        let file = file.as_ref().map(|file| format!("{file} of the code, if it has one"));
        let what = names.iter().cloned().chain(file).collect::<Vec<_>>().join(", ");
        let how = if *installed { "installed" } else { "installed first" };
        let place = directory.as_ref().map(|it| format!(" in {it}")).unwrap_or_default();
        line("packages", &format!("{what} ({how}{place})"));
    }
    if let Some(Runner { name, cleanup }) = &vessel.runner {
        line("runner", name.as_deref().unwrap_or("of the fleet"));
        for (index, word) in cleanup.iter().enumerate() {
            line(&format!("cleanup[{index}]"), &escaped(word));
        }
    }
    for (name, value) in &vessel.environment {
        line("environment", &format!(" {name}={}", escaped(value)));
    }
    text
}

/// `text` on one line.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}
