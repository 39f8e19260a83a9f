//! A vessel's process group: signalling it, and finding out whether anybody is left in it.
//!
//! Why signalling by number is safe. Linux gives a process id to nobody else while it is the id of
//! a process (zombies included), of a process group or of a session (kernel/pid.c: the number is
//! freed with its last use). So the group's id is ours
//! - while its leader has not been reaped, which only we can do, and
//! - afterwards for as long as a member lives.
//!
//! When the last member has gone after the leader was reaped, the number is free, and
//! [`ProcessGroup::is_gone`] says so with the next call. Numbers are handed out in a cycle over all
//! of them (32,768 at the least), so within the milliseconds between two calls the number cannot
//! come round again. No signal is sent but right after a call has found members.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::process::{kill_process_group, test_kill_process_group, waitpgid};

use super::process_table::processes;

/// How long a process may outlive SIGKILL before it is given up: it hangs in the kernel or belongs
/// to another user, and a worker must not wait for it for ever.
const KILL_WAIT_MAX: Duration = Duration::from_secs(30);

/// Pauses between two looks at a group that is ending: short at first, for most groups end within
/// a millisecond of SIGTERM, and never so long that an end goes unnoticed for a time that matters.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(1);
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A process group by the id of its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProcessGroup(Pid);

impl ProcessGroup {
    pub fn led_by(leader: Pid) -> Self {
        Self(leader)
    }

    pub fn id(self) -> i32 {
        self.0.as_raw_pid()
    }

    /// Sends `signal` to every member. That nobody is left, or that none of them may be
    /// signalled (set-user-id programs), is found out by [`ProcessGroup::is_gone`].
    pub fn signal(self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }

    /// Whether no member is left. One system call, unless somebody is.
    pub fn is_gone(self) -> bool {
        if test_kill_process_group(self.0) == Err(Errno::SRCH) {
            return true;
        }
        // Orphans of the vessel are the server's children, which nobody else reaps at once.
        while let Ok(Some(_)) = waitpgid(self.0, WaitOptions::NOHANG) {}
        test_kill_process_group(self.0) == Err(Errno::SRCH)
    }

    /// Whether only zombies are left: members that have ended, but that a parent outside the
    /// group, or a process 1 that never reaps, does not let go. Looks at every process there is.
    pub fn is_only_zombies(self) -> bool {
        processes().is_ok_and(|all| all.iter().all(|it| it.group != self.id() || it.is_zombie))
    }
}

/// How far the ending of processes has come: asked to end, killed, given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nobody has asked for it.
    NotAsked,
    Asked {
        kill_at: Instant,
    },
    Killed {
        give_up_at: Instant,
    },
    /// Not even SIGKILL ended them: they hang in the kernel or belong to somebody else.
    GivenUp,
}

/// What is to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Kill,
    GiveUp,
}

impl Ending {
    /// SIGTERM is being sent at `now`.
    pub fn asked(now: Instant, kill_grace: Duration) -> Self {
        Self::Asked { kill_at: now + kill_grace }
    }

    /// What is due at `now`; moves on accordingly.
    pub fn advance(&mut self, now: Instant) -> Step {
        match *self {
            Self::Asked { kill_at } if now >= kill_at => {
                *self = Self::Killed { give_up_at: now + KILL_WAIT_MAX };
                Step::Kill
            }
            Self::Killed { give_up_at } if now >= give_up_at => {
                *self = Self::GivenUp;
                Step::GiveUp
            }
            Self::GivenUp => Step::GiveUp,
            _ => Step::Wait,
        }
    }

    /// When the next step is due.
    pub fn due_at(&self) -> Option<Instant> {
        match *self {
            Self::NotAsked | Self::GivenUp => None,
            Self::Asked { kill_at } => Some(kill_at),
            Self::Killed { give_up_at } => Some(give_up_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_kills_once_and_then_gives_up() {
        let now = Instant::now();
        let mut ending = Ending::asked(now, Duration::from_secs(1));
        assert_eq!(ending.advance(now), Step::Wait);
        assert_eq!(ending.advance(now + Duration::from_secs(1)), Step::Kill);
        assert_eq!(ending.advance(now + Duration::from_secs(1)), Step::Wait);
        assert_eq!(ending.advance(now + Duration::from_secs(1) + KILL_WAIT_MAX), Step::GiveUp);
    }
}
