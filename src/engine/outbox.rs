//! The notifications that wait to be delivered: which is due, when the next one is due, and when one
//! is given up. A state machine that takes the time as an argument.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::ids::RunId;
use crate::model::notification::{NotificationRecord, Retry};
use crate::model::run::shorten;

/// Notifications that wait to be delivered. Further ones are given up at once, so that a receiver
/// that is down for long does not fill the disk.
const NOTIFICATIONS_MAX: usize = 100_000;
/// Attempts to deliver a notification. With the waits below they span ten hours, the outage of a
/// night.
const NOTIFICATION_ATTEMPTS_MAX: u32 = 10;
/// The wait after the first failed delivery. Each further wait is three times as long.
const NOTIFICATION_WAIT_MIN: Duration = Duration::from_secs(5);
/// The longest wait between two deliveries.
const NOTIFICATION_WAIT_MAX: Duration = Duration::from_secs(6 * 3600);

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    /// By due time. Run and number make the keys unique.
    waiting: BTreeMap<(Timestamp, RunId, u32), NotificationRecord>,
    /// Notifications of each run that were admitted and neither delivered nor given up.
    undelivered: HashMap<RunId, u32>,
    /// The sum of `undelivered`. At least as many as `waiting`: some are being delivered.
    undelivered_all: usize,
    is_closed: bool,
}

impl Outbox {
    /// Admits `record`, which is about to become durable. It is marked as given up at once when too
    /// many wait already.
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

    /// Whether a notification of `run` is undelivered.
    pub fn awaits(&self, run: RunId) -> bool {
        self.undelivered.contains_key(&run)
    }

    /// Adds an admitted record, which is durable now.
    pub fn add(&mut self, record: NotificationRecord) {
        self.waiting.insert((record.due_at, record.run, record.number), record);
    }

    /// Adds a record that the last server has left undelivered.
    pub fn reload(&mut self, record: NotificationRecord) {
        self.count(record.run);
        self.add(record);
    }

    /// Takes a record that is due at `now`.
    ///
    /// # Errors
    /// The time until one is due; `None` when the outbox is empty.
    pub fn take_due(&mut self, now: Timestamp) -> Result<NotificationRecord, Option<Duration>> {
        self.bring_near(now);
        loop {
            let (_, mut first) = self.waiting.pop_first().ok_or(None)?;
            let (ahead, wait) = (first.due_at.since(now), wait_of(&first));
            if ahead.is_zero() {
                return Ok(first);
            }
            // Further ahead than its wait: the clock has stepped back.
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

    /// Shortens waits beyond [`NOTIFICATION_WAIT_MAX`], which a clock ahead of time has left. They are
    /// last in the order, so [`take_due`](Self::take_due) would find them only when no other waits.
    fn bring_near(&mut self, now: Timestamp) {
        while let Some(last) = self.waiting.last_entry()
            && last.get().due_at.since(now) > NOTIFICATION_WAIT_MAX
        {
            let mut astray = last.remove();
            astray.due_at = now.plus(wait_of(&astray));
            self.add(astray);
        }
    }

    /// Records that were admitted and neither delivered nor given up.
    pub fn undelivered(&self) -> usize {
        self.undelivered_all
    }

    /// Ends the waits of the notifiers.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether deliveries have ended.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Notes that a record of `run` was delivered or given up. Returns whether it was the last one.
    pub fn settled(&mut self, run: RunId) -> bool {
        let Entry::Occupied(mut left) = self.undelivered.entry(run) else { return false };
        debug_assert!(self.undelivered_all > 0, "the sum is less than its parts");
        self.undelivered_all -= 1;
        *left.get_mut() -= 1;
        let is_last = *left.get() == 0;
        if is_last {
            left.remove();
        }
        is_last
    }

    /// The record after a failed delivery at `now`: due again, or given up.
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
            // A receiver may ask for a longer wait than the usual one, not for a shorter one.
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

/// The wait after this many failed attempts.
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
    fn a_failed_delivery_is_repeated_with_growing_waits_and_then_given_up() {
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
        outbox.reload(failed);
        assert_eq!(outbox.take_due(at(0)), Err(Some(Duration::from_secs(5))));
        assert!(outbox.take_due(at(5)).is_ok());
    }

    #[test]
    fn waits_of_a_clock_that_was_ahead_do_not_stand_behind_others() {
        let mut outbox = Outbox::default();
        let failed = |seconds| outbox.failed(record(0, at(0)), "x", Retry::Usual, at(seconds));
        let (near, far) = (failed(0), failed(1 << 30));
        outbox.reload(far.clone());
        outbox.reload(NotificationRecord { number: 1, ..near });
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
            outbox.reload(failed);
            assert_eq!(outbox.take_due(at(100)), Err(Some(Duration::from_secs(waits))), "{asked}");
        }
    }

    #[test]
    fn records_come_by_due_time_and_too_many_are_given_up() {
        let mut outbox = Outbox::default();
        for (number, due) in [(0, 7), (1, 3), (2, 5)] {
            outbox.reload(NotificationRecord { attempts: 9, ..record(number, at(due)) });
        }
        let order: Vec<u32> = (0..3).map(|_| outbox.take_due(at(10)).unwrap().number).collect();
        assert_eq!(order, [1, 2, 0]);
        outbox.undelivered_all = NOTIFICATIONS_MAX;
        let mut refused = record(3, at(0));
        outbox.admit(&mut refused);
        assert!(refused.given_up && refused.problem.is_some());
    }
}
