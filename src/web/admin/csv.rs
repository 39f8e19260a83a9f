//! Runs as CSV (RFC 4180), for spreadsheets and for clients of the hosted system.

use std::fmt::Write;

use super::Reply;
use crate::engine::RunView;
use crate::listener::Response;
use crate::model::clock::Timestamp;
use crate::model::run::{Status, Trigger};

/// Rows of a CSV: what a client looks through for its run, and a page of a spreadsheet.
pub(super) const ROWS_MAX: usize = 5_000;

pub(super) const MEDIA_TYPE: &str = "text/csv";
const CONTENT_TYPE: &str = "text/csv; charset=utf-8";
const COLUMNS: &str = "Fleet Log ID,Status,Trigger,Fleet ID,Fleet Name,Project ID,Fleet Version,Vessels,\
    Retries,Queued Time,Start Time,End Time,Duration\n";

/// The runs, each in a row, with these words for statuses and triggers.
pub(super) fn of_runs(
    runs: &[RunView],
    status: impl Fn(Status) -> &'static str,
    trigger: impl Fn(Trigger) -> &'static str,
) -> Reply {
    let mut csv = COLUMNS.to_owned();
    for view in runs {
        row(&mut csv, view, status(view.run.status), trigger(view.run.trigger));
    }
    Reply::Plain(Response::new(200, CONTENT_TYPE, csv))
}

fn row(csv: &mut String, view: &RunView, status: &str, trigger: &str) {
    let RunView { run, vessels, .. } = view;
    let time = |time: Option<Timestamp>| time.map(|it| it.to_string()).unwrap_or_default();
    let duration = run.started_at.zip(run.ended_at).map(|(start, end)| end.since(start).as_secs());
    let retries: u32 = vessels.iter().map(|vessel| vessel.attempt.saturating_sub(1)).sum();
    let fields = [
        run.id.to_string(),
        status.to_owned(),
        trigger.to_owned(),
        run.fleet_id.to_string(),
        run.fleet_name.clone(),
        run.project_id.to_string(),
        run.fleet_version.to_string(),
        vessels.len().to_string(),
        retries.to_string(),
        run.queued_at.to_string(),
        time(run.started_at),
        time(run.ended_at),
        duration.map(|seconds| seconds.to_string()).unwrap_or_default(),
    ];
    let quoted = fields.map(|field| quoted(&field));
    // Writing to a String does not fail.
    let _ = writeln!(csv, "{}", quoted.join(","));
}

/// `field` as a CSV has it (RFC 4180). One that a spreadsheet would take for a formula begins with a quote.
fn quoted(field: &str) -> String {
    let field = match field.starts_with(['=', '+', '-', '@', '\t']) {
        true => format!("'{field}"),
        false => field.to_owned(),
    };
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_quotes_and_formulas_are_quoted() {
        for (field, expected) in [
            ("deploy", "deploy"),
            ("a, b", "\"a, b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "'=1+1"),
            ("-x,y", "\"'-x,y\""),
            ("", ""),
        ] {
            assert_eq!(quoted(field), expected);
        }
    }
}
