//! Processes that a crashed server left behind: found by the environment it gave them, and ended.
//! What a program removed from its environment, or a process whose environment may not be read,
//! cannot be found; its process group is ended with those that can.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::process::{getpgid, getpgrp, getpid, pidfd_open, pidfd_send_signal};

use super::Unfinished;
use super::group::{Ending, PAUSE_MAX, PAUSE_MIN, ProcessGroup, Step};
use crate::domain::ids::InstanceId;
use crate::limits::PROCESS_ENVIRONMENT_BYTES_MAX;

/// The variable that tells which server started a process.
pub(super) const INSTANCE_VARIABLE: &str = "BOATHOOK_INSTANCE";
/// The variable that tells which vessel run a process belongs to.
const VESSEL_RUN_VARIABLE: &str = "SHIPYARD_LOG_ID";
/// The variable that tells which notification a process delivers.
pub(super) const NOTIFICATION_VARIABLE: &str = "BOATHOOK_NOTIFICATION_ID";

/// Whose processes are looked for.
struct Mark<'a> {
    instance: String,
    unfinished: &'a Unfinished,
}

/// A process found, held by a descriptor: a signal can never reach another of the same number.
struct Leftover {
    pid: Pid,
    process: OwnedFd,
}

/// Ends every process of what is `unfinished` that a server with this `instance` id started, with
/// its process group. Returns how many there were, once none is left.
pub(super) fn end_leftovers(
    instance: InstanceId,
    unfinished: &Unfinished,
    kill_grace: Duration,
) -> usize {
    if unfinished.is_empty() {
        return 0;
    }
    let mark = Mark { instance: instance.to_string(), unfinished };
    let mut found = HashSet::new();
    let mut groups = HashSet::new();
    let mut ending = Ending::asked(Instant::now(), kill_grace);
    let mut signal = Signal::TERM;
    let mut pause = PAUSE_MIN;
    loop {
        // Looked for anew in every round, for processes may start others while they end.
        let leftovers = match find(&mark) {
            Ok(leftovers) => leftovers,
            Err(error) => {
                log::error!(error:%; "/proc cannot be read: leftovers of a crash are not found");
                return found.len();
            }
        };
        // Those in a group who lost the mark are ended with the group, and waited for with it.
        groups.retain(|group: &ProcessGroup| !group.is_gone() && !group.is_only_zombies());
        if leftovers.is_empty() && groups.is_empty() {
            return found.len();
        }
        match ending.advance(Instant::now()) {
            Step::Wait => {}
            Step::Kill => {
                signal = Signal::KILL;
                groups.iter().for_each(|group| group.signal(signal));
            }
            Step::GiveUp => {
                let processes = leftovers.len();
                log::error!(processes; "leftovers of a crash outlive SIGKILL and are given up");
                return found.len();
            }
        }
        for leftover in &leftovers {
            if found.insert(leftover.pid) || signal == Signal::KILL {
                groups.extend(leftover.end(signal));
            }
        }
        await_ends(&leftovers, ending.due_at());
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Leftover {
    /// Sends `signal` to the process and to its group, which is returned unless it is ours.
    fn end(&self, signal: Signal) -> Option<ProcessGroup> {
        let group = getpgid(Some(self.pid)).ok().filter(|group| *group != getpgrp());
        // While the process lives its number and that of its group are not given to others. That
        // it lives is what the second look says, by a descriptor that is this process for good.
        let group = group.filter(|_| !self.has_ended()).map(ProcessGroup::led_by);
        if let Some(group) = group {
            group.signal(signal);
            group.signal(Signal::CONT);
        }
        let _ = pidfd_send_signal(&self.process, signal);
        let _ = pidfd_send_signal(&self.process, Signal::CONT);
        group
    }

    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.process, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())) != Ok(0)
    }
}

/// The processes that carry the mark now, but ourselves.
fn find(mark: &Mark<'_>) -> io::Result<Vec<Leftover>> {
    let mut leftovers = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw).filter(|pid| *pid != getpid()) else {
            continue;
        };
        if !mark.is_on(pid) {
            continue;
        }
        // The number may be another process's by now: hold on to whoever has it, then look again.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if mark.is_on(pid) {
            leftovers.push(Leftover { pid, process });
        }
    }
    Ok(leftovers)
}

impl Mark<'_> {
    /// Whether the process was started with the mark in its environment. What cannot be read
    /// (another user's process, a zombie, a process that has just gone) does not carry it.
    fn is_on(&self, pid: Pid) -> bool {
        let path = format!("/proc/{}/environ", pid.as_raw_pid());
        let mut environment = Vec::new();
        let read = File::open(path).and_then(|file| {
            file.take(PROCESS_ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment)
        });
        read.is_ok() && self.is_in(&environment)
    }

    fn is_in(&self, environment: &[u8]) -> bool {
        let value_of = |name: &str| {
            let mut variables = environment.split(|byte| *byte == 0);
            variables
                .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        };
        let text_of = |name: &str| value_of(name).and_then(|id| std::str::from_utf8(id).ok());
        value_of(INSTANCE_VARIABLE) == Some(self.instance.as_bytes())
            && (text_of(VESSEL_RUN_VARIABLE)
                .and_then(|id| id.parse().ok())
                .is_some_and(|id| self.unfinished.vessel_runs.contains(&id))
                || text_of(NOTIFICATION_VARIABLE)
                    .is_some_and(|id| self.unfinished.notifications.contains(id)))
    }
}

/// Waits until all of `leftovers` have ended or `until` has come.
fn await_ends(leftovers: &[Leftover], until: Option<Instant>) {
    for leftover in leftovers {
        let left = until.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        let Ok(timeout) = Timespec::try_from(left) else { return };
        let _ = poll(&mut [PollFd::new(&leftover.process, PollFlags::IN)], Some(&timeout));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::ids::{RunIds, VesselRunId};

    fn of_vessels(vessel_runs: &[VesselRunId]) -> Unfinished {
        let vessel_runs = vessel_runs.iter().copied().collect();
        Unfinished { vessel_runs, ..Unfinished::default() }
    }

    fn vessel_run(random: u64) -> VesselRunId {
        RunIds::after(None).next(Timestamp::from_millis(1_700_000_000_000), random).vessel_run(0)
    }

    /// Starts `script` with the mark, and waits for it to be seen: Linux lets the spawner go on a
    /// moment before it shows the new environment.
    fn start(script: &str, instance: InstanceId, vessel_run: VesselRunId) -> Child {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .env(INSTANCE_VARIABLE, instance.to_string())
            .env(VESSEL_RUN_VARIABLE, vessel_run.to_string())
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let unfinished = of_vessels(&[vessel_run]);
        let mark = Mark { instance: instance.to_string(), unfinished: &unfinished };
        while !mark.is_on(Pid::from_child(&child)) {
            std::thread::yield_now();
        }
        child
    }

    fn has_living_members(child: &Child) -> bool {
        let group = ProcessGroup::led_by(Pid::from_child(child));
        !group.is_gone() && !group.is_only_zombies()
    }

    #[test]
    fn leftovers_are_ended_and_nobody_else() {
        let (instance, mine, other) = (InstanceId::random(), vessel_run(1), vessel_run(2));
        let mut polite = start("sleep 1000 & wait", instance, mine);
        let mut stubborn = start("trap '' TERM; while :; do sleep 1000; done", instance, mine);
        let mut other_run = start("exec sleep 1000", instance, other);
        let mut other_server = start("exec sleep 1000", InstanceId::random(), mine);
        let count = end_leftovers(instance, &of_vessels(&[mine]), Duration::from_millis(100));
        assert!(count >= 2, "{count}");
        for child in [&mut polite, &mut stubborn] {
            assert!(!has_living_members(child));
            let _ = child.wait();
        }
        for child in [&mut other_run, &mut other_server] {
            assert!(child.try_wait().unwrap().is_none(), "ended a process of somebody else");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn members_of_the_group_go_too_when_they_cleaned_their_environment() {
        let (instance, mine) = (InstanceId::random(), vessel_run(3));
        let mut child = start("env -i sleep 1000 & wait", instance, mine);
        assert_ne!(0, end_leftovers(instance, &of_vessels(&[mine]), Duration::from_secs(5)));
        assert!(!has_living_members(&child));
        let _ = child.wait();
    }

    #[test]
    fn the_mark_is_read_exactly() {
        let (instance, mine) = (InstanceId::random(), vessel_run(4));
        let mut unfinished = of_vessels(&[mine]);
        unfinished.notifications.insert("msg_1_0".to_owned());
        let mark = Mark { instance: instance.to_string(), unfinished: &unfinished };
        let both = format!("A=1\0BOATHOOK_INSTANCE={instance}\0SHIPYARD_LOG_ID={mine}\0");
        assert!(mark.is_in(both.as_bytes()));
        assert!(!mark.is_in(both.replace("BOATHOOK_", "XBOATHOOK_").as_bytes()));
        assert!(!mark.is_in(format!("BOATHOOK_INSTANCE={instance}\0").as_bytes()));
        assert!(!mark.is_in(b""));
        let errand = format!("BOATHOOK_NOTIFICATION_ID=msg_1_0\0BOATHOOK_INSTANCE={instance}\0");
        assert!(mark.is_in(errand.as_bytes()));
        assert!(!mark.is_in(errand.replace("msg_1_0", "msg_1_01").as_bytes()));
        assert!(!mark.is_in(errand.replace("INSTANCE", "INSTANT").as_bytes()));
    }
}
