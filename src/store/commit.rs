//! The committer: the one thread that commits. It takes what waits, commits it as a whole, and
//! only then wakes those who wait for it. Before, it waits for a moment if nobody is in a hurry and
//! others may come to share the commit. Any error ends the process: after a failed sync nobody
//! knows what the disk holds, and the next start finds out in the tested way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::model::change::Change;
use crate::model::limits::{
    COMMIT_DELAY_MAX, COMMIT_QUEUE_MAX, COMMIT_SIBLINGS, COMMIT_STALL_MAX, SLICE_BYTES,
};
use crate::model::metrics::{Histogram, LATENCY_BOUNDS};
use crate::os::fatal;
use crate::store::backup::change_log::ChangeLog;
use crate::store::faults::Faults;
use crate::store::sled::database::Database;
use crate::store::tables::Rows;

/// Changes on their way to the committer, and whom to tell.
struct CommitRequest {
    changes: Vec<Change>,
    urgency: Urgency,
    completion: Completion,
}

impl CommitRequest {
    /// The request, and where to wait for it.
    fn new(changes: Vec<Change>, urgency: Urgency) -> (Self, Arc<Latch>) {
        let done = Arc::new(Latch::new());
        (Self { changes, urgency, completion: Completion(Arc::clone(&done)) }, done)
    }
}

/// Whether somebody waits who should not be kept waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// With the next commit.
    Urgent,
    /// With the next one that has some [`COMMIT_SIBLINGS`], or soon.
    Delayed,
}

/// What the committer measures.
#[derive(Debug)]
pub struct CommitInstruments {
    /// How long a commit takes, from the first of what it holds until all of it is durable. A wait
    /// for others to share it is part of that.
    pub duration: Histogram,
    /// How many who wait have theirs in one commit.
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

/// What has become of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommitOutcome {
    Pending,
    Durable,
    /// The committer has ended without it.
    Lost,
}

/// Opens once. A channel would do, but those spin before they sleep, which costs the committer the
/// processor that everybody waits for.
struct Latch {
    outcome: Mutex<CommitOutcome>,
    decided: Condvar,
}

impl Latch {
    fn new() -> Self {
        Self { outcome: Mutex::new(CommitOutcome::Pending), decided: Condvar::new() }
    }

    /// Decides what is not decided yet.
    fn decide(&self, outcome: CommitOutcome) {
        let mut decided = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if *decided == CommitOutcome::Pending {
            *decided = outcome;
            self.decided.notify_one();
        }
    }

    /// What has become of it within `timeout`.
    fn wait(&self, timeout: Duration) -> CommitOutcome {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let is_pending = |outcome: &mut CommitOutcome| *outcome == CommitOutcome::Pending;
        let waited = self.decided.wait_timeout_while(outcome, timeout, is_pending);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The committer's end of a latch. Whoever waits learns of its loss, too.
struct Completion(Arc<Latch>);

impl Drop for Completion {
    fn drop(&mut self) {
        self.0.decide(CommitOutcome::Lost);
    }
}

/// Waits for one commit.
#[must_use = "the changes are durable only once this has been waited for"]
pub struct Ticket {
    done: Arc<Latch>,
    progress: Arc<WriteProgress>,
}

/// The committer's end that others hold.
pub struct Committer {
    requests: Sender<CommitRequest>,
    progress: Arc<WriteProgress>,
    instruments: Arc<CommitInstruments>,
    change_log: Arc<ChangeLog>,
}

/// When the write under way began, so that a hang is noticed by those who wait for it: the server
/// needs no thread, and no wake-ups, to watch over this.
struct WriteProgress {
    origin: Instant,
    /// Milliseconds after `origin`, plus one; 0 while nothing is being written.
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

    /// How long the write under way has taken so far.
    fn elapsed(&self) -> Duration {
        match self.began_millis.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            began => self.origin.elapsed().saturating_sub(Duration::from_millis(began - 1)),
        }
    }
}

impl Ticket {
    /// Returns once the changes are durable. Ends the process when they cannot become so.
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

    /// The same, with so much delay_max of those who have some.
    fn start_with(
        database: Arc<Database>,
        faults: Box<dyn Faults>,
        delay_max: Duration,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (requests, waiting) = bounded(COMMIT_QUEUE_MAX);
        let progress =
            Arc::new(WriteProgress { origin: Instant::now(), began_millis: AtomicU64::new(0) });
        let instruments = Arc::new(CommitInstruments::default());
        let change_log = Arc::<ChangeLog>::default();
        let mut work = CommitLoop {
            database,
            requests: waiting,
            progress: Arc::clone(&progress),
            instruments: Arc::clone(&instruments),
            change_log: Arc::clone(&change_log),
            faults,
            delay_max,
            last_commit: delay_max,
        };
        let thread = thread::Builder::new().name("committer".into()).spawn(move || work.run())?;
        Ok((Self { requests, progress, instruments, change_log }, thread))
    }

    /// Records commits while a backup is being made.
    pub fn change_log(&self) -> &Arc<ChangeLog> {
        &self.change_log
    }

    /// Hands over `changes`. Commits happen in the order of these calls, so whoever decides calls
    /// this while still holding what the decision was based on.
    pub fn send(&self, changes: Vec<Change>) -> Ticket {
        self.hand_over(changes, Urgency::Urgent)
    }

    /// The same, of what may wait a moment for others to share the commit: see [`COMMIT_SIBLINGS`]. To be
    /// used when others are likely to come.
    pub fn send_delayed(&self, changes: Vec<Change>) -> Ticket {
        self.hand_over(changes, Urgency::Delayed)
    }

    fn hand_over(&self, changes: Vec<Change>, urgency: Urgency) -> Ticket {
        let (request, done) = CommitRequest::new(changes, urgency);
        if self.requests.send(request).is_err() {
            fatal::stop("the committer has ended");
        }
        Ticket { done, progress: Arc::clone(&self.progress) }
    }

    /// Returns once all that can be read now is durable. A commit can be read a moment before it is
    /// on the disk, and whoever is shown it must not see it undone by a crash.
    pub fn confirm(&self) {
        if self.progress.is_writing() {
            self.send(Vec::new()).wait();
        }
    }

    /// Whether an empty commit, behind all that waits, gets through `within`.
    pub fn commits(&self, within: Duration) -> bool {
        let begun = Instant::now();
        let (request, done) = CommitRequest::new(Vec::new(), Urgency::Urgent);
        self.requests.send_timeout(request, within).is_ok()
            && done.wait(within.saturating_sub(begun.elapsed())) == CommitOutcome::Durable
    }

    /// What it measures.
    pub fn instruments(&self) -> &CommitInstruments {
        &self.instruments
    }

    /// Whether commits get through, as far as is known without waiting for one.
    pub fn is_responsive(&self) -> bool {
        self.progress.elapsed() < COMMIT_STALL_MAX / 3
    }
}

/// What the committer's thread works with.
struct CommitLoop {
    database: Arc<Database>,
    requests: Receiver<CommitRequest>,
    progress: Arc<WriteProgress>,
    instruments: Arc<CommitInstruments>,
    change_log: Arc<ChangeLog>,
    faults: Box<dyn Faults>,
    /// How long those who are in no hurry wait for company at most.
    delay_max: Duration,
    /// How long the last commit took, without what came before it.
    last_commit: Duration,
}

impl CommitLoop {
    /// Commits until nobody is left who could ask for it.
    fn run(&mut self) {
        let mut group: Vec<Completion> = Vec::new();
        while let Ok(first) = self.requests.recv() {
            self.progress.begin();
            let begun = Instant::now();
            // Every sync costs the same, whatever it covers: others who are about to hand something
            // over get the processor first. With nobody else about, this costs nothing.
            thread::yield_now();
            let wait_until = begun + self.delay_max.min(2 * self.last_commit);
            let rows = self.gather(first, wait_until, &mut group);
            // Before a row of it can be read: see `change_log`.
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
            // Before anybody is told, so that nobody can ask for what is not counted yet.
            self.instruments.duration.observe_duration(begun.elapsed());
            self.instruments.group.observe(group.len() as u64);
            for completion in group.drain(..) {
                completion.0.decide(CommitOutcome::Durable);
            }
        }
    }

    /// The rows of the next commit: of `first` and of what else is there, or comes until
    /// `wait_until` if all who wait have that much time. Who they are goes to `group`.
    fn gather(
        &mut self,
        first: CommitRequest,
        wait_until: Instant,
        group: &mut Vec<Completion>,
    ) -> Rows {
        let mut rows =
            if self.change_log.is_recording() { Rows::recorded() } else { Rows::default() };
        let mut is_urgent = false;
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
            is_urgent |= request.urgency == Urgency::Urgent;
            group.push(request.completion);
            // What is large waits for the next group: nobody's accept waits for all of it.
            if rows.bytes() >= SLICE_BYTES {
                break;
            }
            next = match is_urgent || group.len() >= COMMIT_SIBLINGS {
                true => self.requests.try_recv().ok(),
                false => self.requests.recv_deadline(wait_until).ok(),
            };
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

    /// Lets go of the committer and waits for its end when it goes out of scope.
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

        fn send_delayed(&self) -> Ticket {
            self.committer.as_ref().unwrap().send_delayed(Vec::new())
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.committer = None;
            self.thread.take().unwrap().join().unwrap();
        }
    }

    fn outcome(ticket: &Ticket) -> CommitOutcome {
        ticket.done.wait(Duration::ZERO)
    }

    #[test]
    fn those_in_no_hurry_wait_for_company() {
        let running = Running::with_delay_max(LONG);
        let waiting: Vec<Ticket> = (1..COMMIT_SIBLINGS).map(|_| running.send_delayed()).collect();
        assert!(waiting.iter().all(|ticket| outcome(ticket) == CommitOutcome::Pending));
        running.send_delayed().wait();
        assert!(waiting.iter().all(|ticket| outcome(ticket) == CommitOutcome::Durable));
    }

    #[test]
    fn who_is_in_a_hurry_takes_the_others_along() {
        let running = Running::with_delay_max(LONG);
        let waiting = running.send_delayed();
        // The committer has begun to wait, or is about to.
        while !running.committer.as_ref().unwrap().progress.is_writing() {
            thread::yield_now();
        }
        running.committer.as_ref().unwrap().send(Vec::new()).wait();
        assert_eq!(outcome(&waiting), CommitOutcome::Durable);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let running = Running::with_delay_max(Duration::from_millis(1));
        running.send_delayed().wait();
        let running = Running::with_delay_max(LONG);
        let waiting = running.send_delayed();
        drop(running);
        assert_eq!(outcome(&waiting), CommitOutcome::Durable, "nobody else can come");
    }
}
