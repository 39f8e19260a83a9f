//! The timer wakes when the next retry falls due, the next hold of `debounce` ends or the next trial start
//! of a launching pause is due, and at no other time.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::engine::{Engine, Phase};
use crate::model::clock::Timestamp;
use crate::os::threads;

impl Engine {
    /// Starts the timer. It ends once the engine drains.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn start_timer(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let engine = Arc::clone(self);
        threads::vital("timer").spawn(move || engine.run_timer())
    }

    /// What the timer does. The simulation takes the steps 1 and 2 one at a time.
    fn run_timer(&self) {
        loop {
            // 1. Try a start out, when a pause of launching has lasted long enough.
            if self.trial_is_due() {
                self.check_machine();
            }
            // 2. Let due retries and released runs be claimed.
            let now = self.fire_due();
            // 3. Wait for the next retry, release or trial.
            if !self.await_next_due(now) {
                return;
            }
        }
    }

    /// Lets the retries that are due be claimed, and the runs whose holds have ended. Returns the time
    /// by which it judged.
    pub fn fire_due(&self) -> Timestamp {
        let mut decisions = self.decisions();
        let now = self.clock.now();
        let effects = decisions.queue.fire_due(now);
        let pending = self.commit_effects(&mut decisions, effects, []);
        self.wake_worker(&mut decisions);
        drop(decisions);
        self.complete(pending);
        now
    }

    fn trial_is_due(&self) -> bool {
        self.decisions().launching.check_at().is_some_and(|at| at <= Instant::now())
    }

    /// Waits until a retry, a release or a trial start is due, or one of them has changed; false once the engine
    /// drains. A wait is counted from `now`, when the due times were last compared with the clock: a
    /// clock that steps back afterwards does not prolong it.
    fn await_next_due(&self, now: Timestamp) -> bool {
        let decisions = self.decisions();
        if decisions.phase != Phase::Serving {
            return false;
        }
        let due = decisions.queue.next_due().map(|due| due.since(now));
        let trial = decisions.launching.check_at();
        let trial = trial.map(|at| at.saturating_duration_since(Instant::now()));
        let decisions = match due.into_iter().chain(trial).min() {
            Some(wait) => {
                let waited = self.retries.wait_timeout(decisions, wait);
                waited.unwrap_or_else(|_| super::poisoned()).0
            }
            None => self.retries.wait(decisions).unwrap_or_else(|_| super::poisoned()),
        };
        decisions.phase == Phase::Serving
    }
}
