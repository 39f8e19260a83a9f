//! Keeps sled's tidying from falling behind. sled uses a segment of its log again only when no thread
//! can still be reading from it, and it knows that by epochs (crossbeam-epoch). A thread that a busy
//! machine has put aside in mid-read holds up the freeing of everything; meanwhile commits go on, each
//! takes new segments, and the file grows by all that is written until that thread runs again. It
//! would never shrink. So commits wait, and leave the processor to that thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::limits::DATABASE_SEGMENT_BYTES;

/// How far the log may run ahead of what can be freed.
const LEAD_BYTES_MAX: i64 = 8 * DATABASE_SEGMENT_BYTES as i64;
/// One mark is made for so much of the log.
const BYTES_PER_MARK: i64 = DATABASE_SEGMENT_BYTES as i64 / 2;
/// A commit waits no longer: a file that grows is better than senders who are not answered.
const PATIENCE: Duration = Duration::from_millis(50);
const STEP: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug)]
pub struct Backpressure {
    /// Where the log was when the last mark was made.
    marked: i64,
    /// Whoever read then has come to an end.
    released: Arc<AtomicI64>,
}

impl Backpressure {
    /// For a log that has been written up to `written`.
    pub fn new(written: i64) -> Self {
        Self { marked: written, released: Arc::new(AtomicI64::new(written)) }
    }

    /// Waits until the log, written up to `written`, is not too far ahead of what can be freed.
    pub fn keep_up(&mut self, written: i64) {
        if written - self.marked >= BYTES_PER_MARK {
            self.marked = written;
            let released = Arc::clone(&self.released);
            let guard = crossbeam_epoch::pin();
            guard.defer(move || released.fetch_max(written, Ordering::Release));
            guard.flush();
        }
        if self.lead() <= LEAD_BYTES_MAX {
            return;
        }
        let give_up_at = Instant::now() + PATIENCE;
        while self.lead() > LEAD_BYTES_MAX && Instant::now() < give_up_at {
            thread::sleep(STEP);
            crossbeam_epoch::pin().flush();
        }
    }

    fn lead(&self) -> i64 {
        self.marked - self.released.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Writes so many segments, commit by commit, and returns how long that took.
    fn write(backpressure: &mut Backpressure, place: &mut i64, segments: i64) -> Duration {
        let begun = Instant::now();
        for _ in 0..2 * segments {
            *place += BYTES_PER_MARK;
            backpressure.keep_up(*place);
        }
        begun.elapsed()
    }

    #[test]
    fn commits_wait_while_somebody_reads_for_long_and_not_for_ever() {
        let mut backpressure = Backpressure::new(0);
        let mut place = 0;
        let (let_go, reader) = channel::<()>();
        let (pinned, is_pinned) = channel();
        let reading = thread::spawn(move || {
            let guard = crossbeam_epoch::pin();
            pinned.send(()).unwrap();
            let _ = reader.recv();
            drop(guard);
        });
        is_pinned.recv().unwrap();
        write(&mut backpressure, &mut place, LEAD_BYTES_MAX / DATABASE_SEGMENT_BYTES as i64);
        assert!(write(&mut backpressure, &mut place, 1) >= PATIENCE, "it is too far ahead");
        assert!(backpressure.lead() > LEAD_BYTES_MAX, "and goes on");

        drop(let_go);
        reading.join().unwrap();
        while backpressure.lead() > LEAD_BYTES_MAX {
            write(&mut backpressure, &mut place, 1);
        }
    }
}
