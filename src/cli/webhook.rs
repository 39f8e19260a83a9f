//! `boathook webhook`: add, show, replace, set, pause, resume, handshake, send, recover, remove. The URL
//! goes to standard output, alone, so that scripts can take it; all else goes to standard error.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde::Serialize;
use ureq::http::{Method, header};

use super::api::{Fleet, SentSample, Webhook};
use super::client::{ClientError, Content, Data};
use super::confirm::confirm_on_terminal;
use super::fleet::token_of;
use super::locate::{ServerOptions, quoted};
use super::output::{NOTABLE, advise, command, print, print_json, printable, styled};
use super::recover::{RecoverArgs, recover};
use super::run::{open_body, webhook_content};
use super::session::Session;
use super::{Outcome, time};
use crate::config::{HttpUrl, Period, Reach, settings_file};
use crate::model::clock::{Clock, SystemClock};
use crate::model::network::{NetworkError, Networks};
use crate::model::rate::Rate;
use crate::model::text::percent_encoded;
use crate::model::webhook::Token;
use crate::os::text_file;

/// How often a change is tried again that meets those of other clients.
const SET_TRIES_MAX: u32 = 10;

/// Arguments of `webhook`.
#[derive(Debug, clap::Args)]
pub struct WebhookArgs {
    #[command(subcommand)]
    verb: WebhookVerb,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Subcommand)]
enum WebhookVerb {
    /// Give a fleet its webhook and print the URL. Here --token-file is the token, or the URL, that
    /// the webhook is to have; a token for the server goes into BOATHOOK_TOKEN
    Add {
        /// Id, name or project/name
        fleet: String,
        #[command(flatten)]
        settings: SettingsOptions,
    },
    /// Print the URL of a fleet's webhook
    Show {
        /// Id, name or project/name
        fleet: String,
    },
    /// Replace the URL with a new one and print that
    Replace {
        /// Id, name or project/name
        fleet: String,
        /// How long the old URL still works, such as 1h [default: not at all]
        #[arg(long, value_name = "DURATION")]
        grace: Option<Period>,
        #[command(flatten)]
        settings: SettingsOptions,
    },
    /// Change which requests a fleet's webhook takes: a new version of the fleet
    Set {
        /// Id, name or project/name
        fleet: String,
        #[command(flatten)]
        settings: SettingsOptions,
    },
    /// Let a fleet's webhook answer 503 until it is resumed
    Pause {
        /// Id, name or project/name
        fleet: String,
    },
    /// Let a paused webhook take requests again
    Resume {
        /// Id, name or project/name
        fleet: String,
    },
    /// Let the next handshake bring the sender's secret, within ten minutes (Asana)
    Handshake {
        /// Id, name or project/name
        fleet: String,
        /// Expect none any more
        #[arg(long)]
        cancel: bool,
    },
    /// Send a sample event to a fleet's own webhook, signed as the fleet expects it
    Send {
        /// Id, name or project/name
        fleet: String,
        /// A provider of `boathook help senders` [default: the first that the fleet verifies]
        #[arg(long)]
        preset: Option<String>,
        /// The type of the event, such as push
        #[arg(long)]
        event: Option<String>,
        /// A body of your own; - reads standard input
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
    },
    /// Let GitHub deliver again what it could not deliver: it never does so by itself
    #[command(after_help = "\
The server asks GitHub for the deliveries of the webhook with the fleet's URL, and has those delivered
again of which no attempt has succeeded. Run it again as often as you like: an event that has a run does
not run again. GitHub keeps deliveries for some days.")]
    Recover(RecoverArgs),
    /// Remove a fleet's webhook; its URL stops working at once. Asks on a terminal
    Remove {
        /// Id, name or project/name
        fleet: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Whose requests a webhook takes, and how many.
#[derive(Clone, Debug, clap::Args)]
struct SettingsOptions {
    /// Take requests only from these networks, such as 192.0.2.7,10.0.0.0/8; `any` takes all
    #[arg(long, value_name = "NETWORKS")]
    allow: Option<Allowed>,
    /// Take only so many requests, such as 60/m, or 60/m burst 10; `off` takes any number
    #[arg(long, value_name = "RATE")]
    rate_limit: Option<Limit>,
}

/// The value of `--allow`. Empty: from anywhere.
#[derive(Clone, Debug, Serialize)]
struct Allowed(Networks);

impl FromStr for Allowed {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if text == "any" { Ok(Self(Networks::default())) } else { text.parse().map(Self) }
    }
}

/// The value of `--rate-limit`. `None`: any number.
#[derive(Clone, Debug, Serialize)]
struct Limit(Option<Rate>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self(None)) } else { text.parse().map(|rate| Self(Some(rate))) }
    }
}

/// Does what `arguments` say.
///
/// # Errors
/// When the server is not there or refuses.
pub fn run(mut arguments: WebhookArgs) -> anyhow::Result<Outcome> {
    let token = match arguments.verb {
        WebhookVerb::Add { .. } => taken_token(&mut arguments.server)?,
        _ => None,
    };
    let session = Session::open(&arguments.server)?;
    match arguments.verb {
        WebhookVerb::Add { fleet, settings } => {
            add(&session, &session.fleet(&fleet)?, &settings, token.as_ref())?;
        }
        WebhookVerb::Show { fleet } => show(&session, &session.fleet(&fleet)?)?,
        WebhookVerb::Replace { fleet, grace, settings } => {
            let fleet = session.fleet(&fleet)?;
            let grace = grace.map_or(Duration::ZERO, |grace| grace.0);
            // First, so that the new URL never takes what it should not.
            change_settings(&session, &fleet, &settings)?;
            replace(&session, &fleet, grace)?;
        }
        WebhookVerb::Set { fleet, settings } => set(&session, &session.fleet(&fleet)?, settings)?,
        WebhookVerb::Pause { fleet } => pause(&session, &session.fleet(&fleet)?)?,
        WebhookVerb::Resume { fleet } => resume(&session, &session.fleet(&fleet)?)?,
        WebhookVerb::Handshake { fleet, cancel } => {
            handshake(&session, &session.fleet(&fleet)?, cancel)?;
        }
        WebhookVerb::Send { fleet, preset, event, body } => {
            let sample = Sample { preset, event, body };
            return send(&session, &session.fleet(&fleet)?, &sample);
        }
        WebhookVerb::Recover(given) => {
            return recover(&session, &session.fleet(given.fleet())?, &given);
        }
        WebhookVerb::Remove { fleet, yes } => remove(&session, &session.fleet(&fleet)?, yes)?,
    }
    Ok(Outcome::Done)
}

/// The token that the webhook is to have. With an address and no token in the environment the file is
/// the server's, as for every other verb.
fn taken_token(server: &mut ServerOptions) -> anyhow::Result<Option<Token>> {
    let has_variable = std::env::var_os("BOATHOOK_TOKEN").is_some_and(|token| !token.is_empty());
    if server.url.is_some() && !has_variable {
        return Ok(None);
    }
    let Some(path) = server.token_file.take() else { return Ok(None) };
    let shown = path.display();
    let text = text_file::read(&path).with_context(|| shown.to_string())?;
    let token = token_of(&text).with_context(|| {
        format!("{shown} holds no webhook's URL, nor the 43 letters at the end of one")
    })?;
    Ok(Some(token))
}

fn add(
    session: &Session,
    fleet: &Fleet,
    settings: &SettingsOptions,
    token: Option<&Token>,
) -> anyhow::Result<()> {
    let content = settings.to_content(token);
    let answer = session.client.send(Method::POST, &path(fleet), content)?;
    let Some(webhook) = print_url(session, &answer)? else { return Ok(()) };
    advise(&format!(
        "\nWhoever knows this URL can start {}: keep it secret like a password.",
        printable(&fleet.name)
    ));
    advise_use(session, &webhook);
    Ok(())
}

fn show(session: &Session, fleet: &Fleet) -> anyhow::Result<()> {
    let answer = match session.client.get(&path(fleet)) {
        Err(error) if error.is_not_found() => bail!(
            "{} has no webhook; to add one:\n{}",
            printable(&fleet.name),
            command(&session.line(&format!("webhook add {}", fleet.argument())))
        ),
        answer => answer?,
    };
    let Some(webhook) = print_url(session, &answer)? else { return Ok(()) };
    let now = SystemClock.now();
    let used = match webhook.last_used_at {
        Some(used) => format!("last used {}", time::relative(now, used)),
        None => "never used".to_owned(),
    };
    advise(&format!("\nAdded {}, {used}.", time::relative(now, webhook.created_at)));
    if let Some(previous) = &webhook.previous {
        let until = previous.valid_until;
        advise(&format!("The URL before it works until {until} ({}).", time::relative(now, until)));
    }
    if let Some(paused) = webhook.paused_at {
        advise(&format!(
            "It was paused {} and answers 503; to take requests again:",
            time::relative(now, paused)
        ));
        advise(&command(&session.line(&format!("webhook resume {}", fleet.argument()))));
    }
    advise_limits(&webhook);
    warn_if_local(session, webhook.url.as_deref().unwrap_or_default());
    Ok(())
}

fn set(session: &Session, fleet: &Fleet, given: SettingsOptions) -> anyhow::Result<()> {
    let Some(answer) = change_settings(session, fleet, &given)? else {
        bail!("name what to change: --allow, --rate-limit");
    };
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    print(&format!("set the webhook of {}\n", printable(&fleet.name)))?;
    advise_limits(&answer.parse()?);
    Ok(())
}

/// Sets what `given` names and leaves the rest as it is, also when another client changes that at the
/// same time. `None`: it names nothing.
fn change_settings(
    session: &Session,
    fleet: &Fleet,
    given: &SettingsOptions,
) -> anyhow::Result<Option<Data>> {
    if given.allow.is_none() && given.rate_limit.is_none() {
        return Ok(None);
    }
    let mut tries = 0..SET_TRIES_MAX;
    loop {
        let answer = session.client.get(&path(fleet))?;
        let current: Webhook = answer.parse()?;
        let mut whole = given.clone();
        whole.allow.get_or_insert(Allowed(current.allow));
        whole.rate_limit.get_or_insert(Limit(current.rate_limit));
        let mut content = whole.to_content(None);
        content.headers.extend(answer.header("ETag").map(|tag| (header::IF_MATCH, tag.clone())));
        match session.client.send(Method::PUT, &path(fleet), content) {
            Err(ClientError::Refused { status: 412, .. }) if tries.next().is_some() => {}
            answer => return Ok(Some(answer?)),
        }
    }
}

impl SettingsOptions {
    /// Those that are given, as the API takes them.
    fn to_content(&self, token: Option<&Token>) -> Content {
        let mut body = serde_json::Map::new();
        let given = [
            ("token", token.map(|token| token.reveal().into())),
            ("allow", self.allow.as_ref().map(|it| serde_json::json!(it))),
            ("rate_limit", self.rate_limit.as_ref().map(|it| serde_json::json!(it))),
        ];
        for (key, value) in given {
            body.extend(value.map(|value| (key.to_owned(), value)));
        }
        Content::text("application/json", serde_json::Value::Object(body).to_string())
    }
}

fn pause(session: &Session, fleet: &Fleet) -> anyhow::Result<()> {
    let answer = session.client.post(&format!("{}/pause", path(fleet)))?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    print(&format!("paused the webhook of {}\n", printable(&fleet.name)))?;
    advise(
        "Its URL answers 503 with Retry-After. Runs already accepted go on. To take requests again:",
    );
    advise(&command(&session.line(&format!("webhook resume {}", fleet.argument()))));
    Ok(())
}

fn resume(session: &Session, fleet: &Fleet) -> anyhow::Result<()> {
    let answer = session.client.post(&format!("{}/resume", path(fleet)))?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    Ok(print(&format!("resumed the webhook of {}\n", printable(&fleet.name)))?)
}

fn handshake(session: &Session, fleet: &Fleet, cancel: bool) -> anyhow::Result<()> {
    let path = format!("{}/handshake", path(fleet));
    let answer = if cancel { session.client.delete(&path)? } else { session.client.post(&path)? };
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    let webhook: Webhook = answer.parse()?;
    let name = printable(&fleet.name);
    let Some(until) = webhook.handshake_until else {
        return Ok(print(&format!("{name} expects no handshake\n"))?);
    };
    print(&format!("{name} expects a handshake until {until}\n"))?;
    advise("Create the webhook at the provider now. The secret that it brings is kept, once.");
    if let Some(url) = &webhook.url {
        warn_if_local(session, url);
    }
    Ok(())
}

fn replace(session: &Session, fleet: &Fleet, grace: Duration) -> anyhow::Result<()> {
    // Whole seconds, rounded up: no sender is lost to a fraction.
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    let body = serde_json::json!({ "grace_seconds": seconds }).to_string();
    let content = Content::text("application/json", body);
    let answer = session.client.send(Method::POST, &format!("{}/replace", path(fleet)), content)?;
    let Some(webhook) = print_url(session, &answer)? else { return Ok(()) };
    match &webhook.previous {
        Some(previous) => {
            advise(&format!("\nThe old URL works until {}.", previous.valid_until));
        }
        None => advise("\nThe old URL no longer works."),
    }
    advise_use(session, &webhook);
    Ok(())
}

/// What `send` is asked for.
struct Sample {
    preset: Option<String>,
    event: Option<String>,
    body: Option<PathBuf>,
}

/// Sends a sample. What the webhook answers decides the outcome.
fn send(session: &Session, fleet: &Fleet, sample: &Sample) -> anyhow::Result<Outcome> {
    let given = [("preset", &sample.preset), ("event", &sample.event)];
    let given = given
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", percent_encoded(value.as_deref()?))));
    let path = format!("{}/send?{}", path(fleet), given.collect::<Vec<_>>().join("&"));
    let body = sample.body.as_deref().map(open_body).transpose()?;
    let content = webhook_content(&[], body)?;
    let answer = session.client.send(Method::POST, path.trim_end_matches('?'), content)?;
    let sent: SentSample = answer.parse()?;
    let is_taken = (200..300).contains(&sent.status);
    if session.json {
        print_json(answer.raw())?;
        return Ok(if is_taken { Outcome::Done } else { Outcome::PartlyFailed });
    }
    let what = [sent.preset.as_deref().unwrap_or_default(), &sent.event_type];
    let what: Vec<_> = what.into_iter().filter(|word| !word.is_empty()).collect();
    let signed = if sent.is_signed { "signed" } else { "unsigned" };
    print(&format!(
        "sent      {} {}, {signed}\nanswered  {}\n",
        printable(&what.join(" ")),
        sent.event_id,
        sent.status
    ))?;
    match &sent.fleet_run_id {
        Some(run) => {
            advise("To see what came of it:");
            advise(&command(&session.line(&format!("runs show {run}"))));
        }
        None if !is_taken => {
            advise("The webhook did not take it; the log of the server says why.");
        }
        None => {}
    }
    Ok(if is_taken { Outcome::Done } else { Outcome::PartlyFailed })
}

fn remove(session: &Session, fleet: &Fleet, yes: bool) -> anyhow::Result<()> {
    let shown = printable(&fleet.name);
    confirm_on_terminal(&format!("Remove the webhook of {shown}? Its URL works no more."), yes)?;
    let answer = session.client.delete(&path(fleet))?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    print(&format!("removed the webhook of {}\n", printable(&fleet.name)))?;
    advise("Its URL answers 400 from now on.");
    Ok(())
}

fn path(fleet: &Fleet) -> String {
    format!("/fleets/{}/webhook", fleet.id)
}

/// Prints the answer; gives the webhook back when a person may want to know more about it.
fn print_url(session: &Session, answer: &Data) -> anyhow::Result<Option<Webhook>> {
    if session.json {
        print_json(answer.raw())?;
        return Ok(None);
    }
    let webhook: Webhook = answer.parse()?;
    let Some(url) = &webhook.url else {
        bail!("this takes a token with the role author, which sees the URLs of webhooks");
    };
    print(&format!("{url}\n"))?;
    Ok(Some(webhook))
}

fn advise_use(session: &Session, webhook: &Webhook) {
    advise_limits(webhook);
    advise("To start a run:");
    let url = webhook.url.as_deref().unwrap_or_default();
    advise(&command(&curl_line(url, r#"{"hello":"world"}"#)));
    warn_if_local(session, url);
}

fn advise_limits(webhook: &Webhook) {
    if !webhook.allow.is_empty() {
        advise(&format!("It takes requests from {} only.", webhook.allow));
    }
    if let Some(rate) = webhook.rate_limit {
        advise(&format!("Its rate limit is {rate}."));
    }
}

/// A curl command that POSTs `json` to `url`.
pub fn curl_line(url: &str, json: &str) -> String {
    format!("curl -H 'Content-Type: application/json' -d {} {}", quoted(json), quoted(url))
}

fn warn_if_local(session: &Session, url: &str) {
    let file = session.data_dir.as_deref().map(settings_file);
    let file = file.map_or_else(|| "its boathook.toml".to_owned(), |it| it.display().to_string());
    if let Some(warning) = local_warning(url, &file) {
        advise(&format!("{} {warning}", styled("warning:", NOTABLE)));
    }
}

/// What to say about a URL that senders elsewhere cannot reach.
fn local_warning(url: &str, file: &str) -> Option<String> {
    let parsed = url.parse::<HttpUrl>().ok()?;
    let who = match parsed.reach() {
        Reach::Machine => "only this machine can reach",
        Reach::Network => "only its own network can reach",
        Reach::Internet => return None,
    };
    Some(format!(
        "{who} {}. For senders elsewhere, set `public_url` (and `hooks_listen`, unless a proxy stands \
         in front) in {file}, start the server again, then `boathook webhook show`.",
        parsed.host
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_that_senders_cannot_use_are_warned_about() {
        let says =
            |url: &str| local_warning(url, "/etc/boathook/boathook.toml").unwrap_or_default();
        assert!(says("http://127.0.0.1:9000/hooks/x").starts_with("only this machine"));
        assert!(says("http://[::]:9000/hooks/x").starts_with("only this machine"));
        assert!(says("http://10.0.0.7:9000/hooks/x").starts_with("only its own network"));
        assert!(local_warning("https://hooks.example.com/hooks/x", "x").is_none());
        let warning =
            local_warning("http://0.0.0.0:9000/hooks/secret", "/etc/boathook/boathook.toml")
                .unwrap();
        assert!(!warning.contains("secret"), "{warning}");
        assert!(warning.contains(" in /etc/boathook/boathook.toml, "), "{warning}");
    }

    #[test]
    fn the_curl_line_can_be_pasted() {
        assert_eq!(
            curl_line("http://127.0.0.1:9000/hooks/x_-1", r#"{"it":"it's"}"#),
            r#"curl -H 'Content-Type: application/json' -d '{"it":"it'\''s"}' http://127.0.0.1:9000/hooks/x_-1"#
        );
    }
}
