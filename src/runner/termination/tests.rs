use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::model::clock::Timestamp;
use crate::model::ids::{InstanceId, RunIds, VesselRunId};

const GRACE: Duration = Duration::from_secs(20);

fn vessel_run(random: u64) -> VesselRunId {
    RunIds::after(None).next(Timestamp::from_millis(1_700_000_000_000), random).vessel_run(0)
}

/// `program` with the limit that carries `mark`.
fn marked(mark: Mark, program: &str) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--locks={}:unlimited", mark.limit().current.unwrap())).arg(program);
    command
}

/// A server of its own, and a directory for what its vessels write.
struct Fixture {
    instance: InstanceId,
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { instance: InstanceId::random(), directory: tempfile::tempdir().unwrap() }
    }

    fn mark(&self, vessel_run: VesselRunId) -> Mark {
        Mark::of_vessel_run(self.instance, vessel_run)
    }

    /// Starts `script` as a vessel would be, and waits until it has made the file `up`.
    fn start(&self, script: &str, vessel_run: VesselRunId) -> Child {
        let up = self.path("up");
        let _ = fs::remove_file(&up);
        let mut command = marked(self.mark(vessel_run), "/bin/sh");
        command
            .args(["-c", script])
            .current_dir(&self.directory)
            .env("BOATHOOK_INSTANCE", self.instance.to_string())
            .env("SHIPYARD_LOG_ID", vessel_run.to_string())
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        self.await_file("up");
        child
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn await_file(&self, name: &str) {
        while !self.path(name).exists() {
            std::thread::sleep(PAUSE_MIN);
        }
    }

    fn pid_in(&self, name: &str) -> Pid {
        let text = || fs::read_to_string(self.path(name)).unwrap_or_default();
        while !text().ends_with('\n') {
            std::thread::sleep(PAUSE_MIN);
        }
        Pid::from_raw(text().trim().parse().unwrap()).unwrap()
    }

    fn end(&self, vessel_runs: &[VesselRunId], grace: Duration) -> Report {
        let marks = vessel_runs.iter().map(|it| self.mark(*it)).collect();
        Termination::of_marked(marks).run(grace)
    }
}

fn lives(pid: Pid) -> bool {
    Process::read(pid).is_some_and(|process| !process.is_zombie)
}

fn has_living_members(child: &Child) -> bool {
    let group = ProcessGroup::led_by(Pid::from_child(child));
    !group.is_gone() && !group.is_only_zombies()
}

#[test]
fn marked_processes_end_and_no_others() {
    let (fixture, mine, other) = (Fixture::new(), vessel_run(1), vessel_run(2));
    let mut polite = fixture.start("sleep 1000 & : > up; wait", mine);
    let mut stubborn = fixture.start("trap '' TERM; : > up; while :; do sleep 1000; done", mine);
    let mut other_run = fixture.start(": > up; exec sleep 1000", other);
    let other_server = Fixture::new();
    let mut other_instance = other_server.start(": > up; exec sleep 1000", mine);
    let report = fixture.end(&[mine], Duration::from_millis(100));
    assert!(report.found >= 2 && report.left.is_empty(), "{report:?}");
    for child in [&mut polite, &mut stubborn] {
        assert!(!has_living_members(child));
        let _ = child.wait();
    }
    for child in [&mut other_run, &mut other_instance] {
        assert!(child.try_wait().unwrap().is_none(), "ended another run's process");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn processes_with_a_cleaned_environment_end_wherever_they_went() {
    let (fixture, mine) = (Fixture::new(), vessel_run(3));
    for script in [
        // In the group of the leader, which has lost its marks as well.
        "env -i sh -c 'echo $$ > pid; exec sleep 1000' & : > up; wait",
        // In a session of its own, below a leader that still runs.
        "env -i setsid sh -c 'echo $$ > pid; exec sleep 1000' & : > up; wait",
        // The same with every process between them gone.
        "(env -i setsid sh -c 'echo $$ > pid; exec sleep 1000' &) ; : > up; exec sleep 1000",
        // Alone: its leader has ended before the search.
        "env -i setsid sh -c 'echo $$ > pid; exec sleep 1000' & : > up",
    ] {
        let _ = fs::remove_file(fixture.path("pid"));
        let mut child = fixture.start(script, mine);
        let pid = fixture.pid_in("pid");
        assert!(lives(pid), "{script}");
        assert_ne!(fixture.end(&[mine], GRACE).found, 0, "{script}");
        assert!(!lives(pid), "{script}");
        let _ = child.wait();
    }
}

#[test]
fn sigterm_is_sent_once_whatever_the_number_of_processes() {
    let (fixture, mine) = (Fixture::new(), vessel_run(4));
    // A leader with twenty children, and a second group. Each writes a line for every SIGTERM, and
    // works for a while before it ends; what its cleanup starts is spared as well.
    let script = r#"
        for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 1000 & done
        count() {
            echo "$1" >> terms
            (trap 'echo "cleanup of $1" >> terms' TERM; sleep 0.3; echo "$1 done" >> cleaned)
            exit
        }
        setsid sh -c '
            trap "echo other >> terms; sleep 0.3; echo other done >> cleaned; exit" TERM
            : > other-up; while :; do sleep 0.01; done' &
        while [ ! -e other-up ]; do sleep 0.01; done
        trap 'count leader' TERM
        : > up
        while :; do sleep 0.01; done
    "#;
    let mut child = fixture.start(script, mine);
    let report = fixture.end(&[mine], GRACE);
    assert!(report.found >= 22, "{report:?}");
    let lines = |name: &str| {
        let text = fs::read_to_string(fixture.path(name)).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines("terms"), ["leader", "other"]);
    assert_eq!(lines("cleaned"), ["leader done", "other done"]);
    let _ = child.wait();
}

#[test]
fn members_of_other_users_are_spared_in_a_group_that_a_marked_process_is_in() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: takes root");
        return;
    }
    let (fixture, mine) = (Fixture::new(), vessel_run(5));
    // The leader, a bystander of another user in its group (unmarked: it was not started by the
    // vessel), and a marked process of root that has joined that group.
    let mut bystander = Command::new("sleep");
    bystander.arg("1000").process_group(0).uid(65534).gid(65534);
    let mut bystander = bystander.spawn().unwrap();
    let mut marked = marked(fixture.mark(mine), "sleep");
    marked
        .arg("1000")
        .env("BOATHOOK_INSTANCE", fixture.instance.to_string())
        .env("SHIPYARD_LOG_ID", mine.to_string())
        .process_group(bystander.id().try_into().unwrap());
    let mut marked = marked.spawn().unwrap();
    while Mark::of_process(Pid::from_child(&marked)).next().is_none() {
        std::thread::yield_now();
    }
    let report = fixture.end(&[mine], GRACE);
    assert_eq!((report.found, report.left.len()), (1, 0), "{report:?}");
    assert!(!lives(Pid::from_child(&marked)));
    assert!(lives(Pid::from_child(&bystander)), "a process of another user was ended");
    marked.wait().unwrap();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn processes_that_start_others_while_they_end_do_not_escape() {
    let (fixture, mine) = (Fixture::new(), vessel_run(6));
    // On SIGTERM it moves on: a new session each time, deaf to what comes next.
    let script = r#"
        hop='trap "" TERM; echo hop >> hops; sleep 0.02; [ $(wc -l < hops) -gt 200 ] || setsid sh -c "$hop"'
        export hop
        trap 'setsid sh -c "$hop" & exit' TERM
        : > up; while :; do sleep 0.01; done
    "#;
    let mut child = fixture.start(script, mine);
    let report = fixture.end(&[mine], Duration::from_secs(1));
    assert!(report.left.is_empty(), "{report:?}");
    let hops = || fs::read_to_string(fixture.path("hops")).unwrap_or_default().len();
    let left = processes().unwrap().into_iter().filter(|process| {
        !process.is_zombie && Mark::of_process(process.pid).any(|it| it == fixture.mark(mine))
    });
    assert_eq!(left.count(), 0);
    assert!(hops() > 0, "the test does not hop");
    let _ = child.wait();
}
