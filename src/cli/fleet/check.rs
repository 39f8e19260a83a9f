//! `boathook fleet apply --check` and `--diff`: what an apply would do. Nothing is stored.

use anyhow::bail;
use serde::Deserialize;
use ureq::http::Method;

use super::apply::{Source, complain, warn};
use super::diff_text;
use super::text::Stored;
use crate::cli::Outcome;
use crate::cli::client::{Content, Data, joined};
use crate::cli::output::{DIM, GOOD, NOTABLE, print, print_json, printable, styled};
use crate::cli::session::Session;
use crate::fleet_file::{self, FleetFile, parse_json, parse_yaml};

/// What the server says of a file.
#[derive(Deserialize)]
struct Checked {
    #[serde(default)]
    outcome: Option<String>,
    #[serde(default)]
    fleet: Option<CheckedFleet>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    error: Option<CheckError>,
}

/// The fleet that the file would make or change.
#[derive(Deserialize)]
struct CheckedFleet {
    id: Option<String>,
    name: String,
    project_name: String,
}

#[derive(Deserialize)]
struct CheckError {
    line: Option<usize>,
    column: Option<usize>,
    path: String,
    message: String,
}

/// Has the server check `sources`. With `shows_difference`, prints what each would change.
///
/// # Errors
/// When the server is not there. What is wrong with single files is shown, and told by the outcome.
pub fn check(
    session: &Session,
    sources: &[Source],
    shows_difference: bool,
) -> anyhow::Result<Outcome> {
    let (mut answers, mut has_failed) = (Vec::new(), false);
    for source in sources {
        let content = Content::text(source.content_type, source.text.clone());
        let answer = session.client.send(Method::POST, "/fleets/check?by=name", content)?;
        let checked: Checked = answer.parse()?;
        match verdict(&checked) {
            Err(error) => {
                has_failed = true;
                complain(&source.path, &error);
            }
            Ok(_) if session.json => {}
            Ok(fleet) if shows_difference => print(&difference(session, source, fleet)?)?,
            Ok(fleet) => {
                print(&line(&checked, fleet))?;
                warn(&checked.warnings);
            }
        }
        answers.push(answer);
    }
    if session.json {
        print_answers(&answers)?;
    }
    Ok(if has_failed { Outcome::PartlyFailed } else { Outcome::Done })
}

fn print_answers(answers: &[Data]) -> anyhow::Result<()> {
    match answers {
        [answer] => print_json(answer.raw())?,
        answers => print_json(&joined(answers))?,
    }
    Ok(())
}

fn verdict(checked: &Checked) -> anyhow::Result<&CheckedFleet> {
    if let Some(CheckError { line, column, path, message }) = &checked.error {
        let place = match (line, column) {
            (Some(line), Some(column)) => format!("line {line}, column {column}: "),
            _ => String::new(),
        };
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        bail!("{place}{path}{message}");
    }
    match &checked.fleet {
        Some(fleet) => Ok(fleet),
        None => bail!("the server is older than this program and cannot check files like this"),
    }
}

fn line(checked: &Checked, fleet: &CheckedFleet) -> String {
    let what = match checked.outcome.as_deref() {
        Some("unchanged") => styled("unchanged   ", DIM),
        Some("created") => styled("would create", GOOD),
        _ => styled("would update", NOTABLE),
    };
    format!("{what}  {}/{}\n", printable(&fleet.project_name), printable(&fleet.name))
}

/// What an apply of `source` would change in the text of the fleet.
fn difference(
    session: &Session,
    source: &Source,
    checked: &CheckedFleet,
) -> anyhow::Result<String> {
    let is_json = source.content_type == "application/json";
    let mut file = if is_json { parse_json(&source.text)? } else { parse_yaml(&source.text)? };
    let named = format!("{}/{}", printable(&checked.project_name), printable(&checked.name));
    let new_title = format!("{named} as in {}", source.path.display());
    let Some(id) = &checked.id else {
        let new = file.text.clone().unwrap_or_else(|| canonical(&file, &checked.project_name));
        return Ok(diff_text("no fleet yet", "", &new_title, &new));
    };
    let stored = Stored::get(session, &session.fleet(id)?)?;
    if !file.has_webhook_settings {
        file.definition.webhook.clone_from(&stored.definition.webhook);
    }
    let (old, new) = match &file.text {
        Some(text) if !stored.is_written_anew() => {
            // What the file does not name stays.
            let whole = fleet_file::adapted(text, &file.definition, &stored.project, true);
            (stored.yaml, whole.unwrap_or_else(|| text.clone()))
        }
        // Layout and comments of one side alone are no difference.
        _ => {
            let old = fleet_file::to_yaml(&stored.definition, &stored.project, None);
            (old, canonical(&file, &checked.project_name))
        }
    };
    if old == new {
        return Ok(format!("{}  {named}\n", styled("unchanged", DIM)));
    }
    let old_title = format!("{named} version {}", stored.tag.trim_matches('"'));
    Ok(diff_text(&old_title, &old, &new_title, &new))
}

fn canonical(file: &FleetFile, project: &str) -> String {
    fleet_file::to_yaml(&file.definition, project, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_place() {
        let checked: Checked = serde_json::from_str(
            r#"{"error":{"line":2,"column":3,"path":"vessels.v","message":"no such key"}}"#,
        )
        .unwrap();
        let error = verdict(&checked).err().unwrap().to_string();
        assert_eq!(error, "line 2, column 3: vessels.v: no such key");
        let old: Checked = serde_json::from_str(r#"{"definition":{"name":"n"}}"#).unwrap();
        assert!(verdict(&old).err().unwrap().to_string().contains("older"));
    }
}
