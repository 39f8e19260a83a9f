//! The clock: whether its time is plausible, and whether a time service keeps it right.

use std::path::Path;

use crate::model::clock::Timestamp;
use crate::model::finding::Finding;
use crate::model::limits::CLOCK_STEP_MAX;

const CHECK: &str = "clock";
/// 2026-01-01 to 2100-01-01: the first version of this program, and a generous lifetime.
const PLAUSIBLE_MILLIS: std::ops::Range<i64> = 1_767_225_600_000..4_102_444_800_000;

/// The state of the time service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeService {
    Synchronised,
    /// A service runs and has not reached a server yet.
    Waiting,
    Unknown,
}

/// `last`: the time at which the last run was accepted.
pub(super) fn examine(now: Timestamp, last: Option<Timestamp>) -> Finding {
    judge(now, last, time_service(|path| Path::new(path).exists()))
}

fn time_service(exists: impl Fn(&str) -> bool) -> TimeService {
    // systemd-timesyncd makes the file with its first response. The other services have no such
    // sign and count as synchronised when they run.
    let others = ["/run/chrony", "/run/ntpd.pid", "/run/openntpd.sock", "/var/run/ntpd.sock"];
    if exists("/run/systemd/timesync/synchronized") || others.iter().any(|path| exists(path)) {
        TimeService::Synchronised
    } else if exists("/run/systemd/timesync") {
        TimeService::Waiting
    } else {
        TimeService::Unknown
    }
}

fn judge(now: Timestamp, last: Option<Timestamp>, service: TimeService) -> Finding {
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
    match service {
        TimeService::Synchronised => Finding::ok(CHECK, format!("{now}, synchronised")),
        TimeService::Unknown => {
            Finding::ok(CHECK, format!("{now}; no known time service was found"))
        }
        TimeService::Waiting => {
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
    fn implausible_set_back_and_unsynchronised_clocks_are_found() {
        let now: Timestamp = "2026-11-25T21:00:00Z".parse().unwrap();
        let level = |now: Timestamp, last, service| judge(now, last, service).level;
        assert_eq!(level(now, None, TimeService::Synchronised), Level::Ok);
        assert_eq!(level(now, Some(now.plus(CLOCK_STEP_MAX)), TimeService::Unknown), Level::Ok);
        let ahead = now.plus(CLOCK_STEP_MAX * 2);
        assert_eq!(level(now, Some(ahead), TimeService::Synchronised), Level::Warning);
        assert_eq!(level(now, None, TimeService::Waiting), Level::Warning);
        let reset = Timestamp::from_millis(0);
        assert_eq!(level(reset, None, TimeService::Synchronised), Level::Problem);
    }

    #[test]
    fn time_services_are_known_by_their_files() {
        let of = |there: &[&str]| time_service(|path| there.contains(&path));
        assert_eq!(of(&[]), TimeService::Unknown);
        assert_eq!(of(&["/run/systemd/timesync"]), TimeService::Waiting);
        let both = ["/run/systemd/timesync", "/run/systemd/timesync/synchronized"];
        assert_eq!(of(&both), TimeService::Synchronised);
        assert_eq!(of(&["/run/chrony"]), TimeService::Synchronised);
    }
}
