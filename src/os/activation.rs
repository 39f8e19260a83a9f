//! Socket activation (sd_listen_fds(3)): listening sockets that systemd hands over. They stay open while
//! the server restarts, and the kernel queues connections meanwhile.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

/// The names of the sockets: `FileDescriptorName=` in their units.
const HOOKS: &str = "hooks";
const ADMIN: &str = "admin";

/// The sockets that were handed over. The server binds those that are `None`.
#[derive(Debug, Default)]
pub struct ActivatedSockets {
    pub hooks: Option<TcpListener>,
    pub admin: Option<TcpListener>,
}

/// Why the sockets that were handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    #[error(
        "LISTEN_FDS hands over {0} sockets; one for {HOOKS} and one for {ADMIN} are all there is use for: one ListenStream= in each unit"
    )]
    TooMany(usize),
    #[error(
        "LISTEN_FDNAMES is {0:?}; name one socket {HOOKS} and the other {ADMIN} (FileDescriptorName= in their units), or none"
    )]
    Names(String),
    #[error("the socket handed over for {name} is no listening TCP socket: {source}")]
    NotListening { name: &'static str, source: io::Error },
}

/// Takes the sockets and removes them from the environment. Call this before the process has threads.
///
/// # Errors
/// See [`ActivationError`]. The sockets then stay open until the process ends.
pub fn take() -> Result<ActivatedSockets, ActivationError> {
    let names = std::env::var("LISTEN_FDNAMES").ok();
    let mut handed_over = ListenFd::from_env();
    let mut inherited = ActivatedSockets::default();
    for (index, name) in assign(handed_over.len(), names.as_deref())?.into_iter().enumerate() {
        let listener = take_listener(&mut handed_over, index)
            .map_err(|source| ActivationError::NotListening { name, source })?;
        match name {
            HOOKS => inherited.hooks = Some(listener),
            _ => inherited.admin = Some(listener),
        }
    }
    Ok(inherited)
}

/// Assigns `count` sockets to listeners: by name when a name is ours, else by order.
fn assign(count: usize, names: Option<&str>) -> Result<Vec<&'static str>, ActivationError> {
    let by_order = [HOOKS, ADMIN];
    if count > by_order.len() {
        return Err(ActivationError::TooMany(count));
    }
    let given: Vec<&str> = names.map(|names| names.split(':').collect()).unwrap_or_default();
    let is_ours = |name: &&str| by_order.contains(name);
    if !given.iter().any(is_ours) {
        // Without FileDescriptorName= a socket has the name of its unit.
        return Ok(by_order.into_iter().take(count).collect());
    }
    let known = given.iter().filter_map(|name| by_order.into_iter().find(|it| it == name));
    let known: Vec<&'static str> = known.collect();
    if known.len() != count || given.len() != count || known.first() == known.get(1) {
        return Err(ActivationError::Names(names.unwrap_or_default().to_owned()));
    }
    Ok(known)
}

fn take_listener(handed_over: &mut ListenFd, index: usize) -> io::Result<TcpListener> {
    // This sets close-on-exec: no vessel inherits the socket.
    let listener = handed_over.take_tcp_listener(index)?;
    let listener = listener.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    if !socket_acceptconn(&listener)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    listener.set_nonblocking(false)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_by_name_else_by_order() {
        for (count, names, expected) in [
            (0, None, vec![]),
            (1, None, vec![HOOKS]),
            (2, None, vec![HOOKS, ADMIN]),
            (2, Some("admin:hooks"), vec![ADMIN, HOOKS]),
            (1, Some("admin"), vec![ADMIN]),
            (2, Some("boathook-hooks.socket:boathook-admin.socket"), vec![HOOKS, ADMIN]),
            (1, Some("unknown"), vec![HOOKS]),
            (1, Some(""), vec![HOOKS]),
        ] {
            assert_eq!(assign(count, names).unwrap(), expected, "{count} {names:?}");
        }
        for (count, names) in [
            (3, None),
            (3, Some("hooks:admin:x")),
            (2, Some("hooks:hooks")),
            (2, Some("hooks:other")),
            (2, Some("hooks")),
            (1, Some("hooks:admin")),
        ] {
            assert!(assign(count, names).is_err(), "{count} {names:?}");
        }
    }
}
