//! Vessels that take more memory than there is, and whom the kernel ends for it.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::api::vessel_of;

/// A vessel that takes memory until there is none: tail keeps a line to its end, which never comes.
const GREEDY: [&str; 2] = ["tail", "/dev/zero"];

/// A control group with little memory, removed when dropped.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    const BYTES: &str = "268435456";

    /// `None` where no such group can be made.
    fn new(name: &str) -> Option<Self> {
        let name = format!("boathook-it-{name}-{}", std::process::id());
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        for line in own.lines() {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let (top, limit, swap) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
                "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.swappiness"),
                _ => continue,
            };
            let group = Self(PathBuf::from(top).join(path.trim_start_matches('/')).join(&name));
            let made =
                fs::create_dir(&group.0).and_then(|()| fs::write(group.0.join(limit), Self::BYTES));
            // There may be no swap to forbid.
            let _ = fs::write(group.0.join(swap), "0");
            if made.is_ok() {
                return Some(group);
            }
        }
        println!("skipped: only root can make a control group with a limit of memory");
        None
    }

    /// Shell commands that move the shell into it.
    fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs || exit 1", self.0.display())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn reason(run: &Value, vessel: &str) -> String {
    vessel_of(run, vessel)["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_vessel_that_takes_all_memory_ends_alone_and_says_so() {
    let Some(group) = MemoryGroup::new("greedy") else { return };
    let server = Server::builder().after_shell(&group.enter()).start();
    let api = server.api();
    let release = server.scratch().join("release");
    let innocent = format!("until [ -e {} ]; do sleep 0.1; done", release.display());
    let innocent = api.apply(&json!({"name": "innocent", "vessels": {"v": {"run": innocent}}}));
    let innocent = api.start(&innocent);
    let greedy = api.apply(&json!({"name": "greedy", "vessels": {
        "leader": {"command": GREEDY},
        "child": {"run": "tail /dev/zero; exit $?"},
        "other": {"run": "exit 137"},
    }, "connections": {"leader": {"child": "ERRORED"}, "child": {"other": "ERRORED"}}}));
    let run = api.wait_ended(&api.start(&greedy));
    assert_eq!(reason(&run, "leader"), "out of memory: the kernel ended it");
    assert_eq!(vessel_of(&run, "leader")["signal"], 9);
    let child = "out of memory: the kernel ended a process of it, exit code 137";
    assert_eq!(reason(&run, "child"), child);
    assert_eq!(vessel_of(&run, "child")["exit_code"], 137);
    let log = api.output(&run, "leader");
    assert!(log.contains("boathook: out of memory: ") && log.contains("MemoryMax="), "{log}");
    // The same exit code without a word of the kernel's.
    assert_eq!(reason(&run, "other"), "exit code 137");
    fs::write(release, "").unwrap();
    let run = api.wait_status(&innocent, "Success");
    assert_eq!(vessel_of(&run, "v")["attempt"], 1);
}

#[test]
fn vessels_and_what_they_start_do_not_inherit_the_servers_oom_score_adj() {
    let adjust = |to: i32| format!("echo {to} > /proc/self/oom_score_adj || exit 1");
    let can_lower = fs::write("/proc/self/oom_score_adj", "-1").is_ok();
    if can_lower {
        fs::write("/proc/self/oom_score_adj", "0").unwrap();
    } else {
        println!("skipped in part: to lower oom_score_adj takes CAP_SYS_RESOURCE");
    }
    // The server sets it right after the start, so the vessel may have to wait for that.
    let show = |expected: i32| {
        let read = "cat /proc/self/oom_score_adj";
        format!(
            "for _ in $(seq 1000); do [ $({read}) = {expected} ] && break; done; {read}; ({read})"
        )
    };
    // One that is more likely to be taken than others has vessels like it.
    for (of_server, of_vessels) in [(-900, 0), (0, 0), (300, 300)] {
        if of_server < 0 && !can_lower {
            continue;
        }
        let server = Server::builder().after_shell(&adjust(of_server)).start();
        let kept = fs::read_to_string(format!("/proc/{}/oom_score_adj", server.pid())).unwrap();
        assert_eq!(kept.trim(), of_server.to_string());
        let api = server.api();
        let show = show(of_vessels);
        let fleet = json!({"name": "shown", "vessels": {
            "plain": {"run": show}, "limited": {"run": show, "limits": {"open_files": 100}},
        }});
        let run = api.wait_status(&api.start(&api.apply(&fleet)), "Success");
        for vessel in ["plain", "limited"] {
            let expected = format!("{of_vessels}\n{of_vessels}\n");
            assert_eq!(api.output(&run, vessel), expected, "{vessel} of {of_server}");
        }
    }
}
