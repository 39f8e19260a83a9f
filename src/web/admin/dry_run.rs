//! What would become of a request to a webhook: one that is given, or a stored one.

use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use super::fleets::fleet_id;
use super::{AdminHandler, Call, Outcome, Reply};
use crate::listener::{Body, Request};
use crate::model::clock::Timestamp;
use crate::model::fleet::FleetVersion;
use crate::model::ids::FleetId;
use crate::model::refusal::{Reason, Refusal};
use crate::model::request::RequestHead;
use crate::web::hooks::DryRun;
use crate::web::view::ForecastJson;

/// Bytes of a stored body that is read back into memory.
const STORED_BODY_BYTES_MAX: u64 = 1 << 20;

/// A request as it is given: any body, headers and query.
pub(super) fn of_fleet(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let version = admin.engine.current_version(fleet_id(call)?)?;
    let headers = std::mem::take(&mut call.request.headers).into_iter();
    let is_own = |name: &str| super::runs::is_admin_header(name);
    let request = Request {
        headers: headers.filter(|(name, _)| !is_own(name)).collect(),
        query: std::mem::take(&mut call.request.query),
        body: std::mem::replace(&mut call.request.body, Body::empty()),
        remote_addr: call.request.remote_addr,
        ..template(admin, version.fleet_id)
    };
    answer(admin, &version, request, admin.engine.now(), false)
}

/// The request of a run, with the fleet as it is now.
pub(super) fn of_run(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let run = super::runs::run(admin, call)?.run;
    let version = admin.engine.current_version(run.fleet_id)?;
    let head = admin.engine.request_head(&run)?;
    let body = (admin.engine.body(&run), run.payload.body_bytes);
    let request = stored(admin, run.fleet_id, head, body)?;
    answer(admin, &version, request, run.queued_at, true)
}

/// The request of a delivery, with the fleet as it is now.
pub(super) fn of_delivery(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = super::deliveries::delivery(admin, call)?;
    let version = admin.engine.current_version(view.delivery.fleet_id)?;
    let request = admin.engine.delivered_request(&view)?;
    let Some(body) = request.body else {
        let id = view.delivery.id;
        let message = format!("the body of the delivery {id} is not kept");
        return Err(Refusal::new(Reason::Conflict, message));
    };
    let request = stored(admin, version.fleet_id, request.head, body)?;
    answer(admin, &version, request, view.delivery.received_at, true)
}

fn answer(
    admin: &AdminHandler,
    version: &Arc<FleetVersion>,
    request: Request,
    now: Timestamp,
    is_stored: bool,
) -> Outcome {
    let dry_run =
        DryRun { engine: &admin.engine, settings: &admin.settings, senders: &admin.senders };
    let forecast = dry_run.forecast(version, request, now, is_stored)?;
    Reply::ok(&ForecastJson::new(version, &forecast))
}

/// A stored request, as it would come to the webhook of `fleet`.
fn stored(
    admin: &AdminHandler,
    fleet: FleetId,
    head: RequestHead,
    (body, length): (Box<dyn Read + Send>, u64),
) -> Result<Request, Refusal> {
    if length > STORED_BODY_BYTES_MAX {
        return Err(Refusal::invalid(format!(
            "its body has {length} bytes, more than {STORED_BODY_BYTES_MAX}; download it, and give it \
             as a body: boathook run FLEET --dry-run --body FILE"
        )));
    }
    let mut bytes = Vec::new();
    let read = body.take(length).read_to_end(&mut bytes);
    read.map_err(|error| Refusal::failed(format!("the stored body cannot be read: {error}")))?;
    let headers = head.headers.into_iter().flat_map(|(name, values)| {
        values.into_iter().map(move |value| (name.clone(), value.into_bytes()))
    });
    let template = template(admin, fleet);
    let address = head.remote_addr.parse().unwrap_or_else(|_| template.remote_addr.ip());
    Ok(Request {
        headers: headers.collect(),
        query: head.query,
        body: Body::in_memory(bytes),
        remote_addr: (address, 0).into(),
        ..template
    })
}

/// An empty POST to the webhook of `fleet`. Some providers sign the URL.
fn template(admin: &AdminHandler, fleet: FleetId) -> Request {
    let webhook = admin.engine.webhook(fleet).ok().flatten();
    let path = webhook.map(|view| view.webhook.token.url(""));
    Request {
        method: "POST".into(),
        path: path.unwrap_or_else(|| "/hooks/".into()),
        query: String::new(),
        headers: Vec::new(),
        remote_addr: ([127, 0, 0, 1], 0).into(),
        webhook: None,
        principal: None,
        received_at: Instant::now(),
        body: Body::empty(),
    }
}
