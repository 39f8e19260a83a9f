//! How many ended runs of a fleet are kept, as an operator writes it: `90d`, `1000 runs`,
//! `90d, 1000 runs`, or `forever`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize, de};

use crate::model::duration::{format_duration, parse_duration};
use crate::model::text_value;

/// Ages that `keep_runs` takes. A shorter one leaves no time to look at a run; for more than a century
/// there is `forever`.
pub const KEEP_AGE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(36_500 * 24 * 3600);

/// Highest number of runs that `keep_runs` takes: more than a disk holds.
pub const KEEP_COUNT_MAX: u32 = 1_000_000_000;

const FOREVER: &str = "forever";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The limits within which an ended run is kept. Without a limit it is kept for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long after its end a run is kept.
    age: Option<Duration>,
    /// How many runs of the fleet are kept: those that ended last.
    count: Option<u32>,
}

impl Retention {
    /// Nothing is ever removed.
    pub const FOREVER: Self = Self { age: None, count: None };

    /// Keeps runs for so many days.
    pub const fn of_days(days: u64) -> Self {
        Self { age: Some(Duration::from_secs(days * 24 * 3600)), count: None }
    }

    /// Keeps runs that are within all limits given.
    ///
    /// # Errors
    /// A message for a person, when a limit is out of bounds.
    pub fn new(age: Option<Duration>, count: Option<u32>) -> Result<Self, String> {
        if age.is_some_and(|age| !KEEP_AGE_RANGE.contains(&age)) {
            return Err("a run is kept for 1s to 36500d; write `forever` for longer".to_owned());
        }
        if count.is_some_and(|count| !(1..=KEEP_COUNT_MAX).contains(&count)) {
            return Err(format!("the number of runs to keep is from 1 to {KEEP_COUNT_MAX}"));
        }
        Ok(Self { age, count })
    }

    /// How long after its end a run is kept; `None`: for ever.
    pub fn age(self) -> Option<Duration> {
        self.age
    }

    /// How many runs are kept; `None`: all.
    pub fn count(self) -> Option<u64> {
        self.count.map(u64::from)
    }
}

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == FOREVER {
            return Ok(Self::FOREVER);
        }
        let (mut age, mut count) = (None, None);
        for part in text.split(',').map(str::trim) {
            let is_new = match parse_count(part) {
                Some(runs) => count.replace(runs).is_none(),
                None => {
                    let parsed = parse_duration(part).map_err(|_| malformed(text))?;
                    age.replace(parsed).is_none()
                }
            };
            if !is_new {
                return Err(malformed(text));
            }
        }
        let count = count.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        Self::new(age, count)
    }
}

/// The number of `1000 runs`.
fn parse_count(part: &str) -> Option<u64> {
    let number = part.strip_suffix("runs").or_else(|| part.strip_suffix("run"))?.trim_end();
    let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| number.parse().unwrap_or(u64::MAX))
}

fn malformed(text: &str) -> String {
    let shown: String = text.chars().take(64).collect();
    format!(
        "{shown:?} does not say which runs to keep; write how long, how many, or both, such as \
         90d, `1000 runs` or `90d, 1000 runs`, or `forever`"
    )
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = self.age.map(|age| match age.as_secs() / DAY.as_secs() {
            days if age == DAY.saturating_mul(u32::try_from(days).unwrap_or(0)) && days > 0 => {
                format!("{days}d")
            }
            _ => format_duration(age),
        });
        let count = self.count.map(|count| match count {
            1 => "1 run".to_owned(),
            count => format!("{count} runs"),
        });
        match (age, count) {
            (None, None) => f.write_str(FOREVER),
            (Some(limit), None) | (None, Some(limit)) => f.write_str(&limit),
            (Some(age), Some(count)) => write!(f, "{age}, {count}"),
        }
    }
}

impl Serialize for Retention {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = "how long, how many or both in quotes, such as \"90d\" or \"1000 runs\"";
        text_value::deserialize(deserializer, form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_and_count_are_read_and_written() {
        for (text, age_s, count, shown) in [
            ("90d", Some(90 * 86_400), None, "90d"),
            ("1w", Some(7 * 86_400), None, "7d"),
            ("36h", Some(36 * 3600), None, "36h"),
            ("1000 runs", None, Some(1000), "1000 runs"),
            ("1 run", None, Some(1), "1 run"),
            ("1000 runs, 90d", Some(90 * 86_400), Some(1000), "90d, 1000 runs"),
            (" 1d 12h ,  5runs ", Some(36 * 3600), Some(5), "36h, 5 runs"),
            ("forever", None, None, "forever"),
            ("36500d", Some(36_500 * 86_400), None, "36500d"),
        ] {
            let kept: Retention = text.parse().expect(text);
            assert_eq!(kept.age(), age_s.map(Duration::from_secs), "{text}");
            assert_eq!(kept.count(), count, "{text}");
            assert_eq!(kept.to_string(), shown);
            assert_eq!(shown.parse(), Ok(kept));
        }
        assert_eq!(Retention::of_days(90).to_string(), "90d");
    }

    #[test]
    fn invalid_limits_are_refused() {
        for (text, part) in [
            ("", "90d, 1000 runs"),
            ("90", "90d, 1000 runs"),
            ("runs", "90d, 1000 runs"),
            ("-5 runs", "90d, 1000 runs"),
            ("90d, forever", "90d, 1000 runs"),
            ("90d, 30d", "90d, 1000 runs"),
            ("1 run, 2 runs", "90d, 1000 runs"),
            ("90d,", "90d, 1000 runs"),
            ("never", "90d, 1000 runs"),
            ("0s", "forever"),
            ("36501d", "forever"),
            ("0 runs", "from 1 to"),
            ("99999999999999999999999 runs", "from 1 to"),
        ] {
            let error = text.parse::<Retention>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
