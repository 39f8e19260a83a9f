//! A listener as a whole: the gate in front, the passage, and the threads that answer behind it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::listener::message::{Body, Handler, Response};
use crate::listener::server::Server;
use crate::listener::{
    Admission, Counters, Gate, GateSettings, Head, Links, Origin, Passage, Reply, Spool, Tls,
    Verdict,
};
use crate::model::limits;

/// How a listener is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Begins the names of its threads and tells its log lines apart; at most 8 bytes.
    pub name: &'static str,
    /// Threads that answer.
    pub handlers: usize,
    /// Requests under way beside theirs: large ones, those whose answer waits or lasts.
    pub lasting: usize,
    /// Whether hardly any answer is large or lasts: requests are announced over one connection then.
    pub has_lane: bool,
    /// Are told what is going on.
    pub counters: Arc<Counters>,
}

/// What the listeners of a server have in common.
#[derive(Clone, Debug)]
pub struct Doors {
    pub settings: GateSettings,
    pub spool: Arc<Spool>,
}

impl Doors {
    /// The same, with TLS if there is any.
    pub fn with_tls(mut self, tls: Option<Arc<Tls>>) -> Self {
        self.settings.tls = tls;
        self
    }
}

/// A listener that is being served.
pub struct Listener {
    gate: Gate,
    server: Server,
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
        doors: &Doors,
    ) -> io::Result<Self> {
        let Options { name, handlers, lasting, has_lane, counters } = options;
        let (inner, passage) = Passage::open(doors.spool.directory())?;
        let of_server = (Arc::clone(&passage), Arc::clone(&handler));
        let server = Server::start(name, inner, of_server.0, of_server.1, handlers)?;
        if has_lane && let Err(error) = passage.open_lane(limits::HANDLER_WAIT) {
            server.stop(limits::HANDLER_WAIT);
            return Err(error);
        }
        let links = Links::new(
            passage,
            handlers + lasting,
            limits::WAITING_REQUESTS_MAX,
            limits::HANDLER_WAIT,
        );
        let admission = Arc::new(Door(handler));
        let (settings, spool) = (doors.settings.clone(), Arc::clone(&doors.spool));
        let gate = Gate::start(name, socket, settings, admission, spool, links, counters)?;
        Ok(Self { gate, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    /// The gate, to look at.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Accepts no more, lets requests under way be answered for up to `within`, and ends the
    /// threads. What is not done by then is left to the end of the process.
    pub fn stop(self, within: Duration) {
        self.server.end_streams();
        self.gate.stop(within);
        self.server.stop(within);
    }
}

/// A handler as the gate knows it.
struct Door(Arc<dyn Handler>);

impl Admission for Door {
    fn admit(&self, head: &Head, peer: SocketAddr) -> Verdict {
        match self.0.admit(head, peer) {
            Ok(pass) => Verdict::Pass(pass),
            Err(answer) => Verdict::Response(self.reply(answer)),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        self.reply(self.0.refuse(status, why))
    }

    fn origin(&self, peer: IpAddr) -> Origin {
        self.0.origin(peer)
    }

    fn has_disk_space(&self) -> bool {
        self.0.has_disk_space()
    }
}

impl Door {
    fn reply(&self, answer: Response) -> Reply {
        let Response { status, headers, body } = answer;
        let body = match body {
            Body::Bytes(bytes) => bytes,
            // A handler does not stream what it says at the door.
            Body::Stream(_) => Vec::new(),
        };
        Reply { status, headers, body }
    }
}

#[cfg(test)]
mod tests;
