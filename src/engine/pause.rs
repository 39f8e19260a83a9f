//! The pause of launching while the machine lacks something that a start needs: disk space,
//! descriptors, processes, memory. Runs wait as they would for a free worker. The pause counts against
//! no run and is not stored.
//!
//! The first worker whose start fails for that reason begins the pause; every such worker undoes its
//! claim. The timer makes trial starts, without a vessel, until one succeeds.

use std::time::{Duration, Instant};

use crate::engine::worker::Assignment;
use crate::engine::{Decisions, Engine};
use crate::model::run::shorten;

/// The first pause of launching. Each further pause is twice as long, until a vessel starts.
const LAUNCH_PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause of launching.
const LAUNCH_PAUSE_MAX: Duration = Duration::from_secs(10);

/// A pause of launching.
#[derive(Debug)]
pub(super) struct Pause {
    /// What the machine lacks; text for a person.
    reason: String,
    /// Bytes that the largest of the postponed work directories needs.
    bytes: u64,
    /// When the next trial start is due.
    check_at: Instant,
    /// The undone start that began the pause is durable. Before that the run shows as running.
    is_durable: bool,
}

/// Whether vessels are started.
#[derive(Debug, Default)]
pub(super) struct Launching {
    pause: Option<Pause>,
    /// The wait before the last trial start; zero after a vessel has started.
    wait: Duration,
    /// Leftovers of a crashed server are being ended.
    awaits_leftovers: bool,
}

impl Launching {
    /// With `awaits_leftovers`, no vessel starts before [`release`](Self::release).
    pub fn new(awaits_leftovers: bool) -> Self {
        Self { awaits_leftovers, ..Self::default() }
    }

    /// The pause, for readers.
    fn shown(&self) -> Option<&Pause> {
        self.pause.as_ref().filter(|pause| pause.is_durable)
    }

    /// Why launching is paused, for readers.
    pub fn shown_reason(&self) -> Option<&str> {
        self.shown().map(|pause| pause.reason.as_str())
    }

    /// Whether no vessel may be claimed.
    pub fn is_held(&self) -> bool {
        self.pause.is_some() || self.awaits_leftovers
    }

    /// Leftovers have ended.
    pub fn release(&mut self) {
        self.awaits_leftovers = false;
    }

    pub fn check_at(&self) -> Option<Instant> {
        self.pause.as_ref().map(|pause| pause.check_at)
    }

    /// A vessel has started: the next shortage begins with a short pause.
    pub fn started(&mut self) {
        self.wait = Duration::ZERO;
    }

    /// The time of the next trial start. Each wait is twice as long as the one before.
    fn next_check(&mut self) -> Instant {
        self.wait = (self.wait * 2).clamp(LAUNCH_PAUSE_MIN, LAUNCH_PAUSE_MAX);
        Instant::now() + self.wait
    }

    /// Begins a pause, or extends the present one. Returns whether it is new.
    fn pause(&mut self, reason: String, bytes: u64) -> bool {
        if let Some(pause) = &mut self.pause {
            pause.bytes = pause.bytes.max(bytes);
            return false;
        }
        let check_at = self.next_check();
        self.pause = Some(Pause { reason, bytes, check_at, is_durable: false });
        true
    }
}

impl Engine {
    /// Whether launching is paused.
    pub fn is_paused(&self) -> bool {
        self.decisions().launching.shown().is_some()
    }

    /// Why launching is paused, for a person; `None` while it is not.
    pub fn paused_because(&self) -> Option<String> {
        self.decisions().launching.shown_reason().map(str::to_owned)
    }

    /// The reason shown for a waiting run while launching is paused.
    pub(super) fn waiting_because(&self) -> Option<String> {
        let paused = self.paused_because()?;
        Some(shorten(&format!("waits because launching is paused: {paused}")))
    }

    /// Undoes the claim of a vessel that could not start because the machine lacks what `reason` says,
    /// and begins a pause. False when the caller has to settle the attempt instead.
    pub(super) fn postpone(&self, assignment: &Assignment, reason: &str) -> bool {
        let claim = assignment.claim();
        let mut decisions = self.decisions();
        let Some(postponed) = decisions.queue.postpone(claim.vessel_run) else { return false };
        decisions.take_stop_signal(claim.vessel_run);
        let is_new = decisions.launching.pause(reason.to_owned(), claim.run.payload.body_bytes);
        let commit = self.store.commit(postponed.changes);
        self.retries.notify_one();
        drop(decisions);
        commit.wait();
        if let Some(pause) = &mut self.decisions().launching.pause {
            pause.is_durable = true;
        }
        self.release(assignment);
        if postponed.is_waiting {
            // A partial directory takes up space.
            self.launcher.wipe_directory(claim.run.id);
        }
        if is_new {
            log::warn!(reason; "launching is paused, runs wait: the machine lacks something that a start needs");
            (self.on_pause)(Some(reason));
        }
        true
    }

    /// Makes a trial start, and ends the pause if it succeeds.
    pub fn check_machine(&self) {
        let bytes = self.decisions().launching.pause.as_ref().map(|pause| pause.bytes);
        let Some(bytes) = bytes else { return };
        let shortage = self.launcher.shortage(bytes);
        let mut decisions = self.decisions();
        let Decisions { launching, .. } = &mut *decisions;
        let check_at = launching.next_check();
        match (shortage, &mut launching.pause) {
            (Some(reason), Some(pause)) => {
                let is_other = pause.reason != reason;
                pause.reason.clone_from(&reason);
                pause.check_at = check_at;
                drop(decisions);
                if is_other {
                    (self.on_pause)(Some(&reason));
                }
            }
            (None, Some(_)) => {
                launching.pause = None;
                self.wake_workers(&mut decisions);
                drop(decisions);
                log::info!("launching goes on: the machine lacks nothing any more");
                (self.on_pause)(None);
            }
            (_, None) => {}
        }
    }
}
