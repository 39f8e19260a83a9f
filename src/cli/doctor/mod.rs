//! `boathook doctor`: what the server finds of itself, and what can be seen from here. Where no
//! server answers, what can be told without one.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::Outcome;
use super::client::{CLIENT_ANSWER_BYTES_MAX, Client, ClientError};
use super::locate::{LocateError, Located, ServerOptions, Surroundings, locate, start_command};
use super::output::print_as_json;
use super::progress;
use crate::config::{Settings, Sources};
use crate::diagnostics::{examine_database_in, examine_without_server};
use crate::model::finding::{Finding, Level};

mod probe;
mod report;

use report::{Report, reading};

/// What is found of whether there is a server.
const SERVER: &str = "server";

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
What a fleet's programs, secrets and directories come to is examined by the server, which runs them \
and sees what its sandbox lets it see; listeners and the public URL are tried from here. At the end \
the whole database is read, at half a processor's speed, while the server goes on; Ctrl-C ends that \
early. Without a server, the data directory is examined, and its database read, by itself.

Exit status: 0 when all is well or there are only warnings, 1 when there is a problem. --json prints \
an array of {check, level, what, remedy}, the level being ok, warning or problem.")]
pub struct DoctorArgs {
    #[command(flatten)]
    server: ServerOptions,
}

/// What the server says of itself, as far as it matters here.
#[derive(Deserialize)]
struct Overview {
    version: String,
    healthy: bool,
    refused_because: Option<String>,
    #[serde(default)]
    launching_paused_because: Option<String>,
    hooks_url: String,
    public_url: Option<String>,
}

/// A line of the stream about the database.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress { rows: u64, bytes: u64 },
    Findings(Vec<Finding>),
}

/// Examines, and says what it finds while it does.
///
/// # Errors
/// When there is neither a server nor a data directory to be found, or they may not be read.
pub fn run(arguments: &DoctorArgs) -> anyhow::Result<Outcome> {
    let mut report = Report::new(!arguments.server.json);
    match locate(&arguments.server, &Surroundings::of_process()) {
        Ok(located) => examine(&located, &mut report)?,
        Err(LocateError::NotFound(candidates)) => {
            let Some(data_dir) = candidates.iter().find(|path| path.is_dir()) else {
                bail!(LocateError::NotFound(candidates));
            };
            let what = format!("there was none on {} yet", data_dir.display());
            let remedy = format!("start one: {}", start_command(data_dir));
            report.add(Finding::problem(SERVER, what, remedy))?;
            without_server(data_dir, &mut report)?;
        }
        Err(error) => bail!(error),
    }
    if arguments.server.json {
        print_as_json(&report.findings())?;
    } else {
        report.conclude()?;
    }
    let has_problem = report.findings().iter().any(|finding| finding.level == Level::Problem);
    Ok(if has_problem { Outcome::PartlyFailed } else { Outcome::Done })
}

fn examine(located: &Located, report: &mut Report) -> anyhow::Result<()> {
    let client = Client::new(located)?;
    let overview: Overview = match client.get("/overview") {
        Ok(answer) => answer.parse()?,
        Err(ClientError::NotRunning { url, advice }) => {
            let what = format!("nothing answers at {url}");
            return not_reached(located, what, advice, report);
        }
        Err(ClientError::NotProven { url, why, advice }) => {
            let what = format!("what listens at {url} is not your server: {why}");
            return not_reached(located, what, advice, report);
        }
        Err(error) => bail!(error),
    };
    report.add(server(&client, &overview))?;
    report.add(probe::hooks(&overview.hooks_url))?;
    if let Some(public) = &overview.public_url {
        // Before the server is asked: it takes note of how this comes.
        report.add(probe::public(public, &overview.hooks_url))?;
    }
    for finding in client.get("/doctor")?.parse::<Vec<Finding>>()? {
        report.add(finding)?;
    }
    for finding in database(&client)? {
        report.add(finding)?;
    }
    Ok(())
}

/// Reports why the server cannot be asked, then examines its data directory.
fn not_reached(
    located: &Located,
    what: String,
    advice: String,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.add(Finding::problem(SERVER, what, advice))?;
    match &located.data_dir {
        Some(data_dir) => without_server(data_dir, report),
        None => Ok(()),
    }
}

fn server(client: &Client, overview: &Overview) -> Finding {
    let (url, version) = (client.base(), &overview.version);
    if let Some(reason) = overview.refused_because.as_ref().filter(|_| !overview.healthy) {
        let what = format!("it accepts nothing: {reason}");
        return Finding::problem(SERVER, what, "what follows may say why; see also its log");
    }
    if let Some(reason) = &overview.launching_paused_because {
        let what = format!("runs wait, for launching is paused: {reason}");
        return Finding::problem(
            SERVER,
            what,
            "it goes on by itself when the machine has room again",
        );
    }
    let own = env!("CARGO_PKG_VERSION");
    if version != own {
        let what = format!("version {version} answers at {url}, and this is {own}");
        let remedy = "restart the server after an upgrade: systemctl restart boathook";
        return Finding::warning(SERVER, what, remedy);
    }
    Finding::ok(SERVER, format!("version {version} answers at {url}"))
}

/// Has the server read its whole database.
fn database(client: &Client) -> anyhow::Result<Vec<Finding>> {
    let mut progress = progress::Line::new();
    let answer = client.open("/doctor/database")?;
    let answer = BufReader::new(answer.into_body().into_reader().take(CLIENT_ANSWER_BYTES_MAX));
    for line in answer.lines() {
        let line = line.context("the server has not read its database to the end")?;
        match serde_json::from_str(&line)? {
            Line::Progress { rows, bytes } => progress.draw(&reading(rows, bytes)),
            Line::Findings(findings) => return Ok(findings),
        }
    }
    bail!("the server has stopped before its database was read to the end")
}

fn without_server(data_dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    let given = Sources { data_dir: Some(PathBuf::from(data_dir)), ..Sources::default() };
    match Settings::load(given, None) {
        Ok(settings) => {
            for finding in examine_without_server(&settings) {
                report.add(finding)?;
            }
        }
        Err(error) => {
            let remedy = "mend it; no server starts with it";
            report.add(Finding::problem("settings", error.to_string(), remedy))?;
        }
    }
    let mut progress = progress::Line::new();
    let findings = examine_database_in(data_dir, |read| {
        progress.draw(&reading(read.rows, read.bytes));
        true
    });
    drop(progress);
    for finding in findings {
        report.add(finding)?;
    }
    Ok(())
}
