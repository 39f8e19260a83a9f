//! Keeps vessels from inheriting what the parent of this process left open or ignored: descriptors
//! without close-on-exec, and ignored signals (execve(2)).

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use rustix::io::FdFlags;
use signal_hook::consts::{FORBIDDEN, SIGPIPE};

/// Call this before the first vessel starts.
pub fn protect_vessels() {
    if let Err(error) = close_on_exec() {
        log::warn!(error:%; "descriptors that this server was started with may reach vessels");
    }
    if let Err(error) = catch_ignored_signals() {
        log::warn!(error:%; "signals that this server was started to ignore are ignored by vessels");
    }
}

/// Sets close-on-exec on every descriptor but the standard streams. The descriptors stay open in this
/// process, also sockets that a supervisor has handed over.
fn close_on_exec() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|number| *number > 2) else { continue };
        // SAFETY: The number was open a moment ago. Should another thread have closed it since, or
        // have it become something else of ours, the call fails or marks what is marked already; the
        // descriptor is neither read, written nor closed.
        #[expect(unsafe_code, reason = "nothing owns what was inherited")]
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        // The listing's own descriptor may be closed by now.
        let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
    }
    Ok(())
}

/// Installs empty handlers for ignored signals: programs inherit an ignored signal, not a handler. The
/// runner resets SIGPIPE.
fn catch_ignored_signals() -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    for signal in ignored(mask).filter(|signal| !FORBIDDEN.contains(signal)) {
        // The C library reserves two real-time signals and refuses them.
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
    Ok(())
}

/// The signals in a mask of /proc (proc_pid_status(5)), but SIGPIPE.
fn ignored(mask: u64) -> impl Iterator<Item = i32> {
    (1..=64).filter(move |signal| *signal != SIGPIPE && mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_count_from_one() {
        // SIGHUP, SIGINT, SIGPIPE and the last of all.
        let mask = 1 | 1 << 1 | 1 << 12 | 1 << 63;
        assert_eq!(ignored(mask).collect::<Vec<_>>(), [1, 2, 64]);
    }
}
