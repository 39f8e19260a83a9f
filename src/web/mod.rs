//! The two listeners: what they answer is decided here, in terms of requests and answers of our
//! own. Their outer sockets are the business of [`crate::listener`]; behind it, [`server`] is the only
//! module that knows tiny_http.
//!
//! [`webhook`] answers the senders of webhooks, [`admin`] the owner of the installation, with an API
//! and, in [`ui`], the pages that use it.

pub mod admin;
pub mod auth;
pub mod denial;
pub mod hooks;
pub mod instruments;
pub mod origin;
pub mod query;
pub mod respond;
pub mod route;
pub mod session;
pub mod ui;
pub mod view;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use crate::engine::Engine;
use crate::listener::service::{Doors, Listener, Options};
use crate::model::limits;
use crate::web::admin::{AdminHandler, AdminSettings};
use crate::web::hooks::{HookHandler, HookSettings};
use crate::web::instruments::Instruments;

/// Answers webhooks on `socket` until the server is stopped.
///
/// # Errors
/// When a socket or a thread cannot be had.
pub fn serve_hooks(
    socket: TcpListener,
    engine: Arc<Engine>,
    settings: HookSettings,
    doors: &Doors,
    instruments: &Arc<Instruments>,
) -> io::Result<Listener> {
    let counters = Arc::clone(&instruments.hooks);
    let handlers = settings.max_under_way.min(limits::HOOK_HANDLERS);
    let lasting = settings.max_under_way - handlers;
    let options = Options { name: "hooks", handlers, lasting, has_lane: true, counters };
    let handler = Arc::new(HookHandler::new(engine, settings, Arc::clone(instruments)));
    Listener::start(socket, options, handler, doors)
}

/// Answers the admin API on `socket` until the server is stopped.
///
/// # Errors
/// When a socket or a thread cannot be had.
pub fn serve_admin(
    socket: TcpListener,
    engine: Arc<Engine>,
    settings: AdminSettings,
    doors: &Doors,
    instruments: &Arc<Instruments>,
) -> io::Result<Listener> {
    let lasting = settings.max_followers.saturating_add(limits::BACKUPS_MAX);
    let counters = Arc::clone(&instruments.admin);
    let handlers = limits::ADMIN_HANDLERS;
    let options = Options { name: "admin", handlers, lasting, has_lane: false, counters };
    let handler = Arc::new(AdminHandler::new(engine, settings, Arc::clone(instruments)));
    Listener::start(socket, options, handler, doors)
}
