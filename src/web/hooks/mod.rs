//! The webhook listener: `POST /hooks/<token>` and GET or HEAD of `/healthz`, nothing else. Decides who may
//! start what; taking in the run is the engine's.

mod answer;
mod dry_run;
mod expressions;
mod prefer;
mod repeated;
mod screen;
mod sender;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Settings;
use crate::engine::{AdmitError, Engine, NewDelivery};
use crate::listener::forwarding::Forwarding;
use crate::listener::{
    Admitted, Framing, Handled, Handler, Head, Origin, Request, Response, WebhookTarget,
};
use crate::model::client_address::{Client, client_of};
use crate::model::clock::{Clock, SystemClock};
use crate::model::delivery::Verdict;
use crate::model::event::{Arrival, Note, Verifier};
use crate::model::fleet::FleetVersion;
use crate::model::ids::{FleetId, OrganizationId, RequestId};
use crate::model::network::Networks;
use crate::model::rate_limit;
use crate::model::refusal::{Reason, Refusal};
use crate::model::run::Trigger;
use crate::model::webhook::{Token, TokenHash};
use crate::os::logging::Repeats;
use crate::web::instruments::Instruments;
use crate::web::query::decoded;
use crate::web::respond;
use crate::web::senders::handshake;

use answer::{Accepted, Patience};
pub(in crate::web) use dry_run::{DryRun, Forecast};
use repeated::Repeated;
pub(in crate::web) use screen::{Screened, screen};
use sender::Judged;
pub(in crate::web) use sender::{Senders, stored_head, trusted_arrival};

/// Answers the senders of webhooks.
pub struct HookHandler {
    engine: Arc<Engine>,
    organization: OrganizationId,
    pub(super) settings: Arc<Settings>,
    /// Takes note of the peers that send forwarding headers.
    forwarding: Arc<Forwarding>,
    /// The rates of the addresses, if they are limited.
    rates: Option<Mutex<rate_limit::Senders>>,
    senders: Senders,
    pub(super) instruments: Arc<Instruments>,
    refusals: Repeats,
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
        let rates =
            settings.rate_limit_per_ip.map(|rate| Mutex::new(rate_limit::Senders::new(rate)));
        let refusals = Repeats::new("hooks");
        let senders = Senders::new(Arc::clone(&settings));
        Self { engine, organization, settings, forwarding, rates, senders, instruments, refusals }
    }

    /// The webhook that a request of `client` is for, if it may come in by its head alone. Counts the
    /// request for the rate limits, so the listener asks once per request.
    ///
    /// The order matters: a client that guesses tokens is counted per address like any other, and a
    /// client that a webhook does not allow cannot tell it from a URL that is unknown.
    fn check(&self, head: &Head, client: Client, length: u64) -> Result<WebhookTarget, Refusal> {
        self.count_sender(client.address)?;
        let takes = |token: &TokenHash| self.engine.has_handshake_by(token, &head.method);
        let token = token(&head.method, &head.path, self.token_in(&head.path), takes)?;
        let fleet = self.engine.admit(&token, client).map_err(|error| match error {
            AdmitError::UnknownToken => unknown(),
            AdmitError::Paused => Refusal::new(Reason::Paused, "the webhook is paused"),
            AdmitError::NotAllowed if client.is_disputed => Refusal::new(
                Reason::NotAllowed,
                "X-Forwarded-For and Forwarded name different clients; let the proxy remove the one \
                 that it does not write",
            ),
            AdmitError::NotAllowed => {
                Refusal::new(Reason::NotAllowed, "not from an address that may send here")
            }
            AdmitError::TooSoon(too_soon) => Refusal::too_soon(Reason::RateLimited, too_soon),
        })?;
        self.engine.check_room()?;
        self.engine.check_share(fleet, length)?;
        Ok(WebhookTarget { fleet, token })
    }

    /// The token in a webhook's URL, or of the webhook that is answered under the name in it. One slash at
    /// the end is tolerated, because some senders add it.
    fn token_in(&self, path: &str) -> Option<TokenHash> {
        let named = path.strip_prefix("/hooks/")?;
        let named = named.strip_suffix('/').unwrap_or(named);
        match Token::parse(named) {
            Some(token) => Some(token.hash()),
            None => self.engine.token_of_kept_path(&decoded(named)?),
        }
    }

    fn count_sender(&self, address: IpAddr) -> Result<(), Refusal> {
        let Some(rates) = &self.rates else { return Ok(()) };
        // A panic can spoil one count that another thread was about to store, and nothing else.
        let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates
            .take(address, SystemClock.now())
            .map_err(|too_soon| Refusal::too_soon(Reason::AddressTooOften, too_soon))
    }

    /// Takes in a request that was admitted to the webhook of `version`; `id` is the request's.
    fn take(
        &self,
        id: RequestId,
        version: &Arc<FleetVersion>,
        request: &Request,
    ) -> Result<Handled, Refusal> {
        let settings = &version.definition.webhook;
        match self.senders.judge(settings, request)? {
            Judged::Event(arrival) => self.filter(id, version, request, arrival),
            Judged::Handshake(response, verified_by) => {
                Ok(self.shake_hands(id, version, request, response, verified_by))
            }
            Judged::BringsSecret(name, value) => {
                let kept = self.engine.keep_brought_secret(version.fleet_id, &name, &value);
                kept.map_err(|error| sender::not_kept(&error))?;
                let response = handshake::repeated(value);
                Ok(self.shake_hands(id, version, request, response, None))
            }
            Judged::Unverified(refusal, arrival) => {
                let client = request.remote_addr.ip();
                let head = sender::stored_head(request, settings.verify.as_ref());
                let Arrival { event, deduplicate, .. } = arrival;
                self.engine.record_delivery(NewDelivery {
                    event,
                    deduplicate,
                    bytes: request.body.length(),
                    request: Some((head, &mut request.body.reader())),
                    ..NewDelivery::refused(id, Some(version.fleet_id), client, &refusal)
                });
                Ok(self.answer(id, refusal, client, Some(version.fleet_id)).into())
            }
        }
    }

    /// Records a handshake and answers it.
    fn shake_hands(
        &self,
        id: RequestId,
        version: &FleetVersion,
        request: &Request,
        response: Response,
        verified_by: Option<Verifier>,
    ) -> Handled {
        let response = response.with_header("X-Request-Id", id.to_string());
        self.engine.record_delivery(NewDelivery {
            verdict: Verdict::Handshake,
            status: response.status,
            verified_by,
            bytes: request.body.length(),
            ..NewDelivery::new(id, Some(version.fleet_id), request.remote_addr.ip())
        });
        response.into()
    }

    /// Accepts an event, unless it has a run already or the filter of the fleet does not want it.
    fn filter(
        &self,
        id: RequestId,
        version: &Arc<FleetVersion>,
        request: &Request,
        mut arrival: Arrival,
    ) -> Result<Handled, Refusal> {
        let screened = screen(&self.engine, &self.settings, version, request, &mut arrival);
        let detail = match screened {
            Screened::Wanted => return self.accept(id, version, request, arrival),
            Screened::Unwanted(detail) => detail,
            Screened::Duplicate(first) => {
                let (engine, repeated) =
                    (Arc::clone(&self.engine), Repeated::new(id, request, &arrival));
                let (version, organization) = (Arc::clone(version), self.organization);
                return Ok(Handled::AfterCommit(Box::new(move || {
                    let run = engine.confirm(first);
                    repeated.answer(&engine, &version, organization, run).into()
                })));
            }
        };
        let settings = &version.definition.webhook;
        let client = request.remote_addr.ip();
        let head = sender::stored_head(request, settings.verify.as_ref());
        let response = respond::data(id, 200, "null");
        // With `mode: observe`, what enforcing would have refused the request for.
        let mut note = Note::new("", &detail);
        arrival.note.iter().for_each(|remark| note.append(remark));
        self.engine.record_delivery(NewDelivery {
            verdict: Verdict::Filtered,
            reason: arrival.note.as_ref().map_or("", Note::word),
            detail: note.detail(),
            status: response.status,
            event: arrival.event,
            deduplicate: arrival.deduplicate,
            verified_by: arrival.verified_by,
            bytes: request.body.length(),
            request: Some((head, &mut request.body.reader())),
            ..NewDelivery::new(id, Some(version.fleet_id), client)
        });
        Ok(response.into())
    }

    /// Accepts a run of `version`.
    fn accept(
        &self,
        id: RequestId,
        version: &Arc<FleetVersion>,
        request: &Request,
        arrival: Arrival,
    ) -> Result<Handled, Refusal> {
        let repeated = Repeated::new(id, request, &arrival);
        let patience = Patience::of(request, version.definition.webhook.respond.as_ref());
        let head = sender::stored_head(request, version.definition.webhook.verify.as_ref());
        let (body, bytes) = (&mut request.body.reader(), request.body.length());
        let mut run = match patience.is_some() {
            true => self.engine.accept_waiting(version, head, arrival, body, bytes)?,
            false => {
                let trigger = Trigger::Webhook;
                self.engine.accept(version, trigger, head, arrival, body, Some(bytes))?
            }
        };
        let (engine, instruments) = (Arc::clone(&self.engine), Arc::clone(&self.instruments));
        let (organization, received_at) = (self.organization, request.received_at);
        let (version, bytes_max) = (Arc::clone(version), self.settings.max_response_bytes);
        let waiting = run.take_waiting();
        Ok(Handled::AfterCommit(Box::new(move || {
            let is_duplicate = run.is_duplicate();
            let run = engine.confirm(run);
            instruments.accepting.observe_duration(received_at.elapsed());
            if !is_duplicate {
                let accepted =
                    Accepted { engine, organization, version, run, patience, waiting, bytes_max };
                return accepted.answer();
            }
            repeated.answer(&engine, &version, organization, run).into()
        })))
    }

    /// Counts, logs and records a refusal of a request to the webhook of `fleet`. Returns the response.
    fn refused(
        &self,
        id: RequestId,
        refusal: Refusal,
        client: IpAddr,
        fleet: Option<FleetId>,
        bytes: u64,
    ) -> Response {
        let delivery = NewDelivery::refused(id, fleet, client, &refusal);
        self.engine.record_delivery(NewDelivery { bytes, ..delivery });
        self.answer(id, refusal, client, fleet)
    }

    /// Counts and logs a refusal that is recorded. Returns the response.
    fn answer(
        &self,
        id: RequestId,
        refusal: Refusal,
        client: IpAddr,
        fleet: Option<FleetId>,
    ) -> Response {
        self.instruments.hooks.refused.count(refusal.reason);
        let (status, reason) = (refusal.status(), refusal.reason.word());
        if self.refusals.admit(status, reason) {
            let version = fleet.and_then(|fleet| self.engine.current_version(fleet).ok());
            let fleet = version.as_ref().map_or("", |version| version.definition.name.as_str());
            let level = match refusal.reason {
                // All requests to the webhook wait for the operator.
                Reason::SecretMissing => log::Level::Error,
                _ => log::Level::Info,
            };
            let detail = &*refusal.message;
            // Never the path: it may hold a token that is right but for a letter.
            log::log!(level, request:% = id, fleet, status, client:%, reason, detail; "webhook refused");
        }
        respond::bare(id, refusal)
    }
}

impl Handler for HookHandler {
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Admitted, Response> {
        if head.path == respond::HEALTH && respond::HEALTH_METHODS.contains(&head.method.as_str()) {
            return Err(respond::health(&self.engine.check_room(), false));
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
        let webhook = self.check(head, client, length).map_err(|refusal| {
            let token = self.token_in(&head.path);
            let fleet = token.and_then(|token| self.engine.fleet_of_token(&token));
            self.refused(arriving(), refusal, client.address, fleet, 0)
        })?;
        // A proxy does not tell the port of its client.
        let is_peer = client.address == peer.ip().to_canonical();
        let remote_addr = SocketAddr::new(client.address, if is_peer { peer.port() } else { 0 });
        let webhook = Some(webhook);
        Ok(Admitted {
            remote_addr,
            body_bytes_max,
            webhook,
            principal: None,
            has_token: true,
            is_urgent: false,
        })
    }

    fn origin(&self, peer: IpAddr) -> Origin {
        origin(peer, &self.settings.trusted_proxies)
    }

    fn disk_left(&self) -> u64 {
        self.engine.disk_left()
    }

    fn handle(&self, request: Request) -> Handled {
        let (id, client) = (arriving(), request.remote_addr.ip());
        // Once more: the token may have been replaced while the body arrived.
        let target = request.webhook;
        let version = target.and_then(|webhook| self.engine.fleet_by_token(&webhook.token));
        let taken = match &version {
            Some(version) => self.take(id, version, &request),
            None => Err(unknown()),
        };
        taken.unwrap_or_else(|refusal| {
            let fleet = version.map(|version| version.fleet_id);
            self.refused(id, refusal, client, fleet, request.body.length()).into()
        })
    }

    fn refuse(&self, refusal: Refusal, admitted: Option<&Admitted>) -> Response {
        let id = arriving();
        if let Some((admitted, target)) = admitted.and_then(|it| Some((it, it.webhook?))) {
            let client = admitted.remote_addr.ip();
            let delivery = NewDelivery::refused(id, Some(target.fleet), client, &refusal);
            self.engine.record_delivery(delivery);
        }
        respond::bare(id, refusal)
    }
}

/// What `peer` is to the listener: proxies speak for many.
fn origin(peer: IpAddr, trusted_proxies: &Networks) -> Origin {
    if trusted_proxies.contains(peer) { Origin::Proxy } else { Origin::of(peer) }
}

/// The one refusal of every URL that is not a webhook's.
fn unknown() -> Refusal {
    Refusal::new(Reason::UnknownUrl, "not the URL of a webhook")
}

/// The id of a request that arrives now.
fn arriving() -> RequestId {
    RequestId::arriving(SystemClock.now())
}

/// The token of a request that may be one to a webhook. Other methods than POST are for webhooks of
/// which `takes` says that their handshakes need them.
fn token(
    method: &str,
    path: &str,
    named: Option<TokenHash>,
    takes: impl FnOnce(&TokenHash) -> bool,
) -> Result<TokenHash, Refusal> {
    match (method, named) {
        ("POST", named) => named.ok_or_else(unknown),
        (_, Some(token)) if takes(&token) => Ok(token),
        _ if path == respond::HEALTH => Err(Refusal::method_not_allowed(&respond::HEALTH_METHODS)),
        _ => Err(Refusal::method_not_allowed(&["POST"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a request to a listener that knows the webhook at `/hooks/known` and no other.
    fn token(method: &str, path: &str) -> Result<TokenHash, Refusal> {
        let named = (path == "/hooks/known").then(known);
        super::token(method, path, named, |_| false)
    }

    fn known() -> TokenHash {
        Token::parse(&"A".repeat(43)).unwrap().hash()
    }

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
        let hook = "/hooks/known";
        assert_eq!(token("POST", hook), Ok(known()));
        assert_eq!(super::token("GET", hook, Some(known()), |_| true), Ok(known()));

        let long = format!("/hooks/{}", "a".repeat(10_240));
        let more = [format!("{hook}//"), format!("{hook}%20"), format!("/{hook}"), long];
        let odd = ["/", "*", "/hooks", "/hooks/", "/hooks/a", "/hooks/../x", "/healthz", "/api/v1"];
        for path in more.iter().map(String::as_str).chain(odd) {
            assert_eq!(token("POST", path), Err(unknown()), "{path}");
        }
        for (method, path) in
            [("GET", hook), ("HEAD", hook), ("PUT", "/"), ("BREW", "/x"), ("post", hook)]
        {
            let refusal = token(method, path).unwrap_err();
            assert_eq!(refusal.status(), 405, "{method} {path}");
            assert_eq!(refusal.headers, [("Allow", "POST".to_owned())]);
        }
        for method in ["PUT", "DELETE", "OPTIONS", "TRACE"] {
            let refusal = token(method, "/healthz").unwrap_err();
            assert_eq!(refusal.status(), 405, "{method}");
            assert_eq!(refusal.headers, [("Allow", "GET, HEAD".to_owned())]);
        }
    }
}
