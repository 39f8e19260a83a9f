//! `boathook restore`: makes a data directory of a backup. Needs no server, and touches none.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IsTerminal, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde_json::json;

use super::Outcome;
use super::locate::start_command;
use super::output::{NOTABLE, advise, command, print, print_as_json, printable, styled};
use super::progress::{Metered, Progress, human_size};
use crate::config::secrets::SecretStore;
use crate::config::{Settings, Sources, default_data_directory};
use crate::model::variable::{SECRETS_DIRECTORY, SecretName};
use crate::store::backup::restore::{self, RestoredRows, VerifiedBackup};

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The backup is read to its end before anything is written: one that is damaged or cut short changes \
nothing. The data directory must be new or empty, but for boathook.toml; a restore that was \
interrupted is simply run again.

Webhooks keep their URLs. The admin token is a new one. Runs that had not ended when the backup was \
made become Terminated when the server starts: since then, the server that it was made of may have \
run them. With --resume-runs they start again at their first vessel, but for those of fleets with \
delivery at_most_once, which end as Errored; and what was to be told of others is told, maybe for \
the second time.

A backup has no secrets. Those that its fleets need and that are not there are named at the end.

To compact a database, stop its server after the backup, move its data directory away, and restore \
with --resume-runs.")]
pub struct RestoreArgs {
    /// A file that `boathook backup` made; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Directory to make, or to fill [default: that of a server of your own]
    #[arg(long, env = "BOATHOOK_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Let the runs that had not ended start again, instead of ending them
    #[arg(long, conflicts_with = "verify")]
    resume_runs: bool,

    /// Only read all of the backup and say whether it is whole
    #[arg(long)]
    verify: bool,

    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Restores or verifies a backup.
///
/// # Errors
/// When it is not whole, or the directory cannot take it.
pub fn run(arguments: &RestoreArgs) -> anyhow::Result<Outcome> {
    let name = name_of(&arguments.file);
    let file = open(&arguments.file).with_context(|| format!("cannot read {name}"))?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let of_backup = || name.clone();
    if arguments.verify {
        let progress = Progress::new("verifying", bytes);
        let verified = restore::verify(Metered { source: file, progress });
        return report_verified(arguments, &verified.with_context(of_backup)?);
    }
    let data_dir = arguments
        .data_dir
        .clone()
        .or_else(|| default_data_directory(|name| std::env::var_os(name), std::env::home_dir()));
    let data_dir = data_dir.ok_or_else(|| anyhow!("say where to restore it with --data-dir"))?;
    let data_dir = std::path::absolute(data_dir)?;
    let file = seekable(file, &data_dir)
        .with_context(|| format!("cannot copy {name} to the disk of {}", data_dir.display()))?;
    let bytes = file.metadata().map_or(bytes, |metadata| metadata.len());
    // It is read twice.
    let progress = Progress::new("restoring", bytes.saturating_mul(2));
    let mut source = Metered { source: file, progress };
    let restored = restore::restore(&mut source, &data_dir, arguments.resume_runs);
    drop(source);
    let (verified, restored) = restored.with_context(of_backup)?;
    report_restored(arguments, &data_dir, &verified, restored)
}

/// What messages call the backup at `path`.
fn name_of(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

fn open(path: &Path) -> anyhow::Result<File> {
    if path != Path::new("-") {
        return Ok(File::open(path)?);
    }
    let input = io::stdin();
    if input.is_terminal() {
        bail!("it is a terminal; name a file, or redirect one to it");
    }
    Ok(File::from(input.as_fd().try_clone_to_owned()?))
}

/// `file`, or an unnamed copy of what comes of it if that can be read only once. The copy is on the
/// disk that is to hold the data directory, which needs as much room in any case.
fn seekable(mut file: File, data_dir: &Path) -> io::Result<File> {
    if file.metadata()?.is_file() && file.stream_position()? == 0 {
        return Ok(file);
    }
    let existing = data_dir.ancestors().find(|path| path.is_dir());
    let copy = existing.map_or_else(tempfile::tempfile, tempfile::tempfile_in);
    let mut copy = copy.or_else(|_| tempfile::tempfile())?;
    io::copy(&mut file, &mut copy)?;
    copy.rewind()?;
    Ok(copy)
}

fn report_verified(arguments: &RestoreArgs, verified: &VerifiedBackup) -> anyhow::Result<Outcome> {
    let VerifiedBackup { header, totals, bytes } = verified;
    if arguments.json {
        print_as_json(&json!({
            "file": arguments.file.to_string_lossy(), "bytes": bytes, "created_at": header.created_at,
            "version": header.version, "schema": header.schema,
            "row_changes": totals.row_changes, "files": totals.files,
        }))?;
        return Ok(Outcome::Done);
    }
    print(&format!(
        "{} is whole: made at {} by boathook {}; {}\n",
        name_of(&arguments.file),
        header.created_at,
        printable(&header.version),
        amount(verified),
    ))?;
    Ok(Outcome::Done)
}

/// How much is in a backup.
pub(super) fn amount(verified: &VerifiedBackup) -> String {
    let VerifiedBackup { totals, bytes, .. } = verified;
    let size = human_size(*bytes);
    format!("{} rows, {} output files, {size}", totals.row_changes, totals.files)
}

fn report_restored(
    arguments: &RestoreArgs,
    data_dir: &Path,
    verified: &VerifiedBackup,
    restored: RestoredRows,
) -> anyhow::Result<Outcome> {
    let RestoredRows { fleets, webhooks, runs, unfinished, secrets } = restored;
    let missing = missing(data_dir, secrets);
    let VerifiedBackup { header, totals, bytes } = verified;
    if arguments.json {
        print_as_json(&json!({
            "data_dir": data_dir.to_string_lossy(), "bytes": bytes, "created_at": header.created_at,
            "fleets": fleets, "webhooks": webhooks, "runs": runs, "unfinished_runs": unfinished,
            "files": totals.files, "missing_secrets": missing,
        }))?;
        return Ok(Outcome::Done);
    }
    let fate = match arguments.resume_runs {
        _ if unfinished == 0 => "",
        true => "  they go on when the server starts",
        false => "  they will be Terminated when the server starts",
    };
    print(&format!(
        "\
restored the backup of {} ({}) into {}
    fleets        {fleets}
    webhooks      {webhooks}
    runs          {runs}
    not ended     {unfinished}{fate}
    output files  {}
",
        header.created_at,
        human_size(*bytes),
        data_dir.display(),
        totals.files,
    ))?;
    advise("The admin token will be a new one. Start the server:");
    advise(&command(&start_command(data_dir)));
    advise_missing(&missing);
    Ok(Outcome::Done)
}

/// The secrets among `needed` that a server on `data_dir` does not find, without systemd's credentials.
fn missing(data_dir: &Path, needed: BTreeSet<SecretName>) -> BTreeSet<SecretName> {
    let sources = Sources {
        data_dir: Some(data_dir.to_owned()),
        secrets_dir: std::env::var_os("BOATHOOK_SECRETS_DIR").map(PathBuf::from),
        ..Sources::default()
    };
    let store = match Settings::load(sources, None) {
        Ok(settings) => SecretStore::of(&settings),
        // The server will say what is wrong with its settings.
        Err(_) => SecretStore::new(data_dir.join(SECRETS_DIRECTORY), true, None),
    };
    needed.into_iter().filter(|secret| store.examine("", secret).is_err()).collect()
}

fn advise_missing(missing: &BTreeSet<SecretName>) {
    if missing.is_empty() {
        return;
    }
    let warning = "\nSecrets that its fleets need and that a backup does not have:";
    advise(&styled(warning, NOTABLE));
    for secret in missing {
        advise(&command(&format!("boathook secret set {}", secret.as_str())));
    }
    advise("Set them once the server runs, unless systemd loads them (LoadCredential=).");
}
