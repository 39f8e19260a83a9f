//! Why the system would not start a program, in words that help. The system's own reason is a
//! single number for a dozen causes; this looks at the files concerned to tell them apart. Runs
//! only after a start has failed.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, OFlags};
use rustix::io::Errno;

use super::resolve::{Resolved, interpreter, interpreter_exists, start_bytes};
use super::shim::Step;
use super::user::{Identity, can_see_others};
use super::{DirectoryError, Launch};

/// Bytes of a first line that Linux reads (BINPRM_BUF_SIZE).
const FIRST_LINE_BYTES: u64 = 256;

/// The reason for `error`, which starting `program` in `directory` ended with.
pub(super) fn reason(
    error: &io::Error,
    program: &Resolved<'_>,
    directory: &Path,
    launch: &Launch<'_>,
    identity: Option<&Identity>,
) -> String {
    let says = plain(error);
    let user = Whom { name: launch.user, identity };
    if let Some(reason) = directory_refusal(directory) {
        return reason;
    }
    let path = program.path.display();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => missing(program, directory, &says, user),
        Some(Errno::ACCESS | Errno::PERM) => forbidden(&program.path, &says, user),
        Some(Errno::NOEXEC) => {
            format!("{path}: {says}: {}", unknown_format(&program.path, user))
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

/// The reason when the shim came no further than `step`.
pub(super) fn of_shim(step: &Step, error: &io::Error, directory: &Path, user: Whom<'_>) -> String {
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
            "limits.{name}: {says}: it is above what the server itself may have: lower it, or raise \
             the server's own limit"
        ),
        Step::User => format!("user: {says}: this server cannot become {user}"),
        Step::Directory => directory_refusal(directory).unwrap_or_else(|| {
            let closed = user.first_closed(directory).unwrap_or(directory).display();
            format!(
                "working directory {}: {says}: {user} may not enter {closed}: let others pass \
                 through it (chmod o+x {closed}), or choose a directory that they can reach",
                directory.display(),
            )
        }),
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

/// The reason when our own program does not start again, as the shim.
pub(super) fn no_shim(error: &io::Error) -> String {
    format!("the program that sets the vessel up does not start: {}", plain(error))
}

/// Tells an operator who allows vessels of other users what they will miss.
pub(super) fn warn_of_other_users(work_dir: &Path) {
    if let Some(closed) = SOMEBODY_ELSE.first_closed(work_dir) {
        let (work_dir, closed) = (work_dir.display(), closed.display());
        log::warn!(work_dir:%, closed:%; "vessels of other users cannot reach their work directories; chmod o+x the closed one, or set work_dir to a place that others can pass to");
    }
    if !can_see_others() {
        log::warn!(
            "without CAP_SYS_PTRACE, what vessels of other users leave behind at a crash is not found"
        );
    }
}

/// Whom a vessel runs as.
#[derive(Clone, Copy)]
pub(super) struct Whom<'a> {
    /// `None`: the server's own user.
    pub name: Option<&'a str>,
    /// `None`: the server's own user, or nobody in particular.
    pub identity: Option<&'a Identity>,
}

/// Nobody in particular.
const SOMEBODY_ELSE: Whom<'static> = Whom { name: None, identity: None };

impl Whom<'_> {
    /// The first directory on the way to `path` that they may not pass through.
    fn first_closed(self, path: &Path) -> Option<&Path> {
        path.ancestors().filter(|directory| !self.may(directory, 0o1)).last()
    }

    fn may(self, path: &Path, bits: u32) -> bool {
        fs::metadata(path).is_ok_and(|found| match self.identity {
            Some(identity) => identity.may(&found, bits),
            None => found.permissions().mode() & bits == bits,
        })
    }

    /// Whether a server that may read everything may look into the file for them. A link that a
    /// vessel has made may lead anywhere, and what is said of the file goes into its log.
    fn reads(self, path: &Path) -> bool {
        if self.identity.is_none() {
            return true;
        }
        let Ok(path) = fs::canonicalize(path) else { return false };
        let parent = path.parent().unwrap_or(&path);
        self.may(&path, 0o4) && self.first_closed(parent).is_none()
    }
}

impl fmt::Display for Whom<'_> {
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

/// What the system says, without Rust's `(os error 2)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// What is wrong with the working directory, if anything is.
fn directory_refusal(directory: &Path) -> Option<String> {
    let shown = directory.display();
    match fs::metadata(directory) {
        Err(error) => Some(format!(
            "working directory {shown}: {}: make it, or change `working_directory`",
            plain(&error)
        )),
        Ok(found) if !found.is_dir() => Some(format!(
            "working directory {shown} is not a directory: change `working_directory`"
        )),
        Ok(_) => rustix::fs::access(directory, Access::EXEC_OK)
            .err()
            .map(|errno| format!("working directory {shown}: {}", plain(&io::Error::from(errno)))),
    }
}

/// ENOENT: the file itself is not there, or what it needs to run is not.
fn missing(program: &Resolved<'_>, directory: &Path, says: &str, user: Whom<'_>) -> String {
    let path = program.path.display();
    if program.path.symlink_metadata().is_err() {
        return format!("{path}: {says}: put the program there, or change the command");
    }
    let Some(start) = first_bytes(&program.path, user) else {
        return match program.path.exists() {
            true => format!("{path}: {says}: its interpreter, or the loader it needs, is missing"),
            false => format!("{path}: {says}: it is a link to something that is not there"),
        };
    };
    let Some(named) = interpreter(&start) else {
        return format!(
            "{path}: {says}: the loader it needs is missing: it was built for another system"
        );
    };
    let shown = String::from_utf8_lossy(named);
    match named.strip_suffix(b"\r") {
        Some(unix) if interpreter_exists(unix, directory) => format!(
            "{path}: {says}: its lines end in CR LF, so its interpreter would be `{}\\r`: \
             save it with Unix line ends",
            shown.trim_end()
        ),
        _ => format!(
            "{path}: {says}: its interpreter `{}` (first line of the file) is missing",
            shown.trim_end()
        ),
    }
}

/// EACCES: a directory, no permission, or a file system that forbids execution.
fn forbidden(path: &Path, says: &str, user: Whom<'_>) -> String {
    let shown = path.display();
    // Of the server's own user the kernel knows better, which looks at capabilities as well.
    let closed = path.parent().filter(|_| user.identity.is_some());
    if let Some(closed) = closed.and_then(|parent| user.first_closed(parent)) {
        let closed = closed.display();
        return format!(
            "{shown}: {says}: {user} may not pass through {closed}: let others (chmod o+x {closed}), \
             or put the program elsewhere"
        );
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => format!("{shown}: {says}: it is a directory"),
        Ok(found) if !found.is_file() => format!("{shown}: {says}: it is not a regular file"),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            format!("{shown}: {says}: it is not executable: chmod +x {shown}")
        }
        _ => match first_bytes(path, user).as_deref().and_then(interpreter) {
            Some(interpreter) => format!(
                "{shown}: {says}: neither the file nor its interpreter `{}` may be on a file system \
                 mounted noexec, and {} must be allowed to execute both",
                String::from_utf8_lossy(interpreter),
                user
            ),
            None => format!(
                "{shown}: {says}: {} may not execute it, or its file system is mounted noexec",
                user
            ),
        },
    }
}

/// ENOEXEC: what the kernel does not take for a program.
fn unknown_format(path: &Path, user: Whom<'_>) -> &'static str {
    match first_bytes(path, user).as_deref() {
        Some([]) => "the file is empty",
        Some(start) if start.starts_with(b"\x7fELF") => "it was built for another kind of machine",
        Some(start) if start.starts_with(b"\xef\xbb\xbf#!") => {
            "a byte order mark stands before its `#!`: save it without"
        }
        _ => "its first line does not name an interpreter: begin it with `#!/bin/sh` or the like",
    }
}

/// The beginning of a regular file; `None` for anything else, which reading might block on, and of
/// what `user` may not read.
fn first_bytes(path: &Path, user: Whom<'_>) -> Option<Vec<u8>> {
    // Before it is opened, for to open a device may do something.
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

    const OWN: Whom<'static> = Whom { name: None, identity: None };

    #[test]
    fn nothing_is_read_that_might_block_or_be_somebody_elses() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| directory.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        fs::write(at("script"), "#!/secret/place\n").unwrap();
        symlink(at("script"), at("link")).unwrap();
        let identity = Identity { uid: 12_345, gid: 12_345, groups: vec![12_345] };
        let stranger = Whom { name: Some("stranger"), identity: Some(&identity) };
        for (mode, is_shown) in [(0o600, false), (0o750, false), (0o755, true)] {
            fs::set_permissions(at("script"), Permissions::from_mode(mode)).unwrap();
            for name in ["script", "link"] {
                assert_eq!(first_bytes(&at(name), stranger).is_some(), is_shown, "{mode:o} {name}");
                assert!(first_bytes(&at(name), OWN).is_some());
            }
        }
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(first_bytes(&at("script"), stranger), None, "its directory is closed");
        let said = forbidden(&at("script"), "Permission denied", stranger);
        let closed = directory.path().display();
        assert!(said.contains(&format!("pass through {closed}: let others (chmod o+x {closed})")));
        for path in [at("pipe"), "/dev/zero".into(), directory.path().to_owned()] {
            assert_eq!(first_bytes(&path, OWN), None);
        }
    }
}
