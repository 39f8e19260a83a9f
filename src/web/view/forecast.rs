//! The JSON of what would become of a request.

use std::collections::BTreeMap;

use serde::Serialize;

use super::delivery::EventJson;
use crate::engine::{VesselPreview, VesselStart};
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::fleet::FleetVersion;
use crate::model::ids::{FleetId, RunId};
use crate::model::network::Networks;
use crate::model::rate::Rate;
use crate::web::hooks::Forecast;

#[derive(Serialize)]
pub(in crate::web) struct ForecastJson<'a> {
    fleet_id: FleetId,
    fleet_name: &'a str,
    fleet_version: u32,
    outcome: &'static str,
    status: Option<u16>,
    webhook: GateJson<'a>,
    sender: SenderJson<'a>,
    event: Option<EventJson>,
    duplicate_of: Option<RunId>,
    first_run: Option<RunId>,
    filter: Option<FilterJson<'a>>,
    concurrency_key: Option<&'a str>,
    vessels: Vec<VesselJson<'a>>,
}

/// What the webhook decides before it looks at a sender.
#[derive(Serialize)]
struct GateJson<'a> {
    paused: bool,
    allow: &'a Networks,
    allowed: Option<bool>,
    rate_limit: Option<Rate>,
}

#[derive(Serialize)]
struct SenderJson<'a> {
    verified: Option<bool>,
    mode: &'static str,
    reason: Option<&'a str>,
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct FilterJson<'a> {
    when: &'a str,
    result: Option<bool>,
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct VesselJson<'a> {
    name: &'a str,
    /// The vessels before it, and how each has to end.
    after: BTreeMap<&'a str, &'static str>,
    /// Why it does not start.
    problem: Option<String>,
    argv: Option<&'a [String]>,
    program: Option<String>,
    directory: Option<String>,
    user: Option<&'a str>,
    environment: BTreeMap<&'a str, &'a str>,
    files: Vec<FileJson>,
    packages: Option<PackagesJson<'a>>,
    runner: Option<RunnerJson<'a>>,
    stdin_bytes: u64,
}

#[derive(Serialize)]
struct PackagesJson<'a> {
    names: &'a [String],
    file: Option<&'static str>,
    directory: Option<String>,
    installed: bool,
}

#[derive(Serialize)]
struct RunnerJson<'a> {
    /// In the settings.
    name: Option<&'a str>,
    cleanup: &'a [String],
}

#[derive(Serialize)]
struct FileJson {
    path: String,
    bytes: u64,
    /// Octal.
    mode: String,
}

impl<'a> ForecastJson<'a> {
    /// `forecast` of a request to the webhook of `version`.
    pub fn new(version: &'a FleetVersion, forecast: &'a Forecast) -> Self {
        let webhook = &version.definition.webhook;
        let filter = forecast.filter.as_ref().zip(webhook.when.as_ref());
        Self {
            fleet_id: version.fleet_id,
            fleet_name: &version.definition.name,
            fleet_version: version.version,
            outcome: forecast.outcome.word(),
            status: forecast.status,
            webhook: GateJson {
                paused: forecast.gate.is_paused,
                allow: &webhook.allow,
                allowed: forecast.gate.is_allowed,
                rate_limit: webhook.rate_limit,
            },
            sender: SenderJson {
                verified: forecast.sender.is_verified,
                mode: webhook.mode.word(),
                reason: forecast.sender.reason.as_deref(),
                detail: forecast.sender.detail.as_deref(),
            },
            event: EventJson::of(&forecast.event),
            duplicate_of: forecast.duplicate_of,
            first_run: forecast.first_run,
            filter: filter.map(|(filter, when)| FilterJson {
                when: when.text(),
                result: filter.is_wanted,
                detail: filter.detail.as_deref(),
            }),
            concurrency_key: forecast.key.as_ref().map(ConcurrencyKey::as_str),
            vessels: forecast.vessels.iter().map(|it| VesselJson::new(version, it)).collect(),
        }
    }
}

impl<'a> VesselJson<'a> {
    fn new(version: &'a FleetVersion, preview: &'a VesselPreview) -> Self {
        let name = |index: usize| {
            version.definition.vessels.get(index).map_or("", |vessel| vessel.name.as_str())
        };
        let after = preview.after.iter();
        let empty = Self {
            name: name(preview.vessel),
            after: after.map(|(vessel, condition)| (name(*vessel), condition.word())).collect(),
            problem: None,
            argv: None,
            program: None,
            directory: None,
            user: None,
            environment: BTreeMap::new(),
            files: Vec::new(),
            packages: None,
            runner: None,
            stdin_bytes: 0,
        };
        match &preview.start {
            VesselStart::Skipped(skip) => Self { problem: Some(skip.log_line().into()), ..empty },
            VesselStart::Failed(why) => Self { problem: Some(why.clone()), ..empty },
            VesselStart::Started { program, environment, user, runner, body_bytes } => {
                let files = program.files.iter().map(|file| FileJson {
                    path: file.path.display().to_string(),
                    bytes: file.bytes,
                    mode: format!("{:03o}", file.mode),
                });
                Self {
                    problem: program.problem.clone(),
                    argv: program.problem.is_none().then_some(program.arguments.as_slice()),
                    program: program.path.as_ref().map(|path| path.display().to_string()),
                    directory: Some(program.directory.display().to_string()),
                    user: Some(user),
                    environment: environment.iter().collect(),
                    files: files.collect(),
                    packages: program.packages.as_ref().map(|packages| PackagesJson {
                        names: &packages.packages,
                        file: packages.file,
                        directory: packages.directory.as_ref().map(|it| it.display().to_string()),
                        installed: packages.is_installed,
                    }),
                    runner: program
                        .cleanup
                        .as_ref()
                        .map(|cleanup| RunnerJson { name: runner.as_deref(), cleanup }),
                    stdin_bytes: *body_bytes,
                    ..empty
                }
            }
        }
    }
}
