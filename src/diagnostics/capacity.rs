//! The system's limits of open files and of processes, which include threads.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::model::finding::Finding;
use crate::os::control_groups;
use crate::os::descriptor_budget::{self, Concurrency};

const FILES: &str = "open-files";
const PROCESSES: &str = "processes";
/// An estimate of the processes and threads of one vessel: a shell and its children.
const PER_VESSEL: usize = 4;
/// Threads besides those of workers and connections.
const BASE: usize = 64;

/// Whether the limits suffice for `wanted`.
pub(super) fn examine(wanted: Concurrency) -> Vec<Finding> {
    // The kernel does not apply RLIMIT_NPROC to root (setrlimit(2)).
    let is_root = rustix::process::geteuid().is_root();
    let of_user = (!is_root).then(|| getrlimit(Resource::Nproc).current).flatten();
    let of_group = group_limit(&control_groups::own(), |it| fs::read_to_string(it).ok());
    let limits = [(of_user, "LimitNPROC="), (of_group, "TasksMax=")];
    let least = limits.into_iter().filter_map(|(limit, name)| Some((limit?, name))).min();
    vec![of_files(descriptor_budget::open_file_limit(), wanted), of_processes(least, wanted)]
}

fn of_files(limit: usize, wanted: Concurrency) -> Finding {
    let granted = wanted.within(limit);
    if granted == wanted {
        return Finding::ok(FILES, "enough for all connections and workers");
    }
    let what = format!(
        "{limit} at a time are enough for {} connections to each listener, not for {}",
        granted.connections, wanted.connections
    );
    let remedy = format!(
        "raise the hard limit to {} (LimitNOFILE= in the unit, ulimit -n elsewhere), or lower \
         `max_connections`",
        wanted.needed()
    );
    Finding::warning(FILES, what, remedy)
}

fn of_processes(limit: Option<(u64, &str)>, wanted: Concurrency) -> Finding {
    // Each connection of both listeners has a thread.
    let connections = wanted.connections.saturating_mul(2);
    let vessels = wanted.workers.saturating_mul(PER_VESSEL + 1);
    let needed = connections.saturating_add(vessels).saturating_add(BASE) as u64;
    match limit {
        Some((limit, name)) if limit < needed => {
            let what = format!(
                "{limit} at a time, threads included; all connections and workers may take {needed}"
            );
            let remedy = format!("raise it ({name} in the unit), or lower `workers`");
            Finding::warning(PROCESSES, what, remedy)
        }
        Some((limit, _)) => Finding::ok(PROCESSES, format!("up to {limit}, threads included")),
        None => Finding::ok(PROCESSES, "no limit"),
    }
}

/// The lowest limit of this process's control groups and of the groups above them.
fn group_limit(cgroup: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = control_groups::files(cgroup, "pids", ["pids.max"; 2]);
    limits.filter_map(|path| read(&path)?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::defaults::WORKERS_PER_CORE;
    use crate::model::finding::Level;

    const ASKED: Concurrency = Concurrency { workers: 8, connections: 1024, requests: 137 };

    #[test]
    fn limits_below_the_need_are_warnings() {
        assert_eq!(of_files(ASKED.needed(), ASKED).level, Level::Ok);
        let short = of_files(1024, ASKED);
        assert_eq!(short.level, Level::Warning);
        assert!(short.remedy.unwrap().contains(&ASKED.needed().to_string()));
        assert_eq!(of_processes(None, ASKED).level, Level::Ok);
        assert_eq!(of_processes(Some((4915, "TasksMax=")), ASKED).level, Level::Ok);
        let short = of_processes(Some((512, "TasksMax=")), ASKED);
        assert!(short.level == Level::Warning && short.remedy.unwrap().contains("TasksMax="));
    }

    #[test]
    fn the_packaged_unit_allows_the_processes_that_the_defaults_take() {
        let unit = include_str!("../../systemd/boathook.service");
        let limit = unit.lines().find_map(|line| line.strip_prefix("TasksMax=")).unwrap();
        let limit = Some((limit.parse().unwrap(), "TasksMax="));
        for cores in [1, 2, 16, 128] {
            let wanted = Concurrency { workers: cores * WORKERS_PER_CORE, ..ASKED };
            assert_eq!(of_processes(limit, wanted).level, Level::Ok, "{cores} cores");
        }
    }

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        let read = |path: &Path| match path.to_str().unwrap() {
            "/sys/fs/cgroup/a.slice/b.service/pids.max" => Some("max\n".to_owned()),
            "/sys/fs/cgroup/a.slice/pids.max" => Some("700\n".to_owned()),
            "/sys/fs/cgroup/pids/c/pids.max" => Some("900\n".to_owned()),
            _ => None,
        };
        assert_eq!(group_limit("0::/a.slice/b.service\n", read), Some(700));
        assert_eq!(group_limit("8:pids:/c\n1:cpu:/x\n", read), Some(900));
        assert_eq!(group_limit("0::/\n", read), None);
        assert_eq!(group_limit("", read), None);
    }
}
