//! The processes of this machine as /proc shows them (proc_pid_stat(5)).

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process at the moment it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub pid: Pid,
    /// 0 when the parent is outside of the PID namespace.
    pub parent: i32,
    pub group: i32,
    /// In clock ticks since boot. With the id it identifies a process uniquely.
    pub started_at: u64,
    /// Whether it has ended and its parent has not reaped it.
    pub is_zombie: bool,
}

impl Process {
    /// The process `pid`, if it exists.
    pub fn read(pid: Pid) -> Option<Self> {
        let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
        Self::parse(pid, &stat)
    }

    /// The fields after the name, which stands in parentheses and may contain anything.
    fn parse(pid: Pid, stat: &[u8]) -> Option<Self> {
        let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
        let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let threads: u32 = fields.nth(14)?.parse().ok()?;
        let started_at = fields.nth(1)?.parse().ok()?;
        // A process whose first thread has ended is in state Z while its other threads run.
        let is_zombie = matches!(state, b'Z' | b'X') && threads <= 1;
        Some(Self { pid, parent, group, started_at, is_zombie })
    }

    /// A descriptor for this process; `None` when it has ended.
    pub fn hold(&self) -> Option<OwnedFd> {
        let held = pidfd_open(self.pid, PidfdFlags::empty()).ok()?;
        // Another process may have got the id before it was held.
        let is_same = Self::read(self.pid).is_some_and(|now| now.started_at == self.started_at);
        is_same.then_some(held)
    }

    /// The effective user: the owner of the directory in /proc, which is readable for every process
    /// (proc_pid(5)).
    pub fn user(&self) -> Option<u32> {
        fs::metadata(format!("/proc/{}", self.pid.as_raw_pid())).ok().map(|found| found.uid())
    }

    /// Its name, which the kernel cuts to 15 bytes, and its id, for messages.
    pub fn shown(&self) -> String {
        let pid = self.pid.as_raw_pid();
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("`{}` ({pid})", String::from_utf8_lossy(&name).trim().escape_debug())
    }
}

/// All processes.
///
/// # Errors
/// When /proc cannot be listed.
pub(super) fn processes() -> io::Result<Vec<Process>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|entry| {
        entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
    });
    Ok(pids.filter_map(Process::read).collect())
}

/// The children of the first thread of a process (proc_pid_task_tid_children(5)).
pub(super) fn children(process: Pid) -> Vec<Pid> {
    let pid = process.as_raw_pid();
    pids_in(&fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default())
}

/// The process ids in a list of /proc.
pub(super) fn pids_in(list: &str) -> Vec<Pid> {
    list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Whether the process behind the descriptor has ended.
pub(super) fn has_ended(process: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&Timespec::default())) != Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_behind_any_name() {
        let pid = Pid::INIT;
        let parse = |state: char, threads: u32| {
            let stat = format!(
                "1 (a) b) (S 1) {state} 7 44 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 9876 1"
            );
            Process::parse(pid, stat.as_bytes())
        };
        let process = Process { pid, parent: 7, group: 44, started_at: 9876, is_zombie: false };
        assert_eq!(parse('S', 1), Some(process));
        assert_eq!(parse('Z', 2), Some(process));
        assert_eq!(parse('Z', 1), Some(Process { is_zombie: true, ..process }));
        assert_eq!(Process::parse(pid, b"12 (sh"), None);
        assert_eq!(Process::parse(pid, b""), None);
    }

    #[test]
    fn this_process_is_in_the_table() {
        let own = processes().unwrap().into_iter().find(|it| it.pid == rustix::process::getpid());
        let own = own.expect("this process");
        assert!(!own.is_zombie);
        assert_eq!(own.user(), Some(rustix::process::geteuid().as_raw()));
        assert!(!has_ended(&own.hold().unwrap()));
        assert!(Process { started_at: own.started_at + 1, ..own }.hold().is_none());
    }
}
