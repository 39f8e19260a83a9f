//! [`ProcessLauncher`]: prepares the work directory and the program of a vessel, starts it
//! ([`super::start`]) and supervises it ([`super::wait`]).

use std::borrow::Cow;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkout::{Checkout, Run};
use super::cleanup::{ABANDONED_CLEANUP_TIMEOUT, Place};
use super::last_words::{LAST_WORDS_BYTES, explanation, of_start_error};
use super::mark::Mark;
use super::oom::OomKills;
use super::output::LiveOutput;
use super::packages::cache::PackageCache;
use super::packages::install::{Installer, Packages};
use super::resolve::resolve;
use super::response_file::read_response;
use super::shim;
use super::shortage::{self, Shortage, StartError};
use super::start::{Start, VesselLimits};
use super::start_error;
use super::stop::{Stop, StopSignal};
use super::termination::{Termination, named};
use super::user::{Identity, identity};
use super::wait::{Bounds, wait};
use super::workdir::WorkDirectories;
use super::{DirectoryError, Ended, HowEnded, Launch, Launcher, Unfinished};
use crate::config::Settings;
use crate::model::ids::{InstanceId, RunId};
use crate::model::metrics::{Histogram, LATENCY_BOUNDS};
use crate::os::control_groups::Supervisor;

/// Starts vessels as processes. No other code of this process may wait for children, and SIGCHLD
/// must not be ignored: exit statuses would be lost.
#[derive(Debug)]
pub struct ProcessLauncher {
    settings: Arc<Settings>,
    /// Holds a file for each attempt whose output is not small.
    output_dir: PathBuf,
    vessel_limits: VesselLimits,
    work_directories: WorkDirectories,
    packages: PackageCache,
    /// The durations of spawns.
    spawning: Arc<Histogram>,
    oom_kills: OomKills,
    /// Whether systemd runs the server, whose unit may have a sandbox.
    is_service: bool,
}

impl ProcessLauncher {
    /// A launcher with its directories, made where they are missing, mode 0700. Their paths are
    /// absolute.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn new(
        settings: Arc<Settings>,
        output_dir: PathBuf,
        vessel_limits: VesselLimits,
    ) -> io::Result<Self> {
        for directory in [&settings.work_dir, &output_dir] {
            debug_assert!(directory.is_absolute(), "programs start elsewhere: {directory:?}");
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        if !settings.allowed_users.is_empty() {
            open_to_others(&settings.work_dir, "work_dir")?;
            start_error::warn_of_other_users(&settings.work_dir);
        }
        let work_directories = WorkDirectories::new(settings.work_dir.clone());
        let packages = PackageCache::open(&settings)?;
        let spawning = Arc::new(Histogram::of_durations(&LATENCY_BOUNDS));
        Ok(Self {
            settings,
            output_dir,
            vessel_limits,
            work_directories,
            packages,
            spawning,
            oom_kills: OomKills::of_process(),
            is_service: matches!(Supervisor::of_process(), Supervisor::Service(_)),
        })
    }

    /// The durations of spawns.
    pub fn spawning(&self) -> Arc<Histogram> {
        Arc::clone(&self.spawning)
    }

    /// Starts the vessel and waits for its end.
    ///
    /// # Errors
    /// Why it could not be started.
    fn run(
        &self,
        launch: &Launch<'_>,
        stop: &StopSignal,
        output: &LiveOutput,
    ) -> Result<HowEnded, StartError> {
        // Nothing of an earlier attempt may run any more. That takes time, in which a stop may come.
        self.end_earlier_attempts(launch, output);
        if let Some(how) = stopped_early(stop)? {
            return Ok(how);
        }
        // The user, and the directory that it owns.
        let allowed = &self.settings.allowed_users;
        let identity = launch.user.map(|name| identity(name, allowed)).transpose();
        let identity = identity.map_err(|why| format!("user: {why}"))?;
        let work = self.work_directories.prepare(launch, identity.as_ref());
        let work = work.map_err(|error| self.no_work_directory(&error, launch))?;
        if work.is_new && launch.expects_directory {
            output.append_line(
                "boathook: the work directory of this run was gone; this is a new one, without the \
                 files that earlier vessels have left in it",
            );
        }
        let directory = match launch.working_directory {
            None => Cow::Borrowed(work.path.as_path()),
            Some(directory) => Cow::Owned(work.path.join(directory)),
        };
        let place = self.place(identity.as_ref(), &directory, &work.path);
        if launch.cleans_first {
            place.clean_up(launch, Duration::MAX, output).map_err(keeps_from_starting)?;
            if let Some(how) = stopped_early(stop)? {
                return Ok(how);
            }
        }
        // The cutoff covers clone, packages and program.
        let cutoff_at = match launch.runtime_cutoff {
            Duration::ZERO => None,
            cutoff => Instant::now().checked_add(cutoff),
        };
        let limits = self.vessel_limits;
        let bounds = Bounds { cutoff_at, kill_grace: self.settings.kill_grace };
        let oom_kills_before = self.oom_kills.before();
        let mut step = |step: &Launch<'_>, directory: &Path, output: &LiveOutput| {
            let program = resolve(&step.invocation(), directory, &work.path)?;
            let start = Start { launch: step, program: &program, directory, limits };
            let started = start.spawn(identity.clone(), Vec::new())?;
            Ok(wait(started, &bounds, stop, output))
        };
        let needed = Needed { launch, work: &work.path, identity: identity.as_ref(), output };
        let is_over = || {
            stop.raised().is_some()
                || cutoff_at.is_some_and(|cutoff_at| Instant::now() >= cutoff_at)
        };
        let packages = match self.bring(&needed, &mut step, &is_over)? {
            // A stop or a cutoff of the clone or the installation ends the vessel.
            Packages::Ended(how) => return Ok(self.oom_kills.explain(how, oom_kills_before)),
            Packages::Interrupted => return Ok(stopped_early(stop)?.unwrap_or(HowEnded::CutOff)),
            packages => packages,
        };
        let launch = &packages.launch(launch);
        // The program, which sees the directory as clone and installation have left it.
        let program = resolve(&launch.invocation(), &directory, &work.path)?;
        let start = Start { launch, program: &program, directory: &directory, limits };
        let begun = Instant::now();
        let started = start.spawn(identity.clone(), work.body_start).inspect_err(|error| {
            if matches!(error, StartError::Machine(Shortage { has_started: true, .. })) {
                clean_up_after(&place, launch, stop, output);
            }
        })?;
        self.spawning.observe_duration(begun.elapsed());
        let how = wait(started, &bounds, stop, output);
        let how = self.oom_kills.explain(how, oom_kills_before);
        let last_words = || output.end_of(LAST_WORDS_BYTES);
        if let Some(line) = explanation(&how, last_words, self.is_service) {
            output.append_line(&format!("boathook: {line}"));
        }
        if !matches!(how, HowEnded::Exited(_)) || stop.raised().is_some() {
            clean_up_after(&place, launch, stop, output);
        }
        Ok(how)
    }

    /// Clones the repository of the vessel's code and has its packages there.
    ///
    /// # Errors
    /// Why one of them is missing.
    fn bring<'a>(
        &'a self,
        needed: &Needed<'a>,
        step: Run<'_>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Packages<'a>, StartError> {
        let Needed { launch, work, identity, output } = *needed;
        if let Some(checkout) = Checkout::of(launch, work, output)
            && let Some(how) = checkout.run(step)?
        {
            return Ok(Packages::Ended(how));
        }
        let (cache, is_allowed) = (&self.packages, self.settings.install_packages);
        Installer { cache, is_allowed, launch, work, identity, log: output }.run(step, is_over)
    }

    fn place<'a>(
        &self,
        identity: Option<&'a Identity>,
        directory: &'a Path,
        work: &'a Path,
    ) -> Place<'a> {
        let (limits, kill_grace) = (self.vessel_limits, self.settings.kill_grace);
        Place { identity, directory, work, limits, kill_grace }
    }

    /// Runs the cleanup of an attempt of an earlier server, in the work directory as it is.
    ///
    /// # Errors
    /// When it did not start or did not end.
    fn clean_up_interrupted(
        &self,
        launch: &Launch<'_>,
        output: &LiveOutput,
    ) -> Result<(), StartError> {
        let allowed = &self.settings.allowed_users;
        let identity = launch.user.map(|name| identity(name, allowed)).transpose();
        let identity = identity.map_err(|why| format!("user: {why}"))?;
        let work = self.work_directories.prepare(launch, identity.as_ref());
        let work = work.map_err(|error| self.no_work_directory(&error, launch))?.path;
        let directory = launch.working_directory.map(|directory| work.join(directory));
        let directory = directory.as_deref().unwrap_or(&work);
        let place = self.place(identity.as_ref(), directory, &work);
        place.clean_up(launch, Duration::MAX, output)
    }

    /// Ends processes that earlier attempts of the vessel have left.
    fn end_earlier_attempts(&self, launch: &Launch<'_>, output: &LiveOutput) {
        if launch.attempt <= 1 {
            return;
        }
        let Some(mark) = Mark::in_environment(launch.environment) else { return };
        let report = Termination::of_marked([mark].into()).run(self.settings.kill_grace);
        let ended = report.found.saturating_sub(report.left.len());
        if ended > 0 {
            output.append_line(&format!(
                "boathook: ended what an earlier attempt had left running: {ended} process(es)"
            ));
        }
        if let Some(line) = report.what_is_left() {
            output.append_line(&line);
        }
    }

    /// The error of a start without a work directory. It is the machine's, unless the vessel's
    /// files can never fit or the quota of the vessel's user is exhausted.
    fn no_work_directory(&self, error: &DirectoryError, launch: &Launch<'_>) -> StartError {
        let reason = start_error::no_work_directory(error);
        let is_full = error.source.kind() == io::ErrorKind::StorageFull;
        if is_full && shortage::never_fits(&self.settings.work_dir, work_bytes(launch)) {
            return StartError::Vessel(reason);
        }
        let is_quota = error.source.kind() == io::ErrorKind::QuotaExceeded;
        match error.action {
            "make" => StartError::machine(reason),
            _ if is_quota && launch.user.is_some() => StartError::Vessel(reason),
            _ => StartError::of(&error.source, reason),
        }
    }
}

/// What the code of a vessel is brought for.
struct Needed<'a> {
    launch: &'a Launch<'a>,
    work: &'a Path,
    identity: Option<&'a Identity>,
    output: &'a LiveOutput,
}

/// The end of an attempt that a stop keeps from starting.
///
/// # Errors
/// When a person stopped it.
fn stopped_early(stop: &StopSignal) -> Result<Option<HowEnded>, StartError> {
    match stop.raised() {
        None => Ok(None),
        Some(Stop::Abandon) => Ok(Some(HowEnded::Abandoned)),
        Some(Stop::Requested) => Err("it was stopped before it was started".to_owned().into()),
    }
}

/// Why an attempt does not start after a cleanup that has not ended.
fn keeps_from_starting(error: StartError) -> StartError {
    match error {
        StartError::Vessel(reason) => StartError::Vessel(format!(
            "not started, as an earlier attempt may still be running: the runner's cleanup: {reason}"
        )),
        StartError::Machine(shortage) => StartError::Machine(shortage),
    }
}

/// Runs the runner's cleanup after an end that was not the client's own.
fn clean_up_after(place: &Place<'_>, launch: &Launch<'_>, stop: &StopSignal, output: &LiveOutput) {
    let timeout_max = match stop.raised() {
        Some(Stop::Abandon) => ABANDONED_CLEANUP_TIMEOUT,
        Some(Stop::Requested) | None => Duration::MAX,
    };
    if let Err(error) = place.clean_up(launch, timeout_max, output) {
        output.append_line(&format!("boathook: the cleanup failed: {}", error.reason()));
    }
}

/// Bytes of the files that the work directory of a vessel gets.
fn work_bytes(launch: &Launch<'_>) -> u64 {
    let headers = launch.payload.headers_json().map_or(0, |headers| headers.len() as u64);
    launch.payload.body_bytes().saturating_add(headers)
}

impl Launcher for ProcessLauncher {
    fn directory(&self, run: RunId) -> PathBuf {
        self.work_directories.path(run)
    }

    fn has_directory(&self, run: RunId) -> bool {
        self.work_directories.exists(run)
    }

    fn launch(&self, launch: &Launch<'_>, stop: &StopSignal, output: &LiveOutput) -> Ended {
        let bytes_max = self.settings.max_output_bytes;
        output.begin(&self.output_dir, launch.vessel_run, launch.attempt, bytes_max);
        output.hide(launch.secrets);
        for notice in launch.notices {
            output.append_line(notice);
        }
        // The reason also goes into the vessel's record, where no secret may show.
        let how = self.run(launch, stop, output).unwrap_or_else(|error| match error {
            StartError::Vessel(reason) => HowEnded::NotStarted(output.without_secrets(&reason)),
            StartError::Machine(Shortage { reason, has_started }) => {
                let reason = output.without_secrets(&reason);
                HowEnded::Postponed(Shortage { reason, has_started })
            }
        });
        if let HowEnded::NotStarted(reason) | HowEnded::Postponed(Shortage { reason, .. }) = &how {
            output.append_line(&format!("boathook: {reason}"));
            if let Some(line) = of_start_error(reason, self.is_service) {
                output.append_line(&format!("boathook: {line}"));
            }
        }
        let answer = match &how {
            HowEnded::NotStarted(_) | HowEnded::Postponed(_) | HowEnded::Abandoned => None,
            _ if !launch.may_answer => None,
            _ => {
                let work = self.work_directories.path(launch.run);
                let bytes_max = self.settings.max_response_bytes;
                read_response(&work, launch.vessel_run, bytes_max, output)
            }
        };
        Ended { how, output: output.capture(), answer }
    }

    fn shortage(&self, bytes: u64) -> Option<String> {
        let lack_of_packages =
            || self.settings.install_packages.then(|| self.packages.lack_of_room()).flatten();
        shortage::find(&self.settings.work_dir, bytes).or_else(lack_of_packages)
    }

    fn check_user(&self, name: &str) -> Result<(), String> {
        let identity = identity(name, &self.settings.allowed_users);
        identity.and_then(|identity| shim::try_to_become(&identity)).map_err(String::from)
    }

    fn clean_up(&self, launch: &Launch<'_>, output: &LiveOutput) {
        output.hide(launch.secrets);
        output.append_line("boathook: the server ended during this attempt");
        if let Err(error) = self.clean_up_interrupted(launch, output) {
            let reason = output.without_secrets(&error.reason());
            output.append_line(&format!("boathook: the cleanup failed: {reason}"));
            log::warn!(vessel_run:% = launch.vessel_run, reason; "the cleanup of an interrupted attempt failed");
        }
    }

    fn wipe_directory(&self, run: RunId) {
        self.work_directories.wipe(run);
    }

    fn retire_directory(&self, run: RunId) {
        self.work_directories.retire(run);
    }

    fn wipe_retired(&self, run: RunId) {
        self.work_directories.wipe_retired(run);
    }

    fn sweep_directories(&self, is_done: &dyn Fn(RunId) -> bool) {
        self.work_directories.sweep(is_done);
    }

    fn end_leftovers(&self, instance: InstanceId, unfinished: &Unfinished) -> usize {
        if unfinished.is_empty() {
            return 0;
        }
        let report = Termination::of_marked(unfinished.marks(instance));
        let report = report.run(self.settings.kill_grace);
        if !report.left.is_empty() {
            let processes = named(report.left.iter().cloned());
            log::error!(processes; "leftovers of a crash could not be ended");
        }
        report.found
    }
}

/// Lets other users pass through the directory of the work directories, or of the packages. Each
/// directory in it is private to its user. `setting` names it.
pub(super) fn open_to_others(directory: &Path, setting: &str) -> io::Result<()> {
    let found = std::fs::metadata(directory)?;
    let mode = found.permissions().mode();
    if mode & 0o022 != 0 || found.uid() != rustix::process::geteuid().as_raw() {
        // Another user could replace a directory in it.
        return Err(io::Error::other(format!(
            "with allowed_users, {setting} must be a directory that the server owns and no other \
             user may write to",
        )));
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode | 0o011))
}

#[cfg(test)]
mod tests;
