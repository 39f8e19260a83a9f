//! The webhook listener: `POST /hooks/<token>` and `GET /healthz`, nothing else. Decides who may
//! start what; taking in the run is the engine's.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::domain::ids::{OrganizationId, RequestId};
use crate::domain::run::Trigger;
use crate::domain::webhook::Token;
use crate::engine::Engine;
use crate::gate::{Head, Pass};
use crate::http::message::{Answer, Handler, Request};
use crate::http::respond::{self, Problem};

/// What an operator may set about the webhook listener.
#[derive(Clone, Debug)]
pub struct HookSettings {
    pub max_body_bytes: u64,
    /// Threads that answer.
    pub handlers: usize,
}

/// Answers the senders of webhooks.
pub struct HookHandler {
    engine: Arc<Engine>,
    organization: OrganizationId,
    settings: HookSettings,
}

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Health,
    Hook(Token),
}

impl HookHandler {
    /// Takes requests in for `engine`.
    pub fn new(engine: Arc<Engine>, settings: HookSettings) -> Self {
        let organization = engine.organization().id;
        Self { engine, organization, settings }
    }

    /// Whether a request for `target` may come in, by its head alone.
    fn check(&self, target: &Token) -> Result<(), Problem> {
        if self.engine.fleet_by_token(&target.hash()).is_none() {
            return Err(unknown());
        }
        if !self.engine.is_healthy() {
            return Err(Problem::new(503, "no runs can be accepted now; try again later"));
        }
        Ok(())
    }

    /// Accepts a run of the fleet that `token` belongs to.
    fn accept(&self, token: &Token, request: &mut Request<'_>) -> Result<String, Problem> {
        let version = self.engine.fleet_by_token(&token.hash()).ok_or_else(unknown)?;
        let (head, length) = (request.take_head(&[]), Some(request.length));
        let run = self.engine.accept(&version, Trigger::Webhook, head, request.body, length)?;
        Ok(respond::accepted(&version, self.organization, run))
    }

    fn refused(id: RequestId, problem: Problem, remote_addr: SocketAddr) -> Answer {
        // Never the path: it may hold a token that is right but for a letter.
        log::info!(
            request:% = id, status = problem.status, remote_addr:% = remote_addr,
            reason = problem.message.as_str();
            "webhook refused"
        );
        respond::bare(id, problem)
    }
}

impl Handler for HookHandler {
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Pass, Answer> {
        let checked = match target(&head.method, &head.path) {
            Ok(Target::Health) => return Err(respond::health(self.engine.is_healthy())),
            Ok(Target::Hook(token)) => self.check(&token),
            Err(problem) => Err(problem),
        };
        match checked {
            Ok(()) => Ok(Pass { remote_addr: peer, body_bytes_max: self.settings.max_body_bytes }),
            Err(problem) => Err(Self::refused(RequestId::random(), problem, peer)),
        }
    }

    fn handle(&self, request: &mut Request<'_>) -> Answer {
        let id = RequestId::random();
        let accepted = match target(&request.method, &request.path) {
            Ok(Target::Health) => return respond::health(self.engine.is_healthy()),
            Ok(Target::Hook(token)) => self.accept(&token, request),
            Err(problem) => Err(problem),
        };
        match accepted {
            Ok(data) => respond::data(id, 201, &data),
            Err(problem) => Self::refused(id, problem, request.remote_addr),
        }
    }

    fn refuse(&self, status: u16, message: &str) -> Answer {
        respond::bare(RequestId::random(), Problem::new(status, message))
    }
}

/// The one refusal of every URL that is not a webhook's.
fn unknown() -> Problem {
    Problem::bad_request("not the URL of a webhook")
}

fn target(method: &str, path: &str) -> Result<Target, Problem> {
    match (method, path) {
        ("GET", "/healthz") => Ok(Target::Health),
        ("POST", path) => path
            .strip_prefix("/hooks/")
            .and_then(Token::parse)
            .map(Target::Hook)
            .ok_or_else(unknown),
        _ => Err(Problem::method_not_allowed(&["POST"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_target_is_refused_alike() {
        let token = Token::random().unwrap();
        let hook = format!("/hooks/{}", token.reveal());
        assert_eq!(target("POST", &hook), Ok(Target::Hook(token)));
        assert_eq!(target("GET", "/healthz"), Ok(Target::Health));

        let long = format!("/hooks/{}", "a".repeat(10_240));
        let more = [format!("{hook}/"), format!("{hook}%20"), format!("/{hook}"), long];
        let odd = ["/", "*", "/hooks", "/hooks/", "/hooks/a", "/hooks/../x", "/healthz", "/api/v1"];
        for path in more.iter().map(String::as_str).chain(odd) {
            assert_eq!(target("POST", path), Err(unknown()), "{path}");
        }
        for (method, path) in [
            ("GET", hook.as_str()),
            ("HEAD", "/healthz"),
            ("PUT", "/"),
            ("BREW", "/x"),
            ("post", &hook),
        ] {
            let problem = target(method, path).unwrap_err();
            assert_eq!(problem.status, 405, "{method} {path}");
            assert_eq!(problem.headers, [("Allow", "POST".to_owned())]);
        }
    }
}
