//! The start of a program: its pipes, its limits, its mark and its process.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use super::Launch;
use super::feed::Feed;
use super::mark::Mark;
use super::oom;
use super::resolve::Resolved;
use super::shim::{self, Orders, SHIM_TIME_MAX, Step};
use super::shortage::{Shortage, StartError};
use super::start_error::{self, VesselUser};
use super::user::{Identity, pass_capabilities_on};
use super::wait::Started;
use crate::model::defaults::is_default;
use crate::os::spawn::{Program, Spawn, SpawnError, Spawned};

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
        pass_capabilities_on(identity.is_some())
            .map_err(|errno| format!("user: capabilities cannot be passed on: {errno}"))?;
        let mark = Mark::in_environment(self.launch.environment);
        let limits = self.limits.changed().chain(mark.map(|mark| (Resource::Locks, mark.limit())));
        let limits: Vec<_> = limits.collect();
        let confinement = self.launch.confinement;
        let (stdin, output) = (stdin.as_ref().map(AsFd::as_fd), output.as_fd());
        let spawned = if identity.is_none() && is_default(confinement) {
            self.start_directly(&limits, stdin, output)?
        } else {
            let orders = Orders { identity, confinement: confinement.clone() };
            self.start_by_shim(&orders, &limits, stdin, output)?
        };
        let Spawned { pid, descriptor: leader } = spawned;
        oom::expose(pid);
        Ok(Started { leader, pid, mark, pipe, feed })
    }

    fn start_directly(
        &self,
        limits: &[(Resource, Rlimit)],
        stdin: Option<BorrowedFd<'_>>,
        output: BorrowedFd<'_>,
    ) -> Result<Spawned, StartError> {
        let Self { launch, program, directory, .. } = self;
        let variables = launch.environment.assignments();
        let program = Program::new(&program.path, directory)
            .with_arguments(program.arguments.iter().map(|word| word.as_bytes()))
            .with_variables(variables.map(str::as_bytes));
        let (stdout, stderr) = (output, output);
        let spawn = Spawn { program: &program, stdin, stdout, stderr, limits, leads_group: true };
        spawn.start().map_err(|error| unstarted(error, |error| self.reason(error, None)))
    }

    fn start_by_shim(
        &self,
        orders: &Orders,
        limits: &[(Resource, Rlimit)],
        stdin: Option<BorrowedFd<'_>>,
        output: BorrowedFd<'_>,
    ) -> Result<Spawned, StartError> {
        let Self { launch, program, directory, .. } = self;
        let (report, for_report) = shim::report_pipe().map_err(|error| no_descriptors(&error))?;
        let (stdout, stderr) = (for_report.as_fd(), output);
        let program = shim::program(program, directory, orders, launch.environment);
        // The leader of a group cannot begin a session (setsid(2)).
        let leads_group = orders.identity.is_none();
        let spawn = Spawn { program: &program, stdin, stdout, stderr, limits, leads_group };
        let child = spawn.start().map_err(|error| match error.source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                StartError::Vessel(start_error::no_shim(&error.source))
            }
            _ => unstarted(error, |error| self.reason(error, None)),
        })?;
        // The shim's end of the pipe in this process.
        drop(for_report);
        let Err(failure) = shim::report(report, SHIM_TIME_MAX) else { return Ok(child) };
        // The shim has usually ended already.
        child.kill();
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

/// The error of a start whose cause `reason` explains.
fn unstarted(error: SpawnError, reason: impl FnOnce(&io::Error) -> String) -> StartError {
    let SpawnError { source, has_started } = error;
    match has_started {
        true => {
            let reason = start_error::no_descriptors(&source);
            StartError::Machine(Shortage { reason, has_started })
        }
        false => StartError::of(&source, reason(&source)),
    }
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
