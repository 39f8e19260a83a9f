//! The log: one line per event on stderr, `time LEVEL message key=value ...`. Values that would break the
//! line are quoted and further lines of a message are indented: no input can forge a line. In the systemd
//! journal a line begins with its priority instead of the time.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::{LazyLock, Mutex, PoisonError};

use log::kv::{Error, Key, Value, VisitSource};

use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::os::terminal;

mod journal;
mod repeats;

pub use repeats::{LOG_INTERVAL, REFUSALS_LOGGED_MAX, Repeats};

/// Letters of the last problem that are kept for the overview.
const LAST_PROBLEM_LETTERS_MAX: usize = 500;

/// A warning or an error that was logged.
#[derive(Clone, Debug)]
pub struct LoggedProblem {
    pub at: Timestamp,
    pub level: log::Level,
    /// The line without its time and level.
    pub message: String,
}

/// The target of lines about mistakes of clients, which are no problem of the server.
pub const OF_CLIENTS: &str = "clients";

static LAST_PROBLEM: Mutex<Option<LoggedProblem>> = Mutex::new(None);

/// The latest warning or error of this process.
pub fn last_problem() -> Option<LoggedProblem> {
    LAST_PROBLEM.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn keep(at: Timestamp, level: log::Level, line: &str) {
    let message = line.chars().take(LAST_PROBLEM_LETTERS_MAX).collect();
    let problem = LoggedProblem { at, level, message };
    *LAST_PROBLEM.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
}

/// Begins to log events of `level` and above.
pub fn start(level: log::LevelFilter) {
    let started = env_logger::Builder::new()
        // `log` filters by level: SIGHUP changes the level while the server runs.
        .filter_level(log::LevelFilter::Trace)
        // sled logs for its own developers.
        .filter_module("sled", log::LevelFilter::Error)
        .format(|out, record| {
            let mut pairs = Pairs(String::new());
            let _ = record.key_values().visit(&mut pairs);
            let text = record.args().to_string();
            let message = format!("{text}{}", pairs.0);
            let now = SystemClock.now();
            if record.level() <= log::Level::Warn && record.target() != OF_CLIENTS {
                keep(now, record.level(), &message);
            }
            if writes_to_journal() {
                return write_to_journal(out, record, &text, &message);
            }
            let style = out.default_level_style(record.level());
            let message = indented(&message, "");
            let message = if *IS_TERMINAL { terminal::filtered(&message) } else { message };
            writeln!(out, "{now} {style}{:<5}{style:#} {message}", record.level())
        })
        .try_init();
    // A second server in one process (the demo's) logs where the first does.
    let _ = started;
    log::set_max_level(level);
}

static IS_TERMINAL: LazyLock<bool> = LazyLock::new(|| io::stderr().is_terminal());

/// Whether standard error is the systemd journal.
pub fn writes_to_journal() -> bool {
    static IS_JOURNAL: LazyLock<bool> = LazyLock::new(journal::is_stderr);
    *IS_JOURNAL
}

/// `text` as the journal takes it: each line begins with the priority of `level`.
pub fn for_journal(level: log::Level, text: &str) -> String {
    let prefix = journal::prefix(level);
    format!("{prefix}{}", indented(text, prefix))
}

/// Logs the counts of lines that were not logged. Call this before the process ends.
pub fn finish() {
    for summary in JOURNAL_BUDGET.rest() {
        let line = for_journal(summary.level, &format!("{:<5} {}", summary.level, summary.line()));
        // No other place is left for an error.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// The lines that were written to the journal.
static JOURNAL_BUDGET: LazyLock<journal::Budget> = LazyLock::new(journal::Budget::default);

fn write_to_journal(
    out: &mut impl io::Write,
    record: &log::Record<'_>,
    text: &str,
    message: &str,
) -> io::Result<()> {
    let journal::Admitted { is_written, summaries } = JOURNAL_BUDGET.admit(record, text);
    let mut line = |level: log::Level, message: &str| {
        writeln!(out, "{}", for_journal(level, &format!("{level:<5} {message}")))
    };
    for summary in summaries {
        line(summary.level, &summary.line())?;
    }
    if is_written { line(record.level(), message) } else { Ok(()) }
}

/// `text` with `prefix` and an indent before each line but the first: no line of a message can be
/// taken for the first line of another.
fn indented(text: &str, prefix: &str) -> String {
    text.trim_end().replace('\n', &format!("\n{prefix}    "))
}

/// ` key=value` for every key-value pair.
struct Pairs(String);

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let value = value.to_string();
        let is_plain = !value.is_empty()
            && value.chars().all(|letter| {
                !letter.is_whitespace() && !terminal::is_control(letter) && letter != '"'
            });
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
    fn each_line_of_a_message_has_the_priority() {
        assert_eq!(for_journal(log::Level::Warn, "one\ntwo\n"), "<4>one\n<4>    two");
        assert_eq!(for_journal(log::Level::Error, "alone"), "<3>alone");
    }

    #[test]
    fn values_cannot_forge_lines() {
        let pairs = [("a", "plain"), ("b", "two words"), ("c", "x\n2026 ERROR forged"), ("d", "")];
        let mut line = Pairs(String::new());
        pairs.as_slice().visit(&mut line).unwrap();
        assert_eq!(line.0, r#" a=plain b="two words" c="x\n2026 ERROR forged" d="""#);
    }
}
