//! Deliveries: listing and showing them, and running them after all.

use std::io::{self, Read};

use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::{DeliveryFilter, DeliveryView};
use crate::model::ids::RequestId;
use crate::model::limits;
use crate::model::refusal::{Reason, Refusal};
use crate::web::query::decoded;
use crate::web::respond;
use crate::web::view::DeliveryJson;

pub(super) fn list(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let query = &call.query;
    query.allow_only(&["fleet", "verdict", "reason", "since", "before", "limit"])?;
    let page = admin.engine.deliveries(&DeliveryFilter {
        fleet: query.parsed("fleet")?,
        verdict: query.parsed("verdict")?,
        reason: query.get("reason").map(str::to_owned),
        since: query.parsed("since")?,
        before: query.parsed("before")?,
        reach: call.reach.clone(),
        limit: query.limit()?,
    });
    let shown: Vec<_> = page.deliveries.iter().map(DeliveryJson::from).collect();
    Reply::page(&shown, page.next_before.map(|last| last.to_string()))
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = delivery(admin, call)?;
    let request = admin.engine.delivered_request(&view)?;
    Reply::ok(&DeliveryJson::from(&view).with_head(request.head))
}

/// The body, byte for byte, as something to save.
pub(super) fn body(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let view = delivery(admin, call)?;
    let id = view.delivery.id;
    let Some((body, length)) = admin.engine.delivered_request(&view)?.body else {
        return Err(Refusal::not_found(format!("the body of the delivery {id} is not kept")));
    };
    // A short one goes at once, a long one as fast as its reader takes it in.
    let is_long = length > limits::BODY_INLINE_BYTES_MAX as u64;
    let place = if is_long { Some(admin.followers.enter()?) } else { None };
    let answer = Reply::stream("application/octet-stream", Some(length), move |out| {
        let _place = place;
        let written = io::copy(&mut body.take(length), out)?;
        if written < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    });
    let name = format!("attachment; filename=\"{id}.body\"");
    Ok(Reply::Plain(answer.with_header("Content-Disposition", name)))
}

/// Runs a delivery after all, as a new run.
pub(super) fn replay(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let (version, run) = admin.engine.replay_delivery(delivery_id(admin, call)?)?;
    Ok(Reply::json(201, respond::accepted(&version, admin.organization, run)))
}

pub(super) fn delivery(admin: &AdminHandler, call: &Call<'_>) -> Result<DeliveryView, Refusal> {
    let view = admin.engine.delivery(delivery_id(admin, call)?);
    view.ok_or_else(|| no_delivery(call))
}

fn no_delivery(call: &Call<'_>) -> Refusal {
    Refusal::not_found(format!("no such delivery: {:?}", call.segment(0)))
}

/// The id of the delivery that the path names: by its id, by a part of it that no other delivery's id has, or
/// by the id of its event. One out of reach is not found.
fn delivery_id(admin: &AdminHandler, call: &Call<'_>) -> Result<RequestId, Refusal> {
    let named = decoded(call.segment(0)).ok_or_else(|| no_delivery(call))?;
    // Many senders number their events with UUIDs.
    if let Ok(id) = named.parse()
        && admin.engine.is_delivery_within(id, &call.reach)
        && admin.engine.has_delivery(id)
    {
        return Ok(id);
    }
    match admin.engine.find_deliveries(&named, 2, &call.reach).as_slice() {
        [] => Err(no_delivery(call)),
        [id] => Ok(*id),
        [first, second, ..] => Err(Refusal::new(
            Reason::Conflict,
            format!(
                "several deliveries go by {named:?}, such as {first} and {second}; give more of the id"
            ),
        )),
    }
}
