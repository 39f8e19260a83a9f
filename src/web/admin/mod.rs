//! The admin API: its routes, who may use them, and what its endpoints have in common. What an
//! endpoint does is in the module of its noun.

mod access;
mod audit;
mod backup;
mod body;
mod call;
mod csv;
mod deliveries;
mod doctor;
mod dry_run;
mod evaluate;
mod examples;
mod fleets;
mod hosted;
mod many;
mod metrics;
mod openapi;
mod output;
mod overview;
mod places;
mod projects;
mod proof;
mod queue;
mod recover;
mod reply;
mod runs;
mod sample;
mod schedules;
mod secrets;
mod senders;
mod session;
mod statistics;
mod tokens;
mod vessel_runs;
mod webhooks;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::config::Settings;
use crate::config::secrets::{KEPT_SECRET_BYTES_MAX, SecretKeeper};
use crate::diagnostics::Facts;
use crate::engine::Engine;
use crate::fleet_file;
use crate::listener::{Admitted, Handled, Handler, Head, Request, Response};
use crate::model::access::{Need, Principal, Role};
use crate::model::clock::Timestamp;
use crate::model::ids::{OrganizationId, RequestId};
use crate::model::metrics::Histogram;
use crate::model::refusal::{Reason, Refusal};
use crate::model::server_proof;
use crate::model::webhook::Token;
use crate::web::admin::access::{Access, Takes, Target};
use crate::web::admin::audit::Done;
use crate::web::admin::call::Call;
use crate::web::admin::doctor::Examination;
use crate::web::admin::output::Followers;
use crate::web::admin::places::Places;
use crate::web::admin::reply::Reply;
use crate::web::auth::BearerToken;
use crate::web::hooks::Senders;
use crate::web::instruments::Instruments;
use crate::web::origin::{self, Hosts};
use crate::web::query::Query;
use crate::web::respond;
use crate::web::route::{self, Found, Route};
use crate::web::session::Sessions;
use crate::web::ui;

/// Bytes of what one signs in with: several times a token in JSON. It is all that a stranger can have
/// the admin listener take in: senders of webhooks need the room for bodies.
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
    secrets: Arc<SecretKeeper>,
    /// For dry runs.
    senders: Senders,
    /// Places for expressions that are tried out.
    trials: Places,
    /// Places for samples that are sent.
    samples: Places,
    followers: Followers,
    examination: Examination,
    recovery: recover::Turn,
    sessions: Sessions,
    cookie_name: String,
    started_at: Timestamp,
    /// The time in the id of the latest request that may change something, in milliseconds.
    last_change: AtomicI64,
    pub(super) instruments: Arc<Instruments>,
}

/// What comes of a request.
type Outcome = Result<Reply, Refusal>;

/// Signing in is the one thing that is open to everybody.
const SESSION: &str = "/api/v1/session";

/// What a line of [`ROUTES`] needs.
const ANY: Access = Access::new(Need::AnyToken);
const START: Access = Access::new(Need::Start);
const READER: Access = Access::new(Need::AtLeast(Role::Reader));
const OPERATOR: Access = Access::new(Need::AtLeast(Role::Operator));
const AUTHOR: Access = Access::new(Need::AtLeast(Role::Author));
const ADMIN: Access = Access::new(Need::AtLeast(Role::Admin));

const ROUTES: &[Route<Target>] = &[
    ("POST", SESSION, ANY.does("sign in", session::open).takes(Takes::SignIn)),
    ("GET", SESSION, ANY.by(session::get)),
    ("DELETE", SESSION, ANY.does("sign out", session::close)),
    ("POST", "/api/v1/session/links", ANY.does("make sign-in link", session::link)),
    ("GET", "/api/v1/sessions", ADMIN.of_server().by(session::list)),
    ("DELETE", "/api/v1/sessions/{}", ADMIN.of_server().does("end session", session::end)),
    ("GET", "/api/v1/settings", READER.of_server().by(doctor::settings)),
    ("POST", "/api/v1/backup", ADMIN.of_server().does("make backup", backup::make)),
    ("GET", "/metrics", READER.of_server().by(metrics::get)),
    ("GET", "/api/v1/openapi.json", ANY.by(openapi::get)),
    ("GET", "/api/v1/overview", READER.by(overview::get)),
    ("GET", "/api/v1/overview/fleets", READER.by(overview::fleets)),
    ("GET", "/api/v1/senders", READER.by(senders::list)),
    ("GET", "/api/v1/examples", READER.by(examples::list)),
    ("GET", "/api/v1/doctor", READER.of_server().by(doctor::get)),
    ("GET", "/api/v1/doctor/database", READER.of_server().by(doctor::database)),
    ("GET", "/api/v1/organization", ANY.by(projects::organization)),
    ("GET", "/api/v1/projects", READER.by(projects::list)),
    ("POST", "/api/v1/projects", AUTHOR.of_server().does("create project", projects::create)),
    ("GET", "/api/v1/projects/{}", READER.by(projects::get)),
    ("PUT", "/api/v1/projects/{}", AUTHOR.of_server().does("change project", projects::update)),
    ("DELETE", "/api/v1/projects/{}", AUTHOR.of_server().does("delete project", projects::delete)),
    ("GET", "/api/v1/fleets", ANY.by(fleets::list)),
    ("POST", "/api/v1/fleets", AUTHOR.does("create fleet", fleets::create)),
    ("PUT", "/api/v1/fleets", AUTHOR.does("apply fleet", fleets::apply)),
    ("POST", "/api/v1/fleets/check", READER.by(fleets::check)),
    ("GET", "/api/v1/fleets/{}", ANY.by(fleets::get)),
    ("PUT", "/api/v1/fleets/{}", AUTHOR.does("change fleet", fleets::update)),
    ("DELETE", "/api/v1/fleets/{}", AUTHOR.does("delete fleet", fleets::delete)),
    ("GET", "/api/v1/fleets/{}/versions", READER.by(fleets::versions)),
    ("GET", "/api/v1/fleets/{}/versions/{}", READER.by(fleets::version)),
    ("POST", "/api/v1/fleets/{}/versions/{}/revert", AUTHOR.does("revert fleet", fleets::revert)),
    ("GET", "/api/v1/fleets/{}/webhook", READER.by(webhooks::get)),
    ("POST", "/api/v1/fleets/{}/webhook", AUTHOR.does("add webhook", webhooks::add)),
    ("PUT", "/api/v1/fleets/{}/webhook", AUTHOR.does("change webhook", webhooks::set)),
    ("DELETE", "/api/v1/fleets/{}/webhook", AUTHOR.does("remove webhook", webhooks::remove)),
    (
        "POST",
        "/api/v1/fleets/{}/webhook/replace",
        AUTHOR.does("replace webhook", webhooks::replace),
    ),
    ("POST", "/api/v1/fleets/{}/webhook/pause", AUTHOR.does("pause webhook", webhooks::pause)),
    ("POST", "/api/v1/fleets/{}/webhook/resume", AUTHOR.does("resume webhook", webhooks::resume)),
    (
        "POST",
        "/api/v1/fleets/{}/webhook/handshake",
        AUTHOR.does("expect handshake", webhooks::expect_handshake),
    ),
    (
        "DELETE",
        "/api/v1/fleets/{}/webhook/handshake",
        AUTHOR.does("expect no handshake", webhooks::expect_no_handshake),
    ),
    (
        "POST",
        "/api/v1/fleets/{}/webhook/recover",
        AUTHOR.does("recover deliveries", recover::recover),
    ),
    ("POST", "/api/v1/fleets/{}/webhook/send", OPERATOR.does("send sample event", sample::send)),
    ("POST", "/api/v1/fleets/{}/runs", START.does("start run", runs::start)),
    (
        "POST",
        "/api/v1/fleets/{}/test",
        START.does("start test run", runs::test).takes(Takes::WebhookRequest),
    ),
    ("POST", "/api/v1/fleets/{}/evaluate", READER.by(evaluate::evaluate)),
    (
        "POST",
        "/api/v1/fleets/{}/dry-run",
        READER.by(dry_run::of_fleet).takes(Takes::WebhookRequest),
    ),
    ("GET", "/api/v1/runs", ANY.by(runs::list)),
    ("POST", "/api/v1/runs/replay", OPERATOR.does("replay runs", many::replay)),
    ("POST", "/api/v1/runs/stop", OPERATOR.does("stop runs", many::stop)),
    ("GET", "/api/v1/runs/{}", ANY.by(runs::get)),
    ("POST", "/api/v1/runs/{}/stop", OPERATOR.does("stop run", runs::stop)),
    ("POST", "/api/v1/runs/{}/replay", OPERATOR.does("replay run", runs::replay)),
    ("POST", "/api/v1/runs/{}/dry-run", READER.by(dry_run::of_run)),
    ("GET", "/api/v1/runs/{}/webhook-parameters", READER.by(body::parameters)),
    ("GET", "/api/v1/runs/{}/body", READER.by(body::download)),
    ("GET", "/api/v1/queue", READER.by(queue::get)),
    ("GET", "/api/v1/statistics", READER.by(statistics::get)),
    ("GET", "/api/v1/schedules", READER.by(schedules::list)),
    ("GET", "/api/v1/deliveries", READER.by(deliveries::list)),
    ("GET", "/api/v1/deliveries/{}", READER.by(deliveries::get)),
    ("GET", "/api/v1/deliveries/{}/body", READER.by(deliveries::body)),
    ("POST", "/api/v1/deliveries/{}/replay", OPERATOR.does("replay delivery", deliveries::replay)),
    ("POST", "/api/v1/deliveries/{}/dry-run", READER.by(dry_run::of_delivery)),
    ("GET", "/api/v1/vessel-runs/{}", READER.by(vessel_runs::get)),
    ("POST", "/api/v1/vessel-runs/{}/stop", OPERATOR.does("stop vessel", runs::stop_vessel)),
    ("GET", "/api/v1/vessel-runs/{}/output", READER.by(output::get)),
    ("GET", "/orgs", ANY.by(hosted::organizations)),
    ("GET", "/orgs/{}/voyages", ANY.by(hosted::all_runs)),
    ("PUT", "/orgs/{}/projects/{}/fleets", AUTHOR.does("apply fleet", hosted::upsert)),
    ("PUT", "/orgs/{}/projects/{}/fleets/{}", AUTHOR.does("change fleet", hosted::update)),
    ("POST", "/orgs/{}/projects/{}/fleets/{}/fleetruns", START.does("start run", hosted::start)),
    ("GET", "/orgs/{}/projects/{}/fleets/{}/fleetruns", ANY.by(hosted::runs_of_fleet)),
    ("GET", "/orgs/{}/projects/{}/fleets/{}/runs", ANY.by(hosted::runs_of_fleet)),
    ("GET", "/api/v1/tokens", ADMIN.by(tokens::list)),
    ("POST", "/api/v1/tokens", ADMIN.does("create token", tokens::create)),
    ("DELETE", "/api/v1/tokens/{}", ADMIN.does("revoke token", tokens::revoke)),
    ("GET", "/api/v1/audit", ADMIN.of_server().by(audit::list)),
    ("GET", "/api/v1/secrets", READER.by(secrets::list)),
    (
        "PUT",
        "/api/v1/secrets/{}",
        AUTHOR.of_server().does("set secret", secrets::set).takes(Takes::Secret),
    ),
    ("DELETE", "/api/v1/secrets/{}", AUTHOR.of_server().does("remove secret", secrets::remove)),
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

/// Whether a person has come to a path that is none of the API's.
fn wants_page(head: &Head) -> bool {
    let accept = head.header("Accept").unwrap_or_default();
    let mut ranges = accept.split(|byte| *byte == b',').map(call::media_type);
    let is_for_programs =
        ["/api/", "/orgs/", "/ui/", "/metrics"].iter().any(|it| head.path.starts_with(it));
    !is_for_programs && ranges.any(|range| range == "text/html")
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
            secrets: Arc::clone(engine.secrets()),
            senders: Senders::new(Arc::clone(&settings)),
            trials: Places::new(evaluate::TRIALS_MAX),
            samples: Places::new(sample::SAMPLES_MAX),
            followers: Followers::new(settings.max_followers),
            examination: Examination::default(),
            recovery: recover::Turn::default(),
            sessions: Sessions::default(),
            // A browser sends a cookie to every port of a host.
            cookie_name: format!("boathook_session_{}", settings.admin_listen.port()),
            hosts: Hosts::new(settings.admin_hosts.iter().cloned()),
            started_at: engine.now(),
            last_change: AtomicI64::new(i64::MIN),
            engine,
            settings,
            token,
            facts,
            spawning,
            instruments,
        }
    }

    /// Whether `token` opens this API.
    fn is_own_token(&self, token: &Token) -> bool {
        let is_named = || self.engine.use_access_token(&token.hash()).is_some();
        self.token.is(token.reveal()) || is_named()
    }

    /// Whose a request is that may come in, by its head alone; `None`: of a page that signs in.
    fn check(&self, head: &Head, target: Option<Target>) -> Result<Option<Principal>, Refusal> {
        if target.is_some_and(|target| target.takes == Takes::SignIn) {
            if !self.hosts.admit(head.header("Host")) {
                return Err(Refusal::new(Reason::Forbidden, UNKNOWN_HOST));
            }
            if !origin::is_ours(head) {
                return Err(Refusal::new(
                    Reason::Forbidden,
                    "signing in is for the pages of this server alone",
                ));
            }
            return Ok(self.authenticate(head));
        }
        let Some(principal) = self.authenticate(head) else {
            return Err(Refusal::new(
                Reason::Unauthorized,
                "this needs a token; send it as \"Authorization: Bearer <token>\"",
            ));
        };
        target.map_or(Ok(()), |target| target.access.authorise(&principal))?;
        Ok(Some(principal))
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
        let base = &self.settings.admin_base_path;
        let found = ui::find(base, &head.path, head.header("If-None-Match"));
        let answer = found.or_else(|| wants_page(head).then(|| ui::not_found(base)))?;
        if self.hosts.admit(head.header("Host")) {
            return Some(answer);
        }
        Some(Response::new(403, "text/plain; charset=utf-8", UNKNOWN_HOST))
    }

    /// `head` with its path as the routes have it.
    fn below_base<'h>(&self, head: &'h Head) -> Cow<'h, Head> {
        let path = self.settings.admin_base_path.strip(&head.path);
        if path == head.path {
            return Cow::Borrowed(head);
        }
        Cow::Owned(Head { path: path.to_owned(), ..head.clone() })
    }

    /// A new id. Those of requests that may change something increase, since the audit is in their order.
    fn request_id(&self, method: &str) -> RequestId {
        if ["GET", "HEAD"].contains(&method) {
            return RequestId::random();
        }
        let now = self.engine.now().as_millis();
        let next = |last: i64| Some(now.max(last.saturating_add(1)));
        let last = self.last_change.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let millis = last.ok().and_then(next).unwrap_or(now);
        RequestId::arriving(Timestamp::from_millis(millis))
    }

    /// Answers the request `id`. A change is in the audit before it is answered.
    fn outcome(&self, id: RequestId, request: &mut Request) -> Outcome {
        match route::find(ROUTES, &request.method, &request.path) {
            Found::Endpoint { endpoint: target, segments } => {
                let query = match target.takes {
                    Takes::WebhookRequest => Query::default(),
                    _ => Query::parse(&request.query)?,
                };
                let principal = request.principal;
                let reach = principal.map(|it| self.engine.reach(it.scope)).unwrap_or_default();
                let object = match target.action {
                    Some(_) => self.object_of(&request.path, &segments),
                    None => String::new(),
                };
                let is_change = true;
                let call =
                    &mut Call { request, principal, reach, segments, query, object, is_change };
                let reply = (target.endpoint)(self, call)?;
                if let Some((action, by)) = target.action.zip(call.principal)
                    && call.is_change
                {
                    let class = target.access.audit_class();
                    let remote_addr = call.request.remote_addr.ip();
                    let object = std::mem::take(&mut call.object);
                    self.note(Done { id, by, remote_addr, action, class, object });
                }
                Ok(reply)
            }
            Found::OtherMethods(methods) => Err(Refusal::method_not_allowed(&methods)),
            Found::Nothing => Err(Refusal::not_found("there is nothing at this path")),
        }
    }
}

impl Handler for AdminHandler {
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Admitted, Response> {
        let head = &*self.below_base(head);
        if head.path == respond::HEALTH {
            return Err(self.health(&head.method));
        }
        if head.path == server_proof::PATH {
            return Err(of_api(proof::answer(self, head)));
        }
        if let Some(page) = self.page(head) {
            return Err(guarded(page));
        }
        let target = access::target(&head.method, &head.path);
        let principal = self.check(head, target).map_err(|refusal| {
            self.instruments.admin.refused.count(refusal.reason);
            of_api(respond::error(RequestId::random(), refusal))
        })?;
        let takes = target.map(|target| target.takes).unwrap_or_default();
        let body_bytes_max = match takes {
            Takes::SignIn => SIGN_IN_BODY_BYTES_MAX,
            Takes::WebhookRequest => self.settings.max_body_bytes,
            Takes::Secret => KEPT_SECRET_BYTES_MAX as u64,
            Takes::FleetFile => fleet_file::FLEET_FILE_BYTES_MAX as u64,
        };
        let has_token = principal.is_some();
        // Strangers may have taken all other places.
        Ok(Admitted {
            remote_addr: peer,
            body_bytes_max,
            webhook: None,
            principal,
            has_token,
            is_urgent: has_token,
        })
    }

    fn disk_left(&self) -> u64 {
        self.engine.disk_left()
    }

    fn handle(&self, mut request: Request) -> Handled {
        request.path = self.settings.admin_base_path.strip(&request.path).to_owned();
        let id = self.request_id(&request.method);
        let admitted = self.still_admitted(&request);
        let response = match admitted.and_then(|()| self.outcome(id, &mut request)) {
            Ok(reply) => self.while_valid(request.principal, reply.into_response(id)),
            Err(refusal) => respond::error(id, refusal),
        };
        of_api(response).into()
    }

    fn refuse(&self, refusal: Refusal, _: Option<&Admitted>) -> Response {
        of_api(respond::error(RequestId::random(), refusal))
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
