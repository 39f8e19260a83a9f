//! `runs stats`: how the runs of the last day, week and month ended, how long they took and waited.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::cli::client::{Data, joined};
use crate::cli::output::{print, print_json};
use crate::cli::session::Session;
use crate::cli::table::Table;
use crate::cli::time;
use crate::model::run::Status;
use crate::model::statistics::Tally;

const PERIODS: [&str; 3] = ["24h", "7d", "30d"];

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Only the runs of this fleet: id, name or project/name
    #[arg(long, allow_hyphen_values = true)]
    fleet: Option<String>,
}

/// The statistics of a period as the API tells them, as far as they are shown.
#[derive(Deserialize)]
struct Statistics {
    period: String,
    runs: BTreeMap<String, u32>,
    success_rate: Option<f64>,
    duration_ms: Quantiles,
    waiting_ms: Quantiles,
}

#[derive(Deserialize)]
struct Quantiles {
    median: Option<u64>,
    p95: Option<u64>,
}

/// Prints the statistics of each period.
///
/// # Errors
/// When the server is not there or refuses.
pub fn show(session: &Session, arguments: &StatsArgs) -> anyhow::Result<()> {
    let fleet = session.fleet_id(arguments.fleet.as_deref())?;
    let of_fleet = fleet.map(|fleet| format!("&fleet={fleet}")).unwrap_or_default();
    let ask = |period| session.client.get(&format!("/statistics?period={period}{of_fleet}"));
    let answers = PERIODS.into_iter().map(ask).collect::<Result<Vec<_>, _>>()?;
    if session.json {
        return Ok(print_json(&joined(&answers))?);
    }
    let periods = answers.iter().map(Data::parse).collect::<Result<Vec<Statistics>, _>>()?;
    Ok(print(&render(&periods))?)
}

fn render(periods: &[Statistics]) -> String {
    let mut table = Table::new([
        "PERIOD",
        "RUNS",
        "SUCCESS",
        "ERRORED",
        "TERMINATED",
        "INCOMPLETE",
        "RATE",
        "MEDIAN",
        "P95",
        "WAITED",
        "P95",
    ]);
    let millis = |value: Option<u64>| {
        value.map(|value| time::duration(Duration::from_millis(value))).unwrap_or_default()
    };
    for of in periods {
        let count = |status: Status| of.runs.get(&status.to_string()).copied().unwrap_or_default();
        let [success, errored, terminated, incomplete] =
            Tally::ENDS.map(|status| count(status).to_string());
        let all: u64 = Tally::ENDS.map(|status| u64::from(count(status))).iter().sum();
        table.row([
            of.period.as_str().into(),
            all.to_string().into(),
            success.into(),
            errored.into(),
            terminated.into(),
            incomplete.into(),
            of.success_rate.map(|rate| format!("{:.1}%", rate * 100.0)).unwrap_or_default().into(),
            millis(of.duration_ms.median).into(),
            millis(of.duration_ms.p95).into(),
            millis(of.waiting_ms.median).into(),
            millis(of.waiting_ms.p95).into(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_period() {
        let period = |text: &str| -> Statistics { serde_json::from_str(text).unwrap() };
        let text = render(&[
            period(
                r#"{"period":"24h","runs":{"Success":3,"Errored":1,"Terminated":0,"Incomplete":2},
                    "success_rate":0.75,"duration_ms":{"median":1500,"p95":61000},
                    "waiting_ms":{"median":3,"p95":12}}"#,
            ),
            period(
                r#"{"period":"7d","runs":{"Success":0,"Errored":0,"Terminated":0,"Incomplete":0},
                    "success_rate":null,"duration_ms":{"median":null,"p95":null},
                    "waiting_ms":{"median":null,"p95":null}}"#,
            ),
        ]);
        let expected = "\
PERIOD  RUNS  SUCCESS  ERRORED  TERMINATED  INCOMPLETE  RATE   MEDIAN  P95     WAITED  P95
24h     6     3        1        0           2           75.0%  1.5s    1m 01s  3ms     12ms
7d      0     0        0        0           0
";
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), expected);
    }
}
