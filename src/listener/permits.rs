//! Bounds the requests that are under way. A request takes a permit when it is complete and gives it
//! back when its response is written. Requests beyond the bound wait in order, each for a limited
//! time.
//!
//! A permit carries the descriptor that wakes the connection's thread, so that descriptors are bounded
//! with the requests.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, eventfd};

use crate::model::refusal::{Reason, Refusal};

/// See the module.
#[derive(Debug)]
pub(super) struct Permits {
    /// Requests that may wait for a permit, and for how long.
    waiting_max: usize,
    wait_max: Duration,
    pool: Mutex<Pool>,
}

#[derive(Debug)]
struct Pool {
    free: Vec<Arc<Waker>>,
    /// Permits that were never taken: they have no waker yet.
    unused: usize,
    /// In order of arrival, each with a number to tell them apart.
    waiting: VecDeque<(u64, Sender<Arc<Waker>>)>,
    number: u64,
}

/// Wakes the thread of one connection at a time.
#[derive(Debug)]
pub(super) struct Waker {
    event: OwnedFd,
    /// Most responses are sent without a wake-up.
    is_awake: AtomicBool,
}

impl Waker {
    fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, is_awake: AtomicBool::new(false) })
    }

    /// Readable once [`wake`](Self::wake) was called.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.event
    }

    pub(super) fn wake(&self) {
        self.is_awake.store(true, Ordering::Release);
        // The counter is far from its end, which is the one reason for this to fail.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable again, once the permit's holders have no more use for it.
    pub(super) fn reset(&self) {
        if self.is_awake.swap(false, Ordering::AcqRel) {
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
        }
    }
}

impl Permits {
    /// `max` permits. Up to `waiting_max` requests wait for one, each for at most `wait_max`.
    pub(super) fn new(max: usize, waiting_max: usize, wait_max: Duration) -> Arc<Self> {
        let (free, waiting) = (Vec::with_capacity(max), VecDeque::new());
        let pool = Mutex::new(Pool { free, unused: max, waiting, number: 0 });
        Arc::new(Self { waiting_max, wait_max, pool })
    }

    /// A permit for one request.
    ///
    /// # Errors
    /// 503 when all permits are taken for too long, or there is no descriptor for another one.
    pub(super) fn take(self: &Arc<Self>) -> Result<Permit, Refusal> {
        let turn = {
            let mut pool = self.pool();
            if let Some(waker) = pool.free.pop() {
                return Ok(self.permit(waker));
            }
            if pool.unused > 0 {
                let waker = Waker::new().map_err(|_| busy())?;
                pool.unused -= 1;
                return Ok(self.permit(Arc::new(waker)));
            }
            self.queue(&mut pool)?
        };
        self.await_turn(turn)
    }

    fn queue(&self, pool: &mut Pool) -> Result<(u64, Receiver<Arc<Waker>>), Refusal> {
        if pool.waiting.len() >= self.waiting_max {
            return Err(busy());
        }
        let (sender, receiver) = bounded(1);
        pool.number += 1;
        let number = pool.number;
        pool.waiting.push_back((number, sender));
        Ok((number, receiver))
    }

    fn await_turn(
        self: &Arc<Self>,
        (number, turn): (u64, Receiver<Arc<Waker>>),
    ) -> Result<Permit, Refusal> {
        if let Ok(waker) = turn.recv_timeout(self.wait_max) {
            return Ok(self.permit(waker));
        }
        self.pool().waiting.retain(|(other, _)| *other != number);
        // A permit is passed on under the lock: it is there by now, or it does not come.
        turn.try_recv().map(|waker| self.permit(waker)).map_err(|_| busy())
    }

    fn permit(self: &Arc<Self>, waker: Arc<Waker>) -> Permit {
        Permit { permits: Arc::clone(self), waker }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // No panic leaves the pool half changed.
        self.pool.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn busy() -> Refusal {
    Refusal::new(Reason::Busy, "the server is busy; try again later")
}

/// One request's permit, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    waker: Arc<Waker>,
}

impl Permit {
    /// Wakes the thread that waits for this request's response.
    pub(super) fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.waker.reset();
        let mut pool = self.permits.pool();
        match pool.waiting.pop_front() {
            // A receiver that has gone has left the queue under the lock.
            Some((_, next)) => drop(next.send(Arc::clone(&self.waker))),
            None => pool.free.push(Arc::clone(&self.waker)),
        }
        debug_assert!(pool.waiting.is_empty() || pool.free.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const TEST_TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn a_request_waits_for_a_permit_until_one_is_given_back() {
        let permits = Permits::new(1, 1, TEST_TIMEOUT);
        let first = permits.take().unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| permits.take().map(drop));
            while permits.pool().waiting.is_empty() {
                thread::yield_now();
            }
            assert_eq!(permits.take().unwrap_err().status(), 503, "the queue is full");
            drop(first);
            second.join().unwrap().unwrap();
        });
        assert!(permits.take().is_ok());
    }

    #[test]
    fn a_request_that_has_waited_too_long_is_refused_and_leaves_the_queue() {
        let permits = Permits::new(1, 10, Duration::from_millis(5));
        let first = permits.take().unwrap();
        assert_eq!(permits.take().unwrap_err().status(), 503);
        assert!(permits.pool().waiting.is_empty());
        drop(first);
        assert!(permits.take().is_ok());
    }
}
