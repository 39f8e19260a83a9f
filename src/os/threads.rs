//! Threads that the system gives this process: whether there are enough for a server, and which
//! limit keeps them from it.

use std::fs;
use std::io;
use std::thread::Builder;

use rustix::process::{Resource, getrlimit};

/// Stack of a thread that does nothing.
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
        match Builder::new().stack_size(TRIAL_STACK_BYTES).spawn(wait_until_done) {
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
