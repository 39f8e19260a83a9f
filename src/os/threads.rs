//! The threads of this process: every one is started here, as vital or as serving. [`try_out`] finds
//! out whether the system has enough for a server, and which limit is too low.

use std::cell::Cell;
use std::fs;
use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use rustix::process::{Resource, getrlimit};

thread_local! {
    static IS_VITAL: Cell<bool> = const { Cell::new(true) };
}

/// A thread to be started.
pub struct Thread {
    builder: Builder,
    is_vital: bool,
}

/// A thread without which the server cannot go on: its panic ends the process
/// ([`super::fatal::stop_on_panics`]). Threads of libraries count as vital, too.
pub fn vital(name: impl Into<String>) -> Thread {
    Thread { builder: Builder::new().name(name.into()), is_vital: true }
}

/// A thread that serves one connection or request at a time: its panic costs no more than that.
pub fn serving(name: impl Into<String>) -> Thread {
    Thread { is_vital: false, ..vital(name) }
}

impl Thread {
    /// Gives the thread a stack of so many bytes.
    pub fn stack_size(self, bytes: usize) -> Self {
        Self { builder: self.builder.stack_size(bytes), ..self }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread.
    pub fn spawn<T: Send + 'static>(
        self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        self.builder.spawn(move || run(self.is_vital, body))
    }

    /// Starts the thread within `scope`.
    ///
    /// # Errors
    /// When the system has no thread.
    pub fn spawn_scoped<'scope, T: Send + 'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        body: impl FnOnce() -> T + Send + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, T>> {
        self.builder.spawn_scoped(scope, move || run(self.is_vital, body))
    }
}

fn run<T>(is_vital: bool, body: impl FnOnce() -> T) -> T {
    IS_VITAL.set(is_vital);
    body()
}

/// Whether the calling thread is vital.
pub(super) fn is_vital() -> bool {
    IS_VITAL.get()
}

/// Takes the calling thread for the main thread, whose panic ends the process in any case, and runs
/// destructors first.
pub(super) fn mark_main() {
    IS_VITAL.set(false);
}

/// Bytes of the stack of a thread that only waits.
const TRIAL_STACK_BYTES: usize = 16 * 1024;

/// The system does not give a server its threads.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system gives this server {had} threads and it needs {needed}: {}; raise the limit, or lower `workers`",
    limits()
)]
pub struct TooFewThreads {
    pub had: usize,
    pub needed: usize,
}

/// Tries whether there are `needed` threads at a time. Libraries that start threads of their own end
/// in a panic, or hang, where there are none.
///
/// # Errors
/// How many there are.
pub fn try_out(needed: usize) -> Result<(), TooFewThreads> {
    let (done, wait) = crossbeam_channel::bounded::<()>(0);
    let mut threads = Vec::with_capacity(needed);
    for had in 0..needed {
        let wait = wait.clone();
        let wait_until_done = move || {
            let _ = wait.recv();
        };
        match vital("trial").stack_size(TRIAL_STACK_BYTES).spawn(wait_until_done) {
            Ok(thread) => threads.push(thread),
            Err(_) => return Err(TooFewThreads { had, needed }),
        }
    }
    drop(done);
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

/// What to say after `error` of a start of a thread: the limits, where one is to blame.
pub fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => format!(": {}; raise the limit", limits()),
        _ => String::new(),
    }
}

/// The limits of threads and processes that hold for this process, for a person.
fn limits() -> String {
    let user = getrlimit(Resource::Nproc).current;
    let user = user.map(|limit| format!("its user may have {limit} (ulimit -u, LimitNPROC=)"));
    let cgroup = cgroup_limit().map(|(limit, file)| {
        format!("its cgroup may have {limit} (TasksMax=, --pids-limit, {file})")
    });
    let found: Vec<String> = user.into_iter().chain(cgroup).collect();
    match found.is_empty() {
        true => "memory or a limit of the whole system is used up".to_owned(),
        false => found.join(", "),
    }
}

/// The lowest limit of this process's cgroup and those above it, and the file that holds it
/// (cgroups(7)).
fn cgroup_limit() -> Option<(u64, String)> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let roots = cgroups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        match (fields.next()?, fields.next()?) {
            ("", path) => Some(("/sys/fs/cgroup", path)),
            ("pids", path) => Some(("/sys/fs/cgroup/pids", path)),
            _ => None,
        }
    });
    let files = roots.flat_map(|(root, path)| {
        let path = std::path::Path::new(path);
        path.ancestors()
            .map(move |at| format!("{root}{}/pids.max", at.display()))
            .collect::<Vec<_>>()
    });
    let limits = files.filter_map(|file| {
        let limit = fs::read_to_string(&file).ok()?.trim().parse::<u64>().ok()?;
        Some((limit, file.replace("//", "/")))
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_vital_unless_it_serves() {
        let of = |thread: Thread| thread.spawn(is_vital).unwrap().join().unwrap();
        assert!(of(vital("committer")));
        assert!(!of(serving("hooks-conn")));
        assert!(std::thread::spawn(is_vital).join().unwrap(), "a library's");
    }
}
