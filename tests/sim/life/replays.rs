//! Replaying runs, as a whole or from one of their vessels on.

use std::collections::BTreeMap;
use std::sync::Arc;

use boathook::internals::{
    AcceptError, ArrivalRecord, Change, EngineError, ReplayError, RunId, Skip,
};

use super::events::Expected;
use super::submits::key_of;
use super::{Life, WAITING_MAX};
use crate::machine::Submitted;
use crate::model::Run;

impl Life {
    pub(super) fn replay(&mut self) {
        let all: Vec<RunId> = self.model.newest().take(60).collect();
        let Some(origin) = self.pick(&all) else { return };
        let (run, from) = self.expected_replay(origin);
        let run = run.map(|mut run| {
            let ArrivalRecord { event, memory, .. } = run.arrival.clone();
            let query = self.machine.lock().submitted[&origin].query.clone();
            let key = key_of(&run.definition, &query);
            let arrival = ArrivalRecord { event, memory, key, ..ArrivalRecord::default() };
            if let Expected::Run(arrival) = self.expected(run.fleet, arrival, true) {
                run.arrival = *arrival;
            }
            run
        });
        let has_room = self.model.has_room(WAITING_MAX);
        let fleet = self.model.run(origin).fleet;
        let has_share = self.model.has_room_for(fleet, WAITING_MAX);
        let outcome = self.call(|engine| engine.replay(origin, from.as_deref()));
        let added = outcome.changes().find_map(|change| match change {
            Change::AddRun(run) => Some(run.id),
            _ => None,
        });
        let shown = outcome.result.as_ref().map(|it| it.as_ref().map(|(_, id)| *id));
        self.note(format!("replay of {origin} from {from:?}: {shown:?}, {added:?} is there"));
        match outcome.result {
            Some(Ok((version, id))) => {
                let run = run.unwrap_or_else(|| panic!("{origin} must not be replayed"));
                assert!(has_room && has_share, "accepted though the queue is full");
                assert_eq!(version.version, run.version, "the version of a replay");
                self.remember_replay(id, origin, &run);
                self.model.submit(id, run, self.machine.now());
                self.hold_event(id);
            }
            None => {
                if let (Some(id), Some(run)) = (added, run) {
                    self.remember_replay(id, origin, &run);
                    self.model.submit(id, run, self.machine.now());
                    self.hold_event(id);
                }
            }
            Some(Err(error)) => {
                let is_right = match error {
                    ReplayError::Refused(EngineError::Conflict(_) | EngineError::Invalid(_)) => {
                        run.is_none()
                    }
                    ReplayError::NotAccepted(AcceptError::QueueFull) => !has_room,
                    ReplayError::NotAccepted(AcceptError::FleetQueueFull) => !has_share,
                    _ => false,
                };
                assert!(is_right, "{error}");
            }
        }
    }

    /// What a replay of `origin` is to be, from a random vessel on or as a whole; `None`: it is to
    /// be refused.
    fn expected_replay(&mut self, origin: RunId) -> (Option<Run>, Option<String>) {
        let before = self.model.run(origin).clone();
        let fleet = self.fleets.iter().find(|fleet| fleet.id == before.fleet);
        let current = fleet.filter(|fleet| fleet.is_alive).map(|fleet| &fleet.versions);
        let (version, definition) = match current {
            Some(versions) => (versions.len() as u32, Arc::clone(&versions[versions.len() - 1])),
            None => (before.version, Arc::clone(&before.definition)),
        };
        let mut run = Run::new(before.fleet, version, &definition);
        run.replay_of = Some(origin);
        run.arrival = before.arrival.clone();
        // Overrides of the request are passed on through all replays; statuses that a replay took over
        // are not.
        run.asked_for = before.asked_for.clone();
        run.skips = run.asked_for.clone();
        if self.random.bool() {
            return (Some(run), None);
        }
        let from = definition.vessels[self.random.usize(..definition.vessels.len())].name.clone();
        let taken_over: Option<BTreeMap<String, Skip>> =
            before.is_over().then(|| before.taken_over(&definition, &from)).flatten();
        let run = taken_over.map(|taken_over| {
            // A named vessel runs.
            run.skips.remove(&from);
            run.skips.extend(taken_over);
            run
        });
        (run, Some(from))
    }

    fn remember_replay(&mut self, id: RunId, origin: RunId, run: &Run) {
        let mut machine = self.machine.lock();
        let before = Arc::clone(&machine.submitted[&origin]);
        let mut overrides = before.overrides.clone();
        for (name, skip) in &run.skips {
            overrides.entry(name).skip = Some(*skip);
        }
        let submitted = Submitted {
            headers_json: before.headers_json.clone(),
            overrides,
            query: before.query.clone(),
            body: Arc::clone(&before.body),
        };
        machine.submitted.insert(id, Arc::new(submitted));
    }
}
