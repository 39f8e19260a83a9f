//! `boathook runs logs`: what vessels printed, byte for byte; headings on a terminal only.

use std::io::{self, Read, Write};

use anyhow::bail;
use serde_json::value::RawValue;

use super::status_line;
use crate::cli::Outcome;
use crate::cli::api::{Run, VesselRun};
use crate::cli::client::reader;
use crate::cli::follow::{Printer, follow, heading};
use crate::cli::output::{advise, print, print_json, printable, raw_stdout, stdout_is_terminal};
use crate::cli::session::Session;

/// Prints what the vessels print until the run has ended.
///
/// # Errors
/// When the server is not there, refuses, or knows no such run or vessel.
pub fn follow_to_end(session: &Session, id: &str, vessel: Option<&str>) -> anyhow::Result<Outcome> {
    let (run, _) = session.run(id)?;
    chosen(&run, vessel)?;
    let ended = if session.json {
        let mut printer = Printer::silent();
        follow(&session.client, &run.id, vessel, &mut printer, &mut || true)?
    } else {
        let mut printer = Printer::new(raw_stdout(), stdout_is_terminal() && vessel.is_none());
        follow(&session.client, &run.id, vessel, &mut printer, &mut || true)?
    };
    if session.json {
        print_json(&logs_json(session, &session.run(&run.id)?.0, vessel)?)?;
    } else if stdout_is_terminal() {
        advise(&status_line(&ended));
    }
    Ok(Outcome::Followed(ended.status))
}

/// Prints what the vessels have printed so far.
///
/// # Errors
/// As [`follow_to_end`].
pub fn show(session: &Session, id: &str, vessel: Option<&str>) -> anyhow::Result<()> {
    let (run, _) = session.run(id)?;
    if session.json {
        return Ok(print_json(&logs_json(session, &run, vessel)?)?);
    }
    let has_headings = stdout_is_terminal() && vessel.is_none();
    let mut out = raw_stdout();
    for vessel in chosen(&run, vessel)? {
        if has_headings {
            print(&format!("{}\n", heading(vessel)))?;
        }
        let ends_line = copy_output(session, vessel, &mut out)?;
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

/// The vessels to show: all, or the one with this name.
fn chosen<'a>(run: &'a Run, vessel: Option<&str>) -> anyhow::Result<Vec<&'a VesselRun>> {
    let found: Vec<_> = run
        .vessels
        .iter()
        .filter(|candidate| vessel.is_none_or(|name| candidate.vessel_name == name))
        .collect();
    if found.is_empty() && vessel.is_some() {
        let names: Vec<_> =
            run.vessels.iter().map(|vessel| printable(&vessel.vessel_name)).collect();
        bail!("this run has no such vessel; it has {}", names.join(", "));
    }
    Ok(found)
}

/// Copies what a vessel printed; says whether that ended with a line break (or was nothing).
fn copy_output(
    session: &Session,
    vessel: &VesselRun,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let path = format!("/vessel-runs/{}/output", vessel.id);
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
fn logs_json(session: &Session, run: &Run, vessel: Option<&str>) -> anyhow::Result<Box<RawValue>> {
    let mut entries = Vec::new();
    for vessel in chosen(run, vessel)? {
        let mut output = Vec::new();
        copy_output(session, vessel, &mut output)?;
        entries.push(serde_json::json!({
            "id": vessel.id,
            "vessel_name": vessel.vessel_name,
            "status": vessel.status,
            "attempt": vessel.attempt,
            "output": String::from_utf8_lossy(&output),
        }));
    }
    Ok(serde_json::value::to_raw_value(&entries)?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
