//! Runs vessels as local processes: work directories, programs, output, limits, and the end of
//! everything that an attempt has started. The only room that starts vessels. Knows neither the
//! scheduler nor the database.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::cgi::VesselAnswer;
use crate::model::confinement::Confinement;
use crate::model::environment::Environment;
use crate::model::fleet::Program;
use crate::model::ids::{InstanceId, RunId, VesselRunId};
use crate::model::runner::Runner;
use crate::model::variable::SecretName;

mod checkout;
mod cleanup;
mod feed;
mod group;
pub mod helper_process;
mod last_words;
mod mark;
mod oom;
pub mod orphans;
pub mod output;
pub mod packages;
pub mod preview;
pub mod process;
mod process_table;
pub mod reason;
pub mod resolve;
mod response_file;
mod script;
pub mod shim;
pub mod shortage;
pub mod start;
pub mod start_error;
pub mod stop;
mod termination;
mod tree;
pub mod user;
mod wait;
mod workdir;

use mark::{Mark, Marks};
use output::{CapturedOutput, LiveOutput};
use resolve::Invocation;
pub use response_file::response_file_name;
use shortage::Shortage;
use stop::StopSignal;

/// Starts vessels. A trait so that simulations can replace processes by decisions.
pub trait Launcher: Send + Sync {
    /// The work directory of `run`, whether it exists or not.
    fn directory(&self, run: RunId) -> PathBuf;

    /// Whether the work directory of `run` exists.
    fn has_directory(&self, run: RunId) -> bool;

    /// Runs one attempt of a vessel and returns its end. Blocks meanwhile.
    ///
    /// `output` receives the vessel's bytes as they arrive. The caller finishes it when the end is
    /// settled. When `stop` is raised or the cutoff is due, all processes of the attempt, in any
    /// group or session, get SIGTERM and after the grace SIGKILL; none is left when this returns.
    /// When the vessel ends by itself, its process group ends with it, and the log names processes
    /// in other groups. These end before the next attempt starts. The runner's cleanup has ended too.
    fn launch(&self, launch: &Launch<'_>, stop: &StopSignal, output: &LiveOutput) -> Ended;

    /// Whether vessels may run as the user `name`. Tried out without a vessel.
    ///
    /// # Errors
    /// The reason, for a person.
    fn check_user(&self, _name: &str) -> Result<(), String> {
        Ok(())
    }

    /// What the machine lacks, for a person, to start a vessel whose work directory takes `bytes`.
    /// Tried out without a vessel. `None` when nothing is missing.
    fn shortage(&self, _bytes: u64) -> Option<String> {
        None
    }

    /// Ends what the interrupted attempt `launch` of an earlier server may have left with its runner's
    /// engine. Blocks for its `cleanup_timeout` and the grace at most.
    fn clean_up(&self, launch: &Launch<'_>, output: &LiveOutput);

    /// Removes the work directory of `run`, if it exists. Logs failures.
    fn wipe_directory(&self, run: RunId);

    /// Makes the work directory of `run` one that does not exist for [`Self::has_directory`], also
    /// after a crash, until [`Self::wipe_retired`] removes it.
    fn retire_directory(&self, run: RunId);

    /// Removes a retired work directory.
    fn wipe_retired(&self, run: RunId);

    /// Removes the work directory of every run that `is_done`, after a crash. Other entries of the
    /// directory stay.
    fn sweep_directories(&self, is_done: &dyn Fn(RunId) -> bool);

    /// Ends every process that carries a mark of `unfinished`, its descendants, and its process
    /// group where one user owns all of that: SIGTERM once, the grace, SIGKILL. Returns how many
    /// there were when none is left. Blocks meanwhile; any thread may call it.
    fn end_leftovers(&self, instance: InstanceId, unfinished: &Unfinished) -> usize;
}

/// The vessel runs and notifications that a server may have been running when it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    pub vessel_runs: HashSet<VesselRunId>,
    /// The ids that receivers see.
    pub notifications: HashSet<String>,
}

impl Unfinished {
    pub fn is_empty(&self) -> bool {
        self.vessel_runs.is_empty() && self.notifications.is_empty()
    }

    /// The marks that the server `instance` has given to their processes.
    fn marks(&self, instance: InstanceId) -> Marks {
        let vessel_runs = self.vessel_runs.iter().map(|id| Mark::of_vessel_run(instance, *id));
        let notifications = self.notifications.iter();
        vessel_runs.chain(notifications.map(|id| Mark::of_notification(instance, id))).collect()
    }
}

/// One attempt of a vessel, ready to start.
#[derive(Clone, Copy)]
pub struct Launch<'a> {
    pub run: RunId,
    pub vessel_run: VesselRunId,
    pub attempt: u32,
    pub program: &'a Program,
    /// `None`: the run's work directory.
    pub working_directory: Option<&'a str>,
    /// By which engine the program runs; `None`: as a process of this machine.
    pub runner: Option<&'a Runner>,
    /// Whether another attempt of the vessel may have left something with that engine.
    pub cleans_first: bool,
    /// The name of the user to run as; `None`: the server's own.
    pub user: Option<&'a str>,
    pub confinement: &'a Confinement,
    /// The whole environment.
    pub environment: &'a Environment,
    /// The secrets that words of the program refer to.
    pub references: &'a [(SecretName, String)],
    /// The values in `environment` and `references` to mask in the output.
    pub secrets: &'a [String],
    pub payload: &'a dyn Payload,
    /// The longest the attempt may take; zero: no cutoff.
    pub runtime_cutoff: Duration,
    /// Whether it gets a file for the response to the sender of its request.
    pub may_answer: bool,
    /// Whether an earlier attempt or vessel of the run has used the work directory. If it is
    /// missing then, the vessel's log says so.
    pub expects_directory: bool,
    /// The first lines of the vessel's log.
    pub notices: &'a [String],
}

impl<'a> Launch<'a> {
    /// Whether a runner starts the program, which may do so in an image or on another machine.
    fn runs_elsewhere(&self) -> bool {
        self.runner.is_some_and(|runner| !runner.command.is_empty())
    }

    /// The program, as it is resolved at the start.
    fn invocation(&self) -> Invocation<'a> {
        let Self { program, environment, references, runner, .. } = *self;
        let prefix = runner.map_or(&[][..], |runner| &runner.command);
        Invocation { prefix, program, environment, references }
    }
}

/// The request that triggered the run. Read from the database at every start.
pub trait Payload: Send + Sync {
    /// The content of the headers file; `None` when there are no headers.
    fn headers_json(&self) -> Option<&[u8]>;

    /// Bytes of the body; 0 when there is none.
    fn body_bytes(&self) -> u64;

    /// The body from its first byte.
    fn open_body(&self) -> Box<dyn Read + Send + '_>;
}

/// The input of a program that the server runs for itself: bytes, and no headers.
struct Input<'a>(&'a [u8]);

impl Payload for Input<'_> {
    fn headers_json(&self) -> Option<&[u8]> {
        None
    }

    fn body_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn open_body(&self) -> Box<dyn Read + Send + '_> {
        Box::new(self.0)
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub struct Ended {
    pub how: HowEnded,
    pub output: CapturedOutput,
    /// The response to the sender of its request.
    pub answer: Option<VesselAnswer>,
}

/// The ways an attempt can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HowEnded {
    /// The program exited with this code.
    Exited(i32),
    /// A signal ended it, sent by any process or by a stop.
    Signaled(i32),
    /// The kernel's out-of-memory killer ended it, or a process of its shell, which then exited
    /// with this code.
    OutOfMemory { exit_code: Option<i32> },
    /// It reached its `runtime_cutoff`.
    CutOff,
    /// The server stopped it to stop itself. The next server resumes it.
    Abandoned,
    /// It could not be started. The reason is in its log as well.
    NotStarted(String),
    /// The machine lacks resources for a start. It is started when they are there again.
    Postponed(Shortage),
}

/// The names of the headers file and the body file in the work directory.
pub fn parameter_file_names(run: RunId) -> (String, String) {
    (format!("{run}.webhook_headers"), format!("{run}.webhook_body"))
}

/// Why a work directory could not be prepared. [`start_error::no_work_directory`] is its text.
#[derive(Debug)]
struct DirectoryError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}
