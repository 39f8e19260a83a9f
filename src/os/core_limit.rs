//! Core files of this program would hold tokens and secrets, so it writes none. Vessels keep the
//! limit that the server was started with.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that this process was started with.
static GIVEN: OnceLock<Rlimit> = OnceLock::new();

/// Lowers the limit of core files to 0 for this process. The hard limit stays, so that vessels can
/// have theirs back. To be called before anything secret is read.
pub fn lower() {
    let given = getrlimit(Resource::Core);
    if GIVEN.set(given).is_ok() {
        // Lowering a soft limit is always allowed (setrlimit(2)).
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: given.maximum });
    }
}

/// The limit that vessels get; `None` when it is this process's own.
pub fn of_vessels() -> Option<Rlimit> {
    GIVEN.get().copied().filter(|given| given.current != Some(0))
}
