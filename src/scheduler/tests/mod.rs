//! Tests of the queue as a whole, through its verbs alone: random lives against a model
//! ([`properties`], [`model`]), every small graph against the definition ([`graphs`]), whose turn it
//! is ([`fairness`]), and single cases worth a name ([`cases`]).

mod cases;
mod fairness;
mod graphs;
mod model;
mod properties;
mod rows;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::debounce::Debounce;
use crate::model::event::ArrivalRecord;
use crate::model::fleet::{Delivery, FleetDefinition, FleetVersion, Program, VesselDefinition};
use crate::model::graph::{Condition, Path};
use crate::model::guardrails::{Backoff, ExitCodes, Guardrails};
use crate::model::ids::{FleetId, ProjectId, RunId, VesselId};
use crate::model::overlap::Overlap;
use crate::model::run::{PayloadSize, Trigger};
use crate::scheduler::QueuedRun;

/// The exit code that the fleets of these tests never retry.
const EXCLUDED_EXIT_CODE: i32 = 3;
/// The signal after which they never retry.
const EXCLUDED_SIGNAL: i32 = 15;

/// What distinguishes the fleets of these tests.
#[derive(Clone, Debug)]
struct Shape {
    /// Paths between vessels as (from, to, condition), `from < to`.
    paths: Vec<(u16, u16, Condition)>,
    vessels: usize,
    concurrency: Option<u32>,
    overlap: Overlap,
    debounce: Option<Debounce>,
    priority: i8,
    retry_count: u32,
    retry_wait_ms: u64,
    retry_backoff: Backoff,
    delivery: Delivery,
}

impl Shape {
    fn new(vessels: usize, paths: &[(u16, u16, Condition)]) -> Self {
        Self {
            paths: paths.to_vec(),
            vessels,
            concurrency: None,
            overlap: Overlap::Queue,
            debounce: None,
            priority: 0,
            retry_count: 0,
            retry_wait_ms: 0,
            retry_backoff: Backoff::Constant,
            delivery: Delivery::AtLeastOnce,
        }
    }

    /// This shape as version `version` of the fleet numbered `fleet`.
    fn version(&self, fleet: u8, version: u32) -> Arc<FleetVersion> {
        let guardrails = Guardrails {
            retry_count: self.retry_count,
            retry_wait: Duration::from_millis(self.retry_wait_ms),
            retry_backoff: self.retry_backoff,
            runtime_cutoff: Duration::ZERO,
            exclude_exit_code_ranges: vec![
                ExitCodes { first: 3, last: 3 },
                ExitCodes { first: 143, last: 143 },
            ],
            retry_on_exit_codes: Vec::new(),
        };
        let vessel = |index: usize| VesselDefinition {
            id: VesselId::from_slice(&[index as u8; 16]).unwrap(),
            name: format!("vessel {index}"),
            program: Program::Command(vec!["true".into()]),
            working_directory: None,
            environment: Vec::new(),
            guardrails: guardrails.clone(),
            confinement: Default::default(),
            runner: None,
            notifications: None,
        };
        let path = |&(from, to, condition)| Path { from, to, condition };
        Arc::new(FleetVersion {
            fleet_id: FleetId::from_slice(&[fleet; 16]).unwrap(),
            project_id: ProjectId::from_slice(&[0xff; 16]).unwrap(),
            version,
            created_at: Timestamp::default(),
            definition: FleetDefinition {
                name: format!("fleet {fleet}"),
                vessels: (0..self.vessels).map(vessel).collect(),
                paths: self.paths.iter().map(path).collect(),
                concurrency: self.concurrency,
                concurrency_key: None,
                overlap: self.overlap,
                debounce: self.debounce,
                priority: self.priority,
                delivery: self.delivery,
                user: None,
                runner: None,
                notifications: None,
                schedules: Vec::new(),
                keep_runs: None,
                notify: Vec::new(),
                webhook: crate::model::webhook::WebhookSettings::default(),
            },
        })
    }
}

fn queued(id: RunId, version: &Arc<FleetVersion>) -> QueuedRun {
    queued_of(id, version, None)
}

/// The same with this value of `concurrency_key`.
fn queued_of(id: RunId, version: &Arc<FleetVersion>, key: Option<&str>) -> QueuedRun {
    let payload = PayloadSize { head_bytes: 7, body_bytes: 11 };
    let (version, replay_of) = (Arc::clone(version), replay_of(id));
    let (trigger, queued_at) = (Trigger::Webhook, id.time());
    let key = key.map(ConcurrencyKey::new);
    let arrival = ArrivalRecord { key: key.clone(), ..ArrivalRecord::default() }.pack();
    let hold = None;
    QueuedRun { id, version, trigger, replay_of, payload, queued_at, arrival, key, hold }
}

/// Every other run of these tests repeats one.
fn replay_of(id: RunId) -> Option<RunId> {
    (id.as_bytes()[7] % 2 == 1).then(|| RunId::first_at(at(1)))
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}
