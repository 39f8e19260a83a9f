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
/// between other commits, so that no accept waits for somebody else's upload.
pub const SLICE_BYTES: usize = 256 * 1024;

/// Bytes of a process's environment that are looked at: more than Linux lets a program start with
/// (execve(2): three quarters of 8 MiB at the most).
pub const PROCESS_ENVIRONMENT_BYTES_MAX: u64 = 8 << 20;
/// Threads that answer webhooks: they wait for no disk, so a few do, and under load they hardly sleep
/// between two requests. Where every request wakes one of many, a small server answers a fifth less.
pub const HOOK_HANDLERS: usize = 4;
/// Webhooks that are with a handler, being stored in slices or waiting for their commit: commits are
/// shared, so this is also how many accepts one commit can carry.
pub const HOOK_REQUESTS_MAX: usize = 64;
/// Threads that answer admin requests, besides the followers.
pub const ADMIN_HANDLERS: usize = 8;
/// Threads of each listener that exist from the start, for connections when no thread can be had.
pub const RESERVED_THREADS: usize = 4;
/// Retry-After of a 503, or of a 429 for too many connections, in seconds: a full queue does not
/// empty at once.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// Connections beyond all others that get the short answers: a full server still tells its health.
pub const RESERVED_CONNECTIONS: usize = 16;
/// How long one of those may take, for its head and for its end.
pub const RESERVED_TIME_MAX: Duration = Duration::from_secs(1);
/// Connections of each listener that have given way to others and have not ended yet: they end within
/// moments, and meanwhile take descriptors and threads beyond `CONNECTIONS_MAX`.
pub const GIVEN_UP_CONNECTIONS: usize = 16;
/// Connections of each listener that were turned away and are kept open for that time, so that
/// their clients see why: few descriptors, and no threads.
pub const REJECTED_CONNECTIONS: usize = 16;
/// Reads of 4 KiB from one of them before it is closed: what a client sends without being asked for
/// more.
pub const REJECTED_READS_MAX: usize = 64;
/// Bytes of the stack of a connection's thread: several times what it uses.
pub const CONNECTION_STACK_BYTES: usize = 256 * 1024;
/// Connections that wait to be accepted: what Linux queues at most, unless told otherwise
/// (net.core.somaxconn, listen(2)).
pub const ACCEPT_BACKLOG_MAX: usize = 4096;
/// How long to wait for a connection to end when no more can be accepted.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How often trouble that does not end is logged.
pub const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Refusals of one reason that a listener logs in [`LOG_INTERVAL`], each on a line: enough to see what is
/// going on, whoever sends how many.
pub const REFUSALS_LOGGED_MAX: u64 = 20;
/// Bytes of a request line: twice what most servers and proxies take, so that even 10 KB of a
/// wrong token get the answer that every wrong token gets.
pub const REQUEST_LINE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a request's head: room for the headers of several proxies.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers of a request: several times what senders and their proxies add.
pub const HEADERS_MAX: usize = 100;
/// Bytes of the first line of a chunk: a size, and extensions that nobody uses.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Bytes of the trailers of a chunked body, which are dropped.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a body that is kept in memory until a handler takes it: most webhooks.
pub const BODY_INLINE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all bodies in memory: one for each connection. One address, and one fleet, has its share.
pub const BODIES_IN_MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How far a body may lag behind the pace that its time allows: a lost packet may be sent again twice.
pub const BODY_LAG_MAX: Duration = Duration::from_secs(5);
/// Requests that may wait for a permit: one for each connection.
pub const WAITING_REQUESTS_MAX: usize = 1024;
/// How long a request may wait for a permit: longer, and senders would give up.
pub const HANDLER_WAIT: Duration = Duration::from_secs(5);
/// Bytes of the body of a refused request that are read so that its connection can be kept.
pub const SKIPPED_BODY_BYTES_MAX: u64 = 64 * 1024;
/// Bytes by which a refused body may exceed `max_body_bytes` and still be read to its end, so that
/// a sender that reads only after it has sent gets to see the 413. A drain of 1 MiB was measured
/// to be too short for Python's http.client. What is drained is never held in memory.
pub const DRAIN_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// How long it is read: a sender that is slower gets a reset.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(10);
/// How long connections are kept open for one more request, which is answered with the word that it
/// was the last, when the server stops: a busy sender loses nothing then.
pub const CLOSING_NOTICE: Duration = Duration::from_millis(250);
/// Entries of a list when the request does not say how many.
pub const LIST_DEFAULT: usize = 50;
/// Entries of a list at most: more than a page or a script's next step needs.
pub const LIST_MAX: usize = 1_000;
/// Runs among which a part of an id is looked for, newest first. Older ones go by their whole ids.
pub const RUN_IDS_SEARCHED_MAX: usize = 200_000;
/// Letters of a run's id that a person may leave it at, as long as only one run has them.
pub const RUN_FRAGMENT_LETTERS_MIN: usize = 1;
/// Bytes of one answer of the admin API that the command line reads into memory: a fleet's
/// versions with their files are the largest.
pub const CLIENT_ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Versions of a fleet that it asks for at a time: each comes with its file, of up to
/// `FLEET_FILE_BYTES_MAX`.
pub const CLIENT_VERSIONS_PAGE: usize = 50;

/// How long a session lasts at most.
pub const SESSION_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a one-time link works: as long as it takes to copy it into a browser.
pub const SIGN_IN_LINK_AGE_MAX: Duration = Duration::from_secs(120);
/// Bytes of what one signs in with: several times a token in JSON. It is all that a stranger can have
/// the admin listener take in.
pub const SIGN_IN_BODY_BYTES_MAX: u64 = 4096;
/// How far ahead of the clock what has happened may lie before the clock is thought to have been put
/// back: the last run's acceptance, the replacement of a webhook's URL.
pub const CLOCK_STEP_MAX: Duration = Duration::from_secs(60);
/// Answers of the admin API that last beside its followers: the one backup that may be made.
pub const BACKUPS_MAX: usize = 1;
