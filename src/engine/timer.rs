//! The timer: wakes when the next retry falls due, and at no other time.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::clock::Timestamp;
use crate::engine::{Decisions, Engine, Phase};

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
            let now = self.fire(&mut decisions);
            decisions = match decisions.queue.next_due() {
                Some(due) => {
                    let waited = self.retries.wait_timeout(decisions, due.since(now));
                    waited.unwrap_or_else(|_| super::poisoned()).0
                }
                None => self.retries.wait(decisions).unwrap_or_else(|_| super::poisoned()),
            };
        }
    }
}
