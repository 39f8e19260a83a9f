//! Feeds systemd's watchdog after each self-check that succeeds. When checks fail or hang, systemd
//! restarts the server.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sd_notify::NotifyState;

use super::tell;
use crate::os::threads;

/// Checks and pauses in one interval, together: after a check that takes its whole time, a second one
/// fits into the interval.
const STEPS: u32 = 4;

/// The thread that feeds the watchdog.
pub struct Watchdog {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    /// Begins to check. `check` gets the time that it may take, and returns the fault that it finds.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        interval: Duration,
        check: impl FnMut(Duration) -> Result<(), String> + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let thread = threads::vital("watchdog").spawn(move || {
            watch(interval, check, || tell(&[NotifyState::Watchdog]), &stopped);
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread: a server that stops is not watched.
    pub fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join();
    }
}

fn watch(
    interval: Duration,
    mut check: impl FnMut(Duration) -> Result<(), String>,
    mut feed: impl FnMut(),
    stopped: &Receiver<()>,
) {
    let step = interval / STEPS;
    loop {
        match check(step) {
            Ok(()) => feed(),
            Err(why) => {
                log::error!(why; "the self-check has failed; when further ones fail, systemd restarts the server");
            }
        }
        if stopped.recv_timeout(step) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(20);

    #[test]
    fn only_what_works_is_fed() {
        let (stop, stopped) = bounded(0);
        let mut outcomes = vec![Ok(()), Err("sick".to_owned()), Ok(()), Err("sick".to_owned())];
        outcomes.reverse();
        let mut stop = Some(stop);
        let (mut checked, mut fed) = (0, Vec::new());
        let number = std::cell::Cell::new(0);
        watch(
            INTERVAL,
            |within| {
                assert_eq!(within, INTERVAL / STEPS);
                checked += 1;
                number.set(checked);
                let outcome = outcomes.pop();
                if outcomes.is_empty() {
                    stop = None;
                }
                outcome.unwrap()
            },
            || fed.push(number.get()),
            &stopped,
        );
        assert_eq!((checked, fed), (4, vec![1, 3]));
    }

    #[test]
    fn a_check_without_end_feeds_nothing() {
        let (stop, stopped) = bounded(0);
        let (fed, feedings) = channel();
        let (let_go, held) = bounded::<()>(0);
        let thread = thread::spawn(move || {
            let mut number = 0;
            let check = |_| {
                number += 1;
                if number > 2 {
                    let _ = held.recv();
                }
                Ok(())
            };
            watch(INTERVAL, check, || fed.send(()).unwrap(), &stopped);
        });
        assert_eq!((feedings.recv(), feedings.recv()), (Ok(()), Ok(())));
        assert!(feedings.recv_timeout(INTERVAL * 10).is_err());
        drop((let_go, stop));
        thread.join().unwrap();
    }
}
