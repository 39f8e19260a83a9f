//! What systemd, or whoever has started the server in its stead, is told of it (sd_notify(3)), and
//! the watchdog that it may ask for. Without anybody to tell, all of this does nothing.
//!
//! Vessels cannot speak in the server's name: they get an environment without `NOTIFY_SOCKET`, and
//! the unit takes messages of the main process only (`NotifyAccess=main`).

mod self_check;
mod watchdog;

use std::time::Duration;

use sd_notify::NotifyState;

pub use self_check::SelfCheck;
pub use watchdog::Watchdog;

/// The server is ready; `status` is a line for `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The server is still at something that `status` says.
pub fn busy(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The server reads its settings again; [`ready`] is to follow.
pub fn reloading() {
    let status = NotifyState::Status("Reading its settings again");
    match NotifyState::monotonic_usec_now() {
        // systemd 253 and later wants to know when, where it knows of reloads by itself.
        Ok(now) => tell(&[NotifyState::Reloading, now, status]),
        Err(_) => tell(&[NotifyState::Reloading, status]),
    }
}

/// The server begins to stop.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// How long the watchdog waits to be fed, if there is one (`WatchdogSec=`).
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!(error:%; "systemd cannot be told how the server is");
    }
}
