//! Gives the threads that accept requests precedence over vessels: a sender gives up after seconds, also
//! when vessels use all processors.

use std::io;
use std::panic::resume_unwind;
use std::thread;

use crate::os::threads;

/// Niceness taken off the threads that accept (see nice(2)).
const ADVANTAGE: i32 = -10;

/// Runs `start` so that all threads that it starts, those of libraries included, have precedence
/// over vessels: a thread inherits the niceness of the thread that starts it. Without the privilege
/// (root, `CAP_SYS_NICE`, or `LimitNICE=` in the unit) nothing changes.
///
/// # Errors
/// When the system has no thread.
pub fn with_precedence<T: Send>(start: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let starter = threads::vital("starter").spawn_scoped(scope, || {
            if let Err(error) = rustix::process::nice(ADVANTAGE) {
                log::debug!(error:%; "accepting has no precedence over vessels");
            }
            start()
        })?;
        Ok(starter.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
