//! sled 0.34.7 and its traps.
//!
//! | trap | measure |
//! | --- | --- |
//! | `flush` hands the log to the kernel (`sync_file_range`) and leaves it there: no metadata, no disk cache | [`database`] calls `sync_data` on its own handle before a commit counts as durable |
//! | the header of a new segment promises that the log before it is whole, even where it is not | [`database`] syncs before a commit begins, and after each segment's worth of other writes |
//! | reading writes: sled splits and merges nodes as it passes them, and so does its flusher | [`database`] keeps readers out between a commit that opened a segment and its sync; the flusher is off |
//! | a row over 4 KiB may end in a blob file, which is never synced | rows are cut into chunks (`store::chunks`) |
//! | a transaction across trees reads, and so writes, before it begins | all tables share one tree, each behind a byte of its own |
//! | the file grows after a surge, because nodes that stay are seldom rewritten | [`compaction`] makes sled rewrite them as fast as its log grows |
//! | freed segments wait for threads that a busy machine has put aside | [`backpressure`] delays commits when the log is far ahead of what can be freed |
//! | errors are sticky, and a full disk can hang `flush` | the committer ends the process (`os::fatal`) |

pub mod backpressure;
pub mod compaction;
pub mod database;
