//! Stopping in order: first nothing more is claimed, while runs are still accepted and running
//! vessels may finish; then what still runs is ended and left to the next server; then nothing
//! more is accepted, and the last commit says that it was an orderly stop.

use std::time::{Duration, Instant};

use crate::engine::{Engine, Phase};
use crate::model::change::{Change, ServerRecord};
use crate::runner::stop::Stop;

impl Engine {
    /// Stops claiming. Workers end with what they are running.
    pub fn drain(&self) {
        let mut decisions = self.decisions();
        decisions.phase = decisions.phase.max(Phase::Draining);
        self.work.notify_all();
        self.retries.notify_all();
        self.idle.notify_all();
        self.sweeps.notify_all();
    }

    /// Waits up to `timeout` for the vessels that are running. Returns how many still are.
    pub fn await_idle(&self, timeout: Duration) -> usize {
        let deadline = Instant::now() + timeout;
        let mut decisions = self.decisions();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if decisions.running.is_empty() || left.is_zero() {
                return decisions.running.len();
            }
            let waited = self.idle.wait_timeout(decisions, left);
            decisions = waited.unwrap_or_else(|_| super::poisoned()).0;
        }
    }

    /// Ends the vessels that are running, unsettled: the next server resumes them.
    pub fn abandon_running(&self) {
        for running in self.decisions().running.values() {
            running.stop.raise(Stop::Abandon);
        }
    }

    /// Accepts nothing more.
    pub fn close(&self) {
        self.decisions().phase = Phase::Closed;
        self.close_outbox();
    }

    /// Records that the server has stopped in order: the last commit.
    pub fn record_clean_stop(&self) {
        let server = ServerRecord { stopped_cleanly: true, ..self.server.clone() };
        self.storage.commit(vec![Change::PutServer(server)]).wait();
    }
}
