//! The start of a program: its pipes, its limits, its mark and its process.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, prlimit};

use super::Launch;
use super::feed::Feed;
use super::group::ProcessGroup;
use super::mark::{self, Mark};
use super::oom;
use super::orphans::with_usual_signals;
use super::resolve::Resolved;
use super::shim::{self, Orders, SHIM_TIME_MAX, Step};
use super::shortage::{Shortage, StartError};
use super::start_error::{self, VesselUser};
use super::user::{Identity, pass_capabilities_on};
use super::wait::Started;
use crate::model::defaults::is_default;

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
