//! The log: one line per event on stderr, `time LEVEL message key=value ...`. Values that would
//! break the line are quoted, so that nothing from outside can forge one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use log::kv::{Error, Key, Value, VisitSource};

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::limits;

mod repeats;

pub use repeats::Repeats;

/// A warning or an error that was logged.
#[derive(Clone, Debug)]
pub struct LoggedProblem {
    pub at: Timestamp,
    pub level: log::Level,
    /// The line without its time and level.
    pub message: String,
}

static LAST_PROBLEM: Mutex<Option<LoggedProblem>> = Mutex::new(None);

/// The latest warning or error of this process.
pub fn last_problem() -> Option<LoggedProblem> {
    LAST_PROBLEM.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn keep(at: Timestamp, level: log::Level, line: String) {
    let message = line.chars().take(limits::LAST_PROBLEM_LETTERS_MAX).collect();
    let problem = LoggedProblem { at, level, message };
    *LAST_PROBLEM.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
}

/// Begins to log what is at least as important as `level`.
pub fn start(level: log::LevelFilter) {
    let started = env_logger::Builder::new()
        // The level can be changed while the server runs, so it is left to `log` itself.
        .filter_level(log::LevelFilter::Trace)
        // sled tells its developers about its inner life.
        .filter_module("sled", log::LevelFilter::Error)
        .format(|out, record| {
            let style = out.default_level_style(record.level());
            let now = SystemClock.now();
            write!(out, "{now} {style}{:<5}{style:#} {}", record.level(), record.args())?;
            let mut pairs = Pairs(String::new());
            let _ = record.key_values().visit(&mut pairs);
            if record.level() <= log::Level::Warn {
                keep(now, record.level(), format!("{}{}", record.args(), pairs.0));
            }
            writeln!(out, "{}", pairs.0)
        })
        .try_init();
    // A second server in one process (the demo's) logs where the first does.
    let _ = started;
    log::set_max_level(level);
}

/// ` key=value` for every key-value pair.
struct Pairs(String);

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let value = value.to_string();
        let is_plain = !value.is_empty()
            && value
                .chars()
                .all(|letter| !letter.is_whitespace() && !letter.is_control() && letter != '"');
        // Writing to a string cannot fail.
        let _ = if is_plain {
            write!(self.0, " {key}={value}")
        } else {
            write!(self.0, " {key}={value:?}")
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::kv::Source;

    #[test]
    fn values_cannot_forge_lines() {
        let pairs = [("a", "plain"), ("b", "two words"), ("c", "x\n2026 ERROR forged"), ("d", "")];
        let mut line = Pairs(String::new());
        pairs.as_slice().visit(&mut line).unwrap();
        assert_eq!(line.0, r#" a=plain b="two words" c="x\n2026 ERROR forged" d="""#);
    }
}
