//! The sockets of both listeners: handed over by systemd, or the server's own.

use std::net::{SocketAddr, TcpListener};

use super::StartError;
use crate::config::Settings;
use crate::listener::widen_backlog;
use crate::os::activation::ActivatedSockets;

/// Two listening sockets.
pub(super) struct Sockets {
    pub(super) hooks: TcpListener,
    pub(super) admin: TcpListener,
}

impl Sockets {
    /// Listens where `settings` say, except for the sockets in `handed_over`, and enters the real
    /// addresses in `settings`.
    pub(super) fn listen(
        settings: &mut Settings,
        handed_over: ActivatedSockets,
    ) -> Result<Self, StartError> {
        let hooks = Asked {
            what: "webhooks",
            setting: "hooks_listen",
            address: settings.hooks_listen,
            is_set: settings.sets_hooks_listen,
        };
        let admin = Asked {
            what: "the admin API",
            setting: "admin_listen",
            address: settings.admin_listen,
            is_set: settings.sets_admin_listen,
        };
        let (hooks, hooks_listen) = hooks.listen(handed_over.hooks)?;
        let (admin, admin_listen) = admin.listen(handed_over.admin)?;
        (settings.hooks_listen, settings.admin_listen) = (hooks_listen, admin_listen);
        Ok(Self { hooks, admin })
    }
}

/// What the settings say of one listener.
struct Asked {
    what: &'static str,
    setting: &'static str,
    address: SocketAddr,
    /// Whether the operator has set the address.
    is_set: bool,
}

impl Asked {
    /// The socket that was handed over, else one of the server's own; and its real address.
    fn listen(
        self,
        handed_over: Option<TcpListener>,
    ) -> Result<(TcpListener, SocketAddr), StartError> {
        let Self { what, setting, address: asked, is_set } = self;
        let is_handed_over = handed_over.is_some();
        let listener = match handed_over {
            Some(listener) => listener,
            None => TcpListener::bind(asked)
                .and_then(|listener| widen_backlog(&listener).map(|()| listener))
                .map_err(|source| StartError::Listen { what, setting, address: asked, source })?,
        };
        let address = listener.local_addr().unwrap_or(asked);
        if is_handed_over && is_set && address != asked {
            log::warn!(
                "listening for {what} on the socket unit's {address}; `{setting}` ({asked}) is ignored"
            );
        }
        Ok((listener, address))
    }
}
