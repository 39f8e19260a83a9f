//! The kernel's out-of-memory killer: makes vessels its victims before the server, and tells
//! whether it has ended one. The kernel counts its victims for each control group and for the
//! machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::HowEnded;
use super::process_table::children;
use crate::os::control_groups;

/// The adjustment of vessels where the server has a lower one (proc_pid_oom_score_adj(5)).
const USUAL_ADJUSTMENT: i32 = 0;
/// The greatest age of the count that a vessel starts with. To read the machine's counter costs a
/// twentieth of a start; under load it is read once in this time.
const COUNT_AGE_MAX: Duration = Duration::from_secs(1);
/// Exit code of a shell after SIGKILL has ended a process of it.
const EXIT_KILLED: i32 = 128 + Signal::KILL.as_raw();

/// Gives a new process and its descendants the usual adjustment where the server has a lower one.
/// Children inherit the adjustment.
pub(super) fn expose(leader: Pid) {
    static IS_SHIELDED: LazyLock<bool> = LazyLock::new(|| adjustment("self") < USUAL_ADJUSTMENT);
    if !*IS_SHIELDED {
        return;
    }
    let mut processes = vec![leader];
    while let Some(process) = processes.pop() {
        // Later descendants inherit the value. A process that has ended needs none.
        let pid = process.as_raw_pid();
        let path = format!("/proc/{pid}/oom_score_adj");
        if let Err(error) = fs::write(path, USUAL_ADJUSTMENT.to_string()) {
            log::debug!(process = pid, error:%; "a vessel keeps the server's oom_score_adj");
        }
        processes.extend(children(process));
    }
}

fn adjustment(process: &str) -> i32 {
    let text = fs::read_to_string(format!("/proc/{process}/oom_score_adj"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL_ADJUSTMENT)
}

/// The kernel's counter of processes that it has ended for want of memory.
#[derive(Debug)]
pub(super) struct OomKills {
    counter: PathBuf,
    /// The last count, and the time of its reading.
    last: Mutex<Option<(Instant, u64)>>,
}

impl OomKills {
    /// The counter of this process's control group, or that of the machine.
    pub fn of_process() -> Self {
        let counter = group_counter(&control_groups::own(), |path| count_in(path).is_some());
        let counter = counter.unwrap_or_else(|| PathBuf::from("/proc/vmstat"));
        Self { counter, last: Mutex::default() }
    }

    /// The count, at most [`COUNT_AGE_MAX`] old.
    pub fn before(&self) -> u64 {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last {
            Some((at, count)) if at.elapsed() < COUNT_AGE_MAX => count,
            _ => self.now(),
        }
    }

    fn now(&self) -> u64 {
        let at = Instant::now();
        let count = count_in(&self.counter).unwrap_or(0);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, count));
        count
    }

    /// The end of a vessel that ended like `how` and started when the counter was `before`. The
    /// vessel is a victim when the counter has grown and SIGKILL has ended the vessel, or a process
    /// that its shell waited for.
    pub fn explain(&self, how: HowEnded, before: u64) -> HowEnded {
        let exit_code = match how {
            HowEnded::Signaled(signal) if signal == Signal::KILL.as_raw() => None,
            HowEnded::Exited(EXIT_KILLED) => Some(EXIT_KILLED),
            _ => return how,
        };
        match self.now() > before {
            true => HowEnded::OutOfMemory { exit_code },
            false => how,
        }
    }
}

/// The counter of the innermost group, of those that contain this process, for which `has_count` is
/// true. In a container the paths may be those of the machine, and only the groups above them
/// exist.
fn group_counter(cgroup: &str, has_count: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut counters =
        control_groups::files(cgroup, "memory", ["memory.events", "memory.oom_control"]);
    counters.find(|path| has_count(path))
}

fn count_in(path: &Path) -> Option<u64> {
    count(&fs::read_to_string(path).ok()?)
}

/// The count in memory.events, memory.oom_control or vmstat.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_every_kind_of_file() {
        let events = "low 0\nhigh 0\nmax 57\noom 4\noom_kill 3\noom_group_kill 9\n";
        assert_eq!(count(events), Some(3));
        assert_eq!(count("oom_kill_disable 1\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(count("pgfault 10\noom_kill 12\n"), Some(12));
        assert_eq!(count("oom_kill_disable 1\n"), None);
    }

    #[test]
    fn the_counter_of_the_innermost_group_is_used() {
        let of = |cgroup: &str, there: &str| group_counter(cgroup, |path| path == Path::new(there));
        let counter = "/sys/fs/cgroup/system.slice/boathook.service/memory.events";
        assert_eq!(of("0::/system.slice/boathook.service\n", counter), Some(counter.into()));
        let above = "/sys/fs/cgroup/memory/memory.oom_control";
        assert_eq!(of("9:cpu:/\n4:memory:/docker/1f\n0::/\n", above), Some(above.into()));
        assert_eq!(of("0::/\n", "/proc/vmstat"), None);
    }

    #[test]
    fn only_an_end_by_sigkill_while_the_counter_moved_is_out_of_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let set = |count: u64| fs::write(file.path(), format!("oom_kill {count}\n")).unwrap();
        let kills = OomKills { counter: file.path().to_owned(), last: Mutex::default() };
        set(5);
        let before = kills.before();
        let killed = || HowEnded::Signaled(Signal::KILL.as_raw());
        assert_eq!(kills.explain(killed(), before), killed());
        set(6);
        for (how, expected) in [
            (killed(), HowEnded::OutOfMemory { exit_code: None }),
            (HowEnded::Exited(137), HowEnded::OutOfMemory { exit_code: Some(137) }),
            (HowEnded::Exited(1), HowEnded::Exited(1)),
            (HowEnded::Signaled(15), HowEnded::Signaled(15)),
            (HowEnded::CutOff, HowEnded::CutOff),
        ] {
            assert_eq!(kills.explain(how, before), expected);
        }
        // The one that starts now has nothing to do with it.
        assert_eq!(kills.explain(killed(), kills.before()), killed());
    }
}
