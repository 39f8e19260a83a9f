//! Carrying out what the queue has decided: its changes are made durable, and what follows them happens
//! after that.

use crate::engine::notifications::AdmittedNotifications;
use crate::engine::{Decisions, Engine};
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::VesselRunId;
use crate::model::run::RunRecord;
use crate::runner::stop::Stop;
use crate::scheduler::Effects;
use crate::store::PendingCommit;

/// Effects on their way to the disk.
#[must_use = "effects are complete only when they are durable"]
pub(super) struct PendingEffects {
    commit: Option<PendingCommit>,
    signal: Vec<VesselRunId>,
    ended: Vec<RunRecord>,
    notifications: AdmittedNotifications,
}

impl PendingEffects {
    /// Nothing but a commit to wait for.
    pub(super) fn of_commit(commit: PendingCommit) -> Self {
        let notifications = AdmittedNotifications::default();
        Self { commit: Some(commit), signal: Vec::new(), ended: Vec::new(), notifications }
    }
}

impl Engine {
    /// Hands the changes of `effects`, and those in `more` after them, to the committer.
    pub(super) fn commit_effects(
        &self,
        decisions: &mut Decisions,
        effects: Effects,
        more: impl IntoIterator<Item = Change>,
    ) -> PendingEffects {
        let Effects { mut changes, signal, ended } = effects;
        changes.extend(more);
        let notifications = self.note_ends(decisions, &mut changes);
        let is_decided = !changes.is_empty() || !signal.is_empty();
        let commit = is_decided.then(|| self.store.commit(changes));
        PendingEffects { commit, signal, ended, notifications }
    }

    /// Waits until the effects are durable, and does what follows them.
    pub(super) fn complete(&self, pending: PendingEffects) {
        let PendingEffects { commit, signal, ended, notifications } = pending;
        if let Some(commit) = commit {
            commit.wait();
        }
        // A crash from here on cannot take a stop back. A vessel whose end was decided meanwhile has no
        // signal any more.
        if !signal.is_empty() {
            let decisions = self.decisions();
            for running in signal.iter().filter_map(|id| decisions.running.get(id)) {
                if let Some(stop) = &running.stop {
                    stop.raise(Stop::Requested);
                }
            }
        }
        self.hand_over(notifications);
        for ended in &ended {
            match ended.started_at {
                Some(_) => self.run_ended(ended),
                // A run that never started has no directory.
                None => self.note_end(ended),
            }
        }
    }

    /// Wakes the timer if what is due next has changed since it was `before`.
    pub(super) fn wake_timer(&self, decisions: &Decisions, before: Option<Timestamp>) {
        if decisions.queue.next_due() != before {
            self.retries.notify_one();
        }
    }
}
