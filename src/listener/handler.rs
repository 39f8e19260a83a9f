//! What a listener asks of the code that answers its requests.

use std::net::{IpAddr, SocketAddr};

use super::Origin;
use super::head::Head;
use super::request::Request;
use super::response::Response;
use crate::model::access::Principal;
use crate::model::ids::FleetId;
use crate::model::refusal::Refusal;
use crate::model::webhook::TokenHash;

/// Answers the requests of one listener. All threads of the listener share one handler.
pub trait Handler: Send + Sync {
    /// Decides on a request whose head is complete, before any of its body is read. A request that
    /// needs no handler thread (a refusal, the health check) is answered here.
    ///
    /// # Errors
    /// The response to a request that goes no further. Its body is in memory.
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Admitted, Response>;

    /// Answers a request that was admitted.
    fn handle(&self, request: Request) -> Handled;

    /// The response, in this listener's form, to a request that the listener refuses. `admitted` is
    /// what [`admit`](Self::admit) has decided, if it was asked.
    fn refuse(&self, refusal: Refusal, admitted: Option<&Admitted>) -> Response;

    /// What `peer` is to this listener.
    fn origin(&self, peer: IpAddr) -> Origin {
        Origin::of(peer)
    }

    /// Bytes of disk space above the floor, for bodies that are arriving.
    fn disk_left(&self) -> u64 {
        u64::MAX
    }
}

/// The terms on which a request goes to a handler.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// The client, as [`Request::remote_addr`].
    pub remote_addr: SocketAddr,
    /// The largest body it may have, in bytes; a larger one is refused with 413.
    pub body_bytes_max: u64,
    /// The webhook that it is for.
    pub webhook: Option<WebhookTarget>,
    /// Whose it is, where requests are authenticated.
    pub principal: Option<Principal>,
    /// Whether it has shown a valid token: its connection does not give way while it is under way,
    /// and afterwards only after those of strangers.
    pub has_token: bool,
    /// Whether it is served also on one of the places that are kept for when all others are taken.
    pub is_urgent: bool,
}

/// The webhook that a request is for.
#[derive(Clone, Copy, Debug)]
pub struct WebhookTarget {
    /// Budgets are shared among fleets.
    pub fleet: FleetId,
    /// The hash of the token in the URL.
    pub token: TokenHash,
}

/// What a handler makes of a request.
pub enum Handled {
    Answered(Response),
    /// The response has to wait for a commit. The closure waits for it, on a thread that runs such
    /// closures in the order in which they came: commits end in the order of their requests.
    AfterCommit(AfterCommit),
}

/// Waits for a commit, and makes the response or says what makes it.
pub type AfterCommit = Box<dyn FnOnce() -> Committed + Send>;

/// What follows the commit of a request.
pub enum Committed {
    Response(Response),
    /// The response is held back until something else has happened.
    Held(Held),
}

/// Waits for what a response is held back for, up to minutes, and makes the response. It runs on the
/// connection's thread and takes no room from other requests. From time to time it asks its argument
/// whether the client has gone.
pub type Held = Box<dyn FnOnce(&mut dyn FnMut() -> bool) -> Response + Send>;

impl From<Response> for Committed {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

impl From<Response> for Handled {
    fn from(response: Response) -> Self {
        Self::Answered(response)
    }
}
