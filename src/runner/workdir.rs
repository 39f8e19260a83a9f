//! Work directories: one for each run, shared by its vessels, with the parameter files and the code
//! of the vessel that starts. Every start prepares one, so that system calls count.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::feed::read_slice;
use super::response_file::response_file_name;
use super::script::normalized;
use super::tree::remove_tree;
use super::user::Identity;
use super::{DirectoryError, Launch, parameter_file_names};
use crate::model::archive::{Archive, ArchiveError, ArchiveKind, ArchivedFile};
use crate::model::fleet::Program;
use crate::model::ids::RunId;
use crate::model::source::Origin;

/// The mode of parameter files.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Temporary names that are tried in a directory in which a vessel has taken some.
const TEMPORARY_NAMES_MAX: u32 = 100;

/// The directory that holds the work directories.
#[derive(Debug)]
pub(super) struct WorkDirectories {
    parent: PathBuf,
}

/// The work directory of a run, ready for a vessel.
pub(super) struct WorkDirectory {
    pub path: PathBuf,
    /// Whether it was made just now.
    pub is_new: bool,
    /// The whole body, if it fits in one buffer and was read for its file; otherwise empty.
    pub body_start: Vec<u8>,
}

impl WorkDirectories {
    pub fn new(parent: PathBuf) -> Self {
        Self { parent }
    }

    pub fn path(&self, run: RunId) -> PathBuf {
        let mut path = PathBuf::with_capacity(self.parent.as_os_str().len() + 37);
        path.push(&self.parent);
        path.push(run.to_string());
        path
    }

    pub fn exists(&self, run: RunId) -> bool {
        let is_directory = rustix::fs::lstat(self.path(run))
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
        is_directory && rustix::fs::lstat(self.mark_of_retired(run)).is_err()
    }

    /// The file beside a retired directory.
    fn mark_of_retired(&self, run: RunId) -> PathBuf {
        self.path(run).with_extension("retired")
    }

    /// Marks the directory of `run` as one that no vessel may use again. A power loss, which takes
    /// the mark, makes the directory useless as well.
    pub fn retire(&self, run: RunId) {
        let mark = self.mark_of_retired(run);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Err(errno) = rustix::fs::openat(CWD, &mark, flags, PRIVATE) {
            // It may not be kept then: a crash would have it used.
            log::warn!(path:% = mark.display(), error:% = errno; "work directory could not be retired");
            self.wipe(run);
        }
    }

    /// Removes a retired directory, its mark last.
    pub fn wipe_retired(&self, run: RunId) {
        self.wipe(run);
        let _ = rustix::fs::unlinkat(CWD, self.mark_of_retired(run), AtFlags::empty());
    }

    /// Makes the directory where it is missing, and writes its files anew: a vessel may have
    /// changed them.
    ///
    /// An `owner` gets directory and files. That is done by descriptor, never by name: the owner of
    /// a directory controls every name in it.
    pub fn prepare(
        &self,
        launch: &Launch<'_>,
        owner: Option<&Identity>,
    ) -> Result<WorkDirectory, DirectoryError> {
        let path = self.path(launch.run);
        let is_new = match self.make(&path) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(failed("make", &path, errno.into())),
        };
        let written = match write_files(&path, is_new, launch, owner) {
            // An earlier vessel may have removed the permissions of its directory.
            Err(error) if !is_new && error.source.kind() == io::ErrorKind::PermissionDenied => {
                rustix::fs::chmod(&path, Mode::RWXU)
                    .map_err(|errno| failed("make writable", &path, errno.into()))?;
                write_files(&path, is_new, launch, owner)
            }
            result => result,
        };
        let body_start = written?;
        if let Some(owner) = owner {
            hand_over(&path, owner).map_err(|errno| failed("hand over", &path, errno.into()))?;
        }
        Ok(WorkDirectory { path, is_new, body_start })
    }

    /// Removes the work directory of `run`, if it exists.
    pub fn wipe(&self, run: RunId) {
        let path = self.path(run);
        // Most vessels leave only the files that they were given.
        if remove_as_made(&path, run) {
            return;
        }
        take_back(&path);
        if let Err(error) = remove_tree(&path) {
            log::warn!(path:% = path.display(), error:%; "work directory could not be removed");
        }
    }

    /// Removes the work directories of the runs that are done. Other entries stay.
    pub fn sweep(&self, is_done: &dyn Fn(RunId) -> bool) {
        let entries = match std::fs::read_dir(&self.parent) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                log::warn!(path:% = self.parent.display(), error:%; "work directories could not be listed");
                return;
            }
        };
        let runs = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let run = name.parse::<RunId>().ok()?;
            (run.to_string() == name).then_some(run)
        });
        for run in runs.filter(|run| is_done(*run)) {
            self.wipe(run);
        }
    }

    /// Makes a directory that only its owner may enter, and its parents where they are missing.
    fn make(&self, path: &Path) -> rustix::io::Result<()> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Err(Errno::NOENT) => {
                let made =
                    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.parent);
                made.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                rustix::fs::mkdir(path, Mode::RWXU)
            }
            result => result,
        }
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> DirectoryError {
    DirectoryError { action, path: path.to_owned(), source }
}

pub(super) fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// Opens a work directory to change its owner or mode. Only the server may write to its parent, so
/// that it cannot have been replaced.
fn open_to_change(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// Makes `owner` own the directory, with all permissions.
pub(super) fn hand_over(path: &Path, owner: &Identity) -> rustix::io::Result<()> {
    let directory = open_to_change(path)?;
    let found = rustix::fs::fstat(&directory)?;
    if !Mode::from_raw_mode(found.st_mode).contains(Mode::RWXU) {
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
    }
    if (found.st_uid, found.st_gid) == (owner.uid, owner.gid) {
        return Ok(());
    }
    owner.take(&directory)
}

/// Removes the directory if it holds only the parameter files. False when it holds more or cannot
/// be entered.
fn remove_as_made(path: &Path, run: RunId) -> bool {
    let Ok(directory) = open_directory(path) else { return false };
    let (headers_name, body_name) = parameter_file_names(run);
    for name in [headers_name, body_name] {
        // A file that is left fails rmdir.
        let _ = rustix::fs::unlinkat(&directory, name, AtFlags::empty());
    }
    rustix::fs::rmdir(path).is_ok()
}

/// Makes the server own the directory before it is removed: processes outside of the vessel's group
/// must not go on filling it.
pub(super) fn take_back(path: &Path) {
    let Ok(directory) = open_to_change(path) else { return };
    let ours = rustix::process::geteuid();
    if rustix::fs::fstat(&directory).is_ok_and(|found| found.st_uid != ours.as_raw()) {
        // A failure shows in the removal.
        let _ = rustix::fs::fchown(&directory, Some(ours), None);
        let _ = rustix::fs::fchmod(&directory, Mode::RWXU);
    }
}

/// A file that the work directory gets for a vessel.
pub(super) struct PlannedFile<'a> {
    pub name: Cow<'a, str>,
    pub mode: Mode,
    pub content: PlannedContent<'a>,
}

/// What a file holds.
pub(super) enum PlannedContent<'a> {
    Bytes(Cow<'a, [u8]>),
    /// The body of the request.
    Body,
}

/// The files that `launch` gets, in the order in which they are written.
pub(super) fn planned_files<'a>(launch: &Launch<'a>) -> Vec<PlannedFile<'a>> {
    let mut files = Vec::new();
    let (headers_name, body_name) = parameter_file_names(launch.run);
    let mut plan = |name, mode, content| files.push(PlannedFile { name, mode, content });
    if let Some(headers) = launch.payload.headers_json() {
        plan(headers_name.into(), PRIVATE, PlannedContent::Bytes(headers.into()));
    }
    if launch.payload.body_bytes() > 0 {
        plan(body_name.into(), PRIVATE, PlannedContent::Body);
    }
    if launch.may_answer {
        let name = response_file_name(launch.vessel_run);
        plan(name.into(), PRIVATE, PlannedContent::Bytes(Cow::Borrowed(&[])));
    }
    if let Some((name, content)) = code_file(launch.program) {
        let content = match normalized(content) {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        // Executable, so that other programs of the run can start it.
        plan(name.into(), Mode::RWXU, PlannedContent::Bytes(content));
    }
    files
}

/// Writes the parameter files and the vessel's code into the directory at `path`. Returns the
/// body when it fits in one buffer.
fn write_files(
    path: &Path,
    is_new: bool,
    launch: &Launch<'_>,
    owner: Option<&Identity>,
) -> Result<Vec<u8>, DirectoryError> {
    let mut body_start = Vec::new();
    let (files, archive) = (planned_files(launch), code_archive(launch.program));
    if files.is_empty() && archive.is_none() {
        return Ok(body_start);
    }
    let directory = open_directory(path).map_err(|errno| failed("open", path, errno.into()))?;
    let target = Target { directory: directory.as_fd(), path, is_new, launch, owner };
    for PlannedFile { name, mode, content } in files {
        let write = |mut file: File| match content {
            PlannedContent::Bytes(bytes) => file.write_all(&bytes),
            PlannedContent::Body => write_body(&mut file, launch, &mut body_start),
        };
        let written = target.replace_file(&name, mode, write);
        written.map_err(|source| failed("write", &path.join(&*name), source))?;
    }
    if let Some((name, archive)) = archive {
        let unpacked = unpack(&target, name, archive);
        unpacked.map_err(|source| failed("unpack", &path.join(name), source))?;
    }
    Ok(body_start)
}

/// Name and content of the code file of `program`, if it has one.
fn code_file(program: &Program) -> Option<(&str, &str)> {
    let Program::Code(code) = program else { return None };
    match &code.origin {
        Origin::File { name, content } => Some((name, content)),
        Origin::Archive { .. } | Origin::Git(_) => None,
    }
}

/// Name and content of the archive of `program`, if it has one.
fn code_archive(program: &Program) -> Option<(&str, &Archive)> {
    let Program::Code(code) = program else { return None };
    match &code.origin {
        Origin::Archive { name, archive } => Some((name, archive)),
        Origin::File { .. } | Origin::Git(_) => None,
    }
}

/// The permissions of a file of an archive.
fn unpacked_mode(file: &ArchivedFile<'_>) -> Mode {
    if file.is_executable { Mode::RWXU } else { PRIVATE }
}

/// Path, bytes and permissions of each file that the vessel's archive unpacks to. A damaged archive lists
/// the files before the damage.
pub(super) fn archived_files(program: &Program) -> Vec<(String, u64, Mode)> {
    let mut files = Vec::new();
    let Some((name, archive)) = code_archive(program) else { return files };
    let mut list = |file: ArchivedFile<'_>| {
        let mode = unpacked_mode(&file);
        let bytes = io::copy(file.content, &mut io::sink())?;
        files.push((file.path.to_owned(), bytes, mode));
        Ok(())
    };
    if let Some(kind) = ArchiveKind::of(name)
        && let Err(error) = archive.unpack(kind, &mut list)
    {
        log::warn!(archive = name, error:%; "a stored archive cannot be unpacked");
    }
    files
}

/// Writes the files of the archive called `name` below the directory of `target`. No symbolic link that a
/// vessel has put there is followed.
fn unpack(target: &Target<'_>, name: &str, archive: &Archive) -> io::Result<()> {
    let kind = ArchiveKind::of(name).ok_or(io::ErrorKind::InvalidData)?;
    let write = &mut |file: ArchivedFile<'_>| {
        let (above, name) = file.path.rsplit_once('/').unwrap_or(("", file.path));
        let mode = unpacked_mode(&file);
        let content = |mut out: File| io::copy(file.content, &mut out).map(drop);
        if above.is_empty() {
            return target.replace_file(name, mode, content);
        }
        let directory = target.directories(above)?;
        // The vessel's user may exchange a directory of that name at any time.
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let within = Target { directory: directory.as_fd(), path: &path, ..*target };
        within.replace_file(name, mode, content)
    };
    archive.unpack(kind, write).map_err(|error| match error {
        ArchiveError::Refused(why) => io::Error::new(io::ErrorKind::InvalidData, why),
        ArchiveError::Write(error) => error,
    })
}

/// The directory that gets files.
struct Target<'a> {
    directory: BorrowedFd<'a>,
    path: &'a Path,
    is_new: bool,
    launch: &'a Launch<'a>,
    owner: Option<&'a Identity>,
}

impl Target<'_> {
    /// Writes the file `name`, and replaces anything of that name.
    ///
    /// In a new directory the file is created in place. In an older one, a vessel of a parallel
    /// branch may read the same file, and an earlier vessel may have left anything by that name:
    /// there the file is written under a temporary name and renamed.
    fn replace_file(
        &self,
        name: &str,
        mode: Mode,
        write: impl FnOnce(File) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.is_new {
            match self.create(name, mode) {
                Ok(file) => {
                    let written = write(file);
                    if written.is_err() {
                        // Half a file takes room that may be scarce.
                        let _ = rustix::fs::unlinkat(self.directory, name, AtFlags::empty());
                    }
                    return written;
                }
                // A parallel branch has made it.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let (temporary, file) = self.create_temporary(name, mode)?;
        let replaced = write(file).and_then(|()| match self.rename(&temporary, name) {
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                remove_tree(&self.path.join(name))?;
                Ok(self.rename(&temporary, name)?)
            }
            result => Ok(result?),
        });
        if replaced.is_err() {
            let _ = rustix::fs::unlinkat(self.directory, &temporary, AtFlags::empty());
        }
        replaced
    }

    /// Creates a file. Follows no symbolic link of that name.
    fn create(&self, name: &str, mode: Mode) -> rustix::io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.directory, name, flags, mode)?;
        if let Some(owner) = self.owner {
            owner.take(&file)?;
        }
        Ok(file.into())
    }

    /// Opens the directory at the relative path `below`, and makes what is missing of it.
    fn directories(&self, below: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory: Option<OwnedFd> = None;
        for name in below.split('/') {
            let above = directory.as_ref().map_or(self.directory, AsFd::as_fd);
            let made = rustix::fs::mkdirat(above, name, Mode::RWXU);
            let opened = rustix::fs::openat(above, name, flags, Mode::empty())?;
            match made {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            // A crash leaves a directory that was made and not yet handed over.
            let ours = rustix::process::geteuid().as_raw();
            if let Some(owner) = self.owner
                && rustix::fs::fstat(&opened)?.st_uid == ours
            {
                owner.take(&opened)?;
            }
            directory = Some(opened);
        }
        directory.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn rename(&self, from: &str, to: &str) -> rustix::io::Result<()> {
        rustix::fs::renameat(self.directory, from, self.directory, to)
    }

    fn create_temporary(&self, name: &str, mode: Mode) -> rustix::io::Result<(String, File)> {
        let Launch { vessel_run, attempt, .. } = self.launch;
        for index in 0..TEMPORARY_NAMES_MAX {
            let temporary = format!(".{name}.{vessel_run}.{attempt}.{index}");
            match self.create(&temporary, mode) {
                Err(Errno::EXIST) => {}
                result => return result.map(|file| (temporary, file)),
            }
        }
        Err(Errno::EXIST)
    }
}

/// Writes the body to `file`. Leaves it in `start` when it fits in one buffer.
fn write_body(file: &mut File, launch: &Launch<'_>, start: &mut Vec<u8>) -> io::Result<()> {
    let mut body = launch.payload.open_body();
    let mut bytes_left = launch.payload.body_bytes();
    let mut is_first = true;
    while bytes_left > 0 {
        read_slice(&mut *body, &mut bytes_left, start)?;
        file.write_all(start)?;
        if bytes_left == 0 && is_first {
            return Ok(());
        }
        is_first = false;
    }
    start.clear();
    Ok(())
}
