//! The timer: wakes when the next retry falls due, or a start is to be tried out in a pause of
//! launching, and at no other time.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::engine::{Decisions, Engine, Phase};
use crate::model::clock::Timestamp;

impl Engine {
    /// Starts the timer. It ends once the engine drains.
    ///
    /// # Errors
    /// When the thread is not to be had.
    pub fn start_timer(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let engine = Arc::clone(self);
        thread::Builder::new().name("timer".into()).spawn(move || engine.fire_retries())
    }

    /// Lets the retries that are due by now be claimed: what the timer does whenever it wakes.
    pub fn fire_due_retries(&self) {
        self.fire(&mut self.decisions());
    }

    /// Returns the time by which it judged.
    fn fire(&self, decisions: &mut Decisions) -> Timestamp {
        let now = self.clock.now();
        decisions.queue.fire_due(now);
        if decisions.queue.has_claimable() {
            self.work.notify_one();
        }
        now
    }

    fn fire_retries(&self) {
        let mut decisions = self.decisions();
        while decisions.phase == Phase::Serving {
            let check_at = decisions.launching.check_at();
            if check_at.is_some_and(|at| at <= Instant::now()) {
                drop(decisions);
                self.check_machine();
                decisions = self.decisions();
                continue;
            }
            let now = self.fire(&mut decisions);
            let retry = decisions.queue.next_due().map(|due| due.since(now));
            let check = check_at.map(|at| at.saturating_duration_since(Instant::now()));
            decisions = match retry.into_iter().chain(check).min() {
                Some(wait) => {
                    let waited = self.retries.wait_timeout(decisions, wait);
                    waited.unwrap_or_else(|_| super::poisoned()).0
                }
                None => self.retries.wait(decisions).unwrap_or_else(|_| super::poisoned()),
            };
        }
    }
}
