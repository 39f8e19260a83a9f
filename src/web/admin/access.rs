//! Who may use which route: a request is authenticated and authorised here, by its head, before any of
//! its body is read. What a route needs is data, beside the route. Whether an object is within reach is
//! asked where the object is known ([`Call`](super::call::Call)).

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use super::call::Call;
use super::{AdminHandler, Outcome, ROUTES};
use crate::engine::Engine;
use crate::listener::{Head, Request, Response, ResponseBody, Stream};
use crate::model::access::{Need, Principal, Role, Scope};
use crate::model::audit::AuditClass;
use crate::model::ids::TokenId;
use crate::model::refusal::{Reason, Refusal};
use crate::web::route::{self, Found};
use crate::web::{auth, origin};

/// The header in which clients of the hosted system send their token.
pub(super) const API_KEY_HEADER: &str = "X-Shipyard-API-Key";

/// What answers a route.
type Endpoint = fn(&AdminHandler, &mut Call<'_>) -> Outcome;

/// What a route needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    need: Need,
    /// Whether it concerns the whole server, which a limited token never reaches.
    is_of_server: bool,
}

/// What a route takes in: it bounds the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Takes {
    /// A fleet file at most.
    #[default]
    FleetFile,
    /// A request as a webhook gets it, with a query string of its own.
    WebhookRequest,
    Secret,
    /// What one signs in with. The one route that is open to strangers.
    SignIn,
}

/// A route's access and what answers it.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) access: Access,
    pub(super) takes: Takes,
    /// What it does, in the words of the audit; `None`: it changes nothing.
    pub(super) action: Option<&'static str>,
    pub(super) endpoint: Endpoint,
}

impl Access {
    pub(super) const fn new(need: Need) -> Self {
        Self { need, is_of_server: false }
    }

    /// The same for what concerns the whole server.
    pub(super) const fn of_server(self) -> Self {
        Self { is_of_server: true, ..self }
    }

    /// The words of the description: the role, and whether the token must be unlimited.
    #[cfg(test)]
    pub(super) fn described(self) -> (&'static str, bool) {
        let role = match self.need {
            Need::AnyToken => "any",
            Need::Start => "start",
            Need::AtLeast(role) => role.word(),
        };
        (role, self.is_of_server)
    }

    /// With what answers the route, and changes nothing.
    pub(super) const fn by(self, endpoint: Endpoint) -> Target {
        Target { access: self, takes: Takes::FleetFile, action: None, endpoint }
    }

    /// With what answers the route, which is an `action` for the audit.
    pub(super) const fn does(self, action: &'static str, endpoint: Endpoint) -> Target {
        Target { access: self, takes: Takes::FleetFile, action: Some(action), endpoint }
    }

    /// The class of an action: what takes an author or an admin is a change.
    pub(super) fn audit_class(self) -> AuditClass {
        match self.need {
            Need::AtLeast(Role::Author | Role::Admin) => AuditClass::Change,
            _ => AuditClass::Operation,
        }
    }

    /// Whether `principal` may use the route.
    ///
    /// # Errors
    /// 403, which names the role that it takes.
    pub(super) fn authorise(self, principal: &Principal) -> Result<(), Refusal> {
        let forbidden = |message| Err(Refusal::new(Reason::Forbidden, message));
        let (role, needed) = (principal.role, self.need.words());
        if !self.need.is_met_by(role) {
            return forbidden(format!(
                "this needs a token with the role {needed}; yours has the role {role}"
            ));
        }
        if self.is_of_server && principal.scope != Scope::Everything {
            return forbidden(format!(
                "this concerns the whole server: it needs a token with the role {needed} that is \
                 limited to no project and no fleet"
            ));
        }
        Ok(())
    }
}

impl Target {
    /// The same for a route that takes something else than a fleet file.
    pub(super) const fn takes(self, takes: Takes) -> Self {
        Self { takes, ..self }
    }
}

/// The route of a request; `None`: it is refused as unknown later.
pub(super) fn target(method: &str, path: &str) -> Option<Target> {
    match route::find(ROUTES, method, path) {
        Found::Endpoint { endpoint, .. } => Some(endpoint),
        _ => None,
    }
}

impl AdminHandler {
    /// Whose request it is: by a token, or by a session when one of our own pages asks. Any other
    /// `Authorization` is for others, such as the password or the token of a proxy, and changes nothing.
    pub(super) fn authenticate(&self, head: &Head) -> Option<Principal> {
        let bearers = head.values("Authorization").filter_map(auth::bearer);
        let mut shown = bearers.chain(head.values(API_KEY_HEADER).map(<[u8]>::trim_ascii));
        shown.find_map(|shown| self.holder_of(shown)).or_else(|| self.session_holder(head))
    }

    /// The holder of the token `shown`.
    pub(super) fn holder_of(&self, shown: &[u8]) -> Option<Principal> {
        if self.token.is(shown) {
            return Some(Principal::OWNER);
        }
        self.engine.use_access_token(&auth::hash_of(shown)?)
    }

    /// The holder of the token that opened the session of the request.
    fn session_holder(&self, head: &Head) -> Option<Principal> {
        let cookie = origin::cookie(head.header("Cookie"), &self.cookie_name)?;
        let key = std::str::from_utf8(head.header(origin::SESSION_HEADER)?).ok()?;
        if !self.hosts.admit(head.header("Host")) || !origin::is_ours(head) {
            return None;
        }
        let owner = self.sessions.admits(cookie, key, Instant::now())?;
        self.holder_by_id(owner).map(Principal::in_session)
    }

    /// The holder of a token by its id; `None` is that of the admin token.
    pub(super) fn holder_by_id(&self, token: Option<TokenId>) -> Option<Principal> {
        match token {
            None => Some(Principal::OWNER),
            Some(id) => self.engine.holder_of(id),
        }
    }

    /// Whether the token that let a request in still counts, now that its body is here.
    ///
    /// # Errors
    /// 401 when it was revoked or has expired meanwhile.
    pub(super) fn still_admitted(&self, request: &Request) -> Result<(), Refusal> {
        match request.principal.map(|principal| self.holder_by_id(principal.token)) {
            Some(None) => Err(Refusal::new(
                Reason::Unauthorized,
                "this token was revoked or has expired; nothing was done",
            )),
            _ => Ok(()),
        }
    }

    /// The name of a principal's token, for other people.
    pub(super) fn name_of(&self, principal: &Principal) -> String {
        match principal.token {
            None => "admin.token".to_owned(),
            Some(id) => {
                self.engine.access_token(id).map_or_else(|| id.to_string(), |token| token.name)
            }
        }
    }

    /// `response`; if it is a stream, it ends when the token of `principal` is revoked or expires.
    pub(super) fn while_valid(
        &self,
        principal: Option<Principal>,
        mut response: Response,
    ) -> Response {
        let Some(token) = principal.and_then(|principal| principal.token) else { return response };
        response.body = match response.body {
            ResponseBody::Stream(Stream { length, write }) => {
                let engine = Arc::clone(&self.engine);
                ResponseBody::Stream(Stream {
                    length,
                    write: Box::new(move |out| write(&mut Guarded { out, engine: &engine, token })),
                })
            }
            body => body,
        };
        response
    }
}

/// A client of a stream that is served as long as its token counts.
struct Guarded<'a> {
    out: &'a mut dyn Write,
    engine: &'a Engine,
    token: TokenId,
}

impl Guarded<'_> {
    fn check(&self) -> io::Result<()> {
        match self.engine.holder_of(self.token) {
            Some(_) => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the token was revoked")),
        }
    }
}

impl Write for Guarded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        self.out.flush()
    }
}
