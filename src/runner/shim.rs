//! Starts vessels that need more than a usual start offers: another user, limits, a niceness, a
//! umask. The server starts its own program with [`ARGUMENT`]. That process, the shim, sets itself
//! up and executes the vessel's program, so that the server never forks its own memory.
//!
//! The shim reports failures through a pipe that replaces its standard output. It moves the pipe to
//! another descriptor, marked close-on-exec: a pipe that ends without a report means that the
//! program has started.
//!
//! The shim is privileged until it has become another user. The vessel's environment cannot be
//! trusted before: the dynamic loader would obey an `LD_PRELOAD` in it. So the first byte of each
//! name is masked on the way. Names that only the server may set stay: after a crash the next
//! server finds the shim by them.

use std::ffi::{CString, OsString};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use serde::{Deserialize, Serialize};

use super::reason::Reason;
use super::resolve::Resolved;
use super::start_error::plain;
use super::user::{Identity, pass_capabilities_on, remedy_of_failure};
use crate::model::confinement::{Confinement, Limits};
use crate::model::environment::Environment;
use crate::os::spawn::Program;

/// How long the shim may take. It makes a dozen system calls, one of which enters a directory that
/// may be on a network.
pub(super) const SHIM_TIME_MAX: Duration = Duration::from_secs(30);

/// The first argument of the shim. `boathook help` does not show it.
const ARGUMENT: &str = "__start-vessel";
/// The running program, also after an update has replaced its file.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// Exit code of a shim that has failed. The report counts, not the code.
const EXIT_NOT_STARTED: u8 = 127;
/// The bit that is set in the first byte of a masked name. Names of variables are ASCII.
const MASK: u8 = 0x80;
/// Prefixes of names that are not masked: a fleet cannot set them.
const NOT_MASKED: [&str; 2] = ["SHIPYARD_", "BOATHOOK_"];
/// Bytes of a report: a step and a number.
const REPORT_BYTES_MAX: usize = 1024;

/// The setup that the shim performs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    /// The user to become; `None`: the server's own.
    pub identity: Option<Identity>,
    pub confinement: Confinement,
}

impl Orders {
    fn text(&self) -> String {
        // Numbers and options serialize without errors.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The step at which the shim failed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub step: Step,
    /// See errno(3).
    pub errno: i32,
}

/// The steps of the shim, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// Parse its orders.
    Orders,
    /// Leave the server's session.
    Session,
    Nice,
    /// Set the limit of this name.
    Limit(String),
    /// Become the user.
    User,
    /// Enter the working directory.
    Directory,
    /// Become the program.
    Program,
    /// All of that within [`SHIM_TIME_MAX`].
    InTime,
}

impl Failure {
    fn at(step: Step, errno: Errno) -> Self {
        Self { step, errno: errno.raw_os_error() }
    }
}

/// The shim that starts `program`, in a process group of its own when [`report`] has returned. Its
/// standard output must be the pipe that `report` reads, its standard error the vessel's output.
pub(super) fn program(
    program: &Resolved<'_>,
    directory: &Path,
    orders: &Orders,
    environment: &Environment,
) -> Program {
    let orders = orders.text();
    let own = [&b"boathook"[..], ARGUMENT.as_bytes(), orders.as_bytes()];
    let places = [directory, &program.path].map(|path| path.as_os_str().as_bytes());
    let arguments = program.arguments.iter().map(|argument| argument.as_bytes());
    let variables: Vec<_> = environment.assignments().map(masked).collect();
    Program::new(Path::new(OWN_PROGRAM), Path::new("/"))
        .with_arguments(own.into_iter().chain(places).chain(arguments))
        .with_variables(variables.iter().map(Vec::as_slice))
}

/// Whether a shim can become `identity`, tried out by a shim that starts nothing. Besides missing
/// capabilities, a filter of system calls, a namespace or a security module may forbid it.
///
/// # Errors
/// The reason, for a person.
pub fn try_to_become(identity: &Identity) -> Result<(), Reason> {
    let orders = Orders { identity: Some(identity.clone()), confinement: Confinement::default() };
    let failed = |says: &std::io::Error| {
        Reason::new(
            format!("this server cannot become another user: {}", plain(says)),
            remedy_of_failure(),
        )
    };
    pass_capabilities_on(true).map_err(|errno| failed(&errno.into()))?;
    let (pipe, for_report) = report_pipe().map_err(|error| failed(&error))?;
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0("boathook").arg(ARGUMENT).arg(orders.text()).arg("/").env_clear();
    command.stdin(Stdio::null()).stdout(for_report).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    // Closes the shim's end of the pipe in this process.
    drop(command);
    let report = report(pipe, SHIM_TIME_MAX);
    // Mostly it has ended already.
    let _ = child.kill();
    let _ = child.wait();
    report.map_err(|failure| failed(&std::io::Error::from_raw_os_error(failure.errno)))
}

/// Waits up to `within` until the program has started.
///
/// # Errors
/// The step at which the shim failed.
pub(super) fn report(mut pipe: PipeReader, within: Duration) -> Result<(), Failure> {
    let (deadline, mut report) = (Instant::now() + within, Vec::new());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(Failure::at(Step::InTime, Errno::TIMEDOUT)),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Failure::at(Step::Orders, errno)),
        }
        let mut buffer = [0; REPORT_BYTES_MAX];
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) if report.len() < REPORT_BYTES_MAX => report.extend(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return Err(Failure::at(Step::Orders, Errno::PROTO)),
        }
    }
    if report.is_empty() {
        return Ok(());
    }
    let failure = serde_json::from_slice(&report);
    Err(failure.unwrap_or_else(|_| Failure::at(Step::Orders, Errno::PROTO)))
}

/// In a shim: becomes the vessel's program, and returns only on failure. `None` in every other
/// process. Must be called before anything else.
pub fn take_over() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let said = |failure| serde_json::to_vec(&failure).unwrap_or_default();
    let _ = match set_status_aside() {
        Ok(status) => match start(arguments) {
            Ok(()) => return Some(ExitCode::SUCCESS),
            Err(failure) => std::fs::File::from(status).write_all(&said(failure)),
        },
        Err(errno) => std::io::stdout().write_all(&said(Failure::at(Step::Orders, errno))),
    };
    Some(ExitCode::from(EXIT_NOT_STARTED))
}

/// Moves the pipe of the report to a descriptor that closes at exec, and makes standard error both
/// output streams of the program.
fn set_status_aside() -> rustix::io::Result<OwnedFd> {
    const FIRST_FREE: i32 = 3;
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let status = rustix::io::fcntl_dupfd_cloexec(stdout.as_fd(), FIRST_FREE)?;
    rustix::stdio::dup2_stdout(stderr.as_fd())?;
    Ok(status)
}

/// Sets this process up and executes the program. Returns only on failure, or when no program is
/// named.
fn start(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let orders = arguments.next().and_then(|text| serde_json::from_slice(text.as_bytes()).ok());
    let (Some(orders), Some(directory)) = (orders, arguments.next()) else {
        return Err(Failure::at(Step::Orders, Errno::INVAL));
    };
    let Some(program) = arguments.next() else {
        return prepare(&orders, Path::new(&directory));
    };
    let c_string = |text: OsString| CString::new(text.into_vec()).unwrap_or_default();
    let program = c_string(program);
    let arguments: Vec<CString> = arguments.map(c_string).collect();
    let variables: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .map(|variable| CString::new(unmasked(variable)).unwrap_or_default())
        .collect();
    prepare(&orders, Path::new(&directory))?;
    let Err(error) = nix::unistd::execve(&program, &arguments, &variables);
    Err(Failure { step: Step::Program, errno: error as i32 })
}

fn prepare(orders: &Orders, directory: &Path) -> Result<(), Failure> {
    let Orders { identity, confinement: Confinement { limits, nice, umask } } = orders;
    if identity.is_some() {
        // A session of its own, and so a group. A process that shares the server's terminal could
        // type into the shell behind it (TIOCSTI, ioctl_tty(2)).
        rustix::process::setsid().map_err(|errno| Failure::at(Step::Session, errno))?;
    }
    if let Some(nice) = nice {
        rustix::process::setpriority_process(None, *nice)
            .map_err(|errno| Failure::at(Step::Nice, errno))?;
    }
    set_limits(limits)?;
    if let Some(identity) = identity {
        become_user(identity).map_err(|errno| Failure::at(Step::User, errno))?;
    }
    if let Some(umask) = umask {
        rustix::process::umask(Mode::from_raw_mode(*umask));
    }
    // As the user, who must be allowed to enter it.
    rustix::process::chdir(directory).map_err(|errno| Failure::at(Step::Directory, errno))?;
    forget_ignored_signal().map_err(|errno| Failure::at(Step::Program, errno))?;
    // Last, since it limits this process as well.
    limit(Resource::As, limits.memory, "memory")
}

fn set_limits(limits: &Limits) -> Result<(), Failure> {
    // The user lacks the privilege to raise a limit.
    if let Some(memory) = limits.memory
        && getrlimit(Resource::As).maximum.is_some_and(|maximum| memory > maximum)
    {
        limit(Resource::As, limits.memory, "memory")?;
    }
    limit_cpu_time(limits.cpu_time)?;
    limit(Resource::Nofile, limits.open_files, "open_files")?;
    limit(Resource::Nproc, limits.processes, "processes")?;
    limit(Resource::Fsize, limits.file_size, "file_size")
}

fn limit(resource: Resource, value: Option<u64>, name: &str) -> Result<(), Failure> {
    if value.is_none() {
        return Ok(());
    }
    set_limit(resource, Rlimit { current: value, maximum: value }, name)
}

/// The kernel sends SIGXCPU, which names the cause, at the soft limit, and SIGKILL at the hard one.
fn limit_cpu_time(seconds: Option<u64>) -> Result<(), Failure> {
    const GRACE_SECONDS: u64 = 5;
    let Some(current) = seconds else { return Ok(()) };
    let hard = getrlimit(Resource::Cpu).maximum.unwrap_or(u64::MAX);
    let maximum = current.saturating_add(GRACE_SECONDS).min(hard).max(current);
    set_limit(Resource::Cpu, Rlimit { current: seconds, maximum: Some(maximum) }, "cpu_time")
}

fn set_limit(resource: Resource, limit: Rlimit, name: &str) -> Result<(), Failure> {
    setrlimit(resource, limit).map_err(|errno| Failure::at(Step::Limit(name.to_owned()), errno))
}

/// Becomes the user for good. These calls change the calling thread, the only one of the shim.
fn become_user(identity: &Identity) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let groups: Vec<Gid> = identity.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    if !uid.is_root() {
        // A server that is not root but has capabilities would pass them on.
        rustix::thread::clear_ambient_capability_set()?;
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, none)?;
    }
    Ok(())
}

/// Rust ignores SIGPIPE, and an ignored signal stays ignored after execve(2). A caught one does
/// not.
fn forget_ignored_signal() -> rustix::io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::default())
        .map(drop)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// `NAME=value` with the first byte of the name masked, unless the name has a prefix of [`NOT_MASKED`].
fn masked(variable: &str) -> Vec<u8> {
    let mut bytes = variable.as_bytes().to_vec();
    if let Some(first) = bytes.first_mut()
        && !NOT_MASKED.iter().any(|prefix| variable.starts_with(prefix))
    {
        *first |= MASK;
    }
    bytes
}

/// The original of a masked `NAME=value`.
fn unmasked(mut variable: Vec<u8>) -> Vec<u8> {
    if let Some(first) = variable.first_mut() {
        *first &= !MASK;
    }
    variable
}

/// The pipe of the report: the server's end, and the shim's standard output.
pub(super) fn report_pipe() -> std::io::Result<(PipeReader, PipeWriter)> {
    std::io::pipe()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_names_mean_nothing_to_the_dynamic_loader() {
        for name in
            ["LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "_RJEM_MALLOC_CONF", "PATH", "a"]
        {
            let bytes = masked(name);
            assert_eq!(bytes.len(), name.len());
            assert_ne!(bytes, name.as_bytes());
            assert_eq!(unmasked(bytes), name.as_bytes());
        }
        // These identify the shim of a crashed server.
        for name in ["BOATHOOK_INSTANCE", "SHIPYARD_LOG_ID"] {
            assert_eq!(masked(name), name.as_bytes());
        }
    }

    #[test]
    fn an_empty_report_is_success_and_any_other_a_failure() {
        let report = |said: &[u8]| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(said).unwrap();
            drop(writer);
            report(reader, Duration::from_secs(60))
        };
        assert!(report(b"").is_ok());
        let said = serde_json::to_vec(&Failure::at(Step::User, Errno::PERM)).unwrap();
        let failure = report(&said).unwrap_err();
        assert_eq!((failure.step, failure.errno), (Step::User, Errno::PERM.raw_os_error()));
        for garbage in [&b"garbage"[..], &[b'x'; 5000]] {
            assert_eq!(report(garbage).unwrap_err().step, Step::Orders);
        }
    }

    #[test]
    fn a_shim_that_hangs_is_given_up() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let failure = report(reader, Duration::from_millis(20)).unwrap_err();
        assert_eq!(failure.step, Step::InTime);
    }
}
