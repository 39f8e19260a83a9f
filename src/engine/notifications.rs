//! Handing over what has to be told about runs that have ended. A notification becomes durable with
//! the end of its run, and waits in the [`Outbox`] from then on; whoever delivers takes it from
//! there and says how it went.
//!
//! The outbox has a lock of its own. It may be taken while holding `decisions`, never the other way
//! round, and nobody holds it while waiting for anything but it.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use crate::engine::outbox::Outbox;
use crate::engine::{Decisions, Engine, Instruments};
use crate::model::change::Change;
use crate::model::ids::{InstanceId, RunId};
use crate::model::notification::{NotificationRecord, Retry};
use crate::model::run::RunRecord;

/// Notifications whose change is on its way to the disk.
#[must_use = "nobody delivers what is not handed over"]
#[derive(Default)]
pub(super) struct Admitted(Vec<NotificationRecord>);

impl Admitted {
    /// Hands over what is durable now, or will be before anybody delivers.
    pub(super) fn hand_over(self, outbox: &mut Outbox) {
        self.0.into_iter().for_each(|record| outbox.add(record));
    }
}

impl Engine {
    /// Sees to the runs whose end is among `changes`, before these are committed: lets in whom they
    /// have to be told, and enters the others into the history. Notifications for which there is no
    /// room are marked as given up.
    pub(super) fn note_ends(
        &self,
        decisions: &mut Decisions,
        changes: &mut Vec<Change>,
    ) -> Admitted {
        let mut outbox = self.outbox();
        let admitted = admit(&mut outbox, &self.instruments, changes);
        let entries: Vec<Change> = told_runs(&outbox, changes)
            .map(|run| decisions.enter_history(run, self.clock.now()))
            .collect();
        drop(outbox);
        changes.extend(entries);
        self.wake_sweeper(decisions);
        admitted
    }

    /// Hands over what has been admitted and is durable now.
    pub(super) fn hand_over(&self, admitted: Admitted) {
        if admitted.0.is_empty() {
            return;
        }
        admitted.hand_over(&mut self.outbox());
        self.notify.notify_all();
    }

    /// What every process that this server starts carries in its environment.
    pub fn instance(&self) -> InstanceId {
        self.server.instance
    }

    /// Waits for a notification that is due; `None` once the engine is closed.
    pub fn next_notification(&self) -> Option<NotificationRecord> {
        let mut outbox = self.outbox();
        while !outbox.is_closed() {
            if self.awaits_leftovers.load(Ordering::Relaxed) {
                outbox = self.notify.wait(outbox).unwrap_or_else(|_| super::poisoned());
                continue;
            }
            outbox = match outbox.take_due(self.clock.now()) {
                Ok(record) => return Some(record),
                Err(Some(wait)) => {
                    let waited = self.notify.wait_timeout(outbox, wait);
                    waited.unwrap_or_else(|_| super::poisoned()).0
                }
                Err(None) => self.notify.wait(outbox).unwrap_or_else(|_| super::poisoned()),
            };
        }
        None
    }

    /// Records that it was delivered, or that there is nothing left to tell.
    pub fn notification_delivered(&self, record: &NotificationRecord) {
        let (run, number) = (record.run, record.number);
        self.commit_settled(run, Change::RemoveNotification { run, number });
        self.instruments.notifications_delivered.count();
    }

    /// Commits `change`, by which one of the notifications of `run` is settled. With the last of
    /// them the run becomes history.
    fn commit_settled(&self, run: RunId, change: Change) {
        // It has ended: its row changes no more.
        let record = self.storage.run(run);
        let mut changes = vec![change];
        let mut decisions = self.decisions();
        // Under this lock: whoever settles the last must not commit before who settles another one.
        if self.outbox().settled(run)
            && let Some(record) = record
        {
            changes.push(decisions.enter_history(&record, self.clock.now()));
            self.wake_sweeper(&decisions);
        }
        let ticket = self.storage.commit(changes);
        drop(decisions);
        ticket.wait();
    }

    /// Records that it could not be delivered, why, and whether it is tried again.
    pub fn notification_failed(&self, record: NotificationRecord, why: &str, retry: Retry) {
        let record = self.outbox().failed(record, why, retry, self.clock.now());
        let change = Change::PutNotification(record.clone());
        if record.given_up {
            self.commit_settled(record.run, change);
            return note_given_up(&self.instruments, &record);
        }
        self.storage.commit(vec![change]).wait();
        log::info!(run:% = record.run, attempts = record.attempts, why; "a notification could not be delivered yet");
        self.outbox().add(record);
        self.notify.notify_one();
    }

    /// What of a run's end has not been told.
    pub fn notifications_of(&self, run: RunId) -> Vec<NotificationRecord> {
        self.storage.notifications_of(run)
    }

    /// Nothing is delivered any more.
    pub(super) fn close_outbox(&self) {
        self.outbox().close();
        self.notify.notify_all();
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(|_| super::poisoned())
    }
}

/// Lets in whom the ends among `changes` have to be told. For whom there is no room is marked as
/// given up.
pub(super) fn admit(
    outbox: &mut Outbox,
    instruments: &Instruments,
    changes: &mut [Change],
) -> Admitted {
    let mut admitted = Admitted::default();
    for change in changes {
        let Change::PutNotification(record) = change else { continue };
        outbox.admit(record);
        match record.given_up {
            true => note_given_up(instruments, record),
            false => admitted.0.push(record.clone()),
        }
    }
    admitted
}

/// The runs whose end is among `changes` and has to be told nobody.
pub(super) fn told_runs<'a>(
    outbox: &Outbox,
    changes: &'a [Change],
) -> impl Iterator<Item = &'a RunRecord> {
    ended_runs(changes).filter(|run| !outbox.awaits(run.id))
}

fn note_given_up(instruments: &Instruments, record: &NotificationRecord) {
    instruments.notifications_given_up.count();
    let (run, attempts) = (record.run, record.attempts);
    let why = record.problem.as_deref().unwrap_or_default();
    log::warn!(run:%, attempts, why; "a notification is given up");
}

/// The runs whose end is among `changes`.
pub(super) fn ended_runs(changes: &[Change]) -> impl Iterator<Item = &RunRecord> {
    changes.iter().filter_map(|change| match change {
        Change::PutRun(run) if run.ended_at.is_some() => Some(run),
        _ => None,
    })
}
