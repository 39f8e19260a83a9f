//! Bodies of requests that are arriving or wait for a handler: small ones in memory, large ones in
//! a file that has no name, all of them under two budgets that both listeners share. Bytes are taken
//! from a budget as they arrive, and given back when the body is dropped, whatever becomes of it. An
//! address and a fleet have a share of each budget ([`share`]).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::Admitted;
use crate::model::ids::FleetId;
use crate::model::limits::BODY_INLINE_BYTES_MAX;
use crate::model::network::sender_of;
use crate::model::refusal::{Reason, Refusal};
use crate::model::share;

/// Where bodies may be kept, and how much of them.
#[derive(Debug)]
pub struct BodyStore {
    directory: PathBuf,
    memory: Arc<Budget>,
    disk: Arc<Budget>,
}

impl BodyStore {
    /// Keeps up to `memory_bytes` of small bodies, and up to `disk_bytes` of large ones in files in
    /// `directory`.
    pub fn new(directory: PathBuf, memory_bytes: u64, disk_bytes: u64) -> Self {
        Self {
            directory,
            memory: Arc::new(Budget::new(memory_bytes)),
            disk: Arc::new(Budget::new(disk_bytes)),
        }
    }

    /// Where the files are; private to this server.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes on disk that bodies take up: what was written is copied into the database before it goes,
    /// and so takes up as much again.
    pub fn promised_on_disk(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.disk.used)
    }

    /// Begins to take in a body of `length` bytes, or of an unknown length. It counts to `holders`.
    ///
    /// # Errors
    /// 503 when there is no room for so many bytes now, or no file can be had.
    pub fn begin(
        &self,
        length: Option<u64>,
        holders: Holders,
    ) -> Result<IncomingBody<'_>, Refusal> {
        let is_large = length.is_some_and(|length| length > BODY_INLINE_BYTES_MAX as u64);
        let budget = if is_large { &self.disk } else { &self.memory };
        let space = Reservation { budget: Arc::clone(budget), holders, bytes: 0 };
        // Nothing is promised: a client that announces much and sends nothing takes nothing from others.
        if !length.is_none_or(|length| space.could_grow_to(length)) {
            return Err(exhausted());
        }
        let file = if is_large { Some(self.file()?) } else { None };
        Ok(IncomingBody { bodies: self, memory: Vec::new(), file, length: 0, space })
    }

    fn file(&self) -> Result<BufWriter<File>, Refusal> {
        // O_TMPFILE: it has no name, so nothing is left of it after a crash either.
        tempfile::tempfile_in(&self.directory).map(BufWriter::new).map_err(no_room)
    }
}

/// A body that is arriving.
#[derive(Debug)]
pub struct IncomingBody<'a> {
    bodies: &'a BodyStore,
    memory: Vec<u8>,
    /// Buffered: a body may come in chunks of a byte each.
    file: Option<BufWriter<File>>,
    length: u64,
    space: Reservation,
}

impl IncomingBody<'_> {
    /// How much has arrived.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is in memory, or its holders have no more of the disk than their share while `left`
    /// bytes of it are free.
    pub fn fits_on_disk(&self, left: impl FnOnce() -> u64) -> bool {
        self.file.is_none() || self.space.is_share_of(left())
    }

    /// Adds what has arrived.
    ///
    /// # Errors
    /// 503 when there is no room for it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let length = self.length + bytes.len() as u64;
        if self.file.is_none() && length > BODY_INLINE_BYTES_MAX as u64 {
            self.move_to_file(length)?;
        }
        self.reserve(length)?;
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(no_room)?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.length = length;
        Ok(())
    }

    /// The body, complete.
    ///
    /// # Errors
    /// 503 when there is no room for the last of it, or it cannot be read back.
    pub fn finish(self) -> Result<Body, Refusal> {
        let content = match self.file {
            Some(file) => Content::File(file.into_inner().map_err(|it| no_room(it.into_error()))?),
            None => Content::Memory(self.memory),
        };
        Ok(Body { content, length: self.length, _space: Some(self.space) })
    }

    fn reserve(&mut self, length: u64) -> Result<(), Refusal> {
        if self.space.grow_to(length) { Ok(()) } else { Err(exhausted()) }
    }

    /// Goes on in a file, in which there is room for `length` bytes.
    fn move_to_file(&mut self, length: u64) -> Result<(), Refusal> {
        let (budget, holders) = (Arc::clone(&self.bodies.disk), self.space.holders);
        let mut space = Reservation { budget, holders, bytes: 0 };
        if !space.grow_to(length) {
            return Err(exhausted());
        }
        let mut file = self.bodies.file()?;
        file.write_all(&self.memory).map_err(no_room)?;
        self.memory = Vec::new();
        self.file = Some(file);
        self.space = space;
        Ok(())
    }
}

fn exhausted() -> Refusal {
    Refusal::new(Reason::NoRoomForBody, "too many bodies are arriving at once; try again later")
}

fn no_room(error: io::Error) -> Refusal {
    log::warn!(error:% = error; "a large body cannot be kept in the data directory");
    Refusal::new(Reason::NoRoomForBody, "there is no room for the body; try again later")
}

/// A complete body, which can be read more than once.
#[derive(Debug)]
pub struct Body {
    content: Content,
    length: u64,
    _space: Option<Reservation>,
}

#[derive(Debug)]
enum Content {
    Memory(Vec<u8>),
    File(File),
}

impl Body {
    /// A body without a byte.
    pub fn empty() -> Self {
        Self::in_memory(Vec::new())
    }

    /// A body that has not come over a connection. It counts to no budget: its length is the caller's to
    /// bound.
    pub fn in_memory(bytes: Vec<u8>) -> Self {
        Self { length: bytes.len() as u64, content: Content::Memory(bytes), _space: None }
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is in a file, because it is large.
    pub fn is_in_file(&self) -> bool {
        matches!(self.content, Content::File(_))
    }

    /// Reads it from its first byte on, independently of other readers.
    pub fn reader(&self) -> BodyReader<'_> {
        BodyReader { body: self, at: 0 }
    }
}

/// Reads a body from its beginning.
#[derive(Debug)]
pub struct BodyReader<'a> {
    body: &'a Body,
    at: u64,
}

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &self.body.content {
            Content::Memory(bytes) => {
                bytes.get(self.at as usize..).unwrap_or_default().read(buffer)?
            }
            Content::File(file) => file.read_at(buffer, self.at)?,
        };
        self.at += read as u64;
        Ok(read)
    }
}

/// To whom a body counts: the address that has sent it, and the fleet that it is for, if any.
#[derive(Clone, Copy, Debug)]
pub struct Holders {
    pub(super) address: IpAddr,
    pub(super) fleet: Option<FleetId>,
}

impl Holders {
    /// Those of a request that was let in.
    pub fn of(admitted: Admitted) -> Self {
        Self {
            address: sender_of(admitted.remote_addr.ip()),
            fleet: admitted.webhook.map(|webhook| webhook.fleet),
        }
    }

    fn each(self) -> impl Iterator<Item = Holder> {
        [Some(Holder::Address(self.address)), self.fleet.map(Holder::Fleet)].into_iter().flatten()
    }
}

/// One of those among whom a budget is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Address(IpAddr),
    Fleet(FleetId),
}

/// Bytes that may be in use at once.
#[derive(Debug)]
struct Budget {
    max: u64,
    /// Changes under the lock of `held` only.
    used: Arc<AtomicU64>,
    /// Of these, what each holder has.
    held: Mutex<HashMap<Holder, u64>>,
}

impl Budget {
    fn new(max: u64) -> Self {
        Self { max, used: Arc::default(), held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Holder, u64>> {
        // Nothing under this lock can be left half done by a panic.
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What a body has of a budget; given back when dropped.
#[derive(Debug)]
struct Reservation {
    budget: Arc<Budget>,
    holders: Holders,
    bytes: u64,
}

impl Reservation {
    /// Whether the body may have `bytes` bytes now. It is judged as if it came all at once: one body
    /// alone may be as large as the budget.
    fn could_grow_to(&self, bytes: u64) -> bool {
        self.may_have(bytes, &self.budget.held())
    }

    fn may_have(&self, bytes: u64, held: &HashMap<Holder, u64>) -> bool {
        let used = self.budget.used.load(Ordering::Relaxed).saturating_sub(self.bytes);
        let left = self.budget.max.saturating_sub(used);
        self.holders.each().all(|holder| {
            let others = held.get(&holder).map_or(0, |held| held.saturating_sub(self.bytes));
            share::may_hold(others, bytes, left)
        })
    }

    /// Whether none of the holders has more than its share, where `left` bytes are left.
    fn is_share_of(&self, left: u64) -> bool {
        let held = self.budget.held();
        let held_by = |holder| held.get(&holder).copied().unwrap_or_default();
        self.holders.each().all(|holder| share::may_hold(held_by(holder), 0, left))
    }

    /// Takes what is missing to `bytes`. Returns whether there was that much.
    fn grow_to(&mut self, bytes: u64) -> bool {
        let missing = bytes.saturating_sub(self.bytes);
        if missing == 0 {
            return true;
        }
        let mut held = self.budget.held();
        if !self.may_have(bytes, &held) {
            return false;
        }
        for holder in self.holders.each() {
            *held.entry(holder).or_default() += missing;
        }
        self.budget.used.fetch_add(missing, Ordering::Relaxed);
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.budget.held();
        for holder in self.holders.each() {
            if let Some(bytes) = held.get_mut(&holder) {
                *bytes -= self.bytes;
                if *bytes == 0 {
                    held.remove(&holder);
                }
            }
        }
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INLINE: u64 = BODY_INLINE_BYTES_MAX as u64;

    fn used(bodies: &BodyStore) -> (u64, u64) {
        (bodies.memory.used.load(Ordering::Relaxed), bodies.disk.used.load(Ordering::Relaxed))
    }

    fn holders(last: u8) -> Holders {
        Holders { address: [192, 0, 2, last].into(), fleet: None }
    }

    fn bodies(memory: u64, disk: u64) -> BodyStore {
        BodyStore::new(std::env::temp_dir(), memory, disk)
    }

    fn read(body: Body) -> Vec<u8> {
        let (mut bytes, mut again) = (Vec::new(), Vec::new());
        body.reader().read_to_end(&mut bytes).unwrap();
        body.reader().read_to_end(&mut again).unwrap();
        assert!(bytes == again, "the second reader sees what the first one saw");
        assert_eq!(bytes.len() as u64, body.length());
        bytes
    }

    #[test]
    fn small_bodies_stay_in_memory_and_large_ones_do_not() {
        let bodies = bodies(INLINE, 1 << 20);
        let bytes: Vec<u8> = (0..INLINE + 1).map(|at| at as u8).collect();
        for announced in [true, false] {
            let (small, large) = (&bytes[..INLINE as usize], &bytes[..]);
            for (bytes, expected) in [(small, (INLINE, 0)), (large, (0, INLINE + 1))] {
                let mut incoming =
                    bodies.begin(announced.then_some(bytes.len() as u64), holders(1)).unwrap();
                for piece in bytes.chunks(1000) {
                    incoming.push(piece).unwrap();
                }
                let body = incoming.finish().unwrap();
                assert_eq!(used(&bodies), expected);
                assert!(read(body) == bytes);
                assert_eq!(used(&bodies), (0, 0));
            }
        }
        assert_eq!(read(bodies.begin(Some(0), holders(1)).unwrap().finish().unwrap()), b"");
    }

    #[test]
    fn bytes_are_taken_as_they_arrive_and_given_back() {
        let bodies = bodies(100, INLINE * 2);
        let incoming = |length, last| bodies.begin(length, holders(last));
        let mut first = incoming(Some(60), 1).unwrap();
        drop(incoming(Some(100), 2).expect("nothing has come of the first"));
        first.push(&[0; 60]).unwrap();
        assert_eq!(incoming(Some(41), 2).unwrap_err().status(), 503);
        let mut growing = incoming(None, 2).unwrap();
        growing.push(&[0; 40]).unwrap();
        assert_eq!(growing.push(&[0]).unwrap_err().status(), 503);
        drop(first);
        growing.push(&[0]).unwrap();
        let mut large = incoming(Some(INLINE + 1), 1).unwrap();
        large.push(&vec![0; BODY_INLINE_BYTES_MAX + 1]).unwrap();
        assert_eq!(incoming(Some(INLINE + 1), 2).unwrap_err().status(), 503);
        assert_eq!(incoming(Some(u64::MAX), 2).unwrap_err().status(), 503);
        drop((large, growing));
        assert_eq!(used(&bodies), (0, 0));
        assert!(bodies.memory.held().is_empty() && bodies.disk.held().is_empty());
    }

    #[test]
    fn an_address_and_a_fleet_have_a_share_each() {
        let bodies = bodies(100, 0);
        let fleets = [FleetId::random(), FleetId::random()];
        let of = |last, fleet: usize| Holders { fleet: Some(fleets[fleet]), ..holders(last) };
        let mut held = Vec::new();
        let mut take = |holders| {
            let mut incoming = bodies.begin(Some(5), holders).ok()?;
            incoming.push(&[0; 5]).ok()?;
            held.push(incoming);
            Some(())
        };
        let of_fleet = (0..100).map_while(|last| take(of(last, 0))).count();
        assert!((14..=16).contains(&of_fleet), "{of_fleet} of 20, from as many addresses");
        assert!(take(of(200, 0)).is_none(), "of that fleet, from any address");
        assert!(take(of(1, 1)).is_some(), "of another fleet");
        held.clear();
        let mut take = |holders| {
            let mut incoming = bodies.begin(Some(5), holders).ok()?;
            incoming.push(&[0; 5]).ok()?;
            held.push(incoming);
            Some(())
        };
        let of_address = (0..100).map_while(|_| take(holders(1))).count();
        assert!((14..=16).contains(&of_address), "{of_address} of 20");
        assert!(take(holders(2)).is_some());
    }

    #[test]
    fn a_missing_directory_is_refused_as_no_room() {
        let bodies = BodyStore::new("/nowhere".into(), INLINE, 1 << 20);
        assert_eq!(bodies.begin(Some(INLINE + 1), holders(1)).unwrap_err().status(), 503);
        assert_eq!(used(&bodies), (0, 0));
    }
}
