//! `boathook serve` as a process: signals, systemd, and the order of start and stop.

use std::io::{self, Write};

use super::{Daemon, StartError, no_thread};
use crate::config::{self, ConfigError, EffectiveSetting, Settings};
use crate::os::signals::{self, Event};
use crate::os::systemd::{self, Watchdog};
use crate::os::{activation, logging};
use crate::runner::orphans;

/// Makes this process the parent of vessels' orphans. Call it before other threads are started.
pub fn adopt_orphans() {
    if let Err(error) = orphans::adopt() {
        log::warn!(error:%; "orphans of vessels are not adopted: a daemon that a vessel leaves behind is not named in its log, and as process 1 of a container this server leaves zombies; start the container with --init");
    }
}

/// Runs a server until a signal stops it. `effective` tells people the settings, `reload` reads them again,
/// for SIGHUP.
///
/// # Errors
/// When the server does not start, or signals cannot be caught.
pub fn serve(
    settings: Settings,
    effective: Vec<EffectiveSetting>,
    reload: impl Fn() -> Result<Settings, ConfigError>,
) -> Result<(), StartError> {
    logging::start(settings.log);
    for variable in config::unknown_variables() {
        log::warn!("{} is no setting and changes nothing; {}", variable.name, variable.advice());
    }
    // This changes the environment, which is unsound beside other threads.
    let handed_over = activation::take()?;
    adopt_orphans();
    // From here on a signal stops the server in order.
    let events = signals::listen().map_err(no_thread("signal handling"))?;
    systemd::busy("Opening the database and recovering the runs of the last server");
    let daemon = Daemon::start(settings, effective, handed_over)?;
    let (hooks, admin) = (daemon.settings().hooks_url(), daemon.settings().admin_url());
    let listens = format!("Webhooks at {hooks}, admin at {admin}");
    let watchdog = systemd::watchdog_interval().map(|interval| {
        let mut check = daemon.self_check();
        Watchdog::start(interval, move |within| check.run(within))
    });
    let watchdog = watchdog.transpose().map_err(no_thread("watchdog"))?;
    let second_stop = daemon.watch_for_second_stop().map_err(no_thread("signal handling"))?;
    log::info!(hooks, admin; "ready");
    if let Err(error) = writeln!(io::stdout(), "boathook ready hooks={hooks} admin={admin}") {
        log::warn!(error:% = error; "the ready line cannot be written to standard output");
    }
    systemd::ready(&listens);
    while let Ok(Event::Reload) = events.recv() {
        systemd::reloading();
        daemon.reload_certificate();
        reload_log_level(&reload);
        systemd::ready(&listens);
    }
    log::info!("stopping; running vessels may finish");
    systemd::stopping("Waiting for running vessels to finish");
    daemon.drain();
    let _ = second_stop.send(events);
    daemon.await_idle();
    if let Some(watchdog) = watchdog {
        watchdog.stop();
    }
    systemd::busy("Ending the vessels that still run");
    daemon.stop();
    logging::finish();
    Ok(())
}

fn reload_log_level(reload: impl Fn() -> Result<Settings, ConfigError>) {
    match reload() {
        Ok(settings) => {
            log::set_max_level(settings.log);
            log::info!("reloaded the log level; other settings change at the next start");
        }
        Err(error) => log::error!(error:% = error; "settings stay as they are"),
    }
}
