//! What a recovery keeps account of: the changes that it has decided upon, and what the engine will
//! know of them without reading.

use crate::engine::Instruments;
use crate::engine::history::History;
use crate::engine::notifications::{admit, ended_runs, told_runs};
use crate::engine::outbox::Outbox;
use crate::engine::recovery::{DISCARDED_PER_COMMIT, RecoveryError};
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::notification::NotificationRecord;
use crate::store::Storage;

/// Where decisions go: into the database, and into what the engine knows without reading it.
pub(super) struct Ledger<'a> {
    pub(super) storage: &'a Storage,
    pub(super) outbox: Outbox,
    pub(super) history: History,
    pub(super) instruments: Instruments,
    /// What is not committed yet.
    pub(super) commit: Vec<Change>,
    pub(super) now: Timestamp,
}

impl Ledger<'_> {
    /// Takes in what belongs together.
    pub(super) fn enter(&mut self, mut changes: Vec<Change>) {
        // Nobody delivers before all of this is durable.
        admit(&mut self.outbox, &self.instruments, &mut changes).hand_over(&mut self.outbox);
        ended_runs(&changes).for_each(|run| self.instruments.ended.count(run.status));
        let ended: Vec<Change> = told_runs(&self.outbox, &changes)
            .map(|run| self.history.enter(run, self.now))
            .collect();
        self.commit.extend(changes);
        self.commit.extend(ended);
    }

    /// Makes durable what was taken in, once it is so many changes.
    pub(super) fn commit_from(&mut self, changes: usize) {
        if self.commit.len() >= changes {
            self.storage.commit(std::mem::take(&mut self.commit)).wait();
        }
    }

    /// Gives up all that is to be told yet. It comes from a backup, and has surely been told by the
    /// server that this was made of.
    pub(super) fn give_up_notifications(&mut self) -> Result<(), RecoveryError> {
        // In the order of their runs.
        let records: Vec<NotificationRecord> =
            self.storage.notifications().collect::<Result<_, _>>()?;
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
            let run = of_run.first().and_then(|record| self.storage.run(record.run));
            if let Some(run) = run {
                self.commit.push(self.history.enter(&run, self.now));
            }
            self.commit_from(DISCARDED_PER_COMMIT);
        }
        self.commit_from(0);
        Ok(())
    }
}
