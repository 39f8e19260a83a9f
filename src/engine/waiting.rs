//! The senders that wait for the end of their runs. Each has an entry here from the moment its run is
//! submitted until it has its answer; its connection's thread waits, and no other thread does. Nothing of
//! it is stored: after a crash the connection is gone, and the run goes on without a sender.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::model::cgi::VesselAnswer;
use crate::model::ids::{RunId, VesselRunId};
use crate::model::run::RunRecord;

/// How often a waiting thread looks whether its client has gone.
const CLIENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A run that has ended, and what its sender gets.
#[derive(Debug)]
pub struct EndedRun {
    pub run: RunRecord,
    /// The last answer of a vessel; `None` when none has written any.
    pub answer: Option<VesselAnswer>,
}

/// See the module.
pub(super) struct WaitingSenders {
    max: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    senders: HashMap<RunId, Entry>,
    /// The server stops: nothing is waited for any more.
    is_closed: bool,
}

struct Entry {
    /// `None` once the end was told.
    end: Option<Sender<EndedRun>>,
    answer: Option<(VesselRunId, VesselAnswer)>,
}

/// A sender that waits for the end of its run. It has one of the places until it is dropped.
pub struct Waiting {
    run: RunId,
    senders: Arc<WaitingSenders>,
    end: Receiver<EndedRun>,
}

impl WaitingSenders {
    /// Up to `max` at a time.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, table: Mutex::default() })
    }

    /// Lets the sender of `run` wait, if there is a place. To be called before the run can end.
    pub fn enter(self: &Arc<Self>, run: RunId) -> Option<Waiting> {
        let mut table = self.table();
        if table.is_closed || table.senders.len() >= self.max {
            return None;
        }
        let (sender, end) = bounded(1);
        table.senders.insert(run, Entry { end: Some(sender), answer: None });
        Some(Waiting { run, senders: Arc::clone(self), end })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table().senders.len()
    }

    /// Takes the answer of an attempt that has ended. A later answer replaces an earlier one; an attempt
    /// without one takes back that of the attempt before it.
    pub fn take_answer(&self, vessel_run: VesselRunId, answer: Option<VesselAnswer>) {
        let mut table = self.table();
        let Some(entry) = table.senders.get_mut(&vessel_run.run()) else { return };
        let is_own = entry.answer.as_ref().is_some_and(|(of, _)| *of == vessel_run);
        match answer {
            Some(answer) => entry.answer = Some((vessel_run, answer)),
            None if is_own => entry.answer = None,
            None => {}
        }
    }

    /// Tells the sender of `run`, if one waits, that it has ended.
    pub fn tell_end(&self, run: &RunRecord) {
        let mut table = self.table();
        let Some(entry) = table.senders.get_mut(&run.id) else { return };
        let answer = entry.answer.take().map(|(_, answer)| answer);
        if let Some(end) = entry.end.take() {
            // The channel has room for the one message, and the receiver goes with its entry.
            let _ = end.try_send(EndedRun { run: run.clone(), answer });
        }
    }

    /// Lets nobody wait from here on.
    pub fn close(&self) {
        let mut table = self.table();
        table.is_closed = true;
        for entry in table.senders.values_mut() {
            entry.end = None;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No panic leaves the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Waits until the run has ended; `None` at `deadline`, when the client has gone, or when the server
    /// stops.
    pub fn wait(
        &self,
        deadline: Instant,
        is_client_gone: &mut dyn FnMut() -> bool,
    ) -> Option<EndedRun> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.end.recv_timeout(left.min(CLIENT_CHECK_INTERVAL)) {
                Ok(ended) => return Some(ended),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if left.is_zero() || is_client_gone() => {
                    return None;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.senders.table().senders.remove(&self.run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cgi::CgiResponse;
    use crate::model::clock::Timestamp;
    use crate::model::ids::RunIds;
    use crate::model::run::Status;

    const LONG: Duration = Duration::from_secs(600);

    fn run_id(random: u64) -> RunId {
        RunIds::after(None).next(Timestamp::from_millis(1_700_000_000_000), random)
    }

    fn ended(run: RunId) -> RunRecord {
        RunRecord { status: Status::Success, ..RunRecord::example(run) }
    }

    fn answer(body: &str) -> VesselAnswer {
        VesselAnswer::Response(CgiResponse { body: body.into(), ..CgiResponse::default() })
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let senders = WaitingSenders::new(2);
        let (first, second) = (senders.enter(run_id(1)), senders.enter(run_id(2)));
        assert!(first.is_some() && second.is_some() && senders.enter(run_id(3)).is_none());
        drop(first);
        assert_eq!(senders.count(), 1);
        assert!(senders.enter(run_id(3)).is_some());
    }

    #[test]
    fn a_sender_hears_of_an_end_that_comes_before_it_waits() {
        let senders = WaitingSenders::new(1);
        let run = run_id(1);
        let waiting = senders.enter(run).unwrap();
        senders.tell_end(&ended(run_id(2)));
        senders.take_answer(run.vessel_run(0), Some(answer("first")));
        senders.take_answer(run.vessel_run(1), None);
        senders.tell_end(&ended(run));
        let heard = waiting.wait(Instant::now() + LONG, &mut || false).unwrap();
        assert_eq!(heard.answer, Some(answer("first")));
        assert_eq!(senders.count(), 1, "the place is kept until the answer is written");
    }

    #[test]
    fn the_last_answer_counts_and_a_retry_takes_its_own_back() {
        let senders = WaitingSenders::new(1);
        let run = run_id(1);
        let waiting = senders.enter(run).unwrap();
        senders.take_answer(run.vessel_run(0), Some(answer("0")));
        senders.take_answer(run.vessel_run(1), Some(answer("1")));
        senders.take_answer(run.vessel_run(0), None);
        senders.take_answer(run.vessel_run(1), None);
        senders.tell_end(&ended(run));
        assert_eq!(waiting.wait(Instant::now() + LONG, &mut || false).unwrap().answer, None);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_with_its_client_and_with_the_server() {
        let senders = WaitingSenders::new(1);
        let waiting = senders.enter(run_id(1)).unwrap();
        assert!(waiting.wait(Instant::now(), &mut || false).is_none());
        assert!(waiting.wait(Instant::now() + LONG, &mut || true).is_none());
        senders.close();
        assert!(waiting.wait(Instant::now() + LONG, &mut || false).is_none());
        drop(waiting);
        assert!(senders.enter(run_id(2)).is_none(), "the server stops");
    }
}
