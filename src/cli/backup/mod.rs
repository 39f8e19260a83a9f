//! `boathook backup`: everything that a running server has, in one file. It is checked as it comes,
//! and has its name only once all of it is on the disk.

use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;

use super::Outcome;
use super::client::reader;
use super::locate::{ServerOptions, quoted};
use super::output::{advise, command, print, print_as_json};
use super::progress::Progress;
use super::restore::amount;
use super::session::Session;
use crate::store::backup::format::{FormatError, Reader};
use crate::store::backup::restore::VerifiedBackup;

mod target;

use target::Target;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The server goes on meanwhile. The backup holds what it had at one moment: fleets, webhooks with \
their URLs, runs with their payloads and their output. It holds no work directories, no admin \
token, no settings and no values of secrets. All who can read it can use the webhooks: it is \
private to you (mode 0600).

It is as large as what is in it, not as the database: restoring one is also how to compact that.

    boathook backup /backups/boathook-$(date +%F).backup
    boathook backup - | ssh HOST 'cat > boathook.backup'")]
pub struct BackupArgs {
    /// File to make, in place of what it was before; - for standard output. Pipes and devices are
    /// written to, and get nothing but the backup
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
    let mut target = Target::open(&arguments.file)?;
    let shown = arguments.file.to_string_lossy();
    let answer = session.client.open_posted("/backup")?;
    let mut source = Source { reader: reader(answer), target: &mut target };
    let verified = copy(&mut source).with_context(|| format!("there is no backup in {shown}"))?;
    let stream = target.keep()?;
    let is_stdout = stream.as_ref().is_some_and(|stream| stream.is_stdout());
    if arguments.server.json && !is_stdout {
        let VerifiedBackup { header, totals, bytes } = verified;
        print_as_json(&json!({
            "file": shown, "bytes": bytes, "created_at": header.created_at, "schema": header.schema,
            "row_changes": totals.row_changes, "files": totals.files,
        }))?;
        return Ok(Outcome::Done);
    }
    let amount = amount(&verified);
    match stream {
        Some(stream) if stream.is_stderr() => {}
        Some(_) => advise(&format!("backed up: {amount}")),
        None => {
            print(&format!("{shown}\n"))?;
            advise(&format!(
                "backed up: {amount}; the webhooks can be used by all who can read it. To try it:"
            ));
            advise(&command(&format!("boathook restore --verify {}", quoted(&shown))));
        }
    }
    Ok(Outcome::Done)
}

/// Reads all of the backup, which copies it, and checks it.
fn copy(source: &mut impl Read) -> Result<VerifiedBackup, FormatError> {
    // Only its header tells how much there may be.
    let mut archive = Reader::open(source)?;
    let mut progress = Progress::new("backing up", archive.header().bytes_expected);
    let mut position = 0;
    while archive.next_frame()?.is_some() {
        progress.advance((archive.position() - position) as usize);
        position = archive.position();
    }
    let (header, totals) = (archive.header().clone(), archive.totals());
    Ok(VerifiedBackup { header, totals, bytes: archive.position() })
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
