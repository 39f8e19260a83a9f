//! What a request would come to, without a run: the run that it would be a duplicate of, and how each
//! vessel would be started. It goes the way of a real start up to the start itself, with masked secrets,
//! and stores nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::attempt::NoStart;
use crate::engine::request::RunRequest;
use crate::model::environment::Environment;
use crate::model::event::{Arrival, ArrivalRecord};
use crate::model::fleet::FleetVersion;
use crate::model::graph::{Condition, Graph};
use crate::model::ids::RunIds;
use crate::model::limits::ARGUMENT_BYTES_MAX;
use crate::model::request::RequestHead;
use crate::model::run::{PayloadSize, RunRecord, Skip, Status, Trigger};
use crate::runner::preview::{StartPreview, preview};
use crate::scheduler::{Claim, graph_of};

/// A request that is not stored.
pub struct PreviewedRequest {
    pub trigger: Trigger,
    pub head: RequestHead,
    pub arrival: Arrival,
    /// The beginning of its body: at least as much as [`Engine::previewed_body_bytes`].
    pub body_start: Vec<u8>,
    pub body_bytes: u64,
}

/// How a vessel would be started.
#[derive(Clone, Debug)]
pub struct VesselPreview {
    /// The index in the version.
    pub vessel: usize,
    /// The vessels before it, and how each of them has to end.
    pub after: Vec<(usize, Condition)>,
    pub start: VesselStart,
}

/// See [`VesselPreview`].
#[derive(Clone, Debug)]
pub enum VesselStart {
    Started {
        program: Box<StartPreview>,
        environment: Environment,
        user: String,
        /// The name that the settings have for its runner.
        runner: Option<String>,
        body_bytes: u64,
    },
    /// The run skips it.
    Skipped(Skip),
    /// It would be Errored for this reason.
    Failed(String),
}

impl Engine {
    /// Bytes of a body that a preview looks at.
    pub fn previewed_body_bytes(&self) -> u64 {
        self.settings.max_expression_body_bytes.max(ARGUMENT_BYTES_MAX as u64)
    }

    /// How the vessels of `version` would be started for `request`, each after those before it. Ids and
    /// times are made up.
    pub fn preview(
        &self,
        version: &Arc<FleetVersion>,
        request: PreviewedRequest,
    ) -> Vec<VesselPreview> {
        let PreviewedRequest { trigger, head, arrival, body_start, body_bytes } = request;
        let now = self.clock.now();
        let mut random = [0; 8];
        // An id without random bits is as good a stand-in.
        let _ = self.random.fill(&mut random);
        let head_bytes = serde_json::to_vec(&head).map_or(0, |head| head.len());
        let head_bytes = u32::try_from(head_bytes).unwrap_or(u32::MAX);
        let run = RunRecord {
            id: RunIds::after(None).next(now, u64::from_ne_bytes(random)),
            fleet_id: version.fleet_id,
            fleet_name: version.definition.name.clone(),
            fleet_version: version.version,
            project_id: version.project_id,
            trigger,
            status: Status::Running,
            reason: None,
            replay_of: None,
            sequence: 0,
            payload: PayloadSize { head_bytes, body_bytes },
            output_bytes: 0,
            crashes: 0,
            queued_at: now,
            started_at: Some(now),
            ended_at: None,
            arrival: ArrivalRecord::from(arrival).pack(),
        };
        let (secrets, body_start) = (self.secrets.store().masked(), Arc::from(body_start));
        let graph = graph_of(version);
        let vessels = in_order(version.definition.vessels.len(), &graph).into_iter();
        let preview_one = |vessel| {
            let claim = Claim {
                vessel_run: run.id.vessel_run(vessel),
                run: run.clone(),
                version: Arc::clone(version),
                vessel,
                attempt: 1,
                scheduled_at: now,
                started_at: now,
                expects_directory: false,
                is_resumed: false,
                notice: None,
            };
            let request = RunRequest::given(head.clone(), Arc::clone(&body_start), body_bytes);
            let start = match self.prepare_with(&claim, request, &secrets) {
                Err(NoStart::Skipped(skip)) => VesselStart::Skipped(skip),
                Err(NoStart::Failed(why)) => VesselStart::Failed(why),
                Ok(prepared) => {
                    let environment = self.environment(&claim, &prepared);
                    let work = self.launcher.directory(run.id);
                    let launch = prepared.launch(&claim, &environment);
                    let program = Box::new(preview(&launch, &work, &self.settings));
                    let user = version.definition.user.clone();
                    let user = user.unwrap_or_else(|| self.user.clone());
                    let fleet = &version.definition;
                    let definition = fleet.vessels.get(vessel);
                    let runner = definition.and_then(|it| self.settings.runners.name_of(fleet, it));
                    let runner = runner.map(str::to_owned);
                    VesselStart::Started { program, environment, user, runner, body_bytes }
                }
            };
            let paths = version.definition.paths.iter();
            let after = paths.filter(|path| usize::from(path.to) == vessel);
            let after = after.map(|path| (usize::from(path.from), path.condition)).collect();
            VesselPreview { vessel, after, start }
        };
        vessels.map(preview_one).collect()
    }
}

/// The indexes of `count` vessels, each after those before it in `graph`.
fn in_order(count: usize, graph: &Graph) -> Vec<usize> {
    let (mut order, mut placed) = (Vec::with_capacity(count), BTreeSet::new());
    while order.len() < count {
        let is_next = |vessel: &usize| {
            !placed.contains(vessel) && graph.upstream(*vessel).all(|it| placed.contains(&it))
        };
        // A graph has no circle, so that there is one.
        let Some(next) = (0..count).find(is_next) else { break };
        placed.insert(next);
        order.push(next);
    }
    order
}
