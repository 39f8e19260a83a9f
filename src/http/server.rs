//! The threads that answer a listener's requests. This module and the ones below it are the only
//! place that knows tiny_http; handlers see [`Request`](crate::http::message::Request) and
//! [`Answer`](crate::http::message::Answer).
//!
//! Each thread receives a request and answers it itself: tiny_http makes the second request of a
//! pipelined connection wait for the answer to the first, so a request must never wait for another
//! one's thread. The exception are lasting streams (followers), which move to threads of their own
//! together with the right to answer.
//!
//! tiny_http has no deadlines, no limits on connections and no way to close one, and cannot be
//! saved from all of its traps from here. Until the gate stands in front, that is so.

mod exchange;
mod output;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::fatal;
use crate::http::message::Handler;
use crate::limits;

/// How a listener is served.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Begins the names of its threads and tells its log lines apart; at most 8 bytes.
    pub name: &'static str,
    /// Threads that answer.
    pub handlers: usize,
    /// The largest body any handler reads.
    pub body_bytes_max: u64,
}

/// A listener that is being served.
pub struct Server {
    shared: Arc<Shared>,
    handlers: Vec<JoinHandle<()>>,
    address: SocketAddr,
}

/// What the threads of a server have in common.
struct Shared {
    name: &'static str,
    tiny: tiny_http::Server,
    handler: Arc<dyn Handler>,
    /// Announced bodies up to here are read to their end even when they are refused.
    drain_bytes_max: u64,
    stopping: AtomicBool,
    running: Running,
    lasting: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    /// Serves `listener` with `handler`.
    ///
    /// # Errors
    /// When the listener is unusable or a thread cannot be started.
    pub fn start(
        listener: TcpListener,
        options: Options,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        // Inherited by what it accepts: streamed output must not wait for acknowledgements.
        rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
        let tiny = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            name: options.name,
            tiny,
            handler,
            drain_bytes_max: options.body_bytes_max.saturating_add(limits::DRAIN_BYTES_MAX),
            stopping: AtomicBool::new(false),
            running: Running::default(),
            lasting: Mutex::default(),
        });
        let mut server = Self { shared, handlers: Vec::with_capacity(options.handlers), address };
        for number in 0..options.handlers {
            let shared = Arc::clone(&server.shared);
            let running = shared.running.enter();
            let thread =
                Builder::new().name(format!("{}-{number}", options.name)).spawn(move || {
                    let _running = running;
                    shared.work();
                })?;
            server.handlers.push(thread);
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, lets those under way be answered for up to `within`, and ends the
    /// threads. What is not done by then is left to the end of the process.
    pub fn stop(self, within: Duration) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for _ in &self.handlers {
            self.shared.tiny.unblock();
        }
        let left = self.shared.running.wait_for_none(within);
        if left > 0 {
            log::warn!(listener = self.shared.name, threads = left; "requests are still under way; they go unanswered");
        }
        let lasting = std::mem::take(&mut *lock(&self.shared.lasting));
        for thread in self.handlers.into_iter().chain(lasting) {
            // The count falls just before the thread ends, so with none left this waits for little.
            if left == 0 || thread.is_finished() {
                let _ = thread.join();
            }
        }
        // What came in after the threads were told to end.
        while left == 0
            && let Ok(Some(exchange)) = self.shared.tiny.try_recv()
        {
            self.shared.refuse_late(exchange);
        }
    }
}

impl Shared {
    /// Answers requests until the server stops.
    fn work(self: &Arc<Self>) {
        loop {
            match self.tiny.recv() {
                Ok(exchange) => self.guard(|| exchange::serve(self, exchange)),
                Err(_) if self.stopping.load(Ordering::SeqCst) => return,
                // tiny_http ends its accept loop after any error, for good.
                Err(error) => fatal::stop(&format!(
                    "the {} listener accepts no more connections: {error}",
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

    /// Answers on a thread of its own.
    fn spawn_lasting(self: &Arc<Self>, answer: impl FnOnce(&Shared) + Send + 'static) {
        let shared = Arc::clone(self);
        let running = self.running.enter();
        let spawned = Builder::new().name(format!("{}-follow", self.name)).spawn(move || {
            let _running = running;
            shared.guard(|| answer(&shared));
        });
        let mut lasting = lock(&self.lasting);
        lasting.retain(|thread| !thread.is_finished());
        match spawned {
            Ok(thread) => lasting.push(thread),
            Err(error) => log::error!(
                listener = self.name, error:% = error;
                "no thread for a stream; its request goes unanswered"
            ),
        }
    }

    fn refuse_late(&self, exchange: tiny_http::Request) {
        self.guard(|| exchange::refuse(self, exchange, 503, "the server is stopping; try again"));
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

#[cfg(test)]
mod tests;
