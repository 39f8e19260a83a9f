//! A disk of a test's own, small enough to be filled.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Server, ServerBuilder, wait_for};

/// A small file system in memory. Gone when dropped, also by a test that fails.
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// One of `megabytes`; `None`, loudly, where mounting is not allowed.
    pub fn mount(megabytes: u32) -> Option<Self> {
        Self::mount_with(&format!("size={megabytes}m"))
    }

    /// One with these options of tmpfs(5).
    pub fn mount_with(options: &str) -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("boathook-disk-").tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        let mounted = mount.arg(directory.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { directory });
        }
        println!("SKIPPED: this test mounts a tmpfs, which only root may do: not tested");
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Uses up all space but for about `left` bytes; given back by [`give_back`](Self::give_back).
    pub fn use_up_all_but(&self, left: u64) {
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let mut ballast =
            OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        let zeros = [0; 4096];
        for _ in 0..free.saturating_sub(left) / zeros.len() as u64 {
            ballast.write_all(&zeros).unwrap();
        }
    }

    /// Makes room again.
    pub fn give_back(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// Makes it one of `megabytes`.
    pub fn grow(&self, megabytes: u32) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={megabytes}m")]).arg(self.path());
        assert!(mount.status().unwrap().success());
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// A server with its data directory there. Declare it after the disk: it is to go first.
    pub fn server(&self) -> ServerBuilder {
        Server::builder().data_dir(&self.path().join("data"))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = |how: &[&str]| {
            let status = Command::new("umount").args(how).arg(self.path()).status();
            status.is_ok_and(|status| status.success()).then_some(())
        };
        // No process is left on it, but where a test fails.
        let is_failing = std::thread::panicking();
        if is_failing || wait_for(|| unmount(&[])).is_none() {
            let _ = unmount(&["-l"]);
            assert!(is_failing, "a process is left on {}", self.path().display());
        }
    }
}
