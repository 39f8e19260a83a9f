//! Makes sled compact its log. sled reuses a segment once all live nodes have been moved out of it. Without
//! its flusher it moves one node whenever it rewrites another one as a whole. Where nodes are many and
//! long-lived that is too seldom: nearly empty segments stay, and the file grows. So commits carry
//! rows without a meaning, all in one node, whose rewrites move others at the pace of the log's growth.

use crate::store::sled::SEGMENT_BYTES;

/// The byte in front of the keys of these rows. No table has it.
pub const NO_TABLE: u8 = u8::MAX;
/// sled appends nine changes of a node to its log one by one; with the tenth it rewrites the node.
const ROWS_PER_MOVE: i64 = 10;
/// Growth of the log per additional move. Without this module sled moves about as many again.
const LOG_BYTES_PER_MOVE: i64 = 8 * 1024;
/// Moves in one commit, each of one or two kilobytes, or of 64 KiB where rows have their full size:
/// little beside a sync.
const MOVES_PER_COMMIT: i64 = 4;
/// Growth of the log whose moves later commits make up for. Beyond it there is little to move, as
/// after a large body.
const ARREARS_MAX: i64 = SEGMENT_BYTES as i64;
/// Growth of the log with one commit from which on sled moves enough by itself: the rows are large or
/// many, and their sender waits.
const LARGE_COMMIT_BYTES: i64 = 96 * 1024;

/// Decides how many of these rows a commit carries.
#[derive(Debug)]
pub struct Compaction {
    /// The log's offset up to which the moves have been made.
    made_for: i64,
    /// The log's offset at the last commit.
    last: i64,
    /// The value of the rows. It changes with each commit, because sled drops a change without effect.
    value: u8,
}

impl Compaction {
    /// For a log that ends at the offset `written`. An earlier server may have left moves undone.
    pub fn new(written: i64) -> Self {
        Self { made_for: written - ARREARS_MAX, last: written, value: 0 }
    }

    /// The keys for a commit to a log that ends at `written`, and the value of all of them.
    pub fn rows(&mut self, written: i64) -> (impl Iterator<Item = [u8; 2]> + use<>, u8) {
        self.made_for = self.made_for.max(written - ARREARS_MAX);
        let due = (written - self.made_for) / LOG_BYTES_PER_MOVE;
        let is_large = written - self.last > LARGE_COMMIT_BYTES;
        self.last = written;
        let moves = if is_large { 0 } else { due.clamp(0, MOVES_PER_COMMIT) };
        self.made_for += moves * LOG_BYTES_PER_MOVE;
        self.value = self.value.wrapping_add(1);
        ((0..moves * ROWS_PER_MOVE).map(|number| [NO_TABLE, number as u8]), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_follow_the_log_and_are_few_per_commit() {
        let mut compaction = Compaction::new(0);
        let mut rows = |written| {
            let (keys, value) = compaction.rows(written);
            (keys.count() as i64 / ROWS_PER_MOVE, value)
        };
        let mut all = |written| -> i64 {
            (0..1000).map(|_| rows(written).0).inspect(|it| assert!(*it <= 4)).sum()
        };
        assert_eq!(all(0), ARREARS_MAX / LOG_BYTES_PER_MOVE, "of an earlier server");
        assert_eq!(
            all(100 * ARREARS_MAX),
            ARREARS_MAX / LOG_BYTES_PER_MOVE,
            "the rest is forgiven"
        );
        assert_eq!(rows(100 * ARREARS_MAX + LOG_BYTES_PER_MOVE - 1).0, 0);
        let (moves, value) = rows(100 * ARREARS_MAX + LOG_BYTES_PER_MOVE);
        assert_eq!(moves, 1);
        let (moves, next) = rows(100 * ARREARS_MAX + 2 * LOG_BYTES_PER_MOVE);
        assert!(moves == 1 && next != value, "sled drops a change without effect");
        for slice in 2..5 {
            assert_eq!(rows((100 + slice) * ARREARS_MAX).0, 0, "an upload is not held up");
        }
        assert_eq!(rows(104 * ARREARS_MAX + 1).0, MOVES_PER_COMMIT, "later commits make up for it");
    }
}
