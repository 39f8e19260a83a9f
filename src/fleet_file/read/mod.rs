//! From the tree to a definition, with all rules checked. `keys` reads the regular keys.

pub mod computed;
mod connections;
pub mod environment;
mod notifications;
mod packages;
mod places;
mod references;
mod schedules;
mod source;
mod vessel;

pub use vessel::check_argument;

use std::collections::BTreeSet;

use super::cursor::{Cursor, Fields};
use super::node::Node;
use super::{FleetFile, FleetFileError, HiddenValue, Positions, keys};
use crate::model::fleet::{Delivery, FleetDefinition, VesselDefinition};
use crate::model::limits::VESSELS_PER_FLEET_MAX;
use crate::model::name::{checked_name, name_key};
use crate::model::webhook::WebhookSettings;

/// The fleet that the tree describes.
pub fn fleet(root: &Node) -> Result<FleetFile, FleetFileError> {
    let root = Cursor::root(root);
    let fields = root.fields(&keys::names(keys::FLEET))?;
    let name = fields.get("name").ok_or_else(|| {
        root.missing("name", "missing; give the fleet a name, as in `name: demo`")
    })?;
    let mut fleet = FleetDefinition { name: name_of(name)?, ..FleetDefinition::default() };
    let id = match fields.get("_id") {
        Some(id) => Some(id.text()?.parse().map_err(|_| {
            id.invalid("not a UUID; remove `_id` to have the fleet found by its name")
        })?),
        None => None,
    };
    let project = fields.get("project").map(name_of).transpose()?;
    keys::read(keys::FLEET, &fields, &mut fleet)?;
    if fields.get("overlap").is_some() || fleet.concurrency_key.is_some() {
        fleet.concurrency.get_or_insert(1);
    }
    let mut hidden = Vec::new();
    fleet.vessels = vessels(&root, &fields, fleet.delivery, &mut hidden)?;
    let references = fields.get("vessels").map(references::references_of).transpose()?;
    if let Some(connections) = fields.get("connections") {
        fleet.paths = connections::paths(connections, &fleet.vessels)?;
    }
    places::check(&fleet.vessels, &fleet.paths, &fields)?;
    if let Some(notifications) = fields.get("notifications") {
        fleet.notifications = notifications::emails(notifications)?;
    }
    if let Some(notify) = fields.get("notify") {
        fleet.notify = notifications::notify(notify)?;
    }
    fleet.schedules = schedules::schedules(fields.get("schedules"), fields.get("triggers"))?;
    let settings = fields.get("webhook");
    let has_webhook_settings = settings.is_some();
    if let Some(settings) = settings.filter(|settings| !settings.is_null()) {
        webhook(settings, &mut fleet.webhook)?;
    }
    fleet.check_answering_vessel().map_err(|message| {
        let respond = settings.and_then(|settings| settings.entry("respond"));
        let vessel = respond.and_then(|respond| respond.entry("vessel"));
        vessel.as_ref().unwrap_or(&root).invalid(message)
    })?;
    let verify = settings.and_then(|settings| settings.entry("verify"));
    let positions = Positions {
        user: fields.get("user").map(Cursor::position),
        verify: verify.map(|verify| verify.position()),
    };
    Ok(FleetFile {
        id,
        project,
        definition: fleet,
        hidden,
        references: references.unwrap_or_default(),
        has_webhook_settings,
        positions,
        text: None,
        former: None,
    })
}

/// Reads what the block `webhook` names into `settings`.
pub fn webhook(block: &Cursor<'_>, settings: &mut WebhookSettings) -> Result<(), FleetFileError> {
    let fields = block.fields(&keys::names(keys::WEBHOOK))?;
    keys::read(keys::WEBHOOK, &fields, settings)?;
    if settings.keep_path && !settings.is_guarded() {
        let message = "a name is no secret: it needs `verify` with a secret and `mode: enforce`, or \
                       `allow`";
        return Err(match fields.get("keep_path") {
            Some(value) => value.invalid_key(message),
            None => block.missing("keep_path", message),
        });
    }
    Ok(())
}

fn name_of(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    checked_name(cursor.text()?).map_err(|error| cursor.invalid(error.to_string()))
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
