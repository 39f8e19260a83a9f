//! The pool of links to the handlers. Whoever holds a link waits for a handler or for its answer, so
//! their number bounds what is under way at once; those who wait for a link get one in order.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::passage::{Link, Passage};
use super::{Reason, Refusal};
use crate::os::threads;

/// Links whose threads the library starts with, but for one that announces.
const LINKS_WITH_THREADS: usize = 3;

/// See the module.
#[derive(Debug)]
pub struct Links {
    passage: Arc<Passage>,
    /// Links at most.
    max: usize,
    /// Who may wait, and how long.
    waiting_max: usize,
    patience: Duration,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Link>,
    /// Idle ones, those in use, and the one being opened.
    links: usize,
    /// One at a time: see [`Link::open`].
    is_opening: bool,
    /// In the order in which they came, each with a number to tell them apart.
    waiting: VecDeque<(u64, Sender<Turn>)>,
    number: u64,
}

/// What somebody who waits gets.
#[derive(Debug)]
enum Turn {
    Link(Link),
    /// There may be one more link; open it.
    Open,
}

impl Links {
    /// Up to `max` links through `passage`. Up to `waiting_max` requests may wait for one, each for
    /// at most `patience`.
    pub fn new(passage: Arc<Passage>, max: usize, waiting_max: usize, patience: Duration) -> Self {
        Self { passage, max, waiting_max, patience, pool: Mutex::default() }
    }

    /// A link, to be used for one request, and the place it has among the others.
    ///
    /// # Errors
    /// 503 when all are in use for too long, or none can be opened.
    pub(super) fn take(self: &Arc<Self>) -> Result<(Place, Link), Refusal> {
        let turn = self.turn()?;
        let place = Place { links: Arc::clone(self), is_vacant: true };
        match turn {
            Turn::Link(link) => Ok((place, link)),
            Turn::Open => match self.open() {
                Ok(link) => Ok((place, link)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(busy()),
                Err(error) => {
                    log::warn!(error:% = error; "a request cannot be handed to the handlers");
                    Err(Refusal::new(
                        Reason::Busy,
                        "the server cannot take more requests; try again later",
                    ))
                }
            },
        }
    }

    fn turn(&self) -> Result<Turn, Refusal> {
        let mut pool = self.pool();
        if let Some(link) = pool.idle.pop() {
            return Ok(Turn::Link(link));
        }
        if self.may_open(&pool) {
            pool.begin_opening();
            return Ok(Turn::Open);
        }
        let (number, turn) = self.queue(&mut pool)?;
        drop(pool);
        self.await_turn(number, &turn)
    }

    fn queue(&self, pool: &mut Pool) -> Result<(u64, Receiver<Turn>), Refusal> {
        if pool.waiting.len() >= self.waiting_max {
            return Err(busy());
        }
        let (sender, receiver) = bounded(1);
        pool.number += 1;
        let number = pool.number;
        pool.waiting.push_back((number, sender));
        Ok((number, receiver))
    }

    fn await_turn(&self, number: u64, turn: &Receiver<Turn>) -> Result<Turn, Refusal> {
        if let Ok(turn) = turn.recv_timeout(self.patience) {
            return Ok(turn);
        }
        let mut pool = self.pool();
        pool.waiting.retain(|(other, _)| *other != number);
        // Turns are given under the lock, so it has come by now or will not.
        turn.try_recv().map_err(|_| busy())
    }

    fn open(&self) -> io::Result<Link> {
        let _opening = Opening(self);
        // Behind a link is a thread. The library has some from the start, and panics when it gets no
        // more.
        if self.pool().links > LINKS_WITH_THREADS {
            threads::vital("trial").spawn(|| ())?;
        }
        Link::open(&self.passage, self.patience)
    }

    fn may_open(&self, pool: &Pool) -> bool {
        pool.links < self.max && !pool.is_opening
    }

    /// Lets the first of those who wait open a link, if there may be one more.
    fn open_next(&self, pool: &mut Pool) {
        if self.may_open(pool)
            && let Some((_, waiter)) = pool.waiting.pop_front()
        {
            pool.begin_opening();
            let _ = waiter.send(Turn::Open);
        }
    }

    /// Gives a link back.
    fn give_back(&self, link: Link) {
        let mut pool = self.pool();
        match pool.waiting.pop_front() {
            Some((_, waiter)) => {
                let _ = waiter.send(Turn::Link(link));
            }
            None => pool.idle.push(link),
        }
    }

    /// Counts a link that is gone.
    fn lose(&self) {
        let mut pool = self.pool();
        pool.links -= 1;
        self.open_next(&mut pool);
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // Nothing under this lock can be left half done by a panic.
        self.pool.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Pool {
    fn begin_opening(&mut self) {
        self.links += 1;
        self.is_opening = true;
    }
}

/// The opening of a link, until it has come to an end.
struct Opening<'a>(&'a Links);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut pool = self.0.pool();
        pool.is_opening = false;
        self.0.open_next(&mut pool);
    }
}

fn busy() -> Refusal {
    Refusal::new(Reason::Busy, "the server is busy; try again later")
}

/// The place of a link that is in use. Unless the link is given back, it is gone: nobody knows what
/// it would still bring.
#[derive(Debug)]
pub(super) struct Place {
    links: Arc<Links>,
    is_vacant: bool,
}

impl Place {
    /// The answer has come to its end; `link` is good for another one.
    pub(super) fn give_back(mut self, link: Link) {
        self.is_vacant = false;
        self.links.give_back(link);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_vacant {
            self.links.lose();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nobody_waits_for_ever_for_handlers_that_do_not_answer() {
        let directory = tempfile::tempdir().unwrap();
        let (_inner, passage) = Passage::open(directory.path()).unwrap();
        let links = Arc::new(Links::new(passage, 2, 10, Duration::from_millis(20)));
        // The first opens a link that nobody serves; the others wait for it, or open one after it.
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(links.take().unwrap_err().status(), 503));
            }
        });
        let pool = links.pool();
        assert_eq!((pool.links, pool.waiting.len(), pool.is_opening), (0, 0, false));
    }
}
