//! `boathook fleet edit`: the author edits the file of a fleet and saves it, unless another author has saved
//! meanwhile. A text that cannot be saved stays in its file, whose name is told.

use std::fs;
use std::io::{IsTerminal, Write, stdin};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use ureq::http::{HeaderValue, Method, header};

use super::diff_text;
use super::text::Stored;
use crate::cli::api::Fleet;
use crate::cli::client::{ClientError, Content, Data};
use crate::cli::confirm::is_confirmed;
use crate::cli::output::{NOTABLE, advise, print, print_json, printable, styled};
use crate::cli::session::Session;
use crate::fleet_file::FLEET_FILE_BYTES_MAX;
use crate::os::text_file;

/// The editor where the environment names none: every POSIX system has it.
const EDITOR_DEFAULT: &str = "vi";

/// Edits the fleet that `name` means.
///
/// # Errors
/// When the server is not there or refuses, or the editor fails.
pub fn edit(session: &Session, name: &str) -> anyhow::Result<()> {
    let fleet = session.fleet(name)?;
    let mut stored = Stored::get(session, &fleet)?;
    let path = write_draft(&stored.yaml)?;
    loop {
        open_editor(&path).with_context(|| format!("your text is in {}", path.display()))?;
        let limit = FLEET_FILE_BYTES_MAX as u64 + 1;
        let text = text_file::read_argument(&path, limit)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if text == stored.yaml {
            remove(&path);
            advise("Nothing has changed.");
            return Ok(());
        }
        let error = match save(session, &fleet, &text, &stored.tag) {
            Ok(answer) => {
                remove(&path);
                return report(session, &answer);
            }
            Err(error) => error,
        };
        let is_stale = matches!(&error, ClientError::Refused { status: 412, .. });
        if is_stale {
            stored = show_newer(session, &fleet, &stored)?;
        } else {
            advise(&format!("{} {error}", styled("not saved:", NOTABLE)));
        }
        let question = if is_stale {
            "Edit your text again? Saving it then takes back what is shown above."
        } else {
            "Edit it again?"
        };
        if !(stdin().is_terminal() && is_confirmed(question, true)?) {
            bail!("nothing is saved; your text is in {}", path.display());
        }
    }
}

/// Shows what was saved since `old`. The version that is there now.
fn show_newer(session: &Session, fleet: &Fleet, old: &Stored) -> anyhow::Result<Stored> {
    let newer = Stored::get(session, fleet)?;
    let what = format!("not saved: the fleet is at version {} now:", newer.tag.trim_matches('"'));
    advise(&styled(&what, NOTABLE));
    advise(&diff_text("what you began with", &old.yaml, "what is saved now", &newer.yaml));
    Ok(newer)
}

fn save(session: &Session, fleet: &Fleet, text: &str, tag: &str) -> Result<Data, ClientError> {
    let mut content = Content::text("application/yaml", text.to_owned());
    if let Ok(tag) = HeaderValue::from_str(tag) {
        content.headers.push((header::IF_MATCH, tag));
    }
    session.client.send(Method::PUT, &format!("/fleets/{}", fleet.id), content)
}

fn report(session: &Session, answer: &Data) -> anyhow::Result<()> {
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    let fleet: Fleet = answer.parse()?;
    let (project, name) = (printable(&fleet.project_name), printable(&fleet.name));
    print(&format!("saved  {project}/{name}  version {}\n", fleet.version))?;
    for warning in &fleet.warnings {
        advise(&format!("{} {}", styled("warning:", NOTABLE), printable(warning)));
    }
    Ok(())
}

/// A file with `text` that only this user can read, and that outlives this program.
fn write_draft(text: &str) -> anyhow::Result<PathBuf> {
    let cannot = "cannot make a file for the editor";
    let mut file =
        tempfile::Builder::new().prefix("boathook-").suffix(".yaml").tempfile().context(cannot)?;
    file.write_all(text.as_bytes()).context(cannot)?;
    let (_, path) = file.keep().context(cannot)?;
    Ok(path)
}

fn remove(path: &Path) {
    // It is in the directory for such files.
    let _ = fs::remove_file(path);
}

/// Runs the editor that the person has set, as a shell reads it: `code --wait`.
fn open_editor(path: &Path) -> anyhow::Result<()> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| EDITOR_DEFAULT.into());
    let shown = printable(&editor.to_string_lossy());
    let mut script = editor;
    script.push(" \"$1\"");
    let status = Command::new("/bin/sh").arg("-c").arg(script).arg("sh").arg(path).status();
    let status = status.with_context(|| format!("cannot start the editor {shown}"))?;
    if !status.success() {
        bail!("the editor {shown} failed ({status}); VISUAL or EDITOR names another one");
    }
    Ok(())
}
