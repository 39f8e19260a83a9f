//! The pool of links to the handlers. Whoever holds a link has a handler's attention, so their
//! number bounds what handlers have to do at once; those who wait for one are served in order.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Refusal;
use super::passage::{Link, Passage};

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
    /// Held while a link is being opened: see [`Link::open`].
    opening: Mutex<()>,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Link>,
    /// Idle ones, those in use, and those being opened.
    links: usize,
    /// In the order in which they came, each with a number to tell them apart.
    waiting: VecDeque<(u64, Sender<Turn>)>,
    number: u64,
}

/// What somebody who waits gets.
#[derive(Debug)]
enum Turn {
    Link(Link),
    /// A link was lost; open one in its place.
    Open,
}

impl Links {
    /// Up to `max` links through `passage`. Up to `waiting_max` requests may wait for one, each for
    /// at most `patience`.
    pub fn new(passage: Arc<Passage>, max: usize, waiting_max: usize, patience: Duration) -> Self {
        let (pool, opening) = (Mutex::default(), Mutex::default());
        Self { passage, max, waiting_max, patience, pool, opening }
    }

    /// A link, to be used for one request, and the place it has among the others.
    ///
    /// # Errors
    /// 503 when all are in use for too long, or none can be opened.
    pub(super) fn take(&self) -> Result<(Place<'_>, Link), Refusal> {
        let turn = self.turn()?;
        let place = Place { links: self, is_vacant: true };
        match turn {
            Turn::Link(link) => Ok((place, link)),
            Turn::Open => match self.open() {
                Ok(link) => Ok((place, link)),
                Err(error) => {
                    log::warn!(error:% = error; "a request cannot be handed to the handlers");
                    Err(Refusal::new(503, "the server cannot take more requests; try again later"))
                }
            },
        }
    }

    fn turn(&self) -> Result<Turn, Refusal> {
        let mut pool = self.pool();
        if let Some(link) = pool.idle.pop() {
            return Ok(Turn::Link(link));
        }
        if pool.links < self.max {
            pool.links += 1;
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
        let _one_at_a_time = self.opening.lock().unwrap_or_else(|it| it.into_inner());
        Link::open(&self.passage)
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
        match pool.waiting.pop_front() {
            Some((_, waiter)) => {
                let _ = waiter.send(Turn::Open);
            }
            None => pool.links -= 1,
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // Nothing under this lock can be left half done by a panic.
        self.pool.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn busy() -> Refusal {
    Refusal::new(503, "the server is busy; try again later")
}

/// The place of a link that is in use. Unless the link is given back, it is gone: nobody knows what
/// it would still bring.
#[derive(Debug)]
pub(super) struct Place<'a> {
    links: &'a Links,
    is_vacant: bool,
}

impl Place<'_> {
    /// The answer has come to its end; `link` is good for another one.
    pub(super) fn give_back(mut self, link: Link) {
        self.is_vacant = false;
        self.links.give_back(link);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_vacant {
            self.links.lose();
        }
    }
}
