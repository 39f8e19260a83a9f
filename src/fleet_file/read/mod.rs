//! The meaning of a fleet file: from the tree to a definition, every rule checked on the way.

mod confinement;
mod connections;
pub(super) mod environment;
mod notifications;
mod notify;
mod places;
mod retention;
mod source;
mod triggers;
mod turns;
mod vessel;

use std::collections::BTreeSet;

use super::cursor::{Cursor, Fields};
use super::node::Node;
use super::{FleetFile, FleetFileError, HiddenValue};
use crate::model::fleet::{Delivery, FleetDefinition, VesselDefinition};
use crate::model::limits::VESSELS_PER_FLEET_MAX;
use crate::model::name::{checked_name, name_key};
use crate::model::suggest::closest;

const FLEET_KEYS: &[&str] = &[
    "_id",
    "name",
    "project",
    "vessels",
    "connections",
    "concurrency",
    "overlap",
    "priority",
    "delivery",
    "notifications",
    "triggers",
    "user",
    "notify",
    "keep_runs",
];

/// The fleet that the tree describes.
pub(super) fn fleet(root: &Node) -> Result<FleetFile, FleetFileError> {
    let root = Cursor::root(root);
    let fields = root.fields(FLEET_KEYS)?;
    let name = fields.get("name").ok_or_else(|| {
        root.missing("name", "missing; give the fleet a name, as in `name: demo`")
    })?;
    let name = name_of(name)?;
    let id = match fields.get("_id") {
        Some(id) => Some(id.text()?.parse().map_err(|_| {
            id.invalid("not a UUID; remove `_id` to have the fleet found by its name")
        })?),
        None => None,
    };
    let project = fields.get("project").map(name_of).transpose()?;
    let delivery = delivery(&fields)?;
    let mut hidden = Vec::new();
    let vessels = vessels(&root, &fields, delivery, &mut hidden)?;
    let paths = match fields.get("connections") {
        Some(connections) => connections::paths(connections, &vessels)?,
        None => Vec::new(),
    };
    places::check(&vessels, &paths, &fields)?;
    let (concurrency, overlap) = turns::concurrency(&fields)?;
    let priority = turns::priority(&fields)?;
    let notifications = match fields.get("notifications") {
        Some(notifications) => notifications::notifications(notifications)?,
        None => None,
    };
    if let Some(triggers) = fields.get("triggers") {
        triggers::refuse_schedules(triggers)?;
    }
    let notify = match fields.get("notify") {
        Some(notify) => notify::notify(notify)?,
        None => Vec::new(),
    };
    let keep_runs = match fields.get("keep_runs") {
        Some(keep_runs) => retention::keep_runs(keep_runs)?,
        None => None,
    };
    let user = fields.get("user");
    let user_position = user.map(Cursor::position);
    let user = user.map(confinement::user).transpose()?;
    let definition = FleetDefinition {
        name,
        vessels,
        paths,
        concurrency,
        overlap,
        priority,
        delivery,
        user,
        notifications,
        notify,
        keep_runs,
    };
    Ok(FleetFile { id, project, definition, hidden, user_position })
}

fn name_of(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    checked_name(cursor.text()?).map_err(|error| cursor.invalid(error.to_string()))
}

fn delivery(fields: &Fields<'_>) -> Result<Delivery, FleetFileError> {
    let Some(delivery) = fields.get("delivery") else { return Ok(Delivery::default()) };
    match delivery.text()? {
        "at_least_once" => Ok(Delivery::AtLeastOnce),
        "at_most_once" => Ok(Delivery::AtMostOnce),
        other => {
            let known = ["at_least_once", "at_most_once"];
            Err(delivery.invalid(expected_word(other, &known)))
        }
    }
}

/// The message for a value that is none of the `known` words.
pub(super) fn expected_word(found: &str, known: &[&str]) -> String {
    let expected = format!("expected one of {}", known.join(", "));
    match closest(found, known.iter().copied()) {
        Some(meant) => format!("{expected}; did you mean {meant}?"),
        None => expected,
    }
}

fn vessels(
    root: &Cursor<'_>,
    fields: &Fields<'_>,
    delivery: Delivery,
    hidden: &mut Vec<HiddenValue>,
) -> Result<Vec<VesselDefinition>, FleetFileError> {
    const NONE: &str = "a fleet needs at least one vessel, as in `hello: {run: echo hello}`";
    let cursor = fields.get("vessels").ok_or_else(|| root.missing("vessels", NONE))?;
    if cursor.is_null() {
        return Err(cursor.invalid(NONE));
    }
    let entries = cursor.mapping()?;
    if entries.is_empty() {
        return Err(cursor.invalid(NONE));
    }
    if entries.len() > VESSELS_PER_FLEET_MAX {
        let message = format!(
            "{} vessels, more than {VESSELS_PER_FLEET_MAX}; split the fleet",
            entries.len()
        );
        return Err(cursor.invalid(message));
    }
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    let mut vessels = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let name = checked_name(name).map_err(|error| value.invalid_key(error.to_string()))?;
        if !names.insert(name_key(&name).into_owned()) {
            let message = "another vessel has this name in another encoding; rename one of the two";
            return Err(value.invalid_key(message));
        }
        let vessel = vessel::vessel(name, &value, delivery, hidden)?;
        if !ids.insert(vessel.id) {
            let message = "another vessel has the same `_id`; remove one of the two";
            return Err(value.invalid_key(message));
        }
        vessels.push(vessel);
    }
    Ok(vessels)
}
