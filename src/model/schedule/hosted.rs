//! The hosted system's words for schedules.

use serde::{Deserialize, Serialize};

use crate::model::schedule::CronExpression;

/// The words of one schedule, as the fleet file has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosted {
    pub how_often: HowOften,
    /// `:25` for an hourly schedule, else `2:00`.
    pub at: String,
    /// The day of a weekly or monthly schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// The word in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HowOften {
    Hourly,
    Daily,
    Weekly,
    Monthly,
}

/// The words in front.
pub const HOW_OFTEN: [(&str, HowOften); 4] = [
    ("HOURLY", HowOften::Hourly),
    ("DAILY", HowOften::Daily),
    ("WEEKLY", HowOften::Weekly),
    ("MONTHLY", HowOften::Monthly),
];

/// The days of the week, by their numbers in cron expressions.
const WEEKDAYS: [&str; 7] =
    ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"];

impl HowOften {
    /// The word of fleet files.
    pub fn word(self) -> &'static str {
        HOW_OFTEN.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }

    /// The key `at` as minute and hour of a cron expression.
    ///
    /// # Errors
    /// A message for a person.
    pub fn time(self, at: &str) -> Result<(u8, Option<u8>), String> {
        let number = |text: &str, digits: &[usize], end: u8| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|number: &u8| *number < end);
            number.filter(|_| is_plain && digits.contains(&text.len()))
        };
        let parts = at.split_once(':');
        match (self, parts) {
            (HowOften::Hourly, Some(("", minute))) => number(minute, &[2], 60).map(|it| (it, None)),
            (HowOften::Hourly, _) => None,
            (_, Some((hour, minute))) => {
                number(hour, &[1, 2], 24).zip(number(minute, &[2], 60)).map(|(h, m)| (m, Some(h)))
            }
            (_, None) => None,
        }
        .ok_or_else(|| match self {
            HowOften::Hourly => "expected a minute of the hour, such as \":25\"".to_owned(),
            _ => "expected a time of the day, such as \"2:00\" or \"14:30\"".to_owned(),
        })
    }

    /// The key `when` as days of the month and days of the week of a cron expression.
    ///
    /// # Errors
    /// A message for a person, also when the key is missing or has no place here.
    pub fn days(self, when: Option<&str>) -> Result<(String, String), String> {
        let every = || "*".to_owned();
        match (self, when) {
            (HowOften::Hourly | HowOften::Daily, None) => Ok((every(), every())),
            (HowOften::Hourly | HowOften::Daily, Some(_)) => {
                Err("belongs to WEEKLY and MONTHLY schedules; remove it".to_owned())
            }
            (HowOften::Weekly, when) => {
                let day = WEEKDAYS.iter().position(|day| Some(*day) == when);
                let day = day.ok_or_else(|| {
                    format!("expected the day of the week: one of {}", WEEKDAYS.join(", "))
                })?;
                Ok((every(), day.to_string()))
            }
            (HowOften::Monthly, when) => {
                let day = when.and_then(|when| when.parse::<u8>().ok());
                let day = day.filter(|day| (1..=31).contains(day)).ok_or_else(|| {
                    "expected the day of the month, from 1 to 31; 31 runs in months that have it"
                        .to_owned()
                })?;
                Ok((day.to_string(), every()))
            }
        }
    }
}

impl Hosted {
    /// The times that the words stand for.
    ///
    /// # Errors
    /// The first message of [`HowOften::time`] and [`HowOften::days`].
    pub fn cron(&self) -> Result<CronExpression, String> {
        let (minute, hour) = self.how_often.time(&self.at)?;
        let (days, weekdays) = self.how_often.days(self.when.as_deref())?;
        let hour = hour.map_or_else(|| "*".to_owned(), |hour| hour.to_string());
        CronExpression::try_from(format!("{minute} {hour} {days} * {weekdays}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_hosted_system_become_cron_expressions() {
        let cron = |how_often, at: &str, when: Option<&str>| {
            let hosted = Hosted { how_often, at: at.to_owned(), when: when.map(str::to_owned) };
            hosted.cron().map(|cron| cron.text().to_owned())
        };
        use HowOften::{Daily, Hourly, Monthly, Weekly};
        assert_eq!(cron(Hourly, ":25", None).unwrap(), "25 * * * *");
        assert_eq!(cron(Daily, "2:00", None).unwrap(), "0 2 * * *");
        assert_eq!(cron(Daily, "02:05", None).unwrap(), "5 2 * * *");
        assert_eq!(cron(Weekly, "3:00", Some("WEDNESDAY")).unwrap(), "0 3 * * 3");
        assert_eq!(cron(Monthly, "23:59", Some("31")).unwrap(), "59 23 31 * *");
        for (how_often, at, when) in [
            (Hourly, "2:25", None),
            (Hourly, ":60", None),
            (Hourly, ":5", None),
            (Hourly, ":25", Some("MONDAY")),
            (Daily, "24:00", None),
            (Daily, "2:0", None),
            (Daily, "+2:00", None),
            (Daily, "2", None),
            (Weekly, "2:00", None),
            (Weekly, "2:00", Some("monday")),
            (Monthly, "2:00", Some("32")),
            (Monthly, "2:00", Some("MONDAY")),
        ] {
            assert!(cron(how_often, at, when).is_err(), "{how_often:?} {at} {when:?}");
        }
    }
}
