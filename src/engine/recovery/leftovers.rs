//! The end of what a crashed server has left: its processes, then what its attempts may have left with
//! the engines of their runners, then work directories. Vessels start afterwards.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use crate::engine::Engine;
use crate::model::change::Change;
use crate::model::ids::{RunId, VesselRunId};
use crate::model::run::OutputPlace;
use crate::os::threads;
use crate::runner::Unfinished;
use crate::runner::output::LiveOutput;
use crate::scheduler::Claim;

/// Vessel runs in a row of leftovers: within the bytes of a row.
const LEFTOVERS_PER_ROW: usize = 64;
/// Cleanups at a time. Each is a thread and a process.
const CLEANUPS_MAX: usize = 32;

/// What the last server may have left.
#[derive(Debug, Default)]
pub struct Leftovers {
    pub unfinished: Unfinished,
    /// Runs that start over. Their old work directories go when nothing is left that may use them.
    pub retired: Vec<RunId>,
}

impl Engine {
    /// Starts the thread that ends the leftovers of a crashed server.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn start_recovery(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let engine = Arc::clone(self);
        threads::vital("recovery").spawn(move || engine.end_leftovers())
    }

    /// Ends the leftovers of a crashed server and removes the work directories of finished runs; then
    /// lets vessels start. Leftovers that ignore SIGTERM take the kill grace, and cleanups of runners
    /// their own time. A second call has no effect.
    pub fn end_leftovers(&self) {
        let taken = self.leftovers.lock().unwrap_or_else(|_| crate::engine::poisoned()).take();
        let Some(Leftovers { unfinished, retired }) = taken else { return };
        // 1. Processes, and what attempts have left with engines.
        let ended = self.launcher.end_leftovers(self.server.instance, &unfinished);
        if ended > 0 {
            log::warn!(processes = ended; "ended what a crashed server had left running");
        }
        self.clean_up_interrupted(&unfinished);
        // 2. Work directories, which nothing uses any more.
        retired.iter().for_each(|run| self.launcher.wipe_retired(*run));
        self.launcher.sweep_directories(&|run| {
            self.store.run(run).is_some_and(|run| {
                run.status.is_final() && !self.settings.keep_workdir.keeps(run.status)
            })
        });
        let rows = leftovers_rows(&unfinished).filter_map(|change| match change {
            Change::PutLeftovers { row, .. } => Some(Change::RemoveLeftovers { row }),
            _ => None,
        });
        let rows: Vec<Change> = rows.collect();
        if !rows.is_empty() {
            self.store.commit(rows).wait();
        }
        let deferred = self.deferred_wipes.lock().unwrap_or_else(PoisonError::into_inner).take();
        deferred.iter().flatten().for_each(|run| self.launcher.wipe_directory(*run));
        // 3. Vessels may start, and notifications be delivered.
        let mut decisions = self.decisions();
        decisions.launching.release();
        self.wake_workers(&mut decisions);
        drop(decisions);
        let outbox = self.outbox();
        self.awaits_leftovers.store(false, Ordering::Relaxed);
        self.notify.notify_all();
        drop(outbox);
    }

    /// Whether the work directory of a run that has ended goes later, when the leftovers have ended.
    pub(in crate::engine) fn defers_wipe(&self, run: RunId) -> bool {
        let mut deferred = self.deferred_wipes.lock().unwrap_or_else(PoisonError::into_inner);
        deferred.as_mut().map(|runs| runs.push(run)).is_some()
    }

    /// Runs the cleanups of the attempts that the last server was running. Those of other attempts
    /// have run.
    fn clean_up_interrupted(&self, unfinished: &Unfinished) {
        let mut vessel_runs: Vec<VesselRunId> = unfinished.vessel_runs.iter().copied().collect();
        vessel_runs.sort_unstable();
        let attempts = vessel_runs.into_iter().filter_map(|it| self.interrupted_attempt(it));
        let attempts: Vec<(Claim, OutputPlace)> = attempts.collect();
        for some in attempts.chunks(CLEANUPS_MAX) {
            std::thread::scope(|scope| {
                for (claim, place) in some {
                    let cleanup = || self.clean_up_attempt(claim, *place);
                    let started = threads::vital("cleanup").spawn_scoped(scope, cleanup);
                    if started.is_err() {
                        // Without a thread for it, this one does it.
                        self.clean_up_attempt(claim, *place);
                    }
                }
            });
        }
    }

    /// The interrupted attempt of a vessel whose runner has a cleanup, and where its output is.
    fn interrupted_attempt(&self, vessel_run: VesselRunId) -> Option<(Claim, OutputPlace)> {
        let run = self.store.run(vessel_run.run())?;
        let version = self.version_of(&run)?;
        let record = self.store.vessel_run(vessel_run).filter(|record| record.attempt > 0)?;
        let vessel = vessel_run.vessel()?;
        let definition = version.definition.vessels.get(vessel)?;
        let runner = self.settings.runners.of(&version.definition, definition);
        let unknown = runner.as_ref().err().map(ToString::to_string);
        if let Some(reason) = unknown {
            log::warn!(vessel_run:%, reason; "an interrupted attempt is not cleaned up");
        }
        runner.ok().flatten().filter(|runner| !runner.cleanup.is_empty())?;
        let place = record.output.place;
        let claim = Claim {
            run,
            version,
            vessel,
            vessel_run,
            attempt: record.attempt,
            scheduled_at: record.scheduled_at,
            started_at: record.started_at.unwrap_or(record.scheduled_at),
            expects_directory: false,
            is_resumed: true,
            notice: None,
        };
        Some((claim, place))
    }

    fn clean_up_attempt(&self, claim: &Claim, place: OutputPlace) {
        let output = LiveOutput::default();
        // Output in the database is complete. The next attempt's log tells of its own cleanup.
        if place != OutputPlace::Rows {
            let bytes_max = self.settings.max_output_bytes;
            let resumed =
                output.resume(&self.output_dir, claim.vessel_run, claim.attempt, bytes_max);
            if let Err(error) = resumed {
                log::warn!(vessel_run:% = claim.vessel_run, error:%; "the output of a cleanup is lost");
            }
        }
        self.clean_up(claim, &output);
        if place != OutputPlace::Rows {
            output.keep();
        }
    }
}

/// The rows that name the vessel runs whose processes may be left.
pub(super) fn leftovers_rows(unfinished: &Unfinished) -> impl Iterator<Item = Change> {
    let mut vessel_runs: Vec<VesselRunId> = unfinished.vessel_runs.iter().copied().collect();
    vessel_runs.sort_unstable();
    let rows: Vec<Vec<VesselRunId>> =
        vessel_runs.chunks(LEFTOVERS_PER_ROW).map(<[_]>::to_vec).collect();
    (0..).zip(rows).map(|(row, vessel_runs)| Change::PutLeftovers { row, vessel_runs })
}
