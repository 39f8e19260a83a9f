//! The way from the gate to the handlers: a Unix socket without a name, and a table in which
//! requests wait to be claimed. What crosses the socket is an id that nobody can guess, never a byte
//! that a stranger sent; the request itself does not leave the process.
//!
//! An answer comes back over a [`Link`], which is one request's for as long as that takes. Requests
//! whose answers may take a shorter way are announced over one connection for all of them, the lane:
//! many come at once there, and a thread that is awake reads on where others would have to be woken.
//! An answer that needs its link after all is announced over that, as a request would have been.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::body::Body;
use super::head::Head;
use super::shortcut::Shortcut;
use super::socket::widen_backlog;

/// Bytes of an answer that are relayed at a time.
const BUFFER_BYTES: usize = 16 * 1024;

/// A request that is complete and checked, on its way to a handler.
#[derive(Debug)]
pub struct Parcel {
    pub head: Head,
    pub remote_addr: SocketAddr,
    pub body: Body,
    /// When the last of it had come.
    pub received_at: Instant,
    /// What the answer comes back over.
    pub line: Arc<Line>,
    /// What a small one may take instead. Others have to be announced first, where there is a lane.
    pub shortcut: Option<Arc<Shortcut>>,
}

/// Writes an answer to the connection that it comes back over.
pub type Relayed = Box<dyn FnOnce(Box<dyn Write + Send>) + Send>;

/// What waits under an id.
pub enum Waiting {
    Request(Box<Parcel>),
    Response(Relayed),
}

/// See the module.
pub struct Passage {
    /// The socket's file, whose name is gone: whoever does not have this descriptor cannot connect.
    socket: OwnedFd,
    lane: OnceLock<Lane>,
    waiting: Mutex<Table>,
}

/// One connection for the announcements of all requests whose answers do not come back over it.
struct Lane {
    stream: UnixStream,
    is_broken: AtomicBool,
}

impl Lane {
    /// Sends an announcement, unless the lane is broken.
    fn takes(&self, announcement: &str) -> bool {
        if self.is_broken.load(Ordering::Relaxed) {
            return false;
        }
        // So short a line is one message to the kernel, whoever else is writing. Its reader waits for
        // nobody.
        let sent = (&self.stream).write_all(announcement.as_bytes());
        if let Err(error) = &sent
            && !self.is_broken.swap(true, Ordering::Relaxed)
        {
            log::error!(error:% = error; "requests go over links of their own from now on");
        }
        sent.is_ok()
    }
}

/// What waits, by id.
#[derive(Default)]
struct Table {
    entries: HashMap<u128, Waiting>,
    /// Nobody claims anything any more.
    is_closed: bool,
}

impl Passage {
    /// A passage, and the listener at its inner end. `directory` holds the socket's name for a
    /// moment; it should be private.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open(directory: &Path) -> io::Result<(UnixListener, Arc<Self>)> {
        // A path through the descriptor of its directory is short, however long that one's is: a
        // socket's address has 108 bytes (unix(7)).
        let directory = rustix::fs::open(
            directory,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let name = format!(".gate-{:016x}", random()? >> 64);
        let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
        let listener = UnixListener::bind(&path)?;
        widen_backlog(&listener)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = rustix::fs::open(&path, flags, Mode::empty());
        std::fs::remove_file(&path)?;
        let (lane, waiting) = (OnceLock::new(), Mutex::default());
        Ok((listener, Arc::new(Self { socket: socket?, lane, waiting })))
    }

    /// Opens the lane, as a [`Link`] is opened. Without one, all requests go over their links.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub fn open_lane(&self, patience: Duration) -> io::Result<()> {
        let stream = self.dial()?;
        greet(&stream, patience)?;
        // Whoever was first has opened as good a one.
        let _ = self.lane.set(Lane { stream, is_broken: AtomicBool::new(false) });
        Ok(())
    }

    /// Whether requests with a shortcut are announced over a lane.
    pub fn has_lane(&self) -> bool {
        self.lane.get().is_some()
    }

    /// Connects to the listener.
    ///
    /// # Errors
    /// When there are no descriptors left, or the listener is gone.
    pub fn dial(&self) -> io::Result<UnixStream> {
        UnixStream::connect(format!("/proc/self/fd/{}", self.socket.as_raw_fd()))
    }

    /// Takes what waits under the id in `target`, the path of an announcement.
    pub fn claim(&self, target: &str) -> Option<Waiting> {
        let id = u128::from_str_radix(target.strip_prefix('/')?, 16).ok()?;
        self.table().entries.remove(&id)
    }

    /// Has `answer` written to `line`, by whoever claims it. Of the parcel that came with the line
    /// nothing waits any more.
    ///
    /// # Errors
    /// When the line is cut, or nobody claims anything any more. Then the answer is dropped.
    pub fn bring(&self, line: &Line, answer: Relayed) -> io::Result<()> {
        self.announce(line, Waiting::Response(answer), || line.announce())
    }

    /// Drops all that waits, now and later.
    pub fn close(&self) {
        let left = {
            let mut table = self.table();
            table.is_closed = true;
            std::mem::take(&mut table.entries)
        };
        drop(left);
    }

    /// Lets `what` wait under the id of `line`, and has it announced by `say`.
    fn announce(
        &self,
        line: &Line,
        what: Waiting,
        say: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut table = self.table();
        if table.is_closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let before = table.entries.insert(line.id, what);
        drop(table);
        debug_assert!(before.is_none(), "a link is for one request at a time");
        let said = say();
        if said.is_err() {
            drop(self.forget(line));
        }
        said
    }

    /// Announces what waits for `line` over the lane, or over the line itself without one.
    fn say_on_lane(&self, line: &Line) -> io::Result<()> {
        match self.lane.get() {
            Some(lane) if lane.takes(&line.announcement) => Ok(()),
            _ => line.announce(),
        }
    }

    /// Takes back what waits for the line, to be dropped without the lock.
    fn forget(&self, line: &Line) -> Option<Waiting> {
        self.table().entries.remove(&line.id)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing under this lock can be left half done by a panic.
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passage(…)")
    }
}

/// The connection that an answer comes back over, as both of its ends know it.
#[derive(Debug)]
pub struct Line {
    stream: UnixStream,
    is_cut: AtomicBool,
    id: u128,
    /// Tells the handlers of what waits under the id.
    announcement: String,
}

impl Line {
    fn announce(&self) -> io::Result<()> {
        (&self.stream).write_all(self.announcement.as_bytes())
    }

    /// Ends the connection at once. From the outside: nobody waits for the answer any more. From
    /// the inside: what was sent of it is not all of it.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Whether either side has cut it.
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A connection through the passage, for one request at a time. Cut when dropped.
#[derive(Debug)]
pub struct Link {
    passage: Arc<Passage>,
    line: Arc<Line>,
    buffer: Vec<u8>,
}

impl Link {
    /// Connects, and waits for up to `patience` until somebody serves the connection: tiny_http
    /// leaves one lying that comes while a thread of its pool is still on its way to the one before.
    /// When all handlers are busy for longer, this fails with [`io::ErrorKind::WouldBlock`].
    pub(super) fn open(passage: &Arc<Passage>, patience: Duration) -> io::Result<Self> {
        let (stream, id) = (passage.dial()?, random()?);
        greet(&stream, patience)?;
        let announcement = request(&format!("/{id:032x}"));
        let line = Line { stream, is_cut: AtomicBool::new(false), id, announcement };
        let passage = Arc::clone(passage);
        Ok(Self { passage, line: Arc::new(line), buffer: vec![0; BUFFER_BYTES] })
    }

    /// The connection, to go with the request.
    pub(super) fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line)
    }

    /// Hands `parcel` over. Its answer comes over the link.
    pub(super) fn forward(&self, parcel: Parcel) -> io::Result<()> {
        let what = Waiting::Request(Box::new(parcel));
        self.passage.announce(&self.line, what, || self.line.announce())
    }

    /// Hands `parcel` over, whose answer need not come over the link.
    pub(super) fn announce(&self, parcel: Parcel) -> io::Result<()> {
        let what = Waiting::Request(Box::new(parcel));
        self.passage.announce(&self.line, what, || self.passage.say_on_lane(&self.line))
    }

    /// Reads once what has come of an answer; nothing at the end of the connection.
    pub(super) fn receive(&mut self) -> io::Result<&[u8]> {
        loop {
            match (&self.line.stream).read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(read) => return Ok(self.buffer.get(..read).unwrap_or_default()),
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.line.cut();
        drop(self.passage.forget(&self.line));
    }
}

/// The path of the first request on a connection, behind which nothing waits.
pub const GREETING: &str = "/";

/// A request for `path`.
fn request(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\n\r\n")
}

/// Waits for up to `patience` until `stream` is served. Any answer will do.
fn greet(mut stream: &UnixStream, patience: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(request(GREETING).as_bytes())?;
    let (mut answer, mut fresh) = (Vec::new(), [0; 256]);
    while !answer.ends_with(b"\r\n\r\n") {
        let read = match stream.read(&mut fresh) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 || answer.len() > BUFFER_BYTES {
            return Err(io::Error::other("the handlers do not answer"));
        }
        answer.extend_from_slice(&fresh[..read]);
    }
    // An answer takes as long as it takes.
    stream.set_read_timeout(None)
}

fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
pub(super) mod tests;
