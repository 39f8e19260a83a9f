//! The floor under free disk space. Below it the server accepts nothing more, so that running vessels
//! can still be recorded. A full disk can hang the database for ever.
//!
//! A caller looks at the file system when the last look is older than [`LOOK_AGE_MAX`], or when more than
//! [`LOOK_BYTES_MAX`] were accepted since. An idle server needs neither a thread nor a wake-up for this.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{StatVfs, statvfs};

/// How long one look counts. At a gigabyte per second, less than the floor's default is written in it.
const LOOK_AGE_MAX: Duration = Duration::from_millis(500);
/// How many accepted bytes one look outlasts.
const LOOK_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes on disk that each byte of a payload that waits takes: the database writes it to its log, and
/// once more in part when it rewrites the pages that changed (measured: 1.65 for bodies of 5 MB).
pub const DISK_BYTES_PER_BYTE: u64 = 2;

/// Watches over the file system that holds `path`.
pub struct FreeSpace {
    path: PathBuf,
    floor_bytes: u64,
    /// Bytes that are promised to bodies on their way.
    promised: Arc<AtomicU64>,
    origin: Instant,
    /// Milliseconds after `origin`, plus one. 0 before the first look.
    looked_at: AtomicU64,
    free_bytes: AtomicU64,
    /// Bytes on disk that payloads accepted since the last look take.
    accepted: AtomicU64,
    /// The state that was logged last.
    was_enough: AtomicBool,
}

impl FreeSpace {
    /// A watch with a floor of `floor_bytes` and the `promised` bytes. A floor of 0 turns it off.
    pub fn new(path: PathBuf, floor_bytes: u64, promised: Arc<AtomicU64>) -> Self {
        Self {
            path,
            floor_bytes,
            promised,
            origin: Instant::now(),
            looked_at: AtomicU64::new(0),
            free_bytes: AtomicU64::new(u64::MAX),
            accepted: AtomicU64::new(0),
            was_enough: AtomicBool::new(true),
        }
    }

    /// Whether the free space is at or above the floor.
    pub fn is_enough(&self) -> bool {
        if self.floor_bytes == 0 {
            return true;
        }
        if self.claim_look() {
            self.look();
        }
        self.is_above_floor()
    }

    /// Free bytes above the floor; `u64::MAX` without a floor.
    pub fn left(&self) -> u64 {
        if self.floor_bytes == 0 {
            return u64::MAX;
        }
        if self.claim_look() {
            self.look();
        }
        self.free_bytes.load(Ordering::Relaxed).saturating_sub(self.needed())
    }

    /// Counts a payload of `bytes` bytes that is accepted.
    pub fn note_accepted(&self, bytes: u64) {
        let taken = bytes.saturating_mul(DISK_BYTES_PER_BYTE);
        self.accepted.fetch_add(taken, Ordering::Relaxed);
    }

    fn is_above_floor(&self) -> bool {
        self.free_bytes.load(Ordering::Relaxed) >= self.needed()
    }

    /// The floor, and what is about to be written.
    fn needed(&self) -> u64 {
        let promised = self.promised.load(Ordering::Relaxed);
        let accepted = self.accepted.load(Ordering::Relaxed);
        self.floor_bytes.saturating_add(promised).saturating_add(accepted)
    }

    /// Claims the next look: true for one thread once the last look is too old.
    fn claim_look(&self) -> bool {
        let millis = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        let age_max = u64::try_from(LOOK_AGE_MAX.as_millis()).unwrap_or(u64::MAX);
        let is_recent = looked_at > 0
            && millis.saturating_sub(looked_at - 1) < age_max
            && self.accepted.load(Ordering::Relaxed) <= LOOK_BYTES_MAX;
        !is_recent
            && self
                .looked_at
                .compare_exchange(looked_at, millis + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn look(&self) {
        self.accepted.store(0, Ordering::Relaxed);
        let (bytes, free) = match statvfs(&self.path) {
            Ok(stat) => (free_bytes(&stat), free_bytes(&stat).to_string()),
            // A file system that does not answer this takes no writes either.
            Err(error) => (0, error.to_string()),
        };
        self.free_bytes.store(bytes, Ordering::Relaxed);
        let is_enough = self.is_above_floor();
        if self.was_enough.swap(is_enough, Ordering::Relaxed) == is_enough {
            return;
        }
        let path = self.path.display();
        let promised = self.promised.load(Ordering::Relaxed);
        if is_enough {
            log::info!(free, path:%; "there is enough free disk space again; runs are accepted");
        } else {
            log::error!(
                free, promised, min_free_bytes = self.floor_bytes, path:%;
                "too little free disk space: no runs are accepted (503) until there is more"
            );
        }
    }
}

/// Whether the file system that holds `path` has at least `bytes` free.
///
/// # Errors
/// When the file system does not tell.
pub(super) fn has_room(path: &Path, bytes: u64) -> io::Result<bool> {
    Ok(free_bytes(&statvfs(path)?) >= bytes)
}

/// Free bytes without root's reserve, which this does not count for root either.
fn free_bytes(stat: &StatVfs) -> u64 {
    match stat.f_blocks {
        // Some file systems do not tell their size.
        0 => u64::MAX,
        _ => stat.f_bavail.saturating_mul(stat.f_frsize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_bytes_exclude_the_reserve_of_root() {
        let stat = |f_blocks, f_bfree, f_bavail| StatVfs {
            f_bsize: 65_536,
            f_frsize: 4096,
            f_blocks,
            f_bfree,
            f_bavail,
            f_files: 0,
            f_ffree: 0,
            f_favail: 0,
            f_fsid: 0,
            f_flag: rustix::fs::StatVfsMountFlags::empty(),
            f_namemax: 255,
        };
        assert_eq!(free_bytes(&stat(1000, 300, 256)), 1 << 20);
        assert_eq!(free_bytes(&stat(0, 0, 0)), u64::MAX, "it does not say");
    }

    #[test]
    fn promised_bytes_count_as_used() {
        let (directory, promised) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(0)));
        let space = FreeSpace::new(directory.path().to_owned(), 1000, Arc::clone(&promised));
        assert!(space.is_enough());
        space.free_bytes.store(1500, Ordering::Relaxed);
        for (bytes, expected) in [(0, true), (500, true), (501, false), (u64::MAX, false)] {
            promised.store(bytes, Ordering::Relaxed);
            assert_eq!(space.is_above_floor(), expected, "{bytes}");
        }
    }

    #[test]
    fn a_look_counts_for_a_while_and_an_unknown_file_system_is_full() {
        let directory = tempfile::tempdir().unwrap();
        let of =
            |path: &str, floor| FreeSpace::new(directory.path().join(path), floor, Arc::default());
        assert!(of("", 1).is_enough());
        assert!(!of("", u64::MAX).is_enough());
        assert!(!of("missing", 1).is_enough());
        assert!(of("missing", 0).is_enough(), "0 turns it off");
        let space = of("", 1);
        assert!(space.claim_look() && !space.claim_look());
        space.note_accepted(LOOK_BYTES_MAX);
        assert!(space.claim_look(), "much was accepted since");
    }

    #[test]
    fn accepted_bytes_count_as_used_until_the_next_look() {
        let directory = tempfile::tempdir().unwrap();
        let space = FreeSpace::new(directory.path().to_owned(), 1000, Arc::default());
        assert!(space.is_enough());
        space.free_bytes.store(1500, Ordering::Relaxed);
        space.note_accepted(200);
        assert_eq!(space.left(), 100);
        space.note_accepted(51);
        assert_eq!((space.left(), space.is_enough()), (0, false));
        space.look();
        assert!(space.is_enough());
    }
}
