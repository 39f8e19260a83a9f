//! One life: a machine and the servers on it, driven through random steps by a seed. After each step
//! the answers of the engine, the stored rows and the model must agree.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use boathook::internals::statistics::Hour;
use boathook::internals::{
    Assignment, Change, Engine, FinishedAttempt, FleetDefinition, FleetId, Retention, RunId,
    StopSignal, VersionPasses, VesselRunId,
};
use fastrand::Rng;
use tempfile::TempDir;

use crate::disk::{Disk, Plan, When};
use crate::machine::Machine;
use crate::model::Model;
use crate::sabotage::Sabotage;

mod access;
mod checks;
mod deliveries;
mod events;
mod fleets;
mod incarnation;
mod replays;
mod schedules;
mod statistics;
mod stops;
mod submits;
mod sweeps;
mod vessels;

pub use incarnation::Died;
pub use schedules::SCHEDULES;

/// How often a run may be interrupted by crashes.
const CRASHES_MAX: u32 = 3;
/// Runs that may wait at a time.
const WAITING_MAX: usize = 30;
/// Bytes of a body that is accepted: a few slices.
const BODY_BYTES_MAX: usize = 600 * 1024;

pub struct Life {
    random: Rng,
    temper: Temper,
    directory: TempDir,
    machine: Machine,
    disk: Disk,
    sabotage: Option<Sabotage>,
    model: Model,
    fleets: Vec<Fleet>,
    /// What settled attempts have written.
    outputs: BTreeMap<(VesselRunId, u32), Vec<u8>>,
    memory: events::Memory,
    access: access::Access,
    book: deliveries::Book,
    timetables: BTreeMap<FleetId, schedules::Timetable>,
    /// Hours before this one may have been removed from the statistics.
    counted_since: Option<Hour>,
    /// Runs that were removed lately.
    removed: VecDeque<RunId>,
    server: Option<Server>,
    /// What the last server left behind, as far as it was made durable.
    last_boot: Option<String>,
    stopped_cleanly: bool,
    /// The server has acknowledged a lost commit: it ends with this step.
    is_doomed: bool,
    pub trace: Vec<String>,
    pub restarts: u32,
}

/// The server that runs now.
struct Server {
    engine: Arc<Engine>,
    committer: std::thread::JoinHandle<()>,
    workers: Vec<Worker>,
    passes: Option<VersionPasses>,
}

struct Worker {
    stop: Arc<StopSignal>,
    vessel: Option<Flight>,
}

/// A vessel that a worker has started.
struct Flight {
    assignment: Assignment,
    finished: FinishedAttempt,
}

struct Fleet {
    id: FleetId,
    is_alive: bool,
    name: String,
    /// The first version first.
    versions: Vec<Arc<FleetDefinition>>,
    /// Of the file of the newest version.
    text: Option<String>,
    webhook: Option<String>,
}

/// How long runs may be kept.
pub const RULES: [&str; 5] = ["forever", "90d", "1m", "20m, 10 runs", "3 runs"];

/// What kind of life this is. Each seed has its own.
struct Temper {
    workers: usize,
    /// Chances in a thousand, at each step.
    crash: u32,
    doom: u32,
    orderly_stop: u32,
    clock_jump: u32,
    stop: u32,
    edit: u32,
    submit: u32,
    replay: u32,
    large_bodies: u32,
    spawn_failure: u32,
    shortage: u32,
    sweep: u32,
    /// Of a submit: that it delivers an event.
    event: u32,
    /// How long events are remembered.
    window: Duration,
    /// Which runs the server keeps.
    keep_runs: Retention,
    /// How many versions of a fleet it keeps.
    keep_versions: u32,
}

impl Temper {
    fn random(random: &mut Rng) -> Self {
        let mut one_of = |chances: &[u32]| chances[random.usize(..chances.len())];
        Self {
            crash: one_of(&[0, 3, 10]),
            doom: one_of(&[0, 5, 20]),
            orderly_stop: one_of(&[0, 2, 8]),
            clock_jump: one_of(&[0, 5, 20]),
            stop: one_of(&[5, 20, 60]),
            edit: one_of(&[2, 10]),
            submit: one_of(&[150, 250, 400]),
            replay: one_of(&[10, 40]),
            large_bodies: one_of(&[0, 5, 30]),
            spawn_failure: one_of(&[0, 20, 200]),
            shortage: one_of(&[0, 5, 40]),
            workers: one_of(&[1, 2, 4, 16]) as usize,
            sweep: one_of(&[0, 5, 30]),
            event: one_of(&[0, 300, 900]),
            window: Duration::from_secs(one_of(&[60, 1_200, 259_200]).into()),
            keep_versions: one_of(&[1, 2, 1000]),
            keep_runs: RULES[one_of(&[0, 1, 2, 3, 4]) as usize]
                .parse()
                .unwrap_or_else(|error| panic!("{error}")),
        }
    }
}

/// What came of a verb of the engine.
struct Answer<T> {
    /// `None`: the server has died of it.
    result: Option<T>,
    /// What it has made durable, commit by commit.
    log: Vec<Vec<Change>>,
}

impl<T> Answer<T> {
    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.log.iter().flatten()
    }

    fn is_durable(&self) -> bool {
        !self.log.is_empty()
    }
}

impl Life {
    pub fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let mut random = Rng::with_seed(seed);
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let directory = tempfile::Builder::new().prefix("boathook-sim-").tempdir_in(place);
        let disk = Disk::new(sabotage);
        let machine = Machine::new(random.fork(), disk.clone(), sabotage);
        Self {
            temper: Temper::random(&mut random),
            directory: directory.unwrap_or_else(|error| panic!("no directory: {error}")),
            machine,
            disk,
            sabotage,
            model: Model::new(CRASHES_MAX),
            fleets: Vec::new(),
            outputs: BTreeMap::new(),
            memory: events::Memory::default(),
            access: access::Access::default(),
            book: deliveries::Book::default(),
            timetables: BTreeMap::new(),
            counted_since: None,
            removed: VecDeque::new(),
            server: None,
            last_boot: None,
            stopped_cleanly: false,
            is_doomed: false,
            trace: Vec::new(),
            restarts: 0,
            random,
        }
    }

    /// Lives through `steps` steps and comes to a good end.
    pub fn live(&mut self, steps: usize) {
        self.open();
        for _ in 0..3 {
            self.create_fleet();
            self.see_to_the_server();
        }
        for _ in 0..steps {
            self.step();
        }
        self.come_to_an_end();
    }

    fn step(&mut self) {
        let Temper {
            crash,
            doom,
            orderly_stop,
            clock_jump,
            stop,
            edit,
            submit,
            replay,
            sweep,
            shortage,
            ..
        } = self.temper;
        if self.chance(doom) {
            let when = if self.random.bool() { When::BeforeWrite } else { When::AfterSync };
            let commits = self.random.u32(..4);
            self.note(format!("dies after {commits} commits, {when:?}"));
            self.disk.plan(Some(Plan { commits, when }));
        }
        let mut dice = self.random.u32(..1000);
        let mut falls_on = |chance| {
            let hit = dice < chance;
            dice = dice.wrapping_sub(if hit { 0 } else { chance });
            hit
        };
        if falls_on(crash) {
            self.note("crash".into());
            self.is_doomed = true;
        } else if falls_on(orderly_stop) {
            self.stop_in_order();
        } else if falls_on(clock_jump) {
            self.jump();
        } else if falls_on(stop) {
            self.stop_something();
        } else if falls_on(edit) {
            self.edit_something();
        } else if falls_on(submit) {
            self.submit();
        } else if falls_on(replay) {
            self.replay();
        } else if falls_on(sweep) {
            self.sweep();
            if !self.is_doomed && self.random.bool() {
                self.sweep_events();
                if !self.is_doomed {
                    self.sweep_statistics();
                }
            }
            if !self.is_doomed && self.random.bool() {
                self.prune_versions();
            }
        } else if falls_on(shortage) {
            self.run_short();
        } else if falls_on(100) {
            self.tick();
        } else if falls_on(40) {
            self.fire_schedules();
        } else if falls_on(30) {
            self.refuse();
        } else if falls_on(20) {
            self.write_deliveries();
        } else if falls_on(10) {
            self.replay_delivery();
        } else if falls_on(20) {
            self.look();
            self.look_at_deliveries();
        } else {
            self.work();
        }
        self.see_to_the_server();
        self.check();
    }

    /// Without further faults everything comes to its end.
    fn come_to_an_end(&mut self) {
        self.disk.plan(None);
        self.temper.doom = 0;
        self.temper.spawn_failure = 0;
        self.temper.shortage = 0;
        self.machine.lock().is_short = false;
        self.engine().check_machine();
        self.note("no more faults".into());
        self.fire_schedules();
        self.finish_all();
        // Runs that are accepted while a server stops end under the next one.
        self.stop_in_order();
        self.see_to_the_server();
        self.finish_all();
        self.sweep();
        self.check_everything();
    }

    fn finish_all(&mut self) {
        for _ in 0..20_000 {
            if self.model.unfinished().next().is_none() {
                break;
            }
            if self.engine().is_paused() {
                self.engine().check_machine();
            }
            if self.model.depth().2 == 0 && !self.model.has_claimable() {
                let wait = self.model.longest_wait();
                self.advance(wait);
                self.fire();
            }
            self.work();
            self.see_to_the_server();
            self.check();
        }
        let left = self.model.unfinished().next();
        assert!(left.is_none(), "no end in sight: {left:?}");
    }

    /// Calls a verb of the engine, which the server may die of.
    fn call<T>(&mut self, verb: impl FnOnce(&Engine) -> T) -> Answer<T> {
        let engine = Arc::clone(&self.server().engine);
        let result = match catch_unwind(AssertUnwindSafe(|| verb(&engine))) {
            Ok(result) => Some(result),
            Err(payload) if payload.is::<Died>() => None,
            Err(payload) => resume_unwind(payload),
        };
        if result.is_none() {
            self.note("died".into());
        }
        self.is_doomed |= result.is_none() | self.disk.take_lie();
        Answer { result, log: self.disk.take_log() }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap_or_else(|| panic!("no server is running"))
    }

    fn engine(&self) -> &Engine {
        &self.server().engine
    }

    fn tick(&mut self) {
        let millis = [0, 1, 499, 500, 7_000, 60_000][self.random.usize(..6)];
        self.advance(Duration::from_millis(millis));
        if self.random.u8(..4) > 0 {
            self.fire();
        }
    }

    /// The machine lacks what starts take, or has it again.
    fn run_short(&mut self) {
        let mut machine = self.machine.lock();
        machine.is_short = !machine.is_short;
        let is_short = machine.is_short;
        drop(machine);
        self.note(format!("the machine lacks something: {is_short}"));
    }

    fn jump(&mut self) {
        let millis = self.random.u64(..100_000_000);
        let mut machine = self.machine.lock();
        let by = Duration::from_millis(millis);
        let is_forwards = self.random.bool();
        let before = machine.now;
        machine.now = if is_forwards { machine.now.plus(by) } else { machine.now.minus(by) };
        machine.steps_back += u32::from(!is_forwards);
        let now = machine.now;
        drop(machine);
        self.model.excuse_overdue(before, self.machine.hold_begins());
        self.age_events();
        self.note(format!("the clock jumps to {now}"));
    }

    fn advance(&mut self, by: Duration) {
        let mut machine = self.machine.lock();
        machine.now = machine.now.plus(by);
        machine.elapsed += by;
        drop(machine);
        self.age_events();
    }

    fn fire(&mut self) {
        self.model.count_anew(self.machine.now(), self.machine.hold_begins());
        let outcome = self.call(Engine::fire_due);
        if outcome.result.is_some() || outcome.is_durable() {
            self.model.fire_due(self.machine.now());
        }
        if self.is_doomed {
            return;
        }
        self.check_holds();
        self.engine().check_machine();
        let is_short = self.machine.lock().is_short;
        assert!(
            is_short || !self.engine().is_paused(),
            "launching goes on when nothing is lacking"
        );
    }

    /// Whether something happens whose chance is so many in a thousand.
    fn chance(&mut self, chance: u32) -> bool {
        self.random.u32(..1000) < chance
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        (!among.is_empty()).then(|| among[self.random.usize(..among.len())])
    }

    fn note(&mut self, what: String) {
        self.trace.push(what);
    }
}

/// The run that a change is about, if it is about one.
fn run_of(change: &Change) -> Option<RunId> {
    match change {
        Change::AddRun(run) | Change::PutRun(run) => Some(run.id),
        Change::PutVesselRun(record) => Some(record.id.run()),
        Change::PutQueueEntry(entry) => Some(entry.run),
        _ => None,
    }
}
