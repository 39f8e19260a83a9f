//! [`ProcessLauncher`]: prepares the work directory, the program and the pipes of a vessel, and
//! starts it. [`super::wait`] supervises it.

use std::borrow::Cow;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, prlimit};

use super::checkout::Checkout;
use super::feed::Feed;
use super::group::ProcessGroup;
use super::last_words::{LAST_WORDS_BYTES, explanation, of_start_error};
use super::mark::{self, Mark};
use super::oom::{self, OomKills};
use super::orphans::with_usual_signals;
use super::output::LiveOutput;
use super::resolve::{Resolved, resolve};
use super::shim::{self, Orders, SHIM_TIME_MAX, Step};
use super::shortage::{self, Shortage, StartError};
use super::start_error::{self, VesselUser};
use super::stop::{Stop, StopSignal};
use super::termination::{Termination, named};
use super::user::{Identity, identity, pass_capabilities_on};
use super::wait::{Bounds, Started, wait};
use super::workdir::WorkDirectories;
use super::{DirectoryError, Ended, HowEnded, Launch, Launcher, Unfinished};
use crate::config::Settings;
use crate::model::defaults::is_default;
use crate::model::ids::{InstanceId, RunId};
use crate::model::metrics::{Histogram, LATENCY_BOUNDS};
use crate::os::control_groups::Supervisor;

/// The original values of the limits that the server has changed for itself; `None` for the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct VesselLimits {
    pub open_files: Option<Rlimit>,
    pub core: Option<Rlimit>,
}

impl VesselLimits {
    /// The limits that differ from the server's own.
    fn changed(self) -> impl Iterator<Item = (Resource, Rlimit)> {
        let named = [(Resource::Nofile, self.open_files), (Resource::Core, self.core)];
        named.into_iter().filter_map(|(resource, limit)| Some((resource, limit?)))
    }
}

/// Starts vessels as processes. No other code of this process may wait for children, and SIGCHLD
/// must not be ignored: exit statuses would be lost.
#[derive(Debug)]
pub struct ProcessLauncher {
    settings: Arc<Settings>,
    /// Holds a file for each attempt whose output is not small.
    output_dir: PathBuf,
    vessel_limits: VesselLimits,
    work_directories: WorkDirectories,
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
            open_to_others(&settings.work_dir)?;
            start_error::warn_of_other_users(&settings.work_dir);
        }
        let work_directories = WorkDirectories::new(settings.work_dir.clone());
        let spawning = Arc::new(Histogram::of_durations(&LATENCY_BOUNDS));
        Ok(Self {
            settings,
            output_dir,
            vessel_limits,
            work_directories,
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
        match stop.raised() {
            Some(Stop::Abandon) => return Ok(HowEnded::Abandoned),
            Some(Stop::Requested) => {
                return Err("it was stopped before it was started".to_owned().into());
            }
            None => {}
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
        // The cutoff covers clone and program.
        let cutoff_at = match launch.runtime_cutoff {
            Duration::ZERO => None,
            cutoff => Instant::now().checked_add(cutoff),
        };
        let limits = self.vessel_limits;
        let bounds = Bounds { cutoff_at, kill_grace: self.settings.kill_grace };
        let oom_kills_before = self.oom_kills.before();
        if let Some(checkout) = Checkout::of(launch, &work.path, output) {
            let git = checkout.run(&mut |step, output| {
                let program = resolve(step.program, step.environment, &work.path, &work.path)?;
                let directory = work.path.as_path();
                let start = Start { launch: step, program: &program, directory, limits };
                let started = start.spawn(identity.clone(), Vec::new())?;
                Ok(wait(started, &bounds, stop, output))
            })?;
            // A stop or a cutoff of the clone ends the vessel.
            if let Some(how) = git {
                return Ok(self.oom_kills.explain(how, oom_kills_before));
            }
        }
        // The program, which sees the directory as the clone has left it.
        let directory = match launch.working_directory {
            None => Cow::Borrowed(work.path.as_path()),
            Some(directory) => Cow::Owned(work.path.join(directory)),
        };
        let program = resolve(launch.program, launch.environment, &directory, &work.path)?;
        let start = Start { launch, program: &program, directory: &directory, limits };
        let begun = Instant::now();
        let started = start.spawn(identity, work.body_start)?;
        self.spawning.observe_duration(begun.elapsed());
        let how = wait(started, &bounds, stop, output);
        let how = self.oom_kills.explain(how, oom_kills_before);
        let last_words = || output.end_of(LAST_WORDS_BYTES);
        if let Some(line) = explanation(&how, last_words, self.is_service) {
            output.append_line(&format!("boathook: {line}"));
        }
        Ok(how)
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
        Ended { how, output: output.capture() }
    }

    fn shortage(&self, bytes: u64) -> Option<String> {
        shortage::find(&self.settings.work_dir, bytes)
    }

    fn check_user(&self, name: &str) -> Result<(), String> {
        let identity = identity(name, &self.settings.allowed_users);
        identity.and_then(|identity| shim::try_to_become(&identity)).map_err(String::from)
    }

    fn wipe_directory(&self, run: RunId) {
        self.work_directories.wipe(run);
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

/// Lets other users pass through the directory of the work directories. Each work directory is
/// private to its user.
fn open_to_others(work_dir: &Path) -> io::Result<()> {
    let found = std::fs::metadata(work_dir)?;
    let mode = found.permissions().mode();
    if mode & 0o022 != 0 || found.uid() != rustix::process::geteuid().as_raw() {
        // Another user could replace a work directory.
        return Err(io::Error::other(
            "with allowed_users, work_dir must be a directory that the server owns and no other \
             user may write to",
        ));
    }
    std::fs::set_permissions(work_dir, std::fs::Permissions::from_mode(mode | 0o011))
}

/// The start of a program in a process group of its own.
pub(super) struct Start<'a, 'l> {
    pub launch: &'a Launch<'l>,
    pub program: &'a Resolved<'a>,
    pub directory: &'a Path,
    /// The limits unless the fleet sets others.
    pub limits: VesselLimits,
}

impl<'a> Start<'a, '_> {
    /// Starts the program as `identity`, by default the server's own user. `body_start` holds the
    /// first bytes of its input if they were read before.
    ///
    /// # Errors
    /// Why it could not be started.
    pub fn spawn(
        &self,
        identity: Option<Identity>,
        body_start: Vec<u8>,
    ) -> Result<Started<'a>, StartError> {
        let (pipe, output) = output_pipe().map_err(|error| no_descriptors(&error))?;
        let (stdin, feed) = input(self.launch, body_start)?;
        if let Some(identity) = &identity {
            // An open of /dev/stdin or /dev/stderr opens the pipe anew, which takes its owner.
            let mut pipes = stdin.iter().map(AsFd::as_fd).chain([output.as_fd()]);
            let taken = pipes.try_for_each(|pipe| identity.take(pipe));
            taken.map_err(|errno| format!("user: its pipes cannot be handed over: {errno}"))?;
        }
        let stdin = stdin.map_or_else(Stdio::null, Stdio::from);
        pass_capabilities_on(identity.is_some())
            .map_err(|errno| format!("user: capabilities cannot be passed on: {errno}"))?;
        let confinement = self.launch.confinement;
        // Reserves a descriptor: a process that has started must be watched.
        let reserve = eventfd(0, EventfdFlags::CLOEXEC);
        let reserve = reserve.map_err(|errno| no_descriptors(&errno.into()))?;
        let mark = Mark::in_environment(self.launch.environment);
        let child = if identity.is_none() && is_default(confinement) {
            self.start_directly(mark, stdin, output)?
        } else {
            let pair = |limit: Rlimit| (limit.current, limit.maximum);
            let descriptors = self.limits.open_files.map(pair);
            let core = self.limits.core.map(pair);
            let confinement = confinement.clone();
            let orders = Orders { identity, confinement, descriptors, core, mark };
            self.start_by_shim(&orders, stdin, output)?
        };
        oom::expose(Pid::from_child(&child));
        drop(reserve);
        let (leader, pid) = watch(child)?;
        Ok(Started { leader, pid, mark, pipe, feed })
    }

    /// The standard library starts it by posix_spawn, at a cost that does not grow with our memory,
    /// as long as the path is absolute and nothing is asked for that posix_spawn cannot do
    /// (`pre_exec`, other users).
    fn start_directly(
        &self,
        mark: Option<Mark>,
        stdin: Stdio,
        output: OwnedFd,
    ) -> Result<Child, StartError> {
        let Self { launch, program, directory, .. } = self;
        let twin = output.try_clone().map_err(|error| no_descriptors(&error))?;
        let mut command = Command::new(&program.path);
        if let [name, arguments @ ..] = program.arguments.as_slice() {
            command.arg0(&**name).args(arguments.iter().map(|argument| &**argument));
        }
        command
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .process_group(0)
            .stdin(stdin)
            .stdout(output)
            .stderr(twin);
        let spawned = start(mark, &mut command);
        let child = spawned.map_err(|error| StartError::of(&error, self.reason(&error, None)))?;
        // posix_spawn knows no limits, so for a moment it has ours.
        for (resource, limit) in self.limits.changed() {
            if let Err(error) = prlimit(Some(Pid::from_child(&child)), resource, limit)
                && error != Errno::SRCH
            {
                log::warn!(error:%, limit:? = resource; "a vessel keeps a limit of the server's");
            }
        }
        Ok(child)
    }

    fn start_by_shim(
        &self,
        orders: &Orders,
        stdin: Stdio,
        output: OwnedFd,
    ) -> Result<Child, StartError> {
        let Self { launch, program, directory, .. } = self;
        let (report, for_report) = shim::report_pipe().map_err(|error| no_descriptors(&error))?;
        let mut command = shim::command(program, directory, orders, launch.environment);
        command.stdin(stdin).stdout(for_report).stderr(output);
        let spawned = start(orders.mark, &mut command);
        let mut child = spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                StartError::Vessel(start_error::no_shim(&error))
            }
            _ => StartError::of(&error, self.reason(&error, None)),
        })?;
        // Closes the shim's end of the pipe in this process.
        drop(command);
        let Err(failure) = shim::report(report, SHIM_TIME_MAX) else { return Ok(child) };
        // The shim has usually ended already.
        let _ = child.kill();
        let _ = child.wait();
        let error = io::Error::from_raw_os_error(failure.errno);
        let identity = orders.identity.as_ref();
        let reason = match &failure.step {
            Step::Program => self.reason(&error, identity),
            step => {
                let user = VesselUser { name: launch.user, identity };
                start_error::shim_error(step, &error, directory, user)
            }
        };
        // The limits are the vessel's own now. These errors are the machine's.
        let is_of_machine = match Errno::from_raw_os_error(failure.errno) {
            Errno::NFILE | Errno::IO => true,
            Errno::NOMEM => orders.confinement.limits.memory.is_none(),
            _ => false,
        };
        Err(match is_of_machine {
            true => StartError::machine(reason),
            false => StartError::Vessel(reason),
        })
    }

    fn reason(&self, error: &io::Error, identity: Option<&Identity>) -> String {
        let Self { launch, program, directory, .. } = self;
        start_error::reason(error, program, directory, launch, identity)
    }
}

fn start(mark: Option<Mark>, command: &mut Command) -> io::Result<Child> {
    let spawn = || with_usual_signals(|| command.spawn());
    match mark {
        Some(mark) => mark.give(spawn),
        None => mark::start_unmarked(spawn),
    }
}

/// A descriptor of the started process.
fn watch(mut child: Child) -> Result<(OwnedFd, Pid), StartError> {
    let leader = Pid::from_child(&child);
    pidfd_open(leader, PidfdFlags::empty()).map(|held| (held, leader)).map_err(|errno| {
        // A vessel that cannot be watched must not run.
        ProcessGroup::led_by(leader).signal(Signal::KILL);
        let _ = child.wait();
        let reason = start_error::no_descriptors(&errno.into());
        StartError::Machine(Shortage { reason, has_started: true })
    })
}

/// The error of a start without a pipe or another descriptor.
fn no_descriptors(error: &io::Error) -> StartError {
    StartError::of(error, start_error::no_descriptors(error))
}

/// One pipe for both output streams, which keeps their order: the server's end and the vessel's.
/// The server's end does not block, since the vessel could read from the pipe as well.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok((reader.into(), writer.into()))
}

/// The vessel's input and its feed. A body that fits in a pipe is written before the vessel starts
/// and needs no feed.
fn input<'a>(
    launch: &'a Launch<'_>,
    body_start: Vec<u8>,
) -> Result<(Option<PipeReader>, Option<Feed<'a>>), StartError> {
    let bytes = launch.payload.body_bytes();
    if bytes == 0 {
        return Ok((None, None));
    }
    let (reader, mut feed) = Feed::new(launch.payload.open_body(), bytes, body_start)
        .map_err(|error| no_descriptors(&error))?;
    feed.pump().map_err(|error| format!("the request's body could not be read: {error}"))?;
    let is_complete = feed.wants().is_none();
    Ok((Some(reader), (!is_complete).then_some(feed)))
}

#[cfg(test)]
mod tests;
