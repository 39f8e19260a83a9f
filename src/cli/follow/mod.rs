//! Follows a run to its end: streams the output of its vessels as they start, several at a time, and
//! hands them to the [`Printer`].

use std::io::{self, Read, Write};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::api::{Run, VesselRun};
use super::client::{Client, ClientError, reader};
use super::output::{BOLD, printable, styled, styled_status};
use super::time;
use crate::model::name::is_same_name;
use crate::model::run::Status;
use crate::os::threads;

mod printer;

pub use printer::Printer;

/// Vessels whose output one `--follow` streams at a time; the server's followers are shared.
const CLIENT_STREAMS_MAX: usize = 16;

/// How often the state of the run is asked for: soon enough to feel live, seldom enough to cost
/// nothing.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long a server that does not answer is waited for: a restart takes less.
const PATIENCE: Duration = Duration::from_secs(15);
/// Chunks between the threads that read and the one that prints: a slow terminal slows readers.
const CHUNKS_MAX: usize = 64;
const CHUNK_BYTES: usize = 16 * 1024;

/// Which output of a run is followed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// That of the vessel with this name; of all without it.
    pub vessel: Option<&'a str>,
    /// That of this attempt; from the present one on without it.
    pub attempt: Option<u32>,
}

/// Follows the run `id` until it has ended, or until the attempt of the `selection` has ended in every
/// vessel that comes to it. Returns the run as it is then. `keep_going` is asked several times a second and can end the following early.
///
/// # Errors
/// When the server stays away, refuses, or the output cannot be written.
pub fn follow<W: Write>(
    client: &Client,
    id: &str,
    selection: Selection<'_>,
    printer: &mut Printer<W>,
    keep_going: &mut dyn FnMut() -> bool,
) -> anyhow::Result<Run> {
    let (sender, events) = bounded(CHUNKS_MAX);
    let mut following = Following {
        client,
        printer,
        selection,
        sender,
        events,
        streams: Vec::new(),
        failing_since: None,
    };
    let result = following.until_ended(id, keep_going);
    if result.is_err() {
        // What came before the failure is shown; should that fail as well, the first one counts.
        let _ = following.printer.end_all();
    }
    result
}

struct Following<'a, W> {
    client: &'a Client,
    printer: &'a mut Printer<W>,
    selection: Selection<'a>,
    sender: Sender<Event>,
    events: Receiver<Event>,
    /// One per vessel of the run, in its order; empty until the run was first seen.
    streams: Vec<Stream>,
    failing_since: Option<Instant>,
}

/// Where the output of one vessel stands.
struct Stream {
    /// The attempt that is, or was last, read.
    attempt: u32,
    /// Bytes of that attempt that were printed, as the server counts them.
    offset: u64,
    phase: Phase,
}

enum Phase {
    /// Nothing was read yet.
    Waiting,
    /// A thread reads.
    Live(JoinHandle<()>),
    /// The answer ended, or broke off.
    Ended { complete: bool, at: Instant },
    /// Nothing more will come.
    Drained,
}

enum Event {
    Bytes { index: usize, offset: u64, bytes: Vec<u8> },
    Ended { index: usize, result: Result<(), ClientError> },
}

impl<W: Write> Following<'_, W> {
    fn until_ended(
        &mut self,
        id: &str,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> anyhow::Result<Run> {
        loop {
            if !keep_going() {
                bail!("interrupted");
            }
            if let Some(run) = self.poll(id)? {
                self.advance(&run)?;
                let is_over = run.status.is_final() || self.selection.attempt.is_some();
                if is_over && self.is_drained() {
                    return Ok(run);
                }
            }
            self.print_for(POLL_INTERVAL)?;
        }
    }

    /// The state of the run; `None` when the server is away for the moment.
    fn poll(&mut self, id: &str) -> anyhow::Result<Option<Run>> {
        match self.client.get(&format!("/runs/{id}")) {
            Ok(data) => {
                self.failing_since = None;
                Ok(Some(data.parse()?))
            }
            Err(error) => self.tolerate(error).map(|()| None),
        }
    }

    /// Lets failures pass that time may mend, for a while.
    fn tolerate(&mut self, error: ClientError) -> anyhow::Result<()> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if error.is_temporary() && since.elapsed() < PATIENCE {
            return Ok(());
        }
        Err(error).context("cannot follow the run any further")
    }

    /// Starts to read whatever can be read by now.
    fn advance(&mut self, run: &Run) -> anyhow::Result<()> {
        if self.streams.is_empty() {
            self.streams = run
                .vessels
                .iter()
                .map(|vessel| Stream {
                    attempt: 0,
                    offset: 0,
                    phase: match self.selection.vessel {
                        Some(name) if !is_same_name(name, &vessel.vessel_name) => Phase::Drained,
                        _ => Phase::Waiting,
                    },
                })
                .collect();
        }
        for (index, vessel) in run.vessels.iter().enumerate() {
            let live =
                self.streams.iter().filter(|stream| matches!(stream.phase, Phase::Live(_))).count();
            let Some(stream) = self.streams.get_mut(index) else { break };
            match stream.next(vessel, self.selection.attempt) {
                Next::Nothing => {}
                Next::Drained => stream.phase = Phase::Drained,
                Next::Read { .. } if live >= CLIENT_STREAMS_MAX => {}
                Next::Read { attempt, offset } => {
                    self.printer.title(index, vessel, attempt);
                    (stream.attempt, stream.offset) = (attempt, offset);
                    let sender = self.sender.clone();
                    let client = self.client.clone();
                    let path = output_path(&vessel.id, attempt, offset);
                    let reader = threads::vital("follow")
                        .spawn(move || read_stream(&client, &path, index, offset, &sender))
                        .context("cannot start a thread")?;
                    stream.phase = Phase::Live(reader);
                }
            }
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.streams.iter().all(|stream| matches!(stream.phase, Phase::Drained))
    }

    /// Prints what arrives, for `duration` or until an answer ends: the run has changed then.
    fn print_for(&mut self, duration: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + duration;
        loop {
            match self.events.recv_deadline(until) {
                Ok(Event::Bytes { index, offset, bytes }) => {
                    let live = self.streams.iter();
                    let is_alone =
                        live.filter(|stream| matches!(stream.phase, Phase::Live(_))).count() == 1;
                    self.printer.bytes(index, &bytes, is_alone)?;
                    if let Some(stream) = self.streams.get_mut(index) {
                        stream.offset = offset;
                    }
                    // Output without a pause must not keep the state from being asked for.
                    if Instant::now() >= until {
                        return Ok(());
                    }
                }
                Ok(Event::Ended { index, result }) => return self.ended(index, result),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn ended(&mut self, index: usize, result: Result<(), ClientError>) -> anyhow::Result<()> {
        let complete = match result {
            Ok(()) => true,
            // Never started, so it has no output; or that of the attempt is gone.
            Err(error) if error.is_not_found() => true,
            // A token that may start runs and see how they end, but not their output.
            Err(ClientError::Refused { status: 403, .. }) => true,
            Err(error) => {
                self.tolerate(error)?;
                false
            }
        };
        if complete {
            self.printer.end(index)?;
        }
        if let Some(stream) = self.streams.get_mut(index) {
            let phase = Phase::Ended { complete, at: Instant::now() };
            if let Phase::Live(reader) = std::mem::replace(&mut stream.phase, phase) {
                // It has sent its last event, so this does not wait. It cannot have panicked.
                let _ = reader.join();
            }
        }
        Ok(())
    }
}

/// What to do next about a vessel's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Read { attempt: u32, offset: u64 },
    Drained,
}

impl Stream {
    /// `wanted` is the one attempt to read, if not all.
    fn next(&self, vessel: &VesselRun, wanted: Option<u32>) -> Next {
        let has_more_attempts = vessel.attempt > self.attempt && wanted.is_none();
        let is_passed = wanted.is_some_and(|wanted| vessel.attempt > wanted);
        match &self.phase {
            Phase::Drained | Phase::Live(_) => Next::Nothing,
            // It will never start, so there is nothing to read.
            Phase::Waiting if vessel.status == Status::Incomplete => Next::Drained,
            Phase::Waiting if wanted.is_some_and(|wanted| vessel.attempt < wanted) => {
                if vessel.status.is_final() { Next::Drained } else { Next::Nothing }
            }
            Phase::Waiting if vessel.attempt > 0 || vessel.status.is_final() => {
                Next::Read { attempt: wanted.unwrap_or(vessel.attempt), offset: 0 }
            }
            Phase::Waiting => Next::Nothing,
            Phase::Ended { complete: true, .. } if has_more_attempts => {
                Next::Read { attempt: self.attempt + 1, offset: 0 }
            }
            Phase::Ended { complete: true, .. } if vessel.status.is_final() || is_passed => {
                Next::Drained
            }
            // The answer ended early, as when the server stops: look again, but not at once.
            Phase::Ended { at, .. } if at.elapsed() >= POLL_INTERVAL => {
                Next::Read { attempt: self.attempt, offset: self.offset }
            }
            Phase::Ended { .. } => Next::Nothing,
        }
    }
}

fn output_path(vessel_run: &str, attempt: u32, offset: u64) -> String {
    let path = format!("/vessel-runs/{vessel_run}/output?follow=true&offset={offset}");
    // A vessel that was decided without being started has a log all the same.
    if attempt == 0 { path } else { format!("{path}&attempt={attempt}") }
}

/// Reads one answer to its end and hands on what it says. Ends early when the receiver has gone.
fn read_stream(client: &Client, path: &str, index: usize, mut offset: u64, sender: &Sender<Event>) {
    let result = client.open(path).and_then(|response| {
        // More than asked for was left out when the output outgrew its limit.
        let first = response.headers().get("x-output-offset");
        let first = first.and_then(|value| value.to_str().ok()?.parse().ok());
        offset = first.unwrap_or(offset);
        let mut source = reader(response);
        let mut buffer = [0; CHUNK_BYTES];
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let source = Box::new(ureq::Error::Io(error));
                    return Err(ClientError::Transport { url: path.to_owned(), source });
                }
            };
            offset += count as u64;
            let bytes = buffer.get(..count).unwrap_or_default().to_vec();
            if sender.send(Event::Bytes { index, offset, bytes }).is_err() {
                return Ok(());
            }
        }
    });
    // The receiver has gone when the following has ended before the output: nothing is lost.
    let _ = sender.send(Event::Ended { index, result });
}

/// The line above the output of a vessel that is not followed.
pub fn heading(vessel: &VesselRun) -> String {
    let mut facts = vec![styled_status(vessel.status)];
    match (vessel.exit_code, vessel.signal) {
        (Some(code), _) => facts.push(format!("exit {code}")),
        (None, Some(signal)) => facts.push(format!("signal {signal}")),
        (None, None) => {}
    }
    if let Some(millis) = vessel.duration_ms {
        facts.push(time::duration(Duration::from_millis(millis)));
    }
    let name = styled(&format!("== {}", printable(&vessel.vessel_name)), BOLD);
    // The colours of the vessel before end here.
    format!("{}{name} ({})", anstyle::Reset, facts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vessel(name: &str, status: Status, attempt: u32) -> VesselRun {
        serde_json::from_value(serde_json::json!({
            "id": "v", "vessel_name": name, "status": status, "attempt": attempt,
            "exit_code": 3, "duration_ms": 1_234,
        }))
        .unwrap()
    }

    fn stream(attempt: u32, phase: Phase) -> Stream {
        Stream { attempt, offset: 7, phase }
    }

    #[test]
    fn every_attempt_is_read_once_and_to_its_end() {
        let at = Instant::now();
        let ended = |complete| Phase::Ended { complete, at };
        let long_ago = Instant::now().checked_sub(2 * POLL_INTERVAL).unwrap();
        for (stream, vessel, expected) in [
            (stream(0, Phase::Waiting), vessel("a", Status::Scheduled, 0), Next::Nothing),
            (stream(0, Phase::Waiting), vessel("a", Status::Incomplete, 0), Next::Drained),
            (
                stream(0, Phase::Waiting),
                vessel("a", Status::Running, 2),
                Next::Read { attempt: 2, offset: 0 },
            ),
            (
                stream(0, Phase::Waiting),
                vessel("a", Status::Errored, 0),
                Next::Read { attempt: 0, offset: 0 },
            ),
            (
                stream(1, ended(true)),
                vessel("a", Status::Retrying, 3),
                Next::Read { attempt: 2, offset: 0 },
            ),
            (stream(1, ended(true)), vessel("a", Status::Success, 1), Next::Drained),
            (stream(1, ended(true)), vessel("a", Status::Retrying, 1), Next::Nothing),
            (stream(1, ended(false)), vessel("a", Status::Success, 1), Next::Nothing),
            (
                stream(1, Phase::Ended { complete: false, at: long_ago }),
                vessel("a", Status::Success, 1),
                Next::Read { attempt: 1, offset: 7 },
            ),
        ] {
            assert_eq!(stream.next(&vessel, None), expected, "{vessel:?}");
        }
    }

    #[test]
    fn one_attempt_is_read_to_its_end_and_no_other() {
        let ended = || Phase::Ended { complete: true, at: Instant::now() };
        let second = Next::Read { attempt: 2, offset: 0 };
        for (stream, vessel, expected) in [
            (stream(0, Phase::Waiting), vessel("a", Status::Running, 1), Next::Nothing),
            (stream(0, Phase::Waiting), vessel("a", Status::Success, 1), Next::Drained),
            (stream(0, Phase::Waiting), vessel("a", Status::Running, 2), second),
            (stream(0, Phase::Waiting), vessel("a", Status::Running, 3), second),
            (stream(2, ended()), vessel("a", Status::Retrying, 2), Next::Nothing),
            (stream(2, ended()), vessel("a", Status::Running, 3), Next::Drained),
            (stream(2, ended()), vessel("a", Status::Success, 2), Next::Drained),
        ] {
            assert_eq!(stream.next(&vessel, Some(2)), expected, "{vessel:?}");
        }
    }

    #[test]
    fn headings_say_how_a_vessel_ended() {
        let text = heading(&vessel("build", Status::Errored, 1));
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "== build (Errored, exit 3, 1.2s)");
    }
}
