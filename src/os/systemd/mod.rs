//! What systemd, or whoever has started the server in its stead, is told of it (sd_notify(3)), and
//! the watchdog that it may ask for. Without anybody to tell, all of this does nothing.
//!
//! Vessels cannot speak in the server's name: they get an environment without `NOTIFY_SOCKET`, and
//! the unit takes messages of the main process only (`NotifyAccess=main`).

mod self_check;
mod watchdog;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

pub use self_check::SelfCheck;
pub use watchdog::Watchdog;

/// The line for `systemctl status`: of what the server is at, unless something is amiss.
#[derive(Default)]
struct StatusLine {
    usual: String,
    trouble: Option<String>,
}

static STATUS: Mutex<Option<StatusLine>> = Mutex::new(None);

/// The server is ready; `status` is a line for `systemctl status`.
pub fn ready(status: &str) {
    let status = with_status(|line| line.usual = status.to_owned());
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The server is still at something that `status` says.
pub fn busy(status: &str) {
    let status = with_status(|line| line.usual = status.to_owned());
    tell(&[NotifyState::Status(&status)]);
}

/// Something is amiss that keeps the server from its work, or `None` when it is so no longer.
pub fn trouble(trouble: Option<&str>) {
    let status = with_status(|line| line.trouble = trouble.map(str::to_owned));
    tell(&[NotifyState::Status(&status)]);
}

/// Changes the line and returns it.
fn with_status(change: impl FnOnce(&mut StatusLine)) -> String {
    let mut line = STATUS.lock().unwrap_or_else(PoisonError::into_inner);
    let line = line.get_or_insert_default();
    change(line);
    line.trouble.clone().unwrap_or_else(|| line.usual.clone())
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
