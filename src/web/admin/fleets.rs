//! Fleets and their versions, in JSON and YAML.

use std::collections::BTreeSet;

use serde::Serialize;

use super::call::{media_type, unsupported};
use super::{AdminHandler, Call, Outcome, Reply};
use crate::diagnostics;
use crate::engine::{Applied, ExpectedVersion, FleetView, Reach, has_variable};
use crate::fleet_file::{self, FleetFile, FleetFileError};
use crate::listener::Response;
use crate::model::computed::Argument;
use crate::model::expansion::{Reference, references};
use crate::model::fleet::{
    DEFAULT_PROJECT, FleetDefinition, FleetVersion, Program, VesselDefinition,
};
use crate::model::ids::FleetId;
use crate::model::name::{is_same_name, name_key};
use crate::model::refusal::{Reason, Refusal};
use crate::model::runner::Runners;
use crate::model::source::Language;
use crate::model::variable::{FixedValue, SecretName, VariableValue};
use crate::model::webhook::WebhookSettings;
use crate::notify::rules;
use crate::web::query::{Position, Query};
use crate::web::view::{DefinitionJson, FleetJson, FleetNameJson, VersionJson};

const YAML: &str = "application/yaml";
/// A fleet file in JSON, other than what the API shows of a fleet.
const FILE_JSON: &str = "application/vnd.boathook.fleet+json";

pub(super) fn list(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let position = |view: &FleetView| Position::new(&view.fleet.name, view.fleet.id);
    call.query.allow_only(&["limit", "before", "name"])?;
    let is_asked_for = is_named_like(&call.query);
    let mut fleets = admin.engine.fleets();
    fleets.retain(|it| call.reach.has_fleet(it.fleet.id, None) && is_asked_for(&full_name(it)));
    let page = call.query.part(fleets, position)?;
    if call.principal()?.sees_status_only() {
        let shown: Vec<_> = page.items.iter().map(FleetNameJson::from).collect();
        return Reply::page(&shown, page.next);
    }
    Reply::page(&page.items.iter().map(FleetJson::from).collect::<Vec<_>>(), page.next)
}

/// The name of a fleet with that of its project.
pub(super) fn full_name(view: &FleetView) -> String {
    format!("{}/{}", view.project_name, view.fleet.name)
}

/// Whether a name has the text of the parameter `name` in it, in upper or lower case. Every name has the text
/// that is not given.
pub(super) fn is_named_like(query: &Query) -> impl Fn(&str) -> bool + use<> {
    let part = query.get("name").map(|part| name_key(part).to_lowercase());
    move |name| part.as_ref().is_none_or(|part| name_key(name).to_lowercase().contains(part))
}

pub(super) fn create(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let file = fleet_file(call)?;
    check_reach(admin, &call.reach, &file, None)?;
    let view = admin.engine.create_fleet(file)?;
    call.object = full_name(&view);
    let shown = FleetJson::from(&view).with_warnings(warnings(admin, &view));
    Ok(Reply::created(&shown)?.with_version(view.fleet.version))
}

/// `fleet apply`: the fleet of this name is made what the body says.
pub(super) fn apply(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    if call.query.get("by") != Some("name") {
        return Err(Refusal::bad_request(
            "query parameter \"by\": say by=name, or put the fleet's id into the path",
        ));
    }
    let (file, expected) = (fleet_file(call)?, expected_version(call));
    check_reach(admin, &call.reach, &file, None)?;
    let kept = kept_settings(&file);
    let (applied, view) = admin.engine.apply_fleet(file, &expected)?;
    let status = if matches!(applied, Applied::Created) { 201 } else { 200 };
    let changed = !matches!(applied, Applied::Unchanged);
    call.object = full_name(&view);
    call.is_change = changed;
    let mut warnings = warnings(admin, &view);
    warnings.extend(kept(&view));
    let shown = FleetJson::from(&view).with_changed(changed).with_warnings(warnings);
    Ok(Reply::with_status(status, &shown)?.with_version(view.fleet.version))
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = admin.engine.fleet(fleet_id(call)?)?;
    if call.principal()?.sees_status_only() {
        return Ok(Reply::ok(&FleetNameJson::from(&view))?.with_version(view.fleet.version));
    }
    call.query.allow_only(&["without_ids"])?;
    let id = (!call.query.flag("without_ids")?).then_some(view.fleet.id);
    let accept = call.request.header("Accept").unwrap_or_default();
    let mut ranges = accept.split(|byte| *byte == b',').map(media_type);
    let reply = match ranges.find(|range| is_yaml(range) || range == FILE_JSON) {
        Some(range) if range == FILE_JSON => {
            Reply::Plain(Response::new(200, FILE_JSON, json(&view)?))
        }
        Some(_) => Reply::Plain(Response::new(200, YAML, yaml(admin, &view, &view.current, id))),
        None => Reply::ok(&FleetJson::from(&view))?,
    };
    Ok(reply.with_version(view.fleet.version))
}

pub(super) fn update(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let id = fleet_id(call)?;
    let (file, expected) = (fleet_file(call)?, expected_version(call));
    check_reach(admin, &call.reach, &file, Some(id))?;
    let kept = kept_settings(&file);
    let view = admin.engine.update_fleet(id, file, &expected)?;
    let mut warnings = warnings(admin, &view);
    warnings.extend(kept(&view));
    let shown = FleetJson::from(&view).with_warnings(warnings);
    Ok(Reply::ok(&shown)?.with_version(view.fleet.version))
}

pub(super) fn delete(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    admin.engine.delete_fleet(fleet_id(call)?, &expected_version(call))?;
    Reply::gone()
}

pub(super) fn versions(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = admin.engine.fleet(fleet_id(call)?)?;
    let query = &call.query;
    query.allow_only(&["limit", "before"])?;
    let (before, limit) = (query.parsed("before")?, query.limit()?);
    // One more tells whether there are more.
    let versions = admin.engine.fleet_versions(view.fleet.id, before, limit + 1)?;
    let page = versions.get(..limit).unwrap_or(&versions);
    let last = page.last().filter(|_| page.len() < versions.len());
    let next = last.map(|version| version.version.to_string());
    let shown: Vec<_> = page.iter().map(|version| version_json(admin, &view, version)).collect();
    Reply::page(&shown, next)
}

pub(super) fn version(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = admin.engine.fleet(fleet_id(call)?)?;
    let version = admin.engine.fleet_version(view.fleet.id, call.id(1, "version")?)?;
    Reply::ok(&version_json(admin, &view, &version))
}

/// Makes a new version with the content of an old one: 201, or 200 if the newest has it already.
pub(super) fn revert(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let (id, version, expected) = (fleet_id(call)?, call.id(1, "version")?, expected_version(call));
    let (applied, view) = admin.engine.revert_fleet(id, version, &expected)?;
    let status = if matches!(applied, Applied::Unchanged) { 200 } else { 201 };
    Ok(Reply::with_status(status, &FleetJson::from(&view))?.with_version(view.fleet.version))
}

impl Reply {
    /// Adds the entity tag of the fleet: its version, which `If-Match` of a later change may name.
    pub(super) fn with_version(self, version: u32) -> Self {
        self.with_header("ETag", format!("\"{version}\""))
    }
}

/// What `If-Match` asks for (RFC 9110 13.1.1). A tag that is no version of a fleet never matches.
pub(super) fn expected_version(call: &Call<'_>) -> ExpectedVersion {
    let given =
        call.request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("If-Match"));
    let tags: Vec<&[u8]> = given
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    if tags.is_empty() {
        return ExpectedVersion::Any;
    }
    if tags.contains(&&b"*"[..]) {
        return ExpectedVersion::Existing;
    }
    let version = |tag: &&[u8]| -> Option<u32> {
        let digits = std::str::from_utf8(tag).ok()?.strip_prefix('"')?.strip_suffix('"')?;
        digits.parse().ok()
    };
    ExpectedVersion::OneOf(tags.iter().filter_map(version).collect())
}

/// What the author of a fleet should know that is no reason to refuse it.
pub(super) fn warnings(admin: &AdminHandler, view: &FleetView) -> Vec<String> {
    definition_warnings(admin, &view.current.definition)
}

fn definition_warnings(admin: &AdminHandler, definition: &FleetDefinition) -> Vec<String> {
    let mut warnings = rules::warnings(&admin.settings, definition);
    warnings.extend(definition.vessels.iter().filter_map(program_warning));
    let runners = &admin.settings.runners;
    let vessels = definition.vessels.iter();
    warnings.extend(vessels.flat_map(|it| reference_warnings(runners, definition, it)));
    if definition.webhook.keep_path {
        warnings.push(format!(
            "webhook.keep_path: the webhook answers at /hooks/{} too, which is no secret: `verify` and \
             `allow` alone guard it",
            definition.name
        ));
    }
    warnings.extend(diagnostics::unready_code(definition, &admin.settings));
    warnings
}

/// The warning that a file without the key `webhook` has left the fleet its settings.
fn kept_settings(file: &FleetFile) -> impl FnOnce(&FleetView) -> Option<String> + use<> {
    let says_nothing = !file.has_webhook_settings;
    move |view| kept_settings_warning(says_nothing, Some(view))
}

fn kept_settings_warning(says_nothing: bool, view: Option<&FleetView>) -> Option<String> {
    let has_settings = view?.current.definition.webhook != WebhookSettings::default();
    (says_nothing && has_settings).then(|| {
        "the file has no key `webhook`: the fleet keeps its webhook's settings; `webhook: {}` \
         resets them"
            .to_owned()
    })
}

fn program_warning(vessel: &VesselDefinition) -> Option<String> {
    let name = &vessel.name;
    match &vessel.program {
        Program::Code(code) if code.version.is_some() && code.language != Language::Python => {
            let language = code.language.word();
            Some(format!(
                "vessels.{name}.source.version is not looked at: {language} is the one in the \
                 vessel's PATH, which its environment may set"
            ))
        }
        Program::Command(command) if command.iter().any(has_cr_lf) => Some(format!(
            "vessels.{name}.command has CRLF line ends, which a shell takes for parts of its \
                 commands; write LF, or use `run`, whose line ends become LF"
        )),
        _ => None,
    }
}

/// The references in the words of a vessel that are probably not meant as they are.
fn reference_warnings(
    runners: &Runners,
    fleet: &FleetDefinition,
    vessel: &VesselDefinition,
) -> Vec<String> {
    let runner = runners.of(fleet, vessel).ok().flatten();
    let runner = runner.iter().flat_map(|it| it.command.iter().chain(&it.cleanup));
    let runner = runner.map(|word| ("runner", word.as_str()));
    let code = match &vessel.program {
        Program::Code(code) => Some(code),
        Program::Command(_) | Program::Script(_) => None,
    };
    let code = code.into_iter().flat_map(|code| code.words()).map(|word| ("source", word));
    let found: BTreeSet<String> = runner
        .chain(code)
        .flat_map(|(part, word)| references(word).map(move |reference| (part, reference)))
        .filter_map(|(part, reference)| {
            let why = reference_warning(vessel, part, &reference)?;
            Some(format!("vessels.{}.{part}: {why}", vessel.name))
        })
        .collect();
    found.into_iter().collect()
}

fn reference_warning(
    vessel: &VesselDefinition,
    part: &str,
    reference: &Reference<'_>,
) -> Option<String> {
    let shown = |secret: &SecretName| {
        format!(
            "the secret `{}` becomes part of an argument, which every user of this machine can \
             see; let the program read it from a variable",
            secret.as_str()
        )
    };
    match reference {
        Reference::Secret(secret) => (part == "source").then(|| shown(secret)),
        Reference::Variable(name) if !has_variable(vessel, name) => {
            Some(format!("${{{name}}} stays as it is written: the vessel has no variable {name}"))
        }
        Reference::Variable(name) => {
            let value = vessel.environment.iter().find(|(own, _)| own == name);
            match value {
                Some((_, VariableValue::Fixed(FixedValue::Secret { secret }))) => {
                    Some(shown(secret))
                }
                _ => None,
            }
        }
    }
}

fn has_cr_lf(argument: &Argument) -> bool {
    argument.literal().is_some_and(|text| text.contains("\r\n"))
}

/// The fleet that the path names. One out of reach is not found.
pub(super) fn fleet_id(call: &Call<'_>) -> Result<FleetId, Refusal> {
    let id = call.id(0, "fleet")?;
    match call.reach.has_fleet(id, None) {
        true => Ok(id),
        false => Err(Refusal::not_found(format!("there is no fleet {id}"))),
    }
}

/// Checks that a limited token saves a file into its own project, and as its own fleet if it is limited
/// to one. `id` is that of the fleet, if the path has named it.
pub(super) fn check_reach(
    admin: &AdminHandler,
    reach: &Reach,
    file: &FleetFile,
    id: Option<FleetId>,
) -> Result<(), Refusal> {
    let forbidden = |message| Err(Refusal::new(Reason::Forbidden, message));
    let (project, fleet) = match reach {
        Reach::Everything => return Ok(()),
        Reach::Project { project, .. } => (Some(*project), None),
        Reach::Fleet { fleet, project } => (*project, Some(*fleet)),
        Reach::Nothing => (None, None),
    };
    let Some(project) = project.and_then(|id| admin.engine.project(id).ok()) else {
        return forbidden("your token is limited to what is there no more".to_owned());
    };
    let of_file = file.project.as_deref();
    let named = of_file.or_else(|| id.is_none().then_some(DEFAULT_PROJECT));
    if named.is_some_and(|named| !is_same_name(named, &project.name)) {
        let own = &project.name;
        return forbidden(format!(
            "your token is limited to the project {own:?}; write `project: {own}` into the file"
        ));
    }
    if fleet.is_none() || fleet == id {
        return Ok(());
    }
    let own = fleet.and_then(|fleet| admin.engine.fleet(fleet).ok()).map(|view| view.fleet.name);
    match own {
        Some(own) if id.is_none() && is_same_name(&own, &file.definition.name) => Ok(()),
        own => {
            forbidden(format!("your token is limited to the fleet {:?}", own.unwrap_or_default()))
        }
    }
}

fn version_json(admin: &AdminHandler, view: &FleetView, version: &FleetVersion) -> VersionJson {
    VersionJson::new(version, yaml(admin, view, version, None), view.fleet.version)
}

/// The file of a version: the text that its author wrote, or one that is written anew, with the ids of
/// the fleet and its vessels if `id` is given.
fn yaml(
    admin: &AdminHandler,
    view: &FleetView,
    version: &FleetVersion,
    id: Option<FleetId>,
) -> String {
    let (definition, project) = (&version.definition, &view.project_name);
    let text = admin.engine.fleet_text(view, version.version);
    // Its project may have another name by now.
    let text = text.and_then(|text| fleet_file::adapted(&text, definition, project, false));
    text.unwrap_or_else(|| fleet_file::to_yaml(definition, project, id))
}

fn json(view: &FleetView) -> Result<String, Refusal> {
    let definition = &view.current.definition;
    fleet_file::to_json(definition, &view.project_name, Some(view.fleet.id)).map_err(file_refusal)
}

fn is_yaml(media_type: &str) -> bool {
    [YAML, "application/x-yaml", "text/yaml", "text/x-yaml"].contains(&media_type)
}

/// What a check of a fleet file finds: the fleet, or the first thing that keeps it from being one.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Checked<'a> {
    Definition(DefinitionJson<'a>),
    Error { line: Option<usize>, column: Option<usize>, path: String, message: String },
}

/// What an apply of a valid file would do.
#[derive(Serialize)]
struct CheckedApply<'a> {
    definition: DefinitionJson<'a>,
    outcome: &'static str,
    fleet: CheckedFleet<'a>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct CheckedFleet<'a> {
    /// `None`: it would be a new one.
    id: Option<FleetId>,
    name: &'a str,
    project_name: &'a str,
}

/// Reads a fleet file and changes nothing. A file with an error is a good question, so the answer
/// is 200 either way. With `by=name` it is asked what an apply would do, which depends on the fleets,
/// users and secrets that there are.
pub(super) fn check(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    call.query.allow_only(&["by"])?;
    let by_name = match call.query.get("by") {
        None => false,
        Some("name") => true,
        Some(_) => return Err(Refusal::bad_request("query parameter \"by\": say by=name")),
    };
    match parsed(call)? {
        Ok(file) if by_name => {
            check_reach(admin, &call.reach, &file, None)?;
            check_apply(admin, file)
        }
        Ok(file) => Reply::ok(&Checked::Definition(DefinitionJson::from(&file.definition))),
        Err(FleetFileError::Syntax { line, column, message }) => {
            let (line, column) = (Some(line), Some(column));
            Reply::ok(&Checked::Error { line, column, path: String::new(), message })
        }
        Err(FleetFileError::Invalid { line, column, path, message }) => {
            Reply::ok(&Checked::Error { line, column, path, message })
        }
    }
}

fn check_apply(admin: &AdminHandler, file: FleetFile) -> Outcome {
    let definition = file.definition.clone();
    let says_nothing = !file.has_webhook_settings;
    let planned = match admin.engine.plan_apply(file) {
        Ok(planned) => planned,
        Err(error) => {
            let (line, column, path) = (None, None, String::new());
            let message = error.to_string();
            return Reply::ok(&Checked::Error { line, column, path, message });
        }
    };
    let mut warnings = definition_warnings(admin, &definition);
    warnings.extend(kept_settings_warning(says_nothing, planned.current.as_ref()));
    let existing = planned.current.as_ref();
    Reply::ok(&CheckedApply {
        definition: DefinitionJson::from(&definition),
        outcome: match planned.applied {
            Applied::Created => "created",
            Applied::Updated => "updated",
            Applied::Unchanged => "unchanged",
        },
        fleet: CheckedFleet {
            id: existing.map(|view| view.fleet.id),
            name: &definition.name,
            project_name: &planned.project_name,
        },
        warnings,
    })
}

fn fleet_file(call: &mut Call<'_>) -> Result<FleetFile, Refusal> {
    parsed(call)?.map_err(file_refusal)
}

/// The body as a fleet, in the format that its Content-Type names. Without one, a text that begins
/// with `{` is JSON and any other is YAML.
fn parsed(call: &mut Call<'_>) -> Result<Result<FleetFile, FleetFileError>, Refusal> {
    let content_type = call.content_type();
    let is_json = match content_type.as_str() {
        yaml if is_yaml(yaml) => Some(false),
        "application/json" | FILE_JSON => Some(true),
        "" => None,
        other => return Err(unsupported(other, "application/yaml or application/json")),
    };
    let text = call.text()?;
    let is_json = is_json.unwrap_or_else(|| text.trim_start().starts_with('{'));
    Ok(if is_json { fleet_file::parse_json(&text) } else { fleet_file::parse_yaml(&text) })
}

/// What is not well-formed is a bad request; what is, but makes no sense, is invalid.
pub(super) fn file_refusal(error: FleetFileError) -> Refusal {
    match error {
        FleetFileError::Syntax { .. } => Refusal::bad_request(error.to_string()),
        FleetFileError::Invalid { .. } => Refusal::invalid(error.to_string()),
    }
}
