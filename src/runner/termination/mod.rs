//! Ends all that an attempt has started, wherever it went: its own group, the processes that carry
//! its mark, the descendants of these and of its leader, and the groups of these whose members are
//! all of one user. A stop, a cutoff, a retry and the start after a crash end processes this way.
//!
//! SIGTERM goes once to each group and once to each process elsewhere: a cleanup that a trap has
//! begun is not hit again, nor are the programs that it starts. SIGKILL goes to everything until
//! nothing is left. A process is held by a pidfd before it is signalled, so that the signal cannot
//! reach another process that has been given its id.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use rustix::process::{getpgid, getpgrp, getpid, kill_process_group, pidfd_send_signal};

use super::group::{Ending, PAUSE_MAX, PAUSE_MIN, ProcessGroup, Step};
use super::mark::{Mark, Marks};
use super::orphans;
use super::process_table::{Process, has_ended, processes};

/// Processes that a line of a log names.
const NAMED_MAX: usize = 5;

/// The search for an attempt's processes, and what they have been sent.
pub(super) struct Termination {
    marks: Marks,
    /// The leader of an attempt under way: its id is not free before it is reaped.
    leader: Option<Pid>,
    /// The attempt's own group, which is signalled as one, whatever its members.
    own_group: Option<ProcessGroup>,
    /// What is sent now.
    signal: Signal,
    /// The processes of the last look that have not ended.
    targets: Vec<Target>,
    told: HashSet<Pid>,
    told_groups: HashSet<i32>,
    /// Processes of other users, which may not be signalled. The termination does not wait for them.
    out_of_reach: BTreeMap<i32, String>,
}

/// A process to be ended.
struct Target {
    process: Process,
    held: OwnedFd,
    /// Whether its group is signalled as one.
    takes_group_along: bool,
}

/// What has become of processes that were to be ended.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// How many there were.
    pub found: usize,
    /// Those that live on because they may not be signalled or outlive SIGKILL, for people.
    pub left: Vec<String>,
}

impl Report {
    /// A line for the log of the vessel, if something lives on.
    pub fn what_is_left(&self) -> Option<String> {
        let names = named(self.left.iter().cloned());
        (!self.left.is_empty()).then(|| {
            format!(
                "boathook: could not be ended: {names}; it belongs to another user, or hangs in the \
                 system: end it by hand"
            )
        })
    }
}

/// The names of processes for a line of a log: all of a few, else the first and how many more.
pub(super) fn named(processes: impl ExactSizeIterator<Item = String>) -> String {
    let more = processes.len().saturating_sub(NAMED_MAX);
    let mut names = processes.take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        names.push_str(&format!(" and {more} more"));
    }
    names
}

impl Termination {
    /// Ends what carries one of `marks`.
    pub fn of_marked(marks: Marks) -> Self {
        Self {
            marks,
            leader: None,
            own_group: None,
            signal: Signal::TERM,
            targets: Vec::new(),
            told: HashSet::new(),
            told_groups: HashSet::new(),
            out_of_reach: BTreeMap::new(),
        }
    }

    /// Ends what an attempt has started that is under way: SIGTERM is sent at once.
    pub fn of_attempt(mark: Option<Mark>, leader: Pid) -> Self {
        let marks = mark.into_iter().collect();
        let own_group = Some(ProcessGroup::led_by(leader));
        let mut this = Self { leader: Some(leader), own_group, ..Self::of_marked(marks) };
        // All of it is found before any of it ends: then its children have another parent.
        this.look();
        this.send();
        this
    }

    /// Looks for the processes. Failures are logged: what is not found cannot be ended.
    fn look(&mut self) {
        self.targets.retain(|target| !has_ended(&target.held));
        match self.find() {
            Ok(targets) => self.targets = targets,
            Err(error) => log::error!(error:%; "/proc cannot be read: processes are not found"),
        }
    }

    /// Sends SIGTERM to what the last look has found and what has not had it; SIGKILL to all of it
    /// once there was a [`kill`](Self::kill).
    fn send(&mut self) {
        let mut signalled = HashSet::new();
        if let Some(group) = self.own_group
            && (self.signal == Signal::KILL || !self.told_groups.contains(&group.id()))
        {
            group.signal(self.signal);
            group.signal(Signal::CONT);
            signalled.insert(group.id());
        }
        for target in &self.targets {
            let group = target.process.group;
            if signalled.contains(&group) || self.signal == Signal::TERM && !self.is_untold(target)
            {
                continue;
            }
            let sent = match target.takes_group_along {
                true => target.signal_group(self.signal),
                false => target.signal(self.signal),
            };
            if sent == Err(Errno::PERM) {
                self.out_of_reach.insert(target.pid().as_raw_pid(), target.process.shown());
            } else if target.takes_group_along {
                signalled.insert(group);
            }
        }
        self.told_groups.extend(signalled);
        self.told.extend(self.targets.iter().map(Target::pid));
        let out_of_reach = &self.out_of_reach;
        self.targets.retain(|target| !out_of_reach.contains_key(&target.pid().as_raw_pid()));
    }

    /// From here on SIGKILL is sent.
    pub fn kill(&mut self) {
        self.signal = Signal::KILL;
        self.look();
        self.send();
    }

    /// The leader is about to be reaped: then its id, and at last that of its group, are free.
    pub fn forget_leader(&mut self) {
        self.leader = None;
        self.own_group = None;
    }

    /// Whether nothing is left that could be ended. Looks again when all that was found has ended.
    pub fn is_over(&mut self) -> bool {
        self.targets.retain(|target| !has_ended(&target.held));
        if self.targets.is_empty() {
            self.look();
            self.send();
        }
        let is_over = self.targets.is_empty();
        if is_over {
            // Programs take a zombie for a process that runs (kill(2) succeeds).
            orphans::reap();
        }
        is_over
    }

    /// What has become of the processes, when that is over or was given up.
    pub fn report(&self) -> Report {
        let outlive = self.targets.iter().map(|target| target.process.shown());
        let left = self.out_of_reach.values().cloned().chain(outlive).collect();
        Report { found: self.told.len(), left }
    }

    /// Ends the processes, and waits until none is left or the rest is given up.
    pub fn run(mut self, kill_grace: Duration) -> Report {
        self.look();
        self.send();
        let mut ending = Ending::asked(Instant::now(), kill_grace);
        let mut pause = PAUSE_MIN;
        while !self.is_over() {
            match ending.advance(Instant::now()) {
                Step::Wait => {}
                Step::Kill => self.kill(),
                Step::GiveUp => {
                    let processes = self.targets.len();
                    log::error!(processes; "processes outlive SIGKILL and are given up");
                    break;
                }
            }
            self.await_ends(ending.due_at());
            // Programs that start others for ever must not take a processor for the search.
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.report()
    }

    /// Waits until all that was found has ended or `until` has come.
    fn await_ends(&self, until: Option<Instant>) {
        for target in &self.targets {
            let left =
                until.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
            let Ok(timeout) = Timespec::try_from(left) else { return };
            let _ = poll(&mut [PollFd::new(&target.held, PollFlags::IN)], Some(&timeout));
        }
    }

    /// Whether SIGTERM is still to be sent. Not to a process that joined a group which has had it,
    /// nor to one that a process which has had it started since: it may be part of a cleanup.
    fn is_untold(&self, target: &Target) -> bool {
        let is_told = |pid: i32| Pid::from_raw(pid).is_some_and(|pid| self.told.contains(&pid));
        let Process { pid, parent, group, .. } = target.process;
        !(self.told.contains(&pid) || is_told(parent) || self.told_groups.contains(&group))
    }

    fn find(&self) -> io::Result<Vec<Target>> {
        let own = getpid();
        let mut living = processes()?;
        living.retain(|process| process.pid != own && !process.is_zombie);
        let found = self.wanted(&living);
        let mut groups = groups_of_one_user(&found, &living);
        groups.extend(self.own_group.map(ProcessGroup::id));
        let takes_along = |process: &Process| groups.contains(&process.group);
        let mut with_groups = found;
        with_groups.extend(living.iter().filter(|it| takes_along(it)).map(|it| it.pid));
        add_descendants(&mut with_groups, &living);
        let wanted = living.iter().filter(|process| with_groups.contains(&process.pid));
        let targets = wanted.filter_map(|process| {
            let takes_group_along = takes_along(process);
            Some(Target { process: *process, held: process.hold()?, takes_group_along })
        });
        Ok(targets.collect())
    }

    /// The processes that are marked or descend from what is known, among the `living`.
    fn wanted(&self, living: &[Process]) -> HashSet<Pid> {
        let mut found: HashSet<Pid> = self.targets.iter().map(Target::pid).collect();
        found.extend(self.leader);
        add_descendants(&mut found, living);
        let is_marked =
            |process: &Process| Mark::of_process(process.pid).any(|it| self.marks.contains(&it));
        let marked = living.iter().filter(|it| !found.contains(&it.pid) && is_marked(it));
        let marked: Vec<Pid> = marked.map(|process| process.pid).collect();
        found.extend(marked);
        add_descendants(&mut found, living);
        found
    }
}

impl Target {
    fn pid(&self) -> Pid {
        self.process.pid
    }

    fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        pidfd_send_signal(&self.held, signal)?;
        // A stopped process would not see the signal.
        pidfd_send_signal(&self.held, Signal::CONT)
    }

    /// Signals the group of the process. While the process lives, its group's id is not given to
    /// another group. That it lives is what the second look says.
    fn signal_group(&self, signal: Signal) -> rustix::io::Result<()> {
        let group = getpgid(Some(self.pid()))?;
        if group.as_raw_pid() != self.process.group || has_ended(&self.held) {
            return self.signal(signal);
        }
        kill_process_group(group, signal)?;
        kill_process_group(group, Signal::CONT)
    }
}

/// Adds the descendants of what was `found`, by the parents that processes have now.
fn add_descendants(found: &mut HashSet<Pid>, living: &[Process]) {
    let mut children: HashMap<i32, Vec<Pid>> = HashMap::new();
    for process in living {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut open: Vec<Pid> = found.iter().copied().collect();
    while let Some(parent) = open.pop() {
        for child in children.get(&parent.as_raw_pid()).into_iter().flatten() {
            if found.insert(*child) {
                open.push(*child);
            }
        }
    }
}

/// The groups of what was `found`, all of whose members are of one user. Of a group that another
/// user is in, and of the server's own, only the processes that were found are to be ended.
fn groups_of_one_user(found: &HashSet<Pid>, living: &[Process]) -> HashSet<i32> {
    let own = getpgrp().as_raw_pid();
    let mut users: HashMap<i32, HashSet<Option<u32>>> = living
        .iter()
        .filter(|process| found.contains(&process.pid) && process.group > 0 && process.group != own)
        .map(|process| (process.group, HashSet::new()))
        .collect();
    for process in living {
        if let Some(users) = users.get_mut(&process.group) {
            users.insert(process.user());
        }
    }
    let is_of_one = |users: &HashSet<Option<u32>>| users.len() == 1 && !users.contains(&None);
    users.into_iter().filter(|(_, users)| is_of_one(users)).map(|(group, _)| group).collect()
}

#[cfg(test)]
mod tests;
