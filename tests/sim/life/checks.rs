//! What must hold after each step: engine, rows and model agree.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use boathook::internals::limits::SLICE_BYTES;
use boathook::internals::store::Store;
use boathook::internals::{Reach, RunFilter, RunId, RunRecord, Status, Trigger};

use super::Life;
use crate::model::{Run, State};

impl Life {
    /// After each step.
    pub(super) fn check(&self) {
        for (id, run) in self.model.unfinished() {
            self.check_run(*id, run);
        }
        self.check_events();
        self.check_signals();
        let disk = self.disk.lock();
        let rows = &disk.rows;
        assert_eq!(rows.queue.len(), self.model.unfinished().count(), "unfinished runs are queued");
        let longest = disk.longest_slice;
        assert!(longest <= SLICE_BYTES, "{longest} bytes of a payload in one piece");
        assert!(rows.uploads.is_empty(), "uploads without a sender: {:?}", rows.uploads);
        assert!(rows.arriving.is_empty(), "payloads without a run: {:?}", rows.arriving);
        let depth = self.engine().depth();
        let depth = (depth.waiting, depth.active, depth.running);
        assert_eq!(depth, self.model.depth(), "(waiting, active, running)");
        for run in self.machine.lock().directories() {
            let is_over = self.model.get(run).is_none_or(Run::is_over);
            assert!(!is_over, "{run} has ended and has a work directory");
        }
    }

    /// What `debounce` promises, after a look at the clock.
    pub(super) fn check_holds(&self) {
        let (elapsed, steps_back) = self.machine.hold_begins();
        let mut keys = BTreeSet::new();
        for (id, run) in self.model.unfinished() {
            let Some((hold, debounce)) = run.hold.zip(run.definition.debounce) else { continue };
            assert!(hold.until > self.machine.now(), "{id} waits longer than it should: {hold:?}");
            let (since, steps_before) = run.first_of_hold;
            let steps = steps_back - steps_before + 1;
            let waited = elapsed - since;
            assert!(waited < debounce.max_wait * steps, "{id} waits for {waited:?}: {hold:?}");
            assert!(keys.insert((run.fleet, run.arrival.key.clone())), "a key holds {id} as well");
            let newer = self.model.all().find(|(other, it)| {
                *other > id
                    && it.is_request
                    && (it.fleet, &it.arrival.key) == (run.fleet, &run.arrival.key)
                    && it.version == run.version
            });
            assert!(newer.is_none(), "{id} waits, and is older than {newer:?}");
        }
    }

    /// The rows of a run are what the model expects.
    fn check_run(&self, id: RunId, run: &Run) {
        let disk = self.disk.lock();
        let row = disk.rows.runs.get(&id);
        let row = row.unwrap_or_else(|| panic!("{id} was accepted and is lost"));
        assert_eq!(row.status, run.status(), "the status of {id}: {run:?}");
        assert_eq!(row.crashes, run.crashes, "the crashes of {id}");
        assert_eq!((row.fleet_id, row.fleet_version), (run.fleet, run.version));
        assert_eq!(row.replay_of, run.replay_of);
        assert_eq!(row.arrival(), run.arrival, "the event of {id}");
        assert_eq!(row.queued_at, run.queued_at, "when {id} was accepted");
        assert!(id.time() >= run.queued_at, "{id} sorts before what was accepted earlier");
        assert_eq!(row.started_at.is_some(), run.started, "when {id} started");
        assert_eq!(row.ended_at.is_some(), run.is_over(), "when {id} ended");
        if let Some(newer) = row.reason.as_deref().and_then(newer_run_in) {
            let is_one_of_them = disk.rows.runs.get(&newer).is_none_or(|it| {
                it.fleet_id == run.fleet && it.key() == run.arrival.key && newer != id
            });
            // A run that was held gives way to none that came meanwhile.
            let is_newer = newer > id
                || disk.rows.runs.get(&newer).is_none_or(|it| it.trigger == Trigger::Webhook);
            assert!(is_one_of_them && is_newer, "{id} gave way to {newer}");
        }
        let entry = disk.rows.queue.get(&row.sequence).filter(|entry| entry.run == id);
        assert_eq!(entry.is_some(), !run.is_over(), "{id} is queued until it ends");
        assert!(entry.is_none_or(|it| it.started == run.started), "{id} is known to have started");
        for (index, vessel) in run.vessels.iter().enumerate() {
            let row = disk.rows.latest(id.vessel_run(index));
            let status = row.map_or(Status::Scheduled, |row| row.status);
            assert_eq!(status, run.vessel_status(index), "vessel {index} of {id}: {run:?}");
            let Some(row) = row else { continue };
            assert_eq!(row.attempt, vessel.attempts, "the attempts of vessel {index} of {id}");
            assert_eq!(row.retries, vessel.retries, "the retries of vessel {index} of {id}");
            assert!(row.retries <= run.guardrails(index).retry_count);
            assert_eq!((row.skip, row.exit_code), (vessel.skipped, vessel.exit_code));
            assert_eq!(row.retry_at, vessel.stored_due, "the retry of vessel {index} of {id}");
            if let State::Running { stop_requested } = vessel.state {
                assert_eq!(row.stop_requested, stop_requested);
            }
        }
    }

    /// Everything, also of runs that ended long ago.
    pub(super) fn check_everything(&mut self) {
        for (id, run) in self.model.all() {
            self.check_run(*id, run);
            assert!(run.crashes <= super::CRASHES_MAX);
        }
        self.check_catalog();
        self.check_standings();
        self.check_access();
        self.check_history();
        self.check_schedules();
        self.check_statistics();
    }

    /// The engine says how each fleet is doing as its runs do.
    fn check_standings(&self) {
        for standing in self.engine().fleet_standings(&Reach::Everything) {
            let fleet = standing.view.fleet.id;
            let of_fleet = || self.model.all().filter(|(_, run)| run.fleet == fleet);
            let waiting = of_fleet().filter(|(_, run)| run.is_waiting()).count();
            let active = of_fleet().filter(|(_, run)| run.is_active()).count();
            assert_eq!((standing.waiting, standing.active), (waiting, active), "runs of {fleet}");
            let newest = of_fleet().filter(|(_, run)| run.is_over()).map(|(id, _)| id).max();
            let disk = self.disk.lock();
            let row = newest.and_then(|newest| disk.rows.runs.get(newest));
            let is_failing = row.is_some_and(|row| row.status == Status::Errored);
            assert_eq!(standing.is_failing, is_failing, "the newest end of {fleet}: {newest:?}");
        }
    }

    /// The database holds what was made durable, no more and no less.
    pub(super) fn check_storage(&self, store: &Store) {
        let disk = self.disk.lock();
        let rows = &disk.rows;
        let ok = "the database can be read";
        assert_eq!(store.server().expect(ok), rows.server);
        let queue: Result<Vec<_>, _> = store.queue().collect();
        assert!(queue.expect(ok).iter().eq(rows.queue.values()), "the stored queue");
        assert!(store.uploads().expect(ok).iter().eq(&rows.uploads), "the stored uploads");
        // What has ended long ago is looked at once in a while.
        let is_thorough = self.restarts.is_multiple_of(8);
        let is_due = |run: &RunRecord| is_thorough || !run.status.is_final();
        for (id, run) in rows.runs.iter().filter(|(_, run)| is_due(run)) {
            assert_eq!(store.run(*id).as_ref(), Some(run), "the row of {id}");
            let vessels = self.model.get(*id).map_or(0, |run| run.vessels.len());
            for vessel in (0..vessels).map(|vessel| id.vessel_run(vessel)) {
                assert_eq!(store.vessel_run(vessel).as_ref(), rows.latest(vessel));
            }
        }
        assert_eq!(store.fleets().expect(ok).len(), rows.fleets.len());
        drop(disk);
        self.check_stored_history(store);
        self.check_stored_schedules(store);
        self.check_stored_events(store);
        self.check_stored_deliveries(store);
    }

    /// A person looks at a run, its request and its output.
    pub(super) fn look(&mut self) {
        let all: Vec<RunId> = self.model.newest().collect();
        let Some(id) = self.pick(&all) else { return };
        let view = self.engine().run(id).unwrap_or_else(|| panic!("{id} cannot be found"));
        let expected = self.model.run(id);
        assert_eq!(view.run.status, expected.status());
        assert_eq!(view.vessels.len(), expected.vessels.len());
        for (index, vessel) in view.vessels.iter().enumerate() {
            assert_eq!(vessel.status, expected.vessel_status(index));
        }
        let submitted = self.machine.lock().submitted[&id].clone();
        let mut body = Vec::new();
        let read = self.engine().body(&view.run).read_to_end(&mut body);
        assert!(read.is_ok() && body == *submitted.body, "the body of {id}: {read:?}");
        for ((vessel_run, attempt), written) in
            self.outputs.range((id.vessel_run(0), 0)..).take_while(|((it, _), _)| it.run() == id)
        {
            let reader = self.engine().output(*vessel_run, Some(*attempt));
            let reader = reader.unwrap_or_else(|error| panic!("{vessel_run}: {error}"));
            let reader = reader.unwrap_or_else(|| panic!("no output of {vessel_run}"));
            let chunk = reader.read(0, Duration::ZERO);
            let chunk = chunk.unwrap_or_else(|error| panic!("{error}"));
            assert!(chunk.bytes == *written, "the output of attempt {attempt} of {vessel_run}");
        }
        let newest = self.engine().runs(&RunFilter { limit: 5, ..RunFilter::default() }).runs;
        let newest = newest.iter().map(|view| view.run.id);
        assert!(newest.eq(self.model.newest().take(5)), "newest first");
        if self.random.usize(..8) == 0 {
            self.check_pages();
        }
    }

    /// However few runs are looked at for a page, the pages together have all of them.
    fn check_pages(&mut self) {
        let status = if self.random.bool() { Status::Success } else { Status::Errored };
        let all: Vec<RunId> = self.model.newest().collect();
        let mut time = || self.pick(&all).map(|run| self.model.run(run).queued_at);
        let (since, until) = (time(), time());
        let (since, until) = match self.random.u8(..4) {
            0 => (since, until),
            1 => (since, None),
            2 => (None, until),
            _ => (None, None),
        };
        let scanned_max = self.random.usize(1..20);
        let (mut before, mut found) = (None, Vec::new());
        loop {
            let filter = RunFilter {
                status: Some(status),
                since,
                until,
                before,
                limit: 10,
                scanned_max,
                ..RunFilter::default()
            };
            let page = self.engine().runs(&filter);
            found.extend(page.runs.iter().map(|view| view.run.id));
            // A run that the page does not show is not named by its cursor either.
            if let Some(next) = page.next_before.filter(|_| page.runs.len() < 10) {
                assert!(!all.contains(&next), "{next} is named");
            }
            match page.next_before {
                Some(last) => before = Some(last),
                None => break,
            }
        }
        let is_listed = |run: &RunId| {
            let run = self.model.run(*run);
            run.status() == status
                && since.is_none_or(|since| run.queued_at >= since)
                && until.is_none_or(|until| run.queued_at <= until)
        };
        let expected = self.model.newest().filter(is_listed);
        assert!(found.iter().copied().eq(expected), "{status} page by page");
    }
}

/// The run that a reason names as the newer one.
fn newer_run_in(reason: &str) -> Option<RunId> {
    let (_, named) = reason.split_once("gave way to the newer run ")?;
    named.split(' ').next()?.parse().ok()
}
