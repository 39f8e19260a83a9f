//! The committer: the one thread that commits. It commits a group of requests as a whole, and then
//! wakes the threads that wait for them. If no request of a group is urgent, it first waits a moment
//! for others to share the commit. Every error ends the process: after a failed sync the state of the
//! disk is unknown, and the next start reads it.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::model::change::Change;
use crate::model::limits::SLICE_BYTES;
use crate::model::metrics::{Histogram, LATENCY_BOUNDS};
use crate::os::fatal;
use crate::os::threads;
use crate::store::backup::change_log::ChangeLog;
use crate::store::commit_queue::CommitQueue;
use crate::store::faults::Faults;
use crate::store::sled::database::Database;
use crate::store::statistics;
use crate::store::tables::Rows;

/// Requests that wait for the committer: more than handlers and workers on most machines. A thread
/// that finds the queue full waits.
const COMMIT_QUEUE_MAX: usize = 1024;
/// The fewest and the most delayed requests that are enough for a commit, as PostgreSQL's
/// `commit_siblings`. A sync costs the same whatever it covers, and of short vessels only two meet by
/// themselves. The rest of the workers are at work meanwhile.
const COMMIT_SIBLINGS: RangeInclusive<usize> = 4..=8;
/// Longest wait for siblings, as PostgreSQL's `commit_delay`. Twice the duration of the last commit
/// bounds it, too: where commits are fast, sharing one saves little.
const COMMIT_DELAY_MAX: Duration = Duration::from_millis(2);
/// A commit that takes longer has hung. A full disk can do that to sled.
const COMMIT_STALL_MAX: Duration = Duration::from_secs(30);

/// Changes for the committer, and the waiting thread's latch.
struct CommitRequest {
    changes: Vec<Change>,
    urgency: Urgency,
    completion: Completion,
}

impl CommitRequest {
    /// The request, and the latch to wait on.
    fn new(changes: Vec<Change>, urgency: Urgency) -> (Self, Arc<Latch>) {
        let done = Arc::new(Latch::new());
        (Self { changes, urgency, completion: Completion(Arc::clone(&done)) }, done)
    }
}

/// When a request is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// At once.
    Urgent,
    /// Together with so many in all, with an urgent one, or after the delay.
    Delayed { siblings: usize },
}

impl Urgency {
    /// The urgency of a request while so many threads may send others, its own included: of a commit
    /// for half of them the other half does not have to wait.
    fn among(senders: usize) -> Self {
        let (fewest, most) = COMMIT_SIBLINGS.into_inner();
        match senders >= fewest {
            true => Self::Delayed { siblings: (senders / 2).clamp(fewest, most) },
            false => Self::Urgent,
        }
    }
}

/// The measurements of the committer.
#[derive(Debug)]
pub struct CommitInstruments {
    /// Time from a commit's first request until all of it is durable, with the wait for siblings.
    pub duration: Histogram,
    /// Requests per commit.
    pub group: Histogram,
}

impl Default for CommitInstruments {
    fn default() -> Self {
        Self {
            duration: Histogram::of_durations(&LATENCY_BOUNDS),
            group: Histogram::of_counts(&[1, 2, 4, 8, 16, 32, 64, 128, 256, 512]),
        }
    }
}

/// The state of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommitOutcome {
    Pending,
    Durable,
    /// The committer has ended without committing it.
    Lost,
}

/// Opens once. A channel would spin before it sleeps, and take the processor from the committer.
struct Latch {
    state: Mutex<LatchState>,
    decided: Condvar,
}

struct LatchState {
    outcome: CommitOutcome,
    /// A thread waits. Without one, a wake-up would be a system call for nothing.
    is_awaited: bool,
}

impl Latch {
    fn new() -> Self {
        let state = LatchState { outcome: CommitOutcome::Pending, is_awaited: false };
        Self { state: Mutex::new(state), decided: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, LatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the outcome, unless it is set.
    fn decide(&self, outcome: CommitOutcome) {
        let mut state = self.state();
        if state.outcome != CommitOutcome::Pending {
            return;
        }
        state.outcome = outcome;
        let is_awaited = state.is_awaited;
        // The thread that wakes takes the lock.
        drop(state);
        if is_awaited {
            self.decided.notify_one();
        }
    }

    /// The outcome, after a wait of up to `timeout` while it is pending. One thread waits.
    fn wait(&self, timeout: Duration) -> CommitOutcome {
        let mut state = self.state();
        state.is_awaited = true;
        let is_pending = |state: &mut LatchState| state.outcome == CommitOutcome::Pending;
        let waited = self.decided.wait_timeout_while(state, timeout, is_pending);
        waited.unwrap_or_else(PoisonError::into_inner).0.outcome
    }
}

/// The committer's end of a latch. Its drop tells the waiting thread that the commit is lost.
struct Completion(Arc<Latch>);

impl Drop for Completion {
    fn drop(&mut self) {
        self.0.decide(CommitOutcome::Lost);
    }
}

/// A commit that may be pending.
#[must_use = "the changes are durable only once this has been waited for"]
pub struct PendingCommit {
    done: Arc<Latch>,
    progress: Arc<WriteProgress>,
}

/// Sends changes to the committer.
pub struct Committer {
    requests: Arc<CommitQueue<CommitRequest>>,
    progress: Arc<WriteProgress>,
    instruments: Arc<CommitInstruments>,
    change_log: Arc<ChangeLog>,
}

/// When the write under way began. The threads that wait for it notice a hang, so that the server needs
/// no thread for that.
struct WriteProgress {
    origin: Instant,
    /// Milliseconds after `origin`, plus one. 0 between writes.
    began_millis: AtomicU64,
}

impl WriteProgress {
    fn begin(&self) {
        let millis = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.began_millis.store(millis + 1, Ordering::Release);
    }

    fn end(&self) {
        self.began_millis.store(0, Ordering::Release);
    }

    fn is_writing(&self) -> bool {
        self.began_millis.load(Ordering::Acquire) != 0
    }

    /// Duration of the write under way so far.
    fn elapsed(&self) -> Duration {
        match self.began_millis.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            began => self.origin.elapsed().saturating_sub(Duration::from_millis(began - 1)),
        }
    }
}

impl PendingCommit {
    /// Returns once the changes are durable. Ends the process when the commit is lost or hangs.
    pub fn wait(self) {
        loop {
            match self.done.wait(COMMIT_STALL_MAX) {
                CommitOutcome::Durable => return,
                CommitOutcome::Lost => fatal::stop("the committer has ended"),
                CommitOutcome::Pending if self.progress.elapsed() >= COMMIT_STALL_MAX => {
                    fatal::stop(&format!(
                        "a commit has taken over {} s: is the disk full or failing?",
                        COMMIT_STALL_MAX.as_secs()
                    ));
                }
                CommitOutcome::Pending => {}
            }
        }
    }
}

impl Committer {
    /// Starts the committer on `database`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        database: Arc<Database>,
        faults: Box<dyn Faults>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        Self::start_with(database, faults, COMMIT_DELAY_MAX)
    }

    /// The same with another longest wait for siblings.
    fn start_with(
        database: Arc<Database>,
        faults: Box<dyn Faults>,
        delay_max: Duration,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let requests = Arc::new(CommitQueue::new(COMMIT_QUEUE_MAX));
        let progress =
            Arc::new(WriteProgress { origin: Instant::now(), began_millis: AtomicU64::new(0) });
        let instruments = Arc::new(CommitInstruments::default());
        let change_log = Arc::<ChangeLog>::default();
        let mut work = CommitLoop {
            database,
            requests: Arc::clone(&requests),
            progress: Arc::clone(&progress),
            instruments: Arc::clone(&instruments),
            change_log: Arc::clone(&change_log),
            faults,
            delay_max,
            last_commit: delay_max,
        };
        let thread = threads::vital("committer").spawn(move || work.run())?;
        Ok((Self { requests, progress, instruments, change_log }, thread))
    }

    /// The change log of backups.
    pub fn change_log(&self) -> &Arc<ChangeLog> {
        &self.change_log
    }

    /// Hands over `changes` as an urgent request. Commits happen in the order of these calls: a thread
    /// calls this before it releases the lock under which it decided the changes.
    pub fn send(&self, changes: Vec<Change>) -> PendingCommit {
        self.hand_over(changes, Urgency::Urgent)
    }

    /// Hands over `changes` as a delayed request that nothing waits for.
    pub fn send_delayed(&self, changes: Vec<Change>) -> PendingCommit {
        self.send_among(usize::MAX, changes)
    }

    /// Hands over `changes` while `senders` threads, the caller among them, are about to send some: a
    /// delayed request if these are enough for others to follow soon.
    pub fn send_among(&self, senders: usize, changes: Vec<Change>) -> PendingCommit {
        self.hand_over(changes, Urgency::among(senders))
    }

    fn hand_over(&self, changes: Vec<Change>, urgency: Urgency) -> PendingCommit {
        let (request, done) = CommitRequest::new(changes, urgency);
        if self.requests.push(request, urgency == Urgency::Urgent, None).is_err() {
            fatal::stop("the committer has ended");
        }
        PendingCommit { done, progress: Arc::clone(&self.progress) }
    }

    /// Returns once all rows that can be read now are durable. A commit can be read a moment before it
    /// is on the disk, and no crash may undo what a client was shown.
    pub fn confirm(&self) {
        if self.progress.is_writing() {
            self.send(Vec::new()).wait();
        }
    }

    /// Whether an empty commit, behind all waiting requests, is durable `within` this time.
    pub fn commits(&self, within: Duration) -> bool {
        let begun = Instant::now();
        let (request, done) = CommitRequest::new(Vec::new(), Urgency::Urgent);
        self.requests.push(request, true, begun.checked_add(within)).is_ok()
            && done.wait(within.saturating_sub(begun.elapsed())) == CommitOutcome::Durable
    }

    /// Its measurements.
    pub fn instruments(&self) -> &CommitInstruments {
        &self.instruments
    }

    /// Whether the write under way, if any, takes less than a third of [`COMMIT_STALL_MAX`].
    pub fn is_responsive(&self) -> bool {
        self.progress.elapsed() < COMMIT_STALL_MAX / 3
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.requests.close();
    }
}

/// The state of the committer's thread.
struct CommitLoop {
    database: Arc<Database>,
    requests: Arc<CommitQueue<CommitRequest>>,
    progress: Arc<WriteProgress>,
    instruments: Arc<CommitInstruments>,
    change_log: Arc<ChangeLog>,
    faults: Box<dyn Faults>,
    /// Longest wait for siblings.
    delay_max: Duration,
    /// Duration of the last write, without the wait for siblings.
    last_commit: Duration,
}

impl Drop for CommitLoop {
    fn drop(&mut self) {
        self.requests.end();
    }
}

impl CommitLoop {
    /// Commits until the queue is closed.
    fn run(&mut self) {
        let mut group: Vec<Completion> = Vec::new();
        while let Some(first) = self.requests.pop() {
            self.progress.begin();
            let begun = Instant::now();
            // Let threads that are about to send get the processor first and share the sync.
            thread::yield_now();
            let wait_until = begun + self.delay_max.min(2 * self.last_commit);
            let rows = self.gather(first, wait_until, &mut group);
            // Note the changes before a backup can read a row of them.
            if let Some(changes) = rows.record() {
                self.change_log.note(changes);
            }
            let writing = Instant::now();
            let committed = self.database.commit(rows.into_batch());
            if let Err(error) = committed.and_then(|()| self.faults.after_sync()) {
                cannot_write(&error);
            }
            self.last_commit = writing.elapsed();
            self.progress.end();
            // Count before waking: a woken thread may ask for the counts.
            self.instruments.duration.observe_duration(begun.elapsed());
            self.instruments.group.observe(group.len() as u64);
            for completion in group.drain(..) {
                completion.0.decide(CommitOutcome::Durable);
            }
        }
    }

    /// The rows of the next commit: of `first`, of the waiting requests, and of those that come until
    /// `wait_until` while none is urgent. Their completions go to `group`.
    fn gather(
        &mut self,
        first: CommitRequest,
        wait_until: Instant,
        group: &mut Vec<Completion>,
    ) -> Rows {
        let mut rows =
            if self.change_log.is_recording() { Rows::recorded() } else { Rows::default() };
        let (mut is_urgent, mut enough) = (false, 0);
        let mut next = Some(first);
        while let Some(mut request) = next.take() {
            if let Err(error) = self.faults.before_write(&mut request.changes) {
                cannot_write(&error);
            }
            for change in &request.changes {
                if let Err(error) = rows.add(change) {
                    fatal::stop(&format!("a change cannot be stored: {error}"));
                }
            }
            match request.urgency {
                Urgency::Urgent => is_urgent = true,
                Urgency::Delayed { siblings } => enough = enough.max(siblings),
            }
            group.push(request.completion);
            // A large payload comes in slices. The requests between them get their own commit.
            if rows.bytes() >= SLICE_BYTES || self.faults.is_alone() {
                break;
            }
            next = match enough.saturating_sub(group.len()) {
                missing @ 1.. if !is_urgent => self.requests.pop_when(missing, Some(wait_until)),
                _ => self.requests.try_pop(),
            };
        }
        // The committer alone writes, so what it reads here is what the last commit left.
        let stored = |hour, scope| statistics::stored(&self.database, hour, scope);
        if let Err(error) = rows.add_to_stored(stored) {
            fatal::stop(&format!("the statistics cannot be stored: {error}"));
        }
        rows
    }
}

fn cannot_write(error: &str) -> ! {
    fatal::stop(&format!("the database cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faults::NoFaults;

    const LONG: Duration = Duration::from_secs(3600);

    /// A committer. Its drop ends the thread and waits for it.
    struct Running {
        committer: Option<Committer>,
        thread: Option<JoinHandle<()>>,
        _scratch: tempfile::TempDir,
    }

    impl Running {
        fn with_delay_max(delay_max: Duration) -> Self {
            let (database, scratch) = Database::in_scratch();
            let started = Committer::start_with(Arc::new(database), Box::new(NoFaults), delay_max);
            let (committer, thread) = started.unwrap();
            Self { committer: Some(committer), thread: Some(thread), _scratch: scratch }
        }

        /// A request that waits for three others.
        fn send_delayed(&self) -> PendingCommit {
            self.send_among(*COMMIT_SIBLINGS.start())
        }

        fn send_among(&self, senders: usize) -> PendingCommit {
            self.committer.as_ref().unwrap().send_among(senders, Vec::new())
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.committer = None;
            self.thread.take().unwrap().join().unwrap();
        }
    }

    fn outcome(commit: &PendingCommit) -> CommitOutcome {
        commit.done.wait(Duration::ZERO)
    }

    #[test]
    fn delayed_commits_wait_for_half_of_the_senders_within_bounds() {
        for (senders, siblings) in [(4, 4), (8, 4), (12, 6), (16, 8), (1000, 8)] {
            let running = Running::with_delay_max(LONG);
            let waiting: Vec<PendingCommit> =
                (1..siblings).map(|_| running.send_among(senders)).collect();
            assert!(waiting.iter().all(|commit| outcome(commit) == CommitOutcome::Pending));
            // The siblings that one of them counts on are enough for all.
            running.send_delayed().wait();
            assert!(waiting.iter().all(|commit| outcome(commit) == CommitOutcome::Durable));
        }
        for senders in 0..4 {
            Running::with_delay_max(LONG).send_among(senders).wait();
        }
    }

    #[test]
    fn a_commit_that_no_thread_waits_for_yet_is_decided_when_one_does() {
        let running = Running::with_delay_max(LONG);
        let early = running.send_among(1);
        running.send_among(1).wait();
        // Commits keep their order: the first one is durable.
        assert!(!early.done.state().is_awaited);
        early.wait();
    }

    #[test]
    fn an_urgent_commit_takes_delayed_ones_with_it() {
        let running = Running::with_delay_max(LONG);
        let waiting = running.send_delayed();
        // The committer waits for siblings, or is about to.
        while !running.committer.as_ref().unwrap().progress.is_writing() {
            thread::yield_now();
        }
        running.committer.as_ref().unwrap().send(Vec::new()).wait();
        assert_eq!(outcome(&waiting), CommitOutcome::Durable);
    }

    #[test]
    fn a_delayed_commit_ends_with_its_delay_or_its_senders() {
        let running = Running::with_delay_max(Duration::from_millis(1));
        running.send_delayed().wait();
        let running = Running::with_delay_max(LONG);
        let waiting = running.send_delayed();
        drop(running);
        assert_eq!(outcome(&waiting), CommitOutcome::Durable, "no sender is left");
    }
}
