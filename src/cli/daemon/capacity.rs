//! How much a server takes on: what was asked for, within what the system gives.

use std::sync::Arc;

use crate::config::Settings;
use crate::listener::service::Doors;
use crate::listener::{GateSettings, Spool};
use crate::model::limits;
use crate::os::descriptor_budget::{self, Concurrency, OpenFileLimit};

/// Links behind the admin listener that are not for followers.
const OTHER_ADMIN_LINKS: usize = limits::ADMIN_HANDLERS + limits::BACKUPS_MAX;

/// See the module.
pub(super) struct Capacity {
    /// What was asked for.
    pub(super) wanted: Concurrency,
    pub(super) limit: OpenFileLimit,
    pub(super) doors: Doors,
    /// Webhooks that may be under way at once.
    pub(super) hook_links: usize,
    pub(super) max_followers: usize,
}

impl Capacity {
    /// What `settings` ask for. Raises the limit of open files for it.
    pub(super) fn of(settings: &Settings) -> Self {
        let wanted = Concurrency {
            workers: settings.workers,
            connections: settings.max_connections,
            hook_links: limits::HOOK_LINKS,
            admin_links: OTHER_ADMIN_LINKS.saturating_add(settings.max_followers),
        };
        let limit = descriptor_budget::raise_limit(wanted);
        let granted = wanted.within(limit.current);
        if granted != wanted {
            log::warn!(
                limit = limit.current, max_connections = granted.connections;
                "the limit of open files is too low for all connections; raise it (LimitNOFILE=)"
            );
        }
        let followers = granted.admin_links.saturating_sub(OTHER_ADMIN_LINKS).max(1);
        Self {
            wanted,
            limit,
            doors: doors(settings, granted.connections),
            hook_links: granted.hook_links,
            max_followers: followers,
        }
    }
}

/// What both listeners hold their clients to.
fn doors(settings: &Settings, max_connections: usize) -> Doors {
    let spool = Spool::new(
        settings.data_dir.clone(),
        limits::BODIES_IN_MEMORY_BYTES_MAX,
        settings.max_inflight_body_bytes,
    );
    let settings = GateSettings {
        max_connections,
        max_connections_per_ip: settings.max_connections_per_ip,
        head_timeout: settings.head_timeout,
        body_timeout: settings.body_timeout,
        body_min_rate: settings.body_min_rate,
        idle_timeout: settings.idle_timeout,
        write_timeout: settings.write_timeout,
        drain_bytes_max: settings.max_body_bytes.saturating_add(limits::DRAIN_BYTES_MAX),
        tls: None,
    };
    Doors { settings, spool: Arc::new(spool) }
}
