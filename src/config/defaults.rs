//! The default of every setting with its reason, and the bounds of settings. The help texts of
//! [`super::Sources`] name the defaults; a test compares the two.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::{BasePath, KeepWorkdir, ServiceUrl, Settings, settings_file};
use crate::model::network::Networks;
use crate::model::retention::Retention;
use crate::model::runner::Runners;
use crate::model::variable::SECRETS_DIRECTORY;

/// Only this machine reaches it: whether the network may is the operator's decision.
pub const HOOKS_LISTEN: SocketAddr = loopback(9000);
/// Likewise.
pub const ADMIN_LISTEN: SocketAddr = loopback(9001);
/// Workers per core: vessels mostly wait for something else than the processor.
pub const WORKERS_PER_CORE: usize = 4;
/// Workers on the smallest machine.
pub const WORKERS_MIN: usize = 8;
/// Bound of `workers`: each is a thread and a process.
pub const WORKERS_MAX: usize = 4096;
/// Each waiting run takes about 290 bytes of memory, sled's share included.
pub const MAX_QUEUED_RUNS: usize = 1_000_000;
/// Each connection holds a thread and a descriptor.
pub const MAX_CONNECTIONS: usize = 1024;
/// Many for one sender, few of all.
pub const MAX_CONNECTIONS_PER_IP: usize = 128;
/// From the first byte of a head to its last: a head fits in a few packets.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Enough for a small body over the worst of networks.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes per second at which larger bodies get more time.
pub const BODY_MIN_RATE: u64 = 1 << 20;
/// Between two requests of a connection: busy senders keep theirs, others connect anew.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Without progress in sending a response.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bounds of the four timeouts above: zero would refuse every client, and no client needs a day.
pub const TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// The largest senders (GitHub) send up to 25 MB.
pub const MAX_BODY_BYTES: u64 = 25 * 1024 * 1024;
/// Parsed, JSON takes up to forty times its bytes of memory; events of most senders have a few KiB.
pub const MAX_EXPRESSION_BODY_BYTES: u64 = 1 << 20;
/// Twenty of the largest bodies at once.
pub const MAX_INFLIGHT_BODY_BYTES: u64 = 512 * 1024 * 1024;
/// Room in which running vessels end and are recorded. A full disk can make sled hang.
pub const MIN_FREE_BYTES: u64 = 512 * 1024 * 1024;
/// Long logs fit; a loop that prints does not fill the disk.
pub const MAX_OUTPUT_BYTES: u64 = 10 * 1024 * 1024;
/// Each holds a connection with its thread. A quarter of the connections.
pub const MAX_WAITING: usize = 256;
/// A page or a file for one sender; each that waits may hold so much memory.
pub const MAX_RESPONSE_BYTES: u64 = 1 << 20;
/// Each follower holds a thread.
pub const MAX_FOLLOWERS: usize = 64;
/// A run that brings the server down with it is given up after a few.
pub const MAX_CRASH_ATTEMPTS: u32 = 3;
/// A quarter of a year.
pub const KEEP_RUNS: Retention = Retention::of_days(90);
/// Years of edits by hand, weeks of a program that edits every few minutes.
pub const KEEP_VERSIONS: u32 = 1000;
/// Bound of `keep_versions`: each is a file of up to a megabyte.
pub const KEEP_VERSIONS_MAX: u32 = 100_000;
/// Work directories may be large.
pub const KEEP_WORKDIR: KeepWorkdir = KeepWorkdir::Never;
/// A few environments of data science, or hundreds of small ones.
pub const MAX_PACKAGES_BYTES: u64 = 4 << 30;
/// Less than service managers wait before they kill a service (90 s in systemd).
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);
/// Time to clean up after SIGTERM.
pub const KILL_GRACE: Duration = Duration::from_secs(10);
/// One line per event that an operator may have to explain.
pub const LOG: log::LevelFilter = log::LevelFilter::Info;

impl Settings {
    /// The settings of a server in `data_dir`, an absolute path, that is given no others.
    pub fn defaults(data_dir: PathBuf) -> Self {
        Self {
            file: settings_file(&data_dir),
            hooks_listen: HOOKS_LISTEN,
            sets_hooks_listen: false,
            admin_listen: ADMIN_LISTEN,
            sets_admin_listen: false,
            admin_hosts: Vec::new(),
            admin_base_path: BasePath::default(),
            public_url: None,
            github_api_url: ServiceUrl::of_github(),
            tls: None,
            workers: workers(),
            max_queued_runs: MAX_QUEUED_RUNS,
            max_connections: MAX_CONNECTIONS,
            max_connections_per_ip: MAX_CONNECTIONS_PER_IP,
            head_timeout: HEAD_TIMEOUT,
            body_timeout: BODY_TIMEOUT,
            body_min_rate: BODY_MIN_RATE,
            idle_timeout: IDLE_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            max_body_bytes: MAX_BODY_BYTES,
            max_expression_body_bytes: MAX_EXPRESSION_BODY_BYTES,
            max_inflight_body_bytes: MAX_INFLIGHT_BODY_BYTES,
            min_free_bytes: MIN_FREE_BYTES,
            trusted_proxies: Networks::default(),
            rate_limit_per_ip: None,
            max_output_bytes: MAX_OUTPUT_BYTES,
            max_followers: MAX_FOLLOWERS,
            max_waiting: MAX_WAITING,
            max_response_bytes: MAX_RESPONSE_BYTES,
            max_crash_attempts: MAX_CRASH_ATTEMPTS,
            work_dir: data_dir.join("work"),
            secrets_dir: data_dir.join(SECRETS_DIRECTORY),
            credentials_dir: None,
            keep_workdir: KEEP_WORKDIR,
            keep_runs: KEEP_RUNS,
            keep_versions: KEEP_VERSIONS,
            allowed_users: Vec::new(),
            install_packages: false,
            packages_dir: data_dir.join("packages"),
            max_packages_bytes: MAX_PACKAGES_BYTES,
            runners: Runners::default(),
            notify_hosts: Vec::new(),
            notify_commands: Vec::new(),
            mail: None,
            shutdown_grace: SHUTDOWN_GRACE,
            kill_grace: KILL_GRACE,
            log: LOG,
            data_dir,
        }
    }
}

fn workers() -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (cores * WORKERS_PER_CORE).clamp(WORKERS_MIN, WORKERS_MAX)
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
