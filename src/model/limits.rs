//! Bounds of the data model, each with its reason, and tuning constants that several rooms share. The
//! defaults of settings stand in `config/defaults.rs`.

use std::time::Duration;

/// Vessels in one fleet. The vessel's index has ten bits of its run's id (see `model::ids`), and
/// a graph of a thousand programs is past what a person can follow.
pub const VESSELS_PER_FLEET_MAX: usize = 1_000;
/// Bytes of a secret that is taken out of output. Shorter ones turn up in other text by chance, and
/// what is masked there would give them away.
pub const REDACTED_BYTES_MIN: usize = 8;
/// Bytes of one argument, environment string or `run` script. Linux refuses longer ones when
/// the program is started (MAX_ARG_STRLEN, execve(2): 131,072 with its NUL).
pub const ARGUMENT_BYTES_MAX: usize = 131_071;

/// Bytes of one stored row. sled writes a leaf of over about 128 KiB to a blob file that it never
/// syncs; leaves split at 16 rows, so rows of this size cannot make one.
pub const ROW_BYTES_MAX: usize = 4096;
/// Bytes of a payload that enter one commit. Larger payloads are committed in slices of this size
/// between other commits, so that no accept waits for another sender's upload.
pub const SLICE_BYTES: usize = 256 * 1024;

/// Connections of each listener that have given way to others and have not ended yet: they end within
/// moments, and meanwhile take descriptors and threads beyond `CONNECTIONS_MAX`.
pub const GIVEN_UP_CONNECTIONS: usize = 16;
/// Connections of each listener that were turned away and are kept open for that time, so that
/// their clients see why: few descriptors, and no threads.
pub const REJECTED_CONNECTIONS: usize = 16;
/// Bytes of a request's head: room for the headers of several proxies.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a body that is kept in memory until a handler takes it: most webhooks.
pub const BODY_INLINE_BYTES_MAX: usize = 64 * 1024;
/// Entries of a list when the request does not say how many.
pub const LIST_DEFAULT: usize = 50;
/// Entries of a list at most: more than a page or a script's next step needs.
pub const LIST_MAX: usize = 1_000;

/// How far ahead of the clock what has happened may lie before the clock is thought to have been put
/// back: the last run's acceptance, the replacement of a webhook's URL.
pub const CLOCK_STEP_MAX: Duration = Duration::from_secs(60);
