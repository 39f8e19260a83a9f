//! sled 0.34.7, its traps, and what is done about each.
//!
//! | trap | measure |
//! | --- | --- |
//! | `flush` hands the log to the kernel (`sync_file_range`) and leaves it there: no metadata, no disk cache | [`database`] calls `sync_data` on a handle of its own before a commit counts as durable |
//! | the header of a new segment promises that the log before the commit is whole; where it is not, sled recovers nothing since its last start | [`database`] syncs before a commit begins, and when reading has opened a segment |
//! | reading writes: sled splits and merges nodes as it passes them, and so does its flusher | [`database`] keeps readers out between a commit that opened a segment and its sync; the flusher is off |
//! | a leaf over a quarter of a segment goes to a blob file, which is never synced | rows have at most 4 KiB (`ROW_BYTES_MAX`) and a leaf splits at 16 rows; longer values are cut into chunks |
//! | a transaction across trees reads, and so writes, before it begins | all tables share one tree, each behind a byte of its own |
//! | `conf` and the directories are never synced, and a half-made database never opens again | [`files`] makes a database under another name, syncs it and renames it |
//! | a snapshot rests on a log that may be in the kernel's cache only, and a half-written one may pass for whole | [`files`] syncs the log and removes unfinished snapshots before sled opens |
//! | the lock outlives a closed database for a moment | [`files`] tries again |
//! | the file grows after a surge, because sled seldom rewrites long-lived nodes | [`compaction`] makes sled rewrite them as fast as its log grows |
//! | a freed segment waits for every thread that may still read it, also one that the machine has put aside | [`backpressure`] delays commits when the log is far ahead of what can be freed |
//! | there are no snapshots to read from | a backup copies the rows and then the [change log](crate::store::backup) |
//! | errors are sticky, and a full disk can hang `flush` | the committer ends the process (`os::fatal`); [`free_space`](crate::store::free_space) stops accepting early |

pub mod backpressure;
pub mod compaction;
pub mod database;
pub mod files;

/// Cache of the database, in bytes. sled's default of 1 GB has no place in a small daemon.
pub const DATABASE_CACHE_BYTES: u64 = 24 * 1024 * 1024;
/// Size of a segment of sled's log, in bytes: sled's default. A leaf over a quarter of it becomes a blob.
const SEGMENT_BYTES: usize = 512 * 1024;
