//! Starts vessels as local processes and sees them to their end: the only place that starts
//! processes, owns work directories or captures output. Knows nothing of the queue or the database.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::confinement::Confinement;
use crate::model::fleet::Program;
use crate::model::ids::{InstanceId, RunId, VesselRunId};

mod checkout;
mod feed;
mod group;
pub mod helper_process;
mod last_words;
mod mark;
mod oom;
pub mod orphans;
pub mod output;
pub mod process;
mod process_table;
pub mod reason;
pub mod resolve;
mod script;
pub mod shim;
pub mod shortage;
pub mod start_error;
pub mod stop;
mod termination;
mod tree;
pub mod user;
mod wait;
mod workdir;

use mark::{Mark, Marks};
use output::{CapturedOutput, LiveOutput};
use shortage::Shortage;
use stop::StopSignal;

/// Starts vessels. A trait so that simulations can replace processes by decisions.
pub trait Launcher: Send + Sync {
    /// The work directory of `run`, whether it exists or not.
    fn directory(&self, run: RunId) -> PathBuf;

    /// Whether the work directory of `run` exists.
    fn has_directory(&self, run: RunId) -> bool;

    /// Runs one attempt of a vessel to its end and returns how it ended. Blocks meanwhile.
    ///
    /// `output` receives what the vessel writes, as it writes it; the caller finishes it once the
    /// end is settled. When `stop` is raised or the cutoff is due, all that the attempt has
    /// started gets SIGTERM, whatever group or session it is in, and after the grace SIGKILL; when
    /// this returns, nothing of it is left. When the vessel ends by itself, its process group is
    /// ended with it; the log names what it has left running elsewhere. That is ended before the
    /// next attempt starts.
    fn launch(&self, launch: &Launch<'_>, stop: &StopSignal, output: &LiveOutput) -> Ended;

    /// Whether vessels may run as the user called `name`, as far as can be told before one does.
    ///
    /// # Errors
    /// Why not, for a person.
    fn check_user(&self, _name: &str) -> Result<(), String> {
        Ok(())
    }

    /// What the machine lacks at the moment for a vessel to start whose work directory takes
    /// `bytes`, for a person; `None` when it lacks nothing. Tries it out, without a vessel.
    fn shortage(&self, _bytes: u64) -> Option<String> {
        None
    }

    /// Removes the work directory of `run`, if there is one. Failures are logged.
    fn wipe_directory(&self, run: RunId);

    /// Removes the work directory of every run that `is_done`: what a crash left behind. Others may
    /// keep things in the same place, so what nobody vouches for stays.
    fn sweep_directories(&self, is_done: &dyn Fn(RunId) -> bool);

    /// Ends every process that carries the mark of something unfinished, its descendants, and its
    /// process group where all of that is of one user: SIGTERM once, the grace, SIGKILL. Returns how
    /// many there were, once none is left. Blocks meanwhile; any thread may call it.
    fn end_leftovers(&self, instance: InstanceId, unfinished: &Unfinished) -> usize;
}

/// What a server may have been running when it came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    pub vessel_runs: HashSet<VesselRunId>,
    /// The ids that their receivers know them by.
    pub notifications: HashSet<String>,
}

impl Unfinished {
    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.vessel_runs.is_empty() && self.notifications.is_empty()
    }

    /// The marks that the server called `instance` has given to the processes.
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
    /// The name of the user to run as; `None`: the server's own.
    pub user: Option<&'a str>,
    pub confinement: &'a Confinement,
    /// The whole environment.
    pub environment: &'a [(String, String)],
    /// The values in `environment` that must not show in the output.
    pub secrets: &'a [String],
    pub payload: &'a dyn Payload,
    /// The longest the attempt may take; zero: no cutoff.
    pub runtime_cutoff: Duration,
    /// Whether the work directory was made for an earlier attempt or vessel of the run. When it is
    /// not there the vessel's log says so.
    pub expects_directory: bool,
    /// Lines that go to the vessel's log before anything the vessel writes.
    pub notices: &'a [String],
}

/// The triggering request as a vessel gets it. Read from the database at every start.
pub trait Payload: Send + Sync {
    /// The content of the headers file; `None` when there are no headers.
    fn headers_json(&self) -> Option<&[u8]>;

    /// Bytes of the body; 0 when there is none.
    fn body_bytes(&self) -> u64;

    /// The body from its first byte.
    fn open_body(&self) -> Box<dyn Read + Send + '_>;
}

/// How an attempt ended.
#[derive(Debug)]
pub struct Ended {
    pub how: HowEnded,
    pub output: CapturedOutput,
}

/// The ways an attempt can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HowEnded {
    /// The program exited with this code.
    Exited(i32),
    /// A signal ended it, of its own or as the end of a stop.
    Signaled(i32),
    /// The kernel ended it for want of memory, or a process of it: then its shell exited with this
    /// code.
    OutOfMemory { exit_code: Option<i32> },
    /// It ran into its `runtime_cutoff` and was ended.
    CutOff,
    /// The server stops: it was ended before its time and is to be resumed.
    Abandoned,
    /// It could not be started; the reason is in its log, too.
    NotStarted(String),
    /// The machine lacks what a start takes: it is to be started when the machine has it again.
    Postponed(Shortage),
}

/// File names, within the work directory, of what the triggering request left: (headers, body).
pub fn parameter_file_names(run: RunId) -> (String, String) {
    (format!("{run}.webhook_headers"), format!("{run}.webhook_body"))
}

/// Why a work directory could not be made ready; [`start_error::no_work_directory`] puts it into words.
#[derive(Debug)]
struct DirectoryError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}
