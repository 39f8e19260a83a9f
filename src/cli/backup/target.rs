//! Where a backup goes: a file that appears when all of it is on the disk, or a stream.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::NamedTempFile;

use crate::os::threads;

/// Links that are followed to find out what a path names: as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// See the module.
pub(super) enum Target {
    Stream(Stream),
    /// A file beside the one that it is to become.
    File {
        file: NamedTempFile,
        path: PathBuf,
    },
}

/// A pipe, a device or an open file, which gets the bytes of the backup and nothing else.
pub(super) struct Stream {
    out: Box<dyn Write>,
    /// What messages call it.
    name: String,
    /// Whether standard error is the same stream, so that no message may be written.
    is_stderr: bool,
    /// Whether standard output is the same stream.
    is_stdout: bool,
}

impl Stream {
    /// Whether a message on standard error would become part of the backup.
    pub(super) fn is_stderr(&self) -> bool {
        self.is_stderr
    }

    /// Whether text on standard output would become part of the backup.
    pub(super) fn is_stdout(&self) -> bool {
        self.is_stdout
    }
}

impl Target {
    /// Opens the destination at `path`. `-` is standard output, and so is any other name of it. A file that
    /// exists is replaced, also through a link. Anything else is written to.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            return Self::stdout();
        }
        let shown = path.display();
        match fs::metadata(path) {
            Ok(found) if is_same(&found, io::stdout()) => Self::stdout(),
            Ok(found) if found.is_dir() => bail!("{shown} is a directory; name a file in it"),
            Ok(found) if found.is_file() && !names_descriptor(path) => {
                Self::file(path.canonicalize()?)
            }
            Ok(found) => {
                // An open file may have content already: the backup follows it.
                let opened = OpenOptions::new().append(true).open(path);
                let out = opened.with_context(|| format!("cannot write to {shown}"))?;
                if out.is_terminal() {
                    bail!("{shown} is a terminal; name a file, or redirect the output");
                }
                let is_stderr = is_same(&found, io::stderr());
                let (out, name) = (Box::new(out), shown.to_string());
                Ok(Self::Stream(Stream { out, name, is_stderr, is_stdout: false }))
            }
            Err(_) if path.is_symlink() => bail!("{shown} is a link to what is not there"),
            Err(_) => Self::file(path.to_owned()),
        }
    }

    fn stdout() -> anyhow::Result<Self> {
        let out = io::stdout();
        if out.is_terminal() {
            bail!("standard output is a terminal; name a file, or redirect the output");
        }
        let is_stderr = File::from(out.as_fd().try_clone_to_owned()?)
            .metadata()
            .is_ok_and(|found| is_same(&found, io::stderr()));
        let name = "standard output".to_owned();
        Ok(Self::Stream(Stream { out: Box::new(out), name, is_stderr, is_stdout: true }))
    }

    fn file(path: PathBuf) -> anyhow::Result<Self> {
        let Some(name) = path.file_name() else {
            bail!("{} is no name for a file", path.display())
        };
        // Before there is anything that an end of this process could leave behind.
        let signals = Signals::new([SIGINT, SIGTERM])?;
        let file = tempfile::Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .suffix(".unfinished")
            .tempfile_in(directory_of(&path))
            .with_context(|| format!("cannot write in {}", directory_of(&path).display()))?;
        remove_when_interrupted(signals, file.path().to_owned())?;
        Ok(Self::File { file, path })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let failed = |name: &dyn fmt::Display, error: io::Error| {
            io::Error::new(error.kind(), format!("cannot write to {name}: {error}"))
        };
        match self {
            Self::Stream(stream) => {
                stream.out.write_all(bytes).map_err(|error| failed(&stream.name, error))
            }
            Self::File { file, path } => {
                file.write_all(bytes).map_err(|error| failed(&path.display(), error))
            }
        }
    }

    /// All of it is there: makes it durable, and gives it its name. The stream, if it is one.
    pub(super) fn keep(self) -> anyhow::Result<Option<Stream>> {
        match self {
            Self::Stream(mut stream) => {
                stream.out.flush().with_context(|| format!("cannot write to {}", stream.name))?;
                Ok(Some(stream))
            }
            Self::File { file, path } => {
                let failed = || format!("cannot write {}", path.display());
                file.as_file().sync_all().with_context(failed)?;
                file.persist(&path).map_err(|error| error.error).with_context(failed)?;
                File::open(directory_of(&path))
                    .and_then(|it| it.sync_all())
                    .with_context(failed)?;
                Ok(None)
            }
        }
    }
}

/// Whether `found` is the file behind `stream`.
fn is_same(found: &Metadata, stream: impl AsFd) -> bool {
    rustix::fs::fstat(stream).is_ok_and(|it| (it.st_dev, it.st_ino) == (found.dev(), found.ino()))
}

/// Whether `path` leads through the descriptors of a process: /dev/fd/3, /dev/stdout and the like.
fn names_descriptor(path: &Path) -> bool {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(directory) = directory_of(&path).canonicalize() else { return false };
        if directory.starts_with("/proc") && directory.ends_with("fd") {
            return true;
        }
        match fs::read_link(&path) {
            Ok(target) => path = directory.join(target),
            Err(_) => return false,
        }
    }
    false
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes `path` when a signal ends this process.
fn remove_when_interrupted(mut signals: Signals, path: PathBuf) -> io::Result<()> {
    threads::vital("signals").spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _ = fs::remove_file(&path);
            // As a shell reports a process that a signal has ended.
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_through_descriptors_are_told_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        let link = directory.path().join("link");
        symlink("file", &link).unwrap();
        assert!(!names_descriptor(&path) && !names_descriptor(&link));
        assert!(!names_descriptor(Path::new("nothing")));
        let number = file.as_raw_fd();
        let through = directory.path().join("through");
        symlink(format!("/proc/self/fd/{number}"), &through).unwrap();
        for path in [format!("/dev/fd/{number}"), format!("/proc/self/fd/{number}")] {
            assert!(names_descriptor(Path::new(&path)), "{path}");
        }
        assert!(names_descriptor(&through) && names_descriptor(Path::new("/dev/stdout")));
    }
}
