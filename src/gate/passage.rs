//! The way from the gate to the handlers: a Unix socket without a name, and a table in which
//! requests wait to be claimed. What crosses the socket is an id that nobody can guess, never a byte
//! that a stranger sent; the request itself does not leave the process.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::body::Body;
use super::head::Head;
use super::shortcut::Shortcut;

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
    /// What a small one may take instead.
    pub shortcut: Option<Arc<Shortcut>>,
}

/// See the module.
pub struct Passage {
    /// The socket's file, whose name is gone: whoever does not have this descriptor cannot connect.
    socket: OwnedFd,
    waiting: Mutex<HashMap<u128, Parcel>>,
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
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = rustix::fs::open(&path, flags, Mode::empty());
        std::fs::remove_file(&path)?;
        let waiting = Mutex::default();
        Ok((listener, Arc::new(Self { socket: socket?, waiting })))
    }

    /// Connects to the listener.
    ///
    /// # Errors
    /// When there are no descriptors left, or the listener is gone.
    pub fn dial(&self) -> io::Result<UnixStream> {
        UnixStream::connect(format!("/proc/self/fd/{}", self.socket.as_raw_fd()))
    }

    /// Takes the request that waits under the id in `target`, the path of a forwarded request.
    pub fn claim(&self, target: &str) -> Option<Parcel> {
        let id = u128::from_str_radix(target.strip_prefix('/')?, 16).ok()?;
        self.waiting().remove(&id)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u128, Parcel>> {
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
}

impl Line {
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
    id: u128,
    /// The forwarded request, always the same.
    request: String,
    buffer: Vec<u8>,
}

impl Link {
    /// Connects, and waits for up to `patience` until somebody serves the connection: tiny_http
    /// leaves one lying that comes while a thread of its pool is still on its way to the one before.
    /// When all handlers are busy for longer, this fails with [`io::ErrorKind::WouldBlock`].
    pub(super) fn open(passage: &Arc<Passage>, patience: Duration) -> io::Result<Self> {
        let id = random()?;
        let line = Line { stream: passage.dial()?, is_cut: AtomicBool::new(false) };
        let mut link = Self {
            passage: Arc::clone(passage),
            line: Arc::new(line),
            id,
            request: format!("POST /{id:032x} HTTP/1.1\r\n\r\n"),
            buffer: vec![0; BUFFER_BYTES],
        };
        // Nothing waits under the id yet; any answer will do.
        link.line.stream.set_read_timeout(Some(patience))?;
        link.send()?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let fresh = link.receive()?;
            if fresh.is_empty() || answer.len() > BUFFER_BYTES {
                return Err(io::Error::other("the handlers do not answer"));
            }
            answer.extend_from_slice(fresh);
        }
        // An answer takes as long as it takes.
        link.line.stream.set_read_timeout(None)?;
        Ok(link)
    }

    /// The connection, to go with the request.
    pub(super) fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line)
    }

    /// Hands `parcel` over.
    pub(super) fn forward(&mut self, parcel: Parcel) -> io::Result<()> {
        self.passage.waiting().insert(self.id, parcel);
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        (&self.line.stream).write_all(self.request.as_bytes())
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
        self.passage.waiting().remove(&self.id);
    }
}

fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_without_a_name_is_reached_through_its_descriptor() {
        // Longer than a socket's address may be.
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("d".repeat(200));
        std::fs::create_dir(&directory).unwrap();
        let (listener, passage) = Passage::open(&directory).unwrap();
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        let mut near = passage.dial().unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn nothing_is_claimed_that_does_not_wait() {
        let scratch = tempfile::tempdir().unwrap();
        let (_listener, passage) = Passage::open(scratch.path()).unwrap();
        for target in ["", "/", "/0", "/zz", "0", "/00000000000000000000000000000000", "/+1"] {
            assert!(passage.claim(target).is_none(), "{target}");
        }
    }
}
