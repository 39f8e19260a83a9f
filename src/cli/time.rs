//! Times and durations as people read them.

use std::str::FromStr;
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::duration::parse_duration;

/// A point in time, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    Time(Timestamp),
    Ago(Duration),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Since::Time(time));
        }
        parse_duration(text).map(Since::Ago).map_err(|_| {
            format!("not a time: {text:?}; write 2026-01-02T03:04:05Z, or a duration such as 2h")
        })
    }
}

impl Since {
    /// The time, told from `now`.
    pub fn time(self, now: Timestamp) -> Timestamp {
        match self {
            Since::Time(time) => time,
            Since::Ago(duration) => now.minus(duration),
        }
    }
}

/// How long ago `time` was: `now`, `12s ago`, `3h ago`, or `in 5s` for what is to come.
pub fn relative(now: Timestamp, time: Timestamp) -> String {
    let coarse = |duration: Duration| {
        let seconds = duration.as_secs();
        match seconds {
            0..60 => format!("{seconds}s"),
            60..3600 => format!("{}m", seconds / 60),
            3600..172_800 => format!("{}h", seconds / 3600),
            _ => format!("{}d", seconds / 86_400),
        }
    };
    let second = Duration::from_secs(1);
    if now.since(time) >= second {
        format!("{} ago", coarse(now.since(time)))
    } else if time.since(now) >= second {
        format!("in {}", coarse(time.since(now)))
    } else {
        "now".to_owned()
    }
}

/// A duration at a glance: `850ms`, `1.2s`, `2m 05s`, `1h 03m`, `2d 04h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}.{}s", duration.subsec_millis() / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_now() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let ago = |seconds: u64| relative(now, now.minus(Duration::from_secs(seconds)));
        assert_eq!(ago(0), "now");
        assert_eq!(ago(59), "59s ago");
        assert_eq!(ago(60), "1m ago");
        assert_eq!(ago(3600), "1h ago");
        assert_eq!(ago(47 * 3600), "47h ago");
        assert_eq!(ago(48 * 3600), "2d ago");
        assert_eq!(relative(now, now.plus(Duration::from_secs(90))), "in 1m");
    }

    #[test]
    fn durations_have_two_parts_at_most() {
        let of = |millis| duration(Duration::from_millis(millis));
        assert_eq!(of(0), "0ms");
        assert_eq!(of(999), "999ms");
        assert_eq!(of(1_299), "1.2s");
        assert_eq!(of(59_999), "59.9s");
        assert_eq!(of(125_000), "2m 05s");
        assert_eq!(of(3_780_000), "1h 03m");
        assert_eq!(of(187_200_000), "2d 04h");
    }
}
