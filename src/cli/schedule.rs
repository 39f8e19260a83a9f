//! `boathook schedule`: list.

use clap::Subcommand;
use serde::Deserialize;

use super::client::{Data, joined};
use super::locate::ServerOptions;
use super::output::{NOTABLE, advise, command, print, print_json, printable, styled};
use super::session::Session;
use super::table::Table;
use super::{Outcome, time};
use crate::config::whole_number;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::time_zone;

/// Arguments of `schedule`.
#[derive(Debug, clap::Args)]
pub struct ScheduleArgs {
    #[command(subcommand)]
    verb: ScheduleVerb,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Subcommand)]
enum ScheduleVerb {
    /// List schedules and when they are due next
    List {
        /// Only those of this fleet: id, name or project/name
        #[arg(long)]
        fleet: Option<String>,
        /// How many due times of each to show: 1 to 100
        #[arg(long, value_name = "N", default_value = "1", value_parser = whole_number::<u32>)]
        next: u32,
    },
}

/// A schedule as the API shows it.
#[derive(Debug, Deserialize)]
struct Schedule {
    fleet_name: String,
    cron: String,
    time_zone: String,
    catch_up: String,
    #[serde(default)]
    next: Vec<Timestamp>,
    #[serde(default)]
    waiting: usize,
    #[serde(default)]
    problem: Option<String>,
}

/// Does what `arguments` say.
///
/// # Errors
/// When the server is not there or refuses.
pub fn run(arguments: ScheduleArgs) -> anyhow::Result<Outcome> {
    let session = Session::open(&arguments.server)?;
    let ScheduleVerb::List { fleet, next } = arguments.verb;
    let fleet = fleet.map(|name| session.fleet(&name)).transpose()?;
    let of_fleet = fleet.map(|fleet| format!("&fleet={}", fleet.id)).unwrap_or_default();
    let path = format!("/schedules?next={next}{of_fleet}");
    let schedules = session.client.list(&path, usize::MAX)?;
    if session.json {
        print_json(&joined(&schedules))?;
        return Ok(Outcome::Done);
    }
    if schedules.is_empty() {
        advise("No schedules. A fleet's file has them under the key `schedules`:");
        advise(&command("boathook help fleet-file"));
        return Ok(Outcome::Done);
    }
    let schedules = schedules.iter().map(Data::parse).collect::<Result<Vec<Schedule>, _>>()?;
    print(&render(&schedules, SystemClock.now()))?;
    for schedule in &schedules {
        let Schedule { fleet_name, waiting, problem, .. } = schedule;
        let note = |text: &str| advise(&styled(&format!("{fleet_name}: {text}"), NOTABLE));
        if let Some(problem) = problem {
            note(&printable(problem));
        }
        if *waiting > 0 {
            note(&format!("{waiting} due times wait for room in the queue or on the disk"));
        }
    }
    Ok(Outcome::Done)
}

fn render(schedules: &[Schedule], now: Timestamp) -> String {
    let mut table = Table::new(["FLEET", "SCHEDULE", "TIME ZONE", "CATCH UP", "DUE", ""]);
    for schedule in schedules {
        let Schedule { fleet_name, cron, time_zone, catch_up, next, .. } = schedule;
        let mut rows = next.iter().map(|due| (local(*due, time_zone), time::relative(now, *due)));
        let (first, wait) = rows.next().unwrap_or(("unknown".to_owned(), String::new()));
        table.row([
            fleet_name.as_str().into(),
            cron.as_str().into(),
            time_zone.as_str().into(),
            catch_up.as_str().into(),
            first.into(),
            wait.into(),
        ]);
        for (due, wait) in rows {
            table.row(["".into(), "".into(), "".into(), "".into(), due.into(), wait.into()]);
        }
    }
    table.render()
}

/// `due` as clocks in the zone show it, with their distance from UTC; in UTC if this machine does not
/// know the zone.
fn local(due: Timestamp, zone: &str) -> String {
    let zone = time_zone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC);
    due.to_jiff().to_zoned_datetime(zone).strftime("%a %Y-%m-%d %H:%M %:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_are_shown_in_the_zone_of_their_schedule() {
        let schedule = Schedule {
            fleet_name: "nightly".to_owned(),
            cron: "30 2 * * *".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            catch_up: "latest".to_owned(),
            next: ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
                .map(|time| time.parse().unwrap())
                .to_vec(),
            waiting: 0,
            problem: None,
        };
        let text = render(&[schedule], "2026-10-23T23:30:00Z".parse().unwrap());
        let plain = anstream::adapter::strip_str(&text).to_string();
        let expected = "\
FLEET    SCHEDULE    TIME ZONE      CATCH UP  DUE
nightly  30 2 * * *  Europe/Berlin  latest    Sat 2026-10-24 02:30 +02:00  in 1h
                                              Sun 2026-10-25 02:30 +02:00  in 25h
                                              Mon 2026-10-26 02:30 +01:00  in 2d
";
        assert_eq!(plain, expected);
    }
}
