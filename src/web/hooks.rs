//! The webhook listener: `POST /hooks/<token>` and GET or HEAD of `/healthz`, nothing else. Decides who may
//! start what; taking in the run is the engine's.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Settings;
use crate::engine::{AcceptError, AdmitError, Engine};
use crate::listener::forwarding::Forwarding;
use crate::listener::{Admitted, Framing, Handled, Handler, Head, Origin, Request, Response};
use crate::model::client_address::{Client, client_of};
use crate::model::clock::{Clock, SystemClock};
use crate::model::ids::{FleetId, OrganizationId, RequestId};
use crate::model::network::Networks;
use crate::model::rate_limit::Senders;
use crate::model::run::Trigger;
use crate::model::webhook::Token;
use crate::os::logging::Repeats;
use crate::web::denial::Denial;
use crate::web::instruments::Instruments;
use crate::web::respond::{self, Problem};

/// Answers the senders of webhooks.
pub struct HookHandler {
    engine: Arc<Engine>,
    organization: OrganizationId,
    settings: Arc<Settings>,
    /// Takes note of the peers that send forwarding headers.
    forwarding: Arc<Forwarding>,
    senders: Option<Mutex<Senders>>,
    pub(super) instruments: Arc<Instruments>,
    refusals: Repeats,
}

/// Why a request is refused, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    denial: Denial,
    problem: Problem,
}

impl From<AcceptError> for Refused {
    fn from(error: AcceptError) -> Self {
        Self { denial: Denial::from(&error), problem: error.into() }
    }
}

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Health,
    Hook(Token),
}

impl HookHandler {
    /// Takes requests in for `engine`.
    pub fn new(
        engine: Arc<Engine>,
        settings: Arc<Settings>,
        forwarding: Arc<Forwarding>,
        instruments: Arc<Instruments>,
    ) -> Self {
        let organization = engine.organization().id;
        let senders = settings.rate_limit_per_ip.map(|rate| Mutex::new(Senders::new(rate)));
        let refusals = Repeats::new("hooks");
        Self { engine, organization, settings, forwarding, senders, instruments, refusals }
    }

    /// Whether a request of `client` may come in, by its head alone. Counts it for the rate limits,
    /// so it is asked once per request.
    ///
    /// The order matters: who guesses tokens is counted per address like anybody else, and whoever
    /// a webhook does not allow cannot tell it from one that is not there.
    /// Returns the fleet that it is for.
    fn check(
        &self,
        target: Result<Target, Refused>,
        client: Client,
        length: u64,
    ) -> Result<Option<FleetId>, Refused> {
        self.count_sender(client.address)?;
        let Target::Hook(token) = target? else { return Ok(None) };
        let fleet = self.engine.admit(&token.hash(), client).map_err(|denied| match denied {
            AdmitError::UnknownToken => unknown(),
            AdmitError::NotAllowed => {
                let why = if client.is_disputed {
                    "X-Forwarded-For and Forwarded name different clients; let the proxy remove \
                     the one that it does not write"
                } else {
                    "not from an address that may send here"
                };
                Refused { denial: Denial::NotAllowed, problem: Problem::bad_request(why) }
            }
            AdmitError::TooSoon(too_soon) => {
                let problem = Problem::too_soon(too_soon);
                Refused { denial: Denial::WebhookTooOften, problem }
            }
        })?;
        self.engine.check_room()?;
        self.engine.check_share(fleet, length)?;
        Ok(Some(fleet))
    }

    fn count_sender(&self, address: IpAddr) -> Result<(), Refused> {
        let Some(senders) = &self.senders else { return Ok(()) };
        let now = SystemClock.now();
        // A number that another thread was just about to store is all that a panic can spoil.
        let mut senders = senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.take(address, now).map_err(|too_soon| {
            let problem = Problem::too_soon(too_soon);
            Refused { denial: Denial::AddressTooOften, problem }
        })
    }

    /// Accepts a run of the fleet that `token` belongs to; `id` is the request's.
    fn accept(
        &self,
        id: RequestId,
        token: &Token,
        request: &mut Request,
    ) -> Result<Handled, Refused> {
        // Once more: it may have been replaced while the body was on its way.
        let version = self.engine.fleet_by_token(&token.hash()).ok_or_else(unknown)?;
        let (head, length) = (request.take_head(&[]), Some(request.body.length()));
        let trigger = Trigger::Webhook;
        let body = &mut request.body.reader();
        let run = self.engine.accept(&version, trigger, head, body, length)?;
        let (engine, instruments) = (Arc::clone(&self.engine), Arc::clone(&self.instruments));
        let (organization, received_at) = (self.organization, request.received_at);
        Ok(Handled::AfterCommit(Box::new(move || {
            let run = engine.confirm(run);
            instruments.accepting.observe_duration(received_at.elapsed());
            respond::data(id, 201, &respond::accepted(&version, organization, run))
        })))
    }

    fn refused(&self, id: RequestId, refused: Refused, client: IpAddr) -> Response {
        let Refused { denial, problem } = refused;
        self.instruments.hooks_denied.count(denial);
        let (status, reason) = (problem.status, problem.message.as_str());
        if self.refusals.admit(status, reason) {
            // Never the path: it may hold a token that is right but for a letter.
            log::info!(request:% = id, status, client:%, reason; "webhook refused");
        }
        respond::bare(id, problem)
    }
}

impl Handler for HookHandler {
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Admitted, Response> {
        let target = target(&head.method, &head.path);
        if let Ok(Target::Health) = target {
            return Err(respond::health(&self.engine.check_room(), self.engine.is_paused()));
        }
        let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let trusted_proxies = &self.settings.trusted_proxies;
        let client = client_of(peer.ip(), headers.clone(), trusted_proxies);
        self.forwarding.note(peer.ip(), headers.map(|(name, _)| name), trusted_proxies);
        // A body over the limit is refused as that, whatever shares have room for.
        let body_bytes_max = self.settings.max_body_bytes;
        let length = match head.framing {
            Framing::Length(length) if length <= body_bytes_max => length,
            Framing::Length(_) | Framing::Chunked => 0,
        };
        let fleet = self
            .check(target, client, length)
            .map_err(|refused| self.refused(RequestId::random(), refused, client.address))?;
        // Nobody knows the port of a client behind a proxy.
        let is_peer = client.address == peer.ip().to_canonical();
        let remote_addr = SocketAddr::new(client.address, if is_peer { peer.port() } else { 0 });
        Ok(Admitted { remote_addr, body_bytes_max, fleet, has_token: true, is_urgent: false })
    }

    fn origin(&self, peer: IpAddr) -> Origin {
        origin(peer, &self.settings.trusted_proxies)
    }

    fn has_disk_space(&self) -> bool {
        self.engine.has_disk_space()
    }

    fn handle(&self, mut request: Request) -> Handled {
        let id = RequestId::random();
        let accepted = match target(&request.method, &request.path) {
            Ok(Target::Health) => {
                return respond::health(&self.engine.check_room(), self.engine.is_paused()).into();
            }
            Ok(Target::Hook(token)) => self.accept(id, &token, &mut request),
            Err(refused) => Err(refused),
        };
        accepted
            .unwrap_or_else(|refused| self.refused(id, refused, request.remote_addr.ip()).into())
    }

    fn refuse(&self, status: u16, message: &str) -> Response {
        respond::bare(RequestId::random(), Problem::new(status, message))
    }
}

/// What `peer` is to the listener: proxies speak for many.
fn origin(peer: IpAddr, trusted_proxies: &Networks) -> Origin {
    if trusted_proxies.contains(peer) { Origin::Proxy } else { Origin::of(peer) }
}

/// The one refusal of every URL that is not a webhook's.
fn unknown() -> Refused {
    let problem = Problem::bad_request("not the URL of a webhook");
    Refused { denial: Denial::UnknownUrl, problem }
}

fn target(method: &str, path: &str) -> Result<Target, Refused> {
    match (method, path) {
        (method, respond::HEALTH) if respond::HEALTH_METHODS.contains(&method) => {
            Ok(Target::Health)
        }
        ("POST", path) => token(path).map(Target::Hook).ok_or_else(unknown),
        (_, respond::HEALTH) => Err(method_not_allowed(&respond::HEALTH_METHODS)),
        _ => Err(method_not_allowed(&["POST"])),
    }
}

/// The token in the path of a webhook's URL. One slash at its end is tolerated: some senders add it.
fn token(path: &str) -> Option<Token> {
    let token = path.strip_prefix("/hooks/")?;
    Token::parse(token.strip_suffix('/').unwrap_or(token))
}

fn method_not_allowed(allowed: &[&str]) -> Refused {
    let problem = Problem::method_not_allowed(allowed);
    Refused { denial: Denial::MethodNotAllowed, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_and_this_machine_may_have_any_number_of_connections() {
        let trusted = "192.0.2.0/24,127.0.0.2".parse().unwrap();
        for (peer, expected) in [
            ("192.0.2.9", Origin::Proxy),
            ("::ffff:192.0.2.9", Origin::Proxy),
            ("127.0.0.2", Origin::Proxy),
            ("127.0.0.1", Origin::Local),
            ("::1", Origin::Local),
            ("198.51.100.7", Origin::Stranger),
            ("2001:db8::1", Origin::Stranger),
        ] {
            assert_eq!(origin(peer.parse().unwrap(), &trusted), expected, "{peer}");
        }
    }

    #[test]
    fn every_other_target_is_refused_alike() {
        let token = Token::random().unwrap();
        let hook = format!("/hooks/{}", token.reveal());
        let expected = Ok(Target::Hook(token));
        assert_eq!(target("POST", &hook), expected);
        assert_eq!(target("POST", &format!("{hook}/")), expected);
        assert_eq!(target("GET", "/healthz"), Ok(Target::Health));
        assert_eq!(target("HEAD", "/healthz"), Ok(Target::Health));

        let long = format!("/hooks/{}", "a".repeat(10_240));
        let more = [format!("{hook}//"), format!("{hook}%20"), format!("/{hook}"), long];
        let odd = ["/", "*", "/hooks", "/hooks/", "/hooks/a", "/hooks/../x", "/healthz", "/api/v1"];
        for path in more.iter().map(String::as_str).chain(odd) {
            assert_eq!(target("POST", path), Err(unknown()), "{path}");
        }
        for (method, path) in [
            ("GET", hook.as_str()),
            ("HEAD", hook.as_str()),
            ("PUT", "/"),
            ("BREW", "/x"),
            ("post", &hook),
        ] {
            let problem = target(method, path).unwrap_err().problem;
            assert_eq!(problem.status, 405, "{method} {path}");
            assert_eq!(problem.headers, [("Allow", "POST".to_owned())]);
        }
        for method in ["PUT", "DELETE", "OPTIONS", "TRACE"] {
            let problem = target(method, "/healthz").unwrap_err().problem;
            assert_eq!(problem.status, 405, "{method}");
            assert_eq!(problem.headers, [("Allow", "GET, HEAD".to_owned())]);
        }
    }
}
