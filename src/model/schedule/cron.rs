//! Cron expressions and the moments that they mean in a time zone. `croner` reads an expression and
//! searches local times; what becomes of local times that a zone skips or repeats is decided here:
//!
//! - A local time that does not exist is due at the next local time that does.
//! - A local time that comes twice is due when it comes first.
//! - Local times that would be due at the same moment are due once.

use std::cmp::Ordering;
use std::fmt;

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::{CivilDateTime, Cron, CronDateTime, Direction, Resolution, Weekday};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::time_zone;

/// Bytes of an expression. The longest sensible ones have some 60.
const EXPRESSION_BYTES_MAX: usize = 200;
/// Longer than any zone repeats local times.
const FOLD_MAX: SignedDuration = SignedDuration::from_hours(4);
/// An expression is due once in so many years, or never: 29 February on a given day of the week skips
/// 2100.
const YEARS_MAX: i16 = 50;

/// Five fields: minute, hour, day of the month, month, day of the week. It is due at some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronExpression(String);

impl Default for CronExpression {
    /// Every minute.
    fn default() -> Self {
        Self("* * * * *".to_owned())
    }
}

impl CronExpression {
    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<CronExpression> for String {
    fn from(expression: CronExpression) -> Self {
        expression.0
    }
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CronExpression {
    type Error = String;

    /// Checks an expression.
    fn try_from(text: String) -> Result<Self, String> {
        let start = DateTime::constant(2024, 1, 1, 0, 0, 0, 0);
        let cron = parse(&text)?;
        let is_soon = |it: &LocalTime| it.0.year() - start.year() <= YEARS_MAX;
        match cron.find_next_occurrence(&LocalTime(start), true).ok().filter(is_soon) {
            Some(_) => Ok(Self(text)),
            None => Err(format!("{text:?} is never due; no year has such a day")),
        }
    }
}

fn parse(text: &str) -> Result<Cron, String> {
    const FORM: &str = "expected five fields: minute, hour, day of the month, month, day of the week, \
                        such as \"*/5 * * * *\" or \"30 2 * * MON-FRI\"";
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(format!("longer than {EXPRESSION_BYTES_MAX} bytes; write two schedules"));
    }
    let is_nickname = text.starts_with('@');
    if is_nickname && text.eq_ignore_ascii_case("@reboot") {
        return Err("@reboot has no times; start the run with `boathook run` when the machine \
                    starts, as from a systemd unit"
            .to_owned());
    }
    if !is_nickname && text.split_whitespace().count() != 5 {
        return Err(FORM.to_owned());
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| match error {
        CronError::InvalidPattern(why) | CronError::IllegalCharacters(why) => {
            format!("{}; {FORM}", why.trim_end_matches('.'))
        }
        CronError::ComponentError(why) => format!("{}; {FORM}", why.trim_end_matches('.')),
        _ => FORM.to_owned(),
    })
}

/// The moments at which an expression is due in a zone.
pub struct DueTimes {
    cron: Cron,
    zone: TimeZone,
}

impl DueTimes {
    /// The moments of `expression` in the zone of this IANA name.
    ///
    /// # Errors
    /// When this machine does not know the zone, with a message for a person.
    pub fn new(expression: &CronExpression, zone: &str) -> Result<Self, String> {
        Ok(Self { cron: parse(expression.text())?, zone: time_zone::get(zone)? })
    }

    /// The first due time after `time`; `None`: there is none within what the calendar holds.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let start = self.local(time)?;
        self.search(start, Direction::Forward).find(|due| *due > time)
    }

    /// The last due times after `after`, up to `until`: at most `max` of them, in their order.
    pub fn last_within(&self, after: Timestamp, until: Timestamp, max: usize) -> Vec<Timestamp> {
        let start = self.local(until).and_then(|local| local.checked_add(FOLD_MAX).ok());
        let Some(start) = start else { return Vec::new() };
        let mut found: Vec<Timestamp> = Vec::new();
        for due in self.search(start, Direction::Backward) {
            if due <= after || found.len() == max {
                break;
            }
            if due <= until && found.last() != Some(&due) {
                found.push(due);
            }
        }
        found.reverse();
        found
    }

    fn local(&self, time: Timestamp) -> Option<DateTime> {
        let local = self.zone.to_datetime(time.to_jiff());
        local.with().subsec_nanosecond(0).build().ok()
    }

    /// The due times of the local times on one side of `start`, from the nearest on.
    fn search(
        &self,
        start: DateTime,
        direction: Direction,
    ) -> impl Iterator<Item = Timestamp> + '_ {
        let following = move |time: &LocalTime| match direction {
            Direction::Forward => self.cron.find_next_occurrence(time, false).ok(),
            Direction::Backward => self.cron.find_previous_occurrence(time, false).ok(),
        };
        let found = std::iter::successors(following(&LocalTime(start)), following);
        found.map_while(|local| self.due(local.0))
    }

    /// When the local time is due.
    fn due(&self, local: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        let moment = match ambiguous.offset() {
            AmbiguousOffset::Gap { after, .. } => {
                // The offset that begins with the gap's end leads to a moment before the gap.
                let before_gap = after.to_timestamp(local).ok()?;
                let mut transitions = self.zone.following(before_gap).map(|it| it.timestamp());
                transitions.find(|at| self.zone.to_offset(*at) == after)?
            }
            _ => ambiguous.earlier().ok()?,
        };
        Some(Timestamp::from_millis(moment.as_millisecond()))
    }
}

/// A local time on a calendar without zones: each comes once.
#[derive(Clone, Copy)]
struct LocalTime(DateTime);

impl CronDateTime for LocalTime {
    fn to_civil(&self) -> CivilDateTime {
        let time = self.0;
        let field = |value: i8| u32::from(value.unsigned_abs());
        let civil = CivilDateTime::from_ymd_hms_opt(
            time.year().into(),
            field(time.month()),
            field(time.day()),
            field(time.hour()),
            field(time.minute()),
            field(time.second()),
        );
        civil.unwrap_or_else(|| unreachable!("{time} is a time of the calendar"))
    }

    fn civil_weekday(&self) -> Weekday {
        use jiff::civil::Weekday as Day;
        match self.0.weekday() {
            Day::Monday => Weekday::Monday,
            Day::Tuesday => Weekday::Tuesday,
            Day::Wednesday => Weekday::Wednesday,
            Day::Thursday => Weekday::Thursday,
            Day::Friday => Weekday::Friday,
            Day::Saturday => Weekday::Saturday,
            Day::Sunday => Weekday::Sunday,
        }
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let field = |value: u32| i8::try_from(value).unwrap_or(i8::MAX);
        let time = i16::try_from(civil.year()).ok().and_then(|year| {
            let (month, day) = (field(civil.month()), field(civil.day()));
            let (hour, minute) = (field(civil.hour()), field(civil.minute()));
            DateTime::new(year, month, day, hour, minute, field(civil.second()), 0).ok()
        });
        time.map(|time| Resolution::Single(Self(time))).ok_or(CronError::InvalidTime)
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> CronExpression {
        CronExpression::try_from(text.to_owned()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The due times that follow `start`, in UTC without seconds.
    fn due(cron: &str, zone: &str, start: &str, count: usize) -> Vec<String> {
        let times = DueTimes::new(&expression(cron), zone).unwrap();
        let next = |time: &Timestamp| times.next_after(*time);
        let all = std::iter::successors(next(&start.parse().unwrap()), next);
        all.take(count).map(|time| time.to_string()[5..16].to_owned()).collect()
    }

    #[test]
    fn fields_names_and_nicknames_are_understood() {
        let from = "2026-01-01T00:00:30Z";
        assert_eq!(due("*/20 * * * *", "UTC", from, 2), ["01-01T00:20", "01-01T00:40"]);
        assert_eq!(due("30 2 * * MON-FRI", "UTC", from, 2), ["01-01T02:30", "01-02T02:30"]);
        assert_eq!(due("0 0 1,15 * *", "UTC", from, 2), ["01-15T00:00", "02-01T00:00"]);
        assert_eq!(due("0 0 L * *", "UTC", from, 2), ["01-31T00:00", "02-28T00:00"]);
        assert_eq!(due("0 9 * jun sun", "UTC", from, 2), ["06-07T09:00", "06-14T09:00"]);
        assert_eq!(due("0 9 * * 7", "UTC", from, 1), ["01-04T09:00"]);
        // Either day, as in every cron.
        assert_eq!(
            due("0 0 13 * 5", "UTC", from, 3),
            ["01-02T00:00", "01-09T00:00", "01-13T00:00"]
        );
        assert_eq!(due("@daily", "UTC", from, 1), ["01-02T00:00"]);
        assert_eq!(due("0 0 29 2 *", "UTC", from, 1), ["02-29T00:00"]);
    }

    #[test]
    fn what_is_no_expression_is_refused_with_what_is_expected() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "0 0 2 * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "x * * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "@sometimes",
        ] {
            let refused = CronExpression::try_from(text.to_owned()).unwrap_err();
            assert!(refused.contains("five fields"), "{text:?}: {refused}");
        }
        let refused = |text: &str| CronExpression::try_from(text.to_owned()).unwrap_err();
        assert!(refused("@reboot").contains("boathook run"));
        assert!(refused("0 0 30 2 *").contains("never due"));
        assert!(refused(&"1,".repeat(200)).contains("longer than"));
    }

    #[test]
    fn a_skipped_local_time_is_due_when_the_zone_goes_on() {
        let berlin = |cron, count| due(cron, "Europe/Berlin", "2026-03-28T23:30:00Z", count);
        assert_eq!(berlin("30 2 * * *", 2), ["03-29T01:00", "03-30T00:30"]);
        // Skipped times and the one that exists are one due time.
        let each = berlin("*/30 * * * *", 4);
        assert_eq!(each, ["03-29T00:00", "03-29T00:30", "03-29T01:00", "03-29T01:30"]);
        assert_eq!(berlin("0 2,3 * * *", 2), ["03-29T01:00", "03-30T00:00"]);
        // Samoa has left out a day.
        let samoa = due("0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", 2);
        assert_eq!(samoa, ["12-30T10:00", "12-29T22:00"]);
    }

    #[test]
    fn a_repeated_local_time_is_due_when_it_comes_first() {
        let berlin = |cron, count| due(cron, "Europe/Berlin", "2026-10-24T23:45:00Z", count);
        assert_eq!(berlin("30 2 * * *", 2), ["10-25T00:30", "10-26T01:30"]);
        assert_eq!(
            berlin("*/30 * * * *", 4),
            ["10-25T00:00", "10-25T00:30", "10-25T02:00", "10-25T02:30"]
        );
        // From within the repetition.
        let times = DueTimes::new(&expression("*/30 * * * *"), "Europe/Berlin").unwrap();
        let next = times.next_after("2026-10-25T01:10:00Z".parse().unwrap()).unwrap();
        assert_eq!(next.to_string(), "2026-10-25T02:00:00.000Z");
        // Half an hour.
        let lord_howe = due("40 1 * * *", "Australia/Lord_Howe", "2026-04-03T20:00:00Z", 2);
        assert_eq!(lord_howe, ["04-04T14:40", "04-05T15:10"]);
    }

    #[test]
    fn the_last_due_times_are_the_end_of_all_of_them() {
        for zone in ["Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "UTC"] {
            let times = DueTimes::new(&expression("*/30 * * * *"), zone).unwrap();
            for start in [
                "2026-03-28T22:10:00Z",
                "2026-10-24T22:10:00Z",
                "2026-04-04T10:00:00Z",
                "2011-12-30T08:00:00Z",
            ] {
                let start: Timestamp = start.parse().unwrap();
                let all: Vec<Timestamp> =
                    std::iter::successors(times.next_after(start), |it| times.next_after(*it))
                        .take(40)
                        .collect();
                for end in 1..40 {
                    let last = times.last_within(start, all[end], 100);
                    assert_eq!(last, all[..=end], "{zone}");
                    let before = Timestamp::from_millis(all[end].as_millis() - 1);
                    let last = times.last_within(start, before, 3);
                    assert_eq!(last, all[end.saturating_sub(3)..end], "{zone}");
                }
                assert!(times.last_within(all[3], all[3], 100).is_empty());
            }
        }
    }
}
