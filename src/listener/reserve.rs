//! Threads that exist from the start and serve a connection when the system gives no more threads:
//! that is when an operator must reach the server, to stop the run that uses them up.

use std::cell::Cell;
use std::io;

use crossbeam_channel::{Sender, TrySendError, bounded};

use crate::os::threads;

/// Threads of each listener that exist from the start, for connections when no thread can be had.
pub const RESERVED_THREADS: usize = 4;
/// Bytes of the stack of a connection's thread. A filter goes down a payload (128 levels) and itself (20),
/// some hundred KiB in a debug build. What a thread does not use takes no memory.
pub(super) const CONNECTION_STACK_BYTES: usize = 1 << 20;

/// What a thread does for a connection.
pub(super) type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    static IS_RESERVE: Cell<bool> = const { Cell::new(false) };
}

/// See the module.
pub(super) struct Reserve(Sender<Job>);

impl Reserve {
    /// Starts the threads of the listener called `name`. They end with it.
    pub fn start(name: &str) -> io::Result<Self> {
        let (sender, jobs) = bounded::<Job>(0);
        for _ in 0..RESERVED_THREADS {
            let jobs = jobs.clone();
            let named = threads::serving(format!("{name}-spare"));
            named.stack_size(CONNECTION_STACK_BYTES).spawn(move || {
                IS_RESERVE.set(true);
                jobs.iter().for_each(|job| job());
            })?;
        }
        Ok(Self(sender))
    }

    /// Lets a thread that is free do it; gives it back when none is.
    pub fn run(&self, job: Job) -> Result<(), Job> {
        self.0.try_send(job).map_err(TrySendError::into_inner)
    }
}

/// Whether this thread is of a reserve: its connection ends after few requests.
pub(super) fn is_reserve_thread() -> bool {
    IS_RESERVE.get()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_reserve_runs_as_many_jobs_as_it_has_threads() {
        let reserve = Reserve::start("test").unwrap();
        let (running, runs) = bounded(RESERVED_THREADS);
        let (end, ends) = bounded::<()>(0);
        for _ in 0..RESERVED_THREADS {
            let (running, ends) = (running.clone(), ends.clone());
            let mut job: Job = Box::new(move || {
                running.send(is_reserve_thread()).unwrap();
                let _ = ends.recv();
            });
            // A thread may not have come to wait yet.
            while let Err(again) = reserve.run(job) {
                job = again;
                std::thread::yield_now();
            }
        }
        for _ in 0..RESERVED_THREADS {
            assert_eq!(runs.recv_timeout(Duration::from_secs(20)), Ok(true));
        }
        assert!(reserve.run(Box::new(|| ())).is_err());
        drop(end);
        assert!(!is_reserve_thread());
    }
}
