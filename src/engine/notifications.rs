//! Notifications of finished runs. A notification becomes durable with the end of its run and waits in
//! the [`Outbox`] from then on. A notifier takes it from there and reports the result.
//!
//! The outbox has its own lock, which no thread holds while it waits for a commit.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use crate::engine::outbox::Outbox;
use crate::engine::{Decisions, Engine, EngineMetrics, statistics};
use crate::model::change::Change;
use crate::model::ids::{InstanceId, RunId};
use crate::model::notification::{NotificationRecord, Retry};
use crate::model::run::RunRecord;

/// Notifications that the outbox has admitted and whose commit may not be durable yet.
#[must_use = "a notification that is not handed over is not delivered"]
#[derive(Default)]
pub(super) struct AdmittedNotifications(Vec<NotificationRecord>);

impl AdmittedNotifications {
    /// Adds them to the outbox. Their commit is durable, or will be before notifiers start.
    pub(super) fn hand_over(self, outbox: &mut Outbox) {
        self.0.into_iter().for_each(|record| outbox.add(record));
    }
}

impl Engine {
    /// Admits the notifications of the runs that end in `changes`, and appends the history rows of those
    /// that have none and the rows of their events. Called before `changes` are committed. Notifications for which the outbox has no
    /// room are marked as given up.
    pub(super) fn note_ends(
        &self,
        decisions: &mut Decisions,
        changes: &mut Vec<Change>,
    ) -> AdmittedNotifications {
        let mut outbox = self.outbox();
        let admitted = admit(&mut outbox, &self.metrics, changes);
        let entries: Vec<Change> = told_runs(&outbox, changes)
            .map(|run| decisions.enter_history(run, self.clock.now()))
            .collect();
        drop(outbox);
        let closed: Vec<Change> =
            ended_runs(changes).flat_map(|run| decisions.events.close(run)).collect();
        changes.extend(statistics::counts(changes));
        changes.extend(entries);
        changes.extend(closed);
        self.wake_sweeper(decisions);
        admitted
    }

    /// Hands admitted notifications to the notifiers: their commit is durable.
    pub(super) fn hand_over(&self, admitted: AdmittedNotifications) {
        if admitted.0.is_empty() {
            return;
        }
        admitted.hand_over(&mut self.outbox());
        self.notify.notify_all();
    }

    /// The id that every process of this server carries in its environment.
    pub fn instance(&self) -> InstanceId {
        self.server.instance
    }

    /// Waits for a due notification; `None` once the engine is closed.
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

    /// Records that the notification was delivered or is obsolete.
    pub fn notification_delivered(&self, record: &NotificationRecord) {
        let (run, number) = (record.run, record.number);
        self.commit_settled(run, Change::RemoveNotification { run, number });
        self.metrics.notifications_delivered.count();
    }

    /// Commits `change`, which settles one notification of `run`. The last one moves the run into the
    /// history.
    fn commit_settled(&self, run: RunId, change: Change) {
        // The row of a finished run does not change any more.
        let record = self.store.run(run);
        let mut changes = vec![change];
        let mut decisions = self.decisions();
        // Under this lock, so that the commit of the last notification follows those of the others.
        if self.outbox().settled(run) {
            match record {
                Some(record) => {
                    changes.push(decisions.enter_history(&record, self.clock.now()));
                    self.wake_sweeper(&decisions);
                }
                // Without its row the fleet of the run is unknown.
                None => {
                    log::error!(run:%; "the row of a run is damaged, so that retention does not remove it");
                }
            }
        }
        let commit = self.store.commit(changes);
        drop(decisions);
        commit.wait();
    }

    /// Records a failed delivery, and when it is tried again.
    pub fn notification_failed(&self, record: NotificationRecord, why: &str, retry: Retry) {
        let record = self.outbox().failed(record, why, retry, self.clock.now());
        let change = Change::PutNotification(record.clone());
        if record.given_up {
            self.commit_settled(record.run, change);
            return note_given_up(&self.metrics, &record);
        }
        self.store.commit(vec![change]).wait();
        log::info!(run:% = record.run, attempts = record.attempts, why; "a notification could not be delivered yet");
        self.outbox().add(record);
        self.notify.notify_one();
    }

    /// The undelivered notifications of a run.
    pub fn notifications_of(&self, run: RunId) -> Vec<NotificationRecord> {
        self.store.notifications_of(run)
    }

    /// Ends all deliveries.
    pub(super) fn close_outbox(&self) {
        self.outbox().close();
        self.notify.notify_all();
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(|_| super::poisoned())
    }
}

/// Admits the notifications among `changes`. Notifications for which the outbox has no room are marked
/// as given up.
pub(super) fn admit(
    outbox: &mut Outbox,
    metrics: &EngineMetrics,
    changes: &mut [Change],
) -> AdmittedNotifications {
    let mut admitted = AdmittedNotifications::default();
    for change in changes {
        let Change::PutNotification(record) = change else { continue };
        outbox.admit(record);
        match record.given_up {
            true => note_given_up(metrics, record),
            false => admitted.0.push(record.clone()),
        }
    }
    admitted
}

/// The runs that end in `changes` without notifications to deliver.
pub(super) fn told_runs<'a>(
    outbox: &Outbox,
    changes: &'a [Change],
) -> impl Iterator<Item = &'a RunRecord> {
    ended_runs(changes).filter(|run| !outbox.awaits(run.id))
}

fn note_given_up(metrics: &EngineMetrics, record: &NotificationRecord) {
    metrics.notifications_given_up.count();
    let (run, attempts) = (record.run, record.attempts);
    let why = record.problem.as_deref().unwrap_or_default();
    log::warn!(run:%, attempts, why; "a notification is given up");
}

/// The runs that end in `changes`.
pub(super) fn ended_runs(changes: &[Change]) -> impl Iterator<Item = &RunRecord> {
    changes.iter().filter_map(|change| match change {
        Change::PutRun(run) if run.ended_at.is_some() => Some(run),
        _ => None,
    })
}
