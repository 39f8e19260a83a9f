//! One vessel of one run, with all its attempts.

use serde::Serialize;

use super::{AdminHandler, Call, Outcome, Reply};
use crate::model::ids::RunId;
use crate::model::refusal::Refusal;
use crate::web::view::VesselRunJson;

#[derive(Serialize)]
struct AttemptsJson<'a> {
    fleet_run_id: RunId,
    #[serde(flatten)]
    latest: VesselRunJson<'a>,
    /// The oldest first; those of which nothing is on record are left out.
    attempts: Vec<VesselRunJson<'a>>,
}

pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let id = call.vessel_run_id(admin)?;
    let view = admin.engine.run(id.run());
    let vessel = view.iter().flat_map(|view| &view.vessels).find(|vessel| vessel.id == id);
    let Some(latest) = vessel else {
        return Err(Refusal::not_found(format!("there is no vessel run {id}")));
    };
    let attempts = admin.engine.attempts(id);
    Reply::ok(&AttemptsJson {
        fleet_run_id: id.run(),
        latest: latest.into(),
        attempts: attempts.iter().map(VesselRunJson::from).collect(),
    })
}
