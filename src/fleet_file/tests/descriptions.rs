//! `openapi.json` and `boathook help fleet-file` describe the keys that the tables have, with their bounds.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::keys::{self, Key, Kind, Shown};
use super::*;
use crate::model::confinement::Confinement;
use crate::model::guardrails::Guardrails;
use crate::model::schedule::Schedule;
use crate::model::sender::table::PRESETS;

const OPENAPI: &str = include_str!("../../web/admin/openapi.json");
const HELP: &str = include_str!("../../cli/help/fleet-file.md");

/// Keys of the hosted system's files that have no row of their own in the help.
const WITHOUT_HELP: [&str; 1] = ["vessel._id"];

fn schema(pointer: &str) -> Value {
    let description: Value = serde_json::from_str(OPENAPI).unwrap();
    let found = description.pointer(&format!("/components/schemas/{pointer}"));
    found.unwrap_or_else(|| panic!("openapi.json has no {pointer}")).clone()
}

/// The schema of the key in a fleet file; `None`: the key has a form of its own.
fn file_schema<T>(kind: &Kind<T>) -> Option<Value> {
    match kind {
        Kind::Number { min, max: u32::MAX, .. } => Some(json!({"type": "integer", "minimum": min})),
        Kind::Number { min, max, .. } => {
            Some(json!({"type": "integer", "minimum": min, "maximum": max}))
        }
        Kind::Signed { max, .. } => {
            Some(json!({"type": "integer", "minimum": -max, "maximum": max}))
        }
        Kind::Duration { .. } | Kind::Seconds { .. } => {
            Some(json!({"$ref": "#/components/schemas/Duration"}))
        }
        Kind::Size { .. } => Some(json!({"$ref": "#/components/schemas/Size"})),
        Kind::Word { words, .. } => {
            Some(json!({"enum": words.iter().map(|(word, _)| word).collect::<Vec<_>>()}))
        }
        Kind::Special { .. } | Kind::ByHand => None,
    }
}

#[track_caller]
fn assert_file_schema<T>(block: &str, table: &[Key<T>]) {
    let described = schema(&format!("{block}/properties"));
    let described = described.as_object().unwrap();
    let names: BTreeSet<_> = keys::names(table).into_iter().collect();
    assert_eq!(described.keys().map(String::as_str).collect::<BTreeSet<_>>(), names, "{block}");
    for key in table {
        if let Some(expected) = file_schema(&key.kind) {
            assert_eq!(described[key.name], expected, "`{}` of {block} in openapi.json", key.name);
        }
    }
}

#[test]
fn the_schema_of_the_fleet_file_has_the_keys_and_bounds_of_the_tables() {
    assert_file_schema("FleetFile", keys::FLEET);
    assert_file_schema("WebhookSettings", keys::WEBHOOK);
    assert_file_schema("FileSchedule", keys::SCHEDULE);
    assert_file_schema("FileVessel", keys::VESSEL);
    assert_file_schema("FileVessel/properties/guardrails", keys::GUARDRAILS);
    assert_file_schema("FileVessel/properties/limits", keys::LIMITS);
}

/// Checks that the schema `block` of the API has the keys that the view shows, and requires them.
#[track_caller]
fn assert_api_schema<T>(block: &str, table: &[Key<T>], shown: &Value) {
    let schema = schema(block);
    let required: BTreeSet<_> =
        schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for name in shown.as_object().unwrap().keys() {
        assert!(schema["properties"].get(name).is_some(), "{block} in openapi.json lacks `{name}`");
        assert!(required.contains(name.as_str()), "{block} in openapi.json: require `{name}`");
    }
    for key in table {
        if let Kind::Word { .. } = &key.kind {
            assert_eq!(schema["properties"][key.name], file_schema(&key.kind).unwrap(), "{block}");
        }
    }
}

#[test]
fn the_schema_of_the_api_has_the_keys_that_the_view_shows() {
    let shown = |value| serde_json::to_value(value).unwrap();
    let fleet = shown(json!(Shown::from(&FleetDefinition::default())));
    assert_api_schema("Fleet", keys::FLEET, &fleet);
    let webhook = shown(json!(Shown::from(&WebhookSettings::default())));
    assert_api_schema("Webhook", keys::WEBHOOK, &webhook);
    let schedule = shown(json!(Shown::from(&Schedule::default())));
    assert_api_schema("FleetSchedule", keys::SCHEDULE, &schedule);
    let confinement = shown(json!(Shown::from(&Confinement::default())));
    assert_api_schema("Vessel", keys::VESSEL, &confinement);
    let guardrails = shown(json!(Shown::from(&Guardrails::default())));
    assert_api_schema("Vessel/properties/guardrails", keys::GUARDRAILS, &guardrails);
    let limits = schema("Vessel/properties/limits/properties");
    let limits: BTreeSet<_> = limits.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(limits, keys::names(keys::LIMITS).into_iter().collect());
}

/// The rows of the table below `heading`: the key, and what it says.
fn rows(heading: &str) -> Vec<(&'static str, &'static str)> {
    let (_, section) = HELP.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.collect()
}

/// Texts that the help of the key contains: its words, or the ends of its range.
fn bounds<T>(kind: &Kind<T>) -> Vec<String> {
    match kind {
        Kind::Number { min, max, .. } if *max < 1_000 => vec![min.to_string(), max.to_string()],
        Kind::Signed { max, .. } => vec![format!("-{max} to {max}")],
        Kind::Word { words, .. } => words.iter().map(|(word, _)| format!("`{word}`")).collect(),
        _ => Vec::new(),
    }
}

#[track_caller]
fn assert_help<T>(block: &str, heading: &str, table: &[Key<T>]) {
    let rows = rows(heading);
    let names = keys::names(table);
    for (name, _) in &rows {
        assert!(names.contains(name), "the help of {block} explains `{name}`, which is no key");
    }
    for key in table {
        let row = rows.iter().find(|(name, _)| *name == key.name);
        let is_left_out = WITHOUT_HELP.contains(&format!("{block}.{}", key.name).as_str());
        assert_eq!(row.is_none(), is_left_out, "cli/help/fleet-file.md: `{}`", key.name);
        for bound in bounds(&key.kind) {
            let (_, text) = row.unwrap();
            assert!(text.contains(&bound), "the help of `{}` does not name {bound}", key.name);
        }
    }
}

#[test]
fn the_help_explains_the_keys_of_the_tables() {
    assert_help("fleet", "Of the fleet", keys::FLEET);
    assert_help("webhook", "Webhook", keys::WEBHOOK);
    assert_help("schedules", "Schedules", keys::SCHEDULE);
    assert_help("vessel", "Of a vessel", keys::VESSEL);
    assert_help("guardrails", "Guardrails", keys::GUARDRAILS);
    let rows = rows("Of a vessel");
    let (_, limits) = rows.iter().find(|(name, _)| *name == "limits").unwrap();
    for name in keys::names(keys::LIMITS) {
        assert!(limits.contains(&format!("`{name}`")), "the help of `limits` does not name {name}");
    }
}

#[test]
fn the_schema_lists_the_presets_of_senders() {
    let known: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
    assert_eq!(schema("Preset/enum"), json!(known));
}
