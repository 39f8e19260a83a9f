//! The simulated machine: its clock, its boots, its work directories and its processes. It outlives
//! the servers that run on it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boathook::internals::{
    CapturedOutput, Clock, Ended, HowEnded, InstanceId, Kept, Launch, Launcher, LiveOutput,
    Overrides, Random, RunId, RunRecord, Shortage, Status, StopSignal, Timestamp, Unfinished,
    VesselRunId,
};

use crate::disk::Disk;
use crate::sabotage::Sabotage;

/// What was submitted with a run, as its vessels must get it.
#[derive(Debug)]
pub struct Submitted {
    pub headers_json: Option<String>,
    pub overrides: Overrides,
    pub query: String,
    pub body: Arc<Vec<u8>>,
}

#[derive(Clone)]
pub struct Machine {
    state: Arc<Mutex<State>>,
    disk: Disk,
    sabotage: Option<Sabotage>,
}

pub struct State {
    pub now: Timestamp,
    /// Time that has truly passed, whatever the clock says.
    pub elapsed: Duration,
    /// How often the clock was put back.
    pub steps_back: u32,
    boot: u32,
    directories: BTreeMap<RunId, Directory>,
    processes: BTreeSet<VesselRunId>,
    /// What attempts have started on another machine, whose power does not fail. A cleanup ends it.
    jobs: BTreeSet<VesselRunId>,
    pub submitted: BTreeMap<RunId, Arc<Submitted>>,
    pub random: fastrand::Rng,
    /// A server is in its recovery.
    pub is_recovering: bool,
    /// It lacks what a start takes.
    pub is_short: bool,
    /// The next launch finds no program to start.
    pub next_spawn_fails: bool,
    /// What the next vessel writes.
    pub next_output: Vec<u8>,
    /// The last launch.
    pub launched: Option<Launched>,
}

/// A run's work directory.
#[derive(Clone, Debug)]
struct Directory {
    boot: u32,
    /// It counts as gone.
    is_retired: bool,
    /// A power loss has left only parts of it.
    is_torn: bool,
    /// The vessels that have written to it.
    marks: BTreeSet<VesselRunId>,
}

/// A launch, as the life that made it judges it.
#[derive(Clone, Debug)]
pub struct Launched {
    pub vessel_run: VesselRunId,
    pub attempt: u32,
    /// The vessels that wrote to the work directory before.
    pub marks: BTreeSet<VesselRunId>,
    pub notices: usize,
}

impl Machine {
    pub fn new(random: fastrand::Rng, disk: Disk, sabotage: Option<Sabotage>) -> Self {
        let state = State {
            now: Timestamp::from_millis(1_700_000_000_000),
            elapsed: Duration::ZERO,
            steps_back: 0,
            boot: 1,
            directories: BTreeMap::new(),
            processes: BTreeSet::new(),
            jobs: BTreeSet::new(),
            submitted: BTreeMap::new(),
            random,
            is_recovering: false,
            is_short: false,
            next_spawn_fails: false,
            next_output: Vec::new(),
            launched: None,
        };
        Self { state: Arc::new(Mutex::new(state)), disk, sabotage }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Timestamp {
        self.lock().now
    }

    /// The boot id, as a server of this machine learns it.
    pub fn boot_id(&self) -> String {
        match self.sabotage {
            Some(Sabotage::OverlookReboot) => "boot".into(),
            _ => self.lock().boot(),
        }
    }

    /// The true time, and how often the clock was put back before.
    pub fn hold_begins(&self) -> (Duration, u32) {
        let state = self.lock();
        (state.elapsed, state.steps_back)
    }

    /// A vessel's process has ended, and with it, or with a cleanup, its job. The cleanup of a
    /// stopping server may be cut short.
    pub fn reap(&self, vessel_run: VesselRunId, is_abandoned: bool) {
        let mut state = self.lock();
        state.processes.remove(&vessel_run);
        if !is_abandoned || state.random.bool() {
            state.jobs.remove(&vessel_run);
        }
    }

    /// The power fails: processes are gone, directories gone, torn or, by luck, whole.
    pub fn lose_power(&self) {
        let mut state = self.lock();
        state.reboot();
        let mut random = state.random.clone();
        state.directories.retain(|_, directory| {
            directory.is_torn |= random.bool();
            let torn = directory.is_torn;
            directory.marks.retain(|_| !torn || random.bool());
            random.bool()
        });
        state.random = random;
    }
}

impl State {
    /// Which boot this is.
    pub fn boot(&self) -> String {
        format!("boot-{}", self.boot)
    }

    /// The machine starts again, in order.
    pub fn reboot(&mut self) {
        self.boot += 1;
        self.processes.clear();
    }

    /// A person removes a work directory.
    pub fn lose_directory(&mut self) {
        let count = self.directories.len();
        if count > 0 {
            let place = self.random.usize(..count);
            let run = self.directories.keys().nth(place).copied();
            run.map(|run| self.directories.remove(&run));
        }
    }

    /// Some leftover processes end by themselves.
    pub fn end_some_processes(&mut self) {
        let mut random = self.random.clone();
        self.processes.retain(|_| random.bool());
        self.jobs.retain(|_| random.u8(..4) > 0);
        self.random = random;
    }

    /// No job of the run may be using its directory any more.
    fn check_directory_is_unused(&self, run: RunId) {
        let job = self.jobs.iter().find(|job| job.run() == run);
        assert!(job.is_none(), "{run} loses its directory while {job:?} uses it");
    }

    pub fn has_directory(&self, run: RunId) -> bool {
        self.directories.get(&run).is_some_and(|directory| !directory.is_retired)
    }

    pub fn directories(&self) -> impl Iterator<Item = RunId> + '_ {
        self.directories.keys().copied()
    }

    pub fn processes(&self) -> &BTreeSet<VesselRunId> {
        &self.processes
    }

    pub fn jobs(&self) -> &BTreeSet<VesselRunId> {
        &self.jobs
    }
}

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        self.lock().now
    }
}

impl Random for Machine {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        self.lock().random.fill(bytes);
        Ok(())
    }
}

impl Launcher for Machine {
    fn directory(&self, run: RunId) -> PathBuf {
        PathBuf::from(format!("/simulated/{run}"))
    }

    fn has_directory(&self, run: RunId) -> bool {
        self.lock().has_directory(run)
    }

    fn launch(&self, launch: &Launch<'_>, _: &StopSignal, _: &LiveOutput) -> Ended {
        self.check_rows(launch);
        let mut state = self.lock();
        check_payload(launch, &state.submitted[&launch.run]);
        assert!(!state.processes.contains(&launch.vessel_run), "{} runs twice", launch.vessel_run);
        if state.is_short {
            let shortage = Shortage { reason: "no space left".into(), has_started: false };
            return Ended {
                how: HowEnded::Postponed(shortage),
                output: CapturedOutput::default(),
                answer: None,
            };
        }
        let has_cleanup = launch.runner.is_some_and(|runner| !runner.cleanup.is_empty());
        if has_cleanup && launch.cleans_first {
            state.jobs.remove(&launch.vessel_run);
        }
        let is_alone = !state.jobs.contains(&launch.vessel_run);
        assert!(is_alone, "{} starts beside an earlier attempt of it", launch.vessel_run);
        let boot = state.boot;
        let fresh =
            || Directory { boot, is_retired: false, is_torn: false, marks: BTreeSet::new() };
        let directory = state.directories.entry(launch.run).or_insert_with(fresh);
        assert!(!directory.is_retired, "{} goes on in a retired directory", launch.run);
        assert!(!directory.is_torn, "{} goes on in a torn directory", launch.run);
        assert_eq!(directory.boot, boot, "{} goes on in a directory of another boot", launch.run);
        let marks = directory.marks.clone();
        directory.marks.insert(launch.vessel_run);
        state.launched = Some(Launched {
            vessel_run: launch.vessel_run,
            attempt: launch.attempt,
            marks,
            notices: launch.notices.len(),
        });
        let output = std::mem::take(&mut state.next_output);
        let kept = match output.len() {
            0 => Kept::Nothing,
            _ => Kept::Inline(output.clone()),
        };
        let output =
            CapturedOutput { bytes: output.len() as u64, kept_bytes: output.len() as u64, kept };
        if state.next_spawn_fails {
            return Ended {
                how: HowEnded::NotStarted("no such program".into()),
                output,
                answer: None,
            };
        }
        state.processes.insert(launch.vessel_run);
        if has_cleanup {
            state.jobs.insert(launch.vessel_run);
        }
        // The life decides how it ends, when it does.
        Ended { how: HowEnded::Exited(0), output, answer: None }
    }

    fn shortage(&self, _: u64) -> Option<String> {
        self.lock().is_short.then(|| "no space left".into())
    }

    fn wipe_directory(&self, run: RunId) {
        let is_needless = |it: &RunRecord| it.status.is_final() || it.status == Status::Scheduled;
        let is_over = self.disk.lock().rows.runs.get(&run).is_some_and(is_needless);
        let mut state = self.lock();
        assert!(is_over || state.is_recovering, "{run} loses its directory before it has ended");
        state.check_directory_is_unused(run);
        if self.sabotage != Some(Sabotage::SkipWipe) || !state.is_recovering {
            state.directories.remove(&run);
        }
    }

    fn retire_directory(&self, run: RunId) {
        if self.sabotage != Some(Sabotage::SkipWipe)
            && let Some(directory) = self.lock().directories.get_mut(&run)
        {
            directory.is_retired = true;
        }
    }

    fn wipe_retired(&self, run: RunId) {
        let mut state = self.lock();
        state.check_directory_is_unused(run);
        if state.directories.get(&run).is_some_and(|directory| directory.is_retired) {
            state.directories.remove(&run);
        }
    }

    fn clean_up(&self, launch: &Launch<'_>, _: &LiveOutput) {
        let mut state = self.lock();
        check_payload(launch, &state.submitted[&launch.run]);
        if self.sabotage != Some(Sabotage::SkipCleanups) {
            state.jobs.remove(&launch.vessel_run);
        }
    }

    fn sweep_directories(&self, is_done: &dyn Fn(RunId) -> bool) {
        let mut state = self.lock();
        let done: Vec<RunId> =
            state.directories.keys().copied().filter(|run| is_done(*run)).collect();
        for run in done {
            state.check_directory_is_unused(run);
            state.directories.remove(&run);
        }
    }

    fn end_leftovers(&self, _: InstanceId, unfinished: &Unfinished) -> usize {
        let mut state = self.lock();
        let before = state.processes.len();
        state.processes.retain(|process| !unfinished.vessel_runs.contains(process));
        before - state.processes.len()
    }
}

impl Machine {
    /// The attempt is durable before it starts.
    fn check_rows(&self, launch: &Launch<'_>) {
        let disk = self.disk.lock();
        let row = disk.rows.latest(launch.vessel_run);
        let is_stored = row.is_some_and(|row| {
            let runs = matches!(row.status, Status::Running | Status::Retrying);
            runs && row.attempt == launch.attempt && row.retry_at.is_none()
        });
        assert!(is_stored, "{} starts, but its row is {row:?}", launch.vessel_run);
    }
}

/// A vessel gets what was submitted, byte for byte.
fn check_payload(launch: &Launch<'_>, submitted: &Submitted) {
    let mut body = Vec::new();
    let read = launch.payload.open_body().read_to_end(&mut body);
    read.unwrap_or_else(|error| panic!("the body of {} cannot be read: {error}", launch.run));
    assert!(body == *submitted.body, "the body of {} is not what was submitted", launch.run);
    assert_eq!(launch.payload.body_bytes(), body.len() as u64);
    let headers_json = submitted.headers_json.as_deref();
    assert_eq!(launch.payload.headers_json(), headers_json.map(str::as_bytes));
    let variable = |name: &str| launch.environment.get(name);
    let log_id = launch.vessel_run.to_string();
    assert_eq!(variable("SHIPYARD_LOG_ID"), Some(log_id.as_str()));
    let name = variable("SHIPYARD_VESSEL_NAME").unwrap_or_default();
    for (name, value) in submitted.overrides.of(name).iter().flat_map(|it| &it.environment) {
        assert_eq!(variable(name), value.as_deref(), "an overridden variable");
    }
    assert_eq!(variable("BOATHOOK_ATTEMPT"), Some(launch.attempt.to_string().as_str()));
}
