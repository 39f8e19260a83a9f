//! A request that delivers an event again: it starts no run, and gets the ids of the run that the event has.

use std::net::IpAddr;

use crate::engine::{Engine, NewDelivery};
use crate::listener::{Request, Response};
use crate::model::delivery::Verdict;
use crate::model::event::{Arrival, Event, Verifier};
use crate::model::fleet::FleetVersion;
use crate::model::ids::{OrganizationId, RequestId, RunId};
use crate::web::respond;

/// What is recorded of such a request.
pub(super) struct Repeated {
    id: RequestId,
    event: Event,
    verified_by: Option<Verifier>,
    bytes: u64,
    remote_addr: IpAddr,
}

impl Repeated {
    pub(super) fn new(id: RequestId, request: &Request, arrival: &Arrival) -> Self {
        let (bytes, remote_addr) = (request.body.length(), request.remote_addr.ip());
        let (event, verified_by) = (arrival.event.clone(), arrival.verified_by);
        Self { id, event, verified_by, bytes, remote_addr }
    }

    /// Records the delivery as a duplicate of `run`. Returns the answer, with the ids of that run.
    pub(super) fn answer(
        self,
        engine: &Engine,
        version: &FleetVersion,
        organization: OrganizationId,
        run: RunId,
    ) -> Response {
        let Self { id, event, verified_by, bytes, remote_addr } = self;
        let response = respond::started(id, version, organization, run, true);
        engine.record_delivery(NewDelivery {
            verdict: Verdict::Duplicate,
            status: response.status,
            run: Some(run),
            event,
            verified_by,
            bytes,
            ..NewDelivery::new(id, Some(version.fleet_id), remote_addr)
        });
        response
    }
}
