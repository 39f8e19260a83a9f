//! Removes directory trees of vessels: directories without permissions, symbolic links (never
//! followed), and trees deeper than a path or a stack.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

/// How often a directory may be refilled while it is emptied: processes outside of the vessel's
/// group may still write to it.
const REFILLS_MAX: u32 = 100;

/// Removes the directory tree or file at `path`, if it exists.
///
/// Nested directories are moved to the top before they are emptied, which takes two descriptors and
/// no recursion for any depth.
///
/// # Errors
/// The first failure.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let mut refills = 0;
    while refills < REFILLS_MAX {
        let top = match open_directory(CWD, path) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => return std::fs::remove_file(path),
            Err(error) => return Err(error.into()),
        };
        empty(&top, &mut refills)?;
        match rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => refills += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::NOTEMPTY.into())
}

/// Removes everything in `top`.
fn empty(top: &OwnedFd, refills: &mut u32) -> rustix::io::Result<()> {
    let mut moved = 0;
    while *refills < REFILLS_MAX {
        let mut directories = Vec::new();
        remove_files(top.as_fd(), &mut directories)?;
        if directories.is_empty() {
            return Ok(());
        }
        for name in directories {
            let directory = open_directory(top.as_fd(), name.as_c_str())?;
            let mut nested = Vec::new();
            remove_files(directory.as_fd(), &mut nested)?;
            for nested_name in nested {
                move_up(&directory, &nested_name, top, &mut moved)?;
            }
            match rustix::fs::unlinkat(top, name.as_c_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => *refills += 1,
                Err(error) => return Err(error),
            }
        }
    }
    Err(Errno::NOTEMPTY)
}

/// Removes the files of a directory and adds the names of the directories in it to `directories`.
fn remove_files(
    directory: BorrowedFd<'_>,
    directories: &mut Vec<CString>,
) -> rustix::io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // For a directory Linux returns EISDIR, POSIX and some file systems EPERM.
            Err(Errno::ISDIR | Errno::PERM) if is_directory(directory, name) => {
                directories.push(name.to_owned());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Moves the directory `name` from `directory` to `top` under a name that is free there.
fn move_up(
    directory: &OwnedFd,
    name: &CStr,
    top: &OwnedFd,
    moved: &mut u64,
) -> rustix::io::Result<()> {
    loop {
        let up = format!("boathook-wipe-{moved}");
        *moved += 1;
        // A move changes `..`, which takes write permission for the directory itself.
        open_directory(directory.as_fd(), name)?;
        match rustix::fs::renameat(directory, name, top, up.as_str()) {
            Ok(()) => return Ok(()),
            // The name is taken.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens a directory for reading, and gives its owner all permissions.
fn open_directory<P: rustix::path::Arg + Copy>(
    parent: BorrowedFd<'_>,
    name: P,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => None,
        result => Some(result?),
    };
    if let Some(directory) = &opened
        && Mode::from_raw_mode(rustix::fs::fstat(directory)?.st_mode).contains(Mode::RWXU)
    {
        return opened.ok_or(Errno::ACCESS);
    }
    // chmod by the descriptor's path follows no link of the vessel.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
    // A directory of another user may be readable without the change.
    match (rustix::fs::chmod(link, Mode::RWXU), opened) {
        (Err(_), Some(directory)) => return Ok(directory),
        (result, _) => result?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn is_directory(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}
