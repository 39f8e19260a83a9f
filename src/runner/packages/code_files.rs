//! The files of a vessel's code that say what it needs. The vessel's user controls every name in the code's
//! directory, and the server may be root: each part of a path is opened by itself, below the last, and a
//! symbolic link is never followed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::plan::NeedsFile;
use crate::runner::shortage::StartError;
use crate::runner::workdir::open_directory;

/// Bytes of a file. Lock files of large projects have some MiB.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Bytes of all files that are read for one start.
const BYTES_MAX: u64 = 16 << 20;
/// Files that are read for one start.
const FILES_MAX: usize = 32;
/// Directories above a file.
const DEPTH_MAX: usize = 32;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// See the module.
pub struct CodeFiles {
    root: OwnedFd,
    /// The owner that files must have.
    uid: u32,
    bytes_left: u64,
    files_left: usize,
}

impl CodeFiles {
    /// The code in the directory `below` of the work directory `work`, of the user `uid`.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn open(work: &Path, below: &str, uid: u32) -> io::Result<Self> {
        let mut root = open_directory(work)?;
        for part in parts(below)? {
            root = rustix::fs::openat(&root, part, DIRECTORY, Mode::empty())?;
        }
        Ok(Self { root, uid, bytes_left: BYTES_MAX, files_left: FILES_MAX })
    }

    /// Whether the root has an entry `name` of the type `kind`.
    pub fn has(&self, name: &str, kind: FileType) -> bool {
        let found = rustix::fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == kind)
    }

    /// The regular file at the relative path `name`; `None` when there is none, or a link leads to it.
    ///
    /// # Errors
    /// When it cannot be read within the bounds, or is another user's.
    pub fn read(&mut self, name: &str) -> Result<Option<NeedsFile>, StartError> {
        let file = match self.open_file(name) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(unreadable(name, &errno.into())),
        };
        let found = rustix::fs::fstat(&file).map_err(|errno| unreadable(name, &errno.into()))?;
        if !FileType::from_raw_mode(found.st_mode).is_file() {
            return Ok(None);
        }
        if found.st_uid != self.uid {
            return Err(format!("packages: {name} belongs to another user than the vessel").into());
        }
        self.files_left = self.files_left.checked_sub(1).ok_or_else(|| {
            format!("packages: more than {FILES_MAX} files say what is needed; put them together")
        })?;
        let bytes_max = FILE_BYTES_MAX.min(self.bytes_left);
        let mut content = Vec::new();
        let read = file.take(bytes_max + 1).read_to_end(&mut content);
        read.map_err(|error| unreadable(name, &error))?;
        let bytes = content.len() as u64;
        if bytes > bytes_max {
            return Err(format!(
                "packages: {name} is too large: at most {} MiB, and {} MiB with all that say what is \
                 needed",
                FILE_BYTES_MAX >> 20,
                BYTES_MAX >> 20
            )
            .into());
        }
        self.bytes_left -= bytes;
        Ok(Some(NeedsFile { name: name.to_owned(), content }))
    }

    fn open_file(&self, path: &str) -> rustix::io::Result<File> {
        let parts = parts(path)?;
        let (name, above) = parts.split_last().ok_or(Errno::NOENT)?;
        let mut directory: Option<OwnedFd> = None;
        for part in above {
            let below = directory.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            directory = Some(rustix::fs::openat(below, *part, DIRECTORY, Mode::empty())?);
        }
        let below = directory.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
        rustix::fs::openat(below, *name, FILE, Mode::empty()).map(File::from)
    }

    /// Makes `name` in the root a link to `target`, in the place of an earlier vessel's.
    ///
    /// # Errors
    /// When something else is there, or a vessel beside this one makes another link.
    pub fn link(&self, name: &str, target: &Path) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.root, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        match rustix::fs::symlinkat(target, &self.root, name) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let there = rustix::fs::readlinkat(&self.root, name, Vec::new())?;
                match there.to_bytes() == target.as_os_str().as_bytes() {
                    true => Ok(()),
                    false => Err(Errno::EXIST.into()),
                }
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The plain names of a relative path.
fn parts(path: &str) -> rustix::io::Result<Vec<&str>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    match path.starts_with('/') || parts.contains(&"..") || parts.len() > DEPTH_MAX {
        true => Err(Errno::NOENT),
        false => Ok(parts),
    }
}

fn unreadable(name: &str, error: &io::Error) -> StartError {
    StartError::of(error, format!("packages: {name} cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn opened(work: &Path, below: &str) -> CodeFiles {
        let uid = rustix::process::geteuid().as_raw();
        CodeFiles::open(work, below, uid).unwrap()
    }

    #[test]
    fn no_link_leads_out_of_the_code() {
        let scratch = tempfile::tempdir().unwrap();
        let (work, outside) = (scratch.path().join("work"), scratch.path().join("outside"));
        fs::create_dir_all(work.join("repo/sub")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("shadow"), "secret").unwrap();
        fs::write(work.join("repo/sub/base.txt"), "requests").unwrap();
        symlink(&outside, work.join("repo/out")).unwrap();
        symlink(outside.join("shadow"), work.join("repo/requirements.txt")).unwrap();
        symlink(&outside, work.join("link")).unwrap();
        let mut files = opened(&work, "repo");
        assert_eq!(files.read("sub/base.txt").unwrap().unwrap().content, b"requests");
        for name in
            ["out/shadow", "requirements.txt", "../../outside/shadow", "/etc/passwd", "sub", "none"]
        {
            assert!(files.read(name).unwrap().is_none(), "{name}");
        }
        assert!(CodeFiles::open(&work, "link", 0).is_err());
        assert!(CodeFiles::open(&work, "repo/out", 0).is_err());
        let pipe = work.join("repo/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(files.read("pipe").unwrap().is_none());
        let mut of_another = CodeFiles::open(&work, "repo", u32::MAX - 7).unwrap();
        let error = of_another.read("sub/base.txt").unwrap_err().reason();
        assert!(error.contains("another user"), "{error}");
    }

    #[test]
    fn files_are_read_within_bounds() {
        let work = tempfile::tempdir().unwrap();
        fs::write(work.path().join("small"), "x").unwrap();
        fs::write(work.path().join("large"), vec![b'#'; FILE_BYTES_MAX as usize]).unwrap();
        fs::write(work.path().join("larger"), vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
        let mut files = opened(work.path(), "");
        assert!(files.read("larger").unwrap_err().reason().contains("too large"));
        let mut files = opened(work.path(), ".");
        assert!(files.read("large").is_ok() && files.read("large").is_ok());
        assert!(files.read("small").unwrap_err().reason().contains("16 MiB"));
        let mut files = opened(work.path(), "");
        (0..FILES_MAX).for_each(|_| assert!(files.read("small").unwrap().is_some()));
        assert!(files.read("small").unwrap_err().reason().contains("more than 32 files"));
    }

    #[test]
    fn a_link_replaces_a_link_and_nothing_else() {
        let work = tempfile::tempdir().unwrap();
        let files = opened(work.path(), "");
        for target in ["/one", "/two"] {
            files.link("node_modules", Path::new(target)).unwrap();
            assert_eq!(fs::read_link(work.path().join("node_modules")).unwrap(), Path::new(target));
        }
        fs::create_dir(work.path().join("own")).unwrap();
        assert!(files.link("own", Path::new("/one")).is_err());
    }
}
