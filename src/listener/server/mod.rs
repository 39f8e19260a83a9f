//! The threads that answer a listener's requests, behind its gate. This module and the ones below
//! it are the only place that knows tiny_http; handlers see
//! [`Request`](crate::listener::message::Request) and [`Response`](crate::listener::message::Response).
//!
//! tiny_http reads nothing but what the gate writes: requests without headers and without bodies,
//! whose path is the id of what waits in the gate's [`Passage`]. It is never shown what
//! it could read wrongly.
//!
//! Each thread receives a request and answers it itself, with three exceptions. What lasts (large
//! bodies, followers) moves to threads of its own together with the right to answer. Answers that
//! wait for a commit go to one thread that waits for all of them: commits are shared, and one thread
//! is woken for each where it would be one for each request. An answer that needs a link which its
//! request has not come over is announced there, and written by whoever claims it.

mod exchange;
mod output;

use std::io;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};

use crate::listener::Passage;
use crate::listener::message::Handler;
use crate::os::fatal;
use crate::os::threads;

use exchange::Due;

/// The threads behind one gate.
pub struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads of a server have in common.
struct Shared {
    name: &'static str,
    tiny: tiny_http::Server,
    passage: Arc<Passage>,
    handler: Arc<dyn Handler>,
    stopping: AtomicBool,
    running: Running,
    lasting: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    /// Answers with `handler`, on `handlers` threads, what comes through `passage`, whose inner end
    /// is `listener`. `name` begins the names of the threads; at most 8 bytes.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        name: &'static str,
        listener: UnixListener,
        passage: Arc<Passage>,
        handler: Arc<dyn Handler>,
        handlers: usize,
    ) -> io::Result<Self> {
        let tiny = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            name,
            tiny,
            passage,
            handler,
            stopping: AtomicBool::new(false),
            running: Running::default(),
            lasting: Mutex::default(),
        });
        let mut server = Self { shared, threads: Vec::with_capacity(handlers + 1) };
        // Each waits on a link of its own, and there are only so many links.
        let (due, dues) = unbounded();
        server.spawn(format!("{name}-due"), move |shared| {
            for due in dues {
                shared.guard(|| exchange::settle(shared, due));
            }
        })?;
        for number in 0..handlers {
            let due = due.clone();
            server.spawn(format!("{name}-{number}"), move |shared| shared.work(&due))?;
        }
        Ok(server)
    }

    fn spawn(
        &mut self,
        name: String,
        work: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let running = shared.running.enter();
        let thread = threads::serving(name).spawn(move || {
            let _running = running;
            work(&shared);
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Ends streams that would last, so that they do not keep the gate from stopping.
    pub fn end_streams(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
    }

    /// Ends the threads, within `within`. The gate has stopped by now, so they have nothing to do.
    pub fn stop(self, within: Duration) {
        self.end_streams();
        for _ in &self.threads {
            self.shared.tiny.unblock();
        }
        let left = self.shared.running.wait_for_none(within);
        if left > 0 {
            log::warn!(listener = self.shared.name, threads = left; "threads that answer do not end");
        }
        let lasting = std::mem::take(&mut *lock(&self.shared.lasting));
        for thread in self.threads.into_iter().chain(lasting) {
            // The count falls just before the thread ends, so with none left this waits for little.
            if left == 0 || thread.is_finished() {
                let _ = thread.join();
            }
        }
        // Nobody is left to claim it.
        self.shared.passage.close();
        // tiny_http's accepting thread looks up, and sees that it is to end, at the next connection.
        let passage = Arc::clone(&self.shared.passage);
        drop(self.shared);
        let _ = passage.dial();
    }
}

impl Shared {
    /// Answers requests until the server stops.
    fn work(self: &Arc<Self>, due: &Sender<Due>) {
        loop {
            match self.tiny.recv() {
                Ok(exchange) => self.guard(|| exchange::serve(self, exchange, due)),
                Err(_) if self.stopping.load(Ordering::SeqCst) => return,
                // tiny_http ends its accept loop after any error, for good.
                Err(error) => fatal::stop(&format!(
                    "requests no longer reach the {} handlers: {error}",
                    self.name
                )),
            }
        }
    }

    /// Runs `answer` so that its panic ends one request and not the thread.
    fn guard(&self, answer: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(answer)).is_err() {
            log::error!(listener = self.name; "answering a request panicked");
        }
    }

    /// Answers on a thread of its own. Returns `answer` when there is none to be had.
    fn spawn_lasting<F: FnOnce(&Arc<Self>) + Send + 'static>(
        self: &Arc<Self>,
        answer: F,
    ) -> Result<(), F> {
        let shared = Arc::clone(self);
        let running = self.running.enter();
        // Where it can be taken back from.
        let answer = Arc::new(Mutex::new(Some(answer)));
        let of_thread = Arc::clone(&answer);
        let spawned = threads::serving(format!("{}-long", self.name)).spawn(move || {
            let _running = running;
            let answer = lock(&of_thread).take();
            if let Some(answer) = answer {
                shared.guard(|| answer(&shared));
            }
        });
        let mut lasting = lock(&self.lasting);
        lasting.retain(|thread| !thread.is_finished());
        match spawned {
            Ok(thread) => lasting.push(thread),
            Err(error) => {
                log::warn!(listener = self.name, error:% = error; "no thread for a request that lasts");
                return lock(&answer).take().map_or(Ok(()), Err);
            }
        }
        Ok(())
    }
}

/// Counts threads and waits for their end.
#[derive(Clone, Default)]
struct Running(Arc<(Mutex<usize>, Condvar)>);

impl Running {
    /// Counts one more until the guard is dropped.
    fn enter(&self) -> RunningGuard {
        *lock(&self.0.0) += 1;
        RunningGuard(self.clone())
    }

    /// Waits until none is left or `within` has passed; how many are left.
    fn wait_for_none(&self, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        let mut count = lock(&self.0.0);
        while *count > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            count = self
                .0
                .1
                .wait_timeout(count, left)
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
        }
        *count
    }
}

struct RunningGuard(Running);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        *lock(&self.0.0.0) -= 1;
        self.0.0.1.notify_all();
    }
}

/// Nothing under these locks can be left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
