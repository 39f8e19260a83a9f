//! Many runs at once: replaying and stopping those that a filter matches, or that are named.

use serde::{Deserialize, Serialize};

use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::{Engine, EngineError, Reach, ReplayError, RunFilter};
use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, RunId};
use crate::model::limits::LIST_MAX;
use crate::model::refusal::Refusal;
use crate::model::run::{RunRecord, Status, Trigger};

/// Which runs. Without `runs`, those that all of the others match.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Selection {
    runs: Option<Vec<RunId>>,
    fleet: Option<FleetId>,
    status: Option<Status>,
    trigger: Option<Trigger>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    before: Option<RunId>,
    /// Whether only to tell which runs these are.
    dry_run: bool,
}

/// What became of the runs.
#[derive(Default, Serialize)]
struct ManyJson {
    matched: usize,
    runs: Vec<DoneJson>,
    failed: Vec<FailedJson>,
    /// Why the rest was left undone.
    ended_early: Option<String>,
    /// The `before` with which to go on, if there may be more.
    next_before: Option<RunId>,
}

#[derive(Serialize)]
struct DoneJson {
    id: RunId,
    /// The new run.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<RunId>,
}

#[derive(Serialize)]
struct FailedJson {
    id: RunId,
    reason: String,
}

/// The matched runs, and where to go on.
struct Selected {
    ids: Vec<RunId>,
    next_before: Option<RunId>,
}

/// Replays runs, the oldest first.
pub(super) fn replay(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let selection = selection(call)?;
    let mut selected = selection.select(&admin.engine, &call.reach, |_| true);
    selected.ids.reverse();
    (call.is_change, call.object) = (!selection.dry_run, selected.told());
    if selection.dry_run {
        return selected.shown();
    }
    let mut many = selected.begin();
    for id in selected.ids {
        match admin.engine.replay(id, None) {
            Ok((_, replay)) => many.runs.push(DoneJson { id, replay: Some(replay) }),
            Err(ReplayError::NotAccepted(error)) if many.runs.is_empty() => {
                return Err(error.into());
            }
            Err(ReplayError::NotAccepted(error)) => {
                many.ended_early = Some(Refusal::from(error).message.into_owned());
                break;
            }
            Err(error) => many.failed.push(FailedJson { id, reason: error.to_string() }),
        }
    }
    Reply::created(&many)
}

/// Stops runs that have not ended, the latest first.
pub(super) fn stop(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let selection = selection(call)?;
    let selected = selection.select(&admin.engine, &call.reach, |run| !run.status.is_final());
    (call.is_change, call.object) = (!selection.dry_run, selected.told());
    if selection.dry_run {
        return selected.shown();
    }
    let mut many = selected.begin();
    for id in selected.ids {
        match admin.engine.stop_run(id) {
            Ok(_) => many.runs.push(DoneJson { id, replay: None }),
            // Retention has removed it meanwhile.
            Err(EngineError::NotFound(_)) => {}
            Err(error) => many.failed.push(FailedJson { id, reason: error.to_string() }),
        }
    }
    Reply::ok(&many)
}

fn selection(call: &mut Call<'_>) -> Result<Selection, Refusal> {
    let selection: Selection = call.json()?.unwrap_or_default();
    let Selection { runs, fleet, status, trigger, since, until, .. } = &selection;
    let filters = [
        fleet.is_some(),
        status.is_some(),
        trigger.is_some(),
        since.is_some(),
        until.is_some(),
        selection.before.is_some(),
    ];
    let has_filter = filters.contains(&true);
    match runs {
        Some(_) if has_filter => Err(Refusal::invalid("give either `runs` or a filter")),
        Some(runs) if runs.len() > LIST_MAX => {
            Err(Refusal::invalid(format!("`runs`: at most {LIST_MAX} at a time")))
        }
        None if !has_filter => Err(Refusal::invalid(
            "name `runs`, or one of `fleet`, `status`, `trigger`, `since` and `until`",
        )),
        _ => Ok(selection),
    }
}

impl Selection {
    /// The runs within `reach`, the latest first, of which `may` is true.
    fn select(&self, engine: &Engine, reach: &Reach, may: impl Fn(&RunRecord) -> bool) -> Selected {
        if let Some(runs) = &self.runs {
            let mut ids = runs.clone();
            ids.retain(|id| engine.is_within(*id, reach));
            ids.sort_unstable_by(|one, other| other.cmp(one));
            ids.dedup();
            return Selected { ids, next_before: None };
        }
        let page = engine.runs(&RunFilter {
            fleet: self.fleet,
            status: self.status,
            trigger: self.trigger,
            since: self.since,
            until: self.until,
            before: self.before,
            reach: reach.clone(),
            limit: LIST_MAX,
            ..RunFilter::default()
        });
        let runs = page.runs.iter().map(|view| &view.run).filter(|run| may(run));
        Selected { ids: runs.map(|run| run.id).collect(), next_before: page.next_before }
    }
}

impl Selected {
    fn begin(&self) -> ManyJson {
        let next_before = self.next_before;
        ManyJson { matched: self.ids.len(), next_before, ..ManyJson::default() }
    }

    /// How many these are, for the audit.
    fn told(&self) -> String {
        match self.ids.as_slice() {
            [id] => id.to_string(),
            ids => format!("{} runs", ids.len()),
        }
    }

    /// What would be done.
    fn shown(&self) -> Outcome {
        let runs = self.ids.iter().map(|id| DoneJson { id: *id, replay: None }).collect();
        Reply::ok(&ManyJson { runs, ..self.begin() })
    }
}
