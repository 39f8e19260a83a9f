//! Orphans: processes whose parent has ended. Those that descend from the server are given to it
//! (PR_SET_CHILD_SUBREAPER of prctl(2)), as all of a PID namespace are given to process 1. So what a
//! vessel leaves behind is found among the server's own children, and is reaped when it ends.
//!
//! The kernel gives orphans to the main thread. That thread starts no processes, and a thread that
//! does outlives them: so the children of the main thread are orphans and nothing else, and reaping
//! them takes no exit status from the thread that waits for it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use rustix::process::{getpid, set_child_subreaper, waitid};

use super::mark::Mark;
use super::process_table::{Process, pids_in};
use crate::os::threads;

/// The least time between two rounds of reaping. Vessels that end in quick succession wake the
/// reaper ten times a second; while nothing ends it does not wake.
const REAP_PAUSE: Duration = Duration::from_millis(100);

/// Once orphans are adopted.
static ADOPTED: OnceLock<Adopted> = OnceLock::new();

struct Adopted {
    /// Lists the children of the main thread (proc_pid_task_tid_children(5)).
    children: File,
    /// The marks of orphans that were looked at. An entry lives as long as its process, for only
    /// this server can reap it.
    marks: Mutex<HashMap<Pid, Vec<Mark>>>,
}

/// Adopts the orphans of what this process starts, and reaps them. To be called by the main
/// thread before any other is started: SIGCHLD is blocked in all of them, so that no system call
/// of theirs is interrupted, and only the reaper takes it.
///
/// # Errors
/// When the kernel does not list the children of a process, or the reaper cannot be started.
pub fn adopt() -> io::Result<()> {
    let own = getpid();
    let children = File::open(format!("/proc/self/task/{}/children", own.as_raw_pid()))?;
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    ended.thread_block()?;
    set_child_subreaper(Some(own))?;
    let adopted = ADOPTED.get_or_init(|| Adopted { children, marks: Mutex::default() });
    threads::vital("reaper").spawn(move || {
        loop {
            adopted.reap();
            let _ = ended.wait();
            thread::sleep(REAP_PAUSE);
        }
    })?;
    Ok(())
}

/// The orphans that carry `mark` and live. None where orphans are not adopted.
pub(super) fn living_orphans(mark: Mark) -> Vec<Process> {
    ADOPTED.get().map(|adopted| adopted.living(mark)).unwrap_or_default()
}

/// Reaps the orphans that have ended, without waiting for the reaper.
pub(super) fn reap() {
    if let Some(adopted) = ADOPTED.get() {
        adopted.reap();
    }
}

impl Adopted {
    fn reap(&self) {
        // The list may leave out a child while others come and go.
        while self.children().into_iter().filter(|child| is_reaped(*child)).count() > 0 {}
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if !marks.is_empty() {
            let children = self.children();
            marks.retain(|orphan, _| children.contains(orphan));
        }
    }

    fn living(&self, mark: Mark) -> Vec<Process> {
        let children = self.children();
        if children.is_empty() {
            return Vec::new();
        }
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let has_mark = |child: &Pid| {
            let marks = marks.entry(*child).or_insert_with(|| Mark::of_process(*child).collect());
            marks.contains(&mark)
        };
        let own: Vec<Pid> = children.into_iter().filter(has_mark).collect();
        own.into_iter().filter_map(Process::read).filter(|process| !process.is_zombie).collect()
    }

    /// The children of the main thread. A list that cannot be read is empty.
    fn children(&self) -> Vec<Pid> {
        let mut list = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = self.children.read_at(&mut buffer, list.len() as u64) {
            list.extend_from_slice(&buffer[..bytes]);
        }
        pids_in(&String::from_utf8_lossy(&list))
    }
}

/// Reaps `child` if it has ended.
fn is_reaped(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(child), options), Ok(Some(_)))
}
