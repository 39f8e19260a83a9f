//! The admin API: its routes, who may use them, and what its endpoints have in common. What an
//! endpoint does is in the module of its noun.

mod backup;
mod body;
mod doctor;
mod fleets;
mod metrics;
mod openapi;
mod output;
mod overview;
mod places;
mod projects;
mod proof;
mod runs;
mod sample;
mod schedules;
mod session;
mod vessel_runs;
mod webhooks;

use std::io::Write;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Settings;
use crate::diagnostics::Facts;
use crate::engine::Engine;
use crate::fleet_file;
use crate::listener::{
    Admitted, Handled, Handler, Head, Request, Response, ResponseBody, Stream, StreamWriter,
};
use crate::model::clock::Timestamp;
use crate::model::ids::{OrganizationId, RequestId};
use crate::model::metrics::Histogram;
use crate::model::refusal::{Reason, Refusal};
use crate::model::server_proof;
use crate::os::text_file::decode;
use crate::web::admin::doctor::Examination;
use crate::web::admin::output::Followers;
use crate::web::auth::BearerToken;
use crate::web::instruments::Instruments;
use crate::web::origin::{self, Hosts};
use crate::web::query::{NEXT_BEFORE, Query};
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
    ("GET", "/api/v1/runs/{}", runs::get),
    ("POST", "/api/v1/runs/{}/stop", runs::stop),
    ("POST", "/api/v1/runs/{}/replay", runs::replay),
    ("GET", "/api/v1/runs/{}/webhook-parameters", body::parameters),
    ("GET", "/api/v1/runs/{}/body", body::download),
    ("GET", "/api/v1/schedules", schedules::list),
    ("GET", "/api/v1/vessel-runs/{}", vessel_runs::get),
    ("POST", "/api/v1/vessel-runs/{}/stop", runs::stop_vessel),
    ("GET", "/api/v1/vessel-runs/{}/output", output::get),
];

/// A successful answer, before the envelope is around it.
enum Reply {
    /// A status and the JSON of `data`.
    Data(u16, String),
    /// The same, and a header of its own: name and value.
    WithHeader(u16, String, (&'static str, String)),
    /// An answer without an envelope.
    Plain(Response),
}

impl Reply {
    fn ok(data: &impl Serialize) -> Outcome {
        Self::with_status(200, data)
    }

    fn created(data: &impl Serialize) -> Outcome {
        Self::with_status(201, data)
    }

    fn with_status(status: u16, data: &impl Serialize) -> Outcome {
        match serde_json::to_string(data) {
            Ok(json) => Ok(Self::Data(status, json)),
            Err(error) => Err(Refusal::failed(format!("the answer cannot be shown: {error}"))),
        }
    }

    /// The same with a header of its own. Answers without an envelope get theirs at once.
    fn with_header(self, name: &'static str, value: String) -> Self {
        match self {
            Self::Data(status, data) | Self::WithHeader(status, data, _) => {
                Self::WithHeader(status, data, (name, value))
            }
            Self::Plain(answer) => Self::Plain(answer.with_header(name, value)),
        }
    }

    /// Part of a list, which tells where the next part begins.
    fn page(entries: &[impl Serialize], next: Option<String>) -> Outcome {
        let page = Self::ok(&entries)?;
        Ok(match next {
            Some(before) => page.with_header(NEXT_BEFORE, before),
            None => page,
        })
    }

    /// There is nothing left to show.
    fn gone() -> Outcome {
        Ok(Self::Data(200, "null".to_owned()))
    }

    /// A body that is written piece by piece.
    fn stream(
        content_type: &str,
        length: Option<u64>,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'static,
    ) -> Response {
        let write: StreamWriter = Box::new(write);
        let mut answer = Response::new(200, content_type, Vec::new());
        answer.body = ResponseBody::Stream(Stream { length, write });
        // nginx would hold the pieces back until its buffers are full or the stream has ended.
        answer.with_header("X-Accel-Buffering", "no")
    }
}

/// A request on its way through an endpoint.
struct Call<'c> {
    request: &'c mut Request,
    /// The segments of the path that vary.
    segments: Vec<String>,
    /// The parameters of the query string; of a test run, none.
    query: Query,
}

impl Call<'_> {
    /// The segment of the path at `index`.
    fn segment(&self, index: usize) -> &str {
        self.segments.get(index).map_or("", String::as_str)
    }

    /// The id at `index`; what is none cannot be the id of any `noun`.
    fn id<T: FromStr>(&self, index: usize, noun: &str) -> Result<T, Refusal> {
        let segment = self.segment(index);
        segment.parse().map_err(|_| Refusal::not_found(format!("no such {noun}: {segment:?}")))
    }

    /// The media type of the body, in lower case and without parameters; empty when none is given.
    fn content_type(&self) -> String {
        media_type(self.request.header("Content-Type").unwrap_or_default())
    }

    /// The whole body as text.
    fn text(&mut self) -> Result<String, Refusal> {
        let bytes = self
            .request
            .body_bytes()
            .map_err(|error| Refusal::failed(format!("the body cannot be read: {error}")))?;
        decode(bytes).map_err(|error| Refusal::bad_request(format!("the body: {error}")))
    }

    /// The body as text that should be JSON; `None` when there is none.
    fn json_text(&mut self) -> Result<Option<String>, Refusal> {
        let content_type = self.content_type();
        let text = self.text()?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        if !content_type.is_empty() && content_type != "application/json" {
            return Err(unsupported(&content_type, "application/json"));
        }
        Ok(Some(text))
    }

    /// The body as JSON; `None` when there is none.
    fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Refusal> {
        let Some(text) = self.json_text()? else { return Ok(None) };
        // serde takes an array for a struct with its fields in order. No client means that.
        if text.trim_start().starts_with('[') {
            return Err(Refusal::invalid("the body must be a JSON object"));
        }
        serde_json::from_str(&text).map(Some).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Refusal::invalid(error.to_string()),
            _ => Refusal::bad_request(format!("the body is not JSON: {error}")),
        })
    }
}

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

/// The part of a Content-Type or Accept before any semicolon.
fn media_type(value: &[u8]) -> String {
    let value = String::from_utf8_lossy(value);
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn unsupported(given: &str, expected: &str) -> Refusal {
    Refusal::new(
        Reason::UnsupportedMediaType,
        format!("the Content-Type {given:?} is not supported; send {expected}"),
    )
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
        let answer = match self.outcome(&mut request) {
            Ok(Reply::Data(status, data)) => respond::data(id, status, &data),
            Ok(Reply::WithHeader(status, data, (name, value))) => {
                respond::data(id, status, &data).with_header(name, value)
            }
            Ok(Reply::Plain(answer)) => answer.with_header("X-Request-Id", id.to_string()),
            Err(refusal) => respond::error(id, refusal),
        };
        of_api(answer).into()
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

    #[test]
    fn media_types_lose_their_parameters() {
        assert_eq!(media_type(b"Application/YAML; charset=utf-8"), "application/yaml");
        assert_eq!(media_type(b""), "");
    }
}
