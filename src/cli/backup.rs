//! `boathook backup`: everything that a running server has, in one file. It is checked as it comes,
//! and has its name only once all of it is on the disk.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, bail};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::NamedTempFile;

use super::Outcome;
use super::client::reader;
use super::locate::{ServerOptions, quoted};
use super::output::{advise, command, print, print_as_json, stdout_is_terminal};
use super::progress::Progress;
use super::restore::amount;
use super::session::Session;
use crate::archive::{ArchiveError, Reader};
use crate::restore::Verified;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The server goes on meanwhile. The backup holds what it had at one moment: fleets, webhooks with \
their URLs, runs with their payloads and their output. It holds no work directories, no admin \
token, no settings and no values of secrets. Whoever can read it can use the webhooks: it is \
private to you (mode 0600).

It is as large as what is in it, not as the database: restoring one is also how to compact that.

    boathook backup /backups/boathook-$(date +%F).backup
    boathook backup - | ssh HOST 'cat > boathook.backup'")]
pub struct BackupArgs {
    /// File to make, in place of what it was before; - for standard output. Pipes and devices are
    /// written to
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    server: ServerOptions,
}

/// Makes a backup.
///
/// # Errors
/// When the server is not there or refuses, or it does not arrive whole and in order.
pub fn run(arguments: &BackupArgs) -> anyhow::Result<Outcome> {
    let session = Session::open(&arguments.server)?;
    let file = Some(arguments.file.as_path()).filter(|path| path.as_os_str() != "-");
    let mut target = file.map_or_else(Target::stdout, Target::file)?;
    let answer = session.client.open_posted("/backup")?;
    let mut source = Source { reader: reader(answer), target: &mut target };
    let verified = copy(&mut source).with_context(|| match file {
        None => "there is no backup".to_owned(),
        Some(path) => format!("there is no backup in {}", path.display()),
    })?;
    target.keep()?;
    let amount = amount(&verified);
    let Some(path) = file else {
        advise(&format!("backed up: {amount}"));
        return Ok(Outcome::Done);
    };
    let shown = path.to_string_lossy();
    if arguments.server.json {
        let Verified { header, totals, bytes } = verified;
        print_as_json(&json!({
            "file": shown, "bytes": bytes, "created_at": header.created_at, "schema": header.schema,
            "row_changes": totals.row_changes, "files": totals.files,
        }))?;
        return Ok(Outcome::Done);
    }
    print(&format!("{shown}\n"))?;
    advise(&format!("backed up: {amount}; whoever can read it can use the webhooks. To try it:"));
    advise(&command(&format!("boathook restore --verify {}", quoted(&shown))));
    Ok(Outcome::Done)
}

/// Reads all of the backup, which copies it, and checks it.
fn copy(source: &mut impl Read) -> Result<Verified, ArchiveError> {
    // Only its header tells how much there may be.
    let mut archive = Reader::open(source)?;
    let mut progress = Progress::new("backing up", archive.header().bytes_expected);
    let mut position = 0;
    while archive.next_frame()?.is_some() {
        progress.advance((archive.position() - position) as usize);
        position = archive.position();
    }
    let (header, totals) = (archive.header().clone(), archive.totals());
    Ok(Verified { header, totals, bytes: archive.position() })
}

/// What the server sends, copied as it is read.
struct Source<'a, R> {
    reader: R,
    target: &'a mut Target,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer).map_err(|error| {
            io::Error::other(format!("the server broke off ({error}); its log may say why"))
        })?;
        self.target.write(&buffer[..count])?;
        Ok(count)
    }
}

/// Where the backup goes.
enum Target {
    /// Something that takes it as it comes, and what to call that.
    Stream(Box<dyn Write>, String),
    /// A file beside the one that it is to become.
    File { file: NamedTempFile, path: PathBuf },
}

impl Target {
    fn stdout() -> anyhow::Result<Self> {
        if stdout_is_terminal() {
            bail!("a backup is nothing to look at; name a file, or redirect the output");
        }
        Ok(Self::Stream(Box::new(io::stdout()), "standard output".to_owned()))
    }

    /// What is there already is replaced if it is a file, also through a link. Anything else that
    /// takes bytes stays what it is.
    fn file(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let path = match fs::metadata(path) {
            Ok(found) if found.is_dir() => bail!("{shown} is a directory; name a file in it"),
            Ok(found) if found.is_file() => path.canonicalize()?,
            Ok(_) => {
                let opened = OpenOptions::new().write(true).open(path);
                let opened = opened.with_context(|| format!("cannot write to {shown}"))?;
                return Ok(Self::Stream(Box::new(opened), shown.to_string()));
            }
            Err(_) if path.is_symlink() => bail!("{shown} is a link to what is not there"),
            Err(_) => path.to_owned(),
        };
        let Some(name) = path.file_name() else { bail!("{shown} is no name for a file") };
        // Before there is anything that an end of this process could leave behind.
        let signals = Signals::new([SIGINT, SIGTERM])?;
        let file = tempfile::Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .suffix(".unfinished")
            .tempfile_in(directory_of(&path))
            .with_context(|| format!("cannot write in {}", directory_of(&path).display()))?;
        remove_when_interrupted(signals, file.path().to_owned())?;
        Ok(Self::File { file, path })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let failed = |name: &dyn fmt::Display, error: io::Error| {
            io::Error::new(error.kind(), format!("cannot write to {name}: {error}"))
        };
        match self {
            Self::Stream(stream, name) => {
                stream.write_all(bytes).map_err(|error| failed(name, error))
            }
            Self::File { file, path } => {
                file.write_all(bytes).map_err(|error| failed(&path.display(), error))
            }
        }
    }

    /// All of it is there: makes it durable, and gives it its name.
    fn keep(self) -> anyhow::Result<()> {
        match self {
            Self::Stream(mut stream, name) => {
                stream.flush().with_context(|| format!("cannot write to {name}"))
            }
            Self::File { file, path } => {
                let failed = || format!("cannot write {}", path.display());
                file.as_file().sync_all().with_context(failed)?;
                file.persist(&path).map_err(|error| error.error).with_context(failed)?;
                File::open(directory_of(&path)).and_then(|it| it.sync_all()).with_context(failed)
            }
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Leaves nothing of `path` behind when somebody ends this process.
fn remove_when_interrupted(mut signals: Signals, path: PathBuf) -> io::Result<()> {
    thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _ = std::fs::remove_file(&path);
            // As a shell reports a process that a signal has ended.
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}
