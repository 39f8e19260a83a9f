//! The notifications that wait to be delivered: which is due, when the next one is, and when one is
//! given up. A state machine that takes the time as an argument.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::ids::RunId;
use crate::model::limits::{
    NOTIFICATION_ATTEMPTS_MAX, NOTIFICATION_WAIT_MAX, NOTIFICATION_WAIT_MIN, NOTIFICATIONS_MAX,
};
use crate::model::notification::{NotificationRecord, Retry};
use crate::model::run::shorten;

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    /// By due time; the rest makes keys unique.
    waiting: BTreeMap<(Timestamp, RunId, u32), NotificationRecord>,
    /// How many of each run have been admitted and neither delivered nor given up.
    undelivered: HashMap<RunId, u32>,
    /// As many as these are together; more than `waiting`.
    undelivered_all: usize,
    is_closed: bool,
}

impl Outbox {
    /// Lets `record` in, which is about to become durable. When too many wait already it is given
    /// up on the spot.
    pub fn admit(&mut self, record: &mut NotificationRecord) {
        if self.undelivered_all >= NOTIFICATIONS_MAX {
            record.given_up = true;
            record.problem = Some("too many notifications wait already".to_owned());
            return;
        }
        self.count(record.run);
    }

    fn count(&mut self, run: RunId) {
        *self.undelivered.entry(run).or_default() += 1;
        self.undelivered_all += 1;
    }

    /// Whether the end of `run` has to be told somebody yet.
    pub fn awaits(&self, run: RunId) -> bool {
        self.undelivered.contains_key(&run)
    }

    /// A record that has been admitted is durable: it waits for its time.
    pub fn add(&mut self, record: NotificationRecord) {
        self.waiting.insert((record.due_at, record.run, record.number), record);
    }

    /// What a former server has left to be delivered.
    pub fn restore(&mut self, record: NotificationRecord) {
        self.count(record.run);
        self.add(record);
    }

    /// Takes what is due at `now`; otherwise, how long until something is.
    ///
    /// # Errors
    /// `Some` wait, or `None` when nothing waits at all.
    pub fn take_due(&mut self, now: Timestamp) -> Result<NotificationRecord, Option<Duration>> {
        self.bring_near(now);
        loop {
            let (_, mut first) = self.waiting.pop_first().ok_or(None)?;
            let (ahead, wait) = (first.due_at.since(now), wait_of(&first));
            if ahead.is_zero() {
                return Ok(first);
            }
            // Further ahead than the wait that it was given: the clock has stepped back.
            let is_astray = ahead > wait;
            if is_astray {
                first.due_at = now.plus(wait);
            }
            self.add(first);
            if !is_astray {
                return Err(Some(ahead));
            }
        }
    }

    /// Shortens the waits that are longer than any: those of a clock that was ahead. They stand behind
    /// all others, and would be at the front only when nothing else waits.
    fn bring_near(&mut self, now: Timestamp) {
        while let Some(last) = self.waiting.last_entry()
            && last.get().due_at.since(now) > NOTIFICATION_WAIT_MAX
        {
            let mut astray = last.remove();
            astray.due_at = now.plus(wait_of(&astray));
            self.add(astray);
        }
    }

    /// Those that have been admitted and neither delivered nor given up.
    pub fn undelivered(&self) -> usize {
        self.undelivered_all
    }

    /// Lets those who wait for the next one go.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether nothing is delivered any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// One of `run` was delivered or given up. Returns whether it was the last.
    pub fn settled(&mut self, run: RunId) -> bool {
        let Entry::Occupied(mut left) = self.undelivered.entry(run) else { return false };
        self.undelivered_all -= 1;
        *left.get_mut() -= 1;
        let is_last = *left.get() == 0;
        if is_last {
            left.remove();
        }
        is_last
    }

    /// An attempt to deliver `record` has failed at `now`: what becomes of it.
    pub fn failed(
        &self,
        mut record: NotificationRecord,
        why: &str,
        retry: Retry,
        now: Timestamp,
    ) -> NotificationRecord {
        record.attempts += 1;
        record.problem = Some(shorten(why));
        record.wait_seconds = match retry {
            // A receiver that asks for less gets the usual wait.
            Retry::After(asked) if asked > wait_after(record.attempts) => {
                Some(asked.min(NOTIFICATION_WAIT_MAX).as_secs())
            }
            _ => None,
        };
        if retry != Retry::Never && record.attempts < NOTIFICATION_ATTEMPTS_MAX {
            record.due_at = now.plus(wait_of(&record));
        } else {
            record.given_up = true;
        }
        record
    }
}

/// How long `record` waits after its last attempt.
fn wait_of(record: &NotificationRecord) -> Duration {
    let asked = record.wait_seconds.map(Duration::from_secs);
    asked.map_or_else(|| wait_after(record.attempts), |wait| wait.min(NOTIFICATION_WAIT_MAX))
}

/// How long to wait after so many failed attempts.
fn wait_after(attempts: u32) -> Duration {
    match attempts {
        0 => Duration::ZERO,
        _ => NOTIFICATION_WAIT_MIN
            .saturating_mul(3_u32.saturating_pow(attempts - 1))
            .min(NOTIFICATION_WAIT_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::RunIds;
    use crate::model::notification::Recipient;

    fn record(number: u32, due_at: Timestamp) -> NotificationRecord {
        NotificationRecord {
            run: RunIds::after(None).next(Timestamp::from_millis(1_700_000_000_000), 1),
            number,
            recipient: Recipient::Entry(0),
            attempts: 0,
            due_at,
            wait_seconds: None,
            given_up: false,
            problem: None,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    #[test]
    fn a_failure_is_tried_again_later_and_later_and_then_given_up() {
        let mut outbox = Outbox::default();
        let mut next = record(0, at(0));
        outbox.admit(&mut next);
        let (mut now, mut waits) = (at(0), Vec::new());
        loop {
            outbox.add(next);
            let taken = loop {
                match outbox.take_due(now) {
                    Ok(taken) => break taken,
                    Err(wait) => {
                        let wait = wait.unwrap();
                        waits.push(wait.as_secs());
                        now = now.plus(wait);
                    }
                }
            };
            next = outbox.failed(taken, "no\nanswer", Retry::Usual, now);
            assert_eq!(next.problem.as_deref(), Some("no answer"));
            if next.given_up {
                break;
            }
        }
        assert_eq!(waits, [5, 15, 45, 135, 405, 1215, 3645, 10935, 21600]);
        assert_eq!(next.attempts, NOTIFICATION_ATTEMPTS_MAX);
        assert_eq!(outbox.take_due(at(1 << 40)), Err(None));
        assert!(outbox.awaits(next.run) && outbox.settled(next.run));
        assert!(!outbox.awaits(next.run) && outbox.undelivered_all == 0);
    }

    #[test]
    fn a_clock_that_steps_back_does_not_prolong_a_wait() {
        let mut outbox = Outbox::default();
        let failed = outbox.failed(record(0, at(0)), "x", Retry::Usual, at(100_000));
        outbox.restore(failed);
        assert_eq!(outbox.take_due(at(0)), Err(Some(Duration::from_secs(5))));
        assert!(outbox.take_due(at(5)).is_ok());
    }

    #[test]
    fn waits_of_a_clock_that_was_ahead_do_not_stand_behind_others() {
        let mut outbox = Outbox::default();
        let failed = |seconds| outbox.failed(record(0, at(0)), "x", Retry::Usual, at(seconds));
        let (near, far) = (failed(0), failed(1 << 30));
        outbox.restore(far.clone());
        outbox.restore(NotificationRecord { number: 1, ..near });
        assert_eq!(outbox.take_due(at(1)), Err(Some(Duration::from_secs(4))));
        assert_eq!(outbox.take_due(at(5)).unwrap().number, 1);
        assert_eq!(outbox.take_due(at(6)).unwrap().number, far.number);
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_wait_within_bounds() {
        for (asked, waits) in [(1, 5), (60, 60), (1_000_000, NOTIFICATION_WAIT_MAX.as_secs())] {
            let mut outbox = Outbox::default();
            let retry = Retry::After(Duration::from_secs(asked));
            let failed = outbox.failed(record(0, at(0)), "later", retry, at(100));
            assert!(!failed.given_up);
            outbox.restore(failed);
            assert_eq!(outbox.take_due(at(100)), Err(Some(Duration::from_secs(waits))), "{asked}");
        }
    }

    #[test]
    fn those_due_first_come_first_and_too_many_are_given_up() {
        let mut outbox = Outbox::default();
        for (number, due) in [(0, 7), (1, 3), (2, 5)] {
            outbox.restore(NotificationRecord { attempts: 9, ..record(number, at(due)) });
        }
        let order: Vec<u32> = (0..3).map(|_| outbox.take_due(at(10)).unwrap().number).collect();
        assert_eq!(order, [1, 2, 0]);
        outbox.undelivered_all = NOTIFICATIONS_MAX;
        let mut refused = record(3, at(0));
        outbox.admit(&mut refused);
        assert!(refused.given_up && refused.problem.is_some());
    }
}
