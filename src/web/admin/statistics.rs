//! Statistics: how many runs there were in each hour, how they ended, how long they took and waited.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;

use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::Statistics;
use crate::model::access::Scope;
use crate::model::clock::Timestamp;
use crate::model::ids::FleetId;
use crate::model::refusal::Refusal;
use crate::model::statistics::{DurationHistogram, Tally};

/// A period up to now.
#[derive(Clone, Copy)]
struct Period {
    word: &'static str,
    hours: u32,
}

const PERIODS: [Period; 3] = [
    Period { word: "24h", hours: 24 },
    Period { word: "7d", hours: 7 * 24 },
    Period { word: "30d", hours: 30 * 24 },
];

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = PERIODS.map(|period| period.word).join(", ");
        let found = PERIODS.into_iter().find(|period| period.word == text);
        found.ok_or_else(|| format!("no such period: {text:?}; one of {words}"))
    }
}

#[derive(Serialize)]
struct StatisticsJson {
    period: &'static str,
    /// The beginning of the first hour.
    since: Timestamp,
    until: Timestamp,
    /// By status.
    runs: BTreeMap<String, u32>,
    /// By status, the runs of each hour from `since` on.
    hourly: BTreeMap<String, Vec<u32>>,
    success_rate: Option<f64>,
    duration_ms: QuantilesJson,
    waiting_ms: QuantilesJson,
}

#[derive(Serialize)]
struct QuantilesJson {
    median: Option<u64>,
    p95: Option<u64>,
}

impl From<&DurationHistogram> for QuantilesJson {
    fn from(histogram: &DurationHistogram) -> Self {
        Self { median: histogram.percentile(50), p95: histogram.percentile(95) }
    }
}

/// The statistics of a period, and all of its runs together.
fn of_period(admin: &AdminHandler, scope: Scope, period: Period) -> (Period, Statistics, Tally) {
    let statistics = admin.engine.statistics(scope, period.hours);
    let total = statistics.total();
    (period, statistics, total)
}

/// The same of the shortest period with runs, else of the shortest one.
fn shortest_with_runs(admin: &AdminHandler, scope: Scope) -> (Period, Statistics, Tally) {
    let of = |period: &Period| of_period(admin, scope, *period);
    let has_runs = |(_, _, total): &(Period, Statistics, Tally)| *total != Tally::default();
    PERIODS.iter().map(of).find(has_runs).unwrap_or_else(|| of(&PERIODS[0]))
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let query = &call.query;
    query.allow_only(&["fleet", "period"])?;
    let given: Option<Period> = query.parsed("period")?;
    let scope = match query.parsed::<FleetId>("fleet")? {
        None => call.principal()?.scope,
        Some(fleet) if call.reach.has_fleet(fleet, None) => Scope::Fleet(fleet),
        Some(fleet) => return Err(Refusal::not_found(format!("there is no fleet {fleet}"))),
    };
    let until = admin.engine.now();
    let (period, statistics, total) = match given {
        Some(period) => of_period(admin, scope, period),
        None => shortest_with_runs(admin, scope),
    };
    let of_hours = |status| statistics.hours.iter().map(|(_, tally)| tally.of(status)).collect();
    Reply::ok(&StatisticsJson {
        period: period.word,
        since: statistics.hours.first().map_or(until, |(hour, _)| hour.start()),
        until,
        runs: Tally::ENDS.map(|status| (status.to_string(), total.of(status))).into(),
        hourly: Tally::ENDS.map(|status| (status.to_string(), of_hours(status))).into(),
        success_rate: total.success_rate(),
        duration_ms: QuantilesJson::from(&total.duration),
        waiting_ms: QuantilesJson::from(&total.waiting),
    })
}
