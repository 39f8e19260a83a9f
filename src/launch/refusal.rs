//! Why the system would not start a program, in words that help. The system's own reason is a
//! single number for a dozen causes; this looks at the files concerned to tell them apart. Runs
//! after a start has failed, and where one is to be foreseen.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, OFlags};
use rustix::io::Errno;

use super::Launch;
use super::reason::Reason;
use super::resolve::{Resolved, interpreter, interpreter_exists, start_bytes};
use super::sandbox::Sandbox;
use super::shim::Step;
use super::user::can_see_others;

/// Bytes of a first line that Linux reads (BINPRM_BUF_SIZE).
const FIRST_LINE_BYTES: u64 = 256;

/// The reason for `error`, which starting `program` in `directory` ended with.
pub(super) fn reason(
    error: &io::Error,
    program: &Resolved<'_>,
    directory: &Path,
    launch: &Launch<'_>,
) -> String {
    let says = plain(error);
    if let Some(reason) = directory_refusal(directory) {
        return with_obstacle(&reason, directory);
    }
    let path = program.path.display();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => {
            with_obstacle(&missing(&program.path, directory, &says), &program.path)
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            let reason = forbidden(&program.path, &says, &named(launch.user));
            with_obstacle(&reason, &program.path)
        }
        Some(Errno::NOEXEC) => {
            let start = first_bytes(&program.path);
            unknown_format(&program.path, &says, start.as_deref().unwrap_or_default()).into()
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
pub(super) fn of_shim(
    step: &Step,
    error: &io::Error,
    directory: &Path,
    user: Option<&str>,
) -> String {
    let (says, user) = (plain(error), named(user));
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
        Step::Directory => match directory_refusal(directory) {
            Some(reason) => with_obstacle(&reason, directory),
            None => format!(
                "working directory {}: {says}: {user} may not enter {}",
                directory.display(),
                first_closed(directory).unwrap_or(directory).display()
            ),
        },
        Step::Program => says,
    }
}

/// The reason when our own program does not start again, as the shim.
pub(super) fn no_shim(error: &io::Error) -> String {
    format!("the program that sets the vessel up does not start: {}", plain(error))
}

/// Tells an operator who allows vessels of other users what they will miss.
pub(super) fn warn_of_other_users(work_dir: &Path) {
    if let Some(closed) = first_closed(work_dir) {
        let (work_dir, closed) = (work_dir.display(), closed.display());
        log::warn!(work_dir:%, closed:%; "vessels of other users cannot reach their work directories; set work_dir to a place that others can pass to");
    }
    if !can_see_others() {
        log::warn!(
            "without CAP_SYS_PTRACE, what vessels of other users leave behind at a crash is not found"
        );
    }
}

/// The first directory on the way to `path` that not every user may pass through.
fn first_closed(path: &Path) -> Option<&Path> {
    let is_closed = |directory: &&Path| {
        !fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
    };
    path.ancestors().filter(is_closed).last()
}

pub(super) fn named(user: Option<&str>) -> String {
    user.map_or_else(|| "the server's user".to_owned(), |name| format!("the user `{name}`"))
}

/// The reason when no pipe or process descriptor could be made.
pub(super) fn no_descriptors(error: &io::Error) -> String {
    format!("{}: raise the limit of open files of the server (LimitNOFILE=)", plain(error))
}

/// What the system says, without Rust's `(os error 2)`.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// `reason`, and what of the sandbox is behind it.
fn with_obstacle(reason: &Reason, path: &Path) -> String {
    match Sandbox::of_process().hides(path) {
        Some(obstacle) => format!("{}; {}", reason.what, obstacle.line()),
        None => reason.to_string(),
    }
}

/// What is wrong with the working directory, if anything is.
pub(super) fn directory_refusal(directory: &Path) -> Option<Reason> {
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

/// ENOENT: the file itself is not there, or what it needs to run is not.
pub(super) fn missing(path: &Path, directory: &Path, says: &str) -> Reason {
    let shown = path.display();
    if path.symlink_metadata().is_err() {
        return Reason::new(
            format!("{shown}: {says}"),
            "put the program there, or change the command",
        );
    }
    let Some(start) = first_bytes(path) else {
        let what = format!("{shown}: {says}: it is a link to something that is not there");
        return Reason::new(what, "mend the link, or change the command");
    };
    let Some(named) = interpreter(&start) else {
        let what = format!("{shown}: {says}: the loader it needs is missing");
        return Reason::new(what, "it was built for another system");
    };
    let name = String::from_utf8_lossy(named);
    let name = name.trim_end();
    match named.strip_suffix(b"\r") {
        Some(unix) if interpreter_exists(unix, directory) => Reason::new(
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
pub(super) fn forbidden(path: &Path, says: &str, user: &str) -> Reason {
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
            let start = first_bytes(path);
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

/// ENOEXEC: what the kernel does not take for a program, by its first bytes.
pub(super) fn unknown_format(path: &Path, says: &str, start: &[u8]) -> Reason {
    let (why, remedy) = match start {
        [] => ("the file is empty", "put the program there"),
        start if start.starts_with(b"\x7fELF") => {
            ("it was built for another kind of machine", "build it for this one")
        }
        start if start.starts_with(b"\xef\xbb\xbf#!") => {
            ("a byte order mark stands before its `#!`", "save it without")
        }
        _ => {
            ("its first line does not name an interpreter", "begin it with `#!/bin/sh` or the like")
        }
    };
    Reason::new(format!("{}: {says}: {why}", path.display()), remedy)
}

/// The beginning of a regular file; `None` for anything else, which reading might block on.
pub(super) fn first_bytes(path: &Path) -> Option<Vec<u8>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut start = Vec::new();
    file.take(FIRST_LINE_BYTES).read_to_end(&mut start).ok()?;
    Some(start)
}
