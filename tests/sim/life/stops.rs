//! Stopping runs and vessels, as a person does.

use boathook::internals::{EngineError, RunId, Stop};

use super::Life;
use crate::model::State;

impl Life {
    pub(super) fn stop_something(&mut self) {
        let mut runs: Vec<RunId> = self.model.unfinished().map(|(id, _)| *id).collect();
        if self.random.u8(..8) == 0 {
            runs = self.model.newest().collect();
        }
        let Some(run) = self.pick(&runs) else { return };
        if self.random.bool() {
            self.stop_run(run);
        } else {
            let vessel = self.random.usize(..self.model.run(run).vessels.len());
            self.stop_vessel(run, vessel);
        }
    }

    fn stop_run(&mut self, run: RunId) {
        self.note(format!("stop of {run}"));
        let was_over = self.model.run(run).is_over();
        let outcome = self.call(|engine| engine.stop_run(run));
        assert!(!was_over || !outcome.is_durable(), "a run that has ended is left alone");
        if outcome.is_durable() || outcome.result.is_some() {
            self.model.stop_run(run);
        }
        if let Some(result) = &outcome.result {
            assert!(result.is_ok(), "{result:?}");
        }
    }

    fn stop_vessel(&mut self, run: RunId, vessel: usize) {
        self.note(format!("stop of vessel {vessel} of {run}"));
        let is_waiting = self.model.run(run).is_waiting();
        let outcome = self.call(|engine| engine.stop_vessel_run(run.vessel_run(vessel)));
        match &outcome.result {
            Some(Err(EngineError::Conflict(_))) => assert!(is_waiting),
            Some(Err(error)) => panic!("{error}"),
            Some(Ok(_)) => assert!(!is_waiting),
            None => {}
        }
        if !is_waiting && (outcome.is_durable() || outcome.result.is_some()) {
            self.model.stop_vessel(run, vessel);
        }
    }

    /// Vessels that were asked to end have been told, and no others.
    pub(super) fn check_signals(&self) {
        for worker in &self.server().workers {
            let Some(flight) = &worker.vessel else { continue };
            let vessel_run = flight.assignment.claim().vessel_run;
            let vessel = crate::model::index(vessel_run);
            let state = self.model.run(vessel_run.run()).vessels[vessel].state;
            let expected = state == (State::Running { stop_requested: true });
            let is_told = worker.stop.raised() == Some(Stop::Requested);
            assert_eq!(is_told, expected, "{vessel_run} is told to stop");
        }
    }
}
