//! `boathook secret`: set, list, remove. A value comes from standard input or from a terminal that does
//! not show it, never from an argument. A generated one goes to standard output, alone and once.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read};

use anyhow::{Context, bail};
use clap::error::ErrorKind;
use clap::{CommandFactory, Subcommand};
use serde_json::{Value, json};
use ureq::http::Method;

use super::api::Secret;
use super::client::{Client, Content, Data, joined};
use super::confirm::confirm_on_terminal;
use super::locate::ServerOptions;
use super::output::{advise, command, print, print_as_json, print_json, printable};
use super::session::Session;
use super::table::Table;
use super::{Cli, Outcome, time};
use crate::config::secrets::KEPT_SECRET_BYTES_MAX;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::variable::SecretName;
use crate::model::webhook::Token;
use crate::os::hidden_input;

/// Arguments of `secret`.
#[derive(Debug, clap::Args)]
pub struct SecretArgs {
    #[command(subcommand)]
    verb: SecretVerb,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Subcommand)]
enum SecretVerb {
    /// Set a secret to what comes from standard input; a terminal is asked, and does not show it
    #[command(after_long_help = "\
A line end at the end of the value is no part of it. The value counts from the next request and the \
next start of a vessel on; nothing shows it again.

    boathook secret set API_KEY < key.txt
    boathook secret set GITHUB_HOOK --generate")]
    Set {
        /// Letters, digits, _, . and -
        #[arg(value_parser = name)]
        name: SecretName,
        /// Make a random value of 256 bits and print it, once
        #[arg(long)]
        generate: bool,
        /// Taken here only to be refused.
        #[arg(hide = true)]
        value: Vec<OsString>,
    },
    /// List the secrets, when they were set, and what uses them
    List,
    /// Remove a secret for good; asks on a terminal
    Remove {
        #[arg(value_parser = name)]
        name: SecretName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Remove it, though something uses it, without asking
        #[arg(long)]
        force: bool,
    },
}

fn name(text: &str) -> Result<SecretName, String> {
    SecretName::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// Does what `arguments` say.
///
/// # Errors
/// When the server is not there or refuses, or the person calls it off.
pub fn run(arguments: SecretArgs) -> anyhow::Result<Outcome> {
    if let SecretVerb::Set { value, .. } = &arguments.verb
        && !value.is_empty()
    {
        refuse_argument();
    }
    let session = Session::open(&arguments.server)?;
    match arguments.verb {
        SecretVerb::Set { name, generate: true, .. } => generate(&session, &name)?,
        SecretVerb::Set { name, .. } => set(&session, &name)?,
        SecretVerb::List => list(&session)?,
        SecretVerb::Remove { name, yes, force } => {
            let question =
                format!("Remove the secret {}? Its value is gone for good.", name.as_str());
            confirm_on_terminal(&question, yes || force)?;
            remove(&session, &name, force)?;
        }
    }
    Ok(Outcome::Done)
}

/// Ends the program as a wrong usage, without repeating the value.
fn refuse_argument() -> ! {
    let message = "a value on the command line could be read by every user of this machine, and \
                   stays in the history of the shell; give it on standard input, or let a terminal \
                   ask for it";
    Cli::command().error(ErrorKind::TooManyValues, message).exit()
}

fn set(session: &Session, name: &SecretName) -> anyhow::Result<()> {
    let value = read_value(name)?;
    let answer = put(&session.client, name, value)?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    print(&format!("set  {}\n", name.as_str()))?;
    advise_use(&answer.parse()?);
    Ok(())
}

fn generate(session: &Session, name: &SecretName) -> anyhow::Result<()> {
    let value = Token::random().context("the system has no randomness for a secret")?;
    let answer = put(&session.client, name, value.reveal().as_bytes().to_vec())?;
    if session.json {
        let mut shown: Value = answer.parse()?;
        shown["value"] = json!(value.reveal());
        return Ok(print_as_json(&shown)?);
    }
    print(&format!("{}\n", value.reveal()))?;
    advise("\nNothing shows it again: copy it now to where the sender asks for its secret.");
    advise_use(&answer.parse()?);
    Ok(())
}

/// Sets a secret.
///
/// # Errors
/// When the server is not there or refuses.
pub(super) fn put(client: &Client, name: &SecretName, value: Vec<u8>) -> anyhow::Result<Data> {
    let content = Content::bytes("application/octet-stream", value);
    Ok(client.send(Method::PUT, &path(name), content)?)
}

/// The bytes of standard input, or the line that a person types there.
fn read_value(name: &SecretName) -> anyhow::Result<Vec<u8>> {
    let input = io::stdin();
    if input.is_terminal() {
        let prompt = format!("Value of {} (not shown): ", name.as_str());
        return Ok(hidden_input::ask(&prompt, KEPT_SECRET_BYTES_MAX)?);
    }
    let mut value = Vec::new();
    let limit = KEPT_SECRET_BYTES_MAX as u64 + 1;
    input.take(limit).read_to_end(&mut value).context("cannot read standard input")?;
    if value.len() > KEPT_SECRET_BYTES_MAX {
        bail!("the value is longer than {} KiB", KEPT_SECRET_BYTES_MAX / 1024);
    }
    Ok(value)
}

fn advise_use(secret: &Secret) {
    let name = printable(&secret.name);
    let users = secret.users();
    if users.is_empty() {
        advise("To give it to a vessel, name it in the fleet file (boathook help secrets):");
        advise(&command(&format!("environment: {{KEY: {{secret: {name}}}}}")));
    } else {
        let users = printable(&users.join(", "));
        advise(&format!("In use by {users}, from the next request and the next start on."));
    }
}

fn list(session: &Session) -> anyhow::Result<()> {
    let kept = session.client.list("/secrets", usize::MAX)?;
    if session.json {
        return Ok(print_json(&joined(&kept))?);
    }
    let kept = kept.iter().map(Data::parse).collect::<Result<Vec<Secret>, _>>()?;
    let missing = session.client.list("/secrets?missing=true", usize::MAX)?;
    let missing = missing.iter().map(Data::parse).collect::<Result<Vec<Secret>, _>>()?;
    if kept.is_empty() {
        advise("No secret is set. To set one:");
        advise(&command(&session.line("secret set NAME")));
    } else {
        print(&render(&kept, SystemClock.now()))?;
    }
    for secret in &missing {
        let (name, users) = (printable(&secret.name), printable(&secret.users().join(", ")));
        advise(&format!("{name} is missing, and in use by {users}. To set it:"));
        advise(&command(&session.line(&format!("secret set {name}"))));
    }
    Ok(())
}

fn render(secrets: &[Secret], now: Timestamp) -> String {
    let mut table = Table::new(["NAME", "SET", "USED BY", ""]);
    for secret in secrets {
        let set = secret.set_at.map_or_else(|| "-".to_owned(), |at| time::relative(now, at));
        let users = secret.users();
        table.row([
            secret.name.as_str().into(),
            set.into(),
            if users.is_empty() { "-".into() } else { users.join(", ").into() },
            if secret.read_only { "read-only" } else { "" }.into(),
        ]);
    }
    table.render()
}

fn remove(session: &Session, name: &SecretName, force: bool) -> anyhow::Result<()> {
    let query = if force { "?force=true" } else { "" };
    let answer = session.client.delete(&format!("{}{query}", path(name)))?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    Ok(print(&format!("removed  {}\n", name.as_str()))?)
}

fn path(name: &SecretName) -> String {
    format!("/secrets/{}", name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_table() {
        let secrets: Vec<Secret> = serde_json::from_str(
            r#"[{"name":"API_KEY","set_at":"2026-01-02T03:04:05.000Z","read_only":false,
                 "fleets":[{"id":"1","name":"deploy","project_name":"default"},
                           {"id":"2","name":"site","project_name":"web"}],"settings":[]},
                {"name":"SMTP","set_at":"2026-01-02T03:04:05.000Z","read_only":true,
                 "fleets":[],"settings":["smtp_secret"]},
                {"name":"X","set_at":"2026-01-02T03:04:05.000Z","read_only":false,
                 "fleets":[],"settings":[]}]"#,
        )
        .unwrap();
        let text = render(&secrets, "2026-01-02T03:06:05Z".parse().unwrap());
        let expected = "\
NAME     SET     USED BY
API_KEY  2m ago  deploy, web/site
SMTP     2m ago  smtp_secret       read-only
X        2m ago  -
";
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), expected);
    }
}
