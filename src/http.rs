//! The two listeners: what they answer is decided here, in terms of requests and answers of our
//! own; who reads the sockets is the business of [`server`], the only module that knows tiny_http.
//!
//! [`webhook`] answers the senders of webhooks, [`admin`] the owner of the installation.

pub mod admin;
pub mod auth;
pub mod message;
pub mod query;
pub mod respond;
pub mod route;
pub mod server;
pub mod view;
pub mod webhook;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use crate::engine::Engine;
use crate::http::admin::{AdminHandler, AdminSettings};
use crate::http::server::{Options, Server};
use crate::http::webhook::{HookHandler, HookSettings};
use crate::limits;

/// Answers webhooks on `listener` until the server is stopped.
///
/// # Errors
/// When the listener or a thread cannot be had.
pub fn serve_hooks(
    listener: TcpListener,
    engine: Arc<Engine>,
    settings: HookSettings,
) -> io::Result<Server> {
    let options = Options {
        name: "hooks",
        handlers: limits::HANDLERS,
        body_bytes_max: settings.max_body_bytes,
    };
    Server::start(listener, options, Arc::new(HookHandler::new(engine, settings)))
}

/// Answers the admin API on `listener` until the server is stopped.
///
/// # Errors
/// When the listener or a thread cannot be had.
pub fn serve_admin(
    listener: TcpListener,
    engine: Arc<Engine>,
    settings: AdminSettings,
) -> io::Result<Server> {
    let options = Options {
        name: "admin",
        handlers: limits::ADMIN_HANDLERS,
        body_bytes_max: settings.max_body_bytes,
    };
    Server::start(listener, options, Arc::new(AdminHandler::new(engine, settings)))
}
