//! The gate in front of a listener: the only place that reads what strangers send. It accepts
//! connections, holds them to limits and deadlines, and lets complete, valid, bounded requests
//! through to the handlers; everything else it answers itself.
//!
//! A connection has a thread of its own and blocks it; what it holds beyond that is small until its
//! request is complete. A request takes this way:
//!
//! ```text
//! accept ─ head ─ admit ─ body ─ passage ═ (Unix socket) ═ handlers
//!                      relay ◄═ (likewise, or a shortcut) ═ answer
//! ```
//!
//! The request itself stays in this process, in the [`passage`]'s table: over the Unix socket goes
//! nothing but the id it waits under. Who may come in is not decided here, but by the listener's
//! [`Admission`], as soon as the head is there.

mod accept;
pub mod body;
mod census;
mod chunked;
mod connection;
mod counters;
mod eviction;
pub mod forwarding;
pub mod head;
mod inbox;
pub mod links;
pub mod message;
pub mod passage;
mod receive;
mod refusal;
mod relay;
pub mod reply;
mod reserve;
mod scan;
mod server;
pub mod service;
mod shortcut;
pub mod socket;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use body::{Body, Spool};
pub use chunked::Decoder;
pub use counters::Counters;
pub use head::{Framing, Head};
pub use links::Links;
pub use passage::{GREETING, Line, Parcel, Passage, Waiting};
pub use refusal::{Reason, Refusal};
pub use reply::Reply;
pub use scan::Scanner;
pub use shortcut::Shortcut;
pub use tls::{Tls, TlsError};

use accept::Acceptor;
use census::{Census, Limits};

use crate::model::ids::FleetId;
use crate::model::limits;
use crate::os::logging::Repeats;

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct GateSettings {
    pub max_connections: usize,
    /// From one address, of [`Origin::Stranger`]s.
    pub max_connections_per_ip: usize,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// For a body, and beyond that what `body_min_rate` allows for its length.
    pub body_timeout: Duration,
    /// Bytes per second.
    pub body_min_rate: u64,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// Without progress in sending an answer.
    pub write_timeout: Duration,
    /// What is read of a refused request's body so that its sender gets to see the answer.
    pub drain_bytes_max: u64,
    /// `None` for a listener that speaks HTTP as it is.
    pub tls: Option<Arc<Tls>>,
}

/// Who may come in. One is shared by all connections of a listener.
pub trait Admission: Send + Sync {
    /// Decides on a request whose head is complete, before anything of its body is read.
    fn admit(&self, head: &Head, peer: SocketAddr) -> Verdict;

    /// The answer, in the form this listener gives its refusals, to a request that goes no further.
    /// `why` is for a person.
    fn refuse(&self, status: u16, why: &str) -> Reply;

    /// What `peer` is to this listener.
    fn origin(&self, peer: IpAddr) -> Origin;

    /// Whether there is more free disk space than the floor, for bodies that are arriving.
    fn has_disk_space(&self) -> bool;
}

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

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It goes to a handler, once its body is there.
    Pass(Pass),
    /// It is answered right here, which takes no handler.
    Response(Reply),
}

/// On what terms a request goes to a handler.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Who it is from.
    pub remote_addr: SocketAddr,
    /// The largest body it may have; beyond it: 413.
    pub body_bytes_max: u64,
    /// The fleet that it is for, among which budgets are shared.
    pub fleet: Option<FleetId>,
    /// Whether it has shown a valid token: its connection does not give way while it is under way,
    /// and afterwards only after those of strangers.
    pub has_token: bool,
    /// Whether it is served also on one of the places that are kept for when all others are taken.
    pub is_urgent: bool,
}

/// What all connections of a gate share.
struct Shared {
    name: &'static str,
    settings: GateSettings,
    admission: Arc<dyn Admission>,
    spool: Arc<Spool>,
    links: Arc<Links>,
    census: Census,
    counters: Arc<Counters>,
    refusals: Repeats,
}

/// A listener with a gate in front.
pub struct Gate {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Acceptor,
    thread: JoinHandle<()>,
}

impl Gate {
    /// Begins to accept on `listener`. `name` begins the names of the threads and tells log lines
    /// apart; at most 8 bytes. `counters` are told what is going on.
    ///
    /// # Errors
    /// When the listener is unusable or a thread cannot be started.
    pub fn start(
        name: &'static str,
        listener: TcpListener,
        settings: GateSettings,
        admission: Arc<dyn Admission>,
        spool: Arc<Spool>,
        links: Links,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let census = Census::new(Limits {
            connections: settings.max_connections,
            per_address: settings.max_connections_per_ip,
            reserved: limits::RESERVED_CONNECTIONS,
        });
        let shared = Arc::new(Shared {
            name,
            settings,
            admission,
            spool,
            links: Arc::new(links),
            census,
            counters,
            refusals: Repeats::new(name),
        });
        let (acceptor, thread) = Acceptor::start(listener, Arc::clone(&shared))?;
        Ok(Self { shared, address, acceptor, thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.shared.census.count()
    }

    /// Accepts no more connections, lets those that have a request under way be answered for up to
    /// `within`, and ends the others. Returns how many had to be cut.
    pub fn stop(self, within: Duration) -> usize {
        let census = &self.shared.census;
        // From here on each answer tells its client not to send another request.
        census.close();
        self.acceptor.stop();
        if self.thread.join().is_err() {
            log::error!(listener = self.shared.name; "the thread that accepts has panicked");
        }
        census.await_empty(limits::CLOSING_NOTICE.min(within));
        census.dismiss_idle();
        let left = census.await_empty(within);
        if left > 0 {
            log::warn!(listener = self.shared.name, connections = left; "requests are still under way; they go unanswered");
            census.dismiss_all();
            census.await_empty(limits::CLOSING_NOTICE);
        }
        left
    }
}
