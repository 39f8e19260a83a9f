//! The examination of the server by itself: in one answer what takes a moment, as a stream what
//! takes as long as the database is large. One at a time: it costs the disk and a processor.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::places::{Place, Places};
use super::{AdminHandler, Call, Outcome, Reply};
use crate::diagnostics;
use crate::model::finding::Finding;
use crate::model::refusal::{Reason, Refusal};

/// How often a stream says how far it has come.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// The one place for an examination.
#[derive(Debug)]
pub(super) struct Examination(Places);

impl Default for Examination {
    fn default() -> Self {
        Self(Places::new(1))
    }
}

impl Examination {
    fn begin(&self) -> Result<Place, Refusal> {
        let busy = || {
            Refusal::new(
                Reason::TooManyRequests,
                "the server is being examined already; try again later",
            )
        };
        self.0.take().ok_or_else(busy)
    }
}

/// A line of the stream.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Progress { rows: u64, bytes: u64 },
    Findings(&'a [Finding]),
}

/// Everything but the content of the database.
pub(super) fn get(admin: &AdminHandler, _: &mut Call<'_>) -> Outcome {
    let _under_way = admin.examination.begin()?;
    Reply::ok(&diagnostics::examine(&admin.engine, &admin.facts))
}

/// The settings that the server started with, each with where it comes from, in the order of their help.
pub(super) fn settings(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    call.query.allow_only(&[])?;
    Reply::ok(&admin.facts.effective)
}

/// The content of the database: a JSON object per line, the last with the findings.
pub(super) fn database(admin: &AdminHandler, _: &mut Call<'_>) -> Outcome {
    let under_way = admin.examination.begin()?;
    let follower = admin.followers.enter()?;
    let engine = Arc::clone(&admin.engine);
    Ok(Reply::Plain(Reply::stream("application/x-ndjson", None, move |out| {
        let _held = (under_way, follower);
        let mut sent_at: Option<Instant> = None;
        let mut gone = None;
        let findings = diagnostics::examine_database(&engine, |progress| {
            if sent_at.is_some_and(|at| at.elapsed() < PROGRESS_INTERVAL) {
                return true;
            }
            sent_at = Some(Instant::now());
            let line = Line::Progress { rows: progress.rows, bytes: progress.bytes };
            // Where a stopping server ends its streams, and a client that has gone is noticed.
            gone = send(out, &line).err();
            gone.is_none()
        });
        match gone {
            Some(error) => Err(error),
            None => send(out, &Line::Findings(&findings)),
        }
    })))
}

fn send(out: &mut dyn Write, line: &Line<'_>) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    out.write_all(&bytes)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_examination_at_a_time() {
        let examination = Examination::default();
        let first = examination.begin().unwrap();
        assert_eq!(examination.begin().err().unwrap().status(), 429);
        drop(first);
        assert!(examination.begin().is_ok());
    }
}
