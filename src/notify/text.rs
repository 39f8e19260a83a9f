//! Texts about the end of a run, for mail and chats.

use std::fmt::Write;

use crate::engine::RunView;

/// In one line: the fleet and how the run, or one of its vessels, ended.
pub(super) fn subject(run: &RunView, vessel: Option<usize>) -> String {
    let RunView { run, vessels, .. } = run;
    match vessel.and_then(|vessel| vessels.get(vessel)) {
        Some(vessel) => format!("{}, {}: {}", run.fleet_name, vessel.vessel_name, vessel.status),
        None => format!("{}: {}", run.fleet_name, run.status),
    }
}

/// The text of a mail: the run and its vessels, one fact per line.
pub(super) fn body(run: &RunView) -> String {
    let RunView { run, vessels, .. } = run;
    let mut body = format!("The run {} of the fleet {} ended.\n\n", run.id, run.fleet_name);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(body, "{name:<10}{value}");
    };
    line("status", &run.status.to_string());
    if let Some(reason) = &run.reason {
        line("reason", reason);
    }
    line("trigger", run.trigger.word());
    line("queued", &run.queued_at.to_string());
    for (name, time) in [("started", run.started_at), ("ended", run.ended_at)] {
        if let Some(time) = time {
            line(name, &time.to_string());
        }
    }
    body.push_str("\nIts vessels:\n\n");
    for vessel in vessels {
        let _ = write!(body, "{:<12}{}", vessel.status.to_string(), vessel.vessel_name);
        if let Some(reason) = &vessel.reason {
            let _ = write!(body, ": {reason}");
        }
        body.push('\n');
    }
    let _ = write!(body, "\nboathook runs logs {} shows what they wrote.\n", run.id);
    body
}

/// The text of a chat message: the subject, each vessel with a reason, and the command that shows logs.
pub(super) fn brief(run: &RunView) -> String {
    let mut text = subject(run, None);
    let RunView { run, vessels, .. } = run;
    if let Some(reason) = &run.reason {
        let _ = write!(text, "\n{reason}");
    }
    for vessel in vessels {
        if let Some(reason) = &vessel.reason {
            let _ = write!(text, "\n{}: {}: {reason}", vessel.vessel_name, vessel.status);
        }
    }
    let _ = write!(text, "\nboathook runs logs {}", run.id);
    text
}
