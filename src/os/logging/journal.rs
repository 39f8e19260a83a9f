//! What differs where standard error is the systemd journal: it keeps the time of a line itself,
//! takes its priority from the front of it, and drops lines of a service that writes too many,
//! warnings among them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::time::Instant;

use log::{Level, Record};

/// The time in which journald counts the lines of a service (journald.conf(5),
/// RateLimitIntervalSec=).
const JOURNAL_INTERVAL: Duration = Duration::from_secs(30);
/// Lines from one place in the source that the journal gets in that time; further ones are counted.
/// Ten such places together stay below the 10,000 lines that journald takes of a service.
const JOURNAL_LINES_MAX: u64 = 1000;

/// Whether standard error is the journal: `JOURNAL_STREAM` names its device and inode
/// (systemd.exec(5)). Standard error that was redirected since is something else.
pub fn is_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(rustix::stdio::stderr())
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// What a line of `level` begins with (sd-daemon(3)).
pub fn prefix(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// Where in the source a line is logged: lines of one place are alike.
type Place = (Option<&'static str>, Option<u32>);

/// Counts the lines of each place, so that those of one place, of which there may be one a run, do
/// not use up what the journal takes.
#[derive(Debug, Default)]
pub struct Budget(Mutex<Counts>);

/// Since `begun`.
#[derive(Debug, Default)]
struct Counts {
    begun: Option<Instant>,
    by_place: BTreeMap<Place, Count>,
}

#[derive(Debug)]
struct Count {
    lines: u64,
    level: Level,
    /// The text of the first line that was not written.
    text: String,
}

/// Lines that were counted instead of written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub level: Level,
    pub text: String,
    /// `None`: this is the first of them, more may follow.
    pub lines: Option<u64>,
}

/// What is to be written for a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Whether it is written itself.
    pub is_written: bool,
    /// What is written before it.
    pub summaries: Vec<Summary>,
}

impl Budget {
    /// Counts `record`, whose text is `text`.
    pub fn admit(&self, record: &Record<'_>, text: &str) -> Admitted {
        let place = (record.file_static(), record.line());
        self.counts().admit(Instant::now(), place, record.level(), text)
    }

    /// What has been counted and not been summarised yet.
    pub fn rest(&self) -> Vec<Summary> {
        std::mem::take(&mut *self.counts()).summaries()
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn admit(&mut self, now: Instant, place: Place, level: Level, text: &str) -> Admitted {
        let mut summaries = Vec::new();
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= JOURNAL_INTERVAL) {
            let before = Self { begun: Some(now), ..Self::default() };
            summaries = std::mem::replace(self, before).summaries();
        }
        let count =
            self.by_place.entry(place).or_insert(Count { lines: 0, level, text: String::new() });
        count.lines += 1;
        if count.lines == JOURNAL_LINES_MAX + 1 {
            text.clone_into(&mut count.text);
            summaries.push(Summary { level, text: text.to_owned(), lines: None });
        }
        Admitted { is_written: count.lines <= JOURNAL_LINES_MAX, summaries }
    }

    fn summaries(self) -> Vec<Summary> {
        let counts = self.by_place.into_values();
        let over = counts.filter(|count| count.lines > JOURNAL_LINES_MAX);
        over.map(|Count { lines, level, text }| Summary {
            level,
            text,
            lines: Some(lines - JOURNAL_LINES_MAX),
        })
        .collect()
    }
}

impl Summary {
    /// As a line of the log.
    pub fn line(&self) -> String {
        let Self { text, lines, .. } = self;
        match lines {
            Some(lines) => format!("{lines} lines were counted and not logged: {text}"),
            None => {
                let seconds = JOURNAL_INTERVAL.as_secs();
                format!(
                    "more than {JOURNAL_LINES_MAX} lines in {seconds} s; further ones are counted and not logged: {text}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_place_past_the_rate_are_counted_and_others_are_written() {
        let (mut counts, begin) = (Counts::default(), Instant::now());
        let run: Place = (Some("worker.rs"), Some(1));
        let other: Place = (Some("worker.rs"), Some(2));
        let written = Admitted { is_written: true, summaries: vec![] };
        let summary = |lines| Summary { level: Level::Info, text: "run ended".to_owned(), lines };
        for _ in 0..JOURNAL_LINES_MAX {
            assert_eq!(counts.admit(begin, run, Level::Info, "run ended"), written);
        }
        let first = Admitted { is_written: false, summaries: vec![summary(None)] };
        assert_eq!(counts.admit(begin, run, Level::Info, "run ended"), first);
        let further = Admitted { is_written: false, summaries: vec![] };
        assert_eq!(counts.admit(begin, run, Level::Info, "run ended"), further);
        assert_eq!(counts.admit(begin, other, Level::Warn, "disk"), written);
        let later = begin + JOURNAL_INTERVAL;
        let told = Admitted { is_written: true, summaries: vec![summary(Some(2))] };
        assert_eq!(counts.admit(later, other, Level::Warn, "disk"), told);
        assert_eq!(counts.admit(later, run, Level::Info, "run ended"), written);
        assert_eq!(counts.summaries(), []);
    }
}
