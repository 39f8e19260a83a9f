//! The changes that a recovery commits, and the state that the engine derives from them.

use crate::engine::EngineMetrics;
use crate::engine::events::Events;
use crate::engine::history::History;
use crate::engine::notifications::{admit, ended_runs, told_runs};
use crate::engine::outbox::Outbox;
use crate::engine::recovery::{DISCARDED_PER_COMMIT, RecoveryError};
use crate::engine::statistics;
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::notification::NotificationRecord;
use crate::store::Store;

/// Gathers decided changes into commits and keeps outbox, history, events and metrics in step with them.
pub(super) struct RecoveryBatch<'a> {
    pub(super) store: &'a Store,
    pub(super) outbox: Outbox,
    pub(super) history: History,
    pub(super) events: Events,
    pub(super) metrics: EngineMetrics,
    /// Changes that are not committed yet.
    pub(super) commit: Vec<Change>,
    pub(super) now: Timestamp,
}

impl RecoveryBatch<'_> {
    /// Adds the changes of one commit.
    pub(super) fn enter(&mut self, mut changes: Vec<Change>) {
        // Notifiers start after the recovery, when all of this is durable.
        admit(&mut self.outbox, &self.metrics, &mut changes).hand_over(&mut self.outbox);
        ended_runs(&changes).for_each(|run| self.metrics.ended.count(run.status));
        let ended: Vec<Change> = told_runs(&self.outbox, &changes)
            .map(|run| self.history.enter(run, self.now))
            .collect();
        let closed: Vec<Change> =
            ended_runs(&changes).flat_map(|run| self.events.close(run)).collect();
        self.commit.extend(statistics::counts(&changes));
        self.commit.extend(changes);
        self.commit.extend(ended);
        self.commit.extend(closed);
    }

    /// Commits and waits, if there are at least this many changes.
    pub(super) fn commit_from(&mut self, changes: usize) {
        if self.commit.len() >= changes {
            self.store.commit(std::mem::take(&mut self.commit)).wait();
        }
    }

    /// Gives up all notifications of a backup. The server of which the backup was made has delivered
    /// them.
    pub(super) fn give_up_notifications(&mut self) -> Result<(), RecoveryError> {
        // Ordered by run.
        let records: Vec<NotificationRecord> =
            self.store.notifications().collect::<Result<_, _>>()?;
        for of_run in records.chunk_by(|one, next| one.run == next.run) {
            self.commit.extend(of_run.iter().map(|record| {
                let problem = "restored from a backup; it may have been delivered".to_owned();
                let problem = Some(problem);
                Change::PutNotification(NotificationRecord {
                    given_up: true,
                    problem,
                    ..record.clone()
                })
            }));
            let run = of_run.first().and_then(|record| self.store.run(record.run));
            if let Some(run) = run {
                self.commit.push(self.history.enter(&run, self.now));
            }
            self.commit_from(DISCARDED_PER_COMMIT);
        }
        self.commit_from(0);
        Ok(())
    }
}
