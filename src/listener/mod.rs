//! The listeners: the only room that reads bytes from the network. A listener accepts connections,
//! holds them to limits and deadlines, and lets complete, valid, bounded requests through to its
//! handlers; it refuses everything else itself.
//!
//! Each connection has a thread, which blocks on it and holds little memory until its request is
//! complete. A request takes this way:
//!
//! ```text
//! accept ─ head ─ admit ─ body ─ permit ─ handoff: number ─ tiny_http ─ handler thread
//! client ◄─────────── connection thread ◄──────────────── answer slot ◄──────┘
//! ```
//!
//! The request stays in this process, in the table of the [`handoff`]; tiny_http, which hands requests
//! to the threads in [`handlers`], sees nothing but a number. The [`Handler`] decides which requests come
//! in, as soon as their heads are complete.

mod accept;
mod answer;
mod body;
mod chunked;
mod connection;
mod connections;
mod counters;
mod eviction;
pub mod forwarding;
mod handler;
mod handlers;
mod handoff;
mod head;
mod pace;
mod permits;
mod read_buffer;
mod receive;
mod request;
mod reserve;
mod response;
mod scan;
mod socket;
mod stream;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use body::{Body, BodyStore};
pub use chunked::Decoder;
pub use counters::Counters;
pub use handler::{Admitted, Committed, Handled, Handler, WebhookTarget};
pub use head::{Framing, Head};
pub use request::Request;
pub use reserve::RESERVED_THREADS;
pub use response::{Body as ResponseBody, Response, Stream, StreamWriter};
pub use scan::{HEADERS_MAX, REQUEST_LINE_BYTES_MAX, Scanner};
pub use socket::widen_backlog;
pub use tls::{Tls, TlsError};

use accept::Acceptor;
use connections::{Connections, Limits};
use handlers::Handlers;
use handoff::Handoff;
use pace::Pace;
use permits::Permits;

use crate::config::Settings;
use crate::os::logging::Repeats;

/// Bytes by which a refused body may exceed `max_body_bytes` and still be read to its end, so that
/// a sender that reads only after it has sent gets to see the 413. A drain of 1 MiB was measured
/// to be too short for Python's http.client. What is drained is never held in memory.
pub const DRAIN_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Connections beyond all others that get the short answers: a full server still tells its health.
const RESERVED_CONNECTIONS: usize = 16;
/// Requests that may wait for a permit: one for each connection.
const WAITING_REQUESTS_MAX: usize = 1024;
/// How long a request may wait for a permit: longer, and senders would give up.
const HANDLER_WAIT: Duration = Duration::from_secs(5);
/// How long connections are kept open for one more request, which is answered with the word that it
/// was the last, when the server stops: a busy sender loses nothing then.
const CLOSING_NOTICE: Duration = Duration::from_millis(250);
/// How long after it has connected a client may take until its request is under way, when the server stops:
/// its handshake and its head may have a long way.
const FIRST_REQUEST_NOTICE: Duration = Duration::from_secs(2);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From an address that may have only so many connections.
    Stranger,
    /// From this machine, perhaps from a proxy on it: any number may.
    Local,
    /// From a proxy that the operator trusts and that speaks for many. As `Local`, and its
    /// connections are the last to give way.
    Proxy,
}

impl Origin {
    /// The origin of `peer` where no proxies are known.
    pub fn of(peer: IpAddr) -> Self {
        if peer.to_canonical().is_loopback() { Self::Local } else { Self::Stranger }
    }
}

/// How one listener is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Begins the names of its threads and tells its log lines apart; at most 8 bytes.
    pub name: &'static str,
    /// Threads that answer.
    pub handlers: usize,
    /// Requests under way at once: with a handler, waiting for a commit, or being answered.
    pub under_way_max: usize,
    pub counters: Arc<Counters>,
    pub settings: Arc<Settings>,
    /// Shared by all listeners of a server.
    pub bodies: Arc<BodyStore>,
    /// `None` for a listener that speaks HTTP as it is.
    pub tls: Option<Arc<Tls>>,
}

/// What all connections of a listener share.
struct Shared {
    name: &'static str,
    settings: Arc<Settings>,
    tls: Option<Arc<Tls>>,
    handler: Arc<dyn Handler>,
    bodies: Arc<BodyStore>,
    permits: Arc<Permits>,
    handoff: Arc<Handoff>,
    connections: Connections,
    counters: Arc<Counters>,
    refusals: Repeats,
    /// Spreads the responses to refused requests over time.
    pace: Pace,
}

/// A listener that is being served.
pub struct Listener {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Acceptor,
    accepting: JoinHandle<()>,
    handlers: Handlers,
}

impl Listener {
    /// Serves `socket` with `handler`.
    ///
    /// # Errors
    /// When a socket is unusable or a thread cannot be started.
    pub fn start(
        socket: TcpListener,
        options: Options,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Self> {
        let Options { name, handlers, under_way_max, counters, settings, bodies, tls } = options;
        let address = socket.local_addr()?;
        let (inner, handoff) = Handoff::open(bodies.directory())?;
        let of_handlers = (Arc::clone(&handoff), Arc::clone(&handler));
        let handlers = Handlers::start(name, inner, of_handlers.0, of_handlers.1, handlers)?;
        let connections = Connections::new(Limits {
            connections: settings.max_connections,
            per_address: settings.max_connections_per_ip,
            reserved: RESERVED_CONNECTIONS,
        });
        let permits = Permits::new(under_way_max, WAITING_REQUESTS_MAX, HANDLER_WAIT);
        let shared = Arc::new(Shared {
            name,
            settings,
            tls,
            handler,
            bodies,
            permits,
            handoff,
            connections,
            counters,
            refusals: Repeats::new(name),
            pace: Pace::default(),
        });
        let (acceptor, accepting) = Acceptor::start(socket, Arc::clone(&shared))?;
        Ok(Self { shared, address, acceptor, accepting, handlers })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, lets the requests under way be answered for up to `within`, ends
    /// the connections, and then the handlers. A thread that hangs is left to the end of the process.
    pub fn stop(self, within: Duration) {
        let (name, connections) = (self.shared.name, &self.shared.connections);
        // From here on each response is the last on its connection, and streams end.
        connections.close();
        self.acceptor.stop();
        if self.accepting.join().is_err() {
            log::error!(listener = name; "the thread that accepts has panicked");
        }
        connections.await_empty(CLOSING_NOTICE.min(within));
        connections.await_first_requests(FIRST_REQUEST_NOTICE.min(within));
        connections.end_idle();
        let left = connections.await_empty(within);
        if left > 0 {
            log::warn!(listener = name, connections = left; "requests are still under way; they go unanswered");
            connections.end_all();
            connections.await_empty(CLOSING_NOTICE);
        }
        self.handlers.stop(within);
    }
}

#[cfg(test)]
mod tests;
