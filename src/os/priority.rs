//! Accepting goes before running: somebody waits for a 201, and senders give up after seconds, while
//! vessels that use all processors are in no hurry.

use std::io;
use std::panic::resume_unwind;
use std::thread;

use crate::os::threads;

/// Niceness taken off the threads that accept (see nice(2)).
const ADVANTAGE: i32 = -10;

/// Runs `start` so that all threads that it starts, those of libraries included, have precedence
/// over vessels: they inherit it from the thread that starts them. Without the privilege (root,
/// `CAP_SYS_NICE`, or `LimitNICE=` in the unit) nothing changes, and nothing is lost but speed under
/// load.
///
/// # Errors
/// When there is no thread to be had for it.
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
