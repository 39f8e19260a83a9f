//! Fail-stop: ends the process when its state cannot be trusted. No acknowledged run is lost, and no
//! further one is acknowledged.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic;
use std::sync::{Once, OnceLock};

use crate::os::{logging, threads};

/// Replaces the end of the process in [`stop`], for simulations.
static ENDING: OnceLock<fn(&str) -> !> = OnceLock::new();

/// Logs `why` and ends the process with exit status 1.
pub fn stop(why: &str) -> ! {
    if let Some(end) = ENDING.get() {
        end(why);
    }
    log::error!("stopping: {why}");
    if !log::log_enabled!(log::Level::Error) {
        // The reason is printed even with `log = "off"`. `eprintln!` would panic on a full disk.
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

/// Lets [`stop`] call `end` instead of ending the process: a simulation outlives its servers. The
/// first call counts.
pub fn end_with(end: fn(&str) -> !) {
    let _ = ENDING.set(end);
}

/// Makes the panic of a vital thread end the process; see [`threads`]. The main thread calls this.
pub fn stop_on_panics() {
    threads::mark_main();
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            match logging::writes_to_journal() {
                // The standard report has no priority, by which the journal is searched.
                true => log::error!("{panic}{}", backtrace()),
                false => report(panic),
            }
            if threads::is_vital() || is_for_want_of_threads(panic) {
                stop("a thread has panicked");
            }
        }));
    });
}

/// The backtrace of the calling thread, when `RUST_BACKTRACE` asks for it.
fn backtrace() -> String {
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    }
}

/// Whether the standard library has panicked because the system had no thread. Such a panic ends the
/// accepting thread of a library, whichever thread it is in.
fn is_for_want_of_threads(panic: &panic::PanicHookInfo<'_>) -> bool {
    let why = panic.payload().downcast_ref::<String>();
    why.is_some_and(|why| why.starts_with("failed to spawn thread"))
}
