//! Token buckets, each one number: the moment at which it is full again. A request that is let in
//! moves that moment on by one interval of the rate, and one that would move it further ahead than
//! the burst reaches is refused. Nothing has to be refilled, so nothing runs between requests.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::model::clock::Timestamp;
use crate::model::network::sender_of;
use crate::model::rate::Rate;

/// Buckets in each of two rows that all senders share: 1 MiB when the limit is on. Of senders that
/// keep to their rate, one in (this / n)^2 is held up when n others do not.
pub const SENDER_BUCKETS: usize = 64 * 1024;

/// A request came too soon; after this long the next one is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSoon(pub Duration);

impl TooSoon {
    /// Whole seconds for `Retry-After` (RFC 9110 10.2.3), rounded up: a sender that
    /// believes it is not refused again.
    pub fn seconds(self) -> u64 {
        self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0)
    }
}

/// Nanoseconds since the epoch.
type Moment = i64;

/// When a bucket that is full again at `full_at` is so after one more request at `now`; or else
/// when it is as things stand, and how long to wait.
fn after_one_more(
    full_at: Moment,
    rate: Rate,
    now: Timestamp,
) -> Result<Moment, (Moment, TooSoon)> {
    let now = now.as_millis().saturating_mul(1_000_000);
    let interval = nanos(rate.interval());
    let reach = interval.saturating_mul(i64::from(rate.burst()));
    // Further ahead than ever allowed: the clock has stepped back, or the rate was changed.
    let full_at = full_at.min(now.saturating_add(reach));
    let next = full_at.max(now).saturating_add(interval);
    let excess = next.saturating_sub(now).saturating_sub(reach);
    match u64::try_from(excess) {
        Ok(excess @ 1..) => Err((full_at, TooSoon(Duration::from_nanos(excess)))),
        _ => Ok(next),
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The bucket of one thing that many threads ask about.
#[derive(Debug, Default)]
pub struct Bucket(AtomicI64);

impl Bucket {
    /// Lets one more request in at `now`.
    ///
    /// # Errors
    /// When it comes too soon.
    pub fn take(&self, rate: Rate, now: Timestamp) -> Result<(), TooSoon> {
        self.change(|full_at| match after_one_more(full_at, rate, now) {
            Ok(next) => (next, Ok(())),
            Err((same, too_soon)) => (same, Err(too_soon)),
        })
    }

    /// Gives one more request at `now` its turn: how long after `now` that is, `pause_max` at most.
    pub fn pause(&self, rate: Rate, now: Timestamp, pause_max: Duration) -> Duration {
        let now = now.as_millis().saturating_mul(1_000_000);
        let interval = nanos(rate.interval());
        let burst = interval.saturating_mul(i64::from(rate.burst()));
        let full_at_max = now.saturating_add(burst).saturating_add(nanos(pause_max));
        self.change(|full_at| {
            let next = full_at.max(now).saturating_add(interval).min(full_at_max);
            let pause = next.saturating_sub(now).saturating_sub(burst);
            (next, Duration::from_nanos(u64::try_from(pause).unwrap_or(0)))
        })
    }

    /// Stores what `next` makes of the current moment, and returns what it says of it.
    fn change<T>(&self, next: impl Fn(Moment) -> (Moment, T)) -> T {
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let (next, found) = next(full_at);
            let stored =
                self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed);
            match stored {
                Ok(_) => return found,
                Err(current) => full_at = current,
            }
        }
    }
}

/// Buckets for any number of senders in a fixed amount of memory. No bucket is evicted: an attacker with
/// enough addresses could evict one on purpose.
///
/// Each sender has a bucket in each of two rows, at places that a secret hash gives, so that no sender can
/// aim at another one's. Senders may share buckets; the emptier of a sender's two
/// buckets counts, and both are brought up to that count (a count-min sketch with conservative
/// update: Estan and Varghese, 2002). So no sender ever gets more than the rate, and one gets less
/// only when strangers have used up both.
pub struct Senders {
    rate: Rate,
    rows: [Row; 2],
}

struct Row {
    hasher: RandomState,
    full_at: Box<[Moment]>,
}

impl Senders {
    /// Fresh buckets for `rate`.
    pub fn new(rate: Rate) -> Self {
        Self::with_buckets(rate, SENDER_BUCKETS)
    }

    fn with_buckets(rate: Rate, count: usize) -> Self {
        let row = || Row { hasher: RandomState::new(), full_at: vec![0; count].into_boxed_slice() };
        Self { rate, rows: [row(), row()] }
    }

    /// Lets one more request of `address` in at `now`.
    ///
    /// # Errors
    /// When it comes too soon.
    pub fn take(&mut self, address: IpAddr, now: Timestamp) -> Result<(), TooSoon> {
        let sender = sender_of(address);
        let mut buckets = self.rows.each_mut().map(|row| row.bucket(sender));
        let earliest = buckets.iter().map(|bucket| **bucket).min().unwrap_or_default();
        match after_one_more(earliest, self.rate, now) {
            Ok(next) => {
                for bucket in &mut buckets {
                    **bucket = next.max(**bucket);
                }
                Ok(())
            }
            Err((same, too_soon)) => {
                for bucket in &mut buckets {
                    **bucket = same.min(**bucket);
                }
                Err(too_soon)
            }
        }
    }
}

impl Row {
    fn bucket(&mut self, sender: IpAddr) -> &mut Moment {
        let place = self.hasher.hash_one(sender) % self.full_at.len() as u64;
        &mut self.full_at[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START_MILLIS: i64 = 1_700_000_000_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(START_MILLIS + millis)
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_flood_is_spread_over_time_and_no_request_waits_longer_than_the_maximum() {
        let rate: Rate = "1000/s burst 10".parse().unwrap();
        let pause_max = Duration::from_millis(100);
        let bucket = Bucket::default();
        let pauses = |millis, count| {
            let pauses = (0..count).map(|_| bucket.pause(rate, at(millis), pause_max));
            pauses.map(|pause| pause.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(0, 13), [vec![0; 10], vec![1, 2, 3]].concat());
        assert_eq!(pauses(3, 2), [1, 2]);
        assert_eq!(pauses(3, 1000).last(), Some(&100));
        assert_eq!(pauses(103, 1), [1], "refused requests of the past hold nothing up for longer");
        // The clock was put back by an hour.
        assert_eq!(pauses(-3_600_000, 1), [100]);
        assert_eq!(pauses(-3_590_000, 1), [0]);
    }

    #[test]
    fn a_burst_passes_then_one_per_interval() {
        let rate: Rate = "60/m burst 3".parse().unwrap();
        let bucket = Bucket::default();
        for (millis, expected) in [
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(1000)),
            (400, Err(600)),
            (1000, Ok(())),
            (1000, Err(1000)),
            (3500, Ok(())),
            (3500, Ok(())),
            (3500, Err(500)),
            (60_000, Ok(())),
            (60_000, Ok(())),
            (60_000, Ok(())),
            (60_000, Err(1000)),
        ] {
            let expected = expected.map_err(|millis: u64| TooSoon(Duration::from_millis(millis)));
            assert_eq!(bucket.take(rate, at(millis)), expected, "at {millis}");
        }
    }

    #[test]
    fn a_sender_that_waits_as_told_is_admitted() {
        for text in ["1/s", "7/s", "100/m burst 1", "3/h", "1/d burst 2", "1000000/s burst 1"] {
            let rate: Rate = text.parse().unwrap();
            let bucket = Bucket::default();
            let mut millis = 0;
            for _ in 0..5 {
                while bucket.take(rate, at(millis)).is_ok() {}
                let Err(too_soon) = bucket.take(rate, at(millis)) else { panic!("{text}") };
                millis += i64::try_from(too_soon.seconds()).unwrap() * 1000;
                assert_eq!(bucket.take(rate, at(millis)), Ok(()), "{text} at {millis}");
            }
        }
    }

    #[test]
    fn a_clock_that_steps_back_delays_no_sender_for_long() {
        let rate: Rate = "1/s burst 5".parse().unwrap();
        let day = 86_400_000;
        let bucket = Bucket::default();
        let mut senders = Senders::new(rate);
        while bucket.take(rate, at(day)).is_ok() && senders.take(address(1), at(day)).is_ok() {}
        assert_eq!(bucket.take(rate, at(0)), Err(TooSoon(Duration::from_secs(1))));
        assert_eq!(senders.take(address(1), at(0)), Err(TooSoon(Duration::from_secs(1))));
        assert_eq!(bucket.take(rate, at(1000)), Ok(()));
        assert_eq!(senders.take(address(1), at(1000)), Ok(()));
    }

    #[test]
    fn senders_do_not_use_up_each_others_buckets() {
        let mut senders = Senders::new("1/h burst 2".parse().unwrap());
        // Many times what is likely to hit both buckets of another address.
        for number in 0..50 {
            let sender = address(number);
            let verdicts = [0; 3].map(|millis| senders.take(sender, at(millis)).is_ok());
            assert_eq!(verdicts, [true, true, false], "{sender}");
        }
        // The addresses of one host count as one.
        let host = |last: &str| format!("2001:db8::{last}").parse::<IpAddr>().unwrap();
        let verdicts = ["1", "2", "3"].map(|last| senders.take(host(last), at(0)).is_ok());
        assert_eq!(verdicts, [true, true, false]);
    }

    proptest! {
        /// Whatever others send and however buckets are shared: never more than the rate.
        #[test]
        fn no_sender_gets_more_than_the_rate(
            requests in prop::collection::vec((0_u32..6, 0_i64..400), 1..300),
            count in 1_usize..4,
        ) {
            let rate: Rate = "5/s burst 3".parse().unwrap();
            let mut senders = Senders::with_buckets(rate, count);
            let own: Vec<Bucket> = (0..6).map(|_| Bucket::default()).collect();
            let mut now = 0;
            for (sender, pause) in requests {
                now += pause;
                if senders.take(address(sender), at(now)).is_ok() {
                    prop_assert_eq!(own[sender as usize].take(rate, at(now)), Ok(()));
                }
            }
        }
    }
}
