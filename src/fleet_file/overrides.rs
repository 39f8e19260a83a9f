//! The body of an API trigger: the overrides of one run. Errors name line and key, as for a fleet file, and
//! quote no value.

use super::cursor::{Cursor, Fields};
use super::read::environment::{check_name, check_value};
use super::{FleetFileError, json, keys};
use crate::model::fleet::FleetDefinition;
use crate::model::overrides::{Overrides, VesselOverride};
use crate::model::run::Skip;

/// The one reserved variable that overrides may set: it skips the vessel.
const STATUS: &str = "SHIPYARD_OVERRIDE_STATUS";

/// The values of [`STATUS`], and the exit code of each.
const STATUSES: [(&str, i32); 4] =
    [("SUCCESS", 0), ("SUCCESSFUL", 0), ("ERROR", 1), ("ERRORED", 1)];

/// Reads `{"vessel_overrides": [{"name", "environment_variable_overrides": {...}}]}` for a run of
/// the fleet that `definition` describes. A value of `null` or `"none"` leaves the fleet's variable of that name
/// out, `""` sets it empty.
///
/// # Errors
/// `Syntax` when it is not JSON, `Invalid` when a run cannot follow it.
pub fn parse_overrides(
    text: &str,
    definition: &FleetDefinition,
) -> Result<Overrides, FleetFileError> {
    let root = json::parse(text)?;
    let mut overrides = Overrides::default();
    let fields = Cursor::root(&root).fields(&["vessel_overrides"])?;
    let Some(vessels) = given(&fields, "vessel_overrides") else { return Ok(overrides) };
    for vessel in vessels.sequence()? {
        let fields = vessel.fields(&["name", "environment_variable_overrides"])?;
        let name = known_name(&vessel, &fields, definition)?;
        if overrides.of(name).is_some() {
            return Err(vessel.invalid(format!("vessel `{name}` comes twice; put both into one")));
        }
        let entry = overrides.entry(name);
        if let Some(variables) = given(&fields, "environment_variable_overrides") {
            for (name, value) in variables.mapping()? {
                set(entry, name, &value)?;
            }
        }
    }
    Ok(overrides)
}

/// The value of `key`. `null` counts as absent: clients write it for an empty list or map.
fn given<'f, 'a>(fields: &'f Fields<'a>, key: &'static str) -> Option<&'f Cursor<'a>> {
    fields.get(key).filter(|value| !value.is_null())
}

/// The vessel's name as its fleet has it.
fn known_name<'d>(
    vessel: &Cursor<'_>,
    fields: &Fields<'_>,
    definition: &'d FleetDefinition,
) -> Result<&'d str, FleetFileError> {
    let cursor = fields
        .get("name")
        .ok_or_else(|| vessel.missing("name", "missing; say which vessel is meant"))?;
    let name = cursor.text()?;
    let index = definition.vessel_index(name);
    index.and_then(|index| definition.vessels.get(index)).map(|it| it.name.as_str()).ok_or_else(
        || {
            let known: Vec<&str> = definition.vessels.iter().map(|it| it.name.as_str()).collect();
            cursor.invalid(unknown_vessel(name, &known))
        },
    )
}

fn unknown_vessel(name: &str, known: &[&str]) -> String {
    let name = super::node::excerpt(name);
    match crate::model::suggest::closest(&name, known.iter().copied()) {
        Some(meant) => format!("the fleet has no vessel `{name}`; did you mean `{meant}`?"),
        None => format!("the fleet has no vessel `{name}`"),
    }
}

fn set(entry: &mut VesselOverride, name: &str, value: &Cursor<'_>) -> Result<(), FleetFileError> {
    if name == STATUS {
        entry.skip = skip(value)?;
        return Ok(());
    }
    check_name(name).map_err(|message| value.invalid_key(message))?;
    // The hosted system takes the word for null as well.
    let is_left_out = value.is_null() || value.text() == Ok("none");
    let text = if is_left_out { None } else { Some(value.text()?) };
    check_value(name, text.unwrap_or_default()).map_err(|message| value.invalid(message))?;
    entry.environment.insert(name.to_owned(), text.map(str::to_owned));
    Ok(())
}

fn skip(value: &Cursor<'_>) -> Result<Option<Skip>, FleetFileError> {
    if value.is_null() {
        return Ok(None);
    }
    Ok(Some(Skip::Override { exit_code: keys::word(value, &STATUSES)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet_file::parse_yaml;

    fn read(text: &str) -> Result<Overrides, FleetFileError> {
        let fleet = "name: n\nvessels: {Vessel A: {run: x}, b: {run: x}, c: {run: x}}\n";
        parse_overrides(text, &parse_yaml(fleet).unwrap().definition)
    }

    #[test]
    fn variables_are_set_emptied_and_left_out_and_vessels_skipped() {
        let overrides = read(
            r#"{"vessel_overrides": [
                {"name": "Vessel A", "environment_variable_overrides":
                    {"ENV_VAR_1": "One", "empty": "", "unset": null, "left": "none", "N": 3.10}},
                {"name": "b", "environment_variable_overrides": {"SHIPYARD_OVERRIDE_STATUS": "ERROR"}},
                {"name": "c", "environment_variable_overrides": null}
            ]}"#,
        )
        .unwrap();
        let first = overrides.of("Vessel A").unwrap();
        let variables: Vec<_> = first
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let expected = [
            ("ENV_VAR_1", Some("One")),
            ("N", Some("3.10")),
            ("empty", Some("")),
            ("left", None),
            ("unset", None),
        ];
        assert_eq!(variables, expected);
        assert_eq!(first.skip, None);
        assert_eq!(overrides.of("b").unwrap().skip, Some(Skip::Override { exit_code: 1 }));
        assert_eq!(overrides.of("c"), Some(&VesselOverride::default()));
        for nothing in ["{}", r#"{"vessel_overrides": []}"#, r#"{"vessel_overrides": null}"#] {
            assert!(read(nothing).unwrap().is_empty());
        }
        for (word, exit_code) in STATUSES {
            let text = format!(
                r#"{{"vessel_overrides":[{{"name":"c","environment_variable_overrides":{{"{STATUS}":"{word}"}}}}]}}"#
            );
            let expected = Some(Skip::Override { exit_code });
            assert_eq!(read(&text).unwrap().of("c").unwrap().skip, expected, "{word}");
        }
    }

    #[test]
    fn mistakes_are_named_with_line_and_key() {
        let variables = |variables: &str| {
            format!(
                "{{\"vessel_overrides\": [{{\"name\": \"c\",\n\"environment_variable_overrides\": {variables}}}]}}"
            )
        };
        let at = "line 2, column 36: vessel_overrides[0].environment_variable_overrides";
        let whole = "line 2, column 35: vessel_overrides[0].environment_variable_overrides";
        for (text, message) in [
            ("[]".to_owned(), "line 1, column 1: expected a mapping, found a list".to_owned()),
            (
                "{\"vessel_override\": []}".to_owned(),
                "line 1, column 2: vessel_override: unknown key `vessel_override`; did you mean \
                 `vessel_overrides`?"
                    .to_owned(),
            ),
            (
                "{\"vessel_overrides\": 7}".to_owned(),
                "line 1, column 22: vessel_overrides: expected a list, found a single value"
                    .to_owned(),
            ),
            (
                "{\"vessel_overrides\": [{}]}".to_owned(),
                "line 1, column 23: vessel_overrides[0].name: missing; say which vessel is meant"
                    .to_owned(),
            ),
            (
                "{\"vessel_overrides\": [{\"name\": \"vessel A\"}]}".to_owned(),
                "line 1, column 32: vessel_overrides[0].name: the fleet has no vessel `vessel A`; \
                 did you mean `Vessel A`?"
                    .to_owned(),
            ),
            (
                "{\"vessel_overrides\": [{\"name\": \"b\"}, {\"name\": \"b\"}]}".to_owned(),
                "line 1, column 38: vessel_overrides[1]: vessel `b` comes twice; put both into one"
                    .to_owned(),
            ),
            (
                variables("{\"SHIPYARD_FLEET_ID\": \"x\"}"),
                format!("{at}.SHIPYARD_FLEET_ID: SHIPYARD_* variables are set by the server; rename it"),
            ),
            (
                variables("{\"BOATHOOK_ATTEMPT\": null}"),
                format!("{at}.BOATHOOK_ATTEMPT: BOATHOOK_* variables are set by the server; rename it"),
            ),
            (
                variables("{\"A-B\": null}"),
                format!(
                    "{at}.A-B: a variable's name has letters, digits and `_`, and begins with no \
                     digit; rename it"
                ),
            ),
            (
                variables("{\"A\": [\"x\"]}"),
                "line 2, column 41: vessel_overrides[0].environment_variable_overrides.A: expected \
                 text, found a list"
                    .to_owned(),
            ),
            (
                variables("{\"A\": \"x\", \"A\": \"y\"}"),
                "line 2, column 46: vessel_overrides[0].environment_variable_overrides.A: duplicate \
                 key, first seen in line 2; keep one of them"
                    .to_owned(),
            ),
            (variables("[]"), format!("{whole}: expected a mapping, found a list")),
        ] {
            assert_eq!(read(&text).unwrap_err().to_string(), message, "{text}");
        }
        let message = read(&variables("{\"SHIPYARD_OVERRIDE_STATUS\": \"success\"}")).unwrap_err();
        let message = message.to_string();
        assert!(
            message.contains("expected one of SUCCESS, SUCCESSFUL, ERROR, ERRORED"),
            "{message}"
        );
        let secret = read(&variables("{\"A\": \"hunter2\\u0000\"}")).unwrap_err().to_string();
        assert!(secret.contains("contains a NUL") && !secret.contains("hunter2"), "{secret}");
        let syntax = read("{\"vessel_overrides\": [").unwrap_err();
        assert!(matches!(syntax, FleetFileError::Syntax { .. }), "{syntax}");
    }
}
