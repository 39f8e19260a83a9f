//! The answer to the sender of an accepted request, as `webhook.respond` of its fleet has it: fixed, or
//! that of a vessel once the run has ended.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{EndedRun, Engine, Waiting};
use crate::listener::{Committed, Request, Response, ResponseBody, Stream};
use crate::model::cgi::{CgiResponse, VesselAnswer};
use crate::model::fleet::FleetVersion;
use crate::model::ids::{OrganizationId, RequestId, RunId};
use crate::model::respond::{CONTENT_TYPE_DEFAULT, FixedAnswer, Respond, Wait, is_without_body};
use crate::model::run::{Status, VesselRunRecord};
use crate::web::respond;

use super::prefer::wait_wanted;

/// Names the run in the headers of an answer whose body does not.
const RUN_HEADER: &str = "Boathook-Run";
/// Bytes of a body that may wait for its client in memory beside those of all others.
const SMALL_BODY_BYTES_MAX: usize = 16 * 1024;

/// A run that is durable, and whose sender has no answer yet.
pub(super) struct Accepted {
    pub(super) engine: Arc<Engine>,
    pub(super) organization: OrganizationId,
    pub(super) version: Arc<FleetVersion>,
    pub(super) run: RunId,
    /// How long its sender waits, from the arrival of its request.
    pub(super) patience: Patience,
    /// The place of a sender that waits.
    pub(super) waiting: Option<Waiting>,
    /// Bytes of an answer, at most.
    pub(super) bytes_max: u64,
}

/// When a sender is answered at the latest.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    since: Instant,
    most: Duration,
}

impl Patience {
    /// That of the sender of `request`: none at all where nothing is waited for.
    pub(super) fn of(request: &Request, respond: Option<&Respond>) -> Self {
        let prefer = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Prefer"));
        let most = match respond {
            Some(Respond::Wait(Wait { wait, .. })) => {
                let wanted = wait_wanted(prefer.map(|(_, value)| value.as_slice()));
                wanted.map_or(*wait, |wanted| wanted.min(*wait))
            }
            _ => Duration::ZERO,
        };
        Self { since: request.received_at, most }
    }

    /// Whether the sender waits at all.
    pub(super) fn is_some(self) -> bool {
        !self.most.is_zero()
    }
}

impl Accepted {
    /// The answer, or what makes it.
    pub(super) fn answer(mut self) -> Committed {
        match &self.version.definition.webhook.respond {
            None => respond::started(self.id(), &self.version, self.organization, self.run, false)
                .into(),
            Some(Respond::Fixed(fixed)) => self.with_ids(of_fixed(fixed)).into(),
            Some(Respond::Wait(_)) => match self.waiting.take() {
                Some(waiting) => Committed::Held(Box::new(move |is_client_gone| {
                    self.wait(waiting, is_client_gone)
                })),
                None => self.too_late().into(),
            },
        }
    }

    fn wait(self, waiting: Waiting, is_client_gone: &mut dyn FnMut() -> bool) -> Response {
        let deadline = self.patience.since + self.patience.most;
        let Some(ended) = waiting.wait(deadline, is_client_gone) else { return self.too_late() };
        let mut response = self.with_ids(self.of_ended(ended));
        // A large body is in memory until its client has taken it. Its place is taken as long.
        if let ResponseBody::Bytes(bytes) = &mut response.body
            && bytes.len() > SMALL_BODY_BYTES_MAX
        {
            let bytes = std::mem::take(bytes);
            response.body = ResponseBody::Stream(Stream {
                length: Some(bytes.len() as u64),
                write: Box::new(move |out: &mut dyn Write| {
                    let _place = waiting;
                    out.write_all(&bytes)
                }),
            });
        }
        response
    }

    /// The id of the request, under which the run is found as a delivery.
    fn id(&self) -> RequestId {
        RequestId::of_run(self.run)
    }

    fn with_ids(&self, response: Response) -> Response {
        response
            .with_header("X-Request-Id", self.id().to_string())
            .with_header(RUN_HEADER, self.run.to_string())
    }

    /// The answer to a sender whose run goes on.
    fn too_late(&self) -> Response {
        let ids = respond::accepted(&self.version, self.organization, self.run);
        respond::data(self.id(), 202, &ids).with_header(RUN_HEADER, self.run.to_string())
    }

    /// The answer of the vessels of a run that has ended.
    fn of_ended(&self, EndedRun { run, answer }: EndedRun) -> Response {
        let vessels = self.engine.run(run.id).map_or_else(Vec::new, |view| view.vessels);
        let named = match &self.version.definition.webhook.respond {
            Some(Respond::Wait(Wait { vessel: Some(name), .. })) => {
                self.version.definition.vessel_index(name)
            }
            _ => None,
        };
        let vessel = named.map_or_else(|| last_ended(&vessels), |index| vessels.get(index));
        let status = status_of(match (named, vessel) {
            (Some(_), Some(vessel)) => vessel.status,
            _ => run.status,
        });
        match answer {
            Some(VesselAnswer::Response(response)) => of_cgi(response),
            Some(VesselAnswer::Malformed) => {
                let text = "the answer of the vessel is malformed; its log says more\n";
                Response::new(502, CONTENT_TYPE_DEFAULT, text)
            }
            None => match vessel.map_or_else(|| Ok(Vec::new()), |vessel| self.output_of(vessel)) {
                Ok(output) => as_text(status, output),
                Err(error) => as_text(500, format!("the output cannot be read: {error}\n").into()),
            },
        }
    }

    /// The output of a vessel, up to the most that a sender gets.
    fn output_of(&self, vessel: &VesselRunRecord) -> io::Result<Vec<u8>> {
        let most = usize::try_from(self.bytes_max).unwrap_or(usize::MAX);
        let mut output = Vec::new();
        let Some(reader) = self.engine.output(vessel.id, None)? else { return Ok(output) };
        let mut at = 0;
        loop {
            let chunk = reader.read(at, Duration::ZERO)?;
            at = chunk.offset + chunk.bytes.len() as u64;
            let is_last = chunk.ended || chunk.bytes.is_empty();
            output.extend_from_slice(&chunk.bytes);
            if output.len() > most {
                output.truncate(most);
                let rest =
                    format!("\nboathook: cut; `boathook runs logs {}` shows all\n", self.run);
                output.extend_from_slice(rest.as_bytes());
                break;
            }
            if is_last {
                break;
            }
        }
        Ok(output)
    }
}

fn of_fixed(FixedAnswer { status, content_type, body }: &FixedAnswer) -> Response {
    if is_without_body(*status) {
        return Response { status: *status, headers: Vec::new(), body: Vec::new().into() };
    }
    Response::new(*status, content_type, body.as_bytes())
}

/// The response of a vessel. Without a status it is 200 (RFC 3875 6.3.3), however the vessel ended.
fn of_cgi(response: CgiResponse) -> Response {
    let status = response.status.unwrap_or(200);
    let has_type = response.header("Content-Type").is_some() || is_without_body(status);
    let headers = response.headers.into_iter().map(|(name, value)| (name.into(), value));
    let body = if is_without_body(status) { Vec::new() } else { response.body };
    let answer = Response { status, headers: headers.collect(), body: body.into() };
    if has_type { answer } else { answer.with_header("Content-Type", CONTENT_TYPE_DEFAULT) }
}

/// Text that no browser takes for anything else.
fn as_text(status: u16, text: Vec<u8>) -> Response {
    Response::new(status, CONTENT_TYPE_DEFAULT, text)
        .with_header("X-Content-Type-Options", "nosniff")
}

/// The status of an answer by how its run, or the vessel that answers, has ended.
fn status_of(status: Status) -> u16 {
    match status {
        Status::Success => 200,
        Status::Errored => 500,
        _ => 503,
    }
}

/// The vessel that ended last, of those that have started.
fn last_ended(vessels: &[VesselRunRecord]) -> Option<&VesselRunRecord> {
    vessels.iter().filter(|vessel| vessel.attempt > 0).max_by_key(|vessel| vessel.ended_at)
}
