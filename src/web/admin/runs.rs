//! Runs: starting, listing, showing, stopping and replaying them.

use std::sync::Arc;

use serde::Deserialize;

use super::access::API_KEY_HEADER;
use super::fleets::{file_refusal, fleet_id};
use super::{AdminHandler, Call, Outcome, Reply, csv};
use crate::engine::{RUN_IDS_SEARCHED_MAX, RunFilter, RunView};
use crate::fleet_file::parse_overrides;
use crate::model::fleet::{FleetDefinition, FleetVersion};
use crate::model::ids::RunId;
use crate::model::overrides::Overrides;
use crate::model::refusal::{Reason, Refusal};
use crate::model::request::RequestHead;
use crate::model::run::{Status, Trigger};
use crate::web::hooks::{Screened, screen, stored_head, trusted_arrival};
use crate::web::origin;
use crate::web::query::NEXT_BEFORE;
use crate::web::respond;
use crate::web::view::RunJson;

/// Letters of a run's id that a person may leave it at, as long as only one run has them.
const RUN_FRAGMENT_LETTERS_MIN: usize = 1;

/// The overrides of a test run, in JSON: its body is that of the webhook.
const OVERRIDES_HEADER: &str = "Boathook-Overrides";

/// Headers of an admin request that concern the admin listener alone.
const ADMIN_HEADERS: [&str; 7] = [
    "Authorization",
    OVERRIDES_HEADER,
    "Cookie",
    "Host",
    API_KEY_HEADER,
    origin::PAGE_HEADER,
    origin::SESSION_HEADER,
];

/// Whether the header called `name` concerns the admin listener alone.
pub(super) fn is_admin_header(name: &str) -> bool {
    ADMIN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// The API trigger, or an on-demand run.
pub(super) fn start(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let version = admin.engine.current_version(fleet_id(call)?)?;
    let trigger = match call.query.parsed("trigger")? {
        None => Trigger::Api,
        Some(trigger @ (Trigger::Api | Trigger::OnDemand)) => trigger,
        Some(_) => {
            return Err(Refusal::bad_request("query parameter \"trigger\": api or on_demand"));
        }
    };
    let overrides = match call.json_text()? {
        Some(text) => overrides_in(call, &text, &version.definition)?,
        None => Overrides::default(),
    };
    start_with(admin, &version, trigger, overrides)
}

/// Starts a run without a request.
pub(super) fn start_with(
    admin: &AdminHandler,
    version: &Arc<FleetVersion>,
    trigger: Trigger,
    overrides: Overrides,
) -> Outcome {
    let head = RequestHead { overrides, ..RequestHead::default() };
    let run = admin.engine.accept_without_request(version, trigger, head)?;
    let run = admin.engine.confirm(run);
    Ok(Reply::json(201, respond::accepted(version, admin.organization, run)))
}

/// The overrides in `text`, as far as the principal may set them.
///
/// # Errors
/// 422 when a run cannot follow them, 403 when they set variables that only authors may add.
pub(super) fn overrides_in(
    call: &Call<'_>,
    text: &str,
    definition: &FleetDefinition,
) -> Result<Overrides, Refusal> {
    let overrides = parse_overrides(text, definition).map_err(file_refusal)?;
    if !call.principal()?.may_add_variables()
        && let Some((vessel, name)) = overrides.undeclared(definition)
    {
        let message = format!(
            "the vessel {vessel:?} declares no variable {name:?}; setting others needs a token with \
             the role author"
        );
        return Err(Refusal::new(Reason::Forbidden, message));
    }
    Ok(overrides)
}

/// The overrides in the header of a test run; none without it.
fn overrides_in_header(
    call: &Call<'_>,
    definition: &FleetDefinition,
) -> Result<Overrides, Refusal> {
    let Some(bytes) = call.request.header(OVERRIDES_HEADER) else {
        return Ok(Overrides::default());
    };
    let no_text = |_| Refusal::bad_request(format!("{OVERRIDES_HEADER}: its value is not UTF-8"));
    overrides_in(call, std::str::from_utf8(bytes).map_err(no_text)?, definition)
}

/// A run as a webhook would start it. The token of the API stands in for the sender's signature; the
/// duplicate check and the filter are those of the webhook.
pub(super) fn test(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let version = admin.engine.current_version(fleet_id(call)?)?;
    let overrides = overrides_in_header(call, &version.definition)?;
    let settings = &version.definition.webhook;
    call.request.headers.retain(|(name, _)| !is_admin_header(name));
    let request = &*call.request;
    let mut arrival = trusted_arrival(settings, request)?;
    let run = match screen(&admin.engine, &admin.settings, &version, request, &mut arrival) {
        Screened::Unwanted(_) => {
            call.is_change = false;
            return Ok(Reply::json(200, "null".to_owned()));
        }
        Screened::Duplicate(first) => first,
        Screened::Wanted => {
            let head = stored_head(request, settings.verify.as_ref());
            let head = RequestHead { overrides, ..head };
            let (body, length) = (&mut request.body.reader(), Some(request.body.length()));
            admin.engine.accept(&version, Trigger::Webhook, head, arrival, body, length)?
        }
    };
    let is_duplicate = run.is_duplicate();
    let ids = respond::accepted(&version, admin.organization, admin.engine.confirm(run));
    if is_duplicate {
        call.is_change = false;
        return Ok(Reply::json(200, ids).with_header(respond::DUPLICATE, "true".to_owned()));
    }
    Ok(Reply::json(201, ids))
}

pub(super) fn list(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let query = &call.query;
    let known = ["fleet", "status", "trigger", "since", "until", "before", "limit", "vessels"];
    query.allow_only(&known)?;
    let is_csv = call.accepts(csv::MEDIA_TYPE);
    let page = admin.engine.runs(&RunFilter {
        fleet: query.parsed("fleet")?,
        status: query.parsed("status")?,
        trigger: query.parsed("trigger")?,
        since: query.parsed("since")?,
        until: query.parsed("until")?,
        before: query.parsed("before")?,
        reach: call.reach.clone(),
        limit: if is_csv { csv::ROWS_MAX } else { query.limit()? },
        with_vessels: is_csv || query.parsed("vessels")?.unwrap_or(true),
        ..RunFilter::default()
    });
    if is_csv {
        let table = csv::of_runs(&page.runs, Status::word, Trigger::word);
        let next = page.next_before.into_iter();
        return Ok(next.fold(table, |it, last| it.with_header(NEXT_BEFORE, last.to_string())));
    }
    let principal = call.principal()?;
    let shown: Vec<_> = page.runs.iter().map(|view| RunJson::new(view, &principal)).collect();
    Reply::page(&shown, page.next_before.map(|last| last.to_string()))
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = run(admin, call)?;
    let principal = call.principal()?;
    if principal.sees_status_only() {
        return Reply::ok(&RunJson::new(&view, &principal));
    }
    let notifications = admin.engine.notifications_of(view.run.id);
    Reply::ok(&RunJson::from(&view).with_notifications(&notifications))
}

pub(super) fn stop(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let id = run_id(admin, call)?;
    Reply::ok(&RunJson::from(&admin.engine.stop_run(id)?))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReplayBody {
    /// The vessel to begin with; absent: the whole run.
    from: Option<String>,
}

/// A run once more, as a new run.
pub(super) fn replay(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let id = run_id(admin, call)?;
    let body: ReplayBody = call.json()?.unwrap_or_default();
    let (version, replay) = admin.engine.replay(id, body.from.as_deref())?;
    Ok(Reply::json(201, respond::accepted(&version, admin.organization, replay)))
}

pub(super) fn stop_vessel(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = admin.engine.stop_vessel_run(call.vessel_run_id(admin)?)?;
    Reply::ok(&RunJson::from(&view))
}

/// The run that is named is not there.
pub(super) fn no_run(call: &Call<'_>) -> Refusal {
    Refusal::not_found(format!("no such run: {:?}", call.segment(0)))
}

/// The run that the path names.
pub(super) fn run(admin: &AdminHandler, call: &Call<'_>) -> Result<RunView, Refusal> {
    let id = run_id(admin, call)?;
    admin.engine.run(id).ok_or_else(|| match admin.engine.is_stored(id) {
        true => Refusal::failed(format!(
            "the row of the run {id} is damaged; `boathook doctor` says what else is"
        )),
        false => no_run(call),
    })
}

/// The id of the run that the path names: by its id, or by a part of it that no other run's id has. One
/// out of reach is not found.
fn run_id(admin: &AdminHandler, call: &Call<'_>) -> Result<RunId, Refusal> {
    let named = call.segment(0);
    if let Ok(id) = named.parse::<RunId>() {
        return if call.reaches_run(admin, id) { Ok(id) } else { Err(no_run(call)) };
    }
    if named.len() < RUN_FRAGMENT_LETTERS_MIN {
        return Err(Refusal::bad_request(format!(
            "give at least {} letters of the run's id",
            RUN_FRAGMENT_LETTERS_MIN
        )));
    }
    let (found, are_all) = admin.engine.find_runs(named, 2, &call.reach);
    match found.as_slice() {
        [] if are_all => Err(no_run(call)),
        [] => Err(Refusal::not_found(format!(
            "no such run among the newest {}: {named:?}; give the whole id",
            RUN_IDS_SEARCHED_MAX
        ))),
        [id] => Ok(*id),
        [first, second, ..] => Err(Refusal::new(
            Reason::Conflict,
            format!(
                "several runs go by {named:?}, such as {first} and {second}; give more of the id"
            ),
        )),
    }
}
