//! `boathook runs logs`: what vessels printed, byte for byte; headings on a terminal only.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use anyhow::bail;
use serde_json::value::RawValue;

use super::status_line;
use crate::cli::Outcome;
use crate::cli::api::{Run, VesselRun};
use crate::cli::client::reader;
use crate::cli::follow::{self, Printer, follow, heading};
use crate::cli::output::{
    BOLD, advise, print, print_json, printable, raw_stdout, stdout_is_terminal, styled,
};
use crate::cli::session::Session;
use crate::model::name::is_same_name;

/// Whose output is printed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    pub vessel: Option<&'a str>,
    pub attempt: Option<u32>,
    /// Headings in a pipe, too.
    pub is_headed: bool,
}

impl Selection<'_> {
    /// Whether the output of each vessel has a heading.
    fn has_headings(&self) -> bool {
        self.is_headed || stdout_is_terminal() && self.vessel.is_none()
    }
}

/// Prints what the vessels print until the run has ended, or the `attempt`-th of each vessel that comes
/// to it.
///
/// # Errors
/// When the server is not there, refuses, or knows no such run, vessel or attempt.
pub fn follow_to_end(
    session: &Session,
    id: &str,
    selection: Selection<'_>,
) -> anyhow::Result<Outcome> {
    let Selection { vessel, attempt, .. } = selection;
    let (run, _) = session.run(id)?;
    let vessels = chosen(&run, vessel)?;
    if run.status.is_final() {
        with_attempt(vessels, attempt)?;
    }
    let has_headings = selection.has_headings();
    let selection = follow::Selection { vessel, attempt };
    let ended = if session.json {
        let mut printer = Printer::silent();
        follow(&session.client, &run.id, selection, &mut printer, &mut || true)?
    } else {
        let mut printer = Printer::new(raw_stdout(), has_headings);
        follow(&session.client, &run.id, selection, &mut printer, &mut || true)?
    };
    if session.json {
        let run = session.run(&run.id)?.0;
        let vessels = with_attempt(chosen(&run, vessel)?, attempt)?;
        print_json(&logs_json(session, &vessels, attempt, None)?)?;
    } else if stdout_is_terminal() {
        advise(&status_line(&ended));
    }
    // An attempt may have ended before its run.
    let is_over = ended.status.is_final();
    Ok(if is_over { Outcome::Followed(ended.status) } else { Outcome::Done })
}

/// Prints what the vessels have printed so far, in their latest attempt or in the `attempt`-th.
///
/// # Errors
/// As [`follow_to_end`], and when there was no such attempt.
pub fn show(
    session: &Session,
    id: &str,
    selection: Selection<'_>,
    tail: Option<usize>,
) -> anyhow::Result<()> {
    let Selection { vessel, attempt, .. } = selection;
    let (run, _) = session.run(id)?;
    let chosen = with_attempt(chosen(&run, vessel)?, attempt)?;
    if session.json {
        return Ok(print_json(&logs_json(session, &chosen, attempt, tail)?)?);
    }
    let has_headings = selection.has_headings();
    let mut out = raw_stdout();
    for vessel in chosen {
        if has_headings {
            print(&format!("{}\n", heading_of(vessel, attempt)))?;
        }
        let ends_line = copy_tail(session, vessel, attempt, tail, &mut out)?;
        if has_headings && !ends_line {
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    if has_headings && !run.status.is_final() {
        advise("It has not ended; --follow shows the rest as it comes.");
    }
    Ok(())
}

/// Status, exit code and duration are those of the latest attempt.
fn heading_of(vessel: &VesselRun, attempt: Option<u32>) -> String {
    match attempt {
        Some(attempt) if attempt != vessel.attempt => {
            styled(&format!("== {} (attempt {attempt})", printable(&vessel.vessel_name)), BOLD)
        }
        _ => heading(vessel),
    }
}

/// Those of `vessels` that have come to `attempt`.
fn with_attempt(
    mut vessels: Vec<&VesselRun>,
    attempt: Option<u32>,
) -> anyhow::Result<Vec<&VesselRun>> {
    let Some(attempt) = attempt else { return Ok(vessels) };
    let attempts: Vec<_> = vessels
        .iter()
        .map(|vessel| format!("{}: {}", printable(&vessel.vessel_name), vessel.attempt))
        .collect();
    vessels.retain(|vessel| vessel.attempt >= attempt);
    if vessels.is_empty() {
        bail!("there is no attempt {attempt}; so many there were: {}", attempts.join(", "));
    }
    Ok(vessels)
}

/// The vessels to show: all, or the one with this name.
fn chosen<'a>(run: &'a Run, vessel: Option<&str>) -> anyhow::Result<Vec<&'a VesselRun>> {
    let found: Vec<_> = run
        .vessels
        .iter()
        .filter(|candidate| vessel.is_none_or(|name| is_same_name(&candidate.vessel_name, name)))
        .collect();
    if found.is_empty() && vessel.is_some() {
        let names: Vec<_> =
            run.vessels.iter().map(|vessel| printable(&vessel.vessel_name)).collect();
        bail!("this run has no such vessel; it has {}", names.join(", "));
    }
    Ok(found)
}

/// The last lines of what is written to it, at most so many; one without a line end counts.
struct Tail {
    lines_max: usize,
    lines: VecDeque<Vec<u8>>,
}

impl Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match self.lines.back_mut().filter(|line| line.last() != Some(&b'\n')) {
                Some(line) => line.extend_from_slice(part),
                None => self.lines.push_back(part.to_vec()),
            }
            if self.lines.len() > self.lines_max {
                self.lines.pop_front();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As [`copy_output`], the last `tail` lines alone.
fn copy_tail(
    session: &Session,
    vessel: &VesselRun,
    attempt: Option<u32>,
    tail: Option<usize>,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let Some(lines_max) = tail else { return copy_output(session, vessel, attempt, out) };
    let mut last = Tail { lines_max, lines: VecDeque::new() };
    let ends_line = copy_output(session, vessel, attempt, &mut last)?;
    for line in &last.lines {
        out.write_all(line)?;
    }
    Ok(ends_line)
}

/// Copies what a vessel printed; says whether that ended with a line break (or was nothing).
fn copy_output(
    session: &Session,
    vessel: &VesselRun,
    attempt: Option<u32>,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let attempt = attempt.map(|attempt| format!("?attempt={attempt}")).unwrap_or_default();
    let path = format!("/vessel-runs/{}/output{attempt}", vessel.id);
    let response = match session.client.open(&path) {
        // A vessel that never started has no output.
        Err(error) if error.is_not_found() => return Ok(true),
        response => response?,
    };
    let mut source = reader(response);
    let mut buffer = [0; 16 * 1024];
    let mut last = b'\n';
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok(last == b'\n'),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        last = bytes.last().copied().unwrap_or(last);
        out.write_all(bytes)?;
    }
}

/// For scripts: the vessel runs, each with its output as text.
fn logs_json(
    session: &Session,
    vessels: &[&VesselRun],
    attempt: Option<u32>,
    tail: Option<usize>,
) -> anyhow::Result<Box<RawValue>> {
    let mut entries = Vec::new();
    for vessel in vessels {
        let mut output = Vec::new();
        copy_tail(session, vessel, attempt, tail, &mut output)?;
        entries.push(serde_json::json!({
            "id": vessel.id,
            "vessel_name": vessel.vessel_name,
            "status": vessel.status,
            "attempt": attempt.unwrap_or(vessel.attempt),
            "output": String::from_utf8_lossy(&output),
        }));
    }
    Ok(serde_json::value::to_raw_value(&entries)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_lines_however_they_arrive() {
        let text = b"one\n\ntwo\nthree\nfour";
        for (lines_max, expected) in
            [(0, ""), (1, "four"), (3, "two\nthree\nfour"), (9, "one\n\ntwo\nthree\nfour")]
        {
            for piece in [1, 5, 100] {
                let mut tail = Tail { lines_max, lines: VecDeque::new() };
                text.chunks(piece).for_each(|piece| tail.write_all(piece).unwrap());
                let kept: Vec<u8> = tail.lines.into_iter().flatten().collect();
                assert_eq!(String::from_utf8(kept).unwrap(), expected, "{lines_max}, {piece}");
            }
        }
    }

    #[test]
    fn an_unknown_vessel_is_refused_with_those_there_are() {
        let run: Run = serde_json::from_str(
            r#"{"id":"r","fleet_name":"deploy","fleet_version":1,"trigger":"webhook",
                "status":"Running","queued_at":"2026-01-02T03:04:05Z","vessels":[
                {"id":"v1","vessel_name":"build","status":"Running"},
                {"id":"v2","vessel_name":"notify","status":"Scheduled"}]}"#,
        )
        .unwrap();
        assert_eq!(chosen(&run, None).unwrap().len(), 2);
        assert_eq!(chosen(&run, Some("notify")).unwrap()[0].id, "v2");
        let message = chosen(&run, Some("x")).unwrap_err().to_string();
        assert!(message.ends_with("it has build, notify"), "{message}");
    }

    #[test]
    fn an_attempt_that_was_not_made_is_refused_with_how_many_there_were() {
        let run: Run = serde_json::from_str(
            r#"{"id":"r","fleet_name":"deploy","fleet_version":1,"trigger":"webhook",
                "status":"Errored","queued_at":"2026-01-02T03:04:05Z","vessels":[
                {"id":"v1","vessel_name":"build","status":"Success","attempt":1},
                {"id":"v2","vessel_name":"notify","status":"Errored","attempt":3}]}"#,
        )
        .unwrap();
        let of = |attempt| with_attempt(chosen(&run, None).unwrap(), attempt);
        assert_eq!(of(None).unwrap().len(), 2);
        assert_eq!(of(Some(1)).unwrap().len(), 2);
        assert_eq!(of(Some(3)).unwrap()[0].id, "v2");
        let message = of(Some(4)).unwrap_err().to_string();
        assert!(message.ends_with("build: 1, notify: 3"), "{message}");
    }
}
