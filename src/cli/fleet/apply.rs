//! `boathook fleet apply`: every file is read and checked before the first is applied, so that a
//! mistake in one of them changes nothing at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ureq::http::Method;

use super::check::check;
use crate::cli::Outcome;
use crate::cli::api::Fleet;
use crate::cli::client::{Content, Data, joined};
use crate::cli::output::{
    BAD, DIM, GOOD, NOTABLE, advise, command, print, print_json, printable, styled,
};
use crate::cli::session::Session;
use crate::fleet_file::FLEET_FILE_BYTES_MAX;
use crate::fleet_file::{FleetFile, attach_archives, parse_json, parse_yaml};
use crate::model::fleet::DEFAULT_PROJECT;
use crate::model::name::name_key;
use crate::os::text_file::{self, STDIN};

/// Entries of a directory that are named when they are left out; of more there is a number.
const LEFT_OUT_SHOWN_MAX: usize = 20;

/// Of so many fleets, each is told how to get its webhook; of more, their number is.
const WEBHOOK_HINTS_MAX: usize = 3;
/// Warnings that are shown; of more there is a number.
const WARNINGS_MAX: usize = 20;

/// A file that describes a fleet.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) content_type: &'static str,
}

/// What is done with the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Apply,
    Check,
    Difference,
}

/// Applies the fleets in `sources`: files, directories of them, or `-`.
///
/// # Errors
/// When a directory cannot be read or the server refuses everything. What is wrong with single
/// files is shown, and told by the outcome.
pub(super) fn apply(session: &Session, sources: &[PathBuf], deed: Deed) -> anyhow::Result<Outcome> {
    let is_one = matches!(sources, [source] if !source.is_dir());
    let selection = select(sources)?;
    for left_out in &selection.left_out {
        advise(left_out);
    }
    let (sources, mistakes) = read_all(&selection.files);
    if !mistakes.is_empty() {
        for (path, error) in &mistakes {
            complain(path, error);
        }
        if deed == Deed::Apply && sources.len() + mistakes.len() > 1 {
            advise("Nothing was applied.");
        }
        return Ok(Outcome::PartlyFailed);
    }
    if deed != Deed::Apply {
        return check(session, &sources, deed == Deed::Difference);
    }
    let (mut answers, mut fleets) = (Vec::new(), Vec::new());
    let mut has_failed = false;
    for source in &sources {
        // What the server alone can know may keep one of them out; the others do not depend on it.
        match send(session, source) {
            Ok(answer) if session.json => answers.push(answer),
            Ok(answer) => {
                let fleet: Fleet = answer.parse()?;
                report_applied(&fleet)?;
                fleets.push(fleet);
            }
            Err(error) => {
                has_failed = true;
                complain(&source.path, &error);
            }
        }
    }
    advise_all(session, &fleets);
    if session.json {
        match answers.as_slice() {
            [answer] if is_one => print_json(answer.raw())?,
            [] if is_one => {}
            answers => print_json(&joined(answers))?,
        }
    }
    Ok(if has_failed { Outcome::PartlyFailed } else { Outcome::Done })
}

/// The files that `sources` stand for.
#[derive(Debug, Default)]
struct Selection {
    /// Those of a directory in the order of their names.
    files: Vec<PathBuf>,
    /// For each directory, what it holds besides fleet files. Empty where there is nothing.
    left_out: Vec<String>,
}

fn select(sources: &[PathBuf]) -> anyhow::Result<Selection> {
    let mut selection = Selection::default();
    for source in sources {
        if source.is_dir() {
            select_in(source, &mut selection)?;
        } else {
            selection.files.push(source.clone());
        }
    }
    Ok(selection)
}

/// Adds the fleet files of `directory`, and what else is in it.
fn select_in(directory: &Path, selection: &mut Selection) -> anyhow::Result<()> {
    let reading = || format!("cannot read {}", directory.display());
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for entry in directory.read_dir().with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        match why_left_out(&path) {
            None => found.push(path),
            Some(why) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                left_out.push(format!("{}{why}", printable(&name)));
            }
        }
    }
    found.sort();
    left_out.sort();
    let more = left_out.len().saturating_sub(LEFT_OUT_SHOWN_MAX);
    if more > 0 {
        left_out.truncate(LEFT_OUT_SHOWN_MAX);
        left_out.push(format!("and {more} more"));
    }
    if !left_out.is_empty() {
        let left_out = left_out.join(", ");
        selection.left_out.push(format!("Left out of {}: {left_out}", directory.display()));
    }
    if found.is_empty() {
        let left_out = selection.left_out.pop().map(|it| format!(". {it}")).unwrap_or_default();
        bail!("no fleet files (*.yaml, *.yml, *.json) in {}{left_out}", directory.display());
    }
    selection.files.append(&mut found);
    Ok(())
}

/// Why an entry of a directory is no fleet file, to be shown behind its name; `None` if it is one.
/// A dangling link is one: reading it says what is wrong.
fn why_left_out(path: &Path) -> Option<&'static str> {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().unwrap_or_default();
    let is_fleet_file = ["yaml", "yml", "json"].iter().any(|it| extension.eq_ignore_ascii_case(it));
    match path.metadata() {
        Ok(found) if found.is_dir() => Some(" (a directory)"),
        _ if is_hidden => Some(" (hidden)"),
        _ if !is_fleet_file => Some(""),
        Ok(found) if !found.is_file() => Some(" (not a file)"),
        _ => None,
    }
}

/// Reads and checks every file: those that are valid, and what is wrong with the others.
fn read_all(paths: &[PathBuf]) -> (Vec<Source>, Vec<(PathBuf, anyhow::Error)>) {
    let mut sources = Vec::new();
    let mut mistakes = Vec::new();
    let mut seen: BTreeMap<(String, String), &Path> = BTreeMap::new();
    for path in paths {
        let read = read(path).and_then(|(source, file)| {
            let project = file.project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
            let key = |name: &str| name_key(name).into_owned();
            match seen.insert((key(&project), key(&file.definition.name)), path) {
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
    let text = text_file::read_argument(path, FLEET_FILE_BYTES_MAX as u64);
    let text = text.context("cannot read it")?;
    let open = |name: &str| archive_beside(path, name);
    let text = attach_archives(&text, &open)?.unwrap_or(text);
    let extension = path.extension().unwrap_or_default();
    let is_json = extension.eq_ignore_ascii_case("json");
    let (content_type, file) = if is_json {
        ("application/json", parse_json(&text)?)
    } else {
        ("application/yaml", parse_yaml(&text)?)
    };
    Ok((Source { path: path.to_owned(), text, content_type }, file))
}

/// The bytes of the archive called `name` in the directory of the fleet file at `path`.
fn archive_beside(path: &Path, name: &str) -> Result<Vec<u8>, String> {
    if path == Path::new(STDIN) {
        return Err("an archive lies beside a fleet file, and this one comes from standard input"
            .to_owned());
    }
    if name.contains('/') {
        return Err(
            "expected the name of an archive beside the fleet file, without directories".to_owned()
        );
    }
    let archive = path.parent().unwrap_or(Path::new("")).join(name);
    let told = |error: io::Error| format!("cannot read the archive {}: {error}", archive.display());
    let mut bytes = Vec::new();
    let limit = FLEET_FILE_BYTES_MAX as u64 + 1;
    File::open(&archive).map_err(told)?.take(limit).read_to_end(&mut bytes).map_err(told)?;
    Ok(bytes)
}

fn send(session: &Session, source: &Source) -> anyhow::Result<Data> {
    let content = Content::text(source.content_type, source.text.clone());
    Ok(session.client.send(Method::PUT, "/fleets?by=name", content)?)
}

pub(super) fn complain(path: &Path, error: &anyhow::Error) {
    advise(&format!("{}: {error:#}", styled(&shown(path), BAD)));
}

fn shown(path: &Path) -> String {
    match path == Path::new(STDIN) {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    }
}

pub(super) fn report_applied(fleet: &Fleet) -> io::Result<()> {
    let what = match (fleet.changed, fleet.version) {
        (false, _) => styled("unchanged", DIM),
        (true, 1) => styled("created  ", GOOD),
        (true, _) => styled("updated  ", GOOD),
    };
    let name = printable(&fleet.name);
    let project = printable(&fleet.project_name);
    print(&format!("{what}  {project}/{name}  version {}\n", fleet.version))
}

/// Shows the warnings about `fleets`, and how those without a webhook get one.
fn advise_all(session: &Session, fleets: &[Fleet]) {
    let is_one = fleets.len() == 1;
    let warnings = fleets.iter().flat_map(|fleet| {
        let name = if is_one { String::new() } else { format!("{}: ", fleet.name) };
        fleet.warnings.iter().map(move |warning| format!("{name}{warning}"))
    });
    warn(&warnings.collect::<Vec<_>>());
    let without: Vec<&Fleet> = fleets.iter().filter(|fleet| !fleet.webhook).collect();
    if without.len() <= WEBHOOK_HINTS_MAX {
        without.into_iter().for_each(|fleet| advise_webhook(session, fleet));
        return;
    }
    advise(&format!(
        "{} of them have no webhook yet. To get the URL that starts one:",
        without.len()
    ));
    advise(&command(&session.line("webhook add FLEET")));
}

/// Shows warnings, and the number of those beyond [`WARNINGS_MAX`].
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings.iter().take(WARNINGS_MAX) {
        advise(&format!("{} {}", styled("warning:", NOTABLE), printable(warning)));
    }
    if let Some(more) = warnings.len().checked_sub(WARNINGS_MAX).filter(|more| *more > 0) {
        advise(&format!("and {more} more warnings"));
    }
}

/// Says how a fleet without a webhook gets one.
pub(super) fn advise_webhook(session: &Session, fleet: &Fleet) {
    if fleet.webhook {
        return;
    }
    advise("It has no webhook yet. To get the URL that starts it:");
    advise(&command(&session.line(&format!("webhook add {}", fleet.argument()))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_stand_for_the_fleet_files_in_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        assert!(select(&[directory.path().to_owned()]).is_err());
        std::fs::write(path("notes.txt"), "").unwrap();
        let error = select(&[directory.path().to_owned()]).unwrap_err().to_string();
        assert!(error.ends_with("notes.txt"), "{error}");
        for name in
            ["b.yml", "a.yaml", "c.json", "D.YAML", "e.Yml", ".h.yaml", "._a.yaml", "a.yaml~"]
        {
            std::fs::write(path(name), "").unwrap();
        }
        std::fs::create_dir(path("sub.yaml")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("gone.yaml")).unwrap();
        let selection = select(&["-".into(), directory.path().to_owned()]).unwrap();
        let names = ["D.YAML", "a.yaml", "b.yml", "c.json", "e.Yml", "gone.yaml"].map(path);
        assert_eq!(selection.files[0], Path::new("-"));
        assert_eq!(selection.files[1..], names);
        let expected = format!(
            "Left out of {}: ._a.yaml (hidden), .h.yaml (hidden), a.yaml~, notes.txt, sub.yaml (a \
             directory)",
            directory.path().display()
        );
        assert_eq!(selection.left_out, [expected]);
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
