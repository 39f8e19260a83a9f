//! A vessel's process group: its signals, and whether it has members left.
//!
//! Signalling by number is safe. Linux does not reuse a number while it is the id of a process
//! (zombies included), of a process group or of a session (kernel/pid.c). So the id belongs to the
//! group
//! - until the leader is reaped, which only this process does, and
//! - afterwards while a member lives.
//!
//! After that, [`ProcessGroup::is_gone`] is true at the next call. The kernel hands numbers out in
//! a cycle over at least 32,768, so that a number is not reused within the milliseconds between two
//! calls. A signal is sent only right after a call has found members.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::process::{kill_process_group, test_kill_process_group, waitpgid};

use super::process_table::processes;

/// How long a process may outlive SIGKILL before it is given up: it hangs in the kernel or belongs
/// to another user. A worker must not wait forever.
const KILL_WAIT_MAX: Duration = Duration::from_secs(30);
/// The pauses between two looks at a group that is ending grow between these bounds. Most groups
/// end within a millisecond of SIGTERM.
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

    /// Sends `signal` to every member. Errors (no member left, a set-user-id program) show in
    /// [`ProcessGroup::is_gone`].
    pub fn signal(self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }

    /// Whether no member is left. Takes one system call when that is so.
    pub fn is_gone(self) -> bool {
        if test_kill_process_group(self.0) == Err(Errno::SRCH) {
            return true;
        }
        // Orphans of the vessel are children of this process. The reaper takes a while.
        while let Ok(Some(_)) = waitpgid(self.0, WaitOptions::NOHANG) {}
        test_kill_process_group(self.0) == Err(Errno::SRCH)
    }

    /// Whether only zombies are left: ended members that a parent outside of the group, or a
    /// process 1, does not reap. Reads all of /proc.
    pub fn is_only_zombies(self) -> bool {
        processes().is_ok_and(|all| all.iter().all(|it| it.group != self.id() || it.is_zombie))
    }
}

/// The stages by which processes are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// No signal was sent.
    NotAsked,
    Asked {
        kill_at: Instant,
    },
    Killed {
        give_up_at: Instant,
    },
    /// SIGKILL did not end them: they hang in the kernel or belong to another user.
    GivenUp,
}

/// The next action of an [`Ending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Kill,
    GiveUp,
}

impl Ending {
    /// The stage after SIGTERM was sent at `now`.
    pub fn asked(now: Instant, kill_grace: Duration) -> Self {
        Self::Asked { kill_at: now + kill_grace }
    }

    /// Advances to the stage at `now` and returns its action.
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

    /// The time of the next stage.
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
