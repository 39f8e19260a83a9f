//! The engine ties scheduler, store and runner together. Each of its methods decides under a lock,
//! hands the changes to the committer before it releases the lock, so that commits happen in the
//! order of decisions, and waits until they are durable before it returns or starts anything.
//!
//! The order of its locks is in ARCHITECTURE.md.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;

use crate::config::Settings;
use crate::config::secrets::SecretKeeper;
use crate::model::change::ServerRecord;
use crate::model::clock::Clock;
use crate::model::ids::{FleetId, RunId, RunIds, VesselRunId};
use crate::model::random::Random;
use crate::model::share;
use crate::os::alarm::Alarm;
use crate::runner::Launcher;
use crate::runner::output::LiveOutput;
use crate::runner::stop::StopSignal;
use crate::scheduler::{Depth, Queue};
use crate::store::{CommitInstruments, DISK_BYTES_PER_BYTE, FreeSpace, Store};

mod access;
mod attempt;
mod audit;
mod backup;
mod catalog;
mod compute;
mod effects;
mod environment;
mod events;
mod examine;
mod fleet_texts;
mod fleets;
mod handshake;
mod history;
mod intake;
mod ledger;
mod metrics;
mod notifications;
mod outbox;
mod output;
mod overview;
mod pause;
mod preview;
mod queue;
mod recovery;
mod replay;
mod request;
mod retention;
mod runs;
mod schedules;
mod shutdown;
mod standing;
mod statistics;
mod timer;
mod versions;
mod waiting;
mod worker;

pub use attempt::{AttemptOutcome, FinishedAttempt};
pub use audit::AuditFilter;
pub use catalog::{
    AdmitError, Applied, ExpectedVersion, FleetView, NewAccessToken, Reach, WebhookView,
};
pub use environment::{has_variable, search_path};
pub use handshake::HandshakeError;
pub use history::HistorySize;
pub use intake::{AcceptError, PendingRun};
pub use ledger::{DeliveryFilter, DeliveryView, NewDelivery, StoredDeliveries};
pub use metrics::{AttemptEnd, EngineMetrics};
pub use output::OutputChunk;
pub use overview::{Gauges, Load};
pub use preview::{PreviewedRequest, VesselPreview, VesselStart};
pub use queue::WaitView;
pub use recovery::RecoveryError;
pub use replay::ReplayError;
pub use runs::{RUN_IDS_SEARCHED_MAX, RunFilter, RunView};
pub use schedules::{ScheduleView, Upcoming};
pub use standing::FleetStanding;
pub use statistics::Statistics;
pub use versions::VersionPasses;
pub use waiting::{EndedRun, Waiting};
pub use worker::Assignment;

use audit::Audit;
use catalog::Catalog;
use environment::VesselBases;
use events::Events;
use history::History;
use ledger::Ledger;
use outbox::Outbox;
use pause::Launching;
use recovery::Leftovers;
use schedules::Schedules;
use standing::LatestEnds;
use waiting::WaitingSenders;

/// The engine's surroundings. A simulation replaces all of them.
pub struct World {
    pub launcher: Box<dyn Launcher>,
    pub clock: Box<dyn Clock>,
    /// The source of run ids and tokens. Other ids influence no decision.
    pub random: Box<dyn Random>,
    /// The kernel's id of this boot of the machine.
    pub boot_id: String,
    /// Bytes of disk reserved for bodies that are arriving. They do not count as free.
    pub promised_bytes: Arc<AtomicU64>,
    /// Called with the reason when launching pauses or the reason changes, and with `None` when
    /// launching continues.
    pub on_pause: OnPause,
}

/// See [`World::on_pause`].
pub type OnPause = Box<dyn Fn(Option<&str>) + Send + Sync>;

/// Why the engine does not do what a client asked for. Each message is for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    /// The change expects another version of the fleet.
    #[error("{0}")]
    Stale(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Overloaded(String),
    /// What is stored cannot be read.
    #[error("{0}")]
    Damaged(String),
}

/// See the module.
pub struct Engine {
    settings: Arc<Settings>,
    /// Read whenever a vessel starts.
    secrets: Arc<SecretKeeper>,
    /// The directory of output files.
    output_dir: PathBuf,
    store: Store,
    space: FreeSpace,
    launcher: Box<dyn Launcher>,
    clock: Box<dyn Clock>,
    random: Box<dyn Random>,
    /// Stored at every start. Each vessel gets its instance id.
    server: ServerRecord,
    /// The name of the server's own user.
    user: String,
    catalog: RwLock<Catalog>,
    bases: VesselBases,
    schedules: Mutex<Schedules>,
    /// Wakes the thread of the schedules; unset before that runs.
    alarm: OnceLock<Alarm>,
    decisions: Mutex<Decisions>,
    /// Attempts whose programs run.
    attempts_running: AtomicUsize,
    /// Wakes a worker: a vessel can be claimed, or the engine drains.
    work: Condvar,
    /// Wakes the timer: the next due time has changed, or the engine drains.
    retries: Condvar,
    /// Wakes the shutdown: a vessel has ended.
    idle: Condvar,
    /// Wakes the sweeper: a run may be due earlier, or the engine drains.
    sweeps: Condvar,
    /// Held while a slice of a large payload or of a removal is committed: an accept waits for one
    /// slice at most, however many bodies arrive.
    slices: Mutex<()>,
    outbox: Mutex<Outbox>,
    /// Wakes a notifier: a notification may be due earlier, or the outbox is closed.
    notify: Condvar,
    metrics: EngineMetrics,
    ledger: Ledger,
    latest_ends: LatestEnds,
    audit: Audit,
    waiting: Arc<WaitingSenders>,
    on_pause: OnPause,
    /// What a crashed server may have left running; `None` once [`Engine::end_leftovers`] has taken it.
    leftovers: Mutex<Option<Leftovers>>,
    /// Runs that have ended meanwhile; `None` once the leftovers have. What is left of an attempt may
    /// use the work directory of its run.
    deferred_wipes: Mutex<Option<Vec<RunId>>>,
    /// Whether notifications wait until the leftovers have ended: one of them may be a command that
    /// delivers a notification.
    awaits_leftovers: AtomicBool,
}

/// What runs: the queue, and the state of this process that is not stored.
struct Decisions {
    queue: Queue,
    launching: Launching,
    run_ids: RunIds,
    running: HashMap<VesselRunId, Running>,
    /// Workers that wait on `work` and were not woken, or more: one that wakes by itself stays counted.
    workers_asleep: usize,
    history: History,
    events: Events,
    /// The sweeper has to look again.
    sweep_is_due: bool,
    /// The sweeper waits on `sweeps`.
    sweeper_waits: bool,
    phase: Phase,
}

/// An attempt that a worker has claimed.
struct Running {
    attempt: u32,
    /// The signal of its worker; `None` once the end of the attempt is decided.
    stop: Option<Arc<StopSignal>>,
    output: Arc<LiveOutput>,
}

/// The phase of the server, from start to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Workers claim nothing more; runs are still accepted.
    Draining,
    /// No run is accepted any more.
    Closed,
}

impl Engine {
    /// Whether a run can be accepted now.
    ///
    /// # Errors
    /// Why not.
    pub fn check_room(&self) -> Result<(), AcceptError> {
        if !self.space.is_enough() {
            return Err(AcceptError::DiskFull);
        }
        if !self.store.is_responsive() {
            return Err(AcceptError::Stalled);
        }
        self.decisions().check_room()
    }

    /// Whether one more run of the fleet, with a body of `length` bytes, fits into the fleet's shares
    /// of queue and disk.
    ///
    /// # Errors
    /// The share that is used up.
    pub fn check_share(&self, fleet: FleetId, length: u64) -> Result<(), AcceptError> {
        let left = self.space.left();
        self.decisions().check_share(fleet, length.saturating_mul(DISK_BYTES_PER_BYTE), left)
    }

    /// Bytes of disk space above `min_free_bytes` that nothing has been promised of.
    pub fn disk_left(&self) -> u64 {
        self.space.left()
    }

    /// How many senders wait for the end of their runs.
    pub fn waiting_senders(&self) -> usize {
        self.waiting.count()
    }

    /// The metrics of the engine.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.metrics
    }

    /// The metrics of the committer.
    pub fn commit_instruments(&self) -> &CommitInstruments {
        self.store.commit_instruments()
    }

    /// Whether an empty commit is durable `within` this time.
    pub fn commits(&self, within: Duration) -> bool {
        self.store.commits(within)
    }

    /// How full the queue is.
    pub fn depth(&self) -> Depth {
        self.decisions().queue.depth()
    }

    fn decisions(&self) -> MutexGuard<'_, Decisions> {
        self.decisions.lock().unwrap_or_else(|_| poisoned())
    }

    fn schedules(&self) -> MutexGuard<'_, Schedules> {
        self.schedules.lock().unwrap_or_else(|_| poisoned())
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

    /// Whether one more run of the fleet, which takes `bytes` of the disk, fits into the fleet's shares
    /// while `left` bytes of the disk are free.
    fn check_share(&self, fleet: FleetId, bytes: u64, left: u64) -> Result<(), AcceptError> {
        if !self.queue.has_room_for(fleet) {
            return Err(AcceptError::FleetQueueFull);
        }
        if !share::may_hold(self.queue.payload_bytes(fleet), bytes, left) {
            return Err(AcceptError::FleetDiskFull);
        }
        Ok(())
    }
}

/// Ends the process: a thread has panicked while it held a lock. The database is whole; the state in
/// memory may not be.
fn poisoned() -> ! {
    crate::os::fatal::stop("a thread has panicked while deciding")
}
