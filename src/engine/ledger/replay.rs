//! Runs a delivery after all that started no run, and an accepted one once more.

use std::io::{self, Read};
use std::sync::Arc;

use super::read::DeliveredRequest;
use crate::engine::intake::NewRun;
use crate::engine::{AcceptError, Engine, EngineError, ReplayError};
use crate::model::delivery::Delivery;
use crate::model::event::{ArrivalRecord, Event, EventMemory};
use crate::model::expression::Variables;
use crate::model::fleet::FleetVersion;
use crate::model::ids::{RequestId, RunId};
use crate::model::request::RequestHead;
use crate::model::run::Trigger;

impl Engine {
    /// Runs a delivery as if it had been accepted, with the fleet as it is now. Of an accepted one, and of
    /// a duplicate, that is a replay of the run. Returns the version and the id of the new run. Later deliveries of its event are duplicates of that run.
    ///
    /// # Errors
    /// When there is no such delivery, its fleet is gone, its body is not kept, or the queue is full.
    pub fn replay_delivery(
        &self,
        id: RequestId,
    ) -> Result<(Arc<FleetVersion>, RunId), ReplayError> {
        let view = self.delivery(id).ok_or_else(|| no_delivery(id))?;
        if let Some(run) = view.run_with_body() {
            return self.replay(run, None);
        }
        let version = self.current_version(view.delivery.fleet_id)?;
        let DeliveredRequest { head, body } = self.delivered_request(&view)?;
        let Some((mut stored, length)) = body else {
            return Err(EngineError::Conflict(format!(
                "the body of the delivery {id} is not kept; let its sender deliver it again"
            ))
            .into());
        };
        let mut body = Vec::new();
        stored.read_to_end(&mut body).map_err(|error| ReplayError::Damaged(error.to_string()))?;
        let Delivery { event, memory, .. } = view.delivery;
        let (event, memory) = self.own_event(&version, event, memory, &head, &body);
        let (trigger, replay_of) = (Trigger::Replay, None);
        let payload = || self.payload_of(&head, &body);
        let arrival = self.arrival_of(&version, trigger, event, &head, payload);
        let arrival = ArrivalRecord { memory, delivery: Some(id), ..arrival };
        let new_run = NewRun {
            version: Arc::clone(&version),
            trigger,
            head,
            replay_of,
            arrival,
            with: None,
            waits: false,
        };
        let limit = self.settings.max_body_bytes.max(length);
        let accepted = self.accept_run(new_run, &mut body.as_slice(), Some(length), limit);
        let run = match accepted {
            Ok(run) => self.confirm(run),
            Err(AcceptError::Incomplete) => {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(ReplayError::Damaged(error.to_string()));
            }
            Err(error) => return Err(ReplayError::NotAccepted(error)),
        };
        self.name_run_of_delivery(id, run);
        Ok((version, run))
    }

    /// The event as the fleet's own expression names it, and whether it is remembered. A request that was
    /// refused for its sender has not been looked at before.
    fn own_event(
        &self,
        version: &FleetVersion,
        mut event: Event,
        memory: Option<EventMemory>,
        head: &RequestHead,
        body: &[u8],
    ) -> (Event, Option<EventMemory>) {
        let Some(id) = version.definition.webhook.deduplicate.own_id() else {
            return (event, memory);
        };
        let payload = self.payload_of(head, body);
        let now = self.clock.now();
        let variables = Variables::of_request(head, payload, &event, Trigger::Webhook, now);
        let is_found = event.set_own_id(id, &variables).is_ok_and(|found| found.is_some());
        drop(variables);
        (event, memory.filter(|_| is_found))
    }

    /// Lets the ledger name the run of a delivery that was run after all.
    fn name_run_of_delivery(&self, id: RequestId, run: RunId) {
        let mut state = self.ledger.state();
        if state.recent.set_run(id, run) {
            return;
        }
        drop(state);
        let Some(mut delivery) = self.store.delivery(id) else { return };
        delivery.run = Some(run);
        self.ledger.add(delivery, Vec::new(), true);
    }
}

fn no_delivery(id: RequestId) -> EngineError {
    EngineError::NotFound(format!("there is no delivery {id}"))
}
