//! `boathook runs`: list, show, body, replay, stop; other verbs are in files of their own.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use ureq::http::Method;

use super::Outcome;
use super::api::{Event, Run, VesselRun};
use super::client::{Content, Data, joined, reader};
use super::locate::ServerOptions;
use super::output::{
    DIM, advise, command, parse_status, print, print_json, printable, raw_stdout, styled,
    styled_status,
};
use super::run::report_started;
use super::session::Session;
use super::table::Table;
use super::time::{self, Since};
use crate::config::whole_number;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::run::{Status, Trigger};
use crate::model::text::percent_encoded;

mod logs;
mod many;
mod queue;
mod stats;

use logs::Selection;
use many::{ReplayMany, StopMany};
use queue::QueueArgs;
use stats::StatsArgs;

/// Arguments of `runs`.
#[derive(Debug, clap::Args)]
pub struct RunsArgs {
    #[command(subcommand)]
    verb: RunsVerb,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Subcommand)]
enum RunsVerb {
    /// List runs, the newest first
    List(ListArgs),
    /// List what waits, the next start first, and what for
    Queue(QueueArgs),
    /// Count the runs of the last day, week and month by how they ended, and say how long they took
    #[command(after_help = "\
Runs count in the hour in which they were accepted, once they have ended, also when they are kept no longer.
RATE is the share of SUCCESS in SUCCESS and ERRORED. MEDIAN and P95 are at most a sixteenth off.")]
    Stats(StatsArgs),
    /// Show a run and its vessels
    Show {
        /// Id, or a beginning or end of it that no other run has
        run: String,
    },
    /// Print what the vessels of a run printed
    #[command(after_help = "\
With --follow the exit status is that of the run: 0 Success, 3 Errored, 4 Terminated, 5 Incomplete. With \
--attempt it is 0 while the run goes on after that attempt.")]
    Logs(LogsArgs),
    /// Print the body that started a run, byte for byte (--json: with its headers)
    Body {
        /// Id, or a beginning or end of it that no other run has
        run: String,
    },
    /// Start a run once more, with the same body, headers, query and overrides
    #[command(after_help = "\
The new run takes the fleet as it is now, so that a run can be repeated once its fleet is mended; of a
fleet that has been deleted, the version that the run had.

With --from, that vessel and everything downstream of it run. All other vessels are skipped and count as
they ended in the replayed run, which must have ended. The work directory is a new one: what skipped
vessels had left in theirs is not there.

Without RUN, all runs that --fleet, --status, --trigger, --since and --until match are replayed, the oldest
first. Their number is told before, and has to be confirmed.")]
    Replay {
        /// Id, or a beginning or end of it that no other run has
        #[arg(required_unless_present = "many")]
        run: Option<String>,
        /// The vessel to begin with, by its name
        #[arg(long, value_name = "VESSEL", allow_hyphen_values = true, conflicts_with = "many")]
        from: Option<String>,
        #[command(flatten)]
        many: ReplayMany,
        /// Do not ask before many runs
        #[arg(long, requires = "many")]
        yes: bool,
    },
    /// Stop a run: its running vessels are ended, the others do not start
    #[command(after_help = "\
Without RUN, all runs of --fleet that have not ended are stopped, with --waiting those that have not
started. Their number is told before, and has to be confirmed.")]
    Stop {
        /// Id, or a beginning or end of it that no other run has
        #[arg(required_unless_present = "many")]
        run: Option<String>,
        #[command(flatten)]
        many: StopMany,
        /// Do not ask before many runs
        #[arg(long, requires = "many")]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct LogsArgs {
    /// Id, or a beginning or end of it that no other run has
    #[arg(required_unless_present = "latest")]
    run: Option<String>,
    /// The run that was accepted last
    #[arg(long, conflicts_with = "run")]
    latest: bool,
    /// With --latest: only of this fleet: id, name or project/name
    #[arg(long, requires = "latest", conflicts_with = "run", allow_hyphen_values = true)]
    fleet: Option<String>,
    /// With --latest: only among runs that ended as Errored
    #[arg(long, requires = "latest", conflicts_with = "run")]
    failed: bool,
    /// Only this vessel, by its name
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    vessel: Option<String>,
    /// The attempt by its number, the first being 1 [default: the latest]
    #[arg(long, value_name = "N", value_parser = whole_number::<u32>)]
    attempt: Option<u32>,
    /// Only the last lines of each vessel, so many
    #[arg(long, value_name = "N", value_parser = whole_number::<usize>, conflicts_with = "follow")]
    tail: Option<usize>,
    /// Go on until the run has ended, or the attempt that --attempt names
    #[arg(long)]
    follow: bool,
    /// Head the output of each vessel with its name in a pipe, too, as on a terminal
    #[arg(long)]
    prefix: bool,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only runs of this fleet: id, name or project/name
    #[arg(long, allow_hyphen_values = true)]
    fleet: Option<String>,

    /// Only runs with this status: Queued (or Scheduled), Running, Retrying, Success, Errored, Terminated,
    /// Incomplete
    #[arg(long, value_parser = parse_status)]
    status: Option<Status>,

    /// Only runs started by this: webhook, api, on_demand, replay, schedule
    #[arg(long)]
    trigger: Option<Trigger>,

    /// Only runs accepted since then: 2026-01-02T03:04:05Z, or a duration such as 2h
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
pub fn run(arguments: RunsArgs) -> anyhow::Result<Outcome> {
    let session = Session::open(&arguments.server)?;
    match arguments.verb {
        RunsVerb::List(filter) => list(&session, &filter)?,
        RunsVerb::Queue(arguments) => queue::show(&session, &arguments)?,
        RunsVerb::Stats(arguments) => stats::show(&session, &arguments)?,
        RunsVerb::Show { run } => show(&session, &run)?,
        RunsVerb::Logs(arguments) => return logs(&session, &arguments),
        RunsVerb::Body { run } => body(&session, &run)?,
        RunsVerb::Replay { run: Some(run), from, .. } => replay(&session, &run, from.as_deref())?,
        RunsVerb::Replay { run: None, many, yes, .. } => {
            return many::replay(&session, &many, yes);
        }
        RunsVerb::Stop { run: Some(run), .. } => stop(&session, &run)?,
        RunsVerb::Stop { run: None, many, yes } => return many::stop(&session, &many, yes),
    }
    Ok(Outcome::Done)
}

fn logs(session: &Session, arguments: &LogsArgs) -> anyhow::Result<Outcome> {
    let LogsArgs { run, fleet, failed, vessel, attempt, tail, follow, prefix, .. } = arguments;
    let run = match run {
        Some(run) => run.clone(),
        None => latest(session, fleet.as_deref(), *failed)?,
    };
    let selection = Selection { vessel: vessel.as_deref(), attempt: *attempt, is_headed: *prefix };
    if *follow {
        return logs::follow_to_end(session, &run, selection);
    }
    logs::show(session, &run, selection, *tail)?;
    Ok(Outcome::Done)
}

/// The id of the run that was accepted last, which standard error is told.
fn latest(session: &Session, fleet: Option<&str>, failed: bool) -> anyhow::Result<String> {
    let status = failed.then_some(Status::Errored);
    let filter = ListArgs { fleet: None, status, trigger: None, since: None, limit: 1 };
    let fleet = session.fleet_id(fleet)?;
    let path = list_path(&filter, fleet.as_deref(), SystemClock.now());
    let Some(run) = session.client.list(&path, 1)?.pop() else {
        bail!("there is no such run; `boathook runs list` shows what there is");
    };
    let run: Run = run.parse()?;
    advise(&format!("{}: {}", printable(&run.fleet_name), status_line(&run)));
    Ok(run.id)
}

fn list(session: &Session, filter: &ListArgs) -> anyhow::Result<()> {
    let fleet_id = session.fleet_id(filter.fleet.as_deref())?;
    let now = SystemClock.now();
    let path = list_path(filter, fleet_id.as_deref(), now);
    let runs = session.client.list(&path, filter.limit)?;
    if session.json {
        return Ok(print_json(&joined(&runs))?);
    }
    if runs.is_empty() {
        advise("No runs.");
        return Ok(());
    }
    let runs = runs.iter().map(Data::parse).collect::<Result<Vec<Run>, _>>()?;
    Ok(print(&render_list(&runs, now))?)
}

fn list_path(filter: &ListArgs, fleet_id: Option<&str>, now: Timestamp) -> String {
    let since = filter.since.map(|since| since.time(now).to_string());
    let status = filter.status.map(|status| status.to_string());
    let query: Vec<_> = [
        ("fleet", fleet_id),
        ("status", status.as_deref()),
        ("trigger", filter.trigger.map(Trigger::word)),
        ("since", since.as_deref()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(format!("{name}={}", percent_encoded(value?))))
    .collect();
    if query.is_empty() { "/runs".to_owned() } else { format!("/runs?{}", query.join("&")) }
}

fn render_list(runs: &[Run], now: Timestamp) -> String {
    let mut table =
        Table::new(["RUN", "FLEET", "TRIGGER", "EVENT", "STATUS", "ACCEPTED", "DURATION"]);
    for run in runs {
        table.row([
            short_id(&run.id).into(),
            run.fleet_name.as_str().into(),
            run.trigger.as_str().into(),
            run.event.as_ref().map(Event::short).unwrap_or_default().into(),
            run.status.into(),
            time::relative(now, run.queued_at).into(),
            elapsed(run.duration_ms, run.started_at, run.status, now).into(),
        ]);
    }
    table.render()
}

/// The end of an id: ids of runs begin with the time, so their ends are what tells them apart.
pub fn short_id(id: &str) -> &str {
    id.rsplit_once('-').map_or(id, |(_, end)| end)
}

/// How long something took, or takes so far; empty when it never started.
fn elapsed(
    duration_ms: Option<u64>,
    started_at: Option<Timestamp>,
    status: Status,
    now: Timestamp,
) -> String {
    match (duration_ms, started_at) {
        (Some(millis), _) => time::duration(Duration::from_millis(millis)),
        (None, Some(started_at)) if !status.is_final() => time::duration(now.since(started_at)),
        _ => String::new(),
    }
}

fn show(session: &Session, id: &str) -> anyhow::Result<()> {
    let (run, data) = session.run(id)?;
    if session.json {
        return Ok(print_json(data.raw())?);
    }
    print(&render_run(&run, SystemClock.now()))?;
    let verb = if run.status.is_final() { "" } else { " --follow" };
    advise("\nTo see what its vessels printed:");
    advise(&command(&session.line(&format!("runs logs {}{verb}", short_id(&run.id)))));
    Ok(())
}

fn render_run(run: &Run, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {value}", styled(&format!("{label:<9}"), DIM));
    };
    let moment = |time: Timestamp| format!("{time} ({})", time::relative(now, time));
    line("run", &printable(&run.id));
    line("fleet", &format!("{} (version {})", printable(&run.fleet_name), run.fleet_version));
    line("status", &styled_status(run.status));
    if let Some(reason) = &run.reason {
        line("reason", &printable(reason));
    }
    line("trigger", &printable(&run.trigger));
    if let Some(original) = &run.replay_of {
        line("replay of", &printable(original));
    }
    if let Some(key) = &run.concurrency_key {
        line("key", &printable(key));
    }
    if let Some(event) = &run.event {
        line("event", &printable(&event.long()));
    }
    if let Some(first) = &run.first_run {
        line("first run", &printable(first));
    }
    if let Some(delivery) = &run.delivery_id {
        line("delivery", &printable(delivery));
    }
    if let Some(note) = &run.note {
        let said = [note.reason.as_deref(), note.detail.as_deref()];
        let said: Vec<&str> = said.into_iter().flatten().collect();
        line("note", &printable(&said.join(": ")));
    }
    line("accepted", &moment(run.queued_at));
    if let Some(time) = run.started_at {
        line("started", &moment(time));
    }
    if let Some(time) = run.ended_at {
        line("ended", &moment(time));
    }
    let duration = elapsed(run.duration_ms, run.started_at, run.status, now);
    if !duration.is_empty() {
        line("duration", &duration);
    }
    for notification in &run.notifications {
        let problem = notification.problem.as_deref().unwrap_or("on its way");
        let next = match notification.next_attempt_at {
            Some(time) if notification.attempts > 0 => format!("; next try {}", moment(time)),
            Some(_) => String::new(),
            None => "; given up".to_owned(),
        };
        line("not told", &format!("{}{next}", printable(problem)));
    }
    text.push('\n');
    text.push_str(&render_vessels(&run.vessels, now));
    text
}

/// The vessels of a run as a table.
pub fn render_vessels(vessels: &[VesselRun], now: Timestamp) -> String {
    let mut table = Table::new(["VESSEL", "STATUS", "EXIT", "ATTEMPT", "DURATION", "REASON"]);
    for vessel in vessels {
        table.row([
            vessel.vessel_name.as_str().into(),
            vessel.status.into(),
            exit(vessel).into(),
            if vessel.attempt == 0 { String::new() } else { vessel.attempt.to_string() }.into(),
            elapsed(vessel.duration_ms, vessel.started_at, vessel.status, now).into(),
            vessel.reason.as_deref().unwrap_or_default().into(),
        ]);
    }
    table.render()
}

fn exit(vessel: &VesselRun) -> String {
    match (vessel.exit_code, vessel.signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => String::new(),
    }
}

/// One line about how a run ended.
pub fn status_line(run: &Run) -> String {
    let mut line = format!("run {} {}", printable(&run.id), styled_status(run.status));
    if let Some(millis) = run.duration_ms {
        line.push_str(&format!(" in {}", time::duration(Duration::from_millis(millis))));
    }
    if let Some(reason) = &run.reason {
        line.push_str(&format!(": {}", printable(reason)));
    }
    line
}

fn body(session: &Session, id: &str) -> anyhow::Result<()> {
    let (run, _) = session.run(id)?;
    if session.json {
        let data = session.client.get(&format!("/runs/{}/webhook-parameters", run.id))?;
        return Ok(print_json(data.raw())?);
    }
    let mut source = reader(session.client.open(&format!("/runs/{}/body", run.id))?);
    let mut out = raw_stdout();
    io::copy(&mut source, &mut out)?;
    Ok(out.flush()?)
}

fn replay(session: &Session, id: &str, from: Option<&str>) -> anyhow::Result<()> {
    let (run, _) = session.run(id)?;
    let body = serde_json::json!({ "from": from });
    let content = Content::text("application/json", body.to_string());
    let path = format!("/runs/{}/replay", run.id);
    let answer = session.client.send(Method::POST, &path, content)?;
    report_started(session, &answer)
}

fn stop(session: &Session, id: &str) -> anyhow::Result<()> {
    let (run, _) = session.run(id)?;
    let data = session.client.post(&format!("/runs/{}/stop", run.id))?;
    if session.json {
        return Ok(print_json(data.raw())?);
    }
    let had_ended = run.status.is_final();
    let run: Run = data.parse()?;
    print(&format!("{}\n", status_line(&run)))?;
    if had_ended {
        advise("It had ended already; nothing was stopped.");
    } else if !run.status.is_final() {
        advise("Its vessels were asked to end; what does not end by itself is killed.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        serde_json::from_str(
            r#"{"id":"019a0000-0000-7000-8000-00aabbccddee","fleet_id":"f","fleet_name":"deploy",
                "fleet_version":2,"project_id":"p","trigger":"on_demand","status":"Errored",
                "reason":null,"replay_of":null,"queued_at":"2026-01-02T03:04:05.000Z",
                "started_at":"2026-01-02T03:04:06.000Z","ended_at":"2026-01-02T03:04:08.500Z",
                "duration_ms":2500,"vessels":[
                {"id":"v1","vessel_id":"a","vessel_name":"build","status":"Errored","attempt":2,
                 "exit_code":3,"signal":null,"reason":null,
                 "started_at":"2026-01-02T03:04:06.000Z","ended_at":"2026-01-02T03:04:08.500Z",
                 "duration_ms":2500},
                {"id":"v2","vessel_id":"b","vessel_name":"notify","status":"Incomplete",
                 "attempt":0,"exit_code":null,"signal":null,"reason":"build did not succeed",
                 "started_at":null,"ended_at":null,"duration_ms":null}]}"#,
        )
        .unwrap()
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn now() -> Timestamp {
        "2026-01-02T03:06:05Z".parse().unwrap()
    }

    #[test]
    fn a_run_shows_its_vessels() {
        let text = plain(&render_run(&run(), now()));
        assert!(text.contains("accepted  2026-01-02T03:04:05.000Z (2m ago)\n"), "{text}");
        let table = "\
VESSEL  STATUS      EXIT  ATTEMPT  DURATION  REASON
build   Errored     3     2        2.5s
notify  Incomplete                           build did not succeed
";
        assert!(text.ends_with(table), "{text}");
    }

    #[test]
    fn the_list_names_runs_by_the_end_of_their_id() {
        let mut running = run();
        running.status = Status::Running;
        running.duration_ms = None;
        let expected = "\
RUN           FLEET   TRIGGER    EVENT  STATUS   ACCEPTED  DURATION
00aabbccddee  deploy  on_demand         Errored  2m ago    2.5s
00aabbccddee  deploy  on_demand         Running  2m ago    1m 59s
";
        assert_eq!(plain(&render_list(&[run(), running], now())), expected);
    }

    #[test]
    fn filters_become_a_query() {
        let mut filter =
            ListArgs { fleet: None, status: None, trigger: None, since: None, limit: 50 };
        assert_eq!(list_path(&filter, None, now()), "/runs");
        filter.status = Some(Status::Errored);
        filter.trigger = Some(Trigger::OnDemand);
        filter.since = Some("2h".parse().unwrap());
        assert_eq!(
            list_path(&filter, Some("f"), now()),
            "/runs?fleet=f&status=Errored&trigger=on_demand&since=2026-01-02T01%3A06%3A05.000Z"
        );
        assert_eq!(
            "2026-01-02T03:06:05Z".parse::<Since>().unwrap().time(Timestamp::default()),
            now()
        );
        assert!("yesterday".parse::<Since>().unwrap_err().contains("2h"));
    }

    #[test]
    fn the_last_line_says_how_it_ended() {
        assert_eq!(
            plain(&status_line(&run())),
            "run 019a0000-0000-7000-8000-00aabbccddee Errored in 2.5s"
        );
    }
}
