//! Handing over what has to be told about runs that have ended. A notification becomes durable with
//! the end of its run, and waits in the [`Outbox`] from then on; whoever delivers takes it from
//! there and says how it went.
//!
//! The outbox has a lock of its own. It may be taken while holding `decisions`, never the other way
//! round, and nobody holds it while waiting for anything but it.

use std::sync::MutexGuard;

use crate::domain::change::Change;
use crate::domain::ids::{InstanceId, RunId};
use crate::domain::notification::NotificationRecord;
use crate::domain::run::RunRecord;
use crate::engine::outbox::Outbox;
use crate::engine::{Decisions, Engine};

/// Notifications whose change is on its way to the disk.
#[must_use = "nobody delivers what is not handed over"]
#[derive(Default)]
pub(super) struct Admitted(Vec<NotificationRecord>);

impl Engine {
    /// Sees to the runs whose end is among `changes`, before these are committed: lets in whom they
    /// have to be told, and enters the others into the history. Notifications for which there is no
    /// room are marked as given up.
    pub(super) fn note_ends(
        &self,
        decisions: &mut Decisions,
        changes: &mut Vec<Change>,
    ) -> Admitted {
        let mut admitted = Admitted::default();
        for change in changes.iter_mut() {
            let Change::PutNotification(record) = change else { continue };
            self.outbox().admit(record);
            match record.given_up {
                true => self.given_up(record),
                false => admitted.0.push(record.clone()),
            }
        }
        let mut entries = Vec::new();
        for run in ended_runs(changes) {
            if !admitted.0.iter().any(|record| record.run == run.id) {
                entries.push(decisions.enter_history(run, self.clock.now()));
            }
        }
        changes.extend(entries);
        self.wake_sweeper(decisions);
        admitted
    }

    /// Hands over what has been admitted and is durable now.
    pub(super) fn hand_over(&self, admitted: Admitted) {
        if admitted.0.is_empty() {
            return;
        }
        let mut outbox = self.outbox();
        admitted.0.into_iter().for_each(|record| outbox.add(record));
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
        let is_last = self.outbox().settled(run);
        let record = is_last.then(|| self.storage.run(run)).flatten();
        let mut changes = vec![change];
        let mut decisions = self.decisions();
        if let Some(record) = record {
            changes.push(decisions.enter_history(&record, self.clock.now()));
            self.wake_sweeper(&decisions);
        }
        let ticket = self.storage.commit(changes);
        drop(decisions);
        ticket.wait();
    }

    /// Records that it could not be delivered, and why. `may_retry` when another attempt could end
    /// otherwise.
    pub fn notification_failed(&self, record: NotificationRecord, why: &str, may_retry: bool) {
        let record = self.outbox().failed(record, why, may_retry, self.clock.now());
        let change = Change::PutNotification(record.clone());
        if record.given_up {
            self.commit_settled(record.run, change);
            return self.given_up(&record);
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

    fn given_up(&self, record: &NotificationRecord) {
        self.instruments.notifications_given_up.count();
        let (run, attempts) = (record.run, record.attempts);
        let why = record.problem.as_deref().unwrap_or_default();
        log::warn!(run:%, attempts, why; "a notification is given up");
    }
}

/// The runs whose end is among `changes`.
pub(super) fn ended_runs(changes: &[Change]) -> impl Iterator<Item = &RunRecord> {
    changes.iter().filter_map(|change| match change {
        Change::PutRun(run) if run.ended_at.is_some() => Some(run),
        _ => None,
    })
}
