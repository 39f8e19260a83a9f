//! Accepts connections, also when some of them fail, and gives each a thread of its own or turns it away.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::Shared;
use super::connection::{Connection, RESERVED_TIME_MAX, no_place};
use super::connections::{ACCEPT_RETRY, NoPlace, Place};
use super::read_buffer::ReadBuffer;
use super::reserve::{CONNECTION_STACK_BYTES, Job, Reserve};
use super::response::Persistence;
use super::socket::{Socket, Transport};
use crate::model::limits;
use crate::model::refusal::{Reason, Refusal};
use crate::os::logging::LOG_INTERVAL;
use crate::os::threads;

/// Reads of 4 KiB from a rejected connection before it is closed: what a client sends without being
/// asked for more.
const REJECTED_READS_MAX: usize = 64;
/// Connections that wait to be accepted: what Linux queues at most, unless told otherwise
/// (net.core.somaxconn, listen(2)).
const ACCEPT_BACKLOG_MAX: usize = 4096;

/// The answer to a client of TLS before the end of its handshake: a fatal alert, internal_error (RFC 8446
/// 6.2).
const TLS_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// The thread that accepts, as its owner sees it.
pub(super) struct Acceptor {
    is_stopping: Arc<AtomicBool>,
    /// Wakes the thread.
    wake: Arc<OwnedFd>,
}

/// The same as the thread sees it.
struct Accepting {
    listener: TcpListener,
    shared: Arc<Shared>,
    is_stopping: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
    /// Given up to accept, and turn away, one more connection when there are no descriptors left.
    spare: Option<File>,
    /// When trouble with accepting was last logged.
    trouble_logged_at: Option<Instant>,
    /// Connections that were turned away, until their clients have read why.
    rejected: VecDeque<Rejected>,
    /// Threads for connections when the system gives none.
    reserve: Reserve,
}

/// A connection that was turned away. Closed at once it would be reset by what its client has sent,
/// and the answer lost.
struct Rejected {
    stream: Arc<TcpStream>,
    until: Instant,
}

impl Acceptor {
    /// Starts the thread.
    pub(super) fn start(
        listener: TcpListener,
        shared: Arc<Shared>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        // Inherited by what it accepts: streamed output must not wait for acknowledgements.
        rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
        listener.set_nonblocking(true)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let mut accepting = Accepting {
            listener,
            is_stopping: Arc::clone(&is_stopping),
            wake: Arc::clone(&wake),
            spare: spare(),
            trouble_logged_at: None,
            rejected: VecDeque::new(),
            reserve: Reserve::start(shared.name)?,
            shared,
        };
        let name = format!("{}-accept", accepting.shared.name);
        let thread = threads::vital(name).spawn(move || accepting.run())?;
        Ok((Self { is_stopping, wake }, thread))
    }

    /// Tells the thread to end, once it has accepted what the kernel has queued.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl Accepting {
    fn run(&mut self) {
        loop {
            let mut events = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&*self.wake, PollFlags::IN),
            ];
            let due = self.rejected.front().map(|first| {
                let left = first.until.saturating_duration_since(Instant::now());
                // A little more, so that the time has come when it wakes.
                Timespec::try_from(left + Duration::from_millis(1)).unwrap_or_default()
            });
            if let Err(errno) = poll(&mut events, due.as_ref())
                && errno != Errno::INTR
            {
                self.recover(&errno.into());
            }
            self.close_rejected(Instant::now());
            let is_stopping = self.is_stopping.load(Ordering::SeqCst);
            self.accept_queued();
            if is_stopping {
                return;
            }
        }
    }

    /// Accepts what the kernel has queued, and no more: clients that connect faster than they are
    /// accepted must not keep a server from stopping.
    fn accept_queued(&mut self) {
        for _ in 0..ACCEPT_BACKLOG_MAX {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    self.shared.counters.accepted.count();
                    self.serve_connection(stream, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The client has gone before its turn, or its network has: accept(2).
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.recover(&error);
                    return;
                }
            }
        }
    }

    /// Gives a connection a place and a thread.
    fn serve_connection(&mut self, stream: TcpStream, peer: SocketAddr) {
        let (shared, stream) = (&self.shared, Arc::new(stream));
        let origin = shared.handler.origin(peer.ip());
        let place = match shared.connections.take_place(&stream, peer.ip(), origin) {
            Ok(place) => place,
            Err(why) => return self.reject(stream, why),
        };
        let of_thread = (Arc::clone(shared), Arc::clone(&stream));
        let job: Job = Box::new(move || {
            let (shared, stream) = of_thread;
            shared.counters.connection_opened();
            // A panic ends one connection and nothing else.
            if catch_unwind(AssertUnwindSafe(|| serve(&shared, &place, stream, peer))).is_err() {
                log::error!(listener = shared.name; "serving a connection panicked");
            }
            if place.is_given_up() {
                shared.counters.given_up.count();
            }
            shared.counters.connection_closed();
        });
        if self.start(job).is_err() {
            self.reject(stream, NoPlace::Full);
        }
    }

    /// Has a thread of its own do `job`, or one of the reserve when the system gives none.
    fn start(&mut self, job: Job) -> Result<(), Job> {
        // Shared, so that it can be taken back when no thread starts.
        let job = Arc::new(Mutex::new(Some(job)));
        let take =
            |job: &Mutex<Option<Job>>| job.lock().unwrap_or_else(PoisonError::into_inner).take();
        let of_thread = Arc::clone(&job);
        let spawned = threads::serving(format!("{}-conn", self.shared.name))
            .stack_size(CONNECTION_STACK_BYTES)
            .spawn(move || take(&of_thread).map(|job| job()));
        let Err(error) = spawned else { return Ok(()) };
        if self.may_log_trouble() {
            log::warn!(listener = self.shared.name, error:%; "no thread for a connection: few are served at a time");
        }
        take(&job).map_or(Ok(()), |job| self.reserve.run(job))
    }

    /// Whether trouble is to be logged: once in a while.
    fn may_log_trouble(&mut self) -> bool {
        let now = Instant::now();
        let may = self.trouble_logged_at.is_none_or(|at| now - at >= LOG_INTERVAL);
        if may {
            self.trouble_logged_at = Some(now);
        }
        may
    }

    /// Refuses a connection, and leaves its client some time to read why, less when many are refused.
    fn reject(&mut self, stream: Arc<TcpStream>, why: NoPlace) {
        send_rejection(&self.shared, &stream, why);
        if self.rejected.len() >= limits::REJECTED_CONNECTIONS {
            self.close_first_rejected();
        }
        self.rejected.push_back(Rejected { stream, until: Instant::now() + RESERVED_TIME_MAX });
    }

    /// Closes the rejected connections whose time is over.
    fn close_rejected(&mut self, now: Instant) {
        while self.rejected.front().is_some_and(|first| first.until <= now) {
            self.close_first_rejected();
        }
    }

    fn close_first_rejected(&mut self) {
        if let Some(first) = self.rejected.pop_front() {
            drain(&first.stream);
        }
    }

    /// Waits until it may be worth trying again. Mostly descriptors are missing: then one connection is
    /// turned away, because all of them would wait for a response that does not come.
    fn recover(&mut self, error: &io::Error) {
        self.shared.counters.accept_errors.count();
        if self.may_log_trouble() {
            log::error!(
                listener = self.shared.name, error:% = error;
                "cannot accept connections; going on when some have ended"
            );
        }
        if self.spare.take().is_some() {
            if let Ok((stream, _)) = self.listener.accept() {
                // There is no descriptor to keep it with.
                send_rejection(&self.shared, &stream, NoPlace::Full);
                drain(&stream);
            }
            self.spare = spare();
        }
        self.shared.connections.await_end(ACCEPT_RETRY);
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Whether the error concerns the connection that was to be accepted, and not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    let of_one = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::PERM,
        Errno::PROTO,
        Errno::NETDOWN,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
    ];
    error.raw_os_error().is_some_and(|code| of_one.contains(&Errno::from_raw_os_error(code)))
}

fn serve(shared: &Shared, place: &Place, stream: Arc<TcpStream>, peer: SocketAddr) {
    let transport =
        Socket::new(stream, shared.settings.write_timeout).and_then(|socket| match &shared.tls {
            Some(tls) => tls.over(socket),
            None => Ok(Box::new(socket) as Box<dyn Transport>),
        });
    match transport {
        Ok(transport) => {
            let read_buffer = ReadBuffer::default();
            let connection = Connection {
                shared,
                place,
                peer,
                transport,
                read_buffer,
                admitted: None,
                requests: 0,
                is_heard: false,
                is_head: false,
            };
            connection.serve();
        }
        Err(error) => log::debug!(error:% = error; "a connection is unusable"),
    }
}

/// Sends the refusal of a connection without blocking.
fn send_rejection(shared: &Shared, stream: &TcpStream, why: NoPlace) {
    shared.counters.turned_away.count();
    let refusal = match why {
        NoPlace::Full => no_place(),
        NoPlace::TooManyFromAddress => Refusal::new(
            Reason::TooManyFromAddress,
            "there are too many connections from this address",
        ),
    };
    shared.counters.refused.count(refusal.reason);
    let bytes = match shared.tls {
        None => shared.handler.refuse(refusal, None).to_bytes(Persistence::Closed, false),
        // There is no time to agree upon keys.
        Some(_) => TLS_ALERT.to_vec(),
    };
    let _ = rustix::net::send(stream, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = stream.shutdown(Shutdown::Write);
}

/// Reads what the client has sent, up to a bound, without blocking.
fn drain(stream: &TcpStream) {
    let mut buffer = [0; 4096];
    for _ in 0..REJECTED_READS_MAX {
        match rustix::net::recv(stream, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((1.., _)) | Err(Errno::INTR) => {}
            Ok((0, _)) | Err(_) => return,
        }
    }
}
