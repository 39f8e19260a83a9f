//! `boathook token`: create, list, revoke. A token goes to standard output, alone and once.

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;
use ureq::http::Method;

use super::api::AccessToken;
use super::client::{Content, Data, joined};
use super::locate::ServerOptions;
use super::output::{DIM, advise, command, print, print_json, printable};
use super::session::Session;
use super::table::Table;
use super::{Outcome, time};
use crate::config::Period;
use crate::model::access::Role;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::name::is_same_name;

/// Arguments of `token`.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    verb: TokenVerb,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Make a token for a person or a program and print it, once
    #[command(after_long_help = "\
Roles: trigger (starts fleets and sees the status of their runs), reader (sees everything but the URLs of \
webhooks), operator (reader, and starts, stops and replays runs), author (operator, and changes fleets, \
webhooks and secrets), admin (everything).

    boathook token create ci --role trigger --fleet deploy --expires 90d > ci.token
    boathook run deploy --token-file ci.token")]
    Create {
        /// By which the list and the audit know its holder
        name: String,
        /// What its holder may do: trigger, reader, operator, author or admin
        #[arg(long)]
        role: Role,
        /// Limit it to the fleets of a project: id or name
        #[arg(long, conflicts_with = "fleet")]
        project: Option<String>,
        /// Limit it to one fleet: id, name or project/name
        #[arg(long)]
        fleet: Option<String>,
        /// How long it works, such as 90d [default: until it is revoked]
        #[arg(long, value_name = "DURATION")]
        expires: Option<Period>,
    },
    /// List the tokens: what they may do, until when, and when they were last used
    List,
    /// Revoke a token: it opens nothing any more, and what it has opened ends
    Revoke {
        /// Name or id
        name: String,
    },
}

/// Does what `arguments` say.
///
/// # Errors
/// When the server is not there or refuses.
pub fn run(arguments: TokenArgs) -> anyhow::Result<Outcome> {
    let session = Session::open(&arguments.server)?;
    match arguments.verb {
        TokenVerb::Create { name, role, project, fleet, expires } => {
            let project = project.map(|project| session.project(&project)).transpose()?;
            let fleet = fleet.map(|fleet| session.fleet(&fleet)).transpose()?;
            // Whole seconds, rounded up.
            let seconds =
                expires.map(|Period(life)| life.as_secs() + u64::from(life.subsec_nanos() > 0));
            let body = json!({
                "name": name,
                "role": role,
                "project_id": project.map(|project| project.id),
                "fleet_id": fleet.map(|fleet| fleet.id),
                "expires_in_seconds": seconds,
            });
            create(&session, &body)?;
        }
        TokenVerb::List => list(&session)?,
        TokenVerb::Revoke { name } => revoke(&session, &name)?,
    }
    Ok(Outcome::Done)
}

fn create(session: &Session, body: &serde_json::Value) -> anyhow::Result<()> {
    let content = Content::text("application/json", body.to_string());
    let answer = session.client.send(Method::POST, "/tokens", content)?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    let token: AccessToken = answer.parse()?;
    print(&format!("{}\n", token.token.as_deref().unwrap_or_default()))?;
    advise("\nNothing shows it again: keep it where only its holder can read it. To use it:");
    advise(&command("boathook --token-file FILE ...   or   BOATHOOK_TOKEN"));
    Ok(())
}

fn tokens(session: &Session) -> anyhow::Result<Vec<AccessToken>> {
    let tokens = session.client.list("/tokens", usize::MAX)?;
    Ok(tokens.iter().map(Data::parse).collect::<Result<_, _>>()?)
}

fn list(session: &Session) -> anyhow::Result<()> {
    if session.json {
        return Ok(print_json(&joined(&session.client.list("/tokens", usize::MAX)?))?);
    }
    let tokens = tokens(session)?;
    if tokens.is_empty() {
        advise("No token beside admin.token of the data directory. To make one:");
        advise(&command(&session.line("token create NAME --role reader")));
        return Ok(());
    }
    Ok(print(&render(&tokens, SystemClock.now()))?)
}

fn render(tokens: &[AccessToken], now: Timestamp) -> String {
    let mut table = Table::new(["NAME", "ROLE", "LIMITED TO", "EXPIRES", "USED", "MADE", "BY"]);
    for token in tokens {
        let expires = match token.expires_at {
            _ if token.is_expired => "expired".to_owned(),
            Some(at) => time::relative(now, at),
            None => "-".to_owned(),
        };
        let used = token.last_used_at.map(|at| time::relative(now, at));
        table.row([
            token.name.as_str().into(),
            token.role.as_str().into(),
            token.limit().into(),
            expires.into(),
            used.map_or_else(|| ("never", DIM).into(), Into::into),
            time::relative(now, token.created_at).into(),
            token.created_by.as_str().into(),
        ]);
    }
    table.render()
}

fn revoke(session: &Session, name: &str) -> anyhow::Result<()> {
    let tokens = tokens(session)?;
    let meant = |token: &&AccessToken| token.id == name || is_same_name(&token.name, name);
    let Some(token) = tokens.iter().find(meant) else {
        bail!("there is no token {name}; `boathook token list` shows what there is");
    };
    let answer = session.client.delete(&format!("/tokens/{}", token.id))?;
    if session.json {
        return Ok(print_json(answer.raw())?);
    }
    Ok(print(&format!("revoked  {}\n", printable(&token.name)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_table() {
        let tokens: Vec<AccessToken> = serde_json::from_str(
            r#"[{"id":"1","name":"ci","role":"trigger","fleet_id":"f","fleet_name":"deploy",
                 "project_id":null,"project_name":"web","created_at":"2026-01-02T03:04:05.000Z",
                 "created_by":"admin.token","expires_at":"2026-01-09T03:06:05.000Z","is_expired":false,
                 "last_used_at":"2026-01-02T03:05:05.000Z"},
                {"id":"2","name":"ann","role":"author","fleet_id":null,"fleet_name":null,
                 "project_id":"p","project_name":"web","created_at":"2026-01-02T03:04:05.000Z",
                 "created_by":"root","expires_at":"2026-01-02T03:05:00.000Z","is_expired":true,
                 "last_used_at":null},
                {"id":"3","name":"prometheus","role":"reader","fleet_id":null,"fleet_name":null,
                 "project_id":null,"project_name":null,"created_at":"2026-01-02T03:04:05.000Z",
                 "created_by":"admin.token","expires_at":null,"is_expired":false,
                 "last_used_at":null}]"#,
        )
        .unwrap();
        let text = render(&tokens, "2026-01-02T03:06:05Z".parse().unwrap());
        let expected = "\
NAME        ROLE     LIMITED TO        EXPIRES  USED    MADE    BY
ci          trigger  fleet web/deploy  in 7d    1m ago  2m ago  admin.token
ann         author   project web       expired  never   2m ago  root
prometheus  reader   -                 -        never   2m ago  admin.token
";
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), expected);
    }
}
