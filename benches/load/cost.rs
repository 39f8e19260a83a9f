//! What a stretch of work costs the machine: the processor time of all that work on it, and what the
//! processors idle meanwhile. Time that other programs or machines take counts for neither, so that
//! the figure holds on a noisy machine, where rates do not.

use std::fs;
use std::num::NonZero;
use std::time::{Duration, Instant};

/// The flag of kernel threads in /proc/PID/stat (PF_KTHREAD of linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Seconds that the parties have spent so far.
#[derive(Clone, Copy, Default)]
struct Spent {
    /// This process and, if there is one, the server.
    servers: f64,
    /// The programs that they have started and waited for.
    children: f64,
    /// All kernel threads: the journal of a file system, and the like.
    kernel: f64,
    idle: f64,
}

/// Microseconds of processor time.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub server: f64,
    pub children: f64,
    pub kernel: f64,
    pub idle: f64,
    /// What is left of the time of all processors: of other programs, interrupts and other machines. It
    /// is no part of the cost, and says how noisy the machine was.
    pub others: f64,
}

/// Measures from its creation on.
pub struct Meter {
    begun: Instant,
    server: Option<u32>,
    before: Spent,
}

impl Meter {
    /// A meter of this process, of a server and of their children.
    pub fn begin(server: Option<u32>) -> Self {
        Self { begun: Instant::now(), server, before: Spent::now(server) }
    }

    /// The cost since then.
    pub fn end(self) -> Cost {
        let (before, after) = (self.before, Spent::now(self.server));
        let micros = |before: f64, after: f64| (after - before) * 1e6;
        let cost = Cost {
            server: micros(before.servers, after.servers),
            children: micros(before.children, after.children),
            kernel: micros(before.kernel, after.kernel),
            idle: micros(before.idle, after.idle),
            others: 0.0,
        };
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let all = self.begun.elapsed().as_secs_f64() * 1e6 * cores as f64;
        Cost { others: all - cost.total(), ..cost }
    }
}

impl Cost {
    pub fn total(self) -> f64 {
        self.server + self.children + self.kernel + self.idle
    }

    /// The cost of each of so many runs.
    pub fn each(self, runs: usize) -> Self {
        let each = |micros: f64| micros / runs as f64;
        Self {
            server: each(self.server),
            children: each(self.children),
            kernel: each(self.kernel),
            idle: each(self.idle),
            others: each(self.others),
        }
    }

    /// The mean of two.
    pub fn midpoint(self, other: Self) -> Self {
        Self {
            server: f64::midpoint(self.server, other.server),
            children: f64::midpoint(self.children, other.children),
            kernel: f64::midpoint(self.kernel, other.kernel),
            idle: f64::midpoint(self.idle, other.idle),
            others: f64::midpoint(self.others, other.others),
        }
    }
}

impl Spent {
    fn now(server: Option<u32>) -> Self {
        let mut spent = Self { kernel: kernel_threads(), idle: idle(), ..Self::default() };
        for process in std::iter::once(std::process::id()).chain(server) {
            let fields = stat(&process.to_string()).expect("it runs");
            spent.servers += seconds(fields[11] + fields[12]);
            spent.children += seconds(fields[13] + fields[14]);
        }
        spent
    }
}

/// The fields of /proc/PID/stat after the name, as far as they are numbers; 0 for the others. The
/// field that proc_pid_stat(5) calls 3 has the index 0.
fn stat(process: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

/// Seconds of processor time of the kernel threads.
fn kernel_threads() -> f64 {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let threads = processes.filter_map(|entry| {
        let process = entry.file_name().into_string().ok()?;
        process.parse::<u32>().ok()?;
        (stat(&process)?.get(6)? & KERNEL_THREAD != 0).then_some(())?;
        let text = fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(threads.sum()).as_secs_f64()
}

/// Seconds that processors have idled, waiting for a disk included.
fn idle() -> f64 {
    let text = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let numbers = text.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0));
    seconds(numbers.skip(3).take(2).sum())
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
