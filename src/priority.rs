//! Accepting goes before running: somebody waits for a 201, and senders give up after seconds, while
//! vessels that use all processors are in no hurry.

/// Niceness taken off the threads that accept (see nice(2)).
const ADVANTAGE: i32 = -10;

/// Gives the calling thread, and those it starts, precedence over vessels. Without the privilege
/// (root, `CAP_SYS_NICE`, or `LimitNICE=` in the unit) nothing changes, and nothing is lost but
/// speed under load.
pub fn raise() {
    if let Err(error) = rustix::process::nice(ADVANTAGE) {
        log::debug!(error:%; "accepting has no precedence over vessels");
    }
}
