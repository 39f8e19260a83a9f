//! `boathook deliveries`: list, show, body, replay.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::Style;
use anyhow::{Context, bail};
use clap::Subcommand;

use super::Outcome;
use super::api::Delivery;
use super::client::{ClientError, Data, joined, reader};
use super::locate::ServerOptions;
use super::output::{
    BAD, DIM, GOOD, NOTABLE, advise, command, print, print_json, printable, raw_stdout, styled,
};
use super::run::report_started;
use super::runs::short_id;
use super::session::Session;
use super::table::Table;
use super::time::{self, Since};
use crate::config::whole_number;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::delivery::Verdict;
use crate::model::text::percent_encoded;

/// Arguments of `deliveries`.
#[derive(Debug, clap::Args)]
pub struct DeliveriesArgs {
    #[command(subcommand)]
    verb: DeliveriesVerb,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Subcommand)]
enum DeliveriesVerb {
    /// List requests to webhooks, the latest first
    #[command(after_help = "\
Deliveries that started a run are there as long as their run. Of the others, the latest 1,000 of each
fleet are kept for 30 days. Requests to URLs of no webhook are counted only.")]
    List(ListArgs),
    /// Show what became of a delivery and why, with its headers
    Show {
        /// Id, a beginning or end of it that no other delivery has, or the id of its event
        delivery: String,
    },
    /// Print the body of a delivery, byte for byte
    Body {
        /// Id, a beginning or end of it that no other delivery has, or the id of its event
        delivery: String,
    },
    /// Run a delivery as if it had been accepted, with the fleet as it is now
    Replay {
        /// Id, a beginning or end of it that no other delivery has, or the id of its event
        delivery: String,
    },
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those of this fleet: id, name or project/name
    #[arg(long, allow_hyphen_values = true)]
    fleet: Option<String>,

    /// Only those with this verdict: accepted, duplicate, filtered, handshake, refused
    #[arg(long)]
    verdict: Option<Verdict>,

    /// Only those for this reason, such as signature_mismatch
    #[arg(long)]
    reason: Option<String>,

    /// Only those received since then: 2026-01-02T03:04:05Z, or a duration such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,

    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = whole_number::<usize>)]
    limit: usize,
}

/// Does what `arguments` say.
///
/// # Errors
/// When the server is not there or refuses.
pub fn run(arguments: DeliveriesArgs) -> anyhow::Result<Outcome> {
    let session = Session::open(&arguments.server)?;
    match arguments.verb {
        DeliveriesVerb::List(filter) => list(&session, &filter)?,
        DeliveriesVerb::Show { delivery } => show(&session, &delivery)?,
        DeliveriesVerb::Body { delivery } => body(&session, &delivery)?,
        DeliveriesVerb::Replay { delivery } => replay(&session, &delivery)?,
    }
    Ok(Outcome::Done)
}

fn list(session: &Session, filter: &ListArgs) -> anyhow::Result<()> {
    let fleet = session.fleet_id(filter.fleet.as_deref())?;
    let now = SystemClock.now();
    let since = filter.since.map(|since| since.time(now).to_string());
    let query = [
        ("fleet", fleet.as_deref()),
        ("verdict", filter.verdict.map(Verdict::word)),
        ("reason", filter.reason.as_deref()),
        ("since", since.as_deref()),
    ];
    let query = query.into_iter().filter_map(|(name, value)| {
        let value = percent_encoded(value?);
        Some(format!("{name}={value}"))
    });
    let path = format!("/deliveries?{}", query.collect::<Vec<_>>().join("&"));
    let deliveries = session.client.list(&path, filter.limit)?;
    if session.json {
        return Ok(print_json(&joined(&deliveries))?);
    }
    if deliveries.is_empty() {
        advise("No deliveries.");
        return Ok(());
    }
    let deliveries = deliveries.iter().map(Data::parse).collect::<Result<Vec<Delivery>, _>>()?;
    Ok(print(&render_list(&deliveries, now))?)
}

fn render_list(deliveries: &[Delivery], now: Timestamp) -> String {
    let columns = ["DELIVERY", "FLEET", "FROM", "EVENT", "VERDICT", "REASON", "STATUS", "RECEIVED"];
    let mut table = Table::new(columns);
    for delivery in deliveries {
        table.row([
            short_id(&delivery.id).into(),
            delivery.fleet_name.as_str().into(),
            delivery.remote_addr.as_str().into(),
            delivery.event().short().into(),
            (delivery.verdict.as_str(), style(&delivery.verdict)).into(),
            delivery.reason.as_deref().unwrap_or_default().into(),
            delivery.answer().into(),
            time::relative(now, delivery.received_at).into(),
        ]);
    }
    table.render()
}

/// The colour of a verdict.
fn style(verdict: &str) -> Style {
    match verdict.parse() {
        Ok(Verdict::Accepted) => GOOD,
        Ok(Verdict::Refused) => BAD,
        Ok(Verdict::Filtered) => NOTABLE,
        Ok(Verdict::Duplicate | Verdict::Handshake) | Err(_) => DIM,
    }
}

fn show(session: &Session, id: &str) -> anyhow::Result<()> {
    let (delivery, data) = find(session, id)?;
    if session.json {
        return Ok(print_json(data.raw())?);
    }
    print(&render(&delivery, SystemClock.now()))?;
    let id = short_id(&delivery.id);
    if delivery.verdict != Verdict::Accepted.word() && delivery.has_body {
        advise("\nTo run it after all:");
        advise(&command(&session.line(&format!("deliveries replay {id}"))));
    }
    Ok(())
}

fn render(delivery: &Delivery, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {value}", styled(&format!("{label:<9}"), DIM));
    };
    let received = delivery.received_at;
    line("delivery", &printable(&delivery.id));
    line("fleet", &printable(&delivery.fleet_name));
    line("received", &format!("{received} ({})", time::relative(now, received)));
    line("from", &printable(&delivery.remote_addr));
    line("verdict", &styled(&printable(&delivery.verdict), style(&delivery.verdict)));
    let event = delivery.event().long();
    let sender = delivery.verified_by.as_deref().map(|by| match by {
        "token" => "a test by a client of the API",
        _ => "verified",
    });
    for (label, value) in [
        ("sender", sender),
        ("reason", delivery.reason.as_deref()),
        ("detail", delivery.detail.as_deref()),
        ("event", Some(event.as_str())),
        ("run", delivery.run_id.as_deref()),
        ("first run", delivery.first_run.as_deref()),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            line(label, &printable(value));
        }
    }
    line("answer", &delivery.answer());
    let is_kept = if delivery.has_body { "" } else { ", not kept" };
    line("body", &format!("{} bytes{is_kept}", delivery.bytes));
    if !delivery.query.is_empty() {
        line("query", &printable(&delivery.query));
    }
    if !delivery.headers.is_empty() {
        text.push('\n');
    }
    for (name, values) in &delivery.headers {
        for value in values {
            let _ = writeln!(text, "{} {}", styled(&format!("{name}:"), DIM), printable(value));
        }
    }
    text
}

fn body(session: &Session, id: &str) -> anyhow::Result<()> {
    let (delivery, _) = find(session, id)?;
    let answer = session.client.open(&format!("/deliveries/{}/body", delivery.id))?;
    let mut out = raw_stdout();
    io::copy(&mut reader(answer), &mut out)?;
    Ok(out.flush()?)
}

fn replay(session: &Session, id: &str) -> anyhow::Result<()> {
    let (delivery, _) = find(session, id)?;
    let answer = session.client.post(&format!("/deliveries/{}/replay", delivery.id))?;
    report_started(session, &answer)
}

/// The delivery that `text` means: its id, or a prefix or suffix that only it has.
fn find(session: &Session, text: &str) -> anyhow::Result<(Delivery, Data)> {
    if text.is_empty() || !text.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-') {
        bail!(
            "{text:?} is no delivery id, nor a part of one; `boathook deliveries list` shows them"
        );
    }
    match session.client.get(&format!("/deliveries/{}", percent_encoded(text))) {
        Ok(data) => Ok((data.parse()?, data)),
        Err(ClientError::Refused { status: 404, .. }) => {
            bail!("there is no delivery {text}; `boathook deliveries list` shows what there is")
        }
        Err(error) => Err(error).with_context(|| format!("delivery {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_shows_why_it_was_refused_and_what_came_with_it() {
        let delivery: Delivery = serde_json::from_str(
            r#"{"id":"019a0000-0000-7000-8000-00aabbccddee","received_at":"2026-01-02T03:04:05Z",
                "fleet_id":"f","fleet_name":"deploy","remote_addr":"192.0.2.1","preset":"github",
                "event_id":"7","event_type":"push","verdict":"refused",
                "reason":"signature_mismatch","detail":"matches secret 2 of 2","status":401,
                "run_id":null,"first_run":null,"bytes":12,"has_body":true,
                "headers":{"X-Github-Event":["push"]},"query":""}"#,
        )
        .unwrap();
        let now = "2026-01-02T03:06:05Z".parse().unwrap();
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        let expected = "\
delivery  019a0000-0000-7000-8000-00aabbccddee
fleet     deploy
received  2026-01-02T03:04:05.000Z (2m ago)
from      192.0.2.1
verdict   refused
reason    signature_mismatch
detail    matches secret 2 of 2
event     github push 7
answer    401
body      12 bytes

X-Github-Event: push
";
        assert_eq!(plain(&render(&delivery, now)), expected);
        let expected = "\
DELIVERY      FLEET   FROM       EVENT  VERDICT  REASON              STATUS  RECEIVED
00aabbccddee  deploy  192.0.2.1  push   refused  signature_mismatch  401     2m ago
";
        assert_eq!(plain(&render_list(&[delivery], now)), expected);
    }
}
