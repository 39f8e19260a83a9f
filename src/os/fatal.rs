//! Fail-stop: the end of the process when what it would go on with cannot be trusted. Nothing that
//! was acknowledged is lost by it, and nothing more is acknowledged.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic;
use std::sync::{Once, OnceLock};
use std::thread;

use crate::os::logging;

/// What [`stop`] does instead of ending the process, if anything.
static ENDING: OnceLock<fn(&str) -> !> = OnceLock::new();

/// Ends the process with exit status 1, saying why.
pub fn stop(why: &str) -> ! {
    if let Some(end) = ENDING.get() {
        end(why);
    }
    log::error!("stopping: {why}");
    if !log::log_enabled!(log::Level::Error) {
        // Silence is for what happens while it runs, not for its end. Who cannot be told does not
        // keep it from ending: `eprintln!` would panic on a full disk.
        let line = format!("boathook: stopping: {why}");
        let line = match logging::writes_to_journal() {
            true => logging::for_journal(log::Level::Error, &line),
            false => line,
        };
        let _ = writeln!(io::stderr(), "{line}");
    }
    logging::finish();
    std::process::exit(1)
}

/// Lets `end` take the place of the end of the process, for simulations, which outlive the servers
/// they end: it unwinds the thread that cannot go on. The first call counts.
pub fn end_with(end: fn(&str) -> !) {
    let _ = ENDING.set(end);
}

/// Makes a panic end the process, unless it is in a thread that serves connections or answers
/// requests: those see to their own, and tiny_http's have no names.
pub fn stop_on_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            match logging::writes_to_journal() {
                // The usual report has no priority, and warnings are looked for by that.
                true => log::error!("{panic}{}", backtrace()),
                false => report(panic),
            }
            if is_vital(thread::current().name()) || is_for_want_of_threads(panic) {
                stop("a thread has panicked");
            }
        }));
    });
}

/// Where the thread is, when `RUST_BACKTRACE` asks for it.
fn backtrace() -> String {
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    }
}

/// Whether the standard library has panicked because there was no thread: what accepts for a library
/// ends with that.
fn is_for_want_of_threads(panic: &panic::PanicHookInfo<'_>) -> bool {
    let why = panic.payload().downcast_ref::<String>();
    why.is_some_and(|why| why.starts_with("failed to spawn thread"))
}

/// Whether the server cannot go on without the thread of this name.
fn is_vital(name: Option<&str>) -> bool {
    let answers = |name: &str| {
        ["hooks", "admin"].iter().any(|listener| name.starts_with(listener))
            && !name.ends_with("-accept")
    };
    name.is_some_and(|name| name != "main" && !answers(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_panic_of_an_answer_is_survived() {
        for (name, vital) in [
            (Some("committer"), true),
            (Some("worker-3"), true),
            (Some("sled-io-0"), true),
            (Some("hooks-12"), false),
            (Some("admin-1"), false),
            (Some("hooks-conn"), false),
            (Some("hooks-accept"), true),
            (Some("main"), false),
            (None, false),
        ] {
            assert_eq!(is_vital(name), vital, "{name:?}");
        }
    }
}
