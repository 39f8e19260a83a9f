//! Delays commits while sled cannot free segments of its log. sled frees a segment when no thread can
//! still read from it, which it knows by epochs (crossbeam-epoch). A thread that a busy machine has put
//! aside in mid-read holds up every segment. Commits that went on would take new ones, and the file
//! never shrinks. A delayed commit leaves the processor to that thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::store::sled::SEGMENT_BYTES;

/// How far the log may run ahead of what can be freed.
const LEAD_BYTES_MAX: i64 = 8 * SEGMENT_BYTES as i64;
/// Growth of the log between two marks.
const BYTES_PER_MARK: i64 = SEGMENT_BYTES as i64 / 2;
/// Longest delay of a commit: a file that grows is better than senders without an answer.
const DELAY_MAX: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(1);

/// Measures how far the log is ahead of what can be freed, and delays commits accordingly.
#[derive(Debug)]
pub struct Backpressure {
    /// The log's offset at the last mark.
    marked: i64,
    /// The offset of the newest mark since which every reader has moved on.
    released: Arc<AtomicI64>,
}

impl Backpressure {
    /// For a log that ends at the offset `written`.
    pub fn new(written: i64) -> Self {
        Self { marked: written, released: Arc::new(AtomicI64::new(written)) }
    }

    /// Waits until the log, which ends at `written`, is no longer too far ahead, or [`DELAY_MAX`] is
    /// over.
    pub fn delay(&mut self, written: i64) {
        // The deferred function runs once every thread that is pinned now has let go.
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
        let give_up_at = Instant::now() + DELAY_MAX;
        while self.lead() > LEAD_BYTES_MAX && Instant::now() < give_up_at {
            thread::sleep(POLL);
            crossbeam_epoch::pin().flush();
        }
    }

    fn lead(&self) -> i64 {
        let lead = self.marked - self.released.load(Ordering::Acquire);
        debug_assert!(lead >= 0, "only marks are released");
        lead
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Lets the log grow by `segments`, commit by commit, and returns how long that took.
    fn write(backpressure: &mut Backpressure, written: &mut i64, segments: i64) -> Duration {
        let begun = Instant::now();
        for _ in 0..2 * segments {
            *written += BYTES_PER_MARK;
            backpressure.delay(*written);
        }
        begun.elapsed()
    }

    #[test]
    fn a_long_read_delays_commits_for_a_bounded_time() {
        let mut backpressure = Backpressure::new(0);
        let mut written = 0;
        let (let_go, reader) = channel::<()>();
        let (pinned, is_pinned) = channel();
        let reading = thread::spawn(move || {
            let guard = crossbeam_epoch::pin();
            pinned.send(()).unwrap();
            let _ = reader.recv();
            drop(guard);
        });
        is_pinned.recv().unwrap();
        write(&mut backpressure, &mut written, LEAD_BYTES_MAX / SEGMENT_BYTES as i64);
        let took = write(&mut backpressure, &mut written, 1);
        assert!(took >= DELAY_MAX, "the log is too far ahead");
        assert!(backpressure.lead() > LEAD_BYTES_MAX, "the commit goes on all the same");

        drop(let_go);
        reading.join().unwrap();
        while backpressure.lead() > LEAD_BYTES_MAX {
            write(&mut backpressure, &mut written, 1);
        }
    }
}
