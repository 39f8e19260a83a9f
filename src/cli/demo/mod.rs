//! `boathook demo`: a server of its own in a temporary directory, an example fleet, a real POST, and
//! what became of it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use ureq::http::Method;

use super::Outcome;
use super::api::{Accepted, Fleet, Run, Webhook};
use super::client::{Client, Content, agent_config};
use super::fleet::render_paths;
use super::follow::{Printer, Selection, follow};
use super::locate::{ServerOptions, Surroundings, locate, quoted};
use super::open::Link;
use super::output::{BOLD, DIM, GOOD, indent_json, print, raw_stdout, status_word, styled};
use super::runs::{render_vessels, status_line};
use super::webhook::curl_line;
use crate::cli::daemon::{self, Daemon};
use crate::config::{Settings, effective};
use crate::model::clock::{Clock, SystemClock};
use crate::model::run::Status;
use crate::os::activation::ActivatedSockets;

const FLEET: &str = include_str!("fleet.yaml");
/// What is POSTed: a push, as a forge might announce it.
const PUSH: &str =
    r#"{"repository":"tea-shop","commit":"3f9c2e1","author":"Ada","message":"Add oolong"}"#;
/// A push that the fleet refuses, so that its other branch runs.
const BAD_PUSH: &str = r#"{"repository":"tea-shop"}"#;
/// How the vessels are to end when all goes well.
const EXPECTED: [(&str, Status); 3] =
    [("receive", Status::Success), ("deploy", Status::Success), ("alert", Status::Incomplete)];
/// Nothing that a demo runs is worth waiting for when it is told to end.
const GRACE: Duration = Duration::from_secs(2);
const MARGIN: &str = "   ";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The server listens on free ports of 127.0.0.1 and keeps its data in a temporary directory, which \
is removed at the end.")]
pub struct DemoArgs {
    /// End after the run instead of serving on; exit status 0 only if all went well
    #[arg(long)]
    exit: bool,
}

/// Shows the demo.
///
/// # Errors
/// When anything does not go as it should.
pub fn run(arguments: &DemoArgs) -> anyhow::Result<Outcome> {
    daemon::adopt_orphans();
    // From here on a signal ends the demo in order, so that its directory is removed.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for Ctrl-C")?;
    let directory = tempfile::Builder::new()
        .prefix("boathook-demo-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    let settings = settings(directory.path())?;
    let effective = effective(None, &settings, &BTreeMap::new());
    let daemon = Daemon::start(settings, effective, ActivatedSockets::default())?;
    let mut is_interrupted = false;
    let mut keep_going = || {
        is_interrupted |= signals.pending().next().is_some();
        !is_interrupted
    };
    let result = show(&daemon, &mut keep_going, arguments.exit);
    if result.is_ok() && !arguments.exit && !is_interrupted {
        let _ = signals.forever().next();
    }
    daemon.stop();
    // What cannot be removed is in the system's directory for such things.
    let _ = directory.close();
    match result {
        Err(_) if is_interrupted => Ok(Outcome::Done),
        Err(error) => Err(error),
        Ok(()) => Ok(Outcome::Done),
    }
}

fn settings(data_dir: &Path) -> anyhow::Result<Settings> {
    let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(Settings {
        hooks_listen: free_port,
        admin_listen: free_port,
        shutdown_grace: GRACE,
        kill_grace: GRACE,
        ..Settings::defaults(std::path::absolute(data_dir)?)
    })
}

fn show(
    daemon: &Daemon,
    keep_going: &mut dyn FnMut() -> bool,
    ends_after_run: bool,
) -> anyhow::Result<()> {
    let settings = daemon.settings();
    let client = admin_client(&settings.data_dir)?;
    let data_dir = quoted(&settings.data_dir.to_string_lossy());

    headline("A throwaway server")?;
    let facts = [
        ("webhooks", settings.hooks_url()),
        ("admin API", settings.admin_url()),
        ("data", data_dir.clone()),
    ];
    for (label, value) in facts {
        margin(&format!("{} {value}", styled(&format!("{label:<10}"), DIM)))?;
    }

    let content = Content::text("application/yaml", FLEET.to_owned());
    let fleet: Fleet = client.send(Method::PUT, "/fleets?by=name", content)?.parse()?;
    headline(&format!("A fleet: {}, {} vessels", fleet.name, fleet.vessels.len()))?;
    margin(&render_paths(&fleet))?;

    let webhook: Webhook = client.post(&format!("/fleets/{}/webhook", fleet.id))?.parse()?;
    let url = webhook.url.unwrap_or_default();
    headline("A POST to its webhook")?;
    margin(&styled(&curl_line(&url, PUSH), BOLD))?;
    let run_id = post(&url)?;

    headline("The run, as it happens")?;
    let mut printer = Printer::new(Margin::new(raw_stdout()), true);
    let run = follow(&client, &run_id, Selection::default(), &mut printer, keep_going)?;

    headline("How it ended")?;
    margin(&render_vessels(&run.vessels, SystemClock.now()))?;
    margin(&format!("\n{}", status_line(&run)))?;
    check(&run)?;
    if !ends_after_run {
        let link = sign_in_link(&client)?;
        headline("The same in your browser")?;
        margin(&format!("{}\n{}", styled(&link.0, BOLD), styled(&link.1, DIM)))?;
        headline("Your turn, in another terminal")?;
        for (what, line) in [
            ("the same again", curl_line(&url, PUSH)),
            ("no commit: the alert goes off", curl_line(&url, BAD_PUSH)),
            ("what became of it", format!("boathook runs list --data-dir {data_dir}")),
        ] {
            margin(&format!("{}\n{}", styled(&format!("# {what}"), DIM), styled(&line, BOLD)))?;
        }
        print("\nServing until Ctrl-C.\n")?;
    }
    Ok(())
}

/// A link to the pages that signs in, and how long it does.
fn sign_in_link(client: &Client) -> anyhow::Result<(String, String)> {
    let link: Link = client.post("/session/links")?.parse()?;
    let hint = format!(
        "# works once, within {} seconds; a new one: boathook open",
        link.expires_in_seconds
    );
    Ok((format!("{}{}", client.base(), link.path), hint))
}

fn admin_client(data_dir: &Path) -> anyhow::Result<Client> {
    // Nothing from outside may lead to another server: neither variables nor a home directory.
    let nothing = |_: &str| None;
    let surroundings = Surroundings { environment: &nothing, home: None, arguments: Vec::new() };
    let options = ServerOptions { data_dir: Some(data_dir.to_owned()), ..ServerOptions::default() };
    Ok(Client::new(&locate(&options, &surroundings)?)?)
}

/// POSTs the push as any sender would and shows the answer; returns the id of the run.
fn post(url: &str) -> anyhow::Result<String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        data: Accepted,
    }
    let mut response = agent_config()
        .build()
        .new_agent()
        .post(url)
        .content_type("application/json")
        .send(PUSH)
        .context("the webhook does not answer")?;
    let status = response.status();
    let text = response.body_mut().read_to_string().context("the answer is cut short")?;
    margin(&styled(&status.to_string(), if status == 201 { GOOD } else { BOLD }))?;
    margin(&indent_json(&text))?;
    if status != 201 {
        bail!("the webhook answers {status}");
    }
    let answer: Answer = serde_json::from_str(&text).context("the answer is no receipt")?;
    Ok(answer.data.fleet_run_id)
}

/// Whether every vessel ended as the story wants it.
fn check(run: &Run) -> anyhow::Result<()> {
    for (name, status) in EXPECTED {
        let vessel = run.vessels.iter().find(|vessel| vessel.vessel_name == name);
        match vessel.map(|vessel| vessel.status) {
            Some(actual) if actual == status => {}
            Some(actual) => bail!("{name} should have ended as {status}, but it is {actual}"),
            None => bail!("the run has no vessel {name}"),
        }
    }
    if run.status != Status::Success {
        bail!("the run should have ended as Success, but it is {}", status_word(run.status));
    }
    Ok(())
}

fn headline(text: &str) -> io::Result<()> {
    print(&format!("\n{}\n", styled(text, BOLD)))
}

fn margin(text: &str) -> io::Result<()> {
    let lines = text.trim_end().lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("{MARGIN}{line}\n"),
    });
    print(&lines.collect::<String>())
}

/// Moves every line to the right.
struct Margin<W> {
    out: W,
    is_line_start: bool,
}

impl<W> Margin<W> {
    fn new(out: W) -> Self {
        Self { out, is_line_start: true }
    }
}

impl<W: Write> Write for Margin<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if std::mem::take(&mut self.is_line_start) {
                self.out.write_all(MARGIN.as_bytes())?;
            }
            self.out.write_all(line)?;
            self.is_line_start = line.ends_with(b"\n");
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn every_line_is_moved() {
        let mut out = Margin::new(Vec::new());
        out.write_all(b"a\nb").unwrap();
        out.write_all(b"c\n\nd").unwrap();
        assert_eq!(String::from_utf8(out.out).unwrap(), "   a\n   bc\n   \n   d");
    }

    #[test]
    fn the_demo_ignores_what_the_machine_is_set_up_for() {
        let settings = settings(Path::new("/demo")).unwrap();
        assert_eq!(settings.data_dir, Path::new("/demo"));
        assert_eq!((settings.hooks_listen.port(), settings.admin_listen.port()), (0, 0));
    }

    /// The script of a vessel of the demo, taken from its file by indentation.
    fn script(vessel: &str) -> String {
        let (_, rest) = FLEET.split_once(&format!("\n  {vessel}:\n    run: |\n")).unwrap();
        rest.lines()
            .map_while(|line| line.strip_prefix("      "))
            .map(|l| format!("{l}\n"))
            .collect()
    }

    #[test]
    fn the_first_vessel_takes_the_push_and_refuses_the_bad_one() {
        for (body, succeeds) in [(PUSH, true), (BAD_PUSH, false)] {
            let directory = tempfile::tempdir().unwrap();
            let mut child = Command::new("/bin/sh")
                .args(["-c", &script("receive")])
                .env("BOATHOOK_TRIGGER", "webhook")
                .current_dir(directory.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.success(), succeeds, "{text}");
            assert!(
                text.starts_with(&format!("a webhook brought {} bytes\n", body.len())),
                "{text}"
            );
            assert_eq!(text.contains("commit      3f9c2e1, by Ada\n"), succeeds, "{text}");
        }
    }
}
