//! The clock: whether it can be right, and whether somebody keeps it so.

use std::path::Path;

use crate::model::clock::Timestamp;
use crate::model::finding::Finding;
use crate::model::limits::CLOCK_STEP_MAX;

const CHECK: &str = "clock";
/// 2026-01-01 and 2100-01-01: this program is younger than the one, and no older than the other.
const PLAUSIBLE_MILLIS: std::ops::Range<i64> = 1_767_225_600_000..4_102_444_800_000;

/// Who keeps a clock right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeper {
    Synchronised,
    /// One is there, and has not reached anybody yet.
    Waiting,
    Unknown,
}

/// `now` is the clock's time; `last`, when it was the last time a run was accepted.
pub(super) fn examine(now: Timestamp, last: Option<Timestamp>) -> Finding {
    judge(now, last, keeper(|path| Path::new(path).exists()))
}

fn keeper(exists: impl Fn(&str) -> bool) -> Keeper {
    // systemd-timesyncd makes the file with its first answer; the others have no such sign, but
    // where they run they do what they are for.
    let others = ["/run/chrony", "/run/ntpd.pid", "/run/openntpd.sock", "/var/run/ntpd.sock"];
    if exists("/run/systemd/timesync/synchronized") || others.iter().any(|path| exists(path)) {
        Keeper::Synchronised
    } else if exists("/run/systemd/timesync") {
        Keeper::Waiting
    } else {
        Keeper::Unknown
    }
}

fn judge(now: Timestamp, last: Option<Timestamp>, keeper: Keeper) -> Finding {
    let set_it = "set it, and have it kept right: timedatectl set-ntp true";
    if !PLAUSIBLE_MILLIS.contains(&now.as_millis()) {
        return Finding::problem(CHECK, format!("it says {now}, which cannot be"), set_it);
    }
    if let Some(last) = last
        && last > now.plus(CLOCK_STEP_MAX)
    {
        let what =
            format!("it says {now}, and the last run was accepted at {last}: it has been put back");
        let remedy = format!("{set_it}; the times of runs accepted meanwhile stay as they are");
        return Finding::warning(CHECK, what, remedy);
    }
    match keeper {
        Keeper::Synchronised => Finding::ok(CHECK, format!("{now}, synchronised")),
        Keeper::Unknown => {
            Finding::ok(CHECK, format!("{now}; who keeps it right cannot be told from here"))
        }
        Keeper::Waiting => {
            let what = format!("{now}, and systemd-timesyncd has not reached a server yet");
            Finding::warning(CHECK, what, "timedatectl timesync-status says why")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::Level;

    #[test]
    fn a_clock_may_be_wrong_in_several_ways() {
        let now: Timestamp = "2026-11-25T21:00:00Z".parse().unwrap();
        let level = |now: Timestamp, last, keeper| judge(now, last, keeper).level;
        assert_eq!(level(now, None, Keeper::Synchronised), Level::Ok);
        assert_eq!(level(now, Some(now.plus(CLOCK_STEP_MAX)), Keeper::Unknown), Level::Ok);
        let ahead = now.plus(CLOCK_STEP_MAX * 2);
        assert_eq!(level(now, Some(ahead), Keeper::Synchronised), Level::Warning);
        assert_eq!(level(now, None, Keeper::Waiting), Level::Warning);
        let reset = Timestamp::from_millis(0);
        assert_eq!(level(reset, None, Keeper::Synchronised), Level::Problem);
    }

    #[test]
    fn its_keeper_is_known_by_what_it_leaves() {
        let of = |there: &[&str]| keeper(|path| there.contains(&path));
        assert_eq!(of(&[]), Keeper::Unknown);
        assert_eq!(of(&["/run/systemd/timesync"]), Keeper::Waiting);
        let both = ["/run/systemd/timesync", "/run/systemd/timesync/synchronized"];
        assert_eq!(of(&both), Keeper::Synchronised);
        assert_eq!(of(&["/run/chrony"]), Keeper::Synchronised);
    }
}
