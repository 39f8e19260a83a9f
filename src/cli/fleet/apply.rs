//! `boathook fleet apply`: every file is read and checked before the first is applied, so that a
//! mistake in one of them changes nothing at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ureq::http::Method;

use crate::cli::Outcome;
use crate::cli::api::Fleet;
use crate::cli::client::{Content, Data, joined};
use crate::cli::output::{
    BAD, DIM, GOOD, NOTABLE, advise, command, print, print_json, printable, styled,
};
use crate::cli::session::Session;
use crate::domain::fleet::DEFAULT_PROJECT;
use crate::fleet_file::{FleetFile, parse_json, parse_yaml};
use crate::limits::FLEET_FILE_BYTES_MAX;

const STDIN: &str = "-";

/// A file that describes a fleet.
struct Source {
    path: PathBuf,
    text: String,
    content_type: &'static str,
}

/// Applies the fleets in `sources`: files, directories of them, or `-`.
///
/// # Errors
/// When a directory cannot be read or the server refuses everything. What is wrong with single
/// files is shown, and told by the outcome.
pub fn apply(session: &Session, sources: &[PathBuf]) -> anyhow::Result<Outcome> {
    let is_one = matches!(sources, [source] if !source.is_dir());
    let (sources, mistakes) = read_all(&fleet_files(sources)?);
    if !mistakes.is_empty() {
        for (path, error) in &mistakes {
            complain(path, error);
        }
        if sources.len() + mistakes.len() > 1 {
            advise("Nothing was applied.");
        }
        return Ok(Outcome::PartlyFailed);
    }
    let mut answers = Vec::new();
    let mut has_failed = false;
    for source in &sources {
        // What the server alone can know may keep one of them out; the others do not depend on it.
        match send(session, source) {
            Ok(answer) if session.json => answers.push(answer),
            Ok(answer) => report_applied(session, &answer.parse()?)?,
            Err(error) => {
                has_failed = true;
                complain(&source.path, &error);
            }
        }
    }
    if session.json {
        match answers.as_slice() {
            [answer] if is_one => print_json(answer.raw())?,
            [] if is_one => {}
            answers => print_json(&joined(answers))?,
        }
    }
    Ok(if has_failed { Outcome::PartlyFailed } else { Outcome::Done })
}

/// The files that `sources` stand for; those of a directory in the order of their names.
fn fleet_files(sources: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for source in sources {
        if !source.is_dir() {
            files.push(source.clone());
            continue;
        }
        let reading = || format!("cannot read {}", source.display());
        let mut found = Vec::new();
        for entry in source.read_dir().with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
                found.push(path);
            }
        }
        if found.is_empty() {
            bail!("no fleet files (*.yaml, *.yml, *.json) in {}", source.display());
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

/// Reads and checks every file: those that are valid, and what is wrong with the others.
fn read_all(paths: &[PathBuf]) -> (Vec<Source>, Vec<(PathBuf, anyhow::Error)>) {
    let mut sources = Vec::new();
    let mut mistakes = Vec::new();
    let mut seen: BTreeMap<(String, String), &Path> = BTreeMap::new();
    for path in paths {
        let read = read(path).and_then(|(source, file)| {
            let project = file.project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
            match seen.insert((project, file.definition.name), path) {
                Some(other) => bail!("describes the same fleet as {}", shown(other)),
                None => Ok(source),
            }
        });
        match read {
            Ok(source) => sources.push(source),
            Err(error) => mistakes.push((path.clone(), error)),
        }
    }
    (sources, mistakes)
}

fn read(path: &Path) -> anyhow::Result<(Source, FleetFile)> {
    let text = read_text(path)?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let (content_type, file) = if is_json {
        ("application/json", parse_json(&text)?)
    } else {
        ("application/yaml", parse_yaml(&text)?)
    };
    Ok((Source { path: path.to_owned(), text, content_type }, file))
}

fn read_text(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let limit = FLEET_FILE_BYTES_MAX as u64;
    let read = if file == Path::new(STDIN) {
        io::stdin().take(limit + 1).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(limit + 1).read_to_string(&mut text))
    };
    read.context("cannot read it")?;
    if text.len() as u64 > limit {
        bail!("larger than a fleet file can be ({limit} bytes)");
    }
    Ok(text)
}

fn send(session: &Session, source: &Source) -> anyhow::Result<Data> {
    let content = Content::text(source.content_type, source.text.clone());
    Ok(session.client.send(Method::PUT, "/fleets?by=name", content)?)
}

fn complain(path: &Path, error: &anyhow::Error) {
    advise(&format!("{}: {error:#}", styled(&shown(path), BAD)));
}

fn shown(path: &Path) -> String {
    match path == Path::new(STDIN) {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    }
}

fn report_applied(session: &Session, fleet: &Fleet) -> io::Result<()> {
    let what = match (fleet.changed, fleet.version) {
        (false, _) => styled("unchanged", DIM),
        (true, 1) => styled("created  ", GOOD),
        (true, _) => styled("updated  ", GOOD),
    };
    let name = printable(&fleet.name);
    let project = printable(&fleet.project_name);
    print(&format!("{what}  {project}/{name}  version {}\n", fleet.version))?;
    for warning in &fleet.warnings {
        advise(&format!("{} {}", styled("warning:", NOTABLE), printable(warning)));
    }
    if !fleet.webhook {
        advise("It has no webhook yet. To get the URL that starts it:");
        advise(&command(&session.line(&format!("webhook add {}", fleet.argument()))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_stand_for_the_fleet_files_in_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        assert!(fleet_files(&[directory.path().to_owned()]).is_err());
        for name in ["b.yml", "a.yaml", "c.json", "notes.txt"] {
            std::fs::write(path(name), "").unwrap();
        }
        let files = fleet_files(&["-".into(), directory.path().to_owned()]).unwrap();
        assert_eq!(files, ["-".into(), path("a.yaml"), path("b.yml"), path("c.json")]);
    }

    #[test]
    fn all_mistakes_are_found_and_one_fleet_has_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths = [
            write("a.yaml", "name: a\nvessels: {v: {run: x}}\n"),
            write("b.yaml", "name: b\nvessels: {v: {rnu: x}}\n"),
            write(
                "c.json",
                "{\"name\": \"a\", \"project\": \"default\", \"vessels\": {\"v\": {\"run\": \"x\"}}}",
            ),
            write("d.yaml", "name: a\nproject: other\nvessels: {v: {run: x}}\n"),
            directory.path().join("e.yaml"),
        ];
        let (sources, mistakes) = read_all(&paths);
        let names = sources.iter().map(|source| &source.path).collect::<Vec<_>>();
        assert_eq!(names, [&paths[0], &paths[3]]);
        let messages: Vec<_> = mistakes.iter().map(|(_, error)| format!("{error:#}")).collect();
        let [unknown, same, missing] = &messages[..] else { panic!("{messages:?}") };
        assert!(unknown.starts_with("line 2, column 15: vessels.v.rnu: unknown key"), "{unknown}");
        assert_eq!(*same, format!("describes the same fleet as {}", paths[0].display()));
        assert!(missing.starts_with("cannot read it: "), "{missing}");
    }
}
