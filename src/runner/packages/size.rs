//! How much a directory tree takes on the disk.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Files and directories of an environment. More take minutes to remove.
const ENTRIES_MAX: u64 = 1_000_000;
/// Levels of directories, each of which takes a descriptor meanwhile.
const DEPTH_MAX: usize = 100;
/// Entries between two looks for the end of the vessel.
const LOOK_EVERY: u64 = 1_000;

/// Bytes that the files below `top` take on the disk; `None` when the vessel `is_over` before they are counted.
/// The vessel's user controls the names: no link is followed.
///
/// # Errors
/// When there are too many, or a directory cannot be read.
pub(super) fn tree_bytes(top: &Path, is_over: &dyn Fn() -> bool) -> io::Result<Option<u64>> {
    count(top, is_over, ENTRIES_MAX)
}

fn count(top: &Path, is_over: &dyn Fn() -> bool, entries_max: u64) -> io::Result<Option<u64>> {
    let (mut bytes, mut entries) = (0u64, 0);
    let top = open(CWD, top)?;
    let names = directories(&top, &mut bytes, &mut entries, entries_max)?;
    let mut levels = vec![(top, names)];
    let mut looked_at = 0;
    while let Some((directory, names)) = levels.last_mut() {
        if entries >= looked_at {
            looked_at = entries + LOOK_EVERY;
            if is_over() {
                return Ok(None);
            }
        }
        let Some(name) = names.pop() else {
            levels.pop();
            continue;
        };
        let below = match open(directory.as_fd(), name.as_c_str()) {
            Ok(below) => below,
            // A process of the vessel's user removes or exchanges it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if levels.len() >= DEPTH_MAX {
            return Err(io::Error::other(format!(
                "directories are more than {DEPTH_MAX} levels deep"
            )));
        }
        let names = directories(&below, &mut bytes, &mut entries, entries_max)?;
        levels.push((below, names));
    }
    Ok(Some(bytes))
}

/// Adds the entries of `directory` to `bytes` and `entries`, and returns the names of the directories in it.
fn directories(
    directory: &OwnedFd,
    bytes: &mut u64,
    entries: &mut u64,
    entries_max: u64,
) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        *entries += 1;
        if *entries > entries_max {
            return Err(io::Error::other(format!("more than {entries_max} files and directories")));
        }
        let found = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            found => found?,
        };
        *bytes =
            bytes.saturating_add(u64::try_from(found.st_blocks).unwrap_or(0).saturating_mul(512));
        if FileType::from_raw_mode(found.st_mode).is_dir() {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn open<P: rustix::path::Arg>(above: impl AsFd, name: P) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(above, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_is_counted_within_bounds_and_without_links() {
        let scratch = tempfile::tempdir().unwrap();
        let (tree, outside) = (scratch.path().join("tree"), scratch.path().join("outside"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("large"), vec![1; 1 << 20]).unwrap();
        fs::write(tree.join("a/b/file"), vec![1; 10_000]).unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        let counted = tree_bytes(&tree, &|| false).unwrap().unwrap();
        assert!((10_000..1 << 20).contains(&counted), "{counted}");
        assert_eq!(tree_bytes(&tree, &|| true).unwrap(), None);
        assert!(count(&tree, &|| false, 4).unwrap().is_some());
        let error = count(&tree, &|| false, 3).unwrap_err().to_string();
        assert_eq!(error, "more than 3 files and directories");
        fs::create_dir_all(tree.join("d/".repeat(DEPTH_MAX + 1))).unwrap();
        let error = tree_bytes(&tree, &|| false).unwrap_err().to_string();
        assert!(error.contains("100 levels deep"), "{error}");
    }
}
