//! The admin API: its routes, who may use them, and what its endpoints have in common. What an
//! endpoint does is in the module of its noun.

mod backup;
mod body;
mod call;
mod deliveries;
mod doctor;
mod fleets;
mod many;
mod metrics;
mod openapi;
mod output;
mod overview;
mod places;
mod projects;
mod proof;
mod reply;
mod runs;
mod sample;
mod schedules;
mod secrets;
mod senders;
mod session;
mod vessel_runs;
mod webhooks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Settings;
use crate::config::secrets::{KEPT_SECRET_BYTES_MAX, SecretKeeper, SecretStore};
use crate::diagnostics::Facts;
use crate::engine::Engine;
use crate::fleet_file;
use crate::listener::{Admitted, Handled, Handler, Head, Request, Response};
use crate::model::clock::Timestamp;
use crate::model::ids::{OrganizationId, RequestId};
use crate::model::metrics::Histogram;
use crate::model::refusal::{Reason, Refusal};
use crate::model::server_proof;
use crate::web::admin::call::Call;
use crate::web::admin::doctor::Examination;
use crate::web::admin::output::Followers;
use crate::web::admin::reply::Reply;
use crate::web::auth::BearerToken;
use crate::web::instruments::Instruments;
use crate::web::origin::{self, Hosts};
use crate::web::query::Query;
use crate::web::respond;
use crate::web::route::{self, Found, Route};
use crate::web::session::Sessions;
use crate::web::ui;

/// Bytes of what one signs in with: several times a token in JSON. It is all that a stranger can have
/// the admin listener take in.
const SIGN_IN_BODY_BYTES_MAX: u64 = 4096;

/// Answers the owner of the installation.
pub struct AdminHandler {
    engine: Arc<Engine>,
    organization: OrganizationId,
    pub(super) settings: Arc<Settings>,
    token: BearerToken,
    hosts: Hosts,
    /// For doctor.
    facts: Facts,
    /// How long the launcher takes to start vessels.
    spawning: Arc<Histogram>,
    secrets: SecretKeeper,
    followers: Followers,
    examination: Examination,
    sessions: Sessions,
    cookie_name: String,
    started_at: Timestamp,
    pub(super) instruments: Arc<Instruments>,
}

/// What answers a route.
type Endpoint = fn(&AdminHandler, &mut Call<'_>) -> Outcome;
/// What comes of a request.
type Outcome = Result<Reply, Refusal>;

/// Signing in is the one thing that is open to everybody.
const SESSION: &str = "/api/v1/session";

const ROUTES: &[Route<Endpoint>] = &[
    ("POST", SESSION, session::open),
    ("DELETE", SESSION, session::close),
    ("POST", "/api/v1/session/links", session::link),
    ("POST", "/api/v1/backup", backup::make),
    ("GET", "/metrics", metrics::get),
    ("GET", "/api/v1/openapi.json", openapi::get),
    ("GET", "/api/v1/overview", overview::get),
    ("GET", "/api/v1/senders", senders::list),
    ("GET", "/api/v1/doctor", doctor::get),
    ("GET", "/api/v1/doctor/database", doctor::database),
    ("GET", "/api/v1/organization", projects::organization),
    ("GET", "/api/v1/projects", projects::list),
    ("POST", "/api/v1/projects", projects::create),
    ("GET", "/api/v1/projects/{}", projects::get),
    ("PUT", "/api/v1/projects/{}", projects::update),
    ("DELETE", "/api/v1/projects/{}", projects::delete),
    ("GET", "/api/v1/fleets", fleets::list),
    ("POST", "/api/v1/fleets", fleets::create),
    ("PUT", "/api/v1/fleets", fleets::apply),
    ("POST", "/api/v1/fleets/check", fleets::check),
    ("GET", "/api/v1/fleets/{}", fleets::get),
    ("PUT", "/api/v1/fleets/{}", fleets::update),
    ("DELETE", "/api/v1/fleets/{}", fleets::delete),
    ("GET", "/api/v1/fleets/{}/versions", fleets::versions),
    ("GET", "/api/v1/fleets/{}/versions/{}", fleets::version),
    ("POST", "/api/v1/fleets/{}/versions/{}/revert", fleets::revert),
    ("GET", "/api/v1/fleets/{}/webhook", webhooks::get),
    ("POST", "/api/v1/fleets/{}/webhook", webhooks::add),
    ("PUT", "/api/v1/fleets/{}/webhook", webhooks::set),
    ("DELETE", "/api/v1/fleets/{}/webhook", webhooks::remove),
    ("POST", "/api/v1/fleets/{}/webhook/replace", webhooks::replace),
    ("POST", "/api/v1/fleets/{}/webhook/pause", webhooks::pause),
    ("POST", "/api/v1/fleets/{}/webhook/resume", webhooks::resume),
    ("POST", "/api/v1/fleets/{}/webhook/send", sample::send),
    ("POST", "/api/v1/fleets/{}/runs", runs::start),
    ("POST", "/api/v1/fleets/{}/test", runs::test),
    ("GET", "/api/v1/runs", runs::list),
    ("POST", "/api/v1/runs/replay", many::replay),
    ("POST", "/api/v1/runs/stop", many::stop),
    ("GET", "/api/v1/runs/{}", runs::get),
    ("POST", "/api/v1/runs/{}/stop", runs::stop),
    ("POST", "/api/v1/runs/{}/replay", runs::replay),
    ("GET", "/api/v1/runs/{}/webhook-parameters", body::parameters),
    ("GET", "/api/v1/runs/{}/body", body::download),
    ("GET", "/api/v1/schedules", schedules::list),
    ("GET", "/api/v1/deliveries", deliveries::list),
    ("GET", "/api/v1/deliveries/{}", deliveries::get),
    ("GET", "/api/v1/deliveries/{}/body", deliveries::body),
    ("POST", "/api/v1/deliveries/{}/replay", deliveries::replay),
    ("GET", "/api/v1/vessel-runs/{}", vessel_runs::get),
    ("POST", "/api/v1/vessel-runs/{}/stop", runs::stop_vessel),
    ("GET", "/api/v1/vessel-runs/{}/output", output::get),
    ("GET", "/api/v1/secrets", secrets::list),
    ("PUT", "/api/v1/secrets/{}", secrets::set),
    ("DELETE", "/api/v1/secrets/{}", secrets::remove),
];

/// The answer to a request for a page by a name that is not one of the server's.
const UNKNOWN_HOST: &str = "this server does not go by the name in your address bar; use its \
    address, or add the name to the setting admin_hosts\n";

/// `answer` as something that no browser may take for anything but what its Content-Type says,
/// give to other origins, or tell others about.
fn guarded(answer: Response) -> Response {
    answer
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Referrer-Policy", "no-referrer")
        .with_header("Cross-Origin-Resource-Policy", "same-origin")
}

/// An answer of the API: secrets are among them, and a browser that shows one on its own may do
/// nothing with it.
fn of_api(answer: Response) -> Response {
    guarded(answer)
        .with_header("Cache-Control", "no-store")
        .with_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}

/// Whether `path` is where a fleet is started as its webhook would start it.
fn is_test(path: &str) -> bool {
    path.ends_with("/test")
}

impl AdminHandler {
    /// Shows and changes what `engine` has.
    pub fn new(
        engine: Arc<Engine>,
        settings: Arc<Settings>,
        token: BearerToken,
        facts: Facts,
        spawning: Arc<Histogram>,
        instruments: Arc<Instruments>,
    ) -> Self {
        let organization = engine.organization().id;
        Self {
            organization,
            secrets: SecretKeeper::new(SecretStore::of(&settings)),
            followers: Followers::new(settings.max_followers),
            examination: Examination::default(),
            sessions: Sessions::default(),
            // A browser sends a cookie to every port of a host.
            cookie_name: format!("boathook_session_{}", settings.admin_listen.port()),
            hosts: Hosts::new(settings.admin_hosts.iter().cloned()),
            started_at: engine.now(),
            engine,
            settings,
            token,
            facts,
            spawning,
            instruments,
        }
    }

    /// Whether a request may come in, by its head alone.
    fn check(&self, head: &Head) -> Result<(), Refusal> {
        if head.path == SESSION && head.method == "POST" {
            if !self.hosts.admit(head.header("Host")) {
                return Err(Refusal::new(Reason::Forbidden, UNKNOWN_HOST));
            }
            if !origin::is_ours(head) {
                return Err(Refusal::new(
                    Reason::Forbidden,
                    "signing in is for the pages of this server alone",
                ));
            }
            return Ok(());
        }
        if self.is_authorised(head) {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::Unauthorized,
            "this needs the admin token; send it as \"Authorization: Bearer <token>\"",
        ))
    }

    /// Whether the request may use the API: by the bearer token, or by a session when one of our own
    /// pages asks. Any other `Authorization` is for others, such as the password or the token of a
    /// proxy, and changes nothing.
    fn is_authorised(&self, head: &Head) -> bool {
        if head.values("Authorization").any(|shown| self.token.admits(shown)) {
            return true;
        }
        let cookie = origin::cookie(head.header("Cookie"), &self.cookie_name);
        let key = head.header(origin::SESSION_HEADER).and_then(|it| std::str::from_utf8(it).ok());
        let (Some(cookie), Some(key)) = (cookie, key) else { return false };
        self.hosts.admit(head.header("Host"))
            && origin::is_ours(head)
            && self.sessions.admits(cookie, key, Instant::now())
    }

    /// The answer to any request for the health of the server, which is open to strangers.
    fn health(&self, method: &str) -> Response {
        let allowed = respond::HEALTH_METHODS;
        if allowed.contains(&method) {
            return guarded(respond::health(&self.engine.check_room(), self.engine.is_paused()));
        }
        of_api(respond::error(RequestId::random(), Refusal::method_not_allowed(&allowed)))
    }

    /// A page or a file of the pages, if that is what the request asks for.
    fn page(&self, head: &Head) -> Option<Response> {
        if !matches!(head.method.as_str(), "GET" | "HEAD") {
            return None;
        }
        let answer = ui::find(&head.path, head.header("If-None-Match"))?;
        if self.hosts.admit(head.header("Host")) {
            return Some(answer);
        }
        Some(Response::new(403, "text/plain; charset=utf-8", UNKNOWN_HOST))
    }

    fn outcome(&self, request: &mut Request) -> Outcome {
        match route::find(ROUTES, &request.method, &request.path) {
            Found::Endpoint { endpoint, segments } => {
                // A test run takes whatever a webhook takes.
                let text = if is_test(&request.path) { "" } else { request.query.as_str() };
                let query = Query::parse(text)?;
                endpoint(self, &mut Call { request, segments, query })
            }
            Found::OtherMethods(methods) => Err(Refusal::method_not_allowed(&methods)),
            Found::Nothing => Err(Refusal::not_found("there is nothing at this path")),
        }
    }
}

impl Handler for AdminHandler {
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Admitted, Response> {
        if head.path == respond::HEALTH {
            return Err(self.health(&head.method));
        }
        if head.path == server_proof::PATH {
            return Err(of_api(proof::answer(self, head)));
        }
        if let Some(page) = self.page(head) {
            return Err(guarded(page));
        }
        if let Err(refusal) = self.check(head) {
            self.instruments.admin.refused.count(refusal.reason);
            return Err(of_api(respond::error(RequestId::random(), refusal)));
        }
        // Test runs take what webhooks take; everything else is a fleet file at most. What is open to
        // strangers must not use up the room for bodies, which senders of webhooks need.
        let body_bytes_max = match head.path.as_str() {
            SESSION => SIGN_IN_BODY_BYTES_MAX,
            path if is_test(path) => self.settings.max_body_bytes,
            path if path.starts_with(secrets::PATH) => KEPT_SECRET_BYTES_MAX as u64,
            _ => fleet_file::FLEET_FILE_BYTES_MAX as u64,
        };
        let has_token = head.path != SESSION || self.is_authorised(head);
        // Strangers may have taken all other places.
        Ok(Admitted {
            remote_addr: peer,
            body_bytes_max,
            webhook: None,
            has_token,
            is_urgent: has_token,
        })
    }

    fn disk_left(&self) -> u64 {
        self.engine.disk_left()
    }

    fn handle(&self, mut request: Request) -> Handled {
        let id = RequestId::random();
        let response = match self.outcome(&mut request) {
            Ok(reply) => reply.into_response(id),
            Err(refusal) => respond::error(id, refusal),
        };
        of_api(response).into()
    }

    fn refuse(&self, refusal: Refusal, _: Option<&Admitted>) -> Response {
        respond::error(RequestId::random(), refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_can_be_reached() {
        for (index, (method, pattern, _)) in ROUTES.iter().enumerate() {
            let path = pattern.replace("{}", "x");
            let indexed: Vec<Route<usize>> =
                ROUTES.iter().enumerate().map(|(at, route)| (route.0, route.1, at)).collect();
            match route::find(&indexed, method, &path) {
                Found::Endpoint { endpoint, .. } => assert_eq!(endpoint, index, "{method} {path}"),
                other => panic!("{method} {path}: {other:?}"),
            }
        }
    }
}
