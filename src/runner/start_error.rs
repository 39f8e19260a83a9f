//! The texts of start errors: from errno, and from a look at the files concerned, since one errno
//! has many causes. `diagnostics::preflight` uses them for vessels that have not started.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, OFlags};
use rustix::io::Errno;

use super::reason::Reason;
use super::resolve::{Resolved, interpreter, interpreter_path, start_bytes};
use super::shim::Step;
use super::user::{Identity, can_see_others};
use super::{DirectoryError, Launch};

/// Bytes of a program that Linux reads for its first line (BINPRM_BUF_SIZE).
const FIRST_LINE_BYTES: u64 = 256;

/// The reason for the `error` of a start of `program` in `directory`.
pub(super) fn reason(
    error: &io::Error,
    program: &Resolved<'_>,
    directory: &Path,
    launch: &Launch<'_>,
    identity: Option<&Identity>,
) -> String {
    let says = plain(error);
    let user = VesselUser { name: launch.user, identity };
    if let Some(reason) = directory_error(directory) {
        return reason.into();
    }
    let path = program.path.display();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => missing(&program.path, directory, &says, user).into(),
        Some(Errno::ACCESS | Errno::PERM) => forbidden(&program.path, &says, user).into(),
        Some(Errno::NOEXEC) => {
            let start = first_bytes(&program.path, user);
            unknown_format(&program.path, &says, start.as_deref()).into()
        }
        Some(Errno::TOOBIG) => {
            let (bytes, longest) = start_bytes(&program.arguments, launch.environment);
            format!(
                "{path}: {says}: arguments and environment take {bytes} bytes, the longest of them \
                 {longest} (Linux allows 131072 for one and about 2 MiB for all): read the request \
                 from stdin or from the file SHIPYARD_WEBHOOK_BODY_FILE names instead"
            )
        }
        Some(Errno::AGAIN | Errno::NOMEM) => {
            format!(
                "{path}: {says}: the limit of processes or memory is reached: raise it, lower `workers`, or see the vessel's `limits`"
            )
        }
        Some(Errno::MFILE | Errno::NFILE) => no_descriptors(error),
        _ if error.kind() == io::ErrorKind::InvalidInput => {
            format!("{path}: an argument or a variable contains a NUL byte")
        }
        _ => format!("{path}: {says}"),
    }
}

/// The reason when the shim failed at `step`.
pub(super) fn shim_error(
    step: &Step,
    error: &io::Error,
    directory: &Path,
    user: VesselUser<'_>,
) -> String {
    let says = plain(error);
    match step {
        Step::Orders | Step::Session => {
            format!("the program that sets the vessel up failed: {says}")
        }
        Step::Nice => format!(
            "nice: {says}: only a server with CAP_SYS_NICE (or LimitNICE=) may make vessels less \
             nice than itself"
        ),
        Step::Limit(name) => format!(
            "limits.{name}: {says}: it is above what the server itself may have, or what this system \
             allows: lower it, or raise the server's own limit"
        ),
        Step::User => format!("user: {says}: this server cannot become {user}"),
        Step::Directory => match directory_error(directory) {
            Some(reason) => reason.into(),
            None => {
                let closed = user.first_closed(directory).unwrap_or(directory);
                closed_directory(directory, closed, &says, user).into()
            }
        },
        Step::Program => says,
        Step::InTime => format!(
            "the program that sets the vessel up takes too long: {says}: does the working \
             directory {} answer?",
            directory.display()
        ),
    }
}

/// The reason when the work directory, or the files in it, cannot be made.
pub(super) fn no_work_directory(error: &DirectoryError) -> String {
    let DirectoryError { action, path, source } = error;
    let (path, says) = (path.display(), plain(source));
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!(
            "cannot {action} {path}: {says}: make room there, or set `work_dir` to a file system \
             that has some"
        ),
        _ => format!("cannot {action} {path}: {says}"),
    }
}

/// The reason when the shim does not start.
pub(super) fn no_shim(error: &io::Error) -> String {
    format!("the program that sets the vessel up does not start: {}", plain(error))
}

/// Warns an operator of what vessels of other users will miss.
pub(super) fn warn_of_other_users(work_dir: &Path) {
    if let Some(closed) = OTHER_USERS.first_closed(work_dir) {
        let (work_dir, closed) = (work_dir.display(), closed.display());
        log::warn!(work_dir:%, closed:%; "vessels of other users cannot reach their work directories; chmod o+x the closed one, or set work_dir to a place that others can pass to");
    }
    if !can_see_others() {
        log::warn!(
            "without CAP_SYS_PTRACE, what vessels of other users leave behind at a crash is not found"
        );
    }
}

/// The user that a vessel runs as.
#[derive(Clone, Copy)]
pub struct VesselUser<'a> {
    /// `None`: the server's own user.
    pub name: Option<&'a str>,
    /// `None`: the server's own user, or any other user.
    pub identity: Option<&'a Identity>,
}

/// Users that are neither owners nor members of a group of anything.
const OTHER_USERS: VesselUser<'static> = VesselUser { name: None, identity: None };

impl VesselUser<'_> {
    /// The first directory on the way to `path` that the user may not pass through.
    pub fn first_closed(self, path: &Path) -> Option<&Path> {
        path.ancestors().filter(|directory| !self.may(directory, 0o1)).last()
    }

    fn may(self, path: &Path, bits: u32) -> bool {
        fs::metadata(path).is_ok_and(|found| match self.identity {
            Some(identity) => identity.may(&found, bits),
            None => found.permissions().mode() & bits == bits,
        })
    }

    /// Whether the user may read the file at `path`. The server, which may read more, must not: a
    /// link of a vessel may lead anywhere, and the reason goes into the vessel's log.
    fn reads(self, path: &Path) -> bool {
        if self.identity.is_none() {
            return true;
        }
        let Ok(path) = fs::canonicalize(path) else { return false };
        let parent = path.parent().unwrap_or(&path);
        self.may(&path, 0o4) && self.first_closed(parent).is_none()
    }
}

impl fmt::Display for VesselUser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            None => f.write_str("the server's user"),
            Some(name) => write!(f, "the user `{name}`"),
        }
    }
}

/// The reason when no pipe or process descriptor could be made.
pub(super) fn no_descriptors(error: &io::Error) -> String {
    format!("{}: raise the limit of open files of the server (LimitNOFILE=)", plain(error))
}

/// The system's text, without Rust's `(os error 2)`.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// The fault of the working directory, if it has one.
pub fn directory_error(directory: &Path) -> Option<Reason> {
    let shown = directory.display();
    match fs::metadata(directory) {
        Err(error) => Some(Reason::new(
            format!("working directory {shown}: {}", plain(&error)),
            "make it, or change `working_directory`",
        )),
        Ok(found) if !found.is_dir() => Some(Reason::new(
            format!("working directory {shown} is not a directory"),
            "change `working_directory`",
        )),
        Ok(_) => rustix::fs::access(directory, Access::EXEC_OK).err().map(|errno| {
            let says = plain(&io::Error::from(errno));
            let remedy = "let the server's user enter it and all that it is in";
            Reason::new(format!("working directory {shown}: {says}"), remedy)
        }),
    }
}

/// The reason when the directory `closed` keeps `user` from the working directory.
pub fn closed_directory(
    directory: &Path,
    closed: &Path,
    says: &str,
    user: VesselUser<'_>,
) -> Reason {
    let (shown, closed) = (directory.display(), closed.display());
    Reason::new(
        format!("working directory {shown}: {says}: {user} may not enter {closed}"),
        format!(
            "let others pass through it (chmod o+x {closed}), or choose a directory that they can \
             reach"
        ),
    )
}

/// The reason when a directory on the way keeps `user` from the program at `path`. Not for the
/// server's own user: the kernel considers its capabilities as well.
pub fn closed_path(path: &Path, says: &str, user: VesselUser<'_>) -> Option<Reason> {
    let parent = path.parent().filter(|_| user.identity.is_some())?;
    let (shown, closed) = (path.display(), user.first_closed(parent)?.display());
    Some(Reason::new(
        format!("{shown}: {says}: {user} may not pass through {closed}"),
        format!("let others (chmod o+x {closed}), or put the program elsewhere"),
    ))
}

/// ENOENT: the file is missing, or its interpreter or loader is.
pub fn missing(path: &Path, directory: &Path, says: &str, user: VesselUser<'_>) -> Reason {
    let shown = path.display();
    if path.symlink_metadata().is_err() {
        return Reason::new(
            format!("{shown}: {says}"),
            "put the program there, or change the command",
        );
    }
    let Some(start) = first_bytes(path, user) else {
        let (why, remedy) = match path.exists() {
            true => ("its interpreter, or the loader it needs, is missing", "install it"),
            false => (
                "it is a link to something that is not there",
                "mend the link, or change the command",
            ),
        };
        return Reason::new(format!("{shown}: {says}: {why}"), remedy);
    };
    let Some(named) = interpreter(&start) else {
        let what = format!("{shown}: {says}: the loader it needs is missing");
        return Reason::new(what, "it was built for another system");
    };
    let name = String::from_utf8_lossy(named);
    let name = name.trim_end();
    match named.strip_suffix(b"\r") {
        Some(unix) if interpreter_path(unix, directory).exists() => Reason::new(
            format!(
                "{shown}: {says}: its lines end in CR LF, so its interpreter would be `{name}\\r`"
            ),
            "save it with Unix line ends",
        ),
        _ => Reason::new(
            format!(
                "{shown}: {says}: its interpreter `{name}` (first line of the file) is missing"
            ),
            "install it, or name another one there",
        ),
    }
}

/// EACCES: a directory, no permission, or a file system that forbids execution.
pub fn forbidden(path: &Path, says: &str, user: VesselUser<'_>) -> Reason {
    if let Some(reason) = closed_path(path, says, user) {
        return reason;
    }
    let shown = path.display();
    let because = |why: &str| format!("{shown}: {says}: {why}");
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Reason::new(because("it is a directory"), "name a program in it")
        }
        Ok(found) if !found.is_file() => {
            Reason::new(because("it is not a regular file"), "name a program")
        }
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            Reason::new(because("it is not executable"), format!("chmod +x {shown}"))
        }
        _ => {
            let start = first_bytes(path, user);
            let why = match start.as_deref().and_then(interpreter) {
                Some(interpreter) => format!(
                    "neither the file nor its interpreter `{}` may be on a file system mounted \
                     noexec, and {user} must be allowed to execute both",
                    String::from_utf8_lossy(interpreter)
                ),
                None => format!("{user} may not execute it, or its file system is mounted noexec"),
            };
            Reason::new(because(&why), "")
        }
    }
}

/// ENOEXEC: the file is no program; `start` holds its first bytes, if they are known.
pub fn unknown_format(path: &Path, says: &str, start: Option<&[u8]>) -> Reason {
    let (why, remedy) = match start {
        Some([]) => ("the file is empty", "put the program there"),
        Some(start) if start.starts_with(b"\x7fELF") => {
            ("it was built for another kind of machine", "build it for this one")
        }
        Some(start) if start.starts_with(b"\xef\xbb\xbf#!") => {
            ("a byte order mark stands before its `#!`", "save it without")
        }
        _ => {
            ("its first line does not name an interpreter", "begin it with `#!/bin/sh` or the like")
        }
    };
    Reason::new(format!("{}: {says}: {why}", path.display()), remedy)
}

/// The beginning of a regular file that `user` may read; `None` for anything else. A read of other
/// files might block.
pub fn first_bytes(path: &Path, user: VesselUser<'_>) -> Option<Vec<u8>> {
    // Checked before the open: the open of a device may have effects.
    if !fs::metadata(path).ok()?.is_file() || !user.reads(path) {
        return None;
    }
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut start = Vec::new();
    file.take(FIRST_LINE_BYTES).read_to_end(&mut start).ok()?;
    Some(start)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    use super::*;

    const OWN: VesselUser<'static> = VesselUser { name: None, identity: None };

    #[test]
    fn only_regular_files_that_the_user_may_read_are_read() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| directory.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        fs::write(at("script"), "#!/secret/place\n").unwrap();
        symlink(at("script"), at("link")).unwrap();
        let identity = Identity { uid: 12_345, gid: 12_345, groups: vec![12_345] };
        let stranger = VesselUser { name: Some("stranger"), identity: Some(&identity) };
        for (mode, is_shown) in [(0o600, false), (0o750, false), (0o755, true)] {
            fs::set_permissions(at("script"), Permissions::from_mode(mode)).unwrap();
            for name in ["script", "link"] {
                assert_eq!(first_bytes(&at(name), stranger).is_some(), is_shown, "{mode:o} {name}");
                assert!(first_bytes(&at(name), OWN).is_some());
            }
        }
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(first_bytes(&at("script"), stranger), None, "its directory is closed");
        let said = forbidden(&at("script"), "Permission denied", stranger).to_string();
        let closed = directory.path().display();
        assert!(said.contains(&format!("pass through {closed}: let others (chmod o+x {closed})")));
        for path in [at("pipe"), "/dev/zero".into(), directory.path().to_owned()] {
            assert_eq!(first_bytes(&path, OWN), None);
        }
    }
}
