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
    COMMIT_QUEUE_MAX, COMMIT_STALL_MAX, COMPANY, COMPANY_WAIT_MAX, SLICE_BYTES,
};
use crate::model::metrics::{Histogram, LATENCY_BOUNDS};
use crate::os::fatal;
use crate::store::backup::change_log::Redo;
use crate::store::faults::Faults;
use crate::store::sled::database::Database;
use crate::store::tables::Rows;

/// Changes on their way to the committer, and whom to tell.
struct Request {
    changes: Vec<Change>,
    haste: Haste,
    waiter: Waiter,
}

impl Request {
    /// The request, and where to wait for it.
    fn new(changes: Vec<Change>, haste: Haste) -> (Self, Arc<Latch>) {
        let done = Arc::new(Latch::new());
        (Self { changes, haste, waiter: Waiter(Arc::clone(&done)) }, done)
    }
}

/// Whether somebody waits who should not be kept waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    /// With the next commit.
    Now,
    /// With the next one that has some [`COMPANY`], or soon.
    Soon,
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
enum Outcome {
    Pending,
    Durable,
    /// The committer has ended without it.
    Lost,
}

/// Opens once. A channel would do, but those spin before they sleep, which costs the committer the
/// processor that everybody waits for.
struct Latch {
    outcome: Mutex<Outcome>,
    decided: Condvar,
}

impl Latch {
    fn new() -> Self {
        Self { outcome: Mutex::new(Outcome::Pending), decided: Condvar::new() }
    }

    /// Decides what is not decided yet.
    fn decide(&self, outcome: Outcome) {
        let mut decided = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if *decided == Outcome::Pending {
            *decided = outcome;
            self.decided.notify_one();
        }
    }

    /// What has become of it within `timeout`.
    fn wait(&self, timeout: Duration) -> Outcome {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let is_pending = |outcome: &mut Outcome| *outcome == Outcome::Pending;
        let waited = self.decided.wait_timeout_while(outcome, timeout, is_pending);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The committer's end of a latch. Whoever waits learns of its loss, too.
struct Waiter(Arc<Latch>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.decide(Outcome::Lost);
    }
}

/// Waits for one commit.
#[must_use = "the changes are durable only once this has been waited for"]
pub struct Ticket {
    done: Arc<Latch>,
    progress: Arc<Progress>,
}

/// The committer's end that others hold.
pub struct Committer {
    requests: Sender<Request>,
    progress: Arc<Progress>,
    instruments: Arc<CommitInstruments>,
    redo: Arc<Redo>,
}

/// When the write under way began, so that a hang is noticed by those who wait for it: the server
/// needs no thread, and no wake-ups, to watch over this.
struct Progress {
    origin: Instant,
    /// Milliseconds after `origin`, plus one; 0 while nothing is being written.
    began_millis: AtomicU64,
}

impl Progress {
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
                Outcome::Durable => return,
                Outcome::Lost => fatal::stop("the committer has ended"),
                Outcome::Pending if self.progress.elapsed() >= COMMIT_STALL_MAX => {
                    fatal::stop(&format!(
                        "a commit has taken over {} s: is the disk full or failing?",
                        COMMIT_STALL_MAX.as_secs()
                    ));
                }
                Outcome::Pending => {}
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
        Self::start_with(database, faults, COMPANY_WAIT_MAX)
    }

    /// The same, with so much patience of those who have some.
    fn start_with(
        database: Arc<Database>,
        faults: Box<dyn Faults>,
        patience: Duration,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (requests, waiting) = bounded(COMMIT_QUEUE_MAX);
        let progress =
            Arc::new(Progress { origin: Instant::now(), began_millis: AtomicU64::new(0) });
        let instruments = Arc::new(CommitInstruments::default());
        let redo = Arc::<Redo>::default();
        let mut work = Work {
            database,
            requests: waiting,
            progress: Arc::clone(&progress),
            instruments: Arc::clone(&instruments),
            redo: Arc::clone(&redo),
            faults,
            patience,
            last: patience,
        };
        let thread = thread::Builder::new().name("committer".into()).spawn(move || work.run())?;
        Ok((Self { requests, progress, instruments, redo }, thread))
    }

    /// Records commits while a backup is being made.
    pub fn redo(&self) -> &Arc<Redo> {
        &self.redo
    }

    /// Hands over `changes`. Commits happen in the order of these calls, so whoever decides calls
    /// this while still holding what the decision was based on.
    pub fn send(&self, changes: Vec<Change>) -> Ticket {
        self.hand_over(changes, Haste::Now)
    }

    /// The same, of what may wait a moment for others to share the commit: see [`COMPANY`]. To be
    /// used when others are likely to come.
    pub fn send_patiently(&self, changes: Vec<Change>) -> Ticket {
        self.hand_over(changes, Haste::Soon)
    }

    fn hand_over(&self, changes: Vec<Change>, haste: Haste) -> Ticket {
        let (request, done) = Request::new(changes, haste);
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
        let (request, done) = Request::new(Vec::new(), Haste::Now);
        self.requests.send_timeout(request, within).is_ok()
            && done.wait(within.saturating_sub(begun.elapsed())) == Outcome::Durable
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
struct Work {
    database: Arc<Database>,
    requests: Receiver<Request>,
    progress: Arc<Progress>,
    instruments: Arc<CommitInstruments>,
    redo: Arc<Redo>,
    faults: Box<dyn Faults>,
    /// How long those who are in no hurry wait for company at most.
    patience: Duration,
    /// How long the last commit took, without what came before it.
    last: Duration,
}

impl Work {
    /// Commits until nobody is left who could ask for it.
    fn run(&mut self) {
        let mut group: Vec<Waiter> = Vec::new();
        while let Ok(first) = self.requests.recv() {
            self.progress.begin();
            let begun = Instant::now();
            // Every sync costs the same, whatever it covers: others who are about to hand something
            // over get the processor first. With nobody else about, this costs nothing.
            thread::yield_now();
            let wait_until = begun + self.patience.min(2 * self.last);
            let rows = self.gather(first, wait_until, &mut group);
            // Before a row of it can be read: see `redo`.
            if let Some(changes) = rows.record() {
                self.redo.note(changes);
            }
            let writing = Instant::now();
            let committed = self.database.commit(rows.into_batch());
            if let Err(error) = committed.and_then(|()| self.faults.after_sync()) {
                cannot_write(&error);
            }
            self.last = writing.elapsed();
            self.progress.end();
            // Before anybody is told, so that nobody can ask for what is not counted yet.
            self.instruments.duration.observe_duration(begun.elapsed());
            self.instruments.group.observe(group.len() as u64);
            for waiter in group.drain(..) {
                waiter.0.decide(Outcome::Durable);
            }
        }
    }

    /// The rows of the next commit: of `first` and of what else is there, or comes until
    /// `wait_until` if all who wait have that much time. Who they are goes to `group`.
    fn gather(&mut self, first: Request, wait_until: Instant, group: &mut Vec<Waiter>) -> Rows {
        let mut rows = if self.redo.is_recording() { Rows::recorded() } else { Rows::default() };
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
            is_urgent |= request.haste == Haste::Now;
            group.push(request.waiter);
            // What is large waits for the next group: nobody's accept waits for all of it.
            if rows.bytes() >= SLICE_BYTES {
                break;
            }
            next = match is_urgent || group.len() >= COMPANY {
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
        fn with_patience(patience: Duration) -> Self {
            let (database, scratch) = Database::in_scratch();
            let started = Committer::start_with(Arc::new(database), Box::new(NoFaults), patience);
            let (committer, thread) = started.unwrap();
            Self { committer: Some(committer), thread: Some(thread), _scratch: scratch }
        }

        fn send_patiently(&self) -> Ticket {
            self.committer.as_ref().unwrap().send_patiently(Vec::new())
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.committer = None;
            self.thread.take().unwrap().join().unwrap();
        }
    }

    fn outcome(ticket: &Ticket) -> Outcome {
        ticket.done.wait(Duration::ZERO)
    }

    #[test]
    fn those_in_no_hurry_wait_for_company() {
        let running = Running::with_patience(LONG);
        let waiting: Vec<Ticket> = (1..COMPANY).map(|_| running.send_patiently()).collect();
        assert!(waiting.iter().all(|ticket| outcome(ticket) == Outcome::Pending));
        running.send_patiently().wait();
        assert!(waiting.iter().all(|ticket| outcome(ticket) == Outcome::Durable));
    }

    #[test]
    fn who_is_in_a_hurry_takes_the_others_along() {
        let running = Running::with_patience(LONG);
        let waiting = running.send_patiently();
        // The committer has begun to wait, or is about to.
        while !running.committer.as_ref().unwrap().progress.is_writing() {
            thread::yield_now();
        }
        running.committer.as_ref().unwrap().send(Vec::new()).wait();
        assert_eq!(outcome(&waiting), Outcome::Durable);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let running = Running::with_patience(Duration::from_millis(1));
        running.send_patiently().wait();
        let running = Running::with_patience(LONG);
        let waiting = running.send_patiently();
        drop(running);
        assert_eq!(outcome(&waiting), Outcome::Durable, "nobody else can come");
    }
}
