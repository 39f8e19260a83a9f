//! Programs that the server runs for itself, such as notifying commands: started like a vessel,
//! without a work directory and without a log.

use std::path::Path;
use std::time::{Duration, Instant};

use super::mark::{INSTANCE_VARIABLE, NOTIFICATION_VARIABLE};
use super::output::{Kept, LiveOutput};
use super::resolve::resolve;
use super::shortage::{Shortage, StartError};
use super::start::{Start, VesselLimits};
use super::stop::StopSignal;
use super::wait::{Bounds, wait};
use super::{HowEnded, Input, Launch};
use crate::model::confinement::Confinement;
use crate::model::environment::Environment;
use crate::model::fleet::Program;
use crate::model::ids::{InstanceId, RunId};
use crate::model::text::without_cut_start;

/// The working directory of helper processes.
const DIRECTORY: &str = "/";
/// Bytes at the end of the output that an error shows.
const LAST_WORDS_BYTES: usize = 300;

/// A program to run, and its input.
pub struct HelperProcess<'a> {
    /// The server that runs it.
    pub instance: InstanceId,
    /// The run that the notification is about.
    pub run: RunId,
    /// The notification that it delivers. Instance and notification identify the process after a
    /// crash.
    pub notification: &'a str,
    /// Begins with an absolute path.
    pub command: &'a [String],
    pub input: &'a [u8],
    pub timeout: Duration,
    pub kill_grace: Duration,
    pub limits: VesselLimits,
}

impl HelperProcess<'_> {
    /// Runs the program. True when it exited with 0, false when `stop` ended it.
    ///
    /// # Errors
    /// Its end, or why it could not be started, with the end of its output.
    pub fn run(&self, stop: &StopSignal) -> Result<bool, String> {
        if stop.raised().is_some() {
            return Ok(false);
        }
        let environment = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", DIRECTORY),
            ("LANG", "C.UTF-8"),
            ("BOATHOOK_FLEET_RUN_ID", &self.run.to_string()),
            (INSTANCE_VARIABLE, &self.instance.to_string()),
            (NOTIFICATION_VARIABLE, self.notification),
        ];
        let environment = Environment::from_iter(environment);
        let program = Program::command(self.command.iter().map(String::as_str));
        let launch = Launch {
            run: self.run,
            vessel_run: self.run.vessel_run(0),
            attempt: 0,
            program: &program,
            working_directory: None,
            runner: None,
            cleans_first: false,
            user: None,
            confinement: &Confinement::default(),
            environment: &environment,
            payload: &Input(self.input),
            runtime_cutoff: self.timeout,
            may_answer: false,
            expects_directory: false,
            notices: &[],
            references: &[],
            secrets: &[],
        };
        let directory = Path::new(DIRECTORY);
        let program = resolve(&launch.invocation(), directory, directory)?;
        let start = Start { launch: &launch, program: &program, directory, limits: self.limits };
        let started = start.spawn(None, Vec::new()).map_err(StartError::reason)?;
        let cutoff_at = Instant::now().checked_add(self.timeout);
        let bounds = Bounds { cutoff_at, kill_grace: self.kill_grace };
        let output = LiveOutput::default();
        let how = match wait(started, &bounds, stop, &output) {
            HowEnded::Exited(0) => return Ok(true),
            HowEnded::Abandoned => return Ok(false),
            HowEnded::Exited(code) => format!("exit code {code}"),
            HowEnded::Signaled(signal) => format!("ended by signal {signal}"),
            HowEnded::OutOfMemory { .. } => "ended by the kernel for want of memory".to_owned(),
            HowEnded::CutOff => format!("not done after {} s", self.timeout.as_secs()),
            HowEnded::NotStarted(why) | HowEnded::Postponed(Shortage { reason: why, .. }) => why,
        };
        Err(match output.capture().kept {
            Kept::Inline(bytes) => {
                let last = match bytes.len().checked_sub(LAST_WORDS_BYTES) {
                    Some(cut @ 1..) => without_cut_start(&bytes[cut..]),
                    _ => &bytes,
                };
                format!("{how}: {}", String::from_utf8_lossy(last).trim())
            }
            _ => how,
        })
    }
}
