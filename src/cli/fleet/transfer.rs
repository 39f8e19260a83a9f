//! `fleet export` and `fleet import`: a fleet with its webhook's URL, from one server to another.

use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{FileType, Mode};
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use crate::cli::api::{Fleet, Webhook};
use crate::cli::client::Content;
use crate::cli::output::{advise, print, print_unchanged, printable};
use crate::cli::session::Session;
use crate::fleet_file::FLEET_FILE_BYTES_MAX;
use crate::model::webhook::Token;

/// Bytes of an exported fleet: its file with every letter escaped, and little else.
const EXPORT_BYTES_MAX: u64 = 8 * FLEET_FILE_BYTES_MAX as u64;
const NOTE: &str = "This file is a secret: it has the URL that starts the fleet.";

/// A fleet that leaves a server.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Export {
    note: String,
    /// The fleet file, its webhook's settings included.
    fleet: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook: Option<ExportedWebhook>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ExportedWebhook {
    token: Token,
    #[serde(default)]
    is_paused: bool,
}

/// Prints a fleet for [`import`]. A file that standard output goes to is private from then on.
pub(super) fn export(session: &Session, name: &str) -> anyhow::Result<()> {
    let fleet = session.fleet(name)?;
    let path = format!("/fleets/{}", fleet.id);
    let file = session.client.get_text(&path, "application/yaml")?;
    let webhook = match session.client.get(&format!("{path}/webhook")) {
        Err(error) if error.is_not_found() => None,
        answer => Some(answer?.parse::<Webhook>()?),
    };
    let webhook = webhook.map(|webhook| {
        Ok::<_, anyhow::Error>(ExportedWebhook {
            token: token_of(webhook.url.as_deref().unwrap_or_default())
                .context("this token may not see the webhook's URL; use one of an author")?,
            is_paused: webhook.paused_at.is_some(),
        })
    });
    let export = Export { note: NOTE.to_owned(), fleet: file, webhook: webhook.transpose()? };
    let stdout = io::stdout();
    let is_file = rustix::fs::fstat(&stdout)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_file());
    if is_file {
        // Before the first byte.
        rustix::fs::fchmod(&stdout, Mode::RUSR | Mode::WUSR)
            .context("standard output cannot be made private (mode 0600)")?;
    }
    print_unchanged(&(serde_json::to_string_pretty(&export)? + "\n"))?;
    advise(NOTE);
    advise("Its secrets are not in it: set them on the other server first. Then, there:");
    advise("    boathook fleet import FILE");
    Ok(())
}

/// Makes the fleet of an export, and gives it the URL that it had.
pub(super) fn import(session: &Session, file: &Path) -> anyhow::Result<()> {
    let export = read(file).with_context(|| file.display().to_string())?;
    let content = Content::text("application/yaml", export.fleet);
    let fleet: Fleet = session.client.send(Method::PUT, "/fleets?by=name", content)?.parse()?;
    print(&format!("imported {}\n", printable(&fleet.name)))?;
    let Some(webhook) = export.webhook else { return Ok(()) };
    let path = format!("/fleets/{}/webhook", fleet.id);
    let present = match session.client.get(&path) {
        Err(error) if error.is_not_found() => None,
        answer => Some(answer?.parse::<Webhook>()?),
    };
    match present.map(|present| token_of(present.url.as_deref().unwrap_or_default())) {
        None => {
            let body = serde_json::json!({ "token": webhook.token.reveal() }).to_string();
            session.client.send(Method::POST, &path, Content::text("application/json", body))?;
        }
        Some(Some(token)) if token == webhook.token => {}
        Some(_) => bail!(
            "{} has a webhook with another URL here; remove it first: boathook webhook remove {}",
            printable(&fleet.name),
            fleet.argument()
        ),
    }
    if webhook.is_paused {
        session.client.post(&format!("{path}/pause"))?;
    }
    advise("It answers at the URL that it had, once senders reach this server under that name.");
    advise(
        "On the other server: boathook fleet delete; until then its schedules run there as well. \
         Runs and history stay there.",
    );
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Export> {
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(std::fs::File::open(path)?),
    };
    let mut text = String::new();
    source.take(EXPORT_BYTES_MAX).read_to_string(&mut text)?;
    // serde_json's own message may quote a value.
    serde_json::from_str(&text)
        .ok()
        .context("this is no file of `boathook fleet export`; a fleet file is for `fleet apply`")
}

/// The token at the end of a webhook's URL, or the token itself.
pub fn token_of(url: &str) -> Option<Token> {
    Token::parse(url.trim().trim_end_matches('/').rsplit('/').next()?)
}
