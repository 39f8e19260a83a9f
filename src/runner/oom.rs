//! Vessels and the kernel's out-of-memory killer: which of our processes it should take, and whether
//! it has taken one. It counts the processes that it has ended for each control group and for the
//! machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::HowEnded;
use crate::os::control_groups;

/// What vessels have where the server has less (proc_pid_oom_score_adj(5)).
const USUAL_ADJUSTMENT: i32 = 0;
/// How old a count may be that a vessel starts with. The machine's counter costs as much to read as
/// a twentieth of a start; under load it is read once in this time.
const COUNT_AGE_MAX: Duration = Duration::from_secs(1);
/// Exit code of a shell one of whose processes SIGKILL has ended.
const EXIT_KILLED: i32 = 128 + Signal::KILL.as_raw();

/// Makes a process that has just been started, and what it has started since, as likely a victim as
/// any other process, where the server itself is a less likely one: children inherit its adjustment,
/// and posix_spawn cannot set another.
pub(super) fn expose(leader: Pid) {
    static IS_SHIELDED: LazyLock<bool> = LazyLock::new(|| adjustment("self") < USUAL_ADJUSTMENT);
    if !*IS_SHIELDED {
        return;
    }
    let mut processes = vec![leader.as_raw_pid().to_string()];
    while let Some(process) = processes.pop() {
        // A process that has ended needs none. What comes of it later inherits what is set here.
        let path = format!("/proc/{process}/oom_score_adj");
        if let Err(error) = fs::write(path, USUAL_ADJUSTMENT.to_string()) {
            log::debug!(process, error:%; "a vessel keeps the server's oom_score_adj");
        }
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        processes.extend(children.iter().flat_map(|it| it.split_whitespace()).map(str::to_owned));
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
    /// What it was last, and when.
    last: Mutex<Option<(Instant, u64)>>,
}

impl OomKills {
    /// The counter of this process's control group, else of the machine.
    pub fn of_process() -> Self {
        let counter = group_counter(&control_groups::own(), |path| count_in(path).is_some());
        let counter = counter.unwrap_or_else(|| PathBuf::from("/proc/vmstat"));
        Self { counter, last: Mutex::default() }
    }

    /// What the counter was a moment ago.
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

    /// `how` a vessel has ended that started when the counter was at `before`, with the kernel's part
    /// in it. A vessel counts as a victim when SIGKILL has ended it, or a process that its shell
    /// waited for, and the counter has moved since.
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

/// The counter of the innermost group of this process, or one above it, that has one: `has_count`
/// tells. In a container the paths may be those of the machine, and the groups lie above them.
fn group_counter(cgroup: &str, has_count: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let counters = control_groups::parse(cgroup).filter_map(|(controllers, path)| {
        let (top, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.events"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.oom_control")
            }
            _ => return None,
        };
        let group = PathBuf::from(top).join(path.trim_start_matches('/'));
        let chain = group.ancestors().take_while(|it| it.starts_with(top));
        Some(chain.map(|it| it.join(name)).collect::<Vec<_>>())
    });
    counters.flatten().find(|path| has_count(path))
}

fn count_in(path: &Path) -> Option<u64> {
    count(&fs::read_to_string(path).ok()?)
}

/// The processes ended so far, by memory.events, memory.oom_control or vmstat.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_of_every_kind_of_file() {
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
