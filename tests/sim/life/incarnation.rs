//! The servers of a life: their starts and ends.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use boathook::internals::store::{DataDirectory, Store};
use boathook::internals::{Change, Engine, RunId, Settings, StopSignal, World};

use super::{BODY_BYTES_MAX, CRASHES_MAX, Life, Server, WAITING_MAX, Worker, run_of};
use crate::disk::{Plan, When};
use crate::model::Interruption;

/// The payload of the unwinding that stands in for the end of the process.
pub struct Died;

impl Life {
    /// Starts a server on the data of the last one, as often as it takes.
    pub(super) fn open(&mut self) {
        while self.server.is_none() {
            self.try_open();
        }
        let machine = self.machine.lock();
        assert!(machine.processes().is_empty(), "left running: {:?}", machine.processes());
        assert!(machine.jobs().is_empty(), "not cleaned up: {:?}", machine.jobs());
        drop(machine);
        let now = self.machine.now();
        self.note(format!("a server has started at {now}"));
        self.reload_schedules();
        self.check_everything();
        self.check_versions();
    }

    fn try_open(&mut self) {
        let chance_to_die = self.temper.doom * 10;
        if self.restarts > 0 && self.chance(chance_to_die) {
            let when = if self.random.bool() { When::BeforeWrite } else { When::AfterSync };
            self.disk.plan(Some(Plan { commits: self.random.u32(..3), when }));
        }
        self.restarts += 1;
        let interruptions = self.interruptions();
        let directory = DataDirectory::open(self.directory.path())
            .unwrap_or_else(|error| panic!("the data directory does not open: {error}"));
        let opened = Store::open_with(directory, self.disk.faults());
        let (store, committer) =
            opened.unwrap_or_else(|error| panic!("the database does not open: {error}"));
        self.check_storage(&store);
        let boot_id = self.machine.boot_id();
        let settings = Settings {
            workers: self.temper.workers,
            max_queued_runs: WAITING_MAX,
            max_body_bytes: BODY_BYTES_MAX as u64,
            max_crash_attempts: CRASHES_MAX,
            keep_runs: self.temper.keep_runs,
            keep_versions: self.temper.keep_versions,
            min_free_bytes: 0,
            ..Settings::defaults(self.directory.path().to_owned())
        };
        let world = World {
            launcher: Box::new(self.machine.clone()),
            clock: Box::new(self.machine.clone()),
            random: Box::new(self.machine.clone()),
            boot_id,
            promised_bytes: Arc::default(),
            on_pause: Box::new(|_| ()),
        };
        self.machine.lock().is_recovering = true;
        let result =
            catch_unwind(AssertUnwindSafe(|| Engine::open(Arc::new(settings), store, world)));
        self.machine.lock().is_recovering = false;
        let log = self.disk.take_log();
        self.recovered(&log, &interruptions);
        match result {
            Ok(Ok(engine)) => {
                self.server = Some(self.serve(engine, committer));
                self.end_leftovers(chance_to_die);
            }
            Ok(Err(error)) => panic!("the engine does not open: {error}"),
            Err(payload) if payload.is::<Died>() => {
                self.note("died while it recovered".into());
                let _ = committer.join();
                self.while_it_is_down();
            }
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Ends the leftovers of a crashed server, and counts the deliveries that it kept, while the new server
    /// accepts runs and may crash.
    fn end_leftovers(&mut self, chance_to_die: u32) {
        if self.random.bool() {
            self.submit();
        }
        if !self.is_doomed && self.chance(chance_to_die) {
            self.note("crash while leftovers end".into());
            self.is_doomed = true;
        }
        if !self.is_doomed {
            self.call(Engine::end_leftovers);
        }
        if !self.is_doomed {
            self.count_deliveries();
        }
        if std::mem::take(&mut self.is_doomed) {
            self.abandon_server();
            self.while_it_is_down();
        }
    }

    fn serve(&self, engine: Arc<Engine>, committer: std::thread::JoinHandle<()>) -> Server {
        let worker = |_| {
            let stop = StopSignal::new().unwrap_or_else(|error| panic!("no eventfd: {error}"));
            Worker { stop: Arc::new(stop), vessel: None }
        };
        let workers = (0..self.temper.workers).map(worker).collect();
        let passes = Some(engine.version_passes());
        Server { engine, committer, workers, passes }
    }

    /// How the end of the last server interrupts each unfinished run.
    fn interruptions(&self) -> Vec<(RunId, Interruption)> {
        let machine = self.machine.lock();
        let is_same_boot = self.last_boot == Some(machine.boot());
        let was_crash = self.last_boot.is_some() && !self.stopped_cleanly;
        let unfinished = self.model.unfinished();
        let interruption = |run| Interruption {
            was_crash,
            has_directory: is_same_boot && machine.has_directory(run),
        };
        unfinished.map(|(id, _)| (*id, interruption(*id))).collect()
    }

    /// A recovery has come to its end, or as far as the commits in `log`.
    fn recovered(&mut self, log: &[Vec<Change>], interruptions: &[(RunId, Interruption)]) {
        let says_so = |commit: &Vec<Change>| {
            commit.iter().any(|change| matches!(change, Change::PutServer(_)))
        };
        let is_complete = log.last().is_some_and(says_so);
        let says_so_early = log.iter().rev().skip(1).any(says_so);
        assert!(!says_so_early, "the record of a server is the last change of its recovery");
        let now = self.machine.now();
        self.model.count_anew(now, self.machine.hold_begins());
        for (run, interruption) in interruptions {
            if is_complete || log.iter().flatten().any(|change| run_of(change) == Some(*run)) {
                self.model.reload(*run, *interruption, now);
            }
        }
        if is_complete {
            self.last_boot = Some(self.machine.lock().boot());
            self.stopped_cleanly = false;
        }
    }

    /// Replaces a server that has died.
    pub(super) fn see_to_the_server(&mut self) {
        if std::mem::take(&mut self.is_doomed) {
            self.abandon_server();
            self.while_it_is_down();
        }
        if self.server.is_none() {
            self.open();
        }
    }

    /// Drops the server and its memory, as kill -9 would.
    fn abandon_server(&mut self) {
        let Some(Server { engine, committer, workers, .. }) = self.server.take() else { return };
        drop(workers);
        assert_eq!(Arc::strong_count(&engine), 1, "another owner holds the engine");
        drop(engine);
        let _ = committer.join();
        self.lose_deliveries();
        self.disk.plan(None);
        let _ = self.disk.take_log();
    }

    /// Events on a machine without a server.
    fn while_it_is_down(&mut self) {
        match self.random.u8(..8) {
            0 | 1 => {
                self.note("power loss".into());
                self.machine.lose_power();
            }
            2 => {
                self.note("reboot".into());
                self.machine.lock().reboot();
            }
            3 => self.jump(),
            4 => {
                self.note("a work directory is removed".into());
                self.machine.lock().lose_directory();
            }
            _ => {}
        }
        let seconds = self.random.u64(..100);
        self.advance(Duration::from_secs(seconds));
        self.machine.lock().end_some_processes();
    }

    /// Stops the server as SIGTERM does.
    pub(super) fn stop_in_order(&mut self) {
        self.note("orderly stop".into());
        self.engine().drain();
        for worker in 0..self.temper.workers {
            if self.random.bool() && !self.is_doomed {
                self.submit();
            }
            if self.random.bool() && !self.is_doomed {
                self.settle(worker);
            }
        }
        if self.is_doomed {
            return;
        }
        self.engine().abandon_running();
        for worker in 0..self.temper.workers {
            if !self.is_doomed {
                self.settle(worker);
            }
        }
        if self.is_doomed {
            return;
        }
        self.engine().close();
        self.submit_too_late();
        self.write_all_deliveries();
        if self.is_doomed {
            return;
        }
        let outcome = self.call(|engine| engine.record_clean_stop());
        self.stopped_cleanly |= outcome.is_durable();
        self.is_doomed = true;
    }
}
