//! The server writes no core files: they would hold tokens and secrets. Vessels keep the limit with which
//! the server was started.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit with which this process was started.
static GIVEN: OnceLock<Rlimit> = OnceLock::new();

/// Lowers the limit of core files to 0 for this process. The hard limit stays, so that vessels can
/// have theirs back. Call this before the process reads a secret.
pub fn lower() {
    let given = getrlimit(Resource::Core);
    if GIVEN.set(given).is_ok() {
        // Lowering a soft limit is always allowed (setrlimit(2)).
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: given.maximum });
    }
}

/// The limit of vessels; `None` when it is the same as this process's.
pub fn of_vessels() -> Option<Rlimit> {
    GIVEN.get().copied().filter(|given| given.current != Some(0))
}
