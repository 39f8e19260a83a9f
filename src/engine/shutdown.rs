//! The orderly stop. 1. Workers claim nothing more; runs are still accepted, and running vessels may
//! finish. 2. Vessels that still run are ended, for the next server to resume. 3. No run is accepted
//! any more. 4. The last commit records the orderly stop.

use std::time::{Duration, Instant};

use crate::engine::{Engine, Phase};
use crate::model::change::{Change, ServerRecord};
use crate::runner::stop::Stop;

impl Engine {
    /// Stops claiming. Each worker ends after its present attempt.
    pub fn drain(&self) {
        let mut decisions = self.decisions();
        decisions.phase = decisions.phase.max(Phase::Draining);
        self.work.notify_all();
        self.retries.notify_all();
        self.idle.notify_all();
        self.sweeps.notify_all();
        drop(decisions);
        self.ring_alarm();
    }

    /// Waits up to `timeout` for the running vessels. Returns how many still run.
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

    /// Ends the running vessels without settling them: the next server resumes them.
    pub fn abandon_running(&self) {
        let decisions = self.decisions();
        for stop in decisions.running.values().filter_map(|running| running.stop.as_ref()) {
            stop.raise(Stop::Abandon);
        }
    }

    /// Lets the senders that wait for the end of their runs go: they are answered that these go on.
    pub fn release_waiting(&self) {
        self.waiting.close();
    }

    /// Stops accepting runs and delivering notifications.
    pub fn close(&self) {
        self.decisions().phase = Phase::Closed;
        self.close_outbox();
        self.ledger.close();
    }

    /// Records the orderly stop. The last commit.
    pub fn record_clean_stop(&self) {
        let server = ServerRecord { stopped_cleanly: true, ..self.server.clone() };
        self.store.commit(vec![Change::PutServer(server)]).wait();
    }
}
