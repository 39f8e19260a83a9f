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
mod senders;
pub mod session;
mod ui;
pub mod view;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use crate::config::Settings;
use crate::listener::{Doors, Listener, Options};
use crate::model::limits;
use crate::web::admin::AdminHandler;
use crate::web::hooks::HookHandler;

/// Answers webhooks on `socket` until the server is stopped.
///
/// # Errors
/// When a socket or a thread cannot be had.
pub fn serve_hooks(
    socket: TcpListener,
    handler: HookHandler,
    doors: &Doors,
) -> io::Result<Listener> {
    let counters = Arc::clone(&handler.instruments.hooks);
    let (handlers, under_way_max) = (limits::HOOK_HANDLERS, limits::HOOK_REQUESTS_MAX);
    let options = Options { name: "hooks", handlers, under_way_max, counters };
    Listener::start(socket, options, Arc::new(handler), doors)
}

/// Answers the admin API on `socket` until the server is stopped.
///
/// # Errors
/// When a socket or a thread cannot be had.
pub fn serve_admin(
    socket: TcpListener,
    handler: AdminHandler,
    doors: &Doors,
) -> io::Result<Listener> {
    let counters = Arc::clone(&handler.instruments.admin);
    let under_way_max = admin_requests_max(&handler.settings);
    let options =
        Options { name: "admin", handlers: limits::ADMIN_HANDLERS, under_way_max, counters };
    Listener::start(socket, options, Arc::new(handler), doors)
}

/// Requests that the admin listener has under way at once: one for each handler, the followers, and the
/// backup.
pub fn admin_requests_max(settings: &Settings) -> usize {
    settings.max_followers.saturating_add(limits::ADMIN_HANDLERS + limits::BACKUPS_MAX)
}
