//! The way from the connections to the handlers. A complete request waits in a table of this process
//! under a number; tiny_http is sent nothing but that number, over one private Unix connection. A
//! handler takes the request by the number that tiny_http hands to it.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::{Mode, OFlags};
use uuid::Uuid;

use super::answer::AnswerSlot;
use super::request::Request;
use super::socket::widen_backlog;
use crate::os::fatal;

/// See the module.
pub(super) struct Handoff {
    /// The socket's file, whose name is gone: no other process can connect to it.
    socket: OwnedFd,
    /// Carries the announcements, one line of a request each.
    announcements: UnixStream,
    table: Mutex<Table>,
}

/// A request and the slot for its response.
type Waiting = (Request, AnswerSlot);

#[derive(Default)]
struct Table {
    waiting: HashMap<u64, Waiting>,
    /// Of the last request.
    number: u64,
    /// The handlers have ended.
    is_closed: bool,
}

impl Handoff {
    /// Opens the private connection. Returns its inner end, for tiny_http. `directory` holds the
    /// socket's name for a moment; it should be private.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(super) fn open(directory: &Path) -> io::Result<(UnixListener, Arc<Self>)> {
        // A path through the directory's descriptor is short, however long the directory's own path
        // is: a socket's address has 108 bytes (unix(7)).
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        let name = format!(".handoff-{}", Uuid::new_v4().simple());
        let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
        let listener = UnixListener::bind(&path)?;
        widen_backlog(&listener)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = rustix::fs::open(&path, flags, Mode::empty());
        std::fs::remove_file(&path)?;
        let socket = socket?;
        let announcements = connect(&socket)?;
        Ok((listener, Arc::new(Self { socket, announcements, table: Mutex::default() })))
    }

    /// Lets a request wait and announces it. A request that comes after [`close`](Self::close) is
    /// dropped, which its slot tells the client.
    pub(super) fn submit(&self, request: Request, slot: AnswerSlot) {
        let number = {
            let mut table = self.table();
            if table.is_closed {
                return;
            }
            table.number += 1;
            let number = table.number;
            table.waiting.insert(number, (request, slot));
            number
        };
        // So short a message reaches the kernel whole, whichever threads write beside this one.
        let announcement = format!("POST /{number} HTTP/1.1\r\nHost: boathook\r\n\r\n");
        if let Err(error) = (&self.announcements).write_all(announcement.as_bytes()) {
            // No request reaches a handler from here on.
            fatal::stop(&format!("the connection to the handlers is broken: {error}"));
        }
    }

    /// Takes the request that waits under the number in `path`, the path of an announcement.
    pub(super) fn take(&self, path: &str) -> Option<Waiting> {
        let number = path.strip_prefix('/')?.parse().ok()?;
        self.table().waiting.remove(&number)
    }

    /// Drops the requests that wait, now and later: no handler takes them any more.
    pub(super) fn close(&self) {
        let left = {
            let mut table = self.table();
            table.is_closed = true;
            std::mem::take(&mut table.waiting)
        };
        drop(left);
    }

    /// Makes tiny_http's accepting thread look up, and see that its server has ended.
    pub(super) fn nudge(&self) {
        let _ = connect(&self.socket);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No panic leaves the table half changed.
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl fmt::Debug for Handoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handoff(…)")
    }
}

/// Connects to a socket that has no name, through its descriptor.
fn connect(socket: &OwnedFd) -> io::Result<UnixStream> {
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::super::answer::{self, Client, Event, Filled};
    use super::super::connections::{Connections, Limits};
    use super::super::permits::Permits;
    use super::super::response::Persistence;
    use super::super::{Body, Origin};
    use super::*;

    const TEST_TIMEOUT: Duration = Duration::from_secs(30);

    fn request() -> Request {
        Request {
            method: "GET".into(),
            path: "/".into(),
            query: String::new(),
            headers: Vec::new(),
            remote_addr: ([127, 0, 0, 1], 1).into(),
            webhook: None,
            principal: None,
            received_at: Instant::now(),
            body: Body::empty(),
        }
    }

    fn slot() -> (answer::Answer, AnswerSlot) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let connections = Connections::new(Limits { connections: 1, per_address: 1, reserved: 0 });
        let handle = connections
            .take_place(&stream, [192, 0, 2, 1].into(), Origin::Stranger)
            .unwrap()
            .handle()
            .clone();
        let persistence = Persistence::Kept;
        let client = Client { handle, is_head: false, persistence, may_send: false };
        answer::slot(client, Permits::new(1, 0, TEST_TIMEOUT).take().unwrap())
    }

    /// The path of the next announcement.
    fn announced(mut inner: &UnixStream) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\r\n\r\n") {
            inner.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        String::from_utf8(line).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    #[test]
    fn a_request_is_taken_once_by_the_number_that_was_announced() {
        let directory = tempfile::tempdir().unwrap();
        let (listener, handoff) = Handoff::open(directory.path()).unwrap();
        let (inner, _) = listener.accept().unwrap();
        let (_answer, slot) = slot();
        handoff.submit(request(), slot);
        let path = announced(&inner);
        for other in ["", "/", "/0", "/zz", "1", "/2", "/-1"] {
            assert!(handoff.take(other).is_none(), "{other}");
        }
        assert!(handoff.take(&path).is_some());
        assert!(handoff.take(&path).is_none(), "only once");
    }

    #[test]
    fn requests_that_no_handler_takes_are_answered_as_failed() {
        let directory = tempfile::tempdir().unwrap();
        let (_listener, handoff) = Handoff::open(directory.path()).unwrap();
        let (before, slot_before) = slot();
        handoff.submit(request(), slot_before);
        handoff.close();
        let (after, slot_after) = slot();
        handoff.submit(request(), slot_after);
        for answer in [before, after] {
            let event = answer.wait(TEST_TIMEOUT).unwrap();
            assert!(matches!(event, Event::Filled(Filled::Nothing, _)));
        }
    }

    #[test]
    fn a_socket_without_a_name_is_reached_through_its_descriptor() {
        // Longer than a socket's address may be.
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("d".repeat(200));
        std::fs::create_dir(&directory).unwrap();
        let (listener, handoff) = Handoff::open(&directory).unwrap();
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        let _announcements = listener.accept().unwrap();
        handoff.nudge();
        listener.accept().unwrap();
    }
}
