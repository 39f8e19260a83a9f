//! Tells the service manager, usually systemd, how the server is (sd_notify(3)), and feeds its watchdog.
//! Without a service manager all of this does nothing.
//!
//! Vessels cannot notify in the server's name: their environment has no `NOTIFY_SOCKET`, and the unit
//! takes messages of the main process only (`NotifyAccess=main`).

mod self_check;
mod watchdog;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

pub use self_check::SelfCheck;
pub use watchdog::Watchdog;

/// The line for `systemctl status`: the trouble, if there is one, else the usual line.
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

/// The server starts or stops; `status` is a line for `systemctl status`.
pub fn busy(status: &str) {
    let status = with_status(|line| line.usual = status.to_owned());
    tell(&[NotifyState::Status(&status)]);
}

/// The trouble that keeps the server from its work; `None` when it is over.
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

/// The server reads its settings again. Call [`ready`] afterwards.
pub fn reloading() {
    let status = NotifyState::Status("Reading its settings again");
    match NotifyState::monotonic_usec_now() {
        // systemd 253 and later expects the time of a reload.
        Ok(now) => tell(&[NotifyState::Reloading, now, status]),
        Err(_) => tell(&[NotifyState::Reloading, status]),
    }
}

/// The server begins to stop.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// The interval of the watchdog, if the unit has one (`WatchdogSec=`).
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!(error:%; "cannot notify systemd");
    }
}
