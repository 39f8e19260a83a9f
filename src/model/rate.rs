//! How often something may happen, as an operator writes it: `100/m`, or `100/m burst 20`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize, de};

use crate::model::text_value;

/// Requests in a period of a rate limit: a thousand times what one machine accepts in a second.
pub const RATE_COUNT_MAX: u32 = 1_000_000;

/// How long the burst of a rate limit may take to be there again. A longer one would be no limit.
pub const RATE_BURST_TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// So many requests in a period, of which at most a burst may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    period: Period,
    burst: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Second,
    Minute,
    Hour,
    Day,
}

const PERIODS: [(&str, Period); 4] =
    [("s", Period::Second), ("m", Period::Minute), ("h", Period::Hour), ("d", Period::Day)];

impl Period {
    fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        })
    }

    fn letter(self) -> &'static str {
        PERIODS.iter().find(|(_, period)| *period == self).map_or("", |(letter, _)| letter)
    }
}

impl Rate {
    /// `count` in a second, of which `burst` may come at once. Neither is 0.
    pub const fn per_second(count: u32, burst: u32) -> Self {
        Self { count, period: Period::Second, burst }
    }

    /// The time in which one more request becomes possible.
    pub fn interval(self) -> Duration {
        self.period.duration() / self.count
    }

    /// How many requests may come at once: as many as in one period unless it says otherwise.
    pub fn burst(self) -> u32 {
        self.burst
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = parse(text);
        parsed.ok_or_else(|| {
            format!(
                "not a rate: {text:?}; write a number from 1 to {RATE_COUNT_MAX} per s, m, h or d, \
                 such as 100/m, or 100/m burst 20 (a burst is at most what a year allows)"
            )
        })
    }
}

fn parse(text: &str) -> Option<Rate> {
    let mut words = text.split_whitespace();
    let (count, unit) = words.next()?.split_once('/')?;
    let count = parse_count(count)?;
    let (_, period) = *PERIODS.iter().find(|(letter, _)| *letter == unit)?;
    let burst = match (words.next(), words.next()) {
        (None, _) => count,
        (Some("burst"), Some(burst)) => parse_count(burst)?,
        _ => return None,
    };
    let rate = Rate { count, period, burst };
    let is_bounded = rate.interval().saturating_mul(burst) <= RATE_BURST_TIME_MAX;
    (words.next().is_none() && is_bounded).then_some(rate)
}

fn parse_count(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|count| is_plain && (1..=RATE_COUNT_MAX).contains(count))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.period.letter())?;
        if self.burst != self.count {
            write!(f, " burst {}", self.burst)?;
        }
        Ok(())
    }
}

impl Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_value::deserialize(deserializer, "a rate in quotes, such as \"100/m\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_say_how_often_and_how_many_at_once() {
        for (text, interval_ms, burst, shown) in [
            ("100/m", 600, 100, "100/m"),
            ("5/s burst 20", 200, 20, "5/s burst 20"),
            ("  1/h ", 3_600_000, 1, "1/h"),
            ("24/d  burst  24", 3_600_000, 24, "24/d"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.interval(), Duration::from_millis(interval_ms), "{text}");
            assert_eq!(rate.burst(), burst, "{text}");
            assert_eq!(rate.to_string(), shown);
        }
    }

    #[test]
    fn an_invalid_rate_is_refused() {
        for text in [
            "",
            "100",
            "/m",
            "100/",
            "100/min",
            "0/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "1000001/s",
            "1/s/m",
            "1/s burst",
            "1/s burst 0",
            "1/s burst 2 3",
            "1/s 20",
            "99999999999/s",
            "1/d burst 367",
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.contains("100/m burst 20"), "{text}: {error}");
        }
    }
}
