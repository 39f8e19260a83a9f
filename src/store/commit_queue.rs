//! The requests that wait for the committer. It sleeps until as many have come as it waits for, so that
//! ends of vessels that share a commit wake it once. A channel would wake it for each, and spin before
//! it lets it sleep.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A queue of at most `bound` requests, from any number of threads to one.
pub(super) struct CommitQueue<T> {
    bound: usize,
    state: Mutex<State<T>>,
    /// Wakes the committer.
    arrived: Condvar,
    /// Wakes a thread that waits for room.
    room: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// Requests in `waiting` for which the committer wakes; `None` while it is awake.
    awaited: Option<usize>,
    /// Threads that wait for room.
    blocked: usize,
    /// No request comes any more.
    is_closed: bool,
    /// No request is taken any more.
    has_ended: bool,
}

/// The queue takes no request: its committer has ended, or there is no room in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotTaken;

impl<T> CommitQueue<T> {
    pub fn new(bound: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            awaited: None,
            blocked: 0,
            is_closed: false,
            has_ended: false,
        };
        let (arrived, room) = (Condvar::new(), Condvar::new());
        Self { bound, state: Mutex::new(state), arrived, room }
    }

    /// Appends a request, once there is room. One that is `urgent` wakes the committer at once.
    ///
    /// # Errors
    /// When the committer has ended, or there is no room until `deadline`.
    pub fn push(
        &self,
        request: T,
        urgent: bool,
        deadline: Option<Instant>,
    ) -> Result<(), NotTaken> {
        let mut state = self.state();
        while state.waiting.len() >= self.bound && !state.has_ended {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state.blocked += 1;
            state = match left {
                None => self.room.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => {
                    state.blocked -= 1;
                    return Err(NotTaken);
                }
                Some(left) => {
                    let waited = self.room.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.blocked -= 1;
        }
        if state.has_ended {
            return Err(NotTaken);
        }
        state.waiting.push_back(request);
        let count = state.waiting.len();
        let wakes = state.awaited.is_some_and(|awaited| urgent || count >= awaited);
        if wakes {
            state.awaited = None;
        }
        // The committer takes the lock when it wakes.
        drop(state);
        if wakes {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// The next request; `None` once the queue is closed and empty.
    pub fn pop(&self) -> Option<T> {
        self.pop_when(1, None)
    }

    /// The next request, if there is one.
    pub fn try_pop(&self) -> Option<T> {
        self.take(&mut self.state())
    }

    /// The next request. Without one, waits until `count` have come, an urgent one, or the deadline;
    /// `None` when none has come by then, or the queue is closed.
    pub fn pop_when(&self, count: usize, deadline: Option<Instant>) -> Option<T> {
        let mut state = self.state();
        if state.waiting.is_empty() {
            state.awaited = Some(count);
        }
        while state.awaited.is_some() && !state.is_closed {
            state = match deadline {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let waited = self.arrived.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.awaited = None;
        self.take(&mut state)
    }

    /// Lets the committer end once it has taken what waits.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.arrived.notify_one();
    }

    /// Drops what waits, now and later.
    pub fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        self.room.notify_all();
        drop(left);
    }

    fn take(&self, state: &mut State<T>) -> Option<T> {
        let next = state.waiting.pop_front();
        if state.blocked > 0 {
            self.room.notify_one();
        }
        next
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // No panic leaves the queue half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// A thread that pops when `count` have come, once it sleeps.
    fn sleeper(queue: &Arc<CommitQueue<u32>>, count: usize) -> thread::JoinHandle<Option<u32>> {
        let asleep = Arc::clone(queue);
        let popping =
            thread::spawn(move || asleep.pop_when(count, Instant::now().checked_add(LONG)));
        while queue.state().awaited.is_none() {
            thread::yield_now();
        }
        popping
    }

    #[test]
    fn the_committer_sleeps_until_enough_have_come_or_an_urgent_one() {
        let queue = Arc::new(CommitQueue::new(10));
        for (urgent, enough) in [(false, 3), (true, 2)] {
            let popping = sleeper(&queue, 3);
            for number in 1..enough {
                queue.push(number, false, None).unwrap();
                assert!(queue.state().awaited.is_some(), "it sleeps on");
            }
            queue.push(enough, urgent, None).unwrap();
            assert_eq!(popping.join().unwrap(), Some(1), "in their order");
            while queue.try_pop().is_some() {}
        }
        assert_eq!(queue.pop_when(2, Some(Instant::now())), None, "the deadline has passed");
        queue.push(7, false, None).unwrap();
        assert_eq!(queue.pop_when(2, Instant::now().checked_add(LONG)), Some(7), "it is there");
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_then_nothing() {
        let queue = Arc::new(CommitQueue::new(10));
        let popping = sleeper(&queue, 3);
        queue.push(1, false, None).unwrap();
        queue.close();
        assert_eq!(popping.join().unwrap(), Some(1));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_full_queue_lets_threads_wait_until_there_is_room_or_the_committer_has_ended() {
        let queue = Arc::new(CommitQueue::new(1));
        queue.push(1, false, None).unwrap();
        assert_eq!(queue.push(2, true, Some(Instant::now())), Err(NotTaken));
        let push = |number: u32| {
            let pusher = Arc::clone(&queue);
            let pushing = thread::spawn(move || pusher.push(number, false, None));
            while queue.state().blocked == 0 {
                thread::yield_now();
            }
            pushing
        };
        let pushing = push(2);
        assert_eq!(queue.pop(), Some(1));
        pushing.join().unwrap().unwrap();
        let pushing = push(3);
        queue.end();
        assert_eq!(pushing.join().unwrap(), Err(NotTaken));
        assert_eq!(queue.push(4, false, None), Err(NotTaken));
        assert_eq!(queue.try_pop(), None);
    }
}
