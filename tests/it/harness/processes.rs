//! Which processes are there, as `/proc` tells.

use std::fs;

use boathook::internals::limits::RESERVED_THREADS;

use super::{wait_for, wait_until};

/// What a listener keeps beside its connections once it was needed: permits, each with a descriptor, and
/// threads of tiny_http's pool.
const DESCRIPTORS_KEPT: usize = 12;
const THREADS_KEPT: usize = 6;

/// What a server holds for its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    pub threads: usize,
    /// Of these, one for each connection. Not those that wait for a time when there are no threads.
    pub connections: usize,
    pub descriptors: usize,
}

impl Holdings {
    /// Of the server `pid`, now.
    pub fn of(pid: i32) -> Self {
        let entries = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().flatten();
        let is_connection = |name: String| name.trim_end().ends_with("-conn");
        let (mut threads, mut connections) = (0, 0);
        for thread in entries("task") {
            threads += 1;
            let name = fs::read_to_string(thread.path().join("comm"));
            connections += usize::from(name.is_ok_and(is_connection));
        }
        // Those of both listeners that exist from the start.
        connections = usize::saturating_sub(connections, 2 * RESERVED_THREADS);
        Self { threads, connections, descriptors: entries("fd").count() }
    }

    /// Of the server `pid`, without connections.
    #[track_caller]
    pub fn quiet(pid: i32) -> Self {
        let quiet = wait_for(|| Some(Self::of(pid)).filter(|it| it.connections == 0));
        quiet.expect("connections end")
    }

    /// Waits until the server `pid` holds this much again.
    #[track_caller]
    pub fn await_again(self, pid: i32) {
        wait_until(&format!("{:?} are {self:?} again", Self::of(pid)), || {
            let now = Self::of(pid);
            now.connections == 0
                && now.threads <= self.threads + THREADS_KEPT
                && now.descriptors <= self.descriptors + DESCRIPTORS_KEPT
        });
    }
}

/// Bytes of memory that the server `pid` has, and has had at most: resident pages.
pub fn memory(pid: i32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of it");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    (kilobytes("VmRSS:") * 1024, kilobytes("VmHWM:") * 1024)
}

/// The living processes whose environment holds the string `entry` (`NAME=value`) as a whole.
/// Zombies have no environment any more and do not count.
pub fn with_environment(entry: &str) -> Vec<i32> {
    processes_where(|environment| {
        environment.split(|byte| *byte == 0).any(|string| string == entry.as_bytes())
    })
}

/// The living processes whose environment has a string that begins with `prefix`.
pub fn with_environment_prefix(prefix: &str) -> Vec<i32> {
    processes_where(|environment| {
        environment.split(|byte| *byte == 0).any(|string| string.starts_with(prefix.as_bytes()))
    })
}

fn processes_where(condition: impl Fn(&[u8]) -> bool) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that has ended by now is no finding.
        if fs::read(entry.path().join("environ")).is_ok_and(|bytes| condition(&bytes)) {
            found.push(pid);
        }
    }
    found
}

/// Sends SIGKILL to each of `pids`.
pub fn kill(pids: &[i32]) {
    for pid in pids.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
