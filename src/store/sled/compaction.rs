//! Making sled tidy up. A segment of its log can be used again once all that still lives in it has
//! been moved out of it. Without its background flusher sled moves one node whenever it rewrites
//! another one as a whole, and where nodes are many and long-lived that is too seldom: segments
//! that are all but empty wait in vain, and the file grows. So commits bring rows that mean nothing,
//! all in one place, for as many more rewrites as the log has grown.

use crate::model::limits::DATABASE_SEGMENT_BYTES;

/// The byte before the keys of these rows. No table has it.
pub const NO_TABLE: u8 = u8::MAX;
/// sled adds changes of a node to the log one by one; instead of adding the tenth it rewrites the
/// node.
const ROWS_PER_MOVE: i64 = 10;
/// One more node is moved for so much of the log: twice as many as without this.
const LOG_BYTES_PER_MOVE: i64 = 8 * 1024;
/// Compaction in one commit, each of a kilobyte or two, or of 64 KiB where rows are as large as they may
/// be: little beside a sync.
const MOVES_PER_COMMIT: i64 = 4;
/// What is left undone in a commit is made up for later, up to this: after a large body there is
/// little to move.
const ARREARS_MAX: i64 = DATABASE_SEGMENT_BYTES as i64;

/// A log that grows by more than this with one commit is taking in large rows or many: sled moves
/// enough by itself then, and whoever sends them waits.
const CALM_BYTES: i64 = 96 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Compaction {
    /// The place in the log up to which the moves have been made.
    made_for: i64,
    /// How far the log had been written at the last commit.
    last: i64,
    /// sled leaves out a change that changes nothing.
    value: u8,
}

impl Compaction {
    /// For a log that has been written up to `written`, and of which an earlier server may have left
    /// something undone: they are many where none lives long.
    pub fn new(written: i64) -> Self {
        Self { made_for: written - ARREARS_MAX, last: written, value: 0 }
    }

    /// The rows for a commit when the log has been written up to `written`: keys, and the value of
    /// all of them.
    pub fn rows(&mut self, written: i64) -> (impl Iterator<Item = [u8; 2]> + use<>, u8) {
        self.made_for = self.made_for.max(written - ARREARS_MAX);
        let due = (written - self.made_for) / LOG_BYTES_PER_MOVE;
        let is_calm = written - self.last <= CALM_BYTES;
        self.last = written;
        let moves = if is_calm { due.clamp(0, MOVES_PER_COMMIT) } else { 0 };
        self.made_for += moves * LOG_BYTES_PER_MOVE;
        self.value = self.value.wrapping_add(1);
        ((0..moves * ROWS_PER_MOVE).map(|number| [NO_TABLE, number as u8]), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_follow_the_log_and_are_few_at_a_time() {
        let mut moves = Compaction::new(0);
        let mut rows = |written| {
            let (keys, value) = moves.rows(written);
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
        assert!(moves == 1 && next != value, "sled leaves out a change that changes nothing");
        for slice in 2..5 {
            assert_eq!(rows((100 + slice) * ARREARS_MAX).0, 0, "an upload is not held up");
        }
        assert_eq!(rows(104 * ARREARS_MAX + 1).0, MOVES_PER_COMMIT, "it is made up for");
    }
}
