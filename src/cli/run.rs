//! `boathook run`: starts a run of a fleet, as a webhook would or on demand, or shows what would happen.

mod dry_run;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use ureq::SendBody;
use ureq::http::{HeaderName, HeaderValue, Method, header};

use super::Outcome;
use super::api::Accepted;
use super::client::{Content, Data};
use super::follow::{Printer, Selection, follow};
use super::locate::ServerOptions;
use super::output::{
    advise, command, print, print_json, printable, raw_stdout, stdout_is_terminal,
};
use super::runs::status_line;
use super::session::Session;
use crate::fleet_file::FLEET_FILE_BYTES_MAX;
use crate::os::text_file;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --body or --header the run starts as if its webhook had been called. Without, it is an \
on-demand run: it has no webhook parameters.

Overrides are JSON, and go with either:
    {\"vessel_overrides\": [{\"name\": \"build\", \"environment_variable_overrides\": {\"TARGET\": \
\"test\"}}]}
null leaves a variable of the fleet out, \"\" sets it empty. SHIPYARD_OVERRIDE_STATUS skips the vessel: \
SUCCESS counts as exit code 0, ERRORED as 1.

With --dry-run nothing starts: the answer says whether the sender is verified and why, whether the \
request is a duplicate, whether the fleet wants it, and for each vessel in order its argument vector, \
environment (secrets masked), files, directory and user. Ids and times in it are made up.

With --follow the exit status is that of the run: 0 Success, 3 Errored, 4 Terminated, 5 Incomplete.")]
pub struct RunArgs {
    /// Id, name or project/name
    fleet: String,

    /// Body to send: a file, or - for standard input
    #[arg(long, value_name = "FILE|-")]
    body: Option<PathBuf>,

    /// Header to send; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<Header>,

    /// JSON file with environment variables for single vessels
    #[arg(long, value_name = "FILE|-")]
    overrides: Option<PathBuf>,

    /// Show what the vessels print until the run has ended
    #[arg(long)]
    follow: bool,

    /// Show what would become of such a request, and how each vessel would be started; start nothing
    #[arg(long, conflicts_with_all = ["overrides", "follow"])]
    dry_run: bool,

    /// The request of this run, for --dry-run
    #[arg(long = "of-run", value_name = "RUN", requires = "dry_run", conflicts_with_all = ["body", "headers"])]
    of_run: Option<String>,

    /// The request of this delivery, for --dry-run
    #[arg(
        long = "of-delivery", value_name = "DELIVERY", requires = "dry_run",
        conflicts_with_all = ["body", "headers", "of_run"]
    )]
    of_delivery: Option<String>,

    #[command(flatten)]
    server: ServerOptions,
}

/// A header as a person writes it.
#[derive(Clone, Debug)]
pub(super) struct Header(HeaderName, HeaderValue);

/// Headers that belong to the request to the admin API itself.
const RESERVED: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The overrides of a run that starts as its webhook would start it.
const OVERRIDES: HeaderName = HeaderName::from_static("boathook-overrides");

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) =
            text.split_once(':').ok_or("no colon in it; write 'Name: value'".to_owned())?;
        let name: HeaderName =
            name.trim().parse().map_err(|_| format!("not a header name: {:?}", name.trim()))?;
        if RESERVED.contains(&name) {
            return Err(format!("{name} belongs to the request itself and cannot be set"));
        }
        let value = HeaderValue::from_str(value.trim())
            .or_else(|_| HeaderValue::from_bytes(value.trim().as_bytes()))
            .map_err(|_| format!("{name}: a header value has no control characters"))?;
        Ok(Self(name, value))
    }
}

/// Does what `arguments` say.
///
/// # Errors
/// When the server is not there or refuses.
pub fn run(arguments: RunArgs) -> anyhow::Result<Outcome> {
    let session = Session::open(&arguments.server)?;
    let fleet = session.fleet(&arguments.fleet)?;
    let path = format!("/fleets/{}", fleet.id);
    if arguments.dry_run {
        return dry_run::run(&session, &path, &arguments);
    }
    let is_webhook = arguments.body.is_some() || !arguments.headers.is_empty();
    let answer = if is_webhook {
        let body = arguments.body.as_deref().map(open_body).transpose()?;
        let mut content = webhook_content(&arguments.headers, body)?;
        if let Some(file) = &arguments.overrides {
            content.headers.push((OVERRIDES, in_a_header(&read_overrides(file)?)?));
        }
        session.client.send(Method::POST, &format!("{path}/test"), content)?
    } else {
        let overrides = match &arguments.overrides {
            Some(file) => read_overrides(file)?,
            None => "{}".to_owned(),
        };
        let content = Content::text("application/json", overrides);
        session.client.send(Method::POST, &format!("{path}/runs?trigger=on_demand"), content)?
    };
    report(&session, &answer, arguments.follow)
}

fn report(session: &Session, answer: &Data, to_the_end: bool) -> anyhow::Result<Outcome> {
    if answer.raw().get() == "null" {
        bail!(
            "no run was started: the filter of the fleet (`when`) does not want this request; \
             `boathook run FLEET --dry-run` shows why"
        );
    }
    if answer.header("Boathook-Duplicate").is_some() {
        advise("This event has a run already:");
    }
    if !to_the_end {
        report_started(session, answer)?;
        return Ok(Outcome::Done);
    }
    let id = answer.parse::<Accepted>()?.fleet_run_id;
    advise(&format!("run {id}"));
    if session.json {
        let run = follow(
            &session.client,
            &id,
            Selection::default(),
            &mut Printer::silent(),
            &mut || true,
        )?;
        print_json(session.client.get(&format!("/runs/{id}"))?.raw())?;
        return Ok(Outcome::Followed(run.status));
    }
    let mut printer = Printer::new(raw_stdout(), stdout_is_terminal());
    let run = follow(&session.client, &id, Selection::default(), &mut printer, &mut || true)?;
    advise(&status_line(&run));
    Ok(Outcome::Followed(run.status))
}

/// Names the run that was started.
///
/// # Errors
/// When the answer names none, or standard output is gone.
pub fn report_started(session: &Session, answer: &Data) -> anyhow::Result<()> {
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    let id = answer.parse::<Accepted>()?.fleet_run_id;
    print(&format!("{}\n", printable(&id)))?;
    advise("To see what it does:");
    advise(&command(&session.line(&format!("runs logs {id} --follow"))));
    Ok(())
}

pub(super) fn webhook_content(headers: &[Header], body: Option<File>) -> anyhow::Result<Content> {
    let mut headers: Vec<_> =
        headers.iter().map(|Header(name, value)| (name.clone(), value.clone())).collect();
    let Some(file) = body else {
        headers.push((header::CONTENT_LENGTH, HeaderValue::from_static("0")));
        return Ok(Content { headers, body: SendBody::none() });
    };
    let length = file.metadata().context("cannot tell the length of the body")?.len();
    headers.push((header::CONTENT_LENGTH, HeaderValue::from(length)));
    Ok(Content { headers, body: SendBody::from_owned_reader(file) })
}

/// The body as a file of known length. What comes from a pipe is put into an unnamed file first:
/// with a length announced, the server can tell a whole body from one that was cut short.
pub(super) fn open_body(path: &Path) -> anyhow::Result<File> {
    let cannot = || format!("cannot read the body from {}", path.display());
    if path == Path::new("-") {
        return spooled(io::stdin()).with_context(cannot);
    }
    let file = File::open(path).with_context(cannot)?;
    let metadata = file.metadata().with_context(cannot)?;
    if metadata.is_dir() {
        bail!("{} is a directory", path.display());
    }
    if metadata.is_file() { Ok(file) } else { spooled(file).with_context(cannot) }
}

fn spooled(mut source: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut source, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// JSON as the value of a header. No text in JSON has a line break.
fn in_a_header(json: &str) -> anyhow::Result<HeaderValue> {
    HeaderValue::from_bytes(json.replace(['\n', '\r'], " ").trim().as_bytes())
        .context("the overrides have a control character")
}

fn read_overrides(path: &Path) -> anyhow::Result<String> {
    let text = text_file::read_argument(path, FLEET_FILE_BYTES_MAX as u64)
        .with_context(|| format!("cannot read the overrides from {}", path.display()))?;
    if text.trim().is_empty() {
        bail!("{} is empty; overrides are JSON, and {{}} overrides nothing", path.display());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_written() {
        let Header(name, value) = "X-GitHub-Event:  push ".parse().unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-github-event", b"push".as_slice()));
        let Header(_, value) = "X: é".parse().unwrap();
        assert_eq!(value.as_bytes(), "é".as_bytes());
        for text in
            ["X", ": a", "X Y: a", "Authorization: Bearer x", "content-length: 3", "X: a\nb"]
        {
            assert!(text.parse::<Header>().is_err(), "{text}");
        }
    }

    #[test]
    fn overrides_of_many_lines_fit_into_a_header() {
        let value = in_a_header("{\n  \"vessel_overrides\": []\r\n}\n").unwrap();
        assert_eq!(value.as_bytes(), b"{   \"vessel_overrides\": []  }");
        assert_eq!(in_a_header("\"é\"").unwrap().as_bytes(), "\"é\"".as_bytes());
        assert!(in_a_header("\0").is_err());
    }

    #[test]
    fn bodies_have_a_length_wherever_they_come_from() {
        let file = spooled(&b"0123456789"[..]).unwrap();
        let content = webhook_content(&[], Some(file)).unwrap();
        assert_eq!(content.headers, [(header::CONTENT_LENGTH, HeaderValue::from(10))]);
        let mut sent = String::new();
        content.body.into_reader().read_to_string(&mut sent).unwrap();
        assert_eq!(sent, "0123456789");
        let empty = webhook_content(&[], None).unwrap();
        assert_eq!(empty.headers, [(header::CONTENT_LENGTH, HeaderValue::from(0))]);
    }
}
