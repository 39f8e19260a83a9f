//! `boathook import`: hooks of `adnanh/webhook` as fleet files. Files go to standard output or into a directory,
//! what differs to standard error. No value of a secret is shown.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::Outcome;
use super::api::Secret;
use super::client::Data;
use super::locate::{ServerOptions, quoted};
use super::output::{
    BAD, GOOD, NOTABLE, advise, command, print, print_as_json, print_unchanged, printable, styled,
};
use super::secret;
use super::session::Session;
use crate::fleet_file::{
    FLEET_FILE_BYTES_MAX, FoundSecret, ImportedHook, ImportedHooks, Note, SecretSource, Wishes,
    import_hooks,
};
use crate::os::text_file;

/// What holds for every hook, and is therefore said once.
const GENERAL: [&str; 4] = [
    "A sender gets 201 with ids instead of an empty 200, unless its hook has a response.",
    "Only POST starts a fleet.",
    "A command gets a clean environment, not that of the server: boathook help vessel.",
    "An argument of a request that begins with - is refused; `allow_dash: true` allows it.",
];

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    verb: ImportVerb,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Subcommand)]
enum ImportVerb {
    /// Make fleet files of hooks.json or hooks.yaml, the file of adnanh/webhook
    #[command(after_long_help = "\
Says of every hook, with its line, what a fleet does in another way. A hook of which a part cannot be
carried over is named and not written. Nothing is applied, and the server need not run.

    boathook import hooks hooks.json --output fleets
    boathook import hooks hooks.yaml --template --output fleets --secrets
    boathook fleet apply fleets")]
    Hooks {
        /// The file, or - for standard input
        file: PathBuf,
        /// Write each fleet into a file of its own in this directory, which is made when missing
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// The file is a Go template, as for `webhook -template`
        #[arg(long)]
        template: bool,
        /// Put the fleets into this project
        #[arg(long)]
        project: Option<String>,
        /// Answer at /hooks/ID as before too, where more than the id guards the hook
        #[arg(long)]
        keep_paths: bool,
        /// Store the secrets of the file in the server; those that are set there stay as they are
        #[arg(long)]
        secrets: bool,
    },
}

/// Does what `arguments` say.
///
/// # Errors
/// When the file cannot be read, or a fleet file cannot be written.
pub fn run(arguments: ImportArgs) -> anyhow::Result<Outcome> {
    let ImportVerb::Hooks { file, output, template, project, keep_paths, secrets } = arguments.verb;
    let text = text_file::read_argument(&file, FLEET_FILE_BYTES_MAX as u64);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let wishes = Wishes { is_template: template, project, keep_paths };
    let imported = import_hooks(&text, &wishes, &|name| std::env::var(name).ok())
        .with_context(|| format!("{} has no hooks", file.display()))?;
    let session = match secrets {
        true => Some(Session::open(&arguments.server)?),
        false => None,
    };
    let files = match &output {
        Some(directory) => write_files(directory, &imported.hooks)?,
        None => vec![None; imported.hooks.len()],
    };
    let stored = match &session {
        Some(session) => store(session, &imported.secrets)?,
        None => vec![false; imported.secrets.len()],
    };
    if arguments.server.json {
        print_as_json(&as_json(&imported, &files, &stored))?;
    } else {
        if output.is_none() {
            print_all(&imported.hooks)?;
        }
        report(&imported, &files)?;
        report_secrets(&imported.secrets, &stored);
        report_next(&imported.hooks, output.as_deref());
    }
    let is_whole = imported.hooks.iter().all(|hook| hook.yaml.is_some());
    Ok(if is_whole { Outcome::Done } else { Outcome::PartlyFailed })
}

/// The name of a hook's file, from the letters of its id that are the same everywhere.
fn file_name(hook: &ImportedHook) -> String {
    let letter = |letter: char| match letter {
        '.' | '-' | '_' => letter,
        _ if letter.is_alphanumeric() => letter,
        _ => '_',
    };
    let name: String = hook.name.chars().map(letter).collect();
    format!("{}.yaml", name.trim_start_matches('.'))
}

/// Writes the fleets into `directory`: the path of each that was written. No file is overwritten.
fn write_files(directory: &Path, hooks: &[ImportedHook]) -> anyhow::Result<Vec<Option<PathBuf>>> {
    let making = || format!("cannot make {}", directory.display());
    fs::create_dir_all(directory).with_context(making)?;
    let path_of = |hook: &ImportedHook| directory.join(file_name(hook));
    let is_written = |hook: &&ImportedHook| hook.yaml.is_some();
    for hook in hooks.iter().filter(is_written) {
        let path = path_of(hook);
        if path.symlink_metadata().is_ok() {
            bail!("{} is there already; move it away, or name another directory", path.display());
        }
    }
    let write = |hook: &ImportedHook| -> anyhow::Result<Option<PathBuf>> {
        let Some(yaml) = &hook.yaml else { return Ok(None) };
        let path = path_of(hook);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(yaml.as_bytes())?;
        file.sync_all()?;
        Ok(Some(path))
    };
    let named =
        |hook| write(hook).with_context(|| format!("cannot write {}", path_of(hook).display()));
    hooks.iter().map(named).collect()
}

/// Prints the fleets as documents of one stream.
fn print_all(hooks: &[ImportedHook]) -> anyhow::Result<()> {
    let documents: Vec<_> = hooks.iter().filter_map(|hook| hook.yaml.as_deref()).collect();
    print_unchanged(&documents.join("---\n"))?;
    Ok(())
}

/// Stores the secrets that have a value here: which of them are in the server now.
fn store(session: &Session, secrets: &[FoundSecret]) -> anyhow::Result<Vec<bool>> {
    let there = session.client.list("/secrets", usize::MAX)?;
    let there = there.iter().map(Data::parse).collect::<Result<Vec<Secret>, _>>()?;
    let mut stored = Vec::new();
    for secret in secrets {
        let name = secret.name.as_str();
        if there.iter().any(|known| known.name == name) {
            advise(&format!("{name} is set in the server already, and stays as it is."));
            stored.push(true);
            continue;
        }
        let value = match &secret.source {
            SecretSource::Literal(value) | SecretSource::Variable(_, Some(value)) => value,
            SecretSource::Variable(_, None) | SecretSource::File(_) => {
                stored.push(false);
                continue;
            }
        };
        secret::put(&session.client, &secret.name, value.clone().into_bytes())?;
        stored.push(true);
    }
    Ok(stored)
}

fn report(imported: &ImportedHooks, files: &[Option<PathBuf>]) -> anyhow::Result<()> {
    for (hook, file) in imported.hooks.iter().zip(files) {
        let id = printable(&hook.id);
        match (&hook.yaml, file) {
            (None, _) => advise(&styled(&format!("{id}: not imported"), BAD)),
            (Some(_), Some(file)) => {
                print(&format!(
                    "{}  {}\n",
                    styled("written", GOOD),
                    printable(&file.to_string_lossy())
                ))?;
            }
            (Some(_), None) => {}
        }
        for Note { line, is_refusal, message } in &hook.notes {
            let style = if *is_refusal { BAD } else { NOTABLE };
            advise(&format!(
                "{}: {}",
                styled(&format!("{id}, line {line}"), style),
                printable(message)
            ));
        }
    }
    if imported.hooks.iter().any(|hook| hook.yaml.is_some()) {
        advise("\nOf every hook:");
        GENERAL.iter().for_each(|text| advise(&format!("  {text}")));
    }
    Ok(())
}

/// The lines that set the secrets which are in no server yet. They show where a value is, never the value.
fn report_secrets(secrets: &[FoundSecret], stored: &[bool]) {
    let missing: Vec<_> = secrets.iter().zip(stored).filter(|(_, stored)| !**stored).collect();
    if missing.is_empty() {
        return;
    }
    advise("\nThe fleets name these secrets, and their values are in no fleet file:");
    for (FoundSecret { name, line, source }, _) in missing {
        let name = name.as_str();
        let (from, hint) = match source {
            SecretSource::Literal(_) => (String::new(), format!("# its value is in line {line}")),
            SecretSource::Variable(variable, _) => {
                (format!("printf %s \"${variable}\" | "), format!("# the variable in line {line}"))
            }
            SecretSource::File(file) => (
                String::new(),
                format!("< {} # line {line}", quoted(&format!("/run/secrets/{file}"))),
            ),
        };
        advise(&command(&printable(&format!("{from}boathook secret set {name} {hint}"))));
    }
}

fn report_next(hooks: &[ImportedHook], output: Option<&Path>) {
    if hooks.iter().all(|hook| hook.yaml.is_none()) {
        return;
    }
    advise("\nNext:");
    match output {
        Some(directory) => {
            let directory = quoted(&directory.to_string_lossy());
            advise(&command(&printable(&format!("boathook fleet apply {directory}"))));
        }
        None => {
            advise(&command("boathook import hooks ... --output DIR && boathook fleet apply DIR"))
        }
    }
    for hook in hooks.iter().filter(|hook| hook.yaml.is_some()) {
        let line = format!("boathook webhook add {}", quoted(&hook.name));
        advise(&command(&printable(&line)));
    }
}

fn as_json(imported: &ImportedHooks, files: &[Option<PathBuf>], stored: &[bool]) -> Value {
    let note = |note: &Note| json!({"line": note.line, "refusal": note.is_refusal, "message": note.message});
    let hook = |(hook, file): (&ImportedHook, &Option<PathBuf>)| {
        let file = file.as_ref().map(|file| file.to_string_lossy());
        let notes: Vec<_> = hook.notes.iter().map(note).collect();
        json!({"id": hook.id, "line": hook.line, "name": hook.name, "yaml": hook.yaml, "file": file,
            "notes": notes})
    };
    let secret = |(secret, stored): (&FoundSecret, &bool)| json!({"name": secret.name.as_str(), "line": secret.line, "stored": stored});
    json!({
        "hooks": imported.hooks.iter().zip(files).map(hook).collect::<Vec<_>>(),
        "secrets": imported.secrets.iter().zip(stored).map(secret).collect::<Vec<_>>(),
        "notes": GENERAL,
    })
}
