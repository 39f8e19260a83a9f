//! A thread that sleeps until a time of the wall clock. The kernel wakes it also when the clock is set
//! (`TFD_TIMER_CANCEL_ON_SET`, timerfd_create(2)) and when the machine has slept past the time, so that
//! the thread never wakes only to look at the clock.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::model::clock::Timestamp;

/// See the module.
pub struct Alarm(OwnedFd);

impl Alarm {
    /// An alarm that is not set.
    ///
    /// # Errors
    /// When the system has no timer for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self(timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC)?))
    }

    /// Sets the alarm to `at`, or to no time. A thread that waits already waits for this time. If the
    /// clock was set since the last wait, it wakes at once instead.
    ///
    /// # Errors
    /// Those of timerfd_settime(2), none of which a valid time causes.
    pub fn set(&self, at: Option<Timestamp>) -> io::Result<()> {
        let armed = match self.arm(at) {
            // The timer is armed all the same, but the kernel tells of a step once.
            Err(Errno::CANCELED) => self.arm(Some(Timestamp::default())),
            armed => armed,
        };
        match armed {
            Ok(()) | Err(Errno::CANCELED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn arm(&self, at: Option<Timestamp>) -> Result<(), Errno> {
        // Zero would switch the timer off.
        let millis = at.map(|at| at.as_millis().max(1));
        let value = millis.map_or(Timespec { tv_sec: 0, tv_nsec: 0 }, |millis| Timespec {
            tv_sec: millis / 1000,
            tv_nsec: millis % 1000 * 1_000_000,
        });
        let timer = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&self.0, flags, &timer).map(drop)
    }

    /// Waits for the time that the alarm is set to, or until the clock is set.
    ///
    /// # Errors
    /// Those of read(2), none of which a timer causes.
    pub fn wait(&self) -> io::Result<()> {
        let mut expirations = [0; 8];
        loop {
            match rustix::io::read(&self.0, &mut expirations) {
                Err(Errno::INTR) => {}
                Ok(_) | Err(Errno::CANCELED) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::{Clock, SystemClock};

    #[test]
    fn an_alarm_wakes_at_its_time_also_when_it_is_set_while_a_thread_waits() {
        let alarm = Alarm::new().unwrap();
        alarm.set(Some(SystemClock.now().plus(std::time::Duration::from_millis(20)))).unwrap();
        alarm.wait().unwrap();
        alarm.set(None).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| alarm.wait());
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished(), "no alarm is set");
            alarm.set(Some(Timestamp::default())).unwrap();
            waiting.join().unwrap().unwrap();
        });
    }
}
