//! Starts programs. A new process begins in the memory of this one while the calling thread is
//! suspended (CLONE_VM and CLONE_VFORK of clone(2)), as posix_spawn(3) begins it: the cost does not
//! grow with our memory. posix_spawn itself asks for the disposition of every signal and maps a stack
//! at each start; here the stack is kept per thread, and the signals to reset are known.
//!
//! What holds for the child until it has become the program:
//!
//! - Memory is shared, `errno` and the locks of all libraries included. The child takes no lock,
//!   allocates nothing and cannot panic. It makes system calls.
//! - All signals are blocked. It resets the handlers before it unblocks them: none of this process's
//!   handlers runs in it.
//! - Descriptors, limits, dispositions, mask, group and directory are its own. A change of them does
//!   not reach this process.
//!
//! The program gets an empty mask and the default disposition of every signal.

use std::cell::{Cell, OnceCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::LazyLock;

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, chdir, kill_process,
    kill_process_group, pidfd_open, setpgid, setrlimit, waitid,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

mod program;
mod stack;

pub use program::Program;
use stack::Stack;

/// The exit code of a child that has not become the program. Its parent never shows it.
const EXIT_NOT_STARTED: c_int = 127;
/// The highest number of a signal (signal(7)).
const SIGNAL_MAX: c_int = 64;

thread_local! {
    /// The stack of the children that this thread starts, one at a time.
    static STACK: OnceCell<Stack> = const { OnceCell::new() };
}

/// The signals that this process handles or ignores. The first start finds them: a process sets up
/// its signals before it starts programs.
static CHANGED_SIGNALS: LazyLock<Vec<c_int>> = LazyLock::new(changed_signals);

/// The start of a program.
pub struct Spawn<'a> {
    pub program: &'a Program,
    /// `None`: `/dev/null`.
    pub stdin: Option<BorrowedFd<'a>>,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
    /// Limits that differ from those of this process. One that cannot be set stays as it is.
    pub limits: &'a [(Resource, Rlimit)],
    /// Whether it leads a process group of its own.
    pub leads_group: bool,
}

/// A program that has started.
#[derive(Debug)]
pub struct Spawned {
    pub pid: Pid,
    /// The descriptor of the process (pidfd_open(2)).
    pub descriptor: OwnedFd,
}

/// Why there is no [`Spawned`].
#[derive(Debug)]
pub struct SpawnError {
    pub source: io::Error,
    /// The program had started, and was killed: there was no descriptor for it.
    pub has_started: bool,
}

impl From<io::Error> for SpawnError {
    fn from(source: io::Error) -> Self {
        Self { source, has_started: false }
    }
}

impl Spawned {
    /// Kills the process and waits for its end.
    pub fn kill(&self) {
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED);
    }
}

/// What the child does, and what came of it.
struct Orders<'a> {
    spawn: &'a Spawn<'a>,
    path: &'a CStr,
    directory: &'a CStr,
    /// End with a null pointer.
    arguments: &'a [*const c_char],
    variables: &'a [*const c_char],
    changed_signals: &'a [c_int],
    no_signals: SigSet,
    /// See errno(3); 0 unless the child has failed.
    failure: Cell<c_int>,
}

impl Spawn<'_> {
    /// Starts the program.
    ///
    /// # Errors
    /// Those of clone(2), chdir(2), execve(2) and of the other calls of the child; `InvalidInput`
    /// when a string contains a NUL byte.
    pub fn start(&self) -> Result<Spawned, SpawnError> {
        let (pid, descriptor) = self.begin(libc::CLONE_PIDFD)?;
        match descriptor {
            Some(descriptor) => Ok(Spawned { pid, descriptor }),
            None => watched(pid, pidfd_open(pid, PidfdFlags::empty())),
        }
    }

    /// The process of the program, and its descriptor where the kernel gives one with the process.
    fn begin(&self, flags: c_int) -> io::Result<(Pid, Option<OwnedFd>)> {
        let Self { stdin, stdout, stderr, .. } = self;
        // The runtime opens descriptors 0 to 2 before main(): pipes have higher numbers.
        let streams = stdin.iter().chain([stdout, stderr]);
        debug_assert!(streams.clone().all(|stream| stream.as_raw_fd() > 2));
        let strings = self.program.strings()?;
        let (arguments, variables) = (strings.arguments(), strings.variables());
        let orders = Orders {
            spawn: self,
            path: strings.path()?,
            directory: strings.directory()?,
            arguments: &arguments,
            variables: &variables,
            changed_signals: &CHANGED_SIGNALS,
            no_signals: SigSet::empty(),
            failure: Cell::new(0),
        };
        let clone =
            |flags| with_stack(|stack| with_signals_blocked(|| clone(stack, &orders, flags))?);
        let (pid, descriptor) = match clone(flags) {
            // A filter of system calls, or an emulated kernel, may know the usual flags alone.
            Err(error) if flags != 0 && is_refusal(&error) => clone(0)?,
            cloned => cloned?,
        };
        match orders.failure.get() {
            0 => Ok((pid, descriptor)),
            errno => {
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }
}

/// Whether the kernel refuses a call as such.
fn is_refusal(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::INVAL, Errno::NOSYS, Errno::PERM].contains(&errno))
}

/// The process with the descriptor that was `opened` for it. A process that cannot be watched is
/// killed.
fn watched(pid: Pid, opened: rustix::io::Result<OwnedFd>) -> Result<Spawned, SpawnError> {
    opened.map(|descriptor| Spawned { pid, descriptor }).map_err(|errno| {
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = kill_process(pid, Signal::KILL);
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
        SpawnError { source: errno.into(), has_started: true }
    })
}

/// Calls `act` with the stack of this thread's children.
fn with_stack<T>(act: impl FnOnce(&Stack) -> io::Result<T>) -> io::Result<T> {
    let done = STACK.try_with(|kept| match kept.get() {
        Some(stack) => act(stack),
        None => {
            let stack = Stack::new()?;
            act(kept.get_or_init(|| stack))
        }
    });
    done.unwrap_or_else(|ending| Err(io::Error::other(ending)))
}

/// Calls `act` while this thread has every signal blocked.
fn with_signals_blocked<T>(act: impl FnOnce() -> T) -> io::Result<T> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let done = act();
    before.thread_set_mask()?;
    Ok(done)
}

/// Begins a child on `stack`, which carries out `orders`, and waits until it has become the program
/// or has ended.
fn clone(stack: &Stack, orders: &Orders<'_>, flags: c_int) -> io::Result<(Pid, Option<OwnedFd>)> {
    let mut descriptor: c_int = -1;
    let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let orders = ptr::from_ref(orders).cast_mut().cast::<c_void>();
    // SAFETY: The stack is mapped, aligned and in use by no other child: it belongs to this thread,
    // which goes on only when the child needs it no more (CLONE_VFORK). So `orders`, and all that it
    // refers to, outlives the child's use as well. The child keeps to the rules of this module. With
    // CLONE_PIDFD the first further argument gets the descriptor; without, nothing reads it.
    #[expect(unsafe_code, reason = "the system call shares memory with the child")]
    let pid = unsafe { libc::clone(in_child, stack.top(), flags, orders, &raw mut descriptor) };
    let pid = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: The kernel has made this descriptor for the caller, and no other code knows it.
    #[expect(unsafe_code, reason = "the kernel returns a number")]
    let descriptor = (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok((pid, descriptor))
}

/// What a child does first. Does not return.
extern "C" fn in_child(orders: *mut c_void) -> c_int {
    // SAFETY: `clone` passes these orders, and its thread is suspended while this code runs.
    #[expect(unsafe_code, reason = "a system call passes an untyped pointer")]
    let orders = unsafe { &*orders.cast::<Orders<'_>>() };
    let errno = match set_up(orders) {
        Ok(()) => execute(orders),
        Err(errno) => errno,
    };
    orders.failure.set(errno.raw_os_error());
    // SAFETY: Ends the child alone, without the destructors of the memory that it shares.
    #[expect(unsafe_code, reason = "exit() would run the parent's destructors")]
    unsafe {
        libc::_exit(EXIT_NOT_STARTED)
    }
}

/// Gives the child what is to be different from its parent.
fn set_up(orders: &Orders<'_>) -> rustix::io::Result<()> {
    let Spawn { stdin, stdout, stderr, limits, leads_group, .. } = orders.spawn;
    if *leads_group {
        setpgid(None, None)?;
    }
    match stdin {
        Some(stdin) => dup2_stdin(stdin)?,
        None => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            dup2_stdin(openat(CWD, c"/dev/null", flags, Mode::empty())?)?;
        }
    }
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    chdir(orders.directory)?;
    for (resource, limit) in *limits {
        let _ = setrlimit(*resource, *limit);
    }
    for signal in orders.changed_signals {
        reset(*signal);
    }
    orders.no_signals.thread_set_mask().map_err(|error| Errno::from_raw_os_error(error as i32))
}

/// Becomes the program. Returns only if that fails.
fn execute(orders: &Orders<'_>) -> Errno {
    let (path, arguments) = (orders.path.as_ptr(), orders.arguments.as_ptr());
    // SAFETY: All of these are ended: the path by a NUL, each list by a null pointer, each string in
    // them by a NUL ([`Program`]).
    #[expect(unsafe_code, reason = "the safe calls allocate")]
    unsafe {
        libc::execve(path, arguments, orders.variables.as_ptr());
    }
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Gives `signal` its default disposition in the calling process.
fn reset(signal: c_int) {
    // SAFETY: All zeros are a valid value: SIG_DFL, no flags, an empty mask. The signal exists.
    #[expect(unsafe_code, reason = "there is no safe call for a signal of any number")]
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &raw const default, ptr::null_mut());
    }
}

/// The signals whose disposition is not the default one.
fn changed_signals() -> Vec<c_int> {
    let is_changed = |signal: &c_int| {
        // SAFETY: Asks for the disposition, and changes nothing. A number that is no signal of ours
        // is an error, and leaves the zeros.
        #[expect(unsafe_code, reason = "there is no safe call that only asks")]
        unsafe {
            let mut present: libc::sigaction = std::mem::zeroed();
            libc::sigaction(*signal, ptr::null(), &raw mut present);
            present.sa_sigaction != libc::SIG_DFL
        }
    };
    (1..=SIGNAL_MAX).filter(is_changed).collect()
}

#[cfg(test)]
mod tests;
