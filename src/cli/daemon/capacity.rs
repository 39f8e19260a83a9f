//! How much a server does at a time: what the settings ask for, within the limits of the system.

use std::sync::Arc;

use crate::config::Settings;
use crate::listener::{self, BodyStore};
use crate::notify::NOTIFIERS;
use crate::os::descriptor_budget::{self, Concurrency, OpenFileLimit};
use crate::os::threads::{self, TooFewThreads};
use crate::web;

/// Bytes of all bodies in memory: one for each connection. One address, and one fleet, has its share.
const BODIES_IN_MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Threads that a server has from the start besides its workers, handlers and reserves: the
/// libraries' (database 8, HTTP 5 a listener), the committer, timers, signals, the watchdog, and some
/// to start with.
const OTHER_THREADS: usize = 40;

/// See the module.
pub(super) struct Capacity {
    /// What the settings ask for.
    pub(super) asked: Concurrency,
    pub(super) limit: OpenFileLimit,
}

impl Capacity {
    /// Raises the limit of open files to what `settings` ask for. Where that is not possible, lowers
    /// `max_connections` in `settings` to what fits.
    pub(super) fn of(settings: &mut Settings) -> Self {
        let asked = Concurrency {
            workers: settings.workers,
            connections: settings.max_connections,
            requests: web::admin_requests_max(settings).saturating_add(web::HOOK_REQUESTS_MAX),
        };
        let limit = descriptor_budget::raise_limit(asked);
        let granted = asked.within(limit.current);
        if granted != asked {
            log::warn!(
                limit = limit.current, max_connections = granted.connections;
                "the limit of open files is too low for all connections; raise it (LimitNOFILE=)"
            );
        }
        settings.max_connections = granted.connections;
        Self { asked, limit }
    }
}

/// Tries whether the system has the threads that a server needs from its start.
pub(super) fn try_out_threads(settings: &Settings) -> Result<(), TooFewThreads> {
    let handlers = web::HOOK_HANDLERS + web::ADMIN_HANDLERS + NOTIFIERS;
    let reserves = 2 * listener::RESERVED_THREADS;
    threads::try_out(settings.workers + handlers + reserves + OTHER_THREADS)
}

/// Where the bodies of both listeners are kept while they arrive.
pub(super) fn body_store(settings: &Settings) -> Arc<BodyStore> {
    Arc::new(BodyStore::new(
        settings.data_dir.clone(),
        BODIES_IN_MEMORY_BYTES_MAX,
        settings.max_inflight_body_bytes,
    ))
}
