//! What becomes of an event before a run is accepted for it. An event from its sender and one that a client
//! of the API sends go the same way.

use super::expressions::Expressions;
use crate::config::Settings;
use crate::engine::{Engine, PendingRun};
use crate::listener::Request;
use crate::model::event::Arrival;
use crate::model::fleet::FleetVersion;

/// See the module.
pub(in crate::web) enum Screened {
    /// It is to be accepted.
    Wanted,
    /// The event has this run already.
    Duplicate(PendingRun),
    /// The filter of the fleet does not want it: the expression, and what that saw.
    Unwanted(String),
}

/// Screens `request`, a request to the webhook of `version`. `arrival` gets the id of the event and the key.
pub(in crate::web) fn screen(
    engine: &Engine,
    settings: &Settings,
    version: &FleetVersion,
    request: &Request,
    arrival: &mut Arrival,
) -> Screened {
    let fleet = &version.definition;
    let mut expressions = Expressions::new(request, settings);
    expressions.set_id(fleet, arrival);
    // Accepting looks for a run of the event as well, and decides.
    let is_judged = fleet.webhook.when.is_some() || fleet.concurrency_key.is_some();
    if let Some(first) = is_judged.then(|| engine.run_of_event(version, arrival)).flatten() {
        return Screened::Duplicate(first);
    }
    expressions.judge(fleet, arrival).map_or(Screened::Wanted, Screened::Unwanted)
}
