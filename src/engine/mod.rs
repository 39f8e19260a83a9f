//! The engine ties the queue, the storage and the launcher together. Whoever wants something of
//! them calls a verb here: it decides under a lock, hands the changes to the committer before
//! letting go of it (so that commits happen in the order of decisions), and waits for them to
//! become durable before it answers or starts anything.
//!
//! Locks: `catalog` guards what is configured, `decisions` what runs. Neither is held while
//! waiting for a commit, and nobody takes one while holding the other. The outbox has one of its own
//! ([`notifications`]).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::config::Settings;
use crate::config::secrets::SecretStore;
use crate::model::change::ServerRecord;
use crate::model::clock::Clock;
use crate::model::ids::{FleetId, RunIds, VesselRunId};
use crate::model::random::Random;
use crate::model::share;
use crate::runner::output::LiveOutput;
use crate::runner::stop::StopSignal;
use crate::runner::{Launcher, Unfinished};
use crate::scheduler::{Depth, Queue};
use crate::store::{CommitInstruments, FreeSpace, Storage};

mod backup;
mod catalog;
mod environment;
mod examine;
mod fleets;
mod history;
mod instruments;
mod intake;
mod notifications;
mod outbox;
mod output;
mod overview;
mod pause;
mod recovery;
mod replay;
mod request;
mod retention;
mod runs;
mod shutdown;
mod timer;
mod worker;

pub use backup::Backup;
pub use catalog::{Applied, Denied, ExpectedVersion, FleetView};
pub use history::HistorySize;
pub use instruments::{AttemptEnd, Instruments};
pub use intake::AcceptError;
pub use output::{OutputChunk, OutputReader};
pub use overview::{DiskSpace, Gauges, Load};
pub use recovery::RecoveryError;
pub use replay::ReplayError;
pub use runs::{RunFilter, RunPage, RunView};
pub use worker::{Assignment, HowItWent, Outcome};

use catalog::Catalog;
use history::History;
use outbox::Outbox;
use pause::Launching;

/// What is around the engine and not its to decide. A simulation replaces all of it.
pub struct World {
    pub launcher: Box<dyn Launcher>,
    pub clock: Box<dyn Clock>,
    /// Of run ids and tokens. Other ids order nothing and decide nothing.
    pub random: Box<dyn Random>,
    /// The kernel's id of the time since the machine was booted.
    pub boot_id: String,
    /// Bytes of disk that arriving bodies may still take. They do not count as free.
    pub promised_bytes: Arc<AtomicU64>,
    /// Told why launching is paused when a pause begins or its reason changes, and `None` when it
    /// ends.
    pub on_pause: OnPause,
}

/// See [`World::on_pause`].
pub type OnPause = Box<dyn Fn(Option<&str>) + Send + Sync>;

/// Why something that was asked for is not done. Each message is for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    /// The change was meant for another version.
    #[error("{0}")]
    Stale(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Overloaded(String),
}

/// See the module.
pub struct Engine {
    settings: Arc<Settings>,
    /// The operator's secrets, read whenever a vessel starts.
    secrets: SecretStore,
    /// The directory of output files.
    output_dir: PathBuf,
    storage: Storage,
    space: FreeSpace,
    launcher: Box<dyn Launcher>,
    clock: Box<dyn Clock>,
    random: Box<dyn Random>,
    /// Written at every start; the instance goes to every vessel.
    server: ServerRecord,
    /// The user that vessels run as.
    user: String,
    catalog: RwLock<Catalog>,
    decisions: Mutex<Decisions>,
    /// Attempts under way that are not being recorded.
    at_work: AtomicUsize,
    /// Something can be claimed, or the workers are to end.
    work: Condvar,
    /// The next due time has changed, or the timer is to end.
    retries: Condvar,
    /// A vessel has ended while the server stops.
    idle: Condvar,
    /// Something may have to be removed earlier than the sweeper waits for, or it is to end.
    sweeps: Condvar,
    /// Held while a slice of a large payload, or of a removal, is being committed: an accept waits
    /// for one slice at most, however many bodies arrive.
    slices: Mutex<()>,
    outbox: Mutex<Outbox>,
    /// A notification waits that may be due earlier, or nothing is delivered any more.
    notify: Condvar,
    instruments: Instruments,
    on_pause: OnPause,
    /// What a crashed server may have left running; `None` once it is being ended.
    leftovers: Mutex<Option<Unfinished>>,
    /// Whether notifications wait for its end: a command may be left that delivers one.
    awaits_leftovers: AtomicBool,
}

/// What runs: the queue, and what only this process knows of it.
struct Decisions {
    queue: Queue,
    launching: Launching,
    run_ids: RunIds,
    running: HashMap<VesselRunId, Running>,
    history: History,
    /// What is due is to be reckoned anew.
    sweep_is_due: bool,
    /// The sweeper waits until something is due.
    sweeper_waits: bool,
    phase: Phase,
}

/// An attempt that a worker has claimed.
struct Running {
    attempt: u32,
    stop: Arc<StopSignal>,
    output: Arc<LiveOutput>,
}

/// How far the server has come in stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Nothing is claimed any more; runs are still accepted.
    Draining,
    /// Nothing is accepted any more.
    Closed,
}

impl Engine {
    /// Whether a run can be accepted now.
    ///
    /// # Errors
    /// The reason for which none can.
    pub fn check_room(&self) -> Result<(), AcceptError> {
        if !self.space.is_enough() {
            return Err(AcceptError::DiskFull);
        }
        if !self.storage.is_responsive() {
            return Err(AcceptError::Stalled);
        }
        self.decisions().check_room()
    }

    /// Whether the fleet may have one more run that waits, with a body of `length` bytes, beside those
    /// of others.
    ///
    /// # Errors
    /// The share that it has already.
    pub fn check_share(&self, fleet: FleetId, length: u64) -> Result<(), AcceptError> {
        let left = self.space.left();
        self.decisions().check_share(fleet, length, left)
    }

    /// Whether there is more free disk space than the floor.
    pub fn has_disk_space(&self) -> bool {
        self.space.is_enough()
    }

    /// What it counts and measures.
    pub fn instruments(&self) -> &Instruments {
        &self.instruments
    }

    /// What the committer counts and measures.
    pub fn commit_instruments(&self) -> &CommitInstruments {
        self.storage.commit_instruments()
    }

    /// Whether an empty commit gets through `within`.
    pub fn commits(&self, within: Duration) -> bool {
        self.storage.commits(within)
    }

    /// How full the queue is.
    pub fn depth(&self) -> Depth {
        self.decisions().queue.depth()
    }

    fn decisions(&self) -> MutexGuard<'_, Decisions> {
        self.decisions.lock().unwrap_or_else(|_| poisoned())
    }

    fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(|_| poisoned())
    }

    fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(|_| poisoned())
    }
}

impl Decisions {
    /// Whether one more run may wait.
    fn check_room(&self) -> Result<(), AcceptError> {
        if self.phase == Phase::Closed {
            return Err(AcceptError::Stopping);
        }
        if !self.queue.has_room() {
            return Err(AcceptError::QueueFull);
        }
        Ok(())
    }

    /// Whether the fleet may have one more run, with a body of `length` bytes, while `left` bytes of
    /// the disk are free.
    fn check_share(&self, fleet: FleetId, length: u64, left: u64) -> Result<(), AcceptError> {
        if !self.queue.has_room_for(fleet) {
            return Err(AcceptError::FleetQueueFull);
        }
        if !share::may_hold(self.queue.payload_bytes(fleet), length, left) {
            return Err(AcceptError::FleetDiskFull);
        }
        Ok(())
    }
}

/// A thread has panicked half-way through a decision. What is on disk is whole; what is in memory
/// may not be.
fn poisoned() -> ! {
    crate::os::fatal::stop("a thread has panicked while deciding")
}
