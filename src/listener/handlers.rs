//! The threads that answer a listener's requests. This module is the only one that knows tiny_http.
//!
//! tiny_http hands requests to handler threads, and nothing else: it reads the announcements of the
//! [`Handoff`], requests without headers and bodies whose path is a number, and each thread takes
//! the request that waits under the number it receives. No byte from a network reaches tiny_http, and no
//! response passes through it.
//!
//! A handler thread works on small requests only. A request with a large body is read from a file and
//! stored in slices, each of which waits for a commit: its connection's thread runs the handler.
//! Responses that wait for a commit are made by one thread for all of them, because one commit serves
//! many requests.

use std::io;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::answer::AnswerSlot;
use super::handler::{AfterCommit, Handled, Handler};
use super::handoff::Handoff;
use super::request::Request;
use crate::os::fatal;
use crate::os::threads;

/// The handler threads of one listener.
pub(super) struct Handlers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Kept by each thread until its end.
    running: Sender<()>,
    /// Disconnected when all threads have ended.
    ended: Receiver<()>,
}

struct Shared {
    name: &'static str,
    tiny: tiny_http::Server,
    handoff: Arc<Handoff>,
    handler: Arc<dyn Handler>,
    is_stopping: AtomicBool,
}

/// A response that waits for a commit, and its slot.
type Due = (AfterCommit, AnswerSlot);

impl Handlers {
    /// Starts `count` threads that answer the requests of `handoff`, whose inner end is `inner`.
    /// `name` begins the names of the threads; at most 8 bytes.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start(
        name: &'static str,
        inner: UnixListener,
        handoff: Arc<Handoff>,
        handler: Arc<dyn Handler>,
        count: usize,
    ) -> io::Result<Self> {
        let tiny = tiny_http::Server::from_listener(inner, None).map_err(io::Error::other)?;
        let is_stopping = AtomicBool::new(false);
        let shared = Arc::new(Shared { name, tiny, handoff, handler, is_stopping });
        let (running, ended) = bounded(0);
        let threads = Vec::with_capacity(count + 1);
        let mut handlers = Self { shared, threads, running, ended };
        // Bounded by the permits that the requests hold.
        let (due, dues) = unbounded();
        handlers.spawn(format!("{name}-due"), move |shared| shared.answer_due(&dues))?;
        for number in 0..count {
            let due = due.clone();
            handlers.spawn(format!("{name}-{number}"), move |shared| shared.work(&due))?;
        }
        Ok(handlers)
    }

    fn spawn(
        &mut self,
        name: String,
        work: impl FnOnce(&Shared) + Send + 'static,
    ) -> io::Result<()> {
        let (shared, running) = (Arc::clone(&self.shared), self.running.clone());
        self.threads.push(threads::serving(name).spawn(move || {
            let _running = running;
            work(&shared);
        })?);
        Ok(())
    }

    /// Ends the threads, within `within`. The connections have ended by now, so the threads have
    /// nothing left to do; one that hangs is left to the end of the process.
    pub(super) fn stop(self, within: Duration) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        for _ in &self.threads {
            self.shared.tiny.unblock();
        }
        drop(self.running);
        match self.ended.recv_timeout(within) {
            Err(RecvTimeoutError::Timeout) => {
                log::warn!(listener = self.shared.name; "handler threads do not end");
            }
            _ => self.threads.into_iter().for_each(|thread| drop(thread.join())),
        }
        self.shared.handoff.close();
        let handoff = Arc::clone(&self.shared.handoff);
        drop(self.shared);
        handoff.nudge();
    }
}

impl Shared {
    /// Answers requests until the listener stops.
    fn work(&self, due: &Sender<Due>) {
        loop {
            let announcement = match self.tiny.recv() {
                Ok(announcement) => announcement,
                Err(_) if self.is_stopping.load(Ordering::SeqCst) => return,
                // tiny_http ends its accept loop for good after any error.
                Err(error) => fatal::stop(&format!(
                    "requests no longer reach the {} handlers: {error}",
                    self.name
                )),
            };
            let waiting = self.handoff.take(announcement.url());
            // Acknowledges the announcement, without a byte: tiny_http passes on to the next one.
            drop(announcement.into_writer());
            match waiting {
                Some((request, slot)) => self.answer(request, slot, due),
                None => debug_assert!(false, "an announced request waits until it is taken"),
            }
        }
    }

    fn answer(&self, request: Request, slot: AnswerSlot, due: &Sender<Due>) {
        let handler = Arc::clone(&self.handler);
        if request.body.is_in_file() {
            return slot.fill_with_work(Box::new(move || match handler.handle(request) {
                Handled::Answered(response) => response.into(),
                Handled::AfterCommit(respond) => respond(),
            }));
        }
        match self.guarded(|| handler.handle(request)) {
            Some(Handled::Answered(response)) => slot.fill(response),
            Some(Handled::AfterCommit(respond)) => {
                // The receiver outlasts all senders.
                let _ = due.send((respond, slot));
            }
            None => drop(slot),
        }
    }

    /// Makes the responses that wait for commits, in the order of their requests.
    fn answer_due(&self, dues: &Receiver<Due>) {
        for (respond, slot) in dues {
            match self.guarded(respond) {
                Some(committed) => slot.fill_committed(committed),
                None => drop(slot),
            }
        }
    }

    /// What `answer` returns; `None` when it panics, which costs one request and no thread.
    fn guarded<T>(&self, answer: impl FnOnce() -> T) -> Option<T> {
        let answer = catch_unwind(AssertUnwindSafe(answer));
        if answer.is_err() {
            log::error!(listener = self.name; "the handler of a request panicked");
        }
        answer.ok()
    }
}
