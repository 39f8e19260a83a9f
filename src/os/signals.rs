//! The signals that a server obeys, as events on a channel.

use std::io;

use crossbeam_channel::{Receiver, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::os::threads;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT: stop. A second one stops without grace.
    Stop,
    /// SIGHUP: read the settings again.
    Reload,
}

/// Begins to catch signals. The events come on the channel for as long as the process lives.
///
/// # Errors
/// When a handler or the thread that reads them cannot be set up.
pub fn listen() -> io::Result<Receiver<Event>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (events, received) = unbounded();
    threads::vital("signals").spawn(move || {
        for signal in signals.forever() {
            let event = if signal == SIGHUP { Event::Reload } else { Event::Stop };
            if events.send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(received)
}
