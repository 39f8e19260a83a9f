//! The answers of the two listeners. [`crate::listener`] has the sockets and the hand-off to the
//! handlers.
//!
//! [`hooks`] answers the senders of webhooks, [`admin`] the owner of the installation, with an API
//! and, in [`ui`], the pages that use it. [`senders`] verifies senders.

pub mod admin;
pub mod auth;
pub mod hooks;
pub mod instruments;
mod origin;
mod query;
mod respond;
mod route;
pub mod senders;
pub mod session;
mod ui;
pub mod view;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use crate::config::Settings;
use crate::listener::{BodyStore, Listener, Options, Tls};
use crate::web::admin::AdminHandler;
use crate::web::hooks::HookHandler;

/// Threads that answer webhooks: they wait for no disk, so a few do, and under load they hardly sleep
/// between two requests. Where every request wakes one of many, a small server answers a fifth less.
pub const HOOK_HANDLERS: usize = 4;
/// Webhooks that are with a handler, being stored in slices or waiting for their commit: commits are
/// shared, so this is also how many accepts one commit can carry.
pub const HOOK_REQUESTS_MAX: usize = 64;
/// Threads that answer admin requests, besides the followers.
pub const ADMIN_HANDLERS: usize = 8;
/// Answers of the admin API that last beside its followers: the one backup that may be made.
const BACKUPS_MAX: usize = 1;

/// Answers webhooks on `socket` until the server is stopped.
///
/// # Errors
/// When a socket or a thread cannot be had.
pub fn serve_hooks(
    socket: TcpListener,
    handler: HookHandler,
    bodies: &Arc<BodyStore>,
    tls: Option<Arc<Tls>>,
) -> io::Result<Listener> {
    let options = Options {
        name: "hooks",
        handlers: HOOK_HANDLERS,
        under_way_max: HOOK_REQUESTS_MAX,
        counters: Arc::clone(&handler.instruments.hooks),
        settings: Arc::clone(&handler.settings),
        bodies: Arc::clone(bodies),
        tls,
    };
    Listener::start(socket, options, Arc::new(handler))
}

/// Answers the admin API on `socket` until the server is stopped.
///
/// # Errors
/// When a socket or a thread cannot be had.
pub fn serve_admin(
    socket: TcpListener,
    handler: AdminHandler,
    bodies: &Arc<BodyStore>,
) -> io::Result<Listener> {
    let options = Options {
        name: "admin",
        handlers: ADMIN_HANDLERS,
        under_way_max: admin_requests_max(&handler.settings),
        counters: Arc::clone(&handler.instruments.admin),
        settings: Arc::clone(&handler.settings),
        bodies: Arc::clone(bodies),
        tls: None,
    };
    Listener::start(socket, options, Arc::new(handler))
}

/// Requests that the admin listener has under way at once: one for each handler, the followers, and the
/// backup.
pub fn admin_requests_max(settings: &Settings) -> usize {
    settings.max_followers.saturating_add(ADMIN_HANDLERS + BACKUPS_MAX)
}
