//! The resources of the machine that a start takes: room and inodes for the work directory,
//! descriptors, memory and processes. A start that lacks them is a [`Shortage`] and no fault of its
//! vessel, which starts when [`find`] finds no shortage any more.

use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::Mode;
use rustix::io::Errno;

use super::reason::Reason;
use super::start_error::plain;

/// After a start has failed for lack of room: free bytes below which no vessel is started again. On
/// small file systems a quarter of all bytes.
const LAUNCH_FREE_BYTES_MIN: u64 = 1 << 20;

/// The same for inodes. A work directory takes one, each file in it another.
const LAUNCH_FREE_INODES_MIN: u64 = 64;

/// The most descriptors that the start of a vessel takes.
const DESCRIPTORS: usize = 8;
/// The directory of a trial. No run's directory has this name.
const TRIAL_DIRECTORY: &str = ".boathook-trial";

/// A resource that the machine lacked at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// For a person, with a remedy.
    pub reason: String,
    /// The program had been started, and was killed before it could be watched.
    pub has_started: bool,
}

/// Why a vessel could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StartError {
    /// The cause is the vessel's own.
    Vessel(String),
    Machine(Shortage),
}

impl StartError {
    /// A start failed with `error`, for `reason`: the machine's when `error` is a shortage.
    pub fn of(error: &io::Error, reason: String) -> Self {
        match is_shortage(error) {
            true => Self::machine(reason),
            false => Self::Vessel(reason),
        }
    }

    pub fn machine(reason: String) -> Self {
        Self::Machine(Shortage { reason, has_started: false })
    }

    /// The machine's, if it has this `lack`.
    pub fn with_lack(self, lack: Option<String>) -> Self {
        match (self, lack) {
            (Self::Vessel(reason), Some(lack)) => Self::machine(format!("{reason}. {lack}")),
            (error, _) => error,
        }
    }

    pub fn reason(self) -> String {
        match self {
            Self::Vessel(reason) | Self::Machine(Shortage { reason, .. }) => reason,
        }
    }
}

impl From<String> for StartError {
    fn from(reason: String) -> Self {
        Self::Vessel(reason)
    }
}

impl From<Reason> for StartError {
    fn from(reason: Reason) -> Self {
        Self::Vessel(reason.into())
    }
}

/// Whether `error` is a shortage of the machine: space, inodes, quota of the server's user, a
/// writable file system, descriptors, memory, processes.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::ROFS,
        Errno::IO,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::AGAIN,
    ];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// What the machine lacks to start a vessel whose work directory takes `bytes`; `None` when nothing
/// is missing. Tries a directory with a file, descriptors, and a process.
pub(super) fn find(work_dir: &Path, bytes: u64) -> Option<String> {
    let setting = "work_dir";
    lack_of_room(work_dir, setting, bytes)
        .or_else(|| {
            try_directory(work_dir).err().map(|error| in_directory(work_dir, setting, &error))
        })
        .or_else(|| {
            try_descriptors().err().map(|errno| super::start_error::no_descriptors(&errno.into()))
        })
        .or_else(|| try_process().err().map(|error| no_process(&error)))
}

/// Whether the file system of `work_dir` is smaller than `bytes`.
pub(super) fn never_fits(work_dir: &Path, bytes: u64) -> bool {
    rustix::fs::statvfs(work_dir).is_ok_and(|stat| {
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        total > 0 && bytes > total
    })
}

/// What the file system of `directory`, which `setting` names, lacks for files with `bytes`.
pub(super) fn lack_of_room(directory: &Path, setting: &str, bytes: u64) -> Option<String> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    let (total, free) =
        (stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize));
    let least = LAUNCH_FREE_BYTES_MIN.min(total / 4).saturating_add(bytes).min(total);
    // Some file systems count neither bytes nor inodes.
    if total > 0 && free < least {
        return Some(in_directory(directory, setting, &Errno::NOSPC.into()));
    }
    let least = LAUNCH_FREE_INODES_MIN.min(stat.f_files / 4);
    (stat.f_files > 0 && stat.f_favail < least).then(|| {
        format!(
            "the file system of {} has no inodes left: remove files there, or set `{setting}` to \
             one that has some",
            directory.display()
        )
    })
}

fn in_directory(directory: &Path, setting: &str, error: &io::Error) -> String {
    let (directory, says) = (directory.display(), plain(error));
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!(
            "{directory}: {says}: make room there, or set `{setting}` to a file system that has some"
        ),
        _ => format!("cannot make directories in {directory} (`{setting}`): {says}"),
    }
}

fn try_directory(work_dir: &Path) -> io::Result<()> {
    let trial = work_dir.join(TRIAL_DIRECTORY);
    let _ = super::tree::remove_tree(&trial);
    match rustix::fs::mkdir(&trial, Mode::RWXU) {
        Err(Errno::NOENT) => std::fs::create_dir_all(&trial)?,
        made => made?,
    }
    let written = std::fs::write(trial.join("file"), [0; 4096]);
    let removed = super::tree::remove_tree(&trial);
    written.and(removed)
}

fn try_descriptors() -> rustix::io::Result<()> {
    let held: Result<Vec<_>, _> =
        std::iter::repeat_with(|| eventfd(0, EventfdFlags::CLOEXEC)).take(DESCRIPTORS).collect();
    held.map(drop)
}

/// Starts a process that ends at once. A missing program is no shortage.
fn try_process() -> io::Result<()> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", ":"]).env_clear().process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(mut child) => child.wait().map(drop),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) => Ok(()),
    }
}

fn no_process(error: &io::Error) -> String {
    format!(
        "no process can be started: {}: the limit of processes (TasksMax=, pids.max of the cgroup, \
         ulimit -u) or of memory is reached: raise it, or lower `workers`",
        plain(error)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_machine_are_shortages_and_errors_of_a_vessel_are_not() {
        let shortage = |errno: Errno| is_shortage(&errno.into());
        for errno in [Errno::NOSPC, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN] {
            assert!(shortage(errno), "{errno}");
        }
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::NOEXEC, Errno::TOOBIG, Errno::NOTDIR] {
            assert!(!shortage(errno), "{errno}");
        }
        assert!(!is_shortage(&io::Error::other("the database")));
    }

    #[test]
    fn a_trial_on_a_machine_with_room_finds_nothing_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(find(directory.path(), 1), None);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let said = find(directory.path(), 1 << 60).unwrap_or_default();
        assert!(said.contains("make room there"), "{said}");
        assert!(never_fits(directory.path(), 1 << 60));
        let lack = lack_of_room(directory.path(), "packages_dir", 1 << 60);
        let error = StartError::from("not installed".to_owned());
        assert_eq!(error.clone().with_lack(None), error);
        let StartError::Machine(shortage) = error.with_lack(lack) else { panic!("no shortage") };
        assert!(shortage.reason.starts_with("not installed. "), "{}", shortage.reason);
        assert!(shortage.reason.contains("`packages_dir`"), "{}", shortage.reason);
    }
}
