//! The pause of launching while the machine lacks what a start takes: room for work directories,
//! descriptors, processes, memory. Runs wait meanwhile as they would for a free worker; nothing is
//! counted against them, and nothing is written to the database until the machine has it again.
//!
//! The first worker whose start fails so begins the pause, all of them undo their claims. The timer
//! tries a start out, without a vessel, until that works.

use std::time::{Duration, Instant};

use crate::engine::worker::Assignment;
use crate::engine::{Decisions, Engine, Phase};
use crate::model::limits::{LAUNCH_PAUSE_MAX, LAUNCH_PAUSE_MIN};
use crate::model::run::shorten;

/// A pause of launching.
#[derive(Debug)]
pub(super) struct Pause {
    /// What the machine lacks, for a person.
    reason: String,
    /// Bytes that the work directory takes whose vessel could not be started.
    bytes: u64,
    /// When a start is tried out.
    check_at: Instant,
}

/// Whether vessels are started.
#[derive(Debug, Default)]
pub(super) struct Launching {
    pause: Option<Pause>,
    /// How long the next wait for a trial takes; zero after a vessel has started.
    wait: Duration,
    /// What a crashed server has left running is being ended.
    awaits_leftovers: bool,
}

impl Launching {
    /// Not before leftovers have ended, where `awaits_leftovers`.
    pub fn new(awaits_leftovers: bool) -> Self {
        Self { awaits_leftovers, ..Self::default() }
    }

    pub fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Whether no vessel may be claimed.
    pub fn is_held(&self) -> bool {
        self.is_paused() || self.awaits_leftovers
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

    /// When the next trial is due. Each wait is twice as long as the one before.
    fn next_check(&mut self) -> Instant {
        self.wait = (self.wait * 2).clamp(LAUNCH_PAUSE_MIN, LAUNCH_PAUSE_MAX);
        Instant::now() + self.wait
    }

    /// Begins a pause, or adds to the one there is. Returns whether it is new.
    fn pause(&mut self, reason: String, bytes: u64) -> bool {
        if let Some(pause) = &mut self.pause {
            pause.bytes = pause.bytes.max(bytes);
            return false;
        }
        let check_at = self.next_check();
        self.pause = Some(Pause { reason, bytes, check_at });
        true
    }
}

impl Engine {
    /// Whether no vessel is started because the machine lacks what a start takes.
    pub fn is_paused(&self) -> bool {
        self.decisions().launching.is_paused()
    }

    /// Why no vessel is started at the moment, for a person; `None` while they are.
    pub fn paused_because(&self) -> Option<String> {
        self.decisions().launching.pause.as_ref().map(|pause| pause.reason.clone())
    }

    /// What a run that waits to start waits for besides its turn.
    pub(super) fn waiting_because(&self) -> Option<String> {
        let paused = self.paused_because()?;
        Some(shorten(&format!("waits, for launching is paused: {paused}")))
    }

    /// Undoes the claim of a vessel that could not be started because the machine lacks what
    /// `reason` says, and begins a pause. False when the vessel is to be settled instead.
    pub(super) fn postpone(&self, assignment: &Assignment, reason: &str) -> bool {
        let claim = assignment.claim();
        let mut decisions = self.decisions();
        let Some(postponed) = decisions.queue.postpone(claim.vessel_run) else { return false };
        let is_new = decisions.launching.pause(reason.to_owned(), claim.run.payload.body_bytes);
        let ticket = self.storage.commit(postponed.changes);
        self.retries.notify_one();
        drop(decisions);
        ticket.wait();
        self.release(assignment);
        if postponed.is_waiting {
            // What there is of its directory takes up room.
            self.launcher.wipe_directory(claim.run.id);
        }
        if is_new {
            log::warn!(reason; "launching is paused, runs wait: the machine lacks what a start takes");
            (self.on_pause)(Some(reason));
        }
        true
    }

    /// Tries a start out, and ends the pause when that works: what the timer does when it is time.
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
                if decisions.phase == Phase::Serving {
                    self.work.notify_all();
                }
                drop(decisions);
                log::info!("launching goes on: the machine has what a start takes");
                (self.on_pause)(None);
            }
            (_, None) => {}
        }
    }
}
