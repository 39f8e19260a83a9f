//! Cleanups: the command of a runner that ends what an attempt may have left with the runner's engine,
//! such as `scancel` for Slurm. It runs as the vessel does, in its environment and its directory, and
//! its output belongs to the vessel's log.
//!
//! It runs before an attempt that may follow another one, and after every end that was not the
//! client's own. A server that finds attempts of an earlier one runs theirs. No stop ends it: while it
//! runs, the attempt is not over.

use std::path::Path;
use std::time::{Duration, Instant};

use super::output::LiveOutput;
use super::resolve::resolve;
use super::shortage::StartError;
use super::start::{Start, VesselLimits};
use super::start_error;
use super::stop::StopSignal;
use super::user::Identity;
use super::wait::{Bounds, wait};
use super::{HowEnded, Input, Launch};
use crate::model::duration::format_duration;
use crate::model::fleet::Program;

/// How long a cleanup may take when the server stops. The next server repeats it.
pub(super) const ABANDONED_CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the programs of an attempt run, and as which user.
pub(super) struct Place<'a> {
    /// `None`: the server's own user.
    pub identity: Option<&'a Identity>,
    pub directory: &'a Path,
    /// The work directory of the run.
    pub work: &'a Path,
    pub limits: VesselLimits,
    pub kill_grace: Duration,
}

impl Place<'_> {
    /// Runs the cleanup of the attempt's runner, if it has one, for `timeout_max` at most. An exit
    /// code other than 0 is a line in the log: many engines so answer when there is nothing to end.
    ///
    /// # Errors
    /// When it did not start or did not end. What the attempt has left may still run.
    pub fn clean_up(
        &self,
        launch: &Launch<'_>,
        timeout_max: Duration,
        output: &LiveOutput,
    ) -> Result<(), StartError> {
        let Some(runner) = launch.runner.filter(|runner| !runner.cleanup.is_empty()) else {
            return Ok(());
        };
        let invocation = launch.invocation();
        let words: Vec<_> = runner.cleanup.iter().map(|word| invocation.expanded(word)).collect();
        output.append_line(&format!("boathook: cleanup: {}", words.join(" ")));
        let program = Program::command(words.iter().map(|word| &**word));
        let step = Launch { program: &program, runner: None, payload: &Input(&[]), ..*launch };
        let resolved = resolve(&step.invocation(), self.directory, self.work)?;
        let (directory, limits) = (self.directory, self.limits);
        let start = Start { launch: &step, program: &resolved, directory, limits };
        let unstoppable = StopSignal::new().map_err(|errno| {
            let error = errno.into();
            StartError::of(&error, start_error::no_descriptors(&error))
        })?;
        let started = start.spawn(self.identity.cloned(), Vec::new())?;
        let timeout = runner.cleanup_timeout.min(timeout_max);
        let bounds =
            Bounds { cutoff_at: Instant::now().checked_add(timeout), kill_grace: self.kill_grace };
        let how = match wait(started, &bounds, &unstoppable, output) {
            HowEnded::Exited(0) => return Ok(()),
            HowEnded::CutOff => {
                let timeout = format_duration(timeout);
                let reason = format!("it did not end within {timeout} (`cleanup_timeout`)");
                return Err(StartError::Vessel(reason));
            }
            HowEnded::Exited(code) => format!("exit code {code}"),
            HowEnded::Signaled(signal) => format!("signal {signal}"),
            how => format!("{how:?}"),
        };
        output.append_line(&format!("boathook: the cleanup ended with {how}"));
        Ok(())
    }
}
