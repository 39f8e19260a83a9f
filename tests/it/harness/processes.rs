//! Which processes are there, as `/proc` tells.

use std::fs;

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
        // Whoever is gone by now is no finding.
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
